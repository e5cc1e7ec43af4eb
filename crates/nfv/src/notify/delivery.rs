//! Calls one subscriber, one event after the other.

use std::{sync::Arc, time::Duration};

use axum::http::{Method, StatusCode};
use drystone_api::nfv::VnfSubscription;
use drystone_engine::{backoff::Backoff, reference::describe_kube_error};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt as _, api::PostParams};
use tokio::{sync::Notify, time::Instant};

use super::{
    AUTHENTICATION_KEY,
    events::{Event, What},
    message,
    outbox::Outbox,
};
use crate::callback::{Authentication, Callbacks};

/// Pauses between attempts.
const BACKOFF: Backoff = Backoff { initial: Duration::from_secs(1), maximum: Duration::from_secs(300) };
/// How often an event is sent that the subscriber refuses for good: later ones are not to wait for it.
const REFUSALS: u32 = 3;
/// How often at most it is written down what has been delivered, while more is.
const KEEPING: Duration = Duration::from_millis(500);
/// How long at most nothing is looked at.
const IDLE: Duration = Duration::from_secs(300);
/// How often a change of the status that others were faster than is tried.
const ATTEMPTS: usize = 4;

/// The task of a subscriber.
pub(super) struct Delivery {
    pub(super) client: Client,
    pub(super) subscription: Arc<VnfSubscription>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) callbacks: Callbacks,
    pub(super) endpoint: String,
    /// Rings when the end of an instance has been told, or everything has.
    pub(super) told: Arc<Notify>,
}

/// What became of an attempt.
enum Outcome {
    Delivered,
    /// The subscriber says that it is wrong.
    Refused(String),
    /// It may succeed later.
    Failed(String),
}

impl Delivery {
    pub(super) async fn run(self) {
        let mut kept = Instant::now();
        let mut is_kept = true;
        loop {
            let Some(event) = self.outbox.first() else {
                if !is_kept {
                    is_kept = self.keep().await;
                    kept = Instant::now();
                }
                self.told.notify_one();
                // What is not kept yet is kept later even if nothing happens.
                let bell = self.outbox.bell.notified();
                let _ = tokio::time::timeout(if is_kept { IDLE } else { KEEPING }, bell).await;
                continue;
            };
            self.deliver(&event).await;
            is_kept = false;
            if matches!(event.what, What::Deleted) {
                self.told.notify_one();
            }
            if kept.elapsed() >= KEEPING {
                is_kept = self.keep().await;
                kept = Instant::now();
            }
        }
    }

    /// Sends an event until it arrives, or is refused for good.
    async fn deliver(&self, event: &Event) {
        let (mut failures, mut refusals) = (0, 0);
        loop {
            let message = match self.attempt(event).await {
                Outcome::Delivered => {
                    return self.outbox.delivered(&event.key, Timestamp::now(), String::new());
                }
                Outcome::Refused(why) => {
                    refusals += 1;
                    if refusals >= REFUSALS {
                        let subscription = self.subscription.name_any();
                        tracing::warn!(%subscription, "a notification is given up, for it is refused: {why}");
                        return self.outbox.delivered(&event.key, Timestamp::now(), why);
                    }
                    why
                }
                Outcome::Failed(why) => why,
            };
            failures += 1;
            if self.outbox.failed(message.clone()) {
                let subscription = self.subscription.name_any();
                tracing::warn!(%subscription, "a notification is not delivered yet: {message}");
                self.keep().await;
            }
            tokio::time::sleep(BACKOFF.random_delay(failures)).await;
        }
    }

    async fn attempt(&self, event: &Event) -> Outcome {
        let authentication = match self.authentication().await {
            Ok(authentication) => authentication,
            Err(why) => return Outcome::Failed(why),
        };
        let body = message::body(event, &self.subscription, &self.endpoint).to_string().into_bytes();
        let uri = &self.subscription.spec.callback_uri;
        match self.callbacks.call(Method::POST, uri, Some(body), authentication.as_ref()).await {
            Ok(status) if status.is_success() => Outcome::Delivered,
            Ok(status) => {
                let why = format!("the subscriber answered {}", status.as_u16());
                if is_final(status) { Outcome::Refused(why) } else { Outcome::Failed(why) }
            }
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    /// How the notifier authenticates itself.
    async fn authentication(&self) -> Result<Option<Authentication>, String> {
        let Some(name) = &self.subscription.spec.authentication else { return Ok(None) };
        let namespace = self.subscription.namespace().unwrap_or_default();
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &namespace);
        let secret = secrets.get(name).await;
        let secret = secret.map_err(|error| format!("Secret {name}: {}", describe_kube_error(&error)))?;
        let bytes = secret.data.as_ref().and_then(|data| data.get(AUTHENTICATION_KEY));
        let bytes = bytes.ok_or_else(|| format!("Secret {name} has no key {AUTHENTICATION_KEY}"))?;
        // The error of the parser may quote what is secret.
        let mut read: Authentication = serde_json::from_slice(&bytes.0)
            .map_err(|_| format!("Secret {name}: {AUTHENTICATION_KEY} is no SubscriptionAuthentication"))?;
        read.auth_type.clone_from(&self.subscription.spec.authentication_types);
        Ok(Some(read))
    }

    /// Writes down what has been delivered; `false` if that did not succeed and is to be tried again.
    async fn keep(&self) -> bool {
        let namespace = self.subscription.namespace().unwrap_or_default();
        let subscriptions: Api<VnfSubscription> = Api::namespaced(self.client.clone(), &namespace);
        let name = self.subscription.name_any();
        for _ in 0..ATTEMPTS {
            let mut now = match subscriptions.get_opt(&name).await {
                Ok(Some(now)) if now.uid() == self.subscription.uid() => now,
                Ok(_) => return true,
                Err(error) => {
                    tracing::warn!(subscription = name, "not read: {}", describe_kube_error(&error));
                    return false;
                }
            };
            now.status = Some(self.outbox.status(Timestamp::now()));
            match subscriptions.replace_status(&name, &PostParams::default(), &now).await {
                Ok(_) => return true,
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => {
                    let error = describe_kube_error(&error);
                    tracing::warn!(subscription = name, "what has been delivered is not kept yet: {error}");
                    return false;
                }
            }
        }
        false
    }
}

/// Whether an answer says that the notification is wrong, and will be tomorrow. Others may pass: a receiver that starts answers 404,
/// one whose accounts are being changed 401.
fn is_final(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_ACCEPTABLE
            | StatusCode::GONE
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::UNPROCESSABLE_ENTITY
    )
}
