//! The key of a logical cloud's user, and the kubeconfig that it has at each cluster.

use std::collections::BTreeMap;

use drystone_api::{
    SYSTEM_NAMESPACE,
    emco::{LogicalCloud, object_name},
};
use drystone_engine::{
    action::StepError,
    reference::{OwnSecret, is_conflict, is_not_found},
};
use drystone_identity::PrivateKey;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::PostParams,
    config::{AuthInfo, Kubeconfig, NamedAuthInfo},
};

use crate::model::CloudPath;

/// Member of the Secret of a logical cloud's name that has its user's private key, PEM.
pub const KEY: &str = "user.key";

/// The private key of a logical cloud's user: ECDSA on P-256, made when it is first needed, and kept in the Secret of the cloud's name, which
/// is sealed at rest.
///
/// # Errors
/// The Secret cannot be read or made.
pub async fn user_key(client: &Client, path: &CloudPath) -> Result<PrivateKey, StepError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let name = object_name(&path.path());
    let failed =
        |error: kube::Error| StepError::from_kube("keeping the key of the logical cloud's user", &error);
    // Twice: somebody else may be quicker with making it.
    for _ in 0..2 {
        match api.get(&name).await {
            Ok(secret) => return read(&secret, &name),
            Err(error) if is_not_found(&error) => {}
            Err(error) => return Err(failed(error)),
        }
        let key = PrivateKey::generate().map_err(StepError::transient)?;
        let mut secret = Secret {
            data: Some(BTreeMap::from([(
                KEY.to_owned(),
                ByteString(key.to_pem().expose().as_bytes().to_vec()),
            )])),
            ..Secret::default()
        };
        secret.metadata.name = Some(name.clone());
        match api.create(&PostParams::default(), &secret).await {
            Ok(_) => return Ok(key),
            Err(error) if is_conflict(&error) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(StepError::transient(format!("Secret {name} comes and goes")))
}

fn read(secret: &Secret, name: &str) -> Result<PrivateKey, StepError> {
    if OwnSecret::of::<LogicalCloud>(name, KEY).is_foreign(secret) {
        return Err(StepError::permanent(format!(
            "[409] Secret {name} in {SYSTEM_NAMESPACE} belongs to something else; the key of the logical cloud's user is kept under that name"
        )));
    }
    let bytes = secret.data.as_ref().and_then(|data| data.get(KEY));
    let text = bytes.and_then(|bytes| std::str::from_utf8(&bytes.0).ok());
    let unusable = || {
        StepError::permanent(format!(
            "[500] Secret {name} has no usable {KEY}; delete it, and another one is made"
        ))
    };
    PrivateKey::from_pem(text.ok_or_else(unusable)?).map_err(|_| unusable())
}

/// The administrator's kubeconfig made that of the cloud's user: same cluster, the user's key and certificate, the cloud's namespace.
/// `reference`: name of the cluster reference; the context is `user@reference`. `address`: where users reach the API, if it is elsewhere.
pub fn user_config(
    admin: &Kubeconfig,
    user: &str,
    reference: &str,
    namespace: &str,
    address: &str,
    (certificate, key): (&str, &str),
) -> Option<Kubeconfig> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let current = admin.current_context.as_deref();
    let context = admin.contexts.iter().find(|context| current.is_none_or(|name| context.name == name))?;
    let cluster_name = context.context.as_ref()?.cluster.clone();
    let mut cluster = admin.clusters.iter().find(|cluster| cluster.name == cluster_name)?.clone();
    reference.clone_into(&mut cluster.name);
    if !address.is_empty() {
        let inner = cluster.cluster.as_mut()?;
        inner.server = inner.server.as_deref().map(|server| moved(server, address));
    }
    let name = format!("{user}@{reference}");
    let info = AuthInfo {
        client_certificate_data: Some(STANDARD.encode(certificate)),
        client_key_data: Some(STANDARD.encode(key).into()),
        ..AuthInfo::default()
    };
    let context = kube::config::NamedContext {
        name: name.clone(),
        context: Some(kube::config::Context {
            cluster: reference.to_owned(),
            user: Some(user.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..kube::config::Context::default()
        }),
        other: BTreeMap::new(),
    };
    Some(Kubeconfig {
        kind: Some("Config".to_owned()),
        api_version: Some("v1".to_owned()),
        current_context: Some(name),
        clusters: vec![cluster],
        auth_infos: vec![NamedAuthInfo {
            name: user.to_owned(),
            auth_info: Some(info),
            other: BTreeMap::new(),
        }],
        contexts: vec![context],
        ..Kubeconfig::default()
    })
}

/// A URL with another host; the port stays unless the address has one.
fn moved(server: &str, address: &str) -> String {
    let Ok(mut url) = url::Url::parse(server) else { return server.to_owned() };
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, port.parse::<u16>().ok()),
        _ => (address, None),
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let moved = url.set_host(Some(&host)).is_ok();
    if let Some(port) = port.filter(|_| moved) {
        // A URL with a host takes a port.
        let _ = url.set_port(Some(port));
    }
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::moved;

    #[test]
    fn addresses_replace_hosts() {
        assert_eq!(moved("https://10.0.0.1:6443", "192.0.2.7"), "https://192.0.2.7:6443/");
        assert_eq!(moved("https://10.0.0.1:6443/x", "lb.example:443"), "https://lb.example/x");
        assert_eq!(moved("https://10.0.0.1:6443", "2001:db8::7"), "https://[2001:db8::7]:6443/");
    }
}
