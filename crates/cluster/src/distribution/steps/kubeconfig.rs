//! The administrator's kubeconfig, from the first control plane into the cluster's Secret.

use std::time::Duration;

use drystone_api::{BareMetalHost, CLUSTER_LABEL, Cluster, Distribution, SITE_LABEL, SYSTEM_NAMESPACE};
use drystone_engine::action::{Action, StepContext, StepError};
use drystone_identity::Secret as Hidden;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{ObjectMeta, Patch, PatchParams},
    config::Kubeconfig,
};
use serde::{Deserialize, Serialize};

use super::{
    super::{
        is_listed,
        kubeadm::ADMIN_CONF,
        reach::{self, failure},
        script,
    },
    parameters::InstallParameters,
};
use crate::{
    access::check,
    gateway::Gateway,
    model::Names,
    steps::objects::{MANAGER, subject},
};

/// Largest kubeconfig.
const MAX_BYTES: usize = 256 * 1024;

/// How long the host may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Fetches the administrator's kubeconfig.
pub struct FetchKubeconfig;

/// What is known of the cluster afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// URL of the API server.
    pub server: String,
}

impl Action for FetchKubeconfig {
    const NAME: &'static str = "cluster.fetch-kubeconfig";
    type Parameters = InstallParameters;
    type Output = Endpoint;

    async fn run(&self, context: &StepContext, parameters: InstallParameters) -> Result<Endpoint, StepError> {
        let (cluster, names) = subject(context).await?;
        let host = reach::connect(context, &cluster, &names, &parameters.host, LIMIT).await?;
        let settings = script::settings(&cluster.spec);
        let path = match cluster.spec.distribution {
            Distribution::Script => script::admin_conf(&settings),
            _ => ADMIN_CONF,
        };
        let read = host.session.read_file(path, MAX_BYTES, host.privilege.clone(), LIMIT).await;
        let bytes = read.map_err(|error| failure(&error))?.ok_or_else(|| {
            StepError::permanent(format!(
                "host {} has no {path}; the installer must leave the administrator's kubeconfig there",
                parameters.host
            ))
        })?;
        let unusable = |why: &str| {
            StepError::permanent(format!("{path} of host {} is not usable: {why}", parameters.host))
        };
        let text = std::str::from_utf8(&bytes).map(Hidden::new).map_err(|_| unusable("it is not UTF-8"))?;
        let proxy = proxy(context, &cluster, &parameters.host).await?;
        // The parser's own words might quote the file.
        let (text, server) = adapt(&text, proxy.as_ref()).map_err(unusable)?;
        write(context, &cluster, &names, &text).await?;
        Ok(Endpoint { server })
    }
}

/// The proxy by which the cluster is reached from here.
async fn proxy(context: &StepContext, cluster: &Cluster, host: &str) -> Result<Option<Hidden>, StepError> {
    let client = context.client().clone();
    let site = if is_listed(&cluster.spec) {
        cluster.spec.site.clone()
    } else {
        let hosts: Api<BareMetalHost> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
        let found = hosts.get_opt(host).await;
        let found = found.map_err(|error| StepError::from_kube("reading the BareMetalHost", &error))?;
        found.and_then(|host| host.labels().get(SITE_LABEL).cloned())
    };
    let Some(site) = site else { return Ok(None) };
    let gateway = Gateway::of_site(&client, &site).await;
    let gateway = gateway.map_err(|error| StepError::from_kube("reading the site's gateway", &error))?;
    Ok(gateway.map(|gateway| gateway.url_with_credentials()))
}

/// Checks a kubeconfig and leads it by way of the proxy. Returns it with the URL of the server.
fn adapt(text: &Hidden, proxy: Option<&Hidden>) -> Result<(Hidden, String), &'static str> {
    let mut config = Kubeconfig::from_yaml(text.expose()).map_err(|_| "it is no kubeconfig")?;
    let mut server = None;
    for cluster in config.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
        if let Some(proxy) = proxy {
            cluster.proxy_url = Some(proxy.expose().to_owned());
        }
        server = server.or_else(|| cluster.server.clone());
    }
    let server = server.ok_or("it names no server")?;
    check(&config)?;
    let text = serde_saphyr::to_string(&config).map_err(|_| "it cannot be written anew")?;
    Ok((Hidden::new(text), server))
}

async fn write(
    context: &StepContext,
    cluster: &Cluster,
    names: &Names,
    text: &Hidden,
) -> Result<(), StepError> {
    let secrets: Api<Secret> = Api::namespaced(context.client().clone(), &names.namespace);
    let name = names.kubeconfig_secret();
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(names.namespace.clone()),
            labels: Some([(CLUSTER_LABEL.to_owned(), names.cluster.clone())].into()),
            owner_references: cluster.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..Default::default()
        },
        data: Some([("value".to_owned(), ByteString(text.expose().as_bytes().to_vec()))].into()),
        ..Default::default()
    };
    let patched = secrets.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&secret)).await;
    patched.map(drop).map_err(|error| StepError::from_kube("writing the kubeconfig Secret", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "apiVersion: v1\nkind: Config\nclusters:\n- name: c\n  cluster: {server: 'https://10.0.0.1:6443', certificate-authority-data: QQ==}\n\
                        users:\n- name: u\n  user: {client-certificate-data: QQ==, client-key-data: QQ==}\n\
                        contexts:\n- name: x\n  context: {cluster: c, user: u}\ncurrent-context: x\n";

    #[test]
    fn a_kubeconfig_is_led_by_way_of_the_proxy() {
        let (text, server) = adapt(&TEXT.into(), Some(&"http://u:p@g:1".into())).expect("usable");
        assert_eq!(server, "https://10.0.0.1:6443");
        let read = Kubeconfig::from_yaml(text.expose()).expect("a kubeconfig");
        let cluster = read.clusters[0].cluster.clone().expect("there");
        assert_eq!(cluster.proxy_url.as_deref(), Some("http://u:p@g:1"));
        assert_eq!(read.current_context.as_deref(), Some("x"));
        assert!(read.auth_infos[0].auth_info.as_ref().expect("there").client_key_data.is_some());
    }

    #[test]
    fn programs_and_files_are_refused() {
        let exec = TEXT.replace(
            "client-key-data: QQ==",
            "exec: {apiVersion: client.authentication.k8s.io/v1, command: sh}",
        );
        assert!(adapt(&exec.into(), None).expect_err("refused").contains("runs a program"));
        let file = TEXT.replace("client-key-data: QQ==", "client-key: /etc/shadow");
        assert!(adapt(&file.into(), None).expect_err("refused").contains("refers to files"));
        assert!(adapt(&"{}".into(), None).is_err());
        assert!(adapt(&"[".into(), None).is_err());
    }
}
