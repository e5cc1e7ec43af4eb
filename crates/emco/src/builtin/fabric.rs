//! Networks of clusters that Drystone made, in the fabric: each is a Zone of the cluster's hosts with address pools of its own, so that
//! the fabric manager keeps its addresses and its VLAN apart from those of every other zone, and proves the isolation.
//!
//! | document | in the fabric |
//! |---|---|
//! | network | a zone without gateways: the hosts among themselves |
//! | provider network `DIRECT` | a zone with the fabric's gateways: what is around the cluster |
//! | provider network `VLAN` | the same, of the hosts that the node selector names; the VLAN is reserved in the pool |
//! | `subnet`, `gateway`, `excludeIps` | ranges, gateway and reserved addresses of the pools, one for each family |
//!
//! What is not possible: forwarding tables know no VLAN tags, so a VLAN is kept free of others but no frame is tagged by a switch; interfaces
//! of the hosts (`providerInterfaceName`, `logicalInterfaceName`) are made by the network plugin in the cluster, not by the fabric; and the
//! zone of the cluster must be `Shared`, for hosts of an exclusive zone can be in no other one.

mod carried;
mod pools;
#[cfg(test)]
mod tests;

use drystone_api::{
    AddressPool, CLUSTER_LABEL, Cluster, Isolation, MemberRole, Zone, ZoneMember, ZoneSpec,
    emco::{Document, Network, ProviderNetwork, ProviderNetworkVlan, object_name},
};
use kube::{Resource as _, ResourceExt as _, api::ObjectMeta};

pub use carried::{CarriedNetwork, FabricNetworks};

use crate::model::Refusal;

/// Label of zones and pools that are a network of a cluster; its value is the cluster's name.
pub const NETWORK_OF_LABEL: &str = "emco.drystone.dev/network-of";
/// Annotation with the path of the network's document.
pub const PATH_ANNOTATION: &str = "emco.drystone.dev/path";

/// A network as it is declared to the fabric manager.
#[derive(Debug, Clone, PartialEq)]
pub struct FabricNetwork {
    /// Path of its document.
    pub path: String,
    /// The hosts.
    pub zone: Zone,
    /// Its addresses, by family.
    pub pools: Vec<AddressPool>,
}

/// What is to be declared for the networks of a cluster.
///
/// # Errors
/// [`Refusal`] that names the network and the field, or says why the cluster cannot have networks.
pub fn declare(
    cluster: &Cluster,
    networks: &[Network],
    provider_networks: &[ProviderNetwork],
) -> Result<Vec<FabricNetwork>, Refusal> {
    if networks.is_empty() && provider_networks.is_empty() {
        return Ok(Vec::new());
    }
    if cluster.spec.zone.isolation != Isolation::Shared {
        let name = format!("{}/{}", cluster.namespace().unwrap_or_default(), cluster.name_any());
        return Err(Refusal::unfit(format!(
            "cluster {name}: its hosts are in a zone that is not Shared, and so can be in no other; set spec.zone.isolation of the Cluster to Shared"
        )));
    }
    let mut declared = Vec::new();
    for network in networks {
        let plan = Plan { cluster, path: network.path(), vlan: None, gateways: false };
        declared.push(plan.declare(&network.spec.ipv4_subnets, &network.spec.ipv6_subnets)?);
    }
    for network in provider_networks {
        let vlan = network.spec.vlan.as_ref().filter(|_| network.spec.provider_net_type == "VLAN");
        if network.spec.provider_net_type == "VLAN" && vlan.is_none() {
            let message = format!("provider network {}: vlan is missing", network.document_name());
            return Err(Refusal::unfit(message));
        }
        let plan = Plan { cluster, path: network.path(), vlan, gateways: true };
        declared.push(plan.declare(&network.spec.ipv4_subnets, &network.spec.ipv6_subnets)?);
    }
    declared.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(declared)
}

/// One network of a cluster.
struct Plan<'a> {
    cluster: &'a Cluster,
    path: &'a str,
    vlan: Option<&'a ProviderNetworkVlan>,
    gateways: bool,
}

impl Plan<'_> {
    fn declare(
        &self,
        ipv4: &[drystone_api::emco::Subnet],
        ipv6: &[drystone_api::emco::Subnet],
    ) -> Result<FabricNetwork, Refusal> {
        let refuse = |why: String| {
            let name = self.path.rsplit('/').next().unwrap_or_default();
            Refusal::unfit(format!("network {name} of cluster {}: {why}", self.cluster.name_any()))
        };
        let mut pools = Vec::new();
        for (family, subnets) in [("4", ipv4), ("6", ipv6)] {
            // A VLAN is one pool's only: two pools of one zone may not overlap.
            let vlan = self.vlan.filter(|_| pools.is_empty());
            if let Some(spec) = pools::pool(family, subnets, vlan).map_err(refuse)? {
                let mut pool = AddressPool::new("", spec);
                pool.metadata = self.metadata(&format!("{}-ipv{family}", self.name()));
                pools.push(pool);
            }
        }
        let members = self.hosts().map_err(refuse)?.into_iter();
        let spec = ZoneSpec {
            members: members.map(|host| ZoneMember { host: Some(host), ..ZoneMember::default() }).collect(),
            isolation: Isolation::Shared,
            gateways: self.gateways,
            composition: Some(self.cluster.name_any()),
            address_pools: pools.iter().map(kube::ResourceExt::name_any).collect(),
            ..ZoneSpec::default()
        };
        let mut zone = Zone::new("", spec);
        zone.metadata = self.metadata(&self.name());
        Ok(FabricNetwork { path: self.path.to_owned(), zone, pools })
    }

    fn name(&self) -> String {
        format!("{}-net-{}", self.cluster.name_any(), object_name(self.path))
    }

    fn metadata(&self, name: &str) -> ObjectMeta {
        let cluster = self.cluster.name_any();
        let labels = [(CLUSTER_LABEL.to_owned(), cluster.clone()), (NETWORK_OF_LABEL.to_owned(), cluster)];
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: self.cluster.namespace(),
            labels: Some(labels.into()),
            annotations: Some([(PATH_ANNOTATION.to_owned(), self.path.to_owned())].into()),
            owner_references: self.cluster.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        }
    }

    /// The hosts that are on the network: all, or those whose nodes have one of the labels.
    fn hosts(&self) -> Result<Vec<String>, String> {
        let members =
            self.cluster.status.as_ref().map(|status| status.members.as_slice()).unwrap_or_default();
        let selector = self.vlan.filter(|vlan| vlan.vlan_node_selector == "specific");
        let mut hosts = Vec::new();
        for member in members {
            let pool = self.cluster.spec.workers.iter().find(|pool| pool.name == member.pool);
            let labelled = |wanted: &String| {
                let (key, value) =
                    wanted.split_once('=').map_or((wanted.as_str(), None), |(key, value)| (key, Some(value)));
                let has = |own: &str| value.is_none_or(|value| value == own);
                match key {
                    "kubernetes.io/hostname" => has(&member.host),
                    "node-role.kubernetes.io/control-plane" => {
                        member.role == MemberRole::ControlPlane && has("")
                    }
                    key => pool.and_then(|pool| pool.labels.get(key)).is_some_and(|own| has(own)),
                }
            };
            if selector.is_none_or(|vlan| vlan.node_label_list.iter().any(labelled)) {
                hosts.push(member.host.clone());
            }
        }
        if hosts.is_empty() {
            return Err(match selector {
                Some(vlan) => format!("no host has one of the labels {}", vlan.node_label_list.join(", ")),
                None => "the cluster has no hosts yet; wait until it is ready".to_owned(),
            });
        }
        hosts.sort();
        Ok(hosts)
    }
}
