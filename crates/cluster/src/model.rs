//! What a `Cluster` means: the names of the objects made for it, the hosts it wants, and what makes it invalid.

use std::collections::{BTreeMap, BTreeSet};

use drystone_api::{
    Cluster, ClusterSpec, ClusterStatus, CompositionGroup, CompositionSpec, Distribution, HostRequirement,
    MemberRole, NodeNetwork, WorkerPool,
};
use ipnet::IpNet;

use crate::distribution;

/// Group of a composition that the control plane comes from.
pub const CONTROL_PLANE_GROUP: &str = "control-plane";

/// A cluster that cannot be built as it is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct InvalidCluster {
    /// Path of the field: `spec.workers[1].name`.
    pub path: String,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl InvalidCluster {
    pub(crate) fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into() }
    }
}

/// Names of the objects that belong to a cluster, all in its namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The cluster.
    pub cluster: String,
    /// Its namespace.
    pub namespace: String,
}

impl Names {
    /// For a cluster object.
    pub fn of(cluster: &Cluster) -> Self {
        Self {
            cluster: cluster.metadata.name.clone().unwrap_or_default(),
            namespace: cluster.metadata.namespace.clone().unwrap_or_default(),
        }
    }

    /// The Composition that claims the hosts, and the Zone that isolates them.
    pub fn composition(&self) -> String {
        self.cluster.clone()
    }

    /// The Zone.
    pub fn zone(&self) -> String {
        self.cluster.clone()
    }

    /// AddressPool of the pods.
    pub fn pod_pool(&self) -> String {
        format!("{}-pods", self.cluster)
    }

    /// Secret with the certificate authority and the other keys of the cluster.
    pub fn pki_secret(&self) -> String {
        format!("{}-pki", self.cluster)
    }

    /// Secret with the administrator's kubeconfig (key `value`).
    pub fn kubeconfig_secret(&self) -> String {
        format!("{}-kubeconfig", self.cluster)
    }

    /// Secret with the SSH keys of a cluster whose hosts are composed and installed over SSH.
    pub fn ssh_secret(&self) -> String {
        format!("{}-ssh", self.cluster)
    }

    /// ServiceAccount (and Role, and RoleBinding) by which the cluster's hosts lease pod address blocks.
    pub fn host_account(&self) -> String {
        format!("{}-hosts", self.cluster)
    }

    /// Secret with the boot data of one host.
    pub fn boot_secret(&self, host: &str) -> String {
        format!("{}-boot-{host}", self.cluster)
    }

    /// Who holds the cluster's leases in pools that clusters share.
    pub fn lease_holder(&self) -> String {
        format!("{}/{}", self.namespace, self.cluster)
    }

    /// Who holds the address of a control plane of several hosts. No host has such a name.
    pub fn api_holder(&self) -> String {
        format!("{}/{}/api/address", self.namespace, self.cluster)
    }

    /// Who holds a host's address.
    pub fn host_holder(&self, host: &str) -> String {
        format!("{}/{}/{host}", self.namespace, self.cluster)
    }
}

/// Size of a worker pool: what growth has made of it, inside the bounds of the specification.
pub fn pool_size(pool: &WorkerPool, grown: &BTreeMap<String, u32>) -> u32 {
    let max = pool.max_replicas.unwrap_or(pool.replicas).max(pool.replicas);
    grown.get(&pool.name).copied().unwrap_or(pool.replicas).clamp(pool.replicas, max)
}

/// The composition that a cluster needs.
pub fn composition(
    spec: &ClusterSpec,
    grown: &BTreeMap<String, u32>,
    excluded: &BTreeSet<String>,
) -> CompositionSpec {
    let control_plane = CompositionGroup {
        name: CONTROL_PLANE_GROUP.to_owned(),
        role: MemberRole::ControlPlane,
        count: spec.control_plane.replicas,
        host: spec.control_plane.host.clone(),
        only_hosts: spec.control_plane.only_hosts.clone(),
        ..Default::default()
    };
    let workers = spec.workers.iter().map(|pool| CompositionGroup {
        name: pool.name.clone(),
        role: MemberRole::Worker,
        count: pool_size(pool, grown),
        host: pool.host.clone(),
        only_hosts: pool.only_hosts.clone(),
        ..Default::default()
    });
    CompositionSpec {
        purpose: spec.purpose,
        weights: spec.weights,
        site: spec.site.clone(),
        groups: std::iter::once(control_plane).chain(workers).collect(),
        exclude_hosts: excluded.iter().cloned().collect(),
        ..Default::default()
    }
}

/// Hosts that failed and are on no list any more, of a cluster whose groups all have lists: who lists them again means to try again.
pub fn forgiven(spec: &ClusterSpec, excluded: &[String]) -> BTreeSet<String> {
    let pools = spec.workers.iter().filter(|pool| pool.replicas > 0).map(|pool| &pool.only_hosts);
    let lists: Vec<&Vec<String>> = std::iter::once(&spec.control_plane.only_hosts).chain(pools).collect();
    if lists.iter().any(|list| list.is_empty()) {
        return BTreeSet::new();
    }
    excluded.iter().filter(|host| !lists.iter().any(|list| list.contains(host))).cloned().collect()
}

/// Checks what a schema cannot say. `node_networks` are the networks of the sites a host may come from.
pub fn validate(spec: &ClusterSpec, node_networks: &[NodeNetwork]) -> Result<(), InvalidCluster> {
    distribution::validate::validate(spec)?;
    let mut names = BTreeSet::new();
    for (index, pool) in spec.workers.iter().enumerate() {
        let path = format!("spec.workers[{index}]");
        if pool.name == CONTROL_PLANE_GROUP {
            return Err(InvalidCluster::new(
                format!("{path}.name"),
                "`control-plane` is taken, choose another name",
            ));
        }
        if !names.insert(pool.name.as_str()) {
            let reason = format!("`{}` is the name of an earlier pool, choose another", pool.name);
            return Err(InvalidCluster::new(format!("{path}.name"), reason));
        }
        if let Some(max) = pool.max_replicas.filter(|max| *max < pool.replicas) {
            let reason =
                format!("{max} is less than replicas ({}); leave it out to forbid growth", pool.replicas);
            return Err(InvalidCluster::new(format!("{path}.maxReplicas"), reason));
        }
        check_host(&pool.host, &format!("{path}.host"))?;
    }
    if spec.hosts.is_empty() && !matches!(spec.control_plane.replicas, 1 | 3) {
        let reason = format!(
            "{} is not possible: one host keeps its state in a file, and of three any one may be lost; of two, the loss of either would stop \
             both; write 1 or 3",
            spec.control_plane.replicas
        );
        return Err(InvalidCluster::new("spec.controlPlane.replicas", reason));
    }
    check_host(&spec.control_plane.host, "spec.controlPlane.host")?;
    if spec.distribution == Distribution::External {
        return Ok(());
    }
    check_networks(spec, node_networks)
}

/// Checks what a specification may not make of a cluster that is there.
pub fn validate_change(spec: &ClusterSpec, status: &ClusterStatus) -> Result<(), InvalidCluster> {
    if spec.distribution != Distribution::Embedded {
        return distribution::validate::validate_change(spec, status);
    }
    let has_control_plane = status.members.iter().any(|member| member.role == MemberRole::ControlPlane);
    let (from, kept) =
        if status.first_control_planes.is_empty() { (1, "a file on its host") } else { (3, "etcd") };
    if has_control_plane && spec.control_plane.replicas != from {
        let reason = format!(
            "cannot change from {from} to {}: the cluster keeps its state in {kept}, which is not moved; write {from}, or make another \
             cluster",
            spec.control_plane.replicas
        );
        return Err(InvalidCluster::new("spec.controlPlane.replicas", reason));
    }
    Ok(())
}

fn check_host(host: &HostRequirement, path: &str) -> Result<(), InvalidCluster> {
    match host.accelerators.iter().position(|accelerator| accelerator.count == 0) {
        Some(index) => {
            Err(InvalidCluster::new(format!("{path}.accelerators[{index}].count"), "must be at least 1"))
        }
        None => Ok(()),
    }
}

fn check_networks(spec: &ClusterSpec, node_networks: &[NodeNetwork]) -> Result<(), InvalidCluster> {
    let (pods, services) = (spec.network.pod_cidr, spec.network.service_cidr);
    if overlap(pods, services) {
        let reason = format!("{services} overlaps spec.network.podCIDR {pods}");
        return Err(InvalidCluster::new("spec.network.serviceCIDR", reason));
    }
    for (path, cidr, longest) in [("podCIDR", pods, 24), ("serviceCIDR", services, 28)] {
        let path = format!("spec.network.{path}");
        if matches!(cidr, IpNet::V6(_)) {
            return Err(InvalidCluster::new(path, format!("{cidr} is IPv6; only IPv4 ranges are supported")));
        }
        if cidr.prefix_len() > longest {
            return Err(InvalidCluster::new(
                path,
                format!("{cidr} is too small, give at least a /{longest}"),
            ));
        }
        if cidr.trunc() != cidr {
            let reason = format!("{cidr} has host bits set, write {}", cidr.trunc());
            return Err(InvalidCluster::new(path, reason));
        }
        if let Some(network) = node_networks.iter().find(|network| overlap(network.cidr, cidr)) {
            let reason = format!("{cidr} overlaps the site's node network {}", network.cidr);
            return Err(InvalidCluster::new(path, reason));
        }
    }
    Ok(())
}

fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

/// Prefix length of the blocks of pod addresses that nodes lease: 256 addresses each, fewer where the range is small.
pub fn pod_block_prefix(pod_cidr: IpNet) -> u8 {
    if pod_cidr.prefix_len() <= 20 { 24 } else { 26.max(pod_cidr.prefix_len()) }
}

#[cfg(test)]
mod tests {
    use drystone_api::{ClusterNetwork, quantity::Memory};

    use super::*;

    fn pool(name: &str, replicas: u32, max: Option<u32>) -> WorkerPool {
        let host =
            HostRequirement { cores: 8, memory: Some(Memory::from_mebibytes(1024)), ..Default::default() };
        WorkerPool { name: name.to_owned(), replicas, max_replicas: max, host, ..Default::default() }
    }

    fn spec(workers: Vec<WorkerPool>) -> ClusterSpec {
        ClusterSpec { workers, ..Default::default() }
    }

    #[test]
    fn growth_stays_inside_the_bounds() {
        let grown = BTreeMap::from([("train".to_owned(), 9)]);
        assert_eq!(pool_size(&pool("train", 2, Some(4)), &grown), 4);
        assert_eq!(pool_size(&pool("train", 2, None), &grown), 2);
        assert_eq!(pool_size(&pool("other", 2, Some(4)), &grown), 2);
    }

    #[test]
    fn a_composition_has_the_control_plane_first() {
        let composition =
            composition(&spec(vec![pool("train", 2, None)]), &BTreeMap::new(), &BTreeSet::new());
        let groups: Vec<_> =
            composition.groups.iter().map(|group| (group.name.as_str(), group.count)).collect();
        assert_eq!(groups, [("control-plane", 1), ("train", 2)]);
    }

    #[test]
    fn mistakes_are_named_by_path() {
        let check = |spec: &ClusterSpec| validate(spec, &[]).expect_err("invalid").to_string();
        let twice = check(&spec(vec![pool("a", 1, None), pool("a", 1, None)]));
        assert!(twice.starts_with("spec.workers[1].name: `a` is the name"), "{twice}");
        let shrunk = check(&spec(vec![pool("a", 3, Some(2))]));
        assert!(shrunk.starts_with("spec.workers[0].maxReplicas: 2 is less than replicas (3)"), "{shrunk}");
        let mut overlapping = spec(vec![]);
        overlapping.network.service_cidr = overlapping.network.pod_cidr;
        assert!(check(&overlapping).starts_with("spec.network.serviceCIDR: 10.42.0.0/16 overlaps"));
        let mut sloppy = spec(vec![]);
        sloppy.network =
            ClusterNetwork { pod_cidr: "10.42.1.1/16".parse().expect("valid"), ..Default::default() };
        assert!(check(&sloppy).contains("write 10.42.0.0/16"));
    }

    #[test]
    fn a_control_plane_has_one_host_or_three_and_stays_so() {
        let mut two = spec(vec![]);
        for (replicas, valid) in [(1, true), (2, false), (3, true)] {
            two.control_plane.replicas = replicas;
            let checked = validate(&two, &[]);
            assert_eq!(checked.is_ok(), valid, "{replicas}");
            if let Err(error) = checked {
                assert_eq!(error.path, "spec.controlPlane.replicas");
            }
        }
        let three = two;
        let member = |host: &str| drystone_api::ClusterMember {
            host: host.into(),
            role: MemberRole::ControlPlane,
            ..Default::default()
        };
        let mut status = ClusterStatus::default();
        assert!(validate_change(&three, &status).is_ok());
        status.members = vec![member("a")];
        let error = validate_change(&three, &status).expect_err("was one").to_string();
        assert!(error.starts_with("spec.controlPlane.replicas: cannot change from 1 to 3"), "{error}");
        status.first_control_planes = vec!["a".into(), "b".into(), "c".into()];
        assert!(validate_change(&three, &status).is_ok());
        assert!(validate_change(&spec(vec![]), &status).is_err());
    }

    #[test]
    fn a_host_that_is_on_no_list_any_more_is_forgiven() {
        let excluded = ["a".to_owned(), "b".to_owned()];
        let mut listed =
            spec(vec![WorkerPool { only_hosts: vec!["b".into(), "c".into()], ..pool("w", 2, None) }]);
        assert_eq!(forgiven(&listed, &excluded), BTreeSet::new(), "the control plane comes from anywhere");
        listed.control_plane.only_hosts = vec!["d".into()];
        assert_eq!(forgiven(&listed, &excluded), ["a".to_owned()].into());
    }

    #[test]
    fn the_node_network_is_off_limits() {
        let network = NodeNetwork {
            cidr: "10.42.0.0/20".parse().expect("valid"),
            gateway: "10.42.0.1".parse().expect("valid"),
            allocation: None,
        };
        let error = validate(&spec(vec![]), &[network]).expect_err("overlaps");
        assert_eq!(error.path, "spec.network.podCIDR");
    }
}
