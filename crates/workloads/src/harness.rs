//! Runs reconcilers: workers take keys off a queue, reconcile under a deadline, and put failures back with back-off.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::task::JoinSet;

use crate::{context::Context, error::ReconcileError, kind::ObjectKey, queue::WorkQueue};

/// No single reconciliation may take longer; it is then abandoned and retried.
const RECONCILE_DEADLINE: Duration = Duration::from_secs(120);

/// What a successful reconciliation wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing until something changes.
    Await,
    /// To be called again after this time, even if nothing changes.
    After(Duration),
}

impl Next {
    /// [`Next::After`] if there is a time, else [`Next::Await`].
    pub fn after(delay: Option<Duration>) -> Self {
        delay.map_or(Self::Await, Self::After)
    }
}

/// A level-triggered controller: makes the world match one object, whatever happened before.
pub trait Reconcile: Send + Sync + 'static {
    /// Name for logs and as the source of events, such as `replicaset-controller`.
    const NAME: &'static str;

    /// Brings reality one or more steps closer to the object of that key. Called by one worker at a time per key.
    fn reconcile(&self, key: &ObjectKey) -> impl Future<Output = Result<Next, ReconcileError>> + Send;
}

/// Starts `workers` workers for a controller. They begin when the caches are filled and end on shutdown.
pub fn spawn<R: Reconcile>(
    tasks: &mut JoinSet<()>,
    reconciler: &Arc<R>,
    queue: &WorkQueue<ObjectKey>,
    workers: usize,
    context: &Context,
) {
    for _ in 0..workers.max(1) {
        let (reconciler, queue, context) = (reconciler.clone(), queue.clone(), context.clone());
        tasks.spawn(async move {
            if !context.ready().await {
                return;
            }
            loop {
                let key = tokio::select! {
                    () = context.shutdown.cancelled() => return,
                    key = queue.next() => key,
                };
                // Not cancelled half-way by a shutdown: every step is bounded by the writer's own deadlines.
                work_once(reconciler.as_ref(), &queue, key).await;
            }
        });
    }
}

async fn work_once<R: Reconcile>(reconciler: &R, queue: &WorkQueue<ObjectKey>, key: ObjectKey) {
    let outcome = tokio::time::timeout(RECONCILE_DEADLINE, reconciler.reconcile(&key)).await;
    match outcome {
        Ok(Ok(next)) => {
            queue.forget(&key);
            if let Next::After(delay) = next {
                queue.add_after(key.clone(), delay);
            }
        }
        Ok(Err(error)) => {
            if error.is_expected() {
                tracing::debug!(controller = R::NAME, object = %key, %error, "will retry");
            } else {
                tracing::warn!(controller = R::NAME, object = %key, %error, "reconciliation failed; will retry");
            }
            queue.add_rate_limited(key.clone());
        }
        Err(_) => {
            tracing::warn!(controller = R::NAME, object = %key, "reconciliation exceeded its deadline; will retry");
            queue.add_rate_limited(key.clone());
        }
    }
    queue.done(&key);
}
