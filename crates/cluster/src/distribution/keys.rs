//! SSH keys of a composed cluster: one to log in with, and a host key for each host, so that hosts are known before they boot.

use std::collections::BTreeMap;

use base64::Engine as _;
use drystone_api::{CLUSTER_LABEL, Cluster};
use drystone_identity::Secret as Hidden;
use drystone_ssh::{InvalidPrivateKey, PrivateKey};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client, Resource as _,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::model::Names;

/// Key of the private key to log in with (the key that `kubernetes.io/ssh-auth` has).
pub const LOGIN_KEY: &str = "ssh-privatekey";

/// Keys that cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The API refused or did not answer.
    #[error("the cluster's SSH keys: {0}")]
    Api(#[from] Box<kube::Error>),
    /// A key makes no sense.
    #[error("the cluster's SSH keys (Secret {secret}): {source}")]
    Key {
        /// The Secret.
        secret: String,
        /// Why.
        source: InvalidPrivateKey,
    },
}

/// Keys for one host.
#[derive(Debug)]
pub struct HostSshKeys {
    /// To log in with.
    pub login: PrivateKey,
    /// The host's own.
    pub host: PrivateKey,
    /// The same, to be written to the host.
    pub host_text: Hidden,
}

fn entry(host: &str) -> String {
    format!("host.{host}")
}

/// The keys for a host, made at the first call.
///
/// # Errors
/// [`KeysError`] when they can be neither read nor made.
pub async fn ensure(
    client: &Client,
    cluster: &Cluster,
    names: &Names,
    host: &str,
) -> Result<HostSshKeys, KeysError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &names.namespace);
    let name = names.ssh_secret();
    let invalid = |source| KeysError::Key { secret: name.clone(), source };
    let mut data = match secrets.get_opt(&name).await.map_err(Box::new)? {
        Some(secret) => secret.data.unwrap_or_default(),
        None => create(&secrets, cluster, names).await?,
    };
    if !data.contains_key(&entry(host)) {
        let key = PrivateKey::generate().and_then(|key| key.to_text()).map_err(invalid)?;
        let encoded = base64::engine::general_purpose::STANDARD.encode(key.expose());
        let patch = json!({"data": {entry(host): encoded}});
        let patched = secrets.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        data = patched.map_err(Box::new)?.data.unwrap_or_default();
    }
    let host_text = text(&data, &entry(host));
    Ok(HostSshKeys {
        login: PrivateKey::from_text(&text(&data, LOGIN_KEY), None).map_err(invalid)?,
        host: PrivateKey::from_text(&host_text, None).map_err(invalid)?,
        host_text,
    })
}

fn text(data: &BTreeMap<String, ByteString>, key: &str) -> Hidden {
    let bytes = data.get(key).and_then(|bytes| std::str::from_utf8(&bytes.0).ok());
    Hidden::new(bytes.unwrap_or_default())
}

async fn create(
    secrets: &Api<Secret>,
    cluster: &Cluster,
    names: &Names,
) -> Result<BTreeMap<String, ByteString>, KeysError> {
    let name = names.ssh_secret();
    let key = PrivateKey::generate()
        .and_then(|key| key.to_text())
        .map_err(|source| KeysError::Key { secret: name.clone(), source })?;
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some([(CLUSTER_LABEL.to_owned(), names.cluster.clone())].into()),
            owner_references: cluster.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..Default::default()
        },
        data: Some([(LOGIN_KEY.to_owned(), ByteString(key.expose().as_bytes().to_vec()))].into()),
        ..Default::default()
    };
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(created) => Ok(created.data.unwrap_or_default()),
        // Another host's step was faster.
        Err(kube::Error::Api(status)) if status.code == 409 => {
            Ok(secrets.get(&name).await.map_err(Box::new)?.data.unwrap_or_default())
        }
        Err(error) => Err(Box::new(error).into()),
    }
}
