//! How a site is, in few words and numbers. Pure.

use std::{collections::BTreeMap, sync::Arc};

use drystone_api::{
    BareMetalHost, Cluster, ClusterPhase, ProvisioningState, Rollout, SiteClusterStatus, SiteRolloutStatus,
    SiteStatus,
};
use kube::ResourceExt as _;

/// Number of hosts in each state; those with an error are in none but `error`.
pub(super) fn hosts_by_state(hosts: &[Arc<BareMetalHost>]) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for host in hosts {
        let status = host.status.as_ref();
        let state = match status {
            Some(status) if !status.error_type.is_empty() => "error".to_owned(),
            Some(status) => word(status.provisioning.state),
            None => word(ProvisioningState::None),
        };
        *counts.entry(state).or_insert(0) += 1;
    }
    counts
}

/// As the state is written, with `new` for the empty one.
fn word(state: ProvisioningState) -> String {
    let text = serde_json::to_value(state).ok().and_then(|value| value.as_str().map(str::to_owned));
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| "new".to_owned())
}

/// Roll-outs that are shown.
const ROLLOUTS: usize = 16;

/// The newest roll-outs.
pub(super) fn rollouts(mut all: Vec<Arc<Rollout>>) -> Vec<SiteRolloutStatus> {
    // Of one second, always in the same order: else the status would be written again and again.
    all.sort_by_key(|rollout| {
        std::cmp::Reverse((rollout.creation_timestamp().map(|created| created.0), rollout.name_any()))
    });
    let newest = all.into_iter().take(ROLLOUTS).map(|rollout| {
        let status = rollout.status.as_ref();
        SiteRolloutStatus {
            name: rollout.name_any(),
            phase: status.map(|status| format!("{:?}", status.phase)).unwrap_or_default(),
            message: status.map(|status| status.message.clone()).unwrap_or_default(),
        }
    });
    newest.collect()
}

/// A status without what merely tells how far things are.
pub(super) fn essence(status: &SiteStatus) -> SiteStatus {
    let mut essence = status.clone();
    essence.hosts_by_state.clear();
    for rollout in &mut essence.rollouts {
        rollout.message.clear();
    }
    if let Some(cluster) = &mut essence.cluster {
        cluster.message.clear();
    }
    for condition in &mut essence.conditions {
        condition.message.clear();
    }
    essence
}

pub(super) fn cluster(cluster: &Cluster) -> SiteClusterStatus {
    let status = cluster.status.clone().unwrap_or_default();
    SiteClusterStatus {
        namespace: cluster.namespace().unwrap_or_default(),
        name: cluster.name_any(),
        phase: status.phase,
        hosts: status.hosts,
        ready_nodes: u32::try_from(status.members.iter().filter(|member| member.ready).count())
            .unwrap_or(u32::MAX),
        failed_hosts: status.excluded_hosts,
        message: status.message,
    }
}

pub(super) fn is_ready(cluster: Option<&SiteClusterStatus>) -> bool {
    cluster.is_some_and(|cluster| cluster.phase == ClusterPhase::Ready)
}

/// What is amiss, or how far the cluster is.
pub(super) fn message(cluster: Option<&SiteClusterStatus>, note: &str) -> String {
    let state = cluster.map(|cluster| cluster.message.as_str()).unwrap_or_default();
    [state, note].iter().filter(|text| !text.is_empty()).copied().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use drystone_api::BareMetalHostStatus;

    use super::*;

    #[test]
    fn hosts_with_an_error_count_as_such() {
        let host = |state, error: &str| {
            let mut host = BareMetalHost::new("a", drystone_api::BareMetalHostSpec::default());
            let mut status = BareMetalHostStatus { error_type: error.to_owned(), ..Default::default() };
            status.provisioning.state = state;
            host.status = Some(status);
            Arc::new(host)
        };
        let hosts = [
            host(ProvisioningState::Available, ""),
            host(ProvisioningState::Available, "inspection error"),
            host(ProvisioningState::None, ""),
            host(ProvisioningState::Available, ""),
        ];
        let counts: Vec<(String, u32)> = hosts_by_state(&hosts).into_iter().collect();
        assert_eq!(counts, [("available".into(), 2), ("error".into(), 1), ("new".into(), 1)]);
    }
}
