//! The DaemonSet controller: one pod on every node that suits.

pub mod plan;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet},
    core::v1::{Node, Pod},
};
use tokio::{task::JoinSet, time::Instant};

use self::plan::{Observed, Plan};
use crate::{
    batch::slow_start,
    caches::Caches,
    context::Context,
    dependents::{follow_owners, follow_pods},
    error::ReconcileError,
    expectations::Expectations,
    harness::{self, Next, Reconcile},
    kind::{self, ObjectKey, label},
    owner, pod,
    queue::WorkQueue,
    revisions,
    template::pod_from_template,
};

/// Delay before a pod that failed is replaced; doubled each time on the same node.
const BACKOFF_BASE: Duration = Duration::from_secs(1);
/// The longest such delay; after twice this time without failure it starts anew.
const BACKOFF_LIMIT: Duration = Duration::from_secs(900);

/// The controller.
pub struct DaemonSetController {
    context: Context,
    expectations: Arc<Expectations>,
    failures: Mutex<HashMap<(ObjectKey, String), Failures>>,
}

/// Failures of a set's pods on one node.
struct Failures {
    last: Instant,
    delay: Duration,
}

/// Starts the controller.
pub fn start(context: &Context, tasks: &mut JoinSet<()>) {
    let queue = WorkQueue::default();
    let expectations = Arc::new(Expectations::default());
    let caches = &context.caches;
    follow_owners(&caches.daemon_sets, &queue);
    let selector = |set: &DaemonSet| set.spec.as_ref().map(|spec| spec.selector.clone());
    follow_pods(&caches.pods, &caches.daemon_sets, &queue, Some(expectations.clone()), selector);
    follow_nodes(caches, &queue);
    let controller = Arc::new(DaemonSetController {
        context: context.named(DaemonSetController::NAME),
        expectations,
        failures: Mutex::new(HashMap::new()),
    });
    harness::spawn(tasks, &controller, &queue, context.config.concurrency.workers, context);
}

fn follow_nodes(caches: &Caches, queue: &WorkQueue<ObjectKey>) {
    let (sets, queue) = (caches.daemon_sets.clone(), queue.clone());
    caches.nodes.subscribe(move |change| {
        let view = |node: &Node| (node.metadata.labels.clone(), node.spec.clone());
        let gone = matches!(change, crate::cache::Change::Deleted(_));
        if !gone && change.previous().is_some_and(|previous| view(previous) == view(change.newest())) {
            return;
        }
        for set in sets.list() {
            queue.add(ObjectKey::of(set.as_ref()));
        }
    });
}

impl Reconcile for DaemonSetController {
    const NAME: &'static str = "daemonset-controller";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, ReconcileError> {
        let caches = &self.context.caches;
        let Some(set) = caches.daemon_sets.get(key) else {
            self.expectations.forget(key);
            self.failures.lock().unwrap_or_else(PoisonError::into_inner).retain(|(owner, _), _| owner != key);
            return Ok(Next::Await);
        };
        let spec = set.spec.clone().unwrap_or_default();
        let selector = owner::selector(&spec.selector)?;
        if selector.selects_all() {
            return Err(ReconcileError::Invalid(
                "spec.selector must not be empty: it would select every pod".into(),
            ));
        }
        let may_act = self.expectations.satisfied(key);
        let uid = kind::uid(set.as_ref());
        let deleting = kind::is_deleting(set.as_ref());
        let claim = owner::claim(caches.candidate_pods(uid, &key.namespace), uid, deleting, &selector);
        let pods = claim.settle(&self.context.writer, set.as_ref()).await?;
        if deleting {
            return Ok(Next::Await);
        }
        let history = revisions::history(caches, &self.context.writer, set.as_ref(), &spec.selector).await?;
        let revision =
            revisions::ensure(&self.context.writer, set.as_ref(), &spec.template, &history).await?;
        let nodes = caches.nodes.list();
        let now = Timestamp::now();
        let observed =
            Observed { set: &set, nodes: &nodes, pods: &pods, hash: revisions::hash(&revision), now };
        let (plan, status) = (plan::plan(&observed), plan::status(&observed));
        let previous = set.status.clone().unwrap_or_default();
        self.context.writer.update_status(set.as_ref(), &previous, &status).await?;
        let retry = if may_act { self.carry_out(key, &set, &revision, plan).await? } else { None };
        self.expire_history(&spec.revision_history_limit, &history, &revision, &pods).await?;
        let min_ready = spec.min_ready_seconds.unwrap_or(0);
        let ripening = pods.iter().filter_map(|pod| pod::until_available(pod, min_ready, now)).min();
        Ok(Next::after(retry.into_iter().chain(ripening).min()))
    }
}

impl DaemonSetController {
    /// Returns when to try again because of pods that keep failing.
    async fn carry_out(
        &self,
        key: &ObjectKey,
        set: &DaemonSet,
        revision: &ControllerRevision,
        plan: Plan,
    ) -> Result<Option<Duration>, ReconcileError> {
        let (ended, retry) = self.due(key, set, plan.ended);
        let doomed: Vec<Arc<Pod>> = plan.delete.into_iter().chain(ended).collect();
        self.delete_pods(key, set, &doomed).await?;
        self.create_pods(key, set, revision, plan.create.into_iter().collect()).await?;
        Ok(retry)
    }

    /// Of pods that ended, those whose node has waited long enough for a new one.
    fn due(
        &self,
        key: &ObjectKey,
        set: &DaemonSet,
        ended: Vec<Arc<Pod>>,
    ) -> (Vec<Arc<Pod>>, Option<Duration>) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (mut due, mut retry) = (Vec::new(), None);
        for pod in ended {
            let node = plan::target_node(&pod).unwrap_or_default().to_owned();
            let entry = failures
                .entry((key.clone(), node.clone()))
                .or_insert(Failures { last: now, delay: Duration::ZERO });
            let since = now.saturating_duration_since(entry.last);
            if since < entry.delay {
                let left = entry.delay - since;
                retry = Some(retry.map_or(left, |retry: Duration| retry.min(left)));
                continue;
            }
            if since > BACKOFF_LIMIT * 2 {
                entry.delay = Duration::ZERO;
            }
            *entry = Failures { last: now, delay: (entry.delay * 2).clamp(BACKOFF_BASE, BACKOFF_LIMIT) };
            let phase = pod::phase(&pod);
            let reason = if phase == "Failed" { "FailedDaemonPod" } else { "SucceededDaemonPod" };
            let message = format!(
                "Found {} daemon pod {} on node {node}, will try to kill it",
                phase.to_lowercase(),
                ObjectKey::of(pod.as_ref())
            );
            self.context.recorder.warning(set, reason, message);
            due.push(pod);
        }
        (due, retry)
    }

    async fn create_pods(
        &self,
        key: &ObjectKey,
        set: &DaemonSet,
        revision: &ControllerRevision,
        nodes: Vec<String>,
    ) -> Result<(), ReconcileError> {
        let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
        let mut pod = pod_from_template(&template, set);
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(revisions::HASH_LABEL.into(), revisions::hash(revision).to_owned());
        let spec = pod.spec.get_or_insert_default();
        spec.tolerations = Some(plan::tolerations(spec));
        self.expectations.expect_creations(key, nodes.len());
        let recorder = &self.context.recorder;
        let outcome = slow_start(nodes.len(), |n| {
            let mut pod = pod.clone();
            plan::pin(pod.spec.get_or_insert_default(), &nodes[n]);
            async move {
                let created = self.context.writer.create(&pod).await;
                match &created {
                    Ok(pod) => {
                        recorder.normal(set, "SuccessfulCreate", format!("Created pod: {}", kind::name(pod)));
                    }
                    Err(error) if error.is_namespace_terminating() => {}
                    Err(error) => {
                        recorder.warning(
                            set,
                            "FailedCreate",
                            format!("Error creating: {}", error.user_message()),
                        );
                    }
                }
                created
            }
        })
        .await;
        for _ in outcome.succeeded..nodes.len() {
            self.expectations.creation_observed(key);
        }
        match outcome.error {
            Some(error) if !error.is_namespace_terminating() => Err(error),
            _ => Ok(()),
        }
    }

    async fn delete_pods(
        &self,
        key: &ObjectKey,
        set: &DaemonSet,
        pods: &[Arc<Pod>],
    ) -> Result<(), ReconcileError> {
        self.expectations.expect_deletions(key, pods.iter().map(|pod| kind::uid(pod.as_ref()).to_owned()));
        let recorder = &self.context.recorder;
        let deletions = pods.iter().map(|pod| async {
            let deleted = self.context.writer.delete(pod.as_ref(), None).await;
            match &deleted {
                Ok(()) => {
                    recorder.normal(
                        set,
                        "SuccessfulDelete",
                        format!("Deleted pod: {}", kind::name(pod.as_ref())),
                    );
                }
                Err(error) => {
                    recorder.warning(
                        set,
                        "FailedDelete",
                        format!("Error deleting: {}", error.user_message()),
                    );
                }
            }
            let cached = self.context.caches.pods.get(&ObjectKey::of(pod.as_ref()));
            if deleted.is_err() || cached.is_none_or(|cached| kind::is_deleting(cached.as_ref())) {
                self.expectations.deletion_observed(key, kind::uid(pod.as_ref()));
            }
            deleted
        });
        futures::future::join_all(deletions).await.into_iter().collect()
    }

    async fn expire_history(
        &self,
        limit: &Option<i32>,
        history: &[Arc<ControllerRevision>],
        newest: &ControllerRevision,
        pods: &[Arc<Pod>],
    ) -> Result<(), ReconcileError> {
        let used: HashSet<&str> =
            pods.iter().filter_map(|pod| label(pod.as_ref(), revisions::HASH_LABEL)).collect();
        let mut live: HashSet<String> = history
            .iter()
            .filter(|revision| used.contains(revisions::hash(revision)))
            .map(|revision| kind::name(revision.as_ref()).to_owned())
            .collect();
        live.insert(kind::name(newest).to_owned());
        for surplus in revisions::surplus(history, &live, *limit) {
            self.context.writer.delete(surplus.as_ref(), None).await?;
        }
        Ok(())
    }
}
