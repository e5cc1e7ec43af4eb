//! Networks of clusters: their documents as what the network plugin of a cluster reads (facts, section 8).

use drystone_api::emco::{Document as _, Network, ProviderNetwork};
use drystone_appcontext::{
    App, AppContext, ClusterName, ContextId, Meta, Part, ResourceName, State as Phase,
    model::{NETWORK_APP, SyncState},
};
use serde_json::{Value, json};

use crate::{library::Library, model::Refusal};

/// Key-value pair of a cluster with which each network is also one for Multus.
const WRAPPER: &str = "CNI-Networking-Multi-CNI-Wrapper";

/// The context of the networks of a cluster: networks, then provider networks.
///
/// # Errors
/// The cluster is not there any more.
pub(crate) fn context(library: &Library, cluster: &ClusterName, id: ContextId) -> Result<AppContext, Refusal> {
    library.cluster(cluster)?;
    let facts = library.facts();
    let multus = facts.get(cluster).and_then(|facts| facts.value_of(WRAPPER)) == Some("multus");
    let (networks, provider_networks) = library.networks_of(cluster);
    let mut part = Part::default();
    let rendered = networks
        .iter()
        .map(|network| render_network(network))
        .chain(provider_networks.iter().map(|network| render_provider_network(network)));
    for object in rendered {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let kind = object["kind"].as_str().unwrap_or_default();
        part.put(ResourceName::new(&name, kind), object.to_string());
        if multus {
            let attachment = attachment(&name);
            part.put(ResourceName::new(&name, "NetworkAttachmentDefinition"), attachment.to_string());
        }
    }
    let meta = Meta { level: "0".to_owned(), namespace: "default".to_owned(), ..Meta::default() };
    let mut context = AppContext::new(id, meta);
    context.sync =
        SyncState { status: Some(Phase::Created), status_context: Some(id), ..SyncState::default() };
    context.app_order.push(NETWORK_APP.to_owned());
    let app = App { clusters: [(cluster.clone(), part)].into(), dependencies: Vec::new() };
    context.apps.insert(NETWORK_APP.to_owned(), app);
    Ok(context)
}

fn object(kind: &str, name: &str, labelled: bool, spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": "k8s.plugin.opnfv.org/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec,
    });
    if labelled {
        object["metadata"]["labels"] = json!({"net": name});
    }
    object
}

/// A network as its plugin reads it.
pub fn render_network(network: &Network) -> Value {
    let spec = &network.spec;
    let mut told = json!({"cniType": spec.cni_type});
    add_subnets(&mut told, &spec.ipv4_subnets, &spec.ipv6_subnets);
    object("Network", network.document_name(), true, told)
}

/// A provider network as its plugin reads it.
pub fn render_provider_network(network: &ProviderNetwork) -> Value {
    let spec = &network.spec;
    let mut told = json!({"cniType": spec.cni_type, "providerNetType": spec.provider_net_type});
    add_subnets(&mut told, &spec.ipv4_subnets, &spec.ipv6_subnets);
    if let Some(vlan) = &spec.vlan {
        let mut vlan = json!(vlan);
        if let Some(members) = vlan.as_object_mut()
            && let Some(id) = members.remove("vlanID")
        {
            members.insert("vlanId".to_owned(), id);
        }
        told["vlan"] = vlan;
    }
    object("ProviderNetwork", network.document_name(), false, told)
}

fn add_subnets(spec: &mut Value, v4: &[drystone_api::emco::Subnet], v6: &[drystone_api::emco::Subnet]) {
    for (member, subnets) in [("ipv4Subnets", v4), ("ipv6Subnets", v6)] {
        if !subnets.is_empty() {
            spec[member] = json!(subnets);
        }
    }
}

fn attachment(network: &str) -> Value {
    let config = json!({"cniVersion": "0.3.1", "type": "ovn4nfvk8s-cni", "nfn-network": network});
    json!({
        "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": network}, "spec": {"config": config.to_string()},
    })
}
