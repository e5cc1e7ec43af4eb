//! Sends events to one destination, in order, with retries; one task a subscription.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::mpsc;

use super::subscription::SavedSubscription;
use crate::{client::tls, types::Event};

/// Events that wait for a slow listener; more are lost, oldest kept, and the loss is logged.
const QUEUE: usize = 256;
/// How long a listener may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest pause between attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The sending half of a subscription. Dropping it ends the task.
#[derive(Debug)]
pub(super) struct Delivery {
    queue: mpsc::Sender<Event>,
    flags: Arc<Flags>,
}

#[derive(Debug, Default)]
struct Flags {
    terminated: AtomicBool,
    suspended: AtomicBool,
}

impl Delivery {
    /// Starts the task of a subscription.
    pub(super) fn start(subscription: &SavedSubscription, attempts: u64, interval: Duration) -> Self {
        let (queue, events) = mpsc::channel(QUEUE);
        let flags = Arc::new(Flags::default());
        let sender = Sender {
            destination: subscription.destination.clone(),
            policy: subscription.policy.clone(),
            verify_certificate: subscription.verify_certificate,
            attempts,
            interval,
            flags: Arc::clone(&flags),
        };
        tokio::spawn(sender.run(events));
        Self { queue, flags }
    }

    /// Queues an event.
    pub(super) fn send(&self, event: Event) {
        if !self.suspended() && self.queue.try_send(event).is_err() {
            tracing::warn!("an event listener is too slow; an event for it is lost");
        }
    }

    /// Whether the policy ended the subscription.
    pub(super) fn terminated(&self) -> bool {
        self.flags.terminated.load(Ordering::Relaxed)
    }

    /// Whether the policy suspended the subscription.
    pub(super) fn suspended(&self) -> bool {
        self.flags.suspended.load(Ordering::Relaxed)
    }
}

struct Sender {
    destination: String,
    policy: String,
    verify_certificate: bool,
    attempts: u64,
    interval: Duration,
    flags: Arc<Flags>,
}

impl Sender {
    async fn run(self, mut events: mpsc::Receiver<Event>) {
        while let Some(event) = events.recv().await {
            if self.deliver(&event, &events).await {
                continue;
            }
            if self.policy == "TerminateAfterRetries" {
                self.flags.terminated.store(true, Ordering::Relaxed);
                return;
            }
            self.flags.suspended.store(true, Ordering::Relaxed);
        }
    }

    /// Sends one event until it arrives or the policy says that it is enough. Gives up when the subscription ends.
    async fn deliver(&self, event: &Event, events: &mpsc::Receiver<Event>) -> bool {
        let forever = self.policy.starts_with("RetryForever");
        let backs_off = self.policy == "RetryForeverWithBackoff";
        let (mut attempt, mut pause) = (0, self.interval);
        loop {
            if self.attempt(event).await {
                return true;
            }
            attempt += 1;
            if (!forever && attempt > self.attempts) || events.is_closed() {
                return false;
            }
            tokio::time::sleep(pause).await;
            if backs_off {
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    async fn attempt(&self, event: &Event) -> bool {
        let Some(client) = shared_client(self.verify_certificate) else { return false };
        match client.post(&self.destination).json(event).timeout(TIMEOUT).send().await {
            Ok(response) => response.status().is_success(),
            Err(error) => {
                tracing::debug!(error = %error.without_url(), "an event did not arrive");
                false
            }
        }
    }
}

/// One client for all subscriptions of the process: a site has tens of thousands of services, each with a few.
fn shared_client(verify_certificate: bool) -> Option<&'static reqwest::Client> {
    static CLIENTS: [OnceLock<Option<reqwest::Client>>; 2] = [OnceLock::new(), OnceLock::new()];
    let slot = &CLIENTS[usize::from(verify_certificate)];
    let make = || {
        let built = tls::builder().tls_danger_accept_invalid_certs(!verify_certificate).no_proxy().build();
        built.inspect_err(|error| tracing::error!(%error, "events cannot be sent")).ok()
    };
    slot.get_or_init(make).as_ref()
}
