//! What is known of the hosts of a namespace, gathered from the API.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use drystone_api::{
    BareMetalHost, Cluster, HostSoftware, MemberRole, OperationalStatus, PinnedSet, ProvisioningState,
    SITE_LABEL, SYSTEM_NAMESPACE, Site,
};
use drystone_engine::{
    harness::{Cache, Caches},
    reference::{ObjectKey, describe_kube_error},
};
use kube::{Api, Client, Resource, ResourceExt as _, api::ListParams};
use serde::de::DeserializeOwned;

use crate::{
    change::needs_inventory,
    inventory::Inventory,
    plan::decide::ControlPlanes,
    select::{HostFacts, selects},
};

/// The API did not answer as it should.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {}", describe_kube_error(.source))]
pub struct ApiError {
    /// What was attempted.
    pub doing: String,
    /// Why it failed.
    pub source: Box<kube::Error>,
}

/// For `map_err`.
pub fn api_error(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> ApiError {
    let doing = doing.into();
    move |source| ApiError { doing, source: Box::new(source) }
}

/// What is known of all hosts of a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The hosts, by name.
    pub hosts: Vec<HostFacts>,
    /// Control planes by cluster.
    pub control_planes: BTreeMap<String, ControlPlanes>,
    /// Hosts that are out of service: their Nodes are not ready.
    pub unavailable: BTreeSet<String>,
}

/// A host's place in a cluster.
struct Membership {
    cluster: String,
    role: MemberRole,
    ready: bool,
}

/// Copies of what is asked for again and again.
#[derive(Debug, Clone)]
pub struct Known {
    /// Hosts.
    pub hosts: Cache<BareMetalHost>,
    /// What is on them.
    pub software: Cache<HostSoftware>,
    /// Where they are.
    pub sites: Cache<Site>,
    /// What they are part of.
    pub clusters: Cache<Cluster>,
}

impl Known {
    /// The process's own copies.
    pub fn of(caches: &Caches) -> Self {
        Self { hosts: caches.of(), software: caches.of(), sites: caches.of(), clusters: caches.of() }
    }

    /// Gathers what is known of all hosts of a namespace; whether a host counts as unreachable depends on how `sets` change it.
    pub async fn gather(&self, namespace: &str, sets: &[PinnedSet]) -> Snapshot {
        // They end with the process only.
        self.hosts.ready().await;
        self.software.ready().await;
        let hosts = self.hosts.list_where(|host| host.namespace().as_deref() == Some(namespace));
        let software = |name: &str| self.software.get(&ObjectKey::new(namespace, name));
        self.put_together(namespace, sets, &hosts, software).await
    }

    /// As [`Self::gather`], with hosts and what is on them as they are now, not as the copies know them.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn gather_anew(
        &self,
        client: &Client,
        namespace: &str,
        sets: &[PinnedSet],
    ) -> Result<Snapshot, ApiError> {
        let hosts: Vec<BareMetalHost> = all(client, namespace).await?;
        let hosts: Vec<Arc<BareMetalHost>> = hosts.into_iter().map(Arc::new).collect();
        let software: Vec<HostSoftware> = all(client, namespace).await?;
        let software: HashMap<String, Arc<HostSoftware>> =
            software.into_iter().map(|software| (software.name_any(), Arc::new(software))).collect();
        Ok(self.put_together(namespace, sets, &hosts, |name| software.get(name).cloned()).await)
    }

    async fn put_together(
        &self,
        namespace: &str,
        sets: &[PinnedSet],
        hosts: &[Arc<BareMetalHost>],
        software: impl Fn(&str) -> Option<Arc<HostSoftware>>,
    ) -> Snapshot {
        self.sites.ready().await;
        self.clusters.ready().await;
        let cut_off: BTreeMap<String, String> =
            self.sites.list().iter().filter_map(|site| cut_off(site)).collect();
        let mut snapshot = Snapshot::default();
        let members = memberships(&self.clusters, namespace, &mut snapshot);
        for host in hosts {
            let name = host.name_any();
            let software = software(&name);
            let facts = of_host(host, software.as_deref(), &members, sets, &cut_off);
            if members.get(&name).is_some_and(|member| !member.ready) {
                snapshot.unavailable.insert(name);
            }
            snapshot.hosts.push(facts);
        }
        snapshot.hosts.sort_by(|a, b| a.name.cmp(&b.name));
        snapshot
    }
}

/// What is known of one host; nothing if there is no such host.
///
/// # Errors
/// [`ApiError`].
pub async fn of(
    client: &Client,
    clusters: &Cache<Cluster>,
    namespace: &str,
    host: &str,
    sets: &[PinnedSet],
) -> Result<Option<HostFacts>, ApiError> {
    let hosts: Api<BareMetalHost> = Api::namespaced(client.clone(), namespace);
    let Some(metal) = hosts.get_opt(host).await.map_err(api_error("reading the BareMetalHost"))? else {
        return Ok(None);
    };
    let software: Api<HostSoftware> = Api::namespaced(client.clone(), namespace);
    let software = software.get_opt(host).await.map_err(api_error("reading the HostSoftware"))?;
    let mut off = BTreeMap::new();
    if let Some(site) = metal.labels().get(SITE_LABEL) {
        let sites: Api<Site> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
        let site = sites.get_opt(site).await.map_err(api_error("reading the Site"))?;
        off.extend(site.as_ref().and_then(cut_off));
    }
    clusters.ready().await;
    let members = memberships(clusters, namespace, &mut Snapshot::default());
    Ok(Some(of_host(&metal, software.as_ref(), &members, sets, &off)))
}

/// All objects of a kind in a namespace.
///
/// # Errors
/// [`ApiError`].
pub async fn all<K>(client: &Client, namespace: &str) -> Result<Vec<K>, ApiError>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let listed = api.list(&ListParams::default()).await;
    listed.map(|list| list.items).map_err(api_error(format!("listing {}", K::plural(&()))))
}

/// Clusters are made of hosts of Drystone's own namespace.
fn memberships(
    clusters: &Cache<Cluster>,
    namespace: &str,
    snapshot: &mut Snapshot,
) -> BTreeMap<String, Membership> {
    let mut members = BTreeMap::new();
    if namespace != SYSTEM_NAMESPACE {
        return members;
    }
    for cluster in clusters.list() {
        let name = format!("{}/{}", cluster.namespace().unwrap_or_default(), cluster.name_any());
        for member in cluster.status.iter().flat_map(|status| &status.members) {
            if member.role == MemberRole::ControlPlane {
                let planes = snapshot.control_planes.entry(name.clone()).or_default();
                planes.members.insert(member.host.clone());
                if !member.ready {
                    planes.down.insert(member.host.clone());
                }
            }
            let membership = Membership { cluster: name.clone(), role: member.role, ready: member.ready };
            members.insert(member.host.clone(), membership);
        }
    }
    members
}

fn of_host(
    host: &BareMetalHost,
    software: Option<&HostSoftware>,
    members: &BTreeMap<String, Membership>,
    sets: &[PinnedSet],
    cut_off: &BTreeMap<String, String>,
) -> HostFacts {
    let name = host.name_any();
    let member = members.get(&name);
    let status = host.status.clone().unwrap_or_default();
    let read = software.and_then(|software| software.status.as_ref());
    let read = read.filter(|status| status.observed_at.is_some());
    let mut facts = HostFacts {
        name,
        site: host.labels().get(SITE_LABEL).cloned().unwrap_or_default(),
        labels: host.labels().clone(),
        cluster: member.map(|member| member.cluster.clone()).unwrap_or_default(),
        role: member.map(|member| member.role),
        provisioned: matches!(
            status.provisioning.state,
            ProvisioningState::Provisioned | ProvisioningState::ExternallyProvisioned
        ),
        inventory: read.map(Inventory::from_status),
        os_image: status.provisioning.image,
        unreachable: software.and_then(not_reached),
    };
    facts.unreachable = unreachable(host, &facts, sets, cut_off);
    facts
}

/// Why the last attempt to reach a host failed, if it did.
fn not_reached(software: &HostSoftware) -> Option<String> {
    let conditions = &software.status.as_ref()?.conditions;
    let reachable = conditions.iter().find(|condition| condition.type_ == REACHABLE)?;
    (reachable.status == "False").then(|| reachable.message.clone())
}

/// Condition of a HostSoftware: the host was reached the last time.
pub const REACHABLE: &str = "Reachable";

/// Condition of a HostSoftware: the host has what its sets say.
pub const CURRENT: &str = "Current";

fn cut_off(site: &Site) -> Option<(String, String)> {
    let conditions = &site.status.as_ref()?.conditions;
    let connected = conditions.iter().find(|condition| condition.type_ == "Connected")?;
    (connected.status == "False")
        .then(|| (site.name_any(), format!("site {} is cut off: {}", site.name_any(), connected.message)))
}

fn unreachable(
    host: &BareMetalHost,
    facts: &HostFacts,
    sets: &[PinnedSet],
    cut_off: &BTreeMap<String, String>,
) -> Option<String> {
    if let Some(reason) = cut_off.get(&facts.site) {
        return Some(reason.clone());
    }
    let mine = || sets.iter().filter(|set| selects(&set.selector, facts));
    let status = host.status.as_ref();
    let bmc_fails = status.filter(|status| {
        status.operational_status == OperationalStatus::Error
            && matches!(status.error_type.as_str(), "registration error" | "power management error")
    });
    if let Some(status) = bmc_fails
        && mine().any(|set| set.os_image.is_some())
    {
        return Some(format!("its BMC: {}", status.error_message));
    }
    facts.unreachable.clone().filter(|_| mine().any(needs_inventory))
}
