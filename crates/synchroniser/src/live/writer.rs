//! Statuses into the store, many at a time.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use drystone_appcontext::{
    AppContextError, AppContexts, ClusterName, ContextId,
    contexts::{StatusUpdate, StatusValue},
};
use drystone_engine::backoff::Backoff;
use drystone_store::StoreError;
use tokio::sync::{Notify, watch};

/// Delays after the store did not take something.
const STORE: Backoff = Backoff { initial: Duration::from_millis(100), maximum: Duration::from_secs(10) };

/// Writes the statuses of a context, and of the context that tells its status if that is another one.
pub(crate) struct Writer {
    contexts: AppContexts,
    into: Vec<ContextId>,
    waiting: Mutex<Waiting>,
    wake: Notify,
    written: watch::Sender<u64>,
    /// Transactions, and what they carried: for measurements.
    pub(crate) counted: Arc<Counted>,
}

/// How much has been written.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// Calls of the store.
    pub(crate) batches: AtomicU64,
    /// Statuses.
    pub(crate) statuses: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    updates: Vec<StatusUpdate>,
    /// The number of everything that was ever put here.
    number: u64,
}

impl Writer {
    /// A writer; [`Writer::run`] does the work.
    pub(crate) fn new(
        contexts: AppContexts,
        id: ContextId,
        status_context: ContextId,
        counted: Arc<Counted>,
    ) -> Self {
        let mut into = vec![id];
        if status_context != id {
            into.push(status_context);
        }
        let (waiting, written) = (Mutex::default(), watch::Sender::new(0));
        Self { contexts, into, waiting, wake: Notify::new(), written, counted }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be written soon.
    pub(crate) fn put(&self, app: &str, cluster: &ClusterName, value: StatusValue) {
        let mut waiting = self.waiting();
        waiting.number += 1;
        waiting.updates.push(StatusUpdate { app: app.to_owned(), cluster: cluster.clone(), value });
        drop(waiting);
        self.wake.notify_one();
    }

    /// Waits until everything that was put so far is in the store.
    pub(crate) async fn flush(&self) {
        let number = self.waiting().number;
        let mut written = self.written.subscribe();
        // The sender is in `self`: it does not end before this does.
        let _ = written.wait_for(|written| *written >= number).await;
    }

    /// Writes, for ever.
    pub(crate) async fn run(&self, gather: Duration) {
        loop {
            self.wake.notified().await;
            tokio::time::sleep(gather).await;
            let (updates, number) = {
                let mut waiting = self.waiting();
                (std::mem::take(&mut waiting.updates), waiting.number)
            };
            let updates = last_of_each(updates);
            for id in &self.into {
                self.write(*id, &updates).await;
            }
            self.written.send_replace(number);
        }
    }

    /// Writes statuses. What the store refuses together it gets in halves, so that one that it does not take keeps no other one from being
    /// written, and nobody waits for ever.
    async fn write(&self, id: ContextId, updates: &[StatusUpdate]) {
        let mut failures = 0;
        let mut waiting = vec![updates];
        while let Some(some) = waiting.pop() {
            if some.is_empty() {
                continue;
            }
            self.counted.batches.fetch_add(1, Ordering::Relaxed);
            match self.contexts.statuses(id, some).await {
                Ok(()) => {
                    failures = 0;
                    self.counted.statuses.fetch_add(some.len() as u64, Ordering::Relaxed);
                }
                Err(
                    error @ (AppContextError::TooLarge { .. }
                    | AppContextError::Store(StoreError::InvalidRequest(_))),
                ) => match some {
                    [one] => tracing::warn!(
                        context = %id, app = one.app, cluster = %one.cluster, %error,
                        "a status is not written: the store does not take it"
                    ),
                    _ => {
                        let (first, second) = some.split_at(some.len() / 2);
                        waiting.extend([second, first]);
                    }
                },
                // It never will be: nobody shall wait for it.
                Err(AppContextError::Store(StoreError::Closed)) => return,
                Err(AppContextError::Store(error)) => {
                    failures += 1;
                    tracing::warn!(context = %id, %error, "statuses could not be written; again soon");
                    waiting.push(some);
                    tokio::time::sleep(STORE.random_delay(failures)).await;
                }
                Err(AppContextError::Contention(_)) => {
                    failures += 1;
                    waiting.push(some);
                    tokio::time::sleep(STORE.random_delay(failures)).await;
                }
                Err(error) => {
                    tracing::debug!(context = %id, %error, "statuses are dropped");
                    return;
                }
            }
        }
    }
}

/// Of several values for the same thing the last one.
fn last_of_each(updates: Vec<StatusUpdate>) -> Vec<StatusUpdate> {
    let mut seen: HashMap<(String, ClusterName, u8, String), usize> = HashMap::new();
    let mut kept: Vec<Option<StatusUpdate>> = Vec::with_capacity(updates.len());
    for update in updates {
        let (what, name) = match &update.value {
            StatusValue::Resource(name, _) => (0, name.as_str()),
            StatusValue::ResourceReady(name, _) => (1, name.as_str()),
            StatusValue::ResourceSuccess(name, _) => (2, name.as_str()),
            StatusValue::Definition(name, _) => (3, name.as_str()),
            StatusValue::Connectivity(_) => (4, ""),
            StatusValue::ResourcesReady(_) => (5, ""),
            StatusValue::Status(_) => (6, ""),
        };
        let key = (update.app.clone(), update.cluster.clone(), what, name.to_owned());
        if let Some(before) = seen.insert(key, kept.len()) {
            kept[before] = None;
        }
        kept.push(Some(update));
    }
    kept.into_iter().flatten().collect()
}
