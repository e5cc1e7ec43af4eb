//! Documents as controllers and steps look at them: copies that watches keep current.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use drystone_api::{
    SYSTEM_NAMESPACE,
    emco::{
        App, AppDependency, AppIntent, Cluster, ClusterKeyValues, ClusterLabel, ClusterQuota,
        ClusterReference, Controller, DeploymentIntentGroup, Document, GroupIntent, LifecycleOperation,
        LogicalCloud, Network, Profile, ProviderNetwork, UserPermission,
    },
};
use drystone_appcontext::ClusterName;
use drystone_engine::{
    harness::{Cache, Caches, Guarded, WatchedObject},
    reference::ObjectKey,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, ObjectList},
};
use serde_json::Value;

use crate::{
    model::{
        CloudPath, ClusterFacts, Deployment, Documents, GroupPath, Refusal, cluster_of, cluster_path, gather,
    },
    plan::placement::Clusters,
};

/// Copies of the documents. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Library {
    /// Deployment intent groups.
    pub groups: Cache<DeploymentIntentGroup>,
    /// Logical clouds.
    pub clouds: Cache<LogicalCloud>,
    /// Clusters of logical clouds.
    pub references: Cache<ClusterReference>,
    /// What their users may do.
    pub permissions: Cache<UserPermission>,
    /// What they may use.
    pub quotas: Cache<ClusterQuota>,
    /// Clusters.
    pub clusters: Cache<Cluster>,
    /// Networks.
    pub networks: Cache<Network>,
    /// Provider networks.
    pub provider_networks: Cache<ProviderNetwork>,
    /// Facts about clusters.
    pub key_values: Cache<ClusterKeyValues>,
    /// Registered controllers.
    pub controllers: Cache<Controller>,
    /// What is done.
    pub operations: Cache<LifecycleOperation>,
    labels: Cache<ClusterLabel>,
    apps: Cache<App>,
    dependencies: Cache<AppDependency>,
    profiles: Cache<Profile>,
    intents: Cache<GroupIntent>,
    app_intents: Cache<AppIntent>,
}

impl Library {
    /// The copies of a process. Must be called inside a Tokio runtime.
    pub fn of(caches: &Caches) -> Self {
        Self {
            groups: caches.of(),
            clouds: caches.of(),
            references: caches.of(),
            permissions: caches.of(),
            quotas: caches.of(),
            clusters: caches.of(),
            networks: caches.of(),
            provider_networks: caches.of(),
            key_values: caches.of(),
            controllers: caches.of(),
            operations: caches.of(),
            labels: caches.of(),
            apps: caches.of(),
            dependencies: caches.of(),
            profiles: caches.of(),
            intents: caches.of(),
            app_intents: caches.of(),
        }
    }

    /// Completes when all copies are complete; `false` if the process ends before.
    pub async fn ready(&self) -> bool {
        self.groups.ready().await
            && self.clouds.ready().await
            && self.references.ready().await
            && self.permissions.ready().await
            && self.quotas.ready().await
            && self.clusters.ready().await
            && self.networks.ready().await
            && self.provider_networks.ready().await
            && self.key_values.ready().await
            && self.controllers.ready().await
            && self.operations.ready().await
            && self.labels.ready().await
            && self.apps.ready().await
            && self.dependencies.ready().await
            && self.profiles.ready().await
            && self.intents.ready().await
            && self.app_intents.ready().await
    }

    /// Completes when the copies have everything that the API has now: what was declared before an operation counts for it.
    ///
    /// # Errors
    /// The API does not answer, or a watch is interrupted for long.
    pub async fn caught_up(&self, client: &Client) -> Result<(), CatchUpError> {
        futures::try_join!(
            catch_up(client, &self.groups),
            catch_up(client, &self.clouds),
            catch_up(client, &self.references),
            catch_up(client, &self.permissions),
            catch_up(client, &self.quotas),
            catch_up(client, &self.clusters),
            catch_up(client, &self.networks),
            catch_up(client, &self.provider_networks),
            catch_up(client, &self.key_values),
            catch_up(client, &self.controllers),
            catch_up(client, &self.labels),
            catch_up(client, &self.apps),
            catch_up(client, &self.dependencies),
            catch_up(client, &self.profiles),
            catch_up(client, &self.intents),
            catch_up(client, &self.app_intents),
        )
        .map(drop)
    }

    /// The group at a path.
    ///
    /// # Errors
    /// There is none (404).
    pub fn group(&self, path: &GroupPath) -> Result<Arc<DeploymentIntentGroup>, Refusal> {
        at(&self.groups, &path.path()).ok_or_else(|| missing::<DeploymentIntentGroup>(&path.name))
    }

    /// The logical cloud at a path.
    ///
    /// # Errors
    /// There is none (404).
    pub fn cloud(&self, path: &CloudPath) -> Result<Arc<LogicalCloud>, Refusal> {
        at(&self.clouds, &path.path()).ok_or_else(|| missing::<LogicalCloud>(&path.name))
    }

    /// The document of a cluster.
    ///
    /// # Errors
    /// There is none (404).
    pub fn cluster(&self, name: &ClusterName) -> Result<Arc<Cluster>, Refusal> {
        at(&self.clusters, &cluster_path(name)).ok_or_else(|| missing::<Cluster>(&name.to_string()))
    }

    /// The registered controller of a name.
    pub fn controller(&self, name: &str) -> Option<Arc<Controller>> {
        at(&self.controllers, &format!("controllers/{name}"))
    }

    /// All that belongs to the deployment at a path.
    ///
    /// # Errors
    /// Something that is needed is missing or makes no sense; see [`gather`].
    pub fn deployment(&self, path: &GroupPath) -> Result<Deployment, Refusal> {
        let group = self.group(path)?;
        let app = format!("{}/", path.app_path());
        let own = format!("{}/", path.path());
        let documents = Documents {
            apps: below(&self.apps, &app),
            dependencies: below(&self.dependencies, &app),
            profiles: below(&self.profiles, &app),
            intents: below(&self.intents, &own),
            app_intents: below(&self.app_intents, &own),
        };
        gather(path, &group, &documents)
    }

    /// Clusters of a logical cloud.
    pub fn references_of(&self, cloud: &CloudPath) -> Vec<Arc<ClusterReference>> {
        below(&self.references, &format!("{}/cluster-references/", cloud.path()))
    }

    /// Permissions of a logical cloud.
    pub fn permissions_of(&self, cloud: &CloudPath) -> Vec<Arc<UserPermission>> {
        below(&self.permissions, &format!("{}/user-permissions/", cloud.path()))
    }

    /// Quotas of a logical cloud.
    pub fn quotas_of(&self, cloud: &CloudPath) -> Vec<Arc<ClusterQuota>> {
        below(&self.quotas, &format!("{}/cluster-quotas/", cloud.path()))
    }

    /// Labels whose paths begin so.
    pub fn labels_below(&self, prefix: &str) -> Vec<Arc<ClusterLabel>> {
        self.labels.list_where(|label| is_here(label) && label.path().starts_with(prefix))
    }

    /// Networks of a cluster.
    pub fn networks_of(&self, cluster: &ClusterName) -> (Vec<Network>, Vec<ProviderNetwork>) {
        let path = cluster_path(cluster);
        let networks = below(&self.networks, &format!("{path}/networks/"));
        let provider_networks = below(&self.provider_networks, &format!("{path}/provider-networks/"));
        (
            networks.into_iter().map(Arc::unwrap_or_clone).collect(),
            provider_networks.into_iter().map(Arc::unwrap_or_clone).collect(),
        )
    }

    /// What is known of every cluster, but its room.
    pub fn facts(&self) -> Clusters {
        let mut found = Clusters::new();
        for cluster in first_of_each(self.clusters.list_where(is_here)) {
            let Some(name) = cluster_of(cluster.path()) else { continue };
            let mut facts = ClusterFacts::named(name.clone());
            facts.reachability =
                cluster.status.as_ref().map(|status| status.connectivity).unwrap_or_default();
            found.insert(name, facts);
        }
        for label in self.labels.list_where(is_here) {
            if let Some((cluster, name)) = label.path().split_once("/labels/")
                && let Some(facts) = cluster_of(cluster).and_then(|cluster| found.get_mut(&cluster))
            {
                facts.labels.insert(name.to_owned());
            }
        }
        for values in self.key_values.list_where(is_here) {
            let cluster = values.path().split_once("/kv-pairs/").and_then(|(cluster, _)| cluster_of(cluster));
            if let Some(facts) = cluster.and_then(|cluster| found.get_mut(&cluster)) {
                let pairs = values.spec.kv.iter().flatten();
                facts.values.extend(pairs.map(|(key, value)| (key.clone(), text(value))));
            }
        }
        found
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

fn missing<K: Document>(name: &str) -> Refusal {
    Refusal::missing(format!("{} {name} not found", K::THING))
}

fn is_here<K: kube::Resource>(document: &K) -> bool {
    document.meta().namespace.as_deref() == Some(SYSTEM_NAMESPACE)
}

/// Of several documents with one path, the oldest counts.
fn at<K: Document + WatchedObject>(cache: &Cache<K>, path: &str) -> Option<Arc<K>> {
    let key = ObjectKey::new(SYSTEM_NAMESPACE, drystone_api::emco::object_name(path));
    // The usual name first, so that not all need be looked through; one that is older may have another name, which is rare.
    let usual = cache.get(&key).filter(|document| document.path() == path);
    usual.or_else(|| oldest(cache.list_where(|document: &K| is_here(document) && document.path() == path)))
}

fn oldest<K: Document>(mut documents: Vec<Arc<K>>) -> Option<Arc<K>> {
    documents.sort_by_key(|document| {
        (document.meta().creation_timestamp.clone().map(|time| time.0), document.name_any())
    });
    documents.into_iter().next()
}

fn below<K: Document + WatchedObject>(cache: &Cache<K>, prefix: &str) -> Vec<Arc<K>> {
    first_of_each(cache.list_where(|document: &K| is_here(document) && document.path().starts_with(prefix)))
}

/// One document of each path: the oldest. Ordered by path.
fn first_of_each<K: Document>(documents: Vec<Arc<K>>) -> Vec<Arc<K>> {
    let mut by_path: BTreeMap<String, Vec<Arc<K>>> = BTreeMap::new();
    for document in documents {
        by_path.entry(document.path().to_owned()).or_default().push(document);
    }
    by_path.into_values().filter_map(oldest).collect()
}

/// Why copies did not catch up.
#[derive(Debug, thiserror::Error)]
pub enum CatchUpError {
    /// The API does not answer.
    #[error("{}", drystone_engine::reference::describe_kube_error(.0))]
    Api(#[from] kube::Error),
    /// The watch is interrupted; it is taken up again.
    #[error("the copies of {0} are behind what the API has; it is tried again")]
    Behind(String),
}

/// How long a copy may be behind.
const BEHIND: Duration = Duration::from_secs(10);

/// How often, and after which pauses, it is looked whether a copy has what was listed, before that is listed again.
const LOOKS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(5);

fn version<K: kube::Resource>(object: &K) -> u64 {
    object.resource_version().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// What the API has of a kind.
struct Listed {
    /// Each with its version, and whether it can be read.
    objects: BTreeMap<ObjectKey, (u64, bool)>,
    /// The version of the whole.
    version: u64,
}

impl Listed {
    fn of<T: kube::Resource + Clone>(list: &ObjectList<T>, can_be_read: impl Fn(&T) -> bool) -> Self {
        let told = |object: &T| (ObjectKey::of(object), (version(object), can_be_read(object)));
        let whole = list.metadata.resource_version.as_ref().and_then(|version| version.parse().ok());
        Self { objects: list.iter().map(told).collect(), version: whole.unwrap_or(0) }
    }

    fn is_in<K: WatchedObject>(&self, cache: &Cache<K>) -> bool {
        let here = cache.list_where(is_here);
        let known: BTreeMap<ObjectKey, u64> =
            here.iter().map(|object| (ObjectKey::of(object.as_ref()), version(object.as_ref()))).collect();
        let has = self.objects.iter().all(|(key, (version, can_be_read))| match known.get(key) {
            Some(known) => known >= version,
            // Copies leave out what cannot be read.
            None => !can_be_read,
        });
        // What was deleted before is gone; what was made since may be there.
        has && known.iter().all(|(key, version)| self.objects.contains_key(key) || *version > self.version)
    }

    /// Waits a while for a copy to have it; whether it has.
    async fn comes_into<K: WatchedObject>(&self, cache: &Cache<K>) -> bool {
        for _ in 0..LOOKS {
            if self.is_in(cache) {
                return true;
            }
            tokio::time::sleep(PAUSE).await;
        }
        false
    }
}

/// Waits until a copy has what the API has now. Versions are numbers that grow, with the embedded store and with etcd.
async fn catch_up<K>(client: &Client, cache: &Cache<K>) -> Result<(), CatchUpError>
where
    K: WatchedObject + kube::Resource<Scope = kube::core::NamespaceResourceScope>,
{
    let everything = ListParams::default();
    // Names and versions are all that is compared.
    let names: Api<K> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let mut listed = Listed::of(&names.list_metadata(&everything).await?, |_| true);
    // On the heap: many kinds are waited for at one time.
    let waited = Box::pin(async {
        while !listed.comes_into(cache).await {
            // It may have been deleted since, or be what cannot be read: neither ever comes into the copy.
            let whole: Api<Guarded<K>> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
            listed = Listed::of(&whole.list(&everything).await?, |object| object.valid().is_some());
        }
        Ok::<(), CatchUpError>(())
    });
    let behind = |_| CatchUpError::Behind(K::plural(&()).into_owned());
    tokio::time::timeout(BEHIND, waited).await.map_err(behind)?
}

#[cfg(test)]
mod tests {
    use drystone_api::emco::ClusterSpec;
    use drystone_engine::fake_api::FakeApi;
    use kube::{Resource as _, api::PostParams};
    use serde_json::json;
    use tokio_util::sync::{CancellationToken, DropGuard};

    use super::*;

    async fn put(api: &FakeApi, name: &str) {
        let clusters: Api<Cluster> = Api::namespaced(api.client(), SYSTEM_NAMESPACE);
        let cluster = Cluster::new(name, ClusterSpec { path: name.to_owned(), ..ClusterSpec::default() });
        clusters.create(&PostParams::default(), &cluster).await.unwrap();
    }

    fn path_of(name: &str) -> String {
        format!("{}/{name}", Cluster::url_path(&(), Some(SYSTEM_NAMESPACE)))
    }

    async fn copy_of(api: &FakeApi) -> (Cache<Cluster>, DropGuard) {
        let stop = CancellationToken::new();
        let cache: Cache<Cluster> = Caches::new(api.client(), stop.clone()).of();
        assert!(cache.ready().await);
        (cache, stop.drop_guard())
    }

    async fn caught_up(api: &FakeApi, cache: &Cache<Cluster>) -> Result<(), CatchUpError> {
        let client = api.client();
        Box::pin(catch_up(&client, cache)).await
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_read_is_not_waited_for() {
        let api = FakeApi::new();
        put(&api, "good").await;
        put(&api, "bad").await;
        let (cache, _stop) = copy_of(&api).await;
        api.meddle(&path_of("bad"), |cluster| cluster["spec"] = json!({"path": 7}));
        caught_up(&api, &cache).await.unwrap();
        let known = cache.list();
        assert_eq!(known.iter().map(|cluster| cluster.spec.path.as_str()).collect::<Vec<_>>(), ["good"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_that_has_what_was_deleted_is_behind() {
        let api = FakeApi::new();
        put(&api, "first").await;
        put(&api, "last").await;
        let (cache, _stop) = copy_of(&api).await;
        api.remove_unnoticed(&path_of("last"));
        let behind = caught_up(&api, &cache).await;
        assert!(matches!(behind, Err(CatchUpError::Behind(_))), "{behind:?}");
        api.expire_watches();
        caught_up(&api, &cache).await.unwrap();
        assert_eq!(cache.list().len(), 1);
    }
}
