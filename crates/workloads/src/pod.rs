//! What the controllers need to know about a pod.

use std::{cmp::Ordering, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{Pod, PodCondition, PodSpec},
    apimachinery::pkg::apis::meta::v1::Time,
};

/// A condition of the pod.
pub fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == type_)
}

/// The pod's phase; `Pending` if none was reported.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// The node the pod is bound to, if any.
pub fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

/// The pod's specification, if it has one (stored pods always do).
pub fn spec(pod: &Pod) -> Option<&PodSpec> {
    pod.spec.as_ref()
}

/// Names of the claims the pod's volumes use, with those that generic ephemeral volumes create.
pub fn claim_names(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(claim), _) => Some(claim.claim_name.clone()),
            (None, Some(_)) => Some(format!("{}-{}", crate::kind::name(pod), volume.name)),
            (None, None) => None,
        })
        .collect()
}

/// Whether the pod has ended (`Succeeded` or `Failed`); it uses no resources any more.
pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether the pod counts as a replica: not ended and not being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// Whether the pod's `Ready` condition holds.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

/// Since when the pod is ready, if it is.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|ready| ready.status == "True")?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

/// Whether the pod has been ready for at least `min_ready_seconds`.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    is_ready(pod) && (min_ready_seconds <= 0 || until_available(pod, min_ready_seconds, now).is_none())
}

/// How long a ready pod must stay ready to become available; `None` if it is available or not ready.
pub fn until_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    if min_ready_seconds <= 0 {
        return None;
    }
    let since = ready_since(pod)?;
    let left = SignedDuration::from_secs(min_ready_seconds.into()) - now.duration_since(since);
    // Times in the API are whole seconds.
    (left > SignedDuration::ZERO).then(|| left.unsigned_abs().max(Duration::from_secs(1)))
}

/// Restarts of the pod's containers: the most of any container.
fn restarts(pod: &Pod) -> i32 {
    let Some(status) = &pod.status else { return 0 };
    let containers = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    containers.map(|container| container.restart_count).max().unwrap_or(0)
}

fn deletion_cost(pod: &Pod) -> i32 {
    crate::kind::annotation(pod, "controller.kubernetes.io/pod-deletion-cost")
        .and_then(|cost| cost.parse().ok())
        .unwrap_or(0)
}

fn phase_rank(pod: &Pod) -> u8 {
    match phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    }
}

/// Orders pods by which should be deleted first when a set shrinks: the least useful first.
///
/// Unassigned, then not yet running, then not ready, then cheap ones, then those that share their node with the most
/// `relatives` (given by the caller), then the most recently ready, then those that restarted most, then the youngest.
pub fn deletion_order(a: (&Pod, usize), b: (&Pod, usize), now: Timestamp) -> Ordering {
    let ((a, relatives_a), (b, relatives_b)) = (a, b);
    let age = |time: Option<Timestamp>| time.map_or(0, |time| magnitude(now, time));
    let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|time: &Time| time.0);
    node_name(a)
        .is_some()
        .cmp(&node_name(b).is_some())
        .then_with(|| phase_rank(a).cmp(&phase_rank(b)))
        .then_with(|| is_ready(a).cmp(&is_ready(b)))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
        .then_with(|| relatives_b.cmp(&relatives_a))
        .then_with(|| age(ready_since(a)).cmp(&age(ready_since(b))))
        .then_with(|| restarts(b).cmp(&restarts(a)))
        .then_with(|| age(created(a)).cmp(&age(created(b))))
        .then_with(|| a.metadata.uid.cmp(&b.metadata.uid))
}

/// Ages are compared by their magnitude (log2 of seconds), so that near-equal ages do not always pick the youngest.
fn magnitude(now: Timestamp, time: Timestamp) -> u32 {
    let seconds = now.duration_since(time).as_secs().max(0);
    u64::try_from(seconds).unwrap_or(0).checked_ilog2().map_or(0, |log| log + 1)
}

#[cfg(test)]
pub(crate) mod tests {
    use k8s_openapi::api::core::v1::PodStatus;

    use super::*;

    /// A pod for tests: ready (since the epoch) or not, on a node or not.
    pub(crate) fn test_pod(name: &str, node: Option<&str>, ready: bool) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.into());
        pod.metadata.namespace = Some("default".into());
        pod.metadata.uid = Some(format!("uid-{name}"));
        pod.spec = Some(PodSpec { node_name: node.map(Into::into), ..Default::default() });
        let ready = PodCondition {
            type_: "Ready".into(),
            status: if ready { "True" } else { "False" }.into(),
            last_transition_time: Some(Time(Timestamp::UNIX_EPOCH)),
            ..Default::default()
        };
        pod.status = Some(PodStatus {
            phase: Some(if node.is_some() { "Running" } else { "Pending" }.into()),
            conditions: Some(vec![ready]),
            ..Default::default()
        });
        pod
    }

    #[test]
    fn availability_waits_for_min_ready_seconds() {
        let pod = test_pod("p", Some("n"), true);
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        assert!(is_available(&pod, 0, at(0)));
        assert!(!is_available(&pod, 10, at(9)));
        assert_eq!(until_available(&pod, 10, at(4)), Some(Duration::from_secs(6)));
        assert!(is_available(&pod, 10, at(10)));
        assert!(!is_available(&test_pod("p", Some("n"), false), 0, at(10)));
    }

    #[test]
    fn the_least_useful_pod_goes_first() {
        let now = Timestamp::from_second(100_000).unwrap();
        let unassigned = test_pod("unassigned", None, false);
        let unready = test_pod("unready", Some("n1"), false);
        let mut cheap = test_pod("cheap", Some("n1"), true);
        cheap.metadata.annotations =
            Some([("controller.kubernetes.io/pod-deletion-cost".to_owned(), "-5".to_owned())].into());
        let crowded = test_pod("crowded", Some("n1"), true);
        let alone = test_pod("alone", Some("n2"), true);
        let mut all = [(&alone, 1), (&crowded, 3), (&cheap, 1), (&unready, 1), (&unassigned, 0)];
        all.sort_by(|a, b| deletion_order(*a, *b, now));
        let names: Vec<_> = all.iter().map(|(pod, _)| crate::kind::name(*pod)).collect();
        assert_eq!(names, ["unassigned", "unready", "cheap", "crowded", "alone"]);
    }
}
