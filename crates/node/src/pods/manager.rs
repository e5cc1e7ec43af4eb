//! All pods of the node: one worker each, told what the API wants and woken when something happens to their containers.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    runtime::{WatchStreamExt, watcher},
};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    labels, log_rotation,
    worker::{PodContext, Wanted, Worker},
};
use crate::cri::{
    CriError,
    events::{RuntimeEvent, subscribe},
    messages::{ContainerState, PodSandbox},
};

/// How often all workers look, whether something happened or not: an event may have been lost.
const RESYNC: Duration = Duration::from_secs(20);
/// How often, when the runtime tells no events.
const POLL: Duration = Duration::from_secs(1);
/// How often what belongs to no pod is looked for.
const CLEANUP: Duration = Duration::from_secs(60);
/// Pause before events are subscribed to again.
const RESUBSCRIBE: Duration = Duration::from_millis(500);
/// The longest pause between looks at a container that is said to have ended.
const SETTLE: Duration = Duration::from_millis(500);
/// Grace of containers that belong to no pod.
const ORPHAN_GRACE: Duration = Duration::from_secs(2);
/// What workers may have to say at once.
const QUEUE: usize = 256;

/// The pods that the node has, as the API has them.
#[derive(Debug, Clone, Default)]
pub struct PodStore {
    pods: Arc<RwLock<HashMap<String, Arc<Pod>>>>,
}

impl PodStore {
    /// All pods.
    pub fn all(&self) -> Vec<Arc<Pod>> {
        self.pods.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// A pod by its name.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let pods = self.pods.read().unwrap_or_else(PoisonError::into_inner);
        let found = pods.values().find(|pod| {
            pod.metadata.name.as_deref() == Some(name)
                && pod.metadata.namespace.as_deref().unwrap_or("default") == namespace
        });
        found.cloned()
    }

    fn put(&self, uid: &str, pod: &Arc<Pod>) {
        let mut pods = self.pods.write().unwrap_or_else(PoisonError::into_inner);
        pods.insert(uid.to_owned(), Arc::clone(pod));
    }

    fn remove(&self, uid: &str) {
        self.pods.write().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

struct Handle {
    wanted: watch::Sender<Wanted>,
    wake: Arc<Notify>,
}

/// Manages the pods of a node.
pub struct Manager {
    context: Arc<PodContext>,
    store: PodStore,
    workers: HashMap<String, Handle>,
    /// Pods whose workers ended.
    ended: (mpsc::Sender<String>, mpsc::Receiver<String>),
    /// What was found on the node, of pods that the API has and of others.
    found: (mpsc::Sender<Found>, mpsc::Receiver<Found>),
    tasks: TaskTracker,
    shutdown: CancellationToken,
    /// Pods that the current list of the API has had so far.
    listed: BTreeSet<String>,
    /// Whether the API has told all pods once: before, what belongs to no pod is not known.
    complete: bool,
}

impl std::fmt::Debug for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Manager").field("pods", &self.workers.len()).finish_non_exhaustive()
    }
}

impl Manager {
    /// A manager; `store` is kept up to date with what the API says.
    pub fn new(context: Arc<PodContext>, store: PodStore, shutdown: CancellationToken) -> Self {
        Self {
            context,
            store,
            workers: HashMap::new(),
            ended: mpsc::channel(QUEUE),
            found: mpsc::channel(1),
            tasks: TaskTracker::new(),
            shutdown,
            listed: BTreeSet::new(),
            complete: false,
        }
    }

    /// Runs until `shutdown`; pods go on.
    pub async fn run(mut self) {
        let api: Api<Pod> = Api::all(self.context.client.clone());
        let selector = format!("spec.nodeName={}", self.context.facts.name);
        let mut pods = watcher(api, watcher::Config::default().fields(&selector)).default_backoff().boxed();
        let (happened, mut happenings) = mpsc::channel(QUEUE);
        let (context, shutdown) = (Arc::clone(&self.context), self.shutdown.clone());
        self.tasks.spawn(shutdown.clone().run_until_cancelled_owned(follow_events(context, happened)));
        let rotation = log_rotation::run(Arc::clone(&self.context));
        self.tasks.spawn(shutdown.clone().run_until_cancelled_owned(rotation));
        let mut resync = ticks(RESYNC);
        let mut cleanup = ticks(CLEANUP);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                event = pods.next() => match event {
                    Some(Ok(event)) => self.take(event),
                    Some(Err(error)) => tracing::warn!(%error, "watching the node's pods"),
                    None => break,
                },
                Some(event) = happenings.recv() => self.wake(&event),
                Some(uid) = self.ended.1.recv() => self.worker_ended(&uid),
                Some(found) = self.found.1.recv() => self.remove_orphans(found),
                _ = resync.tick() => self.workers.values().for_each(|worker| worker.wake.notify_one()),
                _ = cleanup.tick(), if self.complete => self.clean_up(),
            }
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn take(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Init => self.listed.clear(),
            watcher::Event::InitApply(pod) => {
                self.listed.extend(pod.metadata.uid.clone());
                self.want(pod);
            }
            watcher::Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let gone: Vec<String> =
                    self.workers.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
                gone.iter().for_each(|uid| self.is_gone(uid, None));
                if !self.complete {
                    self.complete = true;
                    self.clean_up();
                }
            }
            watcher::Event::Apply(pod) => self.want(pod),
            watcher::Event::Delete(pod) => {
                let uid = pod.metadata.uid.clone().unwrap_or_default();
                self.is_gone(&uid, Some(pod));
            }
        }
    }

    fn want(&mut self, pod: Pod) {
        let Some(uid) = pod.metadata.uid.clone() else { return };
        let pod = Arc::new(pod);
        self.store.put(&uid, &pod);
        let wanted = Wanted { pod, gone: false };
        if let Some(worker) = self.workers.get(&uid) {
            worker.wanted.send_replace(wanted);
            return;
        }
        self.begin(uid, wanted);
    }

    fn begin(&mut self, uid: String, wanted: Wanted) {
        let wake = Arc::new(Notify::new());
        let (sender, receiver) = watch::channel(wanted);
        let worker = Worker::new(Arc::clone(&self.context), receiver, Arc::clone(&wake));
        let (ended, shutdown, id) = (self.ended.0.clone(), self.shutdown.clone(), uid.clone());
        self.tasks.spawn(async move {
            worker.run(shutdown.clone()).await;
            shutdown.run_until_cancelled(ended.send(id)).await;
        });
        self.workers.insert(uid, Handle { wanted: sender, wake });
    }

    fn is_gone(&mut self, uid: &str, last: Option<Pod>) {
        self.store.remove(uid);
        let Some(worker) = self.workers.get(uid) else { return };
        worker.wanted.send_modify(|wanted| {
            wanted.gone = true;
            if let Some(last) = last {
                wanted.pod = Arc::new(last);
            }
        });
    }

    fn worker_ended(&mut self, uid: &str) {
        let Some(worker) = self.workers.remove(uid) else { return };
        // Something came in after it had looked for the last time.
        let wanted = worker.wanted.borrow().clone();
        if !wanted.gone {
            self.begin(uid.to_owned(), wanted);
        }
    }

    fn wake(&self, event: &RuntimeEvent) {
        match event.pod_uid.as_ref().map(|uid| self.workers.get(uid)) {
            Some(Some(worker)) => worker.wake.notify_one(),
            // Not one of the API's pods.
            Some(None) => {}
            None => self.workers.values().for_each(|worker| worker.wake.notify_one()),
        }
    }

    /// Looks for what is left of pods that the API no longer has.
    fn clean_up(&self) {
        let (context, shutdown) = (Arc::clone(&self.context), self.shutdown.clone());
        let found = self.found.0.clone();
        self.tasks.spawn(async move {
            match shutdown.run_until_cancelled(look_for_pods(&context)).await {
                // The manager has gone, or has not yet come to what was found last.
                Some(Ok(pods)) => drop(found.try_send(pods)),
                Some(Err(error)) => tracing::warn!(%error, "looking for what belongs to no pod"),
                None => {}
            }
        });
    }

    /// Removes what was found of pods that the API does not have. Which these are is decided when all was found: what a pod makes that came
    /// meanwhile is not among it.
    fn remove_orphans(&self, mut found: Found) {
        found.sandboxes.retain(|(uid, _)| !self.workers.contains_key(uid));
        found.volumes.retain(|uid| !self.workers.contains_key(uid));
        let (context, shutdown) = (Arc::clone(&self.context), self.shutdown.clone());
        self.tasks.spawn(async move {
            let work = remove(&context, found);
            if let Some(Err(error)) = shutdown.run_until_cancelled(work).await {
                tracing::warn!(%error, "removing what belongs to no pod");
            }
        });
    }
}

/// What there is of pods on the node.
struct Found {
    /// Sandboxes, with the pods that they are of.
    sandboxes: Vec<(String, PodSandbox)>,
    /// Pods that have directories.
    volumes: BTreeSet<String>,
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Passes on what happens to containers; where the runtime does not tell, says that something may have.
async fn follow_events(context: Arc<PodContext>, happened: mpsc::Sender<RuntimeEvent>) {
    let anything = || RuntimeEvent { id: String::new(), pod_uid: None };
    loop {
        let pause = match subscribe(&context.runtime).await {
            Ok(mut events) => {
                // What happened before is not told.
                if happened.send(anything()).await.is_err() {
                    return;
                }
                let mut settling = JoinSet::new();
                while let Some(event) = events.next().await {
                    while settling.try_join_next().is_some() {}
                    settling.spawn(pass_on(Arc::clone(&context), event, happened.clone()));
                }
                settling.detach_all();
                RESUBSCRIBE
            }
            Err(error) if error.is_unimplemented() => POLL,
            Err(error) => {
                tracing::debug!(%error, "subscribing to the runtime's events");
                RESUBSCRIBE
            }
        };
        tokio::time::sleep(pause).await;
        if happened.send(anything()).await.is_err() {
            return;
        }
    }
}

/// Passes an event on when whoever looks will see what happened: the runtime announces the end of a container a moment before
/// its status says so. Finds out whose container it is, for waking one worker is cheaper than waking all.
async fn pass_on(context: Arc<PodContext>, mut event: RuntimeEvent, happened: mpsc::Sender<RuntimeEvent>) {
    let mut pause = Duration::from_millis(2);
    while pause < SETTLE && !event.id.is_empty() {
        match context.runtime.container_status(&event.id).await {
            Ok(Some(status)) => {
                event.pod_uid = event.pod_uid.or_else(|| status.labels.get(labels::POD_UID).cloned());
                // One that ends at once may not even count as running yet.
                if status.state == ContainerState::Exited as i32 {
                    break;
                }
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            Ok(None) | Err(_) => {
                // A sandbox, most likely.
                let sandbox = context.runtime.pod_sandbox_status(&event.id).await.ok().flatten();
                let uid = sandbox.and_then(|status| status.labels.get(labels::POD_UID).cloned());
                event.pod_uid = event.pod_uid.or(uid);
                break;
            }
        }
    }
    // The manager has gone if nobody takes it.
    let _ = happened.send(event).await;
}

/// Looks for sandboxes and directories of pods. Sandboxes without a pod's label are not Drystone's.
async fn look_for_pods(context: &PodContext) -> Result<Found, CriError> {
    let all = context.runtime.list_pod_sandboxes(HashMap::new()).await?;
    let of_pod = |sandbox: PodSandbox| Some((sandbox.labels.get(labels::POD_UID)?.clone(), sandbox));
    let volumes = context.volumes.known_pods().into_iter().collect();
    Ok(Found { sandboxes: all.into_iter().filter_map(of_pod).collect(), volumes })
}

/// Removes sandboxes and directories.
async fn remove(context: &PodContext, found: Found) -> Result<(), CriError> {
    let runtime = &context.runtime;
    for (uid, sandbox) in &found.sandboxes {
        tracing::info!(uid, sandbox = sandbox.id, "removing what is left of a pod");
        for container in runtime.list_containers(labels::by_uid(uid)).await? {
            runtime.stop_container(&container.id, ORPHAN_GRACE).await?;
        }
        runtime.stop_pod_sandbox(&sandbox.id).await?;
        runtime.remove_pod_sandbox(&sandbox.id).await?;
        let label = |key: &str| sandbox.labels.get(key).cloned().unwrap_or_default();
        let logs = format!("{}_{}_{uid}", label(labels::POD_NAMESPACE), label(labels::POD_NAME));
        // Logs of a pod that never wrote any are not there.
        let _ = tokio::fs::remove_dir_all(context.facts.log_dir.join(logs)).await;
    }
    for uid in &found.volumes {
        if let Err(error) = context.volumes.tear_down(uid).await {
            tracing::warn!(uid, %error, "removing volumes that belong to no pod");
        }
    }
    Ok(())
}
