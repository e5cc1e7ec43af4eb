//! The networks of a cluster as objects, and their AppContext, as EMCO's ncm makes them.

use drystone_api::emco::{Document, Network, ProviderNetwork};
use drystone_appcontext::{
    App, AppContext, ContextId, Meta, Part, ResourceName, State, SyncState, model::NETWORK_APP,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    builtin::manifest,
    model::{ClusterFacts, Refusal},
};

/// API of the network plugin's objects.
const API: &str = "k8s.plugin.opnfv.org/v1alpha1";
/// Key-value pair of clusters whose pods have several network plugins.
const WRAPPER: &str = "CNI-Networking-Multi-CNI-Wrapper";
/// Members of a specification that are about the document.
const OF_DOCUMENTS: [&str; 4] = ["path", "description", "userData1", "userData2"];

/// The objects of a cluster's networks, in the order in which they are applied: networks, then provider networks, each followed by its
/// attachment where the cluster has Multus.
///
/// # Errors
/// [`Refusal`] if a network cannot be written down.
pub fn objects(
    cluster: &ClusterFacts,
    networks: &[Network],
    provider_networks: &[ProviderNetwork],
) -> Result<Vec<Value>, Refusal> {
    let attached = cluster.value_of(WRAPPER).is_some_and(|value| value.eq_ignore_ascii_case("multus"));
    let mut objects = Vec::new();
    for network in sorted(networks) {
        let name = network.document_name();
        let metadata = json!({"name": name, "labels": {"net": name}});
        objects.push(object("Network", &metadata, &spec(name, &network.spec)?));
        objects.extend(attached.then(|| attachment(name)));
    }
    for network in sorted(provider_networks) {
        let name = network.document_name();
        let mut spec = spec(name, &network.spec)?;
        // The plugin spells it otherwise than EMCO's documents do.
        if let Some(vlan) = spec.get_mut("vlan").and_then(Value::as_object_mut)
            && let Some(number) = vlan.remove("vlanID")
        {
            vlan.insert("vlanId".to_owned(), number);
        }
        objects.push(object("ProviderNetwork", &json!({"name": name}), &spec));
        objects.extend(attached.then(|| attachment(name)));
    }
    Ok(objects)
}

/// By name: the same documents always give the same context.
fn sorted<D: Document>(documents: &[D]) -> Vec<&D> {
    let mut sorted: Vec<&D> = documents.iter().collect();
    sorted.sort_by(|one, other| one.path().cmp(other.path()));
    sorted
}

fn object(kind: &str, metadata: &Value, spec: &Value) -> Value {
    json!({"apiVersion": API, "kind": kind, "metadata": metadata, "spec": spec})
}

/// A specification as it was given.
fn spec(name: &str, spec: &impl Serialize) -> Result<Value, Refusal> {
    let mut spec = serde_json::to_value(spec)
        .map_err(|error| Refusal::failed(format!("network {name} cannot be written down: {error}")))?;
    if let Some(members) = spec.as_object_mut() {
        members.retain(|key, _| !OF_DOCUMENTS.contains(&key.as_str()));
    }
    Ok(spec)
}

fn attachment(name: &str) -> Value {
    let config = json!({"cniVersion": "0.3.1", "type": "ovn4nfvk8s-cni", "nfn-network": name});
    json!({
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": name},
        "spec": {"config": config.to_string()}
    })
}

/// The AppContext of a cluster's networks. Applying networks that there are none of gives one that does nothing.
///
/// # Errors
/// As [`objects`].
pub fn context(
    id: ContextId,
    cluster: &ClusterFacts,
    networks: &[Network],
    provider_networks: &[ProviderNetwork],
) -> Result<AppContext, Refusal> {
    let mut part = Part::default();
    for object in objects(cluster, networks, provider_networks)? {
        let name =
            ResourceName::new(manifest::text(&object, "/metadata/name"), manifest::text(&object, "/kind"));
        part.put(name, manifest::write(&object));
    }
    let mut context = AppContext::new(
        id,
        Meta { level: "0".to_owned(), namespace: "default".to_owned(), ..Meta::default() },
    );
    context.sync =
        SyncState { status: Some(State::Created), status_context: Some(id), ..SyncState::default() };
    context.app_order.push(NETWORK_APP.to_owned());
    let app = App { clusters: [(cluster.name.clone(), part)].into(), ..App::default() };
    context.apps.insert(NETWORK_APP.to_owned(), app);
    Ok(context)
}

#[cfg(test)]
mod tests;
