//! The disruption controller: says how many pods of a set may be taken away at a time.

pub mod plan;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet, StatefulSet},
    core::v1::Pod,
    policy::v1::PodDisruptionBudget,
};
use tokio::task::JoinSet;

use self::plan::Expectation;
use crate::{
    caches::Caches,
    context::Context,
    dependents::follow_owners,
    error::ReconcileError,
    harness::{self, Next, Reconcile},
    kind::{self, ObjectKey},
    owner::{self, controller_key},
    queue::WorkQueue,
};

/// The controller.
pub struct DisruptionController {
    context: Context,
}

/// Starts the controller.
pub fn start(context: &Context, tasks: &mut JoinSet<()>) {
    let queue = WorkQueue::default();
    let caches = &context.caches;
    follow_owners(&caches.disruption_budgets, &queue);
    let (budgets, waking) = (caches.disruption_budgets.clone(), queue.clone());
    caches.pods.subscribe(move |change| {
        for budget in budgets.in_namespace(kind::namespace(change.newest().as_ref())) {
            let covered = |pod: &Pod| covers(&budget, pod);
            if covered(change.newest()) || change.previous().is_some_and(|previous| covered(previous)) {
                waking.add(ObjectKey::of(budget.as_ref()));
            }
        }
    });
    let controller = Arc::new(DisruptionController { context: context.named(DisruptionController::NAME) });
    harness::spawn(tasks, &controller, &queue, 1, context);
}

/// Whether a budget's selector covers a pod; one without a selector covers none.
fn covers(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector
        .and_then(|selector| owner::selector(selector).ok())
        .is_some_and(|selector| owner::matches(&selector, pod))
}

impl Reconcile for DisruptionController {
    const NAME: &'static str = "disruption-controller";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, ReconcileError> {
        let caches = &self.context.caches;
        let Some(budget) = caches.disruption_budgets.get(key) else { return Ok(Next::Await) };
        let pods: Vec<Arc<Pod>> =
            caches.pods.in_namespace(&key.namespace).into_iter().filter(|pod| covers(&budget, pod)).collect();
        let scale_of = |pod: &Pod| scale(caches, pod);
        let outcome = plan::status(&budget, &pods, &scale_of, Timestamp::now());
        if let Some(problem) = &outcome.problem {
            self.context.recorder.warning(
                budget.as_ref(),
                "CalculateExpectedPodCountFailed",
                problem.clone(),
            );
        }
        let previous = budget.status.clone().unwrap_or_default();
        self.context.writer.update_status(budget.as_ref(), &previous, &outcome.status).await?;
        Ok(Next::after(outcome.again_after))
    }
}

/// How many pods the pod's controller wants, and which controller that is.
fn scale(caches: &Caches, pod: &Pod) -> Option<Expectation> {
    if let Some(key) = controller_key::<ReplicaSet, _>(pod) {
        let set = caches.replica_sets.get(&key)?;
        if let Some(key) = controller_key::<Deployment, _>(set.as_ref()) {
            let deployment = caches.deployments.get(&key)?;
            let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            return Some(Expectation { controller: kind::uid(deployment.as_ref()).to_owned(), replicas });
        }
        let replicas = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        return Some(Expectation { controller: kind::uid(set.as_ref()).to_owned(), replicas });
    }
    let key = controller_key::<StatefulSet, _>(pod)?;
    let set = caches.stateful_sets.get(&key)?;
    let replicas = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    Some(Expectation { controller: kind::uid(set.as_ref()).to_owned(), replicas })
}
