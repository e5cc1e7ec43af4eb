//! Declares networks to the fabric manager, and hears how they fare.

use std::{collections::BTreeSet, fmt::Debug};

use drystone_api::{
    AddressPool, Cluster, ZONE_REFUSED, Zone, ZonePhase,
    emco::{Network, ProviderNetwork},
};
use drystone_engine::reference::{describe_kube_error, is_not_found};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::NamespaceResourceScope,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{FabricNetwork, NETWORK_OF_LABEL, PATH_ANNOTATION, declare};
use crate::model::Refusal;

/// How a network of a cluster fares in the fabric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarriedNetwork {
    /// Path of its document.
    pub path: String,
    /// Name of its Zone.
    pub zone: String,
    /// How far the fabric manager is.
    pub phase: ZonePhase,
    /// What it says.
    pub message: String,
    /// Whether a switch or its agent does not take it, be it for good or as things are.
    pub refused: bool,
}

impl CarriedNetwork {
    fn told(&self) -> Refusal {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        Refusal::unfit(format!(
            "network {name}: the fabric manager says of zone {}: {}",
            self.zone, self.message
        ))
    }
}

/// Networks of Drystone's clusters in the fabric. Cheap to clone.
#[derive(Clone)]
pub struct FabricNetworks {
    client: Client,
}

impl FabricNetworks {
    /// Over the API that the fabric manager watches.
    pub const fn new(client: Client) -> Self {
        Self { client }
    }

    /// Declares the networks of a cluster, and takes those back that are no longer among them. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`Refusal`]: what [`declare`] refuses, or that the API could not be asked (500).
    pub async fn apply(
        &self,
        cluster: &Cluster,
        networks: &[Network],
        provider_networks: &[ProviderNetwork],
    ) -> Result<(), Refusal> {
        let declared = declare(cluster, networks, provider_networks)?;
        for network in &declared {
            // Pools first: a zone waits for those that it names.
            for pool in &network.pools {
                self.put(cluster, pool).await?;
            }
            self.put(cluster, &network.zone).await?;
        }
        self.take_back(cluster, &declared).await.map(drop)
    }

    /// Gives the networks that a cluster has in the fabric the hosts that it has now: those that have joined since, and not those that have
    /// left. What else has changed in their documents waits until it is applied. Gives the networks whose hosts have changed.
    ///
    /// # Errors
    /// [`Refusal`]: what [`declare`] refuses, or that the API could not be asked (500).
    pub async fn follow(
        &self,
        cluster: &Cluster,
        networks: &[Network],
        provider_networks: &[ProviderNetwork],
    ) -> Result<Vec<String>, Refusal> {
        let mut there = self.list::<Zone>(cluster).await?;
        there.retain(|zone| zone.metadata.deletion_timestamp.is_none());
        if there.is_empty() {
            return Ok(Vec::new());
        }
        let mut changed = Vec::new();
        for network in declare(cluster, networks, provider_networks)? {
            let name = network.zone.name_any();
            let Some(zone) = there.iter().find(|zone| zone.name_any() == name) else { continue };
            if zone.spec.members == network.zone.spec.members {
                continue;
            }
            let patch = Patch::Merge(json!({
                "metadata": {"resourceVersion": zone.resource_version()},
                "spec": {"members": network.zone.spec.members},
            }));
            let patched = self.api::<Zone>(cluster).patch(&name, &PatchParams::default(), &patch).await;
            patched.map_err(|error| failed(&format!("changing the hosts of Zone {name}"), &error))?;
            changed.push(network.path);
        }
        Ok(changed)
    }

    /// Takes all networks of a cluster back. Gives whether all of it is gone; if not it is to be asked again.
    ///
    /// # Errors
    /// [`Refusal`] that the API could not be asked (500).
    pub async fn remove(&self, cluster: &Cluster) -> Result<bool, Refusal> {
        self.take_back(cluster, &[]).await
    }

    /// How the networks of a cluster fare.
    ///
    /// # Errors
    /// [`Refusal`] that the API could not be asked (500).
    pub async fn state(&self, cluster: &Cluster) -> Result<Vec<CarriedNetwork>, Refusal> {
        let told = |zone: Zone| {
            let current = zone
                .status
                .as_ref()
                .is_some_and(|status| status.observed_generation == zone.metadata.generation);
            let status = zone.status.clone().unwrap_or_default();
            CarriedNetwork {
                path: zone.annotations().get(PATH_ANNOTATION).cloned().unwrap_or_default(),
                zone: zone.name_any(),
                phase: match status.phase {
                    _ if zone.metadata.deletion_timestamp.is_some() => ZonePhase::Deleting,
                    // What is said of another declaration says nothing of this one.
                    _ if !current => ZonePhase::Pending,
                    phase => phase,
                },
                refused: status
                    .conditions
                    .iter()
                    .any(|known| known.type_ == "Ready" && known.reason == ZONE_REFUSED),
                message: status.message,
            }
        };
        Ok(self.list::<Zone>(cluster).await?.into_iter().map(told).collect())
    }

    /// Whether the fabric has all networks of a cluster, and their isolation is proven.
    ///
    /// # Errors
    /// [`Refusal`] with what the fabric manager says of one that it cannot carry out (422), or that the API could not be asked (500).
    pub async fn settled(&self, cluster: &Cluster) -> Result<bool, Refusal> {
        let states = self.state(cluster).await?;
        if let Some(failed) = states.iter().find(|state| state.phase == ZonePhase::Failed) {
            return Err(failed.told());
        }
        Ok(states.iter().all(|state| state.phase == ZonePhase::Ready))
    }

    /// A network of a cluster that the fabric refuses, if there is one. What may pass is tried again, so it is to be asked when that has had
    /// its time; a switch that does not answer is waited for.
    ///
    /// # Errors
    /// [`Refusal`] that the API could not be asked (500).
    pub async fn refusal(&self, cluster: &Cluster) -> Result<Option<Refusal>, Refusal> {
        let states = self.state(cluster).await?;
        Ok(states.iter().find(|state| state.refused).map(CarriedNetwork::told))
    }

    async fn take_back(&self, cluster: &Cluster, kept: &[FabricNetwork]) -> Result<bool, Refusal> {
        let zones: BTreeSet<String> = kept.iter().map(|network| network.zone.name_any()).collect();
        let pools: BTreeSet<String> =
            kept.iter().flat_map(|network| &network.pools).map(AddressPool::name_any).collect();
        let mut gone = true;
        for zone in
            self.list::<Zone>(cluster).await?.into_iter().filter(|zone| !zones.contains(&zone.name_any()))
        {
            gone = false;
            self.delete(cluster, &zone).await?;
        }
        // A pool is only given up when no zone draws from it any more.
        if !gone && self.list::<Zone>(cluster).await?.iter().any(|zone| !zones.contains(&zone.name_any())) {
            return Ok(false);
        }
        for pool in self
            .list::<AddressPool>(cluster)
            .await?
            .into_iter()
            .filter(|pool| !pools.contains(&pool.name_any()))
        {
            self.delete(cluster, &pool).await?;
        }
        Ok(true)
    }

    fn api<K>(&self, cluster: &Cluster) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &cluster.namespace().unwrap_or_default())
    }

    async fn list<K>(&self, cluster: &Cluster) -> Result<Vec<K>, Refusal>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let own = ListParams::default().labels(&format!("{NETWORK_OF_LABEL}={}", cluster.name_any()));
        let list =
            self.api::<K>(cluster).list(&own).await.map_err(|error| failed("listing networks", &error))?;
        // Whoever answers without knowing selectors answers with too much.
        let own = |object: &K| object.labels().get(NETWORK_OF_LABEL) == Some(&cluster.name_any());
        Ok(list.items.into_iter().filter(own).collect())
    }

    async fn delete<K>(&self, cluster: &Cluster, object: &K) -> Result<(), Refusal>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        match self.api::<K>(cluster).delete(&object.name_any(), &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(failed(&format!("deleting {} {}", K::kind(&()), object.name_any()), &error)),
        }
    }

    /// Makes an object, or gives it the specification that it should have.
    async fn put<K>(&self, cluster: &Cluster, object: &K) -> Result<(), Refusal>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Serialize
            + Debug,
    {
        let (api, name) = (self.api::<K>(cluster), object.name_any());
        let doing = format!("declaring {} {name}", K::kind(&()));
        let there = api.get_opt(&name).await.map_err(|error| failed(&doing, &error))?;
        let Some(there) = there else {
            return api
                .create(&PostParams::default(), object)
                .await
                .map(drop)
                .map_err(|error| failed(&doing, &error));
        };
        if there.labels().get(NETWORK_OF_LABEL) != Some(&cluster.name_any()) {
            let message =
                format!("{} {name} is there already and not a network's; remove or rename it", K::kind(&()));
            return Err(Refusal::state(message));
        }
        let wanted =
            serde_json::to_value(object).map_err(|error| Refusal::failed(format!("{doing}: {error}")))?;
        let present =
            serde_json::to_value(&there).map_err(|error| Refusal::failed(format!("{doing}: {error}")))?;
        let change = difference(&present["spec"], &wanted["spec"]);
        if change.as_object().is_some_and(serde_json::Map::is_empty) {
            return Ok(());
        }
        let patch = Patch::Merge(json!({"spec": change}));
        api.patch(&name, &PatchParams::default(), &patch)
            .await
            .map(drop)
            .map_err(|error| failed(&doing, &error))
    }
}

/// A merge patch from one flat specification to another: what is missing is taken away.
fn difference(present: &Value, wanted: &Value) -> Value {
    let empty = serde_json::Map::new();
    let (present, wanted) = (present.as_object().unwrap_or(&empty), wanted.as_object().unwrap_or(&empty));
    let mut change = serde_json::Map::new();
    for key in present.keys().filter(|key| !wanted.contains_key(*key)) {
        change.insert(key.clone(), Value::Null);
    }
    for (key, value) in wanted.iter().filter(|(key, value)| present.get(*key) != Some(value)) {
        change.insert(key.clone(), value.clone());
    }
    Value::Object(change)
}

fn failed(doing: &str, error: &kube::Error) -> Refusal {
    Refusal::failed(format!("{doing}: {}", describe_kube_error(error)))
}
