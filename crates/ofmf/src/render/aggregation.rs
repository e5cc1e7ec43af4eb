//! Fabric agents as aggregation sources.

use drystone_api::{FabricAgent, is_true};
use drystone_engine::reference::ObjectKey;
use drystone_redfish::tree::Item;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use serde_json::json;

use super::{
    fabric::fabric_uri,
    link, links, resource, status,
    system::RESET_TYPES,
    text,
    zone::{DESCRIPTION, display_name},
};
use crate::names::{AGGREGATION, id_of};

/// Id of an agent's aggregation source.
pub fn id_of_source(agent: &FabricAgent) -> String {
    // An agent that announced itself was told its context, and looks under it whether it is still known.
    let announced = agent.spec.connection_method.as_ref().and_then(|_| agent.uid());
    announced.unwrap_or_else(|| id_of(&ObjectKey::of(agent)))
}

/// Label of the ConfigMaps that aggregates are kept in.
pub const AGGREGATE_LABEL: (&str, &str) = ("drystone.dev/redfish", "aggregate");

/// Key of the URIs, a JSON array, in such a ConfigMap.
pub const ELEMENTS: &str = "elements";

/// URI of an aggregate.
pub fn aggregate_uri(id: &str) -> String {
    format!("{AGGREGATION}/Aggregates/{id}")
}

/// URIs of the elements of an aggregate, in the order in which they were added.
pub fn elements_of(aggregate: &ConfigMap) -> Vec<String> {
    let text = aggregate.data.as_ref().and_then(|data| data.get(ELEMENTS));
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// An aggregate. Elements that are gone are not shown.
pub fn aggregate(aggregate: &ConfigMap, exists: &dyn Fn(&str) -> bool) -> Vec<Item> {
    let uri = aggregate_uri(&aggregate.name_any());
    let elements: Vec<String> = elements_of(aggregate).into_iter().filter(|uri| exists(uri)).collect();
    let target = |name: &str| format!("{uri}/Actions/Aggregate.{name}");
    vec![resource(
        &uri,
        "#Aggregate.v1_0_3.Aggregate",
        &display_name(aggregate),
        json!({
            "Description": text(aggregate.annotations().get(DESCRIPTION).map_or("", String::as_str)),
            "ElementsCount": elements.len(), "Elements": links(elements),
            "Actions": {
                "#Aggregate.AddElements": {"target": target("AddElements")},
                "#Aggregate.RemoveElements": {"target": target("RemoveElements")},
                "#Aggregate.Reset": {
                    "target": target("Reset"), "ResetType@Redfish.AllowableValues": RESET_TYPES}}}),
    )]
}

/// An agent.
pub fn source(agent: &FabricAgent) -> Vec<Item> {
    let id = id_of_source(agent);
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
                "HostName": agent.spec.address, "AggregationType": "Full", "UserName": null, "Password": null,
                "Status": if ready { status("Enabled", "OK") } else { status("UnavailableOffline", "Critical") },
                "Links": {
                    "ConnectionMethod": link(&method),
                    "ResourcesAccessed": links(found.fabrics.iter().map(|fabric| fabric_uri(&fabric.id)))}}),
        ),
        Item::link(method, "Links/AggregationSources", uri),
    ]
}
