//! The scheduler: gives every pod a node.
//!
//! [`engine`] decides, in memory and without I/O; this module feeds it from the caches and carries its verdicts out:
//! bindings in parallel, conditions, events, preemption.

pub mod affinity;
pub mod cluster;
pub mod decide;
pub mod engine;
pub mod filter;
pub mod node_selector;
pub mod pod_info;
pub mod preempt;
pub mod queue;
pub mod resources;
pub mod score;
pub mod spread;
pub mod taints;
#[cfg(test)]
mod tests;
pub mod volumes;
mod writes;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
    time::Instant,
};
use tokio_util::task::TaskTracker;

use self::{
    engine::{Engine, Environment, Verdict},
    volumes::VolumeLookup,
};
use crate::{caches::Caches, context::Context, kind::ObjectKey, volumes::matching::Class};

/// The scheduler's loop and its surroundings.
pub struct Scheduler {
    context: Context,
    engine: Mutex<Engine>,
    /// Something changed.
    wake: Notify,
    /// Limits the requests in flight.
    slots: Semaphore,
    writes: TaskTracker,
}

/// Starts the scheduler. Must be called before the caches are fed; scheduling begins once they are filled.
pub fn start(context: &Context, tasks: &mut JoinSet<()>) {
    let config = &context.config.scheduler;
    let scheduler = Arc::new(Scheduler {
        // The component name under which users know its events.
        context: context.named("default-scheduler"),
        engine: Mutex::new(Engine::new(&config.name)),
        wake: Notify::new(),
        slots: Semaphore::new(config.parallel_bindings.max(1)),
        writes: TaskTracker::new(),
    });
    scheduler.follow_caches();
    tasks.spawn(scheduler.run());
}

impl Scheduler {
    fn follow_caches(self: &Arc<Self>) {
        let caches = &self.context.caches;
        let this = self.clone();
        caches.nodes.subscribe(move |change| {
            this.lock().node_changed(change, Instant::now());
            this.wake.notify_one();
        });
        let this = self.clone();
        caches.pods.subscribe(move |change| {
            this.lock().pod_changed(change, Instant::now());
            this.wake.notify_one();
        });
        let volumes_changed = |this: Arc<Self>| {
            move || {
                this.lock().volumes_changed(Instant::now());
                this.wake.notify_one();
            }
        };
        let told = volumes_changed(self.clone());
        caches.claims.subscribe(move |_| told());
        let told = volumes_changed(self.clone());
        caches.volumes.subscribe(move |_| told());
        let told = volumes_changed(self.clone());
        caches.storage_classes.subscribe(move |_| told());
    }

    async fn run(self: Arc<Self>) {
        if !self.context.ready().await {
            return;
        }
        let shutdown = self.context.shutdown.clone();
        loop {
            let changed = self.wake.notified();
            let Verdict::Idle(due) = self.decide_next() else {
                // Lets the bindings just spawned begin while the next pod is decided.
                tokio::task::yield_now().await;
                if shutdown.is_cancelled() {
                    return;
                }
                continue;
            };
            let wait = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = changed => {}
                () = wait => {}
            }
        }
    }

    /// Takes one decision and spawns what carries it out. Returns [`Verdict::Idle`] only if there was nothing to decide.
    fn decide_next(self: &Arc<Self>) -> Verdict {
        let caches = self.context.caches.clone();
        let namespaces = |name: &str| {
            let namespace = caches.namespaces.get(&ObjectKey::cluster(name));
            namespace.and_then(|namespace| namespace.metadata.labels.clone()).unwrap_or_default()
        };
        let budgets = || caches.disruption_budgets.list();
        let environment =
            Environment { namespaces: &namespaces, volumes: caches.as_ref(), budgets: &budgets };
        let verdict = self.lock().next(&environment, Instant::now());
        match verdict {
            idle @ Verdict::Idle(_) => return idle,
            Verdict::Bind { ref pod, ref node } => {
                self.writes.spawn(self.clone().bind(pod.clone(), node.clone()));
            }
            Verdict::PlaceVolumes { ref pod, ref node, ref claims } => {
                self.writes.spawn(self.clone().place_volumes(pod.clone(), node.clone(), claims.clone()));
            }
            Verdict::Unschedulable { ref pod, ref message, ref preemption } => {
                self.writes.spawn(self.clone().explain(pod.clone(), message.clone(), preemption.clone()));
            }
        }
        verdict
    }

    fn lock(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl VolumeLookup for Caches {
    fn claim(&self, key: &ObjectKey) -> Option<Arc<PersistentVolumeClaim>> {
        self.claims.get(key)
    }

    fn volume(&self, name: &str) -> Option<Arc<PersistentVolume>> {
        self.volumes.get(&ObjectKey::cluster(name))
    }

    fn volumes(&self) -> Vec<Arc<PersistentVolume>> {
        self.volumes.list()
    }

    fn class(&self, name: &str) -> Option<Class> {
        self.storage_classes.get(&ObjectKey::cluster(name)).map(|class| Class::of(&class))
    }
}
