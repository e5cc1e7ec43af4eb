//! Intents as they are declared: resources of the API, and files beside them.

use std::{collections::BTreeSet, fmt::Debug, sync::Arc};

use async_trait::async_trait;
use drystone_api::{
    SYSTEM_NAMESPACE,
    emco::{
        Customization, Document, FileReference, GenericK8sIntent, InterfaceIntent, K8sResource,
        NetworkControllerIntent, WorkloadIntent,
    },
};
use drystone_appcontext::ClusterName;
use drystone_engine::reference::describe_kube_error;
use kube::{Api, Client, Resource, api::ListParams, core::NamespaceResourceScope};
use serde::de::DeserializeOwned;

use super::Intents;
use crate::{
    builtin::{
        gac::{self, Clusters, GenericCustomization, GenericIntent, GenericResource},
        interfaces::{self, NetworkIntent},
    },
    library::Library,
    model::{GroupPath, Refusal},
};

/// Files of documents, kept by their digests.
#[async_trait]
pub trait Files: Send + Sync + 'static {
    /// A file's content.
    ///
    /// # Errors
    /// Why it cannot be read.
    async fn content(&self, file: &FileReference) -> Result<Arc<[u8]>, String>;
}

/// Reads intents from the API; what is known of clusters, from the copies of their documents.
#[derive(Clone)]
pub struct DeclaredIntents {
    client: Client,
    library: Library,
    files: Arc<dyn Files>,
}

impl DeclaredIntents {
    /// Over an API, copies of what it has, and the files beside it.
    pub fn new(client: Client, library: Library, files: Arc<dyn Files>) -> Self {
        Self { client, library, files }
    }

    async fn list<K>(&self, below: &str) -> Result<Vec<K>, Refusal>
    where
        K: Document
            + Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let list = api.list(&ListParams::default()).await.map_err(|error| {
            Refusal::failed(format!("listing {}: {}", K::plural(&()), describe_kube_error(&error)))
        })?;
        let mut documents: Vec<K> =
            list.items.into_iter().filter(|document| document.path().starts_with(below)).collect();
        // Of several with one path the oldest counts.
        documents.sort_by_key(|document| {
            (
                document.path().to_owned(),
                document.meta().creation_timestamp.clone(),
                document.meta().name.clone(),
            )
        });
        documents.dedup_by(|one, other| one.path() == other.path());
        Ok(documents)
    }

    async fn expect<K>(&self, path: &str) -> Result<(), Refusal>
    where
        K: Document
            + Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        let found = self.list::<K>(path).await?.iter().any(|document| document.path() == path);
        if found { Ok(()) } else { Err(Refusal::missing(format!("{} not found: {path}", K::THING))) }
    }

    async fn content(&self, of: &str, file: &FileReference) -> Result<Arc<[u8]>, Refusal> {
        let content = self.files.content(file).await;
        content.map_err(|why| Refusal::failed(format!("{of}: its file {} cannot be read: {why}", file.name)))
    }
}

#[async_trait]
impl Intents for DeclaredIntents {
    async fn generic(&self, group: &GroupPath, name: &str) -> Result<GenericIntent, Refusal> {
        let path = format!("{}/generic-k8s-intents/{name}", group.path());
        self.expect::<GenericK8sIntent>(&path).await?;
        let below = format!("{path}/resources/");
        let (resources, customizations) =
            (self.list::<K8sResource>(&below).await?, self.list::<Customization>(&below).await?);
        let mut intent = GenericIntent::default();
        for (resource, own) in gac::declared(&path, &resources, &customizations) {
            let file = match &resource.spec.file {
                Some(file) => Some(self.content(resource.path(), file).await?),
                None => None,
            };
            let mut customizations = Vec::new();
            for customization in own {
                let mut files = Vec::new();
                for file in &customization.spec.files {
                    files.push((file.name.clone(), self.content(customization.path(), file).await?));
                }
                let name = customization.document_name().to_owned();
                customizations.push(GenericCustomization { name, spec: customization.spec, files });
            }
            let name = resource.document_name().to_owned();
            intent.resources.push(GenericResource { name, spec: resource.spec, file, customizations });
        }
        Ok(intent)
    }

    async fn network(&self, group: &GroupPath, name: &str) -> Result<NetworkIntent, Refusal> {
        let path = format!("{}/network-controller-intent/{name}", group.path());
        self.expect::<NetworkControllerIntent>(&path).await?;
        let below = format!("{path}/workload-intents/");
        let (workloads, own) =
            (self.list::<WorkloadIntent>(&below).await?, self.list::<InterfaceIntent>(&below).await?);
        Ok(interfaces::gather(&path, &workloads, &own))
    }

    async fn clusters(&self, names: &BTreeSet<ClusterName>) -> Result<Clusters, Refusal> {
        if !self.library.ready().await {
            return Err(Refusal::failed("this program is stopping"));
        }
        let mut facts = self.library.facts();
        facts.retain(|name, _| names.contains(name));
        Ok(facts)
    }
}
