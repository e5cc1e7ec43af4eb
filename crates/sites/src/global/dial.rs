//! The way to a local controller.

use std::{future::Future, pin::Pin, time::Duration};

use kube::{
    Client, Config,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig},
};

/// How long it may take until a connection stands.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// A client, or why there is none.
pub type Dialled<'a> = Pin<Box<dyn Future<Output = Result<Client, Unusable>> + Send + 'a>>;

/// Makes clients of local controllers.
pub trait Dial: Send + Sync {
    /// A client for a kubeconfig; nothing is sent yet.
    fn dial<'a>(&'a self, kubeconfig: &'a str) -> Dialled<'a>;
}

/// A kubeconfig that is not used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(pub String);

/// As the kubeconfig says.
#[derive(Debug, Clone, Copy, Default)]
pub struct ByKubeconfig;

impl Dial for ByKubeconfig {
    fn dial<'a>(&'a self, kubeconfig: &'a str) -> Dialled<'a> {
        Box::pin(async move {
            let unusable =
                |error: &dyn std::fmt::Display| Unusable(format!("the kubeconfig is not usable: {error}"));
            let parsed = Kubeconfig::from_yaml(kubeconfig).map_err(|error| unusable(&error))?;
            check(&parsed)?;
            let mut config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default())
                .await
                .map_err(|error| unusable(&error))?;
            config.connect_timeout = Some(CONNECT_LIMIT);
            // A link has a back-off of its own.
            config.default_retry = false;
            Client::try_from(config).map_err(|error| unusable(&error))
        })
    }
}

/// A kubeconfig in a Secret is written by whoever may write Secrets: it may neither start programs nor name files of this machine.
fn check(kubeconfig: &Kubeconfig) -> Result<(), Unusable> {
    let refused = |what: &str| Unusable(format!("the kubeconfig {what}; write the data itself into it"));
    for cluster in kubeconfig.clusters.iter().filter_map(|named| named.cluster.as_ref()) {
        if cluster.certificate_authority.is_some() {
            return Err(refused("names a file in `certificate-authority`"));
        }
        if cluster.insecure_skip_tls_verify == Some(true) {
            return Err(Unusable(
                "the kubeconfig says `insecure-skip-tls-verify`: anybody could pose as the site".to_owned(),
            ));
        }
    }
    for user in kubeconfig.auth_infos.iter().filter_map(|named| named.auth_info.as_ref()) {
        let AuthInfo { exec, auth_provider, token_file, client_certificate, client_key, .. } = user;
        if exec.is_some() || auth_provider.is_some() {
            return Err(refused("starts a program to get credentials"));
        }
        if token_file.is_some() || client_certificate.is_some() || client_key.is_some() {
            return Err(refused("names files with credentials"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(cluster: &str, user: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
             clusters: [{{name: k, cluster: {{server: 'https://127.0.0.1:1', {cluster}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n"
        )
    }

    #[tokio::test]
    async fn a_kubeconfig_starts_no_program_and_names_no_file() {
        for (cluster, user, why) in [
            ("", "exec: {apiVersion: client.authentication.k8s.io/v1, command: sh}", "starts a program"),
            ("", "tokenFile: /etc/shadow", "names files"),
            ("certificate-authority: /etc/shadow", "token: x", "names a file"),
            ("insecure-skip-tls-verify: true", "token: x", "insecure-skip-tls-verify"),
        ] {
            let error = ByKubeconfig.dial(&config(cluster, user)).await.err().map(|error| error.to_string());
            assert!(error.as_ref().is_some_and(|error| error.contains(why)), "{error:?}");
        }
        assert!(ByKubeconfig.dial("{").await.is_err());
    }
}
