//! The StatefulSet controller: pods with lasting names and storage, created, updated and removed in order.

pub mod identity;
pub mod plan;
#[cfg(test)]
mod tests;

use std::{collections::HashSet, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, StatefulSet},
    core::v1::{PersistentVolumeClaim, Pod},
};
use tokio::task::JoinSet;

use self::plan::{Action, Observed, Version};
use crate::{
    context::Context,
    dependents::{follow_owners, follow_pods},
    error::ReconcileError,
    harness::{self, Next, Reconcile},
    kind::{self, ObjectKey},
    owner, pod,
    queue::WorkQueue,
    revisions,
};

/// The controller. Names of pods are fixed, so a stale view cannot create one twice: no expectations are needed.
pub struct StatefulSetController {
    context: Context,
}

/// Starts the controller.
pub fn start(context: &Context, tasks: &mut JoinSet<()>) {
    let queue = WorkQueue::default();
    let caches = &context.caches;
    follow_owners(&caches.stateful_sets, &queue);
    let selector = |set: &StatefulSet| set.spec.as_ref().map(|spec| spec.selector.clone());
    follow_pods(&caches.pods, &caches.stateful_sets, &queue, None, selector);
    let controller = Arc::new(StatefulSetController { context: context.named(StatefulSetController::NAME) });
    harness::spawn(tasks, &controller, &queue, context.config.concurrency.workers, context);
}

/// The revisions of a set that matter now.
struct Revisions {
    current: Arc<ControllerRevision>,
    update: Arc<ControllerRevision>,
}

impl Reconcile for StatefulSetController {
    const NAME: &'static str = "statefulset-controller";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, ReconcileError> {
        let caches = &self.context.caches;
        let Some(set) = caches.stateful_sets.get(key) else { return Ok(Next::Await) };
        let spec = set.spec.clone().unwrap_or_default();
        let selector = owner::selector(&spec.selector)?;
        if selector.selects_all() {
            return Err(ReconcileError::Invalid(
                "spec.selector must not be empty: it would select every pod".into(),
            ));
        }
        let uid = kind::uid(set.as_ref());
        let candidates = caches.candidate_pods(uid, &key.namespace).into_iter();
        let candidates = candidates.filter(|pod| identity::ordinal(&set, pod).is_some());
        let claim = owner::claim(candidates, uid, kind::is_deleting(set.as_ref()), &selector);
        let pods = claim.settle(&self.context.writer, set.as_ref()).await?;
        if kind::is_deleting(set.as_ref()) {
            return Ok(Next::Await);
        }
        let history = revisions::history(caches, &self.context.writer, set.as_ref(), &spec.selector).await?;
        let update = revisions::ensure(&self.context.writer, set.as_ref(), &spec.template, &history).await?;
        let shown = set.status.as_ref().and_then(|status| status.current_revision.as_deref());
        let current = history.iter().find(|revision| shown == Some(kind::name(revision.as_ref())));
        let revisions = Revisions { current: current.unwrap_or(&update).clone(), update };
        let observed = Observed {
            set: &set,
            pods: &pods,
            current: kind::name(revisions.current.as_ref()),
            update: kind::name(revisions.update.as_ref()),
            now: Timestamp::now(),
        };
        let (actions, status) = (plan::plan(&observed), plan::status(&observed));
        let again = pods
            .iter()
            .filter_map(|pod| pod::until_available(pod, spec.min_ready_seconds.unwrap_or(0), observed.now));
        let again = again.min();
        let previous = set.status.clone().unwrap_or_default();
        self.context.writer.update_status(set.as_ref(), &previous, &status).await?;
        for action in actions {
            self.perform(&set, &revisions, action).await?;
        }
        let mut live: HashSet<String> = pods.iter().map(|pod| identity::revision(pod).to_owned()).collect();
        live.extend(
            [&revisions.current, &revisions.update].map(|revision| kind::name(revision.as_ref()).to_owned()),
        );
        for surplus in revisions::surplus(&history, &live, spec.revision_history_limit) {
            self.context.writer.delete(surplus.as_ref(), None).await?;
        }
        Ok(Next::after(again))
    }
}

impl StatefulSetController {
    async fn perform(
        &self,
        set: &StatefulSet,
        revisions: &Revisions,
        action: Action,
    ) -> Result<(), ReconcileError> {
        match action {
            Action::Create(ordinal, version) => {
                let revision = match version {
                    Version::Current => &revisions.current,
                    Version::Update => &revisions.update,
                };
                self.create(set, ordinal, identity::new_pod(set, revision, ordinal)?).await
            }
            Action::Recreate(pod) => self.delete(set, &pod).await,
            Action::Condemn(pod) => {
                if let Some(ordinal) = identity::ordinal(set, &pod) {
                    self.set_claim_owners(set, ordinal, Some(&pod)).await?;
                }
                self.delete(set, &pod).await
            }
        }
    }

    async fn create(&self, set: &StatefulSet, ordinal: i32, pod: Pod) -> Result<(), ReconcileError> {
        let recorder = &self.context.recorder;
        let (set_name, pod_name) = (kind::name(set), kind::name(&pod));
        for claim in identity::claims(set, ordinal) {
            if self.context.caches.claims.get(&ObjectKey::of(&claim)).is_some() {
                continue;
            }
            let what = format!("Claim {} Pod {pod_name} in StatefulSet {set_name}", kind::name(&claim));
            match self.context.writer.create(&claim).await {
                Ok(_) => recorder.normal(set, "SuccessfulCreate", format!("create {what} success")),
                Err(error) if error.is_already_exists() => {}
                Err(error) => {
                    let message = format!("create {what} failed error: {}", error.user_message());
                    recorder.warning(set, "FailedCreate", message);
                    return Err(error);
                }
            }
        }
        self.set_claim_owners(set, ordinal, None).await?;
        let what = format!("create Pod {pod_name} in StatefulSet {set_name}");
        match self.context.writer.create(&pod).await {
            Ok(_) => recorder.normal(set, "SuccessfulCreate", format!("{what} successful")),
            Err(error) if error.is_namespace_terminating() => {}
            Err(error) if error.is_already_exists() => {
                return Err(ReconcileError::Stale(format!(
                    "Pod {pod_name} exists but is not visible as the set's own"
                )));
            }
            Err(error) => {
                recorder.warning(
                    set,
                    "FailedCreate",
                    format!("{what} failed error: {}", error.user_message()),
                );
                return Err(error);
            }
        }
        Ok(())
    }

    async fn delete(&self, set: &StatefulSet, pod: &Pod) -> Result<(), ReconcileError> {
        let what = format!("delete Pod {} in StatefulSet {}", kind::name(pod), kind::name(set));
        match self.context.writer.delete(pod, None).await {
            Ok(()) => {
                self.context.recorder.normal(set, "SuccessfulDelete", format!("{what} successful"));
                Ok(())
            }
            Err(error) => {
                let message = format!("{what} failed error: {}", error.user_message());
                self.context.recorder.warning(set, "FailedDelete", message);
                Err(error)
            }
        }
    }

    /// Lets the claims of an ordinal be collected with the set or the pod, as the retention policy says.
    async fn set_claim_owners(
        &self,
        set: &StatefulSet,
        ordinal: i32,
        condemned: Option<&Pod>,
    ) -> Result<(), ReconcileError> {
        for claim in identity::claims(set, ordinal) {
            let known: Option<Arc<PersistentVolumeClaim>> =
                self.context.caches.claims.get(&ObjectKey::of(&claim));
            let known = match known {
                Some(known) => known,
                // Created a moment ago.
                None => match self.context.writer.get(&ObjectKey::of(&claim)).await? {
                    Some(live) => Arc::new(live),
                    None => continue,
                },
            };
            let owners = identity::claim_owners(set, &known, condemned);
            let mut owned = known.as_ref().clone();
            owned.metadata.owner_references = Some(owners).filter(|owners| !owners.is_empty());
            self.context.writer.update(known.as_ref(), &owned).await?;
        }
        Ok(())
    }
}
