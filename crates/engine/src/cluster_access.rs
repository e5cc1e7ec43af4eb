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

/// The innermost cause of an error in a kubeconfig: its first line, for an excerpt of the file may follow, and nothing that is quoted in it.
/// So it may be shown to anybody, though the file is secret.
pub fn cause(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    let told = inner.to_string();
    let first = told.lines().next().unwrap_or_default();
    let outside = first.split(['"', '\'', '`']).step_by(2);
    outside.collect::<Vec<_>>().join("…").chars().take(200).collect()
}

/// Reads a kubeconfig (YAML) that others wrote, and [`check`]s it.
///
/// # Errors
/// What is wrong with it, without anything that is secret in it.
pub fn read(text: &str) -> Result<Kubeconfig, String> {
    let config = Kubeconfig::from_yaml(text).map_err(|error| cause(&error))?;
    check(&config).map_err(str::to_owned)?;
    Ok(config)
}

/// How a cluster is spoken to by a kubeconfig that was [`read`]: nobody waits long for one that is lost, and calls are made once, for steps
/// and controllers have back-offs of their own.
///
/// # Errors
/// Why the kubeconfig cannot be used, without anything that is secret in it.
pub async fn config(kubeconfig: Kubeconfig) -> Result<kube::Config, String> {
    let options = KubeConfigOptions::default();
    let mut config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| cause(&error))?;
    config.connect_timeout = Some(std::time::Duration::from_secs(5));
    // A control plane of several hosts answers from another one when one is lost; a silent connection may lead nowhere.
    config.read_timeout = Some(std::time::Duration::from_secs(30));
    config.default_retry = false;
    Ok(config)
}

/// A client of a composed cluster's API.
///
/// # Errors
/// [`AccessError`] when there is no usable kubeconfig. Whether the API answers is seen at the first call.
pub async fn client_of(client: &Client, namespace: &str, secret: &str) -> Result<Client, AccessError> {
    let unusable = |reason: String| AccessError::Unusable { name: secret.to_owned(), reason };
    let text = kubeconfig(client, namespace, secret).await?;
    let config = config(read(&text).map_err(unusable)?).await.map_err(unusable)?;
    Client::try_from(config).map_err(|error| unusable(cause(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubeconfig(user: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters:\n- name: k\n  cluster: {{server: 'https://10.0.0.1:6443'}}\n\
             users:\n- name: u\n  user: {user}\ncontexts:\n- name: c\n  context: {{cluster: k, user: u}}\n"
        )
    }

    #[test]
    fn what_is_wrong_with_a_kubeconfig_tells_no_secret() {
        for user in [
            "{token: [secret-token]}",
            "secret-token",
            "{exec: secret-token}",
            "{token: secret-token",
            "{token: \"secret-token}",
        ] {
            let error = read(&kubeconfig(user)).unwrap_err();
            assert!(!error.contains("secret") && !error.is_empty(), "{error}");
        }
        let error = read(&kubeconfig("{tokenFile: /etc/shadow}")).unwrap_err();
        assert!(error.contains("file"), "{error}");
    }

    #[tokio::test]
    async fn calls_are_made_once_and_not_awaited_for_ever() {
        let made = config(read(&kubeconfig("{token: t}")).unwrap()).await.unwrap();
        assert!(!made.default_retry && made.connect_timeout.is_some() && made.read_timeout.is_some());
        let elsewhere = kubeconfig("{token: t}").replace("current-context: c", "current-context: x");
        assert!(config(read(&elsewhere).unwrap()).await.is_err());
    }
}
