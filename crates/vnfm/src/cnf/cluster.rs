//! The Kubernetes of a VNF: reached with what its VIM says, asked for objects of any kind.

use drystone_api::{SYSTEM_NAMESPACE, Site};
use drystone_engine::{
    action::{StepContext, StepError},
    reference::describe_kube_error,
};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{
        DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, Preconditions,
        PropagationPolicy,
    },
    config::{KubeConfigOptions, Kubeconfig},
    discovery::{self, Scope},
    runtime::wait::await_condition,
};
use serde_json::{Value, json};

use super::{INSTANCE_LABEL, manifests::Resource};
use crate::steps::{Access, OnKubernetes, VimError};

/// Most namespaces that are told of a VIM.
const MAX_NAMESPACES: u32 = 500;

/// Who writes objects.
const MANAGER: &str = "drystone-vnfm";

/// A Kubernetes.
pub(super) struct Cluster {
    client: Client,
    /// What the step works with.
    pub(super) ground: OnKubernetes,
}

/// A kubeconfig for a VIM; it holds what is secret.
pub(super) fn kubeconfig(access: &Access, proxy: Option<&str>) -> Result<Value, StepError> {
    let text = |object: &serde_json::Map<String, Value>, names: &[&str]| {
        let found = names.iter().find_map(|name| object.get(*name).and_then(Value::as_str));
        found.map(str::to_owned).filter(|text| !text.is_empty())
    };
    let info = &access.info;
    let endpoint = text(&info.interface_info, &["endpoint"])
        .or_else(|| text(&info.access_info, &["authUrl", "auth_url"]))
        .ok_or_else(|| StepError::permanent("the VIM connection has no interfaceInfo.endpoint"))?;
    let mut cluster = json!({"server": endpoint});
    let authority = access
        .certificate_authority
        .clone()
        .or_else(|| text(&info.interface_info, &["ssl_ca_cert", "sslCaCert"]));
    if let Some(pem) = authority {
        use base64::Engine as _;
        cluster["certificate-authority-data"] = base64::engine::general_purpose::STANDARD.encode(pem).into();
    }
    if let Some(proxy) = proxy {
        cluster["proxy-url"] = proxy.into();
    }
    let secret = |names: &[&str]| text(&access.secrets, names).or_else(|| text(&info.access_info, names));
    let user = match (secret(&["bearer_token", "bearerToken"]), secret(&["username"]), secret(&["password"]))
    {
        (Some(token), _, _) => json!({"token": token}),
        (None, Some(username), Some(password)) => json!({"username": username, "password": password}),
        _ => {
            return Err(StepError::permanent(
                "the VIM connection has neither bearer_token nor username and password",
            ));
        }
    };
    Ok(json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "vim",
        "clusters": [{"name": "vim", "cluster": cluster}],
        "users": [{"name": "vim", "user": user}],
        "contexts": [{"name": "vim", "context": {"cluster": "vim", "user": "vim"}}],
    }))
}

/// The proxy of a site, if it is given and has one, with its credentials in the URL.
pub(super) async fn proxy_of(client: &Client, site: Option<&str>) -> Result<Option<String>, StepError> {
    match site {
        Some(site) => proxy(client, site).await,
        None => Ok(None),
    }
}

async fn proxy(client: &Client, site: &str) -> Result<Option<String>, StepError> {
    let failed = |error: kube::Error| StepError::from_kube("reading the site's gateway", &error);
    let sites: Api<Site> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let gateway = sites.get_opt(site).await.map_err(failed)?.and_then(|site| site.spec.gateway);
    let Some(gateway) = gateway.filter(|gateway| !gateway.proxy_url.is_empty()) else { return Ok(None) };
    if gateway.proxy_credentials_name.is_empty() {
        return Ok(Some(gateway.proxy_url));
    }
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let secret = secrets.get(&gateway.proxy_credentials_name).await.map_err(failed)?;
    let data = secret.data.unwrap_or_default();
    let text = |key: &str| {
        let bytes = data.get(key).map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned());
        escaped(&bytes.unwrap_or_default())
    };
    let credentials = format!("://{}:{}@", text("username"), text("password"));
    Ok(Some(gateway.proxy_url.replacen("://", &credentials, 1)))
}

/// Escapes what may not stand in the user part of a URL (RFC 3986, section 3.2.1).
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(escape).collect()
}

/// A client of a VIM's API.
async fn client_of(access: &Access, proxy: Option<&str>) -> Result<Client, StepError> {
    let config = kubeconfig(access, proxy)?;
    // The error would quote what is secret.
    let config: Kubeconfig = serde_json::from_value(config)
        .map_err(|_| StepError::permanent("the VIM connection makes no kubeconfig"))?;
    let unusable = |why: String| StepError::permanent(format!("the VIM connection is not usable: {why}"));
    let mut config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
        .await
        .map_err(|error| unusable(error.to_string()))?;
    config.connect_timeout = Some(std::time::Duration::from_secs(5));
    config.read_timeout = Some(std::time::Duration::from_secs(60));
    // Steps are repeated by the engine, which tells why.
    config.default_retry = false;
    Client::try_from(config).map_err(|error| unusable(error.to_string()))
}

/// Whether a VIM lets us in: the names of its namespaces.
///
/// # Errors
/// It does not.
pub async fn namespaces(
    client: &Client,
    access: &Access,
    site: Option<&str>,
) -> Result<Vec<String>, VimError> {
    let vim = async {
        let proxy = proxy_of(client, site).await?;
        client_of(access, proxy.as_deref()).await
    };
    let vim = vim.await.map_err(|error| VimError::Permanent(error.to_string()))?;
    let namespaces: Api<Namespace> = Api::all(vim);
    let listed = namespaces.list(&ListParams::default().limit(MAX_NAMESPACES)).await;
    let listed = listed.map_err(|error| VimError::Transient(describe_kube_error(&error)))?;
    Ok(listed.items.iter().map(ResourceExt::name_any).collect())
}

impl Cluster {
    /// The cluster of the step's VNF.
    pub(super) async fn of(context: &StepContext) -> Result<Self, StepError> {
        let ground = OnKubernetes::load(context).await?;
        let proxy = proxy_of(context.client(), ground.gateway.as_deref()).await?;
        let client = client_of(&ground.access, proxy.as_deref()).await?;
        Ok(Self { client, ground })
    }

    /// A typed client of a namespace.
    pub(super) fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// The objects of a kind, by what the cluster says of it. A kind that was only just defined may not be known yet.
    pub(super) async fn objects(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
    ) -> Result<Api<DynamicObject>, StepError> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let wanted = GroupVersionKind::gvk(group, version, kind);
        let (resource, capabilities) =
            discovery::pinned_kind(&self.client, &wanted).await.map_err(|error| {
                StepError::transient(format!("the cluster does not know {kind} of {api_version}: {error}"))
            })?;
        Ok(match capabilities.scope {
            Scope::Cluster => Api::all_with(self.client.clone(), &resource),
            Scope::Namespaced => Api::namespaced_with(self.client.clone(), namespace, &resource),
        })
    }

    /// Makes an object, or changes it to be so. One that belongs to somebody else is left alone: an error, but for a namespace, which may
    /// be shared.
    pub(super) async fn apply(
        &self,
        resource: &Resource,
        namespace: &str,
        instance: &str,
        replicas: Option<u32>,
    ) -> Result<(), StepError> {
        let objects = self.objects(resource.text("/apiVersion"), resource.kind(), namespace).await?;
        let name = resource.name();
        let doing = format!("making {}", resource.id());
        let there = objects.get_opt(name).await.map_err(|error| StepError::from_kube(&doing, &error))?;
        if let Some(there) = &there
            && !is_ours(there, instance)
        {
            if resource.kind() == "Namespace" {
                return Ok(());
            }
            let why =
                "it is there already and does not belong to this VNF; delete it, or choose another namespace";
            return Err(StepError::permanent(format!("{doing}: {why}")));
        }
        let mut object = resource.object.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            let labels = metadata.entry("labels").or_insert_with(|| json!({}));
            labels[INSTANCE_LABEL] = instance.into();
        }
        if let Some(replicas) = replicas {
            object["spec"]["replicas"] = replicas.into();
        }
        let parameters = PatchParams::apply(MANAGER).force();
        let applied = objects.patch(name, &parameters, &Patch::Apply(&object)).await;
        applied.map(drop).map_err(|error| StepError::from_kube(&doing, &error))
    }

    /// Deletes an object of this VNF and waits until it is gone, with all that depends on it.
    pub(super) async fn delete(
        &self,
        context: &StepContext,
        resource: &Resource,
        namespace: &str,
        instance: &str,
        grace_seconds: Option<u64>,
    ) -> Result<(), StepError> {
        let objects = self.objects(resource.text("/apiVersion"), resource.kind(), namespace).await?;
        let doing = format!("deleting {}", resource.id());
        let failed = |error: kube::Error| StepError::from_kube(&doing, &error);
        let there = objects.get_opt(resource.name()).await.map_err(failed)?;
        let Some(there) = there.filter(|there| is_ours(there, instance)) else { return Ok(()) };
        let uid = there.uid().unwrap_or_default();
        let parameters = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Foreground),
            grace_period_seconds: grace_seconds
                .filter(|_| resource.kind() == "Pod")
                .map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX)),
            preconditions: Some(Preconditions { uid: Some(uid.clone()), resource_version: None }),
            ..DeleteParams::default()
        };
        match objects.delete(resource.name(), &parameters).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            other => drop(other.map_err(failed)?),
        }
        let gone = kube::runtime::conditions::is_deleted(&uid);
        Box::pin(context.wait_for(await_condition(objects, resource.name(), gone))).await?.map(drop).map_err(
            |error| StepError::transient(format!("waiting until {} is gone: {error}", resource.id())),
        )
    }
}

/// Whether an object belongs to an instance.
fn is_ours(object: &DynamicObject, instance: &str) -> bool {
    object.labels().get(INSTANCE_LABEL).is_some_and(|owner| owner == instance)
}

#[cfg(test)]
mod tests {
    use drystone_sol003::types::VimConnectionInfo;

    use super::*;

    #[test]
    fn a_vim_makes_a_kubeconfig() {
        let info: VimConnectionInfo = serde_json::from_value(json!({
            "vimType": "ETSINFV.KUBERNETES.V_1",
            "interfaceInfo": {"endpoint": "https://10.0.0.5:6443", "ssl_ca_cert": "PEM"},
        }))
        .unwrap();
        let secrets = json!({"bearer_token": "t0ken"}).as_object().cloned().unwrap();
        let access = Access { info, secrets, ..Access::default() };
        let config = kubeconfig(&access, Some("http://g:1")).unwrap();
        assert_eq!(config["users"][0]["user"]["token"], "t0ken");
        assert_eq!(config["clusters"][0]["cluster"]["server"], "https://10.0.0.5:6443");
        assert_eq!(config["clusters"][0]["cluster"]["certificate-authority-data"], "UEVN");
        assert!(serde_json::from_value::<Kubeconfig>(config).is_ok());
        let nobody = Access { secrets: serde_json::Map::new(), ..access };
        assert!(kubeconfig(&nobody, None).unwrap_err().to_string().contains("bearer_token"));
    }
}
