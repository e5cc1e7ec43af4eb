//! How clusters are reached, and as whom.

use async_trait::async_trait;
use drystone_api::{
    Cluster as ComposedCluster, SYSTEM_NAMESPACE,
    emco::{Cluster, ClusterReference, Document as _, KUBECONFIG_KEY},
};
use drystone_appcontext::ClusterName;
use drystone_engine::{
    cluster_access,
    harness::{Cache, Caches},
    reference::{ObjectKey, OwnSecret, describe_kube_error},
};
use drystone_synchroniser::{Access, AccessError, Clusters, Identity};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, Resource, ResourceExt as _, config::Kubeconfig};

use crate::{library::Library, model::CloudPath};

/// Ways to clusters, by their documents and Secrets. Cheap to clone.
#[derive(Clone)]
pub struct ClusterAccess {
    client: Client,
    library: Library,
    composed: Cache<ComposedCluster>,
}

impl std::fmt::Debug for ClusterAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterAccess").finish_non_exhaustive()
    }
}

impl ClusterAccess {
    /// Must be called inside a Tokio runtime.
    pub fn new(client: Client, caches: &Caches) -> Self {
        Self { client, library: Library::of(caches), composed: caches.of() }
    }

    /// The administrator's kubeconfig of a cluster.
    ///
    /// # Errors
    /// There is no such cluster, or no kubeconfig of it yet.
    pub async fn kubeconfig(&self, name: &ClusterName) -> Result<Kubeconfig, AccessError> {
        let cluster = self.library.cluster(name).map_err(|refusal| AccessError::None(refusal.message))?;
        let text = match &cluster.spec.drystone_cluster {
            Some(composed) => {
                let key = ObjectKey::new(&composed.namespace, &composed.name);
                let found = self.composed.get(&key).and_then(|cluster| cluster.status.clone());
                let secret = found.map(|status| status.kubeconfig_secret).unwrap_or_default();
                if secret.is_empty() {
                    return Err(AccessError::NotNow(format!("cluster {key} has no kubeconfig yet")));
                }
                cluster_access::kubeconfig(&self.client, &composed.namespace, &secret)
                    .await
                    .map_err(|error| AccessError::NotNow(error.to_string()))?
            }
            None if cluster.spec.git_ops.is_some() => {
                return Err(AccessError::None(format!(
                    "cluster {name} is delivered to by way of a Git repository, which is not supported"
                )));
            }
            None => self.secret::<Cluster>(&cluster.name_any()).await?,
        };
        read(&text, name)
    }

    /// The kubeconfig of a logical cloud's user at a cluster. `user` names the cloud; where it names no project or no namespace, any counts.
    ///
    /// # Errors
    /// It is not in such a cloud, or has no kubeconfig yet.
    pub async fn user_kubeconfig(
        &self,
        name: &ClusterName,
        user: &Identity,
    ) -> Result<Kubeconfig, AccessError> {
        let Identity { project, logical_cloud, namespace, .. } = user;
        for cloud in self.library.clouds.list() {
            let is_meant = |path: &CloudPath| {
                path.name == *logical_cloud
                    && (project.is_empty() || path.project == *project)
                    && (namespace.is_empty() || cloud.spec.namespace == *namespace)
            };
            let Some(path) = CloudPath::parse(cloud.path()).filter(is_meant) else { continue };
            let references = self.library.references_of(&path);
            let reference = references.iter().find(|reference| {
                reference.spec.cluster_provider == name.provider && reference.spec.cluster == name.cluster
            });
            if let Some(reference) = reference {
                return read(&self.secret::<ClusterReference>(&reference.name_any()).await?, name);
            }
        }
        Err(AccessError::None(format!(
            "cluster {name} is not in logical cloud {logical_cloud} of project {project:?} with namespace {namespace:?}"
        )))
    }

    /// The kubeconfig of the object of that name.
    async fn secret<K: Resource<DynamicType = ()>>(&self, name: &str) -> Result<String, AccessError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let failed = |error: kube::Error| AccessError::NotNow(describe_kube_error(&error));
        let found = api.get_opt(name).await.map_err(failed)?;
        // An object that was made with `kubectl` may have any name.
        let own = OwnSecret::of::<K>(name, KUBECONFIG_KEY);
        if found.as_ref().is_some_and(|secret| own.is_foreign(secret)) {
            return Err(AccessError::None(format!(
                "Secret {name} in {SYSTEM_NAMESPACE} belongs to something else; give the object another name"
            )));
        }
        let bytes = found.and_then(|secret| secret.data).and_then(|mut data| data.remove(KUBECONFIG_KEY));
        let bytes = bytes.ok_or_else(|| {
            AccessError::NotNow(format!("there is no kubeconfig yet (Secret {name}, key {KUBECONFIG_KEY})"))
        })?;
        String::from_utf8(bytes.0)
            .map_err(|_| AccessError::None(format!("the kubeconfig in Secret {name} is not UTF-8")))
    }

    /// A client of a cluster's API, as its administrator.
    ///
    /// # Errors
    /// There is no way to it.
    pub async fn client(&self, name: &ClusterName) -> Result<Client, AccessError> {
        let config = usable(self.kubeconfig(name).await?, name).await?;
        Client::try_from(config)
            .map_err(|error| AccessError::None(format!("cluster {name}: {}", cluster_access::cause(&error))))
    }
}

fn read(text: &str, name: &ClusterName) -> Result<Kubeconfig, AccessError> {
    cluster_access::read(text).map_err(|why| unusable(name, &why))
}

async fn usable(config: Kubeconfig, name: &ClusterName) -> Result<kube::Config, AccessError> {
    cluster_access::config(config).await.map_err(|why| unusable(name, &why))
}

fn unusable(name: &ClusterName, why: &str) -> AccessError {
    AccessError::None(format!("the kubeconfig of cluster {name} is not usable: {why}"))
}

#[async_trait]
impl Clusters for ClusterAccess {
    async fn connect(&self, cluster: &ClusterName, identity: &Identity) -> Result<Access, AccessError> {
        // After a restart, work goes on before the copies are complete.
        if !self.library.ready().await || !self.composed.ready().await {
            return Err(AccessError::NotNow("this program is stopping".to_owned()));
        }
        let config = if identity.is_administrator() {
            self.kubeconfig(cluster).await?
        } else {
            self.user_kubeconfig(cluster, identity).await?
        };
        let config = usable(config, cluster).await?;
        Ok(Access::Config { config: Box::new(config), plain_http2: false })
    }
}
