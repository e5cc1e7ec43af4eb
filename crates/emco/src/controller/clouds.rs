//! Logical clouds: when a cluster has signed the user's request, its certificate becomes a kubeconfig; and what is deleted is taken back.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use drystone_api::{
    SYSTEM_NAMESPACE,
    emco::{ClusterReference, Document as _, KUBECONFIG_KEY, LogicalCloud, object_name},
};
use drystone_appcontext::{AppContext, AppContextError, ClusterName, model::LOGICAL_CLOUD_APP};
use drystone_engine::{
    harness::{Reconciler, Requeue, has_finalizer, is_deleted, remove_finalizer},
    reference::{OwnSecret, is_not_found, owner_reference, reference_to},
};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::{Value, json};

use super::{FINALIZER, Failure, finalizers::Ends};
use crate::{
    clusters::ClusterAccess,
    logical_cloud::{KEY, user_config, user_key},
    model::{CloudPath, History, State},
};

/// How often it is looked whether certificates have been issued.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// See [`super::run`].
pub(super) struct Clouds {
    pub(super) ends: Ends,
    pub(super) access: ClusterAccess,
}

impl Reconciler for Clouds {
    type Object = LogicalCloud;
    type Error = Failure;

    const NAME: &'static str = "emco-logical-cloud";

    async fn reconcile(&self, cloud: Arc<LogicalCloud>) -> Result<Requeue, Failure> {
        let Some(path) = CloudPath::parse(cloud.path()) else { return Ok(Requeue::OnChange) };
        let status = cloud.status.clone().unwrap_or_default();
        if is_deleted(cloud.as_ref()) {
            return self.end(&cloud, &path).await;
        }
        let history = History::from(&status.state_info[..]);
        match history.state() {
            State::Instantiated if cloud.spec.level != "0" => self.credentials(&cloud, &path, &history).await,
            State::Terminated if cloud.spec.level != "0" => {
                self.forget(&path).await?;
                Ok(Requeue::OnChange)
            }
            _ => Ok(Requeue::OnChange),
        }
    }
}

impl Clouds {
    async fn end(&self, cloud: &LogicalCloud, path: &CloudPath) -> Result<Requeue, Failure> {
        if !has_finalizer(cloud, FINALIZER) {
            return Ok(Requeue::OnChange);
        }
        let status = cloud.status.clone().unwrap_or_default();
        if !self.ends.end(&status.state_info).await? {
            return Ok(Requeue::After(LOOK_AGAIN));
        }
        self.forget(path).await?;
        self.delete_secret(&OwnSecret::of::<LogicalCloud>(&object_name(&path.path()), KEY)).await?;
        let api: Api<LogicalCloud> = Api::namespaced(self.ends.client.clone(), SYSTEM_NAMESPACE);
        remove_finalizer(&api, cloud, FINALIZER).await?;
        Ok(Requeue::OnChange)
    }

    /// Kubeconfigs go with what they were for.
    async fn forget(&self, path: &CloudPath) -> Result<(), Failure> {
        for reference in self.ends.dependencies.library.references_of(path) {
            let name = reference.name_any();
            self.delete_secret(&OwnSecret::of::<ClusterReference>(&name, KUBECONFIG_KEY)).await?;
        }
        Ok(())
    }

    /// Deletes an object's Secret. One that has to do with something else stays: an object that was made with `kubectl` may have any name.
    async fn delete_secret(&self, own: &OwnSecret<'_>) -> Result<(), Failure> {
        let api: Api<Secret> = Api::namespaced(self.ends.client.clone(), SYSTEM_NAMESPACE);
        let Some(secret) = api.get_opt(own.name).await? else { return Ok(()) };
        if own.is_foreign(&secret) {
            return Ok(());
        }
        let preconditions = Some(Preconditions { uid: secret.metadata.uid, resource_version: None });
        match api.delete(own.name, &DeleteParams { preconditions, ..DeleteParams::default() }).await {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the kubeconfigs that are missing, of those clusters that have issued a certificate.
    async fn credentials(
        &self,
        cloud: &LogicalCloud,
        path: &CloudPath,
        history: &History,
    ) -> Result<Requeue, Failure> {
        let Some(context) = history.context() else { return Ok(Requeue::OnChange) };
        let api: Api<Secret> = Api::namespaced(self.ends.client.clone(), SYSTEM_NAMESPACE);
        let mut missing = Vec::new();
        for reference in self.ends.dependencies.library.references_of(path) {
            let name = reference.name_any();
            let own = OwnSecret::of::<ClusterReference>(&name, KUBECONFIG_KEY);
            let has = api.get_opt(&name).await?.is_some_and(|secret| {
                !own.is_foreign(&secret) && secret.data.is_some_and(|data| data.contains_key(KUBECONFIG_KEY))
            });
            if !has {
                missing.push(reference);
            }
        }
        if missing.is_empty() {
            return Ok(Requeue::OnChange);
        }
        let loaded = match self.ends.dependencies.contexts.load(context).await {
            Ok(loaded) => loaded,
            Err(AppContextError::NotFound(_)) => return Ok(Requeue::OnChange),
            Err(error) => return Err(error.into()),
        };
        let carrier = match loaded.sync.status_context.filter(|carrier| *carrier != context) {
            Some(carrier) => self.ends.dependencies.contexts.load(carrier).await.ok(),
            None => None,
        };
        let key =
            user_key(&self.ends.client, path).await.map_err(|error| Failure::Other(error.to_string()))?;
        let mut failed = None;
        for reference in missing {
            let cluster = ClusterName::new(&reference.spec.cluster_provider, &reference.spec.cluster);
            let issued = certificate(&loaded, &cluster)
                .or_else(|| carrier.as_ref().and_then(|carrier| certificate(carrier, &cluster)));
            if let Some(certificate) = issued {
                let kept =
                    self.keep(cloud, &reference, &cluster, (&certificate, key.to_pem().expose())).await;
                // The others are made all the same.
                failed = failed.or(kept.err());
            }
        }
        failed.map_or(Ok(Requeue::After(LOOK_AGAIN)), Err)
    }

    async fn keep(
        &self,
        cloud: &LogicalCloud,
        reference: &ClusterReference,
        cluster: &ClusterName,
        credentials: (&str, &str),
    ) -> Result<(), Failure> {
        let admin =
            self.access.kubeconfig(cluster).await.map_err(|error| Failure::Other(error.to_string()))?;
        let user = &cloud.spec.user.user_name;
        let namespace = &cloud.spec.namespace;
        let name = reference.document_name();
        let address = &reference.spec.load_balancer_ip;
        let unusable = || Failure::Other(format!("the kubeconfig of cluster {cluster} names no cluster"));
        let config = user_config(&admin, user, name, namespace, address, credentials).ok_or_else(unusable)?;
        let text = serde_saphyr::to_string(&config).map_err(|error| Failure::Other(error.to_string()))?;
        let mut secret = Secret {
            data: Some(BTreeMap::from([(KUBECONFIG_KEY.to_owned(), ByteString(text.into_bytes()))])),
            ..Secret::default()
        };
        let name = reference.name_any();
        secret.metadata.name = Some(name.clone());
        secret.metadata.owner_references = Some(vec![owner_reference(&reference_to(reference))]);
        let api: Api<Secret> = Api::namespaced(self.ends.client.clone(), SYSTEM_NAMESPACE);
        let Some(there) = api.get_opt(&name).await? else {
            // Whoever was quicker is looked at the next time.
            api.create(&PostParams::default(), &secret).await?;
            return Ok(());
        };
        if OwnSecret::of::<ClusterReference>(&name, KUBECONFIG_KEY).is_foreign(&there) {
            return Err(Failure::Other(format!(
                "Secret {name} in {SYSTEM_NAMESPACE} belongs to something else: the kubeconfig of cluster reference {} is not kept; give the ClusterReference another name",
                reference.path()
            )));
        }
        // Unless it is another one by now.
        let metadata = json!({"resourceVersion": there.metadata.resource_version});
        let patch = Patch::Merge(json!({"metadata": metadata, "data": secret.data}));
        api.patch(&name, &PatchParams::default(), &patch).await?;
        Ok(())
    }
}

/// The certificate that a cluster has issued: as the synchroniser tells of the objects there.
fn certificate(context: &AppContext, cluster: &ClusterName) -> Option<String> {
    let part = context.part(LOGICAL_CLOUD_APP, cluster)?;
    let bundle = part.status.as_deref().and_then(|status| serde_json::from_str::<Value>(status).ok());
    let of_bundle = bundle.and_then(|bundle| {
        let requests = bundle.get("csrStatuses")?.as_array()?;
        requests.iter().find_map(|request| request["status"]["certificate"].as_str().map(ToOwned::to_owned))
    });
    let of_definition = || {
        let resource = part.resources.iter().find(|(name, _)| name.kind() == "CertificateSigningRequest")?.1;
        let object: Value = serde_json::from_str(resource.definition.as_deref()?).ok()?;
        object["status"]["certificate"].as_str().map(ToOwned::to_owned)
    };
    let encoded = of_bundle.or_else(of_definition)?;
    String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
}
