//! Aggregation sources: fabric agents that an administrator declares, with the credentials to log in to them.

use std::{collections::BTreeMap, sync::Arc};

use drystone_api::{FabricAgent, FabricAgentSpec, SYSTEM_NAMESPACE};
use drystone_engine::{
    harness::{seen, unseen},
    reference::{ObjectKey, is_not_found, owner_reference, reference_to},
};
use drystone_redfish::{
    error::ServiceError,
    message,
    server::{Properties, Reply, WriteRequest},
};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use url::Url;
use uuid::Uuid;

use super::{
    Inner,
    groups::{read_texts, refuse_owned},
    refused,
};
use crate::{names::AGGREGATION, render::aggregation::id_of_source};

const MANAGER: &str = "drystone-ofmf";

/// A write in `AggregationSources`.
pub(super) async fn write(
    inner: &Arc<Inner>,
    rest: &[&str],
    request: WriteRequest<'_>,
) -> Result<Reply, ServiceError> {
    match (request.method.as_str(), rest) {
        ("POST", []) => create(inner, request).await,
        ("PATCH", [id]) => change(inner, id, request).await,
        ("DELETE", [id]) => delete(inner, id, request.target.uri).await,
        _ => Err(ServiceError::not_found(request.target.uri)),
    }
}

/// User name and password.
type Login = (String, String);

async fn create(inner: &Arc<Inner>, request: WriteRequest<'_>) -> Result<Reply, ServiceError> {
    let mut properties = Properties::create(request.body.required()?);
    let host = properties.required_string("HostName");
    let address = host.and_then(|host| address(&host).or_else(|| properties.format_error("HostName", &host)));
    let user = properties.string("UserName");
    let password = properties.string("Password");
    if user.is_some() != password.is_some() {
        let missing = if user.is_some() { "Password" } else { "UserName" };
        properties.reject(message::create_failed_missing_property(missing));
    }
    let mut texts = FabricAgent::new("", FabricAgentSpec::default());
    read_texts(&mut properties, &mut texts);
    properties.finish()?;
    let address = address.unwrap_or_default();
    let _turn = inner.fabrics.lock().await;
    let known = inner.feed.sources().agents.list_where(|agent| same(&agent.spec.address, &address));
    if !known.is_empty() {
        let message = message::resource_already_exists("AggregationSource", "HostName", &address);
        return Err(ServiceError::conflict(message));
    }
    let mark = Uuid::new_v5(&Uuid::NAMESPACE_URL, address.as_bytes()).simple().to_string();
    let name = format!("agent-{}", &mark[..8]);
    let login: Option<Login> = user.zip(password);
    let secret = login.as_ref().map(|_| secret_name(&name));
    if let Some(login) = &login {
        // Before the agent, which is read as soon as it is there. A second attempt overwrites what a first one left.
        write_secret(inner, &secret_name(&name), login, None).await?;
    }
    let spec = FabricAgentSpec { address, credentials_name: secret, ..FabricAgentSpec::default() };
    let mut agent = FabricAgent::new(&name, spec);
    agent.metadata.annotations = texts.metadata.annotations;
    let api: Api<FabricAgent> = Api::namespaced(inner.client.clone(), SYSTEM_NAMESPACE);
    let created = api.create(&PostParams::default(), &agent).await.map_err(|error| refused(&error))?;
    if let Some(login) = &login {
        write_secret(inner, &secret_name(&name), login, Some(&created)).await?;
    }
    seen(&inner.feed.sources().agents, &created).await;
    inner.feed.show_agent(&created);
    let uri = format!("{AGGREGATION}/AggregationSources/{}", id_of_source(&created));
    inner.tree.value(&uri).map(Reply::created).ok_or_else(|| ServiceError::not_found(&uri))
}

async fn change(inner: &Arc<Inner>, id: &str, mut request: WriteRequest<'_>) -> Result<Reply, ServiceError> {
    let body = std::mem::take(&mut request.body).required()?;
    let uri = request.target.uri;
    let _turn = inner.fabrics.lock().await;
    let agent = find(inner, id, uri)?;
    let mut properties = Properties::update(body);
    let (user, password) = (properties.string("UserName"), properties.string("Password"));
    if user.is_some() && password.is_none() {
        properties.reject(message::property_missing("Password"));
    }
    if password.is_some() && user.is_none() {
        properties.reject(message::property_missing("UserName"));
    }
    properties.read_only(&["HostName", "AggregationType", "Links", "Status", "Id"]);
    properties.finish()?;
    refuse_owned(agent.as_ref())?;
    if let Some(login) = user.zip(password) {
        let name = agent.spec.credentials_name.clone().unwrap_or_else(|| secret_name(&agent.name_any()));
        write_secret(inner, &name, &login, Some(&agent)).await?;
        if agent.spec.credentials_name.is_none() {
            let api: Api<FabricAgent> = Api::namespaced(inner.client.clone(), SYSTEM_NAMESPACE);
            let change = serde_json::json!({"spec": {"credentialsName": name}});
            let changed = api.patch(&agent.name_any(), &PatchParams::default(), &Patch::Merge(&change)).await;
            seen(&inner.feed.sources().agents, &changed.map_err(|error| refused(&error))?).await;
        }
    }
    inner.tree.value(uri).map(Reply::updated).ok_or_else(|| ServiceError::not_found(uri))
}

async fn delete(inner: &Arc<Inner>, id: &str, uri: &str) -> Result<Reply, ServiceError> {
    let _turn = inner.fabrics.lock().await;
    let agent = find(inner, id, uri)?;
    refuse_owned(agent.as_ref())?;
    let key = ObjectKey::of(agent.as_ref());
    let api: Api<FabricAgent> = Api::namespaced(inner.client.clone(), &key.namespace);
    match api.delete(&key.name, &DeleteParams::default()).await {
        Ok(_) => {}
        Err(error) if is_not_found(&error) => {}
        Err(error) => return Err(refused(&error)),
    }
    let uid = agent.uid().unwrap_or_default();
    unseen(&inner.feed.sources().agents, &key, &uid).await;
    inner.feed.forget("agent", &key, &uid);
    Ok(Reply::no_content())
}

fn find(inner: &Inner, id: &str, uri: &str) -> Result<Arc<FabricAgent>, ServiceError> {
    let found = inner.feed.sources().agents.list_where(|agent| id_of_source(agent) == id);
    found.into_iter().next().ok_or_else(|| ServiceError::not_found(uri))
}

/// The base URL of a service: scheme, host and port, without a path and without credentials.
fn address(text: &str) -> Option<String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let bare =
        url.username().is_empty() && url.password().is_none() && url.path() == "/" && url.query().is_none();
    (bare && url.host_str().is_some()).then(|| url.origin().ascii_serialization())
}

fn same(known: &str, address: &str) -> bool {
    known.trim_end_matches('/') == address
}

fn secret_name(agent: &str) -> String {
    format!("{agent}-credentials")
}

/// Writes credentials; they go with the agent that owns them.
async fn write_secret(
    inner: &Inner,
    name: &str,
    login: &Login,
    owner: Option<&FabricAgent>,
) -> Result<(), ServiceError> {
    let bytes = |text: &String| ByteString(text.clone().into_bytes());
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            owner_references: owner.map(|agent| vec![owner_reference(&reference_to(agent))]),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([
            ("username".to_owned(), bytes(&login.0)),
            ("password".to_owned(), bytes(&login.1)),
        ])),
        ..Secret::default()
    };
    let api: Api<Secret> = Api::namespaced(inner.client.clone(), SYSTEM_NAMESPACE);
    let params = PatchParams::apply(MANAGER).force();
    api.patch(name, &params, &Patch::Apply(&secret)).await.map(drop).map_err(|error| refused(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_addresses_are_taken() {
        assert_eq!(address("http://127.0.0.1:8431"), Some("http://127.0.0.1:8431".to_owned()));
        assert_eq!(address("https://switch.example/"), Some("https://switch.example".to_owned()));
        for wrong in ["switch", "ftp://x", "http://a:b@x", "http://x/redfish/v1", "http://x/?a", ""] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }
}
