//! Clusters that Drystone made become clusters that applications can be deployed to.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use drystone_api::{
    Cluster as ComposedCluster, ClusterPhase, SYSTEM_NAMESPACE,
    emco::{
        Cluster, ClusterKeyValues, ClusterKeyValuesSpec, ClusterLabel, ClusterLabelSpec, ClusterProvider,
        ClusterProviderSpec, ClusterSpec, DRYSTONE_PROVIDER, Document, DrystoneCluster, is_name, object_name,
    },
};
use drystone_appcontext::ClusterName;
use drystone_engine::{
    harness::{Reconciler, Requeue, add_finalizer, is_deleted, remove_finalizer},
    reference::{describe_kube_error, is_conflict, is_not_found},
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    core::NamespaceResourceScope,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    builtin::fabric::FabricNetworks,
    library::Library,
    model::{Refusal, cluster_path},
};

/// Annotation of a cluster: labels that it has for placement, with commas between them.
pub const LABELS_ANNOTATION: &str = "emco.drystone.dev/labels";

/// Finalizer of composed clusters: what was onboarded goes with them.
const FINALIZER: &str = "emco.drystone.dev/onboarded";

/// Name of the document with a cluster's labels as key-value pairs.
const FACTS: &str = "drystone";

/// The name under which a cluster that Drystone made is known.
pub fn onboarded_name(namespace: &str, name: &str) -> String {
    format!("{namespace}.{name}")
}

/// Keeps documents of the clusters that Drystone made.
pub struct Onboarding {
    /// Client of the API.
    pub client: Client,
    /// Documents.
    pub library: Library,
}

/// Why a cluster was not onboarded, or what is not as it should be with it.
#[derive(Debug, thiserror::Error)]
pub enum OnboardingError {
    /// Documents cannot be written.
    #[error("{}", describe_kube_error(.0))]
    Api(#[from] kube::Error),
    /// Its networks cannot have the hosts that it has now.
    #[error("its networks do not have its present hosts: {0}")]
    Networks(Refusal),
}

impl Reconciler for Onboarding {
    type Object = ComposedCluster;
    type Error = OnboardingError;

    const NAME: &'static str = "emco-onboarding";

    async fn reconcile(&self, composed: Arc<ComposedCluster>) -> Result<Requeue, OnboardingError> {
        let namespace = composed.namespace().unwrap_or_default();
        let name = ClusterName::new(DRYSTONE_PROVIDER, onboarded_name(&namespace, &composed.name_any()));
        let api: Api<ComposedCluster> = Api::namespaced(self.client.clone(), &namespace);
        if is_deleted(composed.as_ref()) {
            self.forget(&name).await?;
            remove_finalizer(&api, composed.as_ref(), FINALIZER).await?;
            return Ok(Requeue::OnChange);
        }
        let phase = composed.status.as_ref().map(|status| status.phase).unwrap_or_default();
        let is_up = matches!(phase, ClusterPhase::Ready | ClusterPhase::Resizing | ClusterPhase::Degraded);
        // What cannot be named as EMCO names things cannot be deployed to; it is a cluster all the same.
        if !is_up || !is_name(&name.cluster) {
            return Ok(Requeue::OnChange);
        }
        add_finalizer(&api, composed.as_ref(), FINALIZER).await?;
        self.declare(&name, &composed, &namespace).await?;
        self.follow_networks(&name, &composed).await.map_err(OnboardingError::Networks)?;
        // Whoever deletes the documents gets them again, after a while.
        Ok(Requeue::After(Duration::from_secs(300)))
    }
}

impl Onboarding {
    async fn declare(
        &self,
        name: &ClusterName,
        composed: &ComposedCluster,
        namespace: &str,
    ) -> Result<(), OnboardingError> {
        let provider = format!("cluster-providers/{DRYSTONE_PROVIDER}");
        let spec = ClusterProviderSpec {
            path: provider.clone(),
            description: "clusters that Drystone made".to_owned(),
            ..ClusterProviderSpec::default()
        };
        self.create(&ClusterProvider::new(&object_name(&provider), spec)).await?;
        let path = cluster_path(name);
        let spec = ClusterSpec {
            path: path.clone(),
            description: format!("cluster {} in namespace {namespace}", composed.name_any()),
            drystone_cluster: Some(DrystoneCluster {
                namespace: namespace.to_owned(),
                name: composed.name_any(),
            }),
            ..ClusterSpec::default()
        };
        self.create(&Cluster::new(&object_name(&path), spec)).await?;
        let facts = facts(composed);
        let kv_path = format!("{path}/kv-pairs/{FACTS}");
        let pair = |(key, value): (&String, &String)| {
            let value = Value::String(value.clone());
            serde_json::Map::from_iter([(key.clone(), value)])
        };
        let kv: Vec<_> = facts.iter().map(pair).collect();
        let spec = ClusterKeyValuesSpec { path: kv_path.clone(), kv, ..ClusterKeyValuesSpec::default() };
        self.put(&ClusterKeyValues::new(&object_name(&kv_path), spec)).await?;
        let labels = labels(composed);
        for label in &labels {
            let path = format!("{path}/labels/{label}");
            let spec = ClusterLabelSpec { path: path.clone(), ..ClusterLabelSpec::default() };
            let mut label = ClusterLabel::new(&object_name(&path), spec);
            label.annotations_mut().insert(FINALIZER.to_owned(), "true".to_owned());
            self.create(&label).await?;
        }
        self.forget_labels(&path, &labels).await
    }

    /// Networks that were applied have the hosts that their cluster has.
    async fn follow_networks(&self, name: &ClusterName, composed: &ComposedCluster) -> Result<(), Refusal> {
        let (networks, provider_networks) = self.library.networks_of(name);
        let fabric = FabricNetworks::new(self.client.clone());
        for path in fabric.follow(composed, &networks, &provider_networks).await? {
            tracing::info!(path, "the network has the hosts that its cluster has now");
        }
        Ok(())
    }

    /// Deletes labels that this once made and that the cluster does not have any more. Those that others gave it stay.
    async fn forget_labels(&self, cluster: &str, wanted: &[String]) -> Result<(), OnboardingError> {
        let below = format!("{cluster}/labels/");
        for label in self.library.labels_below(&below) {
            let ours = label.annotations().contains_key(FINALIZER);
            if ours && !wanted.iter().any(|wanted| wanted == label.document_name()) {
                self.delete::<ClusterLabel>(&label.name_any()).await?;
            }
        }
        Ok(())
    }

    async fn forget(&self, name: &ClusterName) -> Result<(), OnboardingError> {
        let path = cluster_path(name);
        for label in self.library.labels_below(&format!("{path}/labels/")) {
            self.delete::<ClusterLabel>(&label.name_any()).await?;
        }
        self.delete::<ClusterKeyValues>(&object_name(&format!("{path}/kv-pairs/{FACTS}"))).await?;
        self.delete::<Cluster>(&object_name(&path)).await
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE)
    }

    async fn create<K>(&self, document: &K) -> Result<(), OnboardingError>
    where
        K: Document + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + Serialize + DeserializeOwned + std::fmt::Debug,
    {
        match self.api::<K>().create(&PostParams::default(), document).await {
            Ok(_) => Ok(()),
            Err(error) if is_conflict(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Creates a document, or replaces its specification.
    async fn put<K>(&self, document: &K) -> Result<(), OnboardingError>
    where
        K: Document + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + Serialize + DeserializeOwned + std::fmt::Debug,
    {
        let api = self.api::<K>();
        match api.create(&PostParams::default(), document).await {
            Ok(_) => return Ok(()),
            Err(error) if is_conflict(&error) => {}
            Err(error) => return Err(error.into()),
        }
        let whole = serde_json::to_value(document).unwrap_or_default();
        let patch = json!({"spec": whole["spec"]});
        api.patch(&document.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    async fn delete<K>(&self, name: &str) -> Result<(), OnboardingError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + DeserializeOwned + std::fmt::Debug,
    {
        match self.api::<K>().delete(name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// What is known of a cluster, as key-value pairs: its labels, its purpose and its site.
fn facts(composed: &ComposedCluster) -> BTreeMap<String, String> {
    let mut facts = composed.labels().clone();
    facts.insert("purpose".to_owned(), format!("{:?}", composed.spec.purpose));
    if let Some(site) = &composed.spec.site {
        facts.insert("site".to_owned(), site.clone());
    }
    facts
}

/// Labels for placement intents: those of the annotation, and each of the cluster's own as `key-value`, or as `key` where it has no value
/// or the value `true`; of a key with a prefix, what follows that.
fn labels(composed: &ComposedCluster) -> Vec<String> {
    let given = composed.annotations().get(LABELS_ANNOTATION).map(String::as_str).unwrap_or_default();
    let mut found: Vec<String> = given.split(',').map(|label| label.trim().to_owned()).collect();
    found.extend(composed.labels().iter().map(|(key, value)| {
        let key = key.rsplit_once('/').map_or(key.as_str(), |(_, name)| name);
        if value.is_empty() || value == "true" { key.to_owned() } else { format!("{key}-{value}") }
    }));
    found.retain(|label| is_name(label));
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_names_of_emco() {
        let mut composed = ComposedCluster::new("edge", drystone_api::ClusterSpec::default());
        for (key, value) in [("topology.kubernetes.io/zone", "a"), ("gpu", "true"), ("x", "wrong value")] {
            composed.labels_mut().insert(key.to_owned(), value.to_owned());
        }
        composed.annotations_mut().insert(LABELS_ANNOTATION.to_owned(), "edge, gpu,,no way".to_owned());
        assert_eq!(labels(&composed), ["edge", "gpu", "zone-a"]);
        assert_eq!(facts(&composed).get("topology.kubernetes.io/zone").map(String::as_str), Some("a"));
        assert!(is_name(&onboarded_name("research", "edge-1")));
    }
}
