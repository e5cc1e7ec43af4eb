//! Heat: stacks made, changed, followed and read. Source: OpenStack Orchestration API v1.

mod events;
mod resources;
mod stacks;
#[cfg(test)]
mod tests;
mod types;
mod wait;

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::Value;
use url::Url;

use crate::{Keystone, OpenStackError, keystone::Counters, transport::Answer};

pub use stacks::Created;
pub use types::{Action, Event, NewStack, Resource, Stack, StackChange, StackRef, State};
pub use wait::Progress;

/// Heat's type in catalogs.
const SERVICE: &str = "orchestration";

/// Attempts of a request in all.
const ATTEMPTS: u32 = 4;

/// Pause after the first attempt; doubled after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The Heat of a cloud. Cheap to clone. Everything waits in bounded time, and ends when its future is dropped.
#[derive(Debug, Clone)]
pub struct Heat {
    keystone: Keystone,
}

/// Whether a request may be sent again when nobody knows if the first one was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// It does the same when it is carried out twice.
    Safe,
    /// Only if it was certainly not sent.
    Unsafe,
}

impl Heat {
    /// The Heat of the cloud that this Keystone lets us into.
    pub fn new(keystone: Keystone) -> Self {
        Self { keystone }
    }

    /// The Keystone of this cloud.
    pub fn keystone(&self) -> &Keystone {
        &self.keystone
    }

    /// How much was asked of the cloud since this client was made.
    pub fn counters(&self) -> Counters {
        self.keystone.counters()
    }

    /// Whether both share one token.
    #[cfg(test)]
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.keystone.same(&other.keystone)
    }

    /// Sends a request until it succeeds or cannot. Codes besides 2xx that are asked for are answers too.
    async fn send(
        &self,
        method: &Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
        (repeat, also): (Repeat, &[StatusCode]),
    ) -> Result<Answer, OpenStackError> {
        let extend = |url: &mut Url| {
            url.path_segments_mut()?.pop_if_empty().extend(path);
            if !query.is_empty() {
                url.query_pairs_mut().extend_pairs(query);
            }
            Ok(())
        };
        let mut attempt = 1;
        loop {
            let error = match self.keystone.send(SERVICE, method, &extend, body).await {
                Ok(answer) if answer.status.is_success() || also.contains(&answer.status) => {
                    return Ok(answer);
                }
                Ok(answer) => self.keystone.error(&answer).await,
                Err(error) => error,
            };
            if attempt >= ATTEMPTS || !may_repeat(&error, repeat) {
                return Err(error);
            }
            tracing::debug!(%error, attempt, "asking Heat again");
            let pause = FIRST_PAUSE * 2_u32.pow(attempt - 1);
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.75..1.25))).await;
            attempt += 1;
        }
    }

    async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Answer, OpenStackError> {
        self.send(&Method::GET, path, query, None, (Repeat::Safe, &[])).await
    }
}

fn may_repeat(error: &OpenStackError, repeat: Repeat) -> bool {
    match error {
        OpenStackError::Unreachable { not_sent: true, .. } | OpenStackError::Status { code: 429, .. } => true,
        // 409 is for the caller to judge: something else is done to the stack.
        OpenStackError::Status { code: 409, .. } => false,
        error => repeat == Repeat::Safe && error.is_transient(),
    }
}
