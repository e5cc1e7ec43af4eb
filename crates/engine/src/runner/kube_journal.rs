//! The journal as the status of the `Operation` object.
//!
//! Each write carries the resource version of the one before. A write that is refused because of it is compared with what
//! the server holds: if only specification or metadata were changed (somebody asked to cancel) it is repeated on top; if the
//! journal itself is another one, somebody else is running this operation, and this process must not go on.

use std::{future::Future, time::Duration};

use async_trait::async_trait;
use drystone_api::{Operation, OperationStatus};
use kube::{Api, Client, ResourceExt, api::PostParams};
use serde_json::Value;
use tokio::time::Instant;

use super::{Journal, JournalError};
use crate::{
    backoff::Backoff,
    reference::{ObjectKey, describe_kube_error, is_not_found},
};

/// Between attempts to reach a store that does not answer.
const BACKOFF: Backoff = Backoff { initial: Duration::from_millis(100), maximum: Duration::from_secs(5) };

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The journal as the status of the `Operation` object.
#[derive(Debug)]
pub struct KubeJournal {
    api: Api<Operation>,
    key: ObjectKey,
    /// The operation as the server last confirmed it.
    confirmed: Operation,
    deadline: Duration,
}

impl KubeJournal {
    /// Continues the journal of `operation` as it was read. Writes are tried for as long as `deadline`.
    pub fn new(client: Client, operation: Operation, deadline: Duration) -> Self {
        let key = ObjectKey::of(&operation);
        let api = Api::namespaced(client, &key.namespace);
        Self { api, key, confirmed: operation, deadline }
    }

    /// One attempt to write. `in_doubt`: an earlier attempt failed, so that what the server holds has to be read first.
    async fn attempt(&mut self, status: &OperationStatus, in_doubt: bool) -> Result<(), Failure> {
        if in_doubt && self.is_written(status).await? {
            return Ok(());
        }
        let mut next = self.confirmed.clone();
        next.status = Some(status.clone());
        self.confirmed =
            request(self.api.replace_status(&self.key.name, &PostParams::default(), &next)).await?;
        Ok(())
    }

    /// Finds out what the server holds: whether `wanted` is there already, although the answer to that write got lost.
    async fn is_written(&mut self, wanted: &OperationStatus) -> Result<bool, Failure> {
        let current = request(self.api.get(&self.key.name)).await?;
        if current.uid() != self.confirmed.uid() {
            return Err(Failure::Gone);
        }
        let held = comparable(current.status.as_ref());
        let written = held == comparable(Some(wanted));
        if !written && held != comparable(self.confirmed.status.as_ref()) {
            return Err(Failure::Fenced);
        }
        self.confirmed = current;
        Ok(written)
    }
}

#[async_trait]
impl Journal for KubeJournal {
    async fn record(&mut self, status: &OperationStatus) -> Result<(), JournalError> {
        let started = Instant::now();
        let operation = self.key.to_string();
        let mut failures = 0;
        loop {
            let why = match self.attempt(status, failures > 0).await {
                Ok(()) => return Ok(()),
                Err(Failure::Gone) => return Err(JournalError::Gone { operation }),
                Err(Failure::Fenced) => return Err(JournalError::Fenced { operation }),
                Err(Failure::Again(why)) => why,
            };
            failures += 1;
            let elapsed = started.elapsed();
            if elapsed >= self.deadline {
                return Err(JournalError::Unavailable { operation, seconds: elapsed.as_secs(), why });
            }
            tracing::debug!(%operation, failures, %why, "journal not written; trying again");
            tokio::time::sleep(BACKOFF.random_delay(failures)).await;
        }
    }
}

/// Why one attempt to write failed.
enum Failure {
    Gone,
    Fenced,
    Again(String),
}

async fn request<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Failure> {
    match tokio::time::timeout(REQUEST_TIMEOUT, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) if is_not_found(&error) => Err(Failure::Gone),
        Ok(Err(error)) => Err(Failure::Again(describe_kube_error(&error))),
        Err(_) => Err(Failure::Again(format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()))),
    }
}

/// A journal as it looks after a journey through the API (which keeps whole seconds of times, and leaves out what is
/// empty), for comparison. No journal is the same as an empty one.
fn comparable(status: Option<&OperationStatus>) -> Value {
    let default = OperationStatus::default();
    serde_json::to_value(status.unwrap_or(&default)).unwrap_or_default()
}
