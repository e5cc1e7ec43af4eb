//! The Deployment controller: rolls templates out over ReplicaSets.

pub mod history;
pub mod plan;
pub mod scale;
pub mod status;
pub mod strategy;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use tokio::task::JoinSet;

use self::{
    history::History,
    plan::{Action, Observed},
    scale::size,
};
use crate::{
    caches::{BY_CONTROLLER, Caches, orphans},
    context::Context,
    dependents::follow_owners,
    error::ReconcileError,
    harness::{self, Next, Reconcile},
    kind::{self, ObjectKey},
    owner::{self, controller_key, controller_of},
    pod,
    queue::WorkQueue,
};

/// The controller.
pub struct DeploymentController {
    context: Context,
}

/// Starts the controller.
pub fn start(context: &Context, tasks: &mut JoinSet<()>) {
    let queue = WorkQueue::default();
    let caches = &context.caches;
    follow_owners(&caches.deployments, &queue);
    follow_replica_sets(caches, &queue);
    follow_vanishing_pods(caches, &queue);
    let controller = Arc::new(DeploymentController { context: context.named(DeploymentController::NAME) });
    harness::spawn(tasks, &controller, &queue, context.config.concurrency.workers, context);
}

fn follow_replica_sets(caches: &Caches, queue: &WorkQueue<ObjectKey>) {
    let (deployments, queue) = (caches.deployments.clone(), queue.clone());
    caches.replica_sets.subscribe(move |change| {
        let newest = change.newest().as_ref();
        for set in change.previous().map(AsRef::as_ref).into_iter().chain([newest]) {
            if let Some(key) = controller_key::<Deployment, _>(set) {
                queue.add(key);
            }
        }
        if controller_of(newest).is_none() {
            // Any Deployment of the namespace may adopt it; orphans are rare.
            for deployment in deployments.in_namespace(kind::namespace(newest)) {
                queue.add(ObjectKey::of(deployment.as_ref()));
            }
        }
    });
}

/// A Deployment that recreates waits for the last old pod to vanish.
fn follow_vanishing_pods(caches: &Caches, queue: &WorkQueue<ObjectKey>) {
    let (replica_sets, queue) = (caches.replica_sets.clone(), queue.clone());
    caches.pods.subscribe(move |change| {
        let pod = change.newest().as_ref();
        let gone = matches!(change, crate::cache::Change::Deleted(_)) || pod::is_finished(pod);
        if !gone {
            return;
        }
        let set = controller_key::<ReplicaSet, _>(pod).and_then(|key| replica_sets.get(&key));
        if let Some(key) = set.and_then(|set| controller_key::<Deployment, _>(set.as_ref())) {
            queue.add(key);
        }
    });
}

impl Reconcile for DeploymentController {
    const NAME: &'static str = "deployment-controller";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, ReconcileError> {
        let Some(deployment) = self.context.caches.deployments.get(key) else { return Ok(Next::Await) };
        let replica_sets = self.claimed_replica_sets(&deployment).await?;
        let plan = plan::plan(&Observed {
            deployment: &deployment,
            replica_sets: &replica_sets,
            old_pods_running: &|old| self.any_pod_running(old),
            now: Timestamp::now(),
        });
        let previous = deployment.status.clone().unwrap_or_default();
        // The status goes first: its conditions start the clock of the progress deadline before anything is changed.
        let deployment = self
            .context
            .writer
            .update_status(deployment.as_ref(), &previous, &plan.status)
            .await?
            .map_or(deployment, Arc::new);
        for action in plan.actions {
            self.perform(&deployment, action).await?;
        }
        Ok(Next::after(plan.again_after))
    }
}

impl DeploymentController {
    async fn claimed_replica_sets(
        &self,
        deployment: &Deployment,
    ) -> Result<Vec<Arc<ReplicaSet>>, ReconcileError> {
        let selector = deployment.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default();
        let selector = owner::selector(&selector)?;
        if selector.selects_all() {
            return Err(ReconcileError::Invalid(
                "spec.selector must not be empty: it would select every pod".into(),
            ));
        }
        let sets = &self.context.caches.replica_sets;
        let uid = kind::uid(deployment);
        let mut candidates = sets.indexed(BY_CONTROLLER, uid);
        candidates.extend(sets.indexed(BY_CONTROLLER, &orphans(kind::namespace(deployment))));
        let claim = owner::claim(candidates, uid, kind::is_deleting(deployment), &selector);
        claim.settle(&self.context.writer, deployment).await
    }

    fn any_pod_running(&self, old: &[Arc<ReplicaSet>]) -> bool {
        let pods = &self.context.caches.pods;
        old.iter()
            .flat_map(|set| pods.indexed(BY_CONTROLLER, kind::uid(set.as_ref())))
            .any(|pod| !pod::is_finished(&pod))
    }

    async fn perform(&self, deployment: &Arc<Deployment>, action: Action) -> Result<(), ReconcileError> {
        let writer = &self.context.writer;
        match action {
            Action::Create(set) => self.create(deployment, *set).await,
            Action::Update { old, new } => {
                writer.update(old.as_ref(), new.as_ref()).await?;
                self.tell_scaled(deployment, kind::name(old.as_ref()), size(&old), size(&new));
                Ok(())
            }
            Action::Delete(set) => writer.delete_in_background(set.as_ref()).await,
            Action::SetRevision(revision) => {
                let mut annotated = deployment.as_ref().clone();
                let annotations = annotated.metadata.annotations.get_or_insert_default();
                annotations.insert(history::REVISION.into(), revision.to_string());
                writer.update(deployment.as_ref(), &annotated).await.map(|_| ())
            }
        }
    }

    async fn create(&self, deployment: &Deployment, set: ReplicaSet) -> Result<(), ReconcileError> {
        let writer = &self.context.writer;
        let error = match writer.create(&set).await {
            Ok(created) => {
                self.tell_scaled(deployment, kind::name(&created), 0, size(&created));
                return Ok(());
            }
            Err(error) if error.is_already_exists() => error,
            Err(error) if error.is_namespace_terminating() => return Ok(()),
            Err(error) => {
                let message = format!(
                    "Failed to create new replica set \"{}\": {}",
                    kind::name(&set),
                    error.user_message()
                );
                self.context.recorder.warning(deployment, "ReplicaSetCreateError", message);
                return Err(error);
            }
        };
        // Either ours (a stale cache) or another one whose template has the same hash.
        let existing: Option<ReplicaSet> = writer.get(&ObjectKey::of(&set)).await?;
        let Some(existing) = existing else { return Err(error) };
        let ours = controller_of(&existing).is_some_and(|reference| reference.uid == kind::uid(deployment));
        if ours && History::of(deployment, &[Arc::new(existing)]).current.is_some() {
            return Err(ReconcileError::Stale("the new replica set is not visible yet".into()));
        }
        let previous = deployment.status.clone().unwrap_or_default();
        let mut next = previous.clone();
        next.collision_count = Some(previous.collision_count.unwrap_or(0).saturating_add(1));
        writer.update_status(deployment, &previous, &next).await?;
        Err(ReconcileError::Stale(format!("the name {} is taken; choosing another", kind::name(&set))))
    }

    fn tell_scaled(&self, deployment: &Deployment, set: &str, before: i32, after: i32) {
        if before == after {
            return;
        }
        let direction = if after > before { "up" } else { "down" };
        let message = format!("Scaled {direction} replica set {set} from {before} to {after}");
        self.context.recorder.normal(deployment, "ScalingReplicaSet", message);
    }
}
