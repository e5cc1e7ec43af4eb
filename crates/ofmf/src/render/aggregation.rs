//! Fabric agents as aggregation sources.

use drystone_api::{FabricAgent, is_true};
use drystone_engine::reference::ObjectKey;
use drystone_redfish::tree::Item;
use kube::ResourceExt as _;
use serde_json::json;

use super::{fabric::fabric_uri, link, links, resource, status};
use crate::names::{AGGREGATION, id_of};

/// An agent.
pub fn source(agent: &FabricAgent) -> Vec<Item> {
    // An agent that announced itself was told its context, and looks under it whether it is still known.
    let announced = agent.spec.connection_method.as_ref().and_then(|_| agent.uid());
    let id = announced.unwrap_or_else(|| id_of(&ObjectKey::of(agent)));
    let found = agent.status.clone().unwrap_or_default();
    let ready = is_true(&found.conditions, "Ready");
    let method = format!("{AGGREGATION}/ConnectionMethods/Redfish");
    let uri = format!("{AGGREGATION}/AggregationSources/{id}");
    vec![
        resource(
            &uri,
            "#AggregationSource.v1_5_0.AggregationSource",
            &agent.name_any(),
            json!({
                "HostName": agent.spec.address, "AggregationType": "Full",
                "Status": if ready { status("Enabled", "OK") } else { status("UnavailableOffline", "Critical") },
                "Links": {
                    "ConnectionMethod": link(&method),
                    "ResourcesAccessed": links(found.fabrics.iter().map(|fabric| fabric_uri(&fabric.id)))}}),
        ),
        Item::link(method, "Links/AggregationSources", uri),
    ]
}
