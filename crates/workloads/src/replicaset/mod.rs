//! The ReplicaSet controller: keeps the wanted number of pods of one template running.

pub mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{
    api::{apps::v1::ReplicaSet, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use tokio::task::JoinSet;

use self::plan::{Failure, Step};
use crate::{
    batch::slow_start,
    caches::BY_CONTROLLER,
    context::Context,
    dependents::{follow_owners, follow_pods},
    error::ReconcileError,
    expectations::Expectations,
    harness::{self, Next, Reconcile},
    kind::{self, ObjectKey},
    owner::{self, controller_of},
    pod,
    queue::WorkQueue,
    template::pod_from_template,
};

/// The controller.
pub struct ReplicaSetController {
    context: Context,
    expectations: Arc<Expectations>,
}

/// Starts the controller.
pub fn start(context: &Context, tasks: &mut JoinSet<()>) {
    let queue = WorkQueue::default();
    let expectations = Arc::new(Expectations::default());
    let caches = &context.caches;
    follow_owners(&caches.replica_sets, &queue);
    follow_pods(&caches.pods, &caches.replica_sets, &queue, Some(expectations.clone()), pod_selector);
    let controller =
        Arc::new(ReplicaSetController { context: context.named(ReplicaSetController::NAME), expectations });
    harness::spawn(tasks, &controller, &queue, context.config.concurrency.workers, context);
}

fn pod_selector(replica_set: &ReplicaSet) -> Option<LabelSelector> {
    replica_set.spec.as_ref().map(|spec| spec.selector.clone())
}

impl Reconcile for ReplicaSetController {
    const NAME: &'static str = "replicaset-controller";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, ReconcileError> {
        let Some(replica_set) = self.context.caches.replica_sets.get(key) else {
            self.expectations.forget(key);
            return Ok(Next::Await);
        };
        // Asked before the pods are listed: what was expected is then surely in the list.
        let may_act = self.expectations.satisfied(key);
        let pods = self.claimed_pods(&replica_set).await?;
        let now = Timestamp::now();
        let mut outcome = Ok(());
        let mut failure = None;
        if may_act && !kind::is_deleting(replica_set.as_ref()) {
            (failure, outcome) = self.manage(key, &replica_set, &pods, now).await;
        } else if let Some(known) = known_failure(&replica_set) {
            failure = Some(known);
        }
        let status = plan::status(&replica_set, &pods, failure.as_ref(), now);
        let previous = replica_set.status.clone().unwrap_or_default();
        self.context.writer.update_status(replica_set.as_ref(), &previous, &status).await?;
        outcome?;
        Ok(Next::after(plan::until_next_available(&replica_set, &pods, now)))
    }
}

impl ReplicaSetController {
    async fn claimed_pods(&self, replica_set: &ReplicaSet) -> Result<Vec<Arc<Pod>>, ReconcileError> {
        let selector = pod_selector(replica_set).unwrap_or_default();
        let selector = owner::selector(&selector)?;
        if selector.selects_all() {
            return Err(ReconcileError::Invalid(
                "spec.selector must not be empty: it would select every pod".into(),
            ));
        }
        let uid = kind::uid(replica_set);
        let candidates = self.context.caches.candidate_pods(uid, kind::namespace(replica_set));
        let claim = owner::claim(candidates, uid, kind::is_deleting(replica_set), &selector);
        claim.settle(&self.context.writer, replica_set).await
    }

    /// Creates or deletes pods. Returns what to show in the status, and whether the attempt failed.
    async fn manage(
        &self,
        key: &ObjectKey,
        replica_set: &ReplicaSet,
        pods: &[Arc<Pod>],
        now: Timestamp,
    ) -> (Option<Failure>, Result<(), ReconcileError>) {
        let active: Vec<Arc<Pod>> = pods.iter().filter(|pod| pod::is_active(pod)).cloned().collect();
        let relatives = self.relatives(replica_set, &active);
        let (reason, result) = match plan::step(replica_set, &active, &relatives, now) {
            Step::Nothing => return (None, Ok(())),
            Step::Create(count) => ("FailedCreate", self.create_pods(key, replica_set, count).await),
            Step::Delete(surplus) => ("FailedDelete", self.delete_pods(key, replica_set, &surplus).await),
        };
        let failure = result.as_ref().err().map(|error| Failure { reason, message: error.user_message() });
        (failure, result)
    }

    async fn create_pods(
        &self,
        key: &ObjectKey,
        replica_set: &ReplicaSet,
        count: usize,
    ) -> Result<(), ReconcileError> {
        let template = replica_set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
        let pod = pod_from_template(&template, replica_set);
        self.expectations.expect_creations(key, count);
        let recorder = &self.context.recorder;
        let outcome = slow_start(count, |_| async {
            let created = self.context.writer.create(&pod).await;
            match &created {
                Ok(pod) => {
                    recorder.normal(
                        replica_set,
                        "SuccessfulCreate",
                        format!("Created pod: {}", kind::name(pod)),
                    );
                }
                Err(error) if error.is_namespace_terminating() => {}
                Err(error) => {
                    let message = format!("Error creating: {}", error.user_message());
                    recorder.warning(replica_set, "FailedCreate", message);
                }
            }
            created
        })
        .await;
        for _ in outcome.succeeded..count {
            self.expectations.creation_observed(key);
        }
        match outcome.error {
            // Nothing more will be created there, and the ReplicaSet goes too.
            Some(error) if error.is_namespace_terminating() => Ok(()),
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    async fn delete_pods(
        &self,
        key: &ObjectKey,
        replica_set: &ReplicaSet,
        surplus: &[Arc<Pod>],
    ) -> Result<(), ReconcileError> {
        self.expectations.expect_deletions(key, surplus.iter().map(|pod| kind::uid(pod.as_ref()).to_owned()));
        let recorder = &self.context.recorder;
        let deletions = surplus.iter().map(|pod| async {
            let deleted = self.context.writer.delete(pod.as_ref(), None).await;
            let name = kind::name(pod.as_ref());
            match &deleted {
                Ok(()) => recorder.normal(replica_set, "SuccessfulDelete", format!("Deleted pod: {name}")),
                Err(error) => {
                    self.expectations.deletion_observed(key, kind::uid(pod.as_ref()));
                    recorder.warning(
                        replica_set,
                        "FailedDelete",
                        format!("Error deleting: {}", error.user_message()),
                    );
                }
            }
            deleted
        });
        let results = futures::future::join_all(deletions).await;
        // What the cache shows already was perhaps shown before it was expected, and will not be shown again.
        for pod in surplus {
            let cached = self.context.caches.pods.get(&ObjectKey::of(pod.as_ref()));
            if cached.is_none_or(|cached| kind::is_deleting(cached.as_ref())) {
                self.expectations.deletion_observed(key, kind::uid(pod.as_ref()));
            }
        }
        results.into_iter().collect()
    }

    /// The active pods of all ReplicaSets of the same Deployment.
    fn relatives(&self, replica_set: &ReplicaSet, own: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
        let Some(deployment) = controller_of(replica_set) else { return own.to_vec() };
        let caches = &self.context.caches;
        let siblings = caches.replica_sets.indexed(BY_CONTROLLER, &deployment.uid);
        let pods =
            siblings.iter().flat_map(|set| caches.pods.indexed(BY_CONTROLLER, kind::uid(set.as_ref())));
        pods.filter(|pod| pod::is_active(pod)).collect()
    }
}

/// The failure the status shows now; it is kept while nothing new was tried.
fn known_failure(replica_set: &ReplicaSet) -> Option<Failure> {
    let conditions = replica_set.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions.iter().find(|condition| condition.type_ == "ReplicaFailure")?;
    Some(Failure { reason: "FailedCreate", message: condition.message.clone().unwrap_or_default() })
}
