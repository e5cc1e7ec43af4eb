//! Reaching a composed cluster with its administrator's kubeconfig.

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    config::{KubeConfigOptions, Kubeconfig},
};

/// A cluster that cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The Secret with the kubeconfig could not be read.
    #[error("reading the kubeconfig Secret {name}: {source}")]
    Secret {
        /// The Secret.
        name: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// There is no kubeconfig yet.
    #[error("cluster has no kubeconfig yet (Secret {0})")]
    Absent(String),
    /// The kubeconfig makes no sense.
    #[error("the kubeconfig in Secret {name} is not usable: {reason}")]
    Unusable {
        /// The Secret.
        name: String,
        /// Why.
        reason: String,
    },
}

/// The administrator's kubeconfig (YAML) of a cluster.
///
/// # Errors
/// [`AccessError`] when there is none.
pub async fn kubeconfig(client: &Client, namespace: &str, secret: &str) -> Result<String, AccessError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let found = secrets
        .get_opt(secret)
        .await
        .map_err(|source| AccessError::Secret { name: secret.to_owned(), source: Box::new(source) })?;
    let bytes = found
        .and_then(|secret| secret.data)
        .and_then(|mut data| data.remove("value").or_else(|| data.remove("kubeconfig")));
    let bytes = bytes.ok_or_else(|| AccessError::Absent(secret.to_owned()))?;
    String::from_utf8(bytes.0)
        .map_err(|_| AccessError::Unusable { name: secret.to_owned(), reason: "it is not UTF-8".to_owned() })
}

/// Whether a kubeconfig that others wrote may be used here: it must neither run a program nor read a file of this machine.
///
/// # Errors
/// What is not allowed.
pub fn check(config: &Kubeconfig) -> Result<(), &'static str> {
    for user in config.auth_infos.iter().filter_map(|named| named.auth_info.as_ref()) {
        if user.exec.is_some() || user.auth_provider.is_some() {
            return Err("its user runs a program; give certificates or a token");
        }
        if user.client_key.is_some() || user.client_certificate.is_some() || user.token_file.is_some() {
            return Err("its user refers to files; embed them");
        }
    }
    let clusters = config.clusters.iter().filter_map(|named| named.cluster.as_ref());
    if clusters.into_iter().any(|cluster| cluster.certificate_authority.is_some()) {
        return Err("its cluster refers to a file; embed the certificate authority");
    }
    Ok(())
}

/// A client of a composed cluster's API.
///
/// # Errors
/// [`AccessError`] when there is no usable kubeconfig. Whether the API answers is seen at the first call.
pub async fn client_of(client: &Client, namespace: &str, secret: &str) -> Result<Client, AccessError> {
    let unusable = |reason: String| AccessError::Unusable { name: secret.to_owned(), reason };
    let text = kubeconfig(client, namespace, secret).await?;
    let parsed = Kubeconfig::from_yaml(&text).map_err(|error| unusable(error.to_string()))?;
    check(&parsed).map_err(|why| unusable(why.to_owned()))?;
    let mut config = kube::Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default())
        .await
        .map_err(|error| unusable(error.to_string()))?;
    config.connect_timeout = Some(std::time::Duration::from_secs(5));
    // A control plane of several hosts answers from another one when one is lost; a silent connection may lead nowhere.
    config.read_timeout = Some(std::time::Duration::from_secs(30));
    // Who asks has pauses of its own: an eviction that is refused (429) is to be told at once, not to be tried again unseen for minutes.
    config.default_retry = false;
    Client::try_from(config).map_err(|error| unusable(error.to_string()))
}
