//! Kubernetes that others make: installed over SSH with kubeadm or a program of the user's, or there already.
//!
//! Rooms: [`validate`] (what a specification may not say), [`plan`] (pure: order and parallelism), [`kubeadm`] and [`script`] (pure: what
//! is run on hosts), [`reach`] (how hosts are reached), [`keys`] (SSH keys of composed clusters), [`steps`] (effects).

pub mod keys;
pub mod kubeadm;
pub mod plan;
pub mod reach;
pub mod script;
pub mod steps;
pub mod validate;

use drystone_api::{Cluster, ClusterSpec, CompositionMember, MemberRole};
use kube::ResourceExt as _;

use crate::model::CONTROL_PLANE_GROUP;

/// Port of the SSH server that composed hosts get. It is not 22, where an image may have a server of its own.
pub const HOST_SSH_PORT: u16 = 2222;

/// Exit status by which what runs on a host says that trying again is of no use (`EX_NOPERM` of `sysexits.h`).
pub const GIVE_UP: u32 = 77;

/// Whether the hosts of a cluster are there already, instead of being composed.
pub fn is_listed(spec: &ClusterSpec) -> bool {
    spec.distribution.is_installed() && !spec.hosts.is_empty()
}

/// The hosts that a specification lists, as if they had been composed.
pub fn listed(spec: &ClusterSpec) -> Vec<CompositionMember> {
    let member = |host: &drystone_api::ClusterHost| CompositionMember {
        group: match host.role {
            MemberRole::ControlPlane => CONTROL_PLANE_GROUP.to_owned(),
            MemberRole::Worker => host.pool.clone(),
        },
        host: host.name.clone(),
        host_namespace: String::new(),
    };
    spec.hosts.iter().map(member).collect()
}

/// What a host remembers a cluster by.
pub(crate) fn uid(cluster: &Cluster) -> String {
    cluster.uid().unwrap_or_default()
}

/// Part of a shell program: `$owner` and `$phase` are what the host remembers of an installation, `note PHASE` makes it remember.
/// `$DRYSTONE_CLUSTER_UID` is the cluster at work.
pub(crate) const STATE: &str = r#"state=/var/lib/drystone/kubernetes.state
mkdir -p /var/lib/drystone
note() {
  printf '%s %s\n' "$DRYSTONE_CLUSTER_UID" "$1" >"$state.new"
  sync -- "$state.new" 2>/dev/null || sync
  mv -f -- "$state.new" "$state"
}
owner= phase=
if [ -e "$state" ]; then read -r owner phase <"$state" || :; fi
if [ -n "$owner" ] && [ "$owner" != "$DRYSTONE_CLUSTER_UID" ]; then
  foreign="the host belongs to another cluster ($owner): take it out of that one, or remove $state"
else
  foreign=
fi
"#;
