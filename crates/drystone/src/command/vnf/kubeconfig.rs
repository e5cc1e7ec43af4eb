//! `drystone vnf kubeconfig VIM`.

use clap::Args;
use drystone_api::{
    SYSTEM_NAMESPACE,
    nfv::{Vim, VimType},
};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use serde_json::{Value, json};

use super::Failure;
use crate::{
    cli::Access,
    command::{client, site},
};

/// Arguments.
#[derive(Debug, Args)]
pub(super) struct KubeconfigArgs {
    /// The VIM that the cluster is registered as: `vim_name` of its request
    vim: String,
    #[command(flatten)]
    access: Access,
}

/// Prints it: the address, authority and administrator that the cluster is registered with.
pub(super) async fn run(args: KubeconfigArgs) -> Result<(), Failure> {
    let client = client(&args.access).await?;
    let vims = Api::<Vim>::namespaced(client.clone(), SYSTEM_NAMESPACE).list(&ListParams::default()).await?;
    let is_meant = |vim: &Vim| vim.spec.name == args.vim || vim.name_any() == args.vim;
    let vim = vims.items.into_iter().find(is_meant).ok_or_else(|| format!("there is no VIM {}", args.vim))?;
    if vim.spec.kind != VimType::Kubernetes {
        return Err(format!("VIM {} is no Kubernetes cluster", args.vim).into());
    }
    let token = token(&client, &vim.spec.credentials).await?;
    let proxy = match &vim.spec.gateway {
        Some(gateway) => Some(site::proxy_of(&client, gateway).await?.to_string()),
        None => None,
    };
    print!("{}", serde_saphyr::to_string(&kubeconfig(&vim, &token, proxy))?);
    Ok(())
}

async fn token(client: &Client, secret: &str) -> Result<String, Failure> {
    let found = Api::<Secret>::namespaced(client.clone(), SYSTEM_NAMESPACE).get(secret).await?;
    let data = found.data.unwrap_or_default();
    let token = data.get("bearer_token").ok_or_else(|| {
        format!("Secret {SYSTEM_NAMESPACE}/{secret} has no bearer_token, which is the only way in that this command knows")
    })?;
    Ok(String::from_utf8(token.0.clone())?)
}

fn kubeconfig(vim: &Vim, token: &str, proxy: Option<String>) -> Value {
    let name = &vim.spec.name;
    let mut cluster = json!({"server": vim.spec.auth_url});
    if vim.spec.skip_certificate_verification {
        cluster["insecure-skip-tls-verify"] = json!(true);
    } else if let Some(authority) = &vim.spec.certificate_authority {
        use base64::Engine as _;
        let encoded = base64::engine::general_purpose::STANDARD.encode(authority);
        cluster["certificate-authority-data"] = json!(encoded);
    }
    if let Some(proxy) = proxy {
        cluster["proxy-url"] = json!(proxy);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    })
}

#[cfg(test)]
mod tests {
    use drystone_api::nfv::VimSpec;

    use super::*;

    #[test]
    fn it_leads_through_the_gateway_and_checks_whom_it_meets() {
        let spec = VimSpec {
            name: "kubernetes_vim".into(),
            auth_url: "https://10.10.0.5:6443".into(),
            certificate_authority: Some("PEM".into()),
            ..VimSpec::default()
        };
        let made = kubeconfig(&Vim::new("cluster-of-vnf", spec), "secret", Some("http://u:p@x/".into()));
        let read = kube::config::Kubeconfig::from_yaml(&serde_saphyr::to_string(&made).unwrap()).unwrap();
        let cluster = read.clusters[0].cluster.clone().unwrap();
        assert_eq!(cluster.server.as_deref(), Some("https://10.10.0.5:6443"));
        assert_eq!(cluster.proxy_url.as_deref(), Some("http://u:p@x/"));
        assert_eq!(cluster.certificate_authority_data.as_deref(), Some("UEVN"));
        assert_eq!(cluster.insecure_skip_tls_verify, None);
        assert_eq!(read.current_context.as_deref(), Some("kubernetes_vim"));
    }
}
