//! How many disruptions a budget allows now. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        core::v1::Pod,
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
    },
    apimachinery::pkg::{
        apis::meta::v1::{Condition, Time},
        util::intstr::IntOrString,
    },
};

use crate::{
    deployment::strategy::{Rounding, resolve},
    kind, pod,
    replicaset::plan::saturated,
};

/// An eviction that was allowed but whose pod does not go is forgotten after this time, in seconds.
const EVICTION_TIMEOUT: i64 = 120;

/// What a controller wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// Its UID.
    pub controller: String,
    /// The number of pods it wants.
    pub replicas: i32,
}

/// The outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The status to show.
    pub status: PodDisruptionBudgetStatus,
    /// Why the budget cannot be computed; then nothing may be disrupted.
    pub problem: Option<String>,
    /// Look again after this time.
    pub again_after: Option<Duration>,
}

/// Computes the status of a budget that covers these pods.
pub fn status(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    scale_of: &dyn Fn(&Pod) -> Option<Expectation>,
    now: Timestamp,
) -> Outcome {
    let previous = budget.status.clone().unwrap_or_default();
    let (disrupted, again_after) = still_disrupted(previous.disrupted_pods.as_ref(), pods, now);
    let healthy = pods.iter().filter(|pod| {
        pod::is_active(pod) && pod::is_ready(pod) && !disrupted.contains_key(kind::name(pod.as_ref()))
    });
    let healthy = saturated(healthy.count());
    let (expected, desired, problem) = match expected(budget, pods, scale_of) {
        Ok((expected, desired)) => (expected, desired, None),
        Err(problem) => (0, 0, Some(problem)),
    };
    let allowed = if problem.is_some() || expected <= 0 { 0 } else { (healthy - desired).max(0) };
    let mut status = PodDisruptionBudgetStatus {
        current_healthy: healthy,
        desired_healthy: desired,
        expected_pods: expected,
        disruptions_allowed: allowed,
        disrupted_pods: Some(disrupted).filter(|map| !map.is_empty()),
        observed_generation: budget.metadata.generation,
        conditions: previous.conditions,
    };
    set_condition(&mut status, problem.as_deref(), budget.metadata.generation, now);
    Outcome { status, problem, again_after }
}

/// Pods whose eviction was allowed and that are not gone yet.
fn still_disrupted(
    known: Option<&BTreeMap<String, Time>>,
    pods: &[Arc<Pod>],
    now: Timestamp,
) -> (BTreeMap<String, Time>, Option<Duration>) {
    let present: HashMap<&str, &Arc<Pod>> = pods.iter().map(|pod| (kind::name(pod.as_ref()), pod)).collect();
    let mut disrupted = BTreeMap::new();
    let mut again: Option<Duration> = None;
    for (name, since) in known.into_iter().flatten() {
        let Some(pod) = present.get(name.as_str()) else { continue };
        let left = SignedDuration::from_secs(EVICTION_TIMEOUT) - now.duration_since(since.0);
        if kind::is_deleting(pod.as_ref()) || left <= SignedDuration::ZERO {
            continue;
        }
        let left = left.unsigned_abs();
        again = Some(again.map_or(left, |again| again.min(left)));
        disrupted.insert(name.clone(), since.clone());
    }
    (disrupted, again)
}

/// Pods there should be, and how many of them must be healthy.
fn expected(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    scale_of: &dyn Fn(&Pod) -> Option<Expectation>,
) -> Result<(i32, i32), String> {
    let spec = budget.spec.clone().unwrap_or_default();
    if let Some(limit) = &spec.max_unavailable {
        let expected = wanted_by_controllers(pods, scale_of)?;
        let unavailable = resolve(limit, expected, Rounding::Up);
        return Ok((expected, (expected - unavailable).max(0)));
    }
    match &spec.min_available {
        Some(IntOrString::Int(number)) => Ok((saturated(pods.len()), *number)),
        Some(percent) => {
            let expected = wanted_by_controllers(pods, scale_of)?;
            Ok((expected, resolve(percent, expected, Rounding::Up)))
        }
        None => Ok((saturated(pods.len()), 1)),
    }
}

fn wanted_by_controllers(
    pods: &[Arc<Pod>],
    scale_of: &dyn Fn(&Pod) -> Option<Expectation>,
) -> Result<i32, String> {
    let mut wanted: BTreeMap<String, i32> = BTreeMap::new();
    for pod in pods {
        let expectation = scale_of(pod).ok_or_else(|| {
            format!(
                "found no controllers for pod \"{}\"; use an absolute minAvailable",
                kind::name(pod.as_ref())
            )
        })?;
        wanted.insert(expectation.controller, expectation.replicas);
    }
    Ok(wanted.values().sum())
}

fn set_condition(
    status: &mut PodDisruptionBudgetStatus,
    problem: Option<&str>,
    generation: Option<i64>,
    now: Timestamp,
) {
    let (value, reason) = match problem {
        Some(_) => ("False", "SyncFailed"),
        None if status.disruptions_allowed > 0 => ("True", "SufficientPods"),
        None => ("False", "InsufficientPods"),
    };
    let conditions = status.conditions.get_or_insert_default();
    let since = conditions
        .iter()
        .find(|condition| condition.type_ == "DisruptionAllowed" && condition.status == value)
        .map(|condition| condition.last_transition_time.clone());
    conditions.retain(|condition| condition.type_ != "DisruptionAllowed");
    conditions.push(Condition {
        type_: "DisruptionAllowed".into(),
        status: value.into(),
        reason: reason.into(),
        message: problem.unwrap_or_default().into(),
        last_transition_time: since.unwrap_or(Time(now)),
        observed_generation: generation,
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pod::tests::test_pod;

    fn allowed(
        spec: &serde_json::Value,
        ready: usize,
        unready: usize,
        replicas: Option<i32>,
    ) -> (i32, i32, i32) {
        let budget = serde_json::from_value(json!({"metadata": {"name": "b"}, "spec": spec})).unwrap();
        let pods: Vec<_> = (0..ready + unready)
            .map(|n| Arc::new(test_pod(&format!("p{n}"), Some("n"), n < ready)))
            .collect();
        let scale = |_: &Pod| replicas.map(|replicas| Expectation { controller: "c".into(), replicas });
        let status = status(&budget, &pods, &scale, Timestamp::UNIX_EPOCH).status;
        (status.expected_pods, status.desired_healthy, status.disruptions_allowed)
    }

    #[test]
    fn budgets() {
        assert_eq!(allowed(&json!({"minAvailable": 2}), 3, 1, None), (4, 2, 1));
        assert_eq!(allowed(&json!({"minAvailable": 4}), 3, 1, None), (4, 4, 0));
        assert_eq!(allowed(&json!({"minAvailable": "50%"}), 4, 0, Some(5)), (5, 3, 1));
        assert_eq!(allowed(&json!({"maxUnavailable": 1}), 3, 0, Some(3)), (3, 2, 1));
        assert_eq!(allowed(&json!({"maxUnavailable": 1}), 2, 1, Some(3)), (3, 2, 0));
        assert_eq!(
            allowed(&json!({"maxUnavailable": 1}), 2, 1, None),
            (0, 0, 0),
            "no controller: nothing is allowed"
        );
        assert_eq!(allowed(&json!({"minAvailable": 1}), 0, 0, None), (0, 1, 0));
    }

    #[test]
    fn an_allowed_eviction_counts_until_it_happens_or_times_out() {
        let mut budget: PodDisruptionBudget =
            serde_json::from_value(json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1}})).unwrap();
        let pods = ["a", "b"].map(|name| Arc::new(test_pod(name, Some("n"), true)));
        let scale = |_: &Pod| None;
        budget.status = Some(PodDisruptionBudgetStatus {
            disrupted_pods: Some([("a".to_owned(), Time(Timestamp::UNIX_EPOCH))].into()),
            ..Default::default()
        });
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let outcome = status(&budget, &pods, &scale, at(20));
        assert_eq!(
            (outcome.status.disruptions_allowed, outcome.again_after),
            (0, Some(Duration::from_secs(100)))
        );
        assert_eq!(status(&budget, &pods, &scale, at(120)).status.disruptions_allowed, 1);
    }
}
