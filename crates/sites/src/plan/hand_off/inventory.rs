//! Which hosts of a site are there for an orchestrator, and what it is told of them.

use std::collections::{BTreeMap, BTreeSet};

use drystone_api::{
    BareMetalHost, Cluster, ClusterMember, CredentialsReference, GROUP, HardwareDetails, MemberRole,
    ProvisioningState, RACK_LABEL, Site, SiteBmc,
};
use kube::ResourceExt as _;
use serde::Serialize;

use super::{
    claim::is_claimed,
    document::{DocumentCluster, HardwareSummary, HostDetails, NicSummary, ObjectName},
};

/// Addresses and network interfaces of one host that are told.
const MOST_OF_A_KIND: usize = 64;

/// What there is to be told of a site.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Inventory {
    /// Its cluster.
    pub cluster: Option<DocumentCluster>,
    /// Secret with the kubeconfig of the cluster.
    pub kubeconfig: Option<CredentialsReference>,
    /// The hosts that are there for the orchestrator, by name.
    pub hosts: BTreeMap<String, HostDetails>,
    /// Hosts of the list that are not.
    #[serde(skip)]
    pub waiting: Vec<String>,
}

/// Takes stock. `hosts` are the site's, `cluster` is what was made of its list. `known` are the hosts that the orchestrator knows: they do not
/// leave it because their node is not ready for a while.
pub fn inventory(
    site: &Site,
    hosts: &[impl AsRef<BareMetalHost>],
    cluster: Option<&Cluster>,
    known: &[String],
) -> Inventory {
    let by_name: BTreeMap<String, &BareMetalHost> =
        hosts.iter().map(AsRef::as_ref).map(|host| (host.name_any(), host)).collect();
    let known: BTreeSet<&str> = known.iter().map(String::as_str).collect();
    // A cluster that goes, or that is of a list no more, is of no use to anybody.
    let has_cluster = site.spec.cluster.is_some();
    let cluster = cluster.filter(|cluster| has_cluster && cluster.metadata.deletion_timestamp.is_none());
    let status = cluster.and_then(|cluster| cluster.status.as_ref());
    let mut inventory = Inventory::default();
    for bmc in &site.spec.bmcs {
        let host = by_name.get(&bmc.name).copied().filter(|host| has_operating_system(host));
        // Without a cluster of the site's own, whoever composed a host has it.
        let host =
            host.filter(|host| has_cluster || host.spec.consumer_ref.is_none() || is_claimed(host, site));
        let member = status.and_then(|status| status.members.iter().find(|member| member.host == bmc.name));
        let joined =
            !has_cluster || member.is_some_and(|member| member.ready || known.contains(bmc.name.as_str()));
        match host.filter(|_| joined) {
            Some(host) => {
                inventory.hosts.insert(bmc.name.clone(), details(bmc, host, member));
            }
            None => inventory.waiting.push(bmc.name.clone()),
        }
    }
    if let Some(cluster) = cluster {
        let namespace = cluster.namespace().unwrap_or_default();
        let secret = status.map(|status| status.kubeconfig_secret.clone()).filter(|name| !name.is_empty());
        inventory.kubeconfig = secret.map(|name| CredentialsReference { namespace: namespace.clone(), name });
        inventory.cluster = Some(DocumentCluster {
            object: ObjectName { namespace, name: cluster.name_any() },
            endpoint: status.map(|status| status.endpoint.clone()).unwrap_or_default(),
        });
    }
    inventory
}

/// A host keeps its operating system whatever else is amiss with it, unless it is to lose it.
fn has_operating_system(host: &BareMetalHost) -> bool {
    let state = host.status.as_ref().map(|status| status.provisioning.state).unwrap_or_default();
    let installed =
        matches!(state, ProvisioningState::Provisioned | ProvisioningState::ExternallyProvisioned);
    installed && host.metadata.deletion_timestamp.is_none()
}

fn details(bmc: &SiteBmc, host: &BareMetalHost, member: Option<&ClusterMember>) -> HostDetails {
    let hardware = host.status.as_ref().and_then(|status| status.hardware.as_ref());
    // A spare that has taken somebody's place is what that one was.
    let role = match member.map(|member| member.role) {
        Some(MemberRole::ControlPlane) => "control-plane",
        Some(MemberRole::Worker) => "worker",
        None => bmc.role.label(),
    };
    let of_cluster = member.map(|member| member.address.clone()).into_iter();
    let of_nics = hardware.into_iter().flat_map(|hardware| hardware.nics.iter().map(|nic| nic.ip.clone()));
    let mut addresses: Vec<String> = Vec::new();
    for address in of_cluster.chain(of_nics).filter(|address| !address.is_empty()) {
        if !addresses.contains(&address) && addresses.len() < MOST_OF_A_KIND {
            addresses.push(address);
        }
    }
    let labels = host.labels().iter().filter(|(key, _)| is_users(key));
    HostDetails {
        role: role.to_owned(),
        addresses,
        labels: labels.map(|(key, value)| (key.clone(), value.clone())).collect(),
        hardware: hardware.map(summary),
    }
}

fn is_users(label: &str) -> bool {
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    label == RACK_LABEL || (domain != GROUP && !domain.ends_with(&format!(".{GROUP}")))
}

fn summary(hardware: &HardwareDetails) -> HardwareSummary {
    let nics = hardware.nics.iter().take(MOST_OF_A_KIND);
    HardwareSummary {
        manufacturer: hardware.system_vendor.manufacturer.clone(),
        product_name: hardware.system_vendor.product_name.clone(),
        serial_number: hardware.system_vendor.serial_number.clone(),
        architecture: hardware.cpu.arch.clone(),
        cpus: hardware.cpu.count,
        memory_mebibytes: hardware.ram_mebibytes,
        storage_bytes: hardware.storage.iter().fold(0, |sum, disk| sum.saturating_add(disk.size_bytes)),
        nics: nics
            .map(|nic| NicSummary {
                name: nic.name.clone(),
                mac: nic.mac.clone(),
                speed_gbps: nic.speed_gbps,
            })
            .collect(),
    }
}
