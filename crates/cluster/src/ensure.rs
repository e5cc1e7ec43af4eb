//! Objects that a cluster needs before its first host boots: keys, the hosts' account, the pool of pod addresses, the
//! Composition. All are owned by the Cluster and made at most once or kept as declared.

use std::collections::{BTreeMap, BTreeSet};

use drystone_api::{
    AddressPool, AddressPoolPurpose, AddressPoolSpec, CLUSTER_LABEL, Cluster, Composition, GROUP,
};
use drystone_identity::Secret as Hidden;
use ipnet::IpNet;
use k8s_openapi::{
    ByteString,
    api::{
        core::v1::{Secret, ServiceAccount},
        rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject},
    },
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    bootstrap::{ClusterPki, pki::PkiError},
    model::{self, Names},
    steps::objects::MANAGER,
};

/// What could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EnsureError {
    /// The API refused or did not answer.
    #[error("{doing}: {source}")]
    Api {
        /// What was attempted.
        doing: String,
        /// Why it failed.
        source: Box<kube::Error>,
    },
    /// The keys are not usable.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

fn api_error(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> EnsureError {
    let doing = doing.into();
    move |source| EnsureError::Api { doing, source: Box::new(source) }
}

fn metadata(cluster: &Cluster, names: &Names, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(names.namespace.clone()),
        labels: Some([(CLUSTER_LABEL.to_owned(), names.cluster.clone())].into()),
        owner_references: cluster.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..Default::default()
    }
}

async fn apply<K>(client: &Client, names: &Names, object: &K) -> Result<K, EnsureError>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + Serialize
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), &names.namespace);
    let name = object.name_any();
    api.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object))
        .await
        .map_err(api_error(format!("declaring {} {name}", K::kind(&()))))
}

/// Creates a Secret if there is none; an existing one is never touched. Returns the data of the one that is there.
async fn secret_once(
    client: &Client,
    names: &Names,
    secret: Secret,
) -> Result<BTreeMap<String, ByteString>, EnsureError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &names.namespace);
    let name = secret.name_any();
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(created) => Ok(created.data.unwrap_or_default()),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let existing = secrets.get(&name).await.map_err(api_error(format!("reading Secret {name}")))?;
            Ok(existing.data.unwrap_or_default())
        }
        Err(error) => Err(api_error(format!("creating Secret {name}"))(error)),
    }
}

/// The cluster's keys; made at the first call.
///
/// # Errors
/// [`EnsureError`] when the Secret cannot be written or read.
pub async fn pki(client: &Client, cluster: &Cluster, names: &Names) -> Result<ClusterPki, EnsureError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &names.namespace);
    let name = names.pki_secret();
    let existing = secrets.get_opt(&name).await.map_err(api_error(format!("reading Secret {name}")))?;
    let data = match existing {
        Some(secret) => secret.data.unwrap_or_default(),
        None => {
            let pki = ClusterPki::generate(&names.cluster, Timestamp::now())?;
            let secret = Secret {
                metadata: metadata(cluster, names, name),
                data: Some(pki.to_secret_data()),
                ..Default::default()
            };
            secret_once(client, names, secret).await?
        }
    };
    Ok(ClusterPki::from_secret_data(&data)?)
}

/// The administrator's kubeconfig; made once the address of the control plane is known.
///
/// # Errors
/// [`EnsureError`] when the Secret cannot be written.
pub async fn kubeconfig(
    client: &Client,
    cluster: &Cluster,
    names: &Names,
    pki: &ClusterPki,
    server: &str,
    proxy_url: Option<Hidden>,
) -> Result<(), EnsureError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &names.namespace);
    let name = names.kubeconfig_secret();
    let existing = secrets.get_opt(&name).await.map_err(api_error(format!("reading Secret {name}")))?;
    let is_current =
        |secret: &Secret| secret.annotations().get(SERVER_ANNOTATION).is_some_and(|now| now == server);
    if existing.as_ref().is_some_and(is_current) {
        return Ok(());
    }
    let text = pki.admin_kubeconfig(&names.cluster, server, proxy_url, Timestamp::now())?;
    let mut metadata = metadata(cluster, names, name);
    metadata.annotations = Some([(SERVER_ANNOTATION.to_owned(), server.to_owned())].into());
    let data = [("value".to_owned(), ByteString(text.expose().as_bytes().to_vec()))].into();
    apply(client, names, &Secret { metadata, data: Some(data), ..Default::default() }).await?;
    Ok(())
}

/// Annotation on a kubeconfig Secret: the server that it was made for.
const SERVER_ANNOTATION: &str = "drystone.dev/server";

/// The account by which the cluster's hosts lease blocks of pod addresses, with the right to do just that.
///
/// # Errors
/// [`EnsureError`] when an object cannot be written.
pub async fn host_account(client: &Client, cluster: &Cluster, names: &Names) -> Result<(), EnsureError> {
    let name = names.host_account();
    let account = ServiceAccount { metadata: metadata(cluster, names, name.clone()), ..Default::default() };
    apply(client, names, &account).await?;
    let role = Role {
        metadata: metadata(cluster, names, name.clone()),
        rules: Some(vec![PolicyRule {
            api_groups: Some(vec![GROUP.to_owned()]),
            resources: Some(vec!["addresspools/blocks".to_owned()]),
            resource_names: Some(vec![names.pod_pool()]),
            verbs: vec!["update".to_owned()],
            ..Default::default()
        }]),
    };
    apply(client, names, &role).await?;
    let binding = RoleBinding {
        metadata: metadata(cluster, names, name.clone()),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "Role".to_owned(),
            name: name.clone(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name,
            namespace: Some(names.namespace.clone()),
            ..Default::default()
        }]),
    };
    apply(client, names, &binding).await?;
    Ok(())
}

/// The pool that the cluster's nodes lease blocks of pod addresses from.
///
/// # Errors
/// [`EnsureError`] when it cannot be written.
pub async fn pod_pool(client: &Client, cluster: &Cluster, names: &Names) -> Result<(), EnsureError> {
    let pods: IpNet = cluster.spec.network.pod_cidr;
    let spec = AddressPoolSpec {
        purpose: AddressPoolPurpose::Pod,
        ranges: vec![pods],
        block_prefix_length: model::pod_block_prefix(pods),
        ..Default::default()
    };
    let mut pool = AddressPool::new(&names.pod_pool(), spec);
    pool.metadata = metadata(cluster, names, names.pod_pool());
    apply(client, names, &pool).await?;
    Ok(())
}

/// The request for hosts.
///
/// # Errors
/// [`EnsureError`] when it cannot be written.
pub async fn composition(
    client: &Client,
    cluster: &Cluster,
    names: &Names,
    grown: &BTreeMap<String, u32>,
    excluded: &BTreeSet<String>,
) -> Result<Composition, EnsureError> {
    let mut composition =
        Composition::new(&names.composition(), model::composition(&cluster.spec, grown, excluded));
    composition.metadata = metadata(cluster, names, names.composition());
    apply(client, names, &composition).await
}
