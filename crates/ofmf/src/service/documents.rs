//! Documents that are made when they are asked for: versions, OData, metadata, registries, schemas.

use std::{collections::BTreeSet, fmt::Write as _};

use drystone_redfish::{
    server::{RouteTable, metadata},
    tree::Tree,
    types::{Collection, to_body},
};
use serde_json::{Value, json};

use crate::render::{
    composition::capabilities_object,
    service::{ROOMS, registry},
};

/// Types that resources outside of the tree have.
const OTHER_TYPES: [&str; 15] = [
    "#AccountService.v1_18_0.AccountService",
    "#EventDestination.v1_16_0.EventDestination",
    "#EventDestinationCollection.EventDestinationCollection",
    "#EventService.v1_12_0.EventService",
    "#JsonSchemaFile.v1_1_4.JsonSchemaFile",
    "#JsonSchemaFileCollection.JsonSchemaFileCollection",
    "#ManagerAccount.v1_14_0.ManagerAccount",
    "#ManagerAccountCollection.ManagerAccountCollection",
    "#Message.v1_3_0.Message",
    "#MessageRegistry.v1_7_0.MessageRegistry",
    "#Role.v1_3_3.Role",
    "#RoleCollection.RoleCollection",
    "#Session.v1_7_0.Session",
    "#SessionCollection.SessionCollection",
    "#SessionService.v1_1_9.SessionService",
];

const SCHEMAS: &str = "/redfish/v1/JsonSchemas";

/// Type of what a GET returns.
pub(super) fn media_type(segments: &[&str]) -> &'static str {
    match segments {
        ["$metadata"] | ["schemas", _] => "application/xml",
        ["openapi.yaml"] => "application/yaml",
        ["EventService", "SSE"] => "text/event-stream",
        _ => "application/json",
    }
}

/// A document, given by the parts after `/redfish/v1`.
pub(super) fn read(segments: &[&str], tree: &Tree, routes: &RouteTable) -> Option<Value> {
    match segments {
        ["redfish"] => Some(json!({"v1": "/redfish/v1/"})),
        ["odata"] => Some(odata()),
        ["$metadata"] => Some(Value::String(metadata(types(tree).iter().map(String::as_str)))),
        ["openapi.yaml"] => Some(Value::String(openapi(routes))),
        ["schemas", file] => schema_file(file).map(Value::String),
        ["Registries", prefix, file] if file.strip_suffix(".json") == Some(prefix) => registry(prefix),
        ["Systems", id] => capabilities_object(id),
        ["JsonSchemas"] => schemas(tree),
        ["JsonSchemas", id] => schema(id, tree),
        _ => None,
    }
}

fn odata() -> Value {
    let root = [("Service", "/redfish/v1/")];
    let entry = |(name, url): (&str, &str)| json!({"name": name, "kind": "Singleton", "url": url});
    let sessions = [("Sessions", "/redfish/v1/SessionService/Sessions")];
    let all: Vec<Value> = root.into_iter().chain(ROOMS).chain(sessions).map(entry).collect();
    json!({"@odata.context": "/redfish/v1/$metadata", "value": all})
}

/// All types, sorted.
fn types(tree: &Tree) -> BTreeSet<String> {
    let in_tree = tree.types().into_iter().map(|kind| kind.odata_type.clone());
    in_tree.chain(OTHER_TYPES.iter().map(|kind| (*kind).to_owned())).collect()
}

/// Schemas by name with version: `Zone.v1_6_3`. Drystone's own are described in CSDL only.
fn schema_ids(tree: &Tree) -> BTreeSet<String> {
    let types = types(tree);
    let names = types.iter().filter_map(|kind| kind.trim_start_matches('#').rsplit_once('.'));
    names.map(|(name, _)| name.to_owned()).filter(|name| !name.starts_with("Drystone")).collect()
}

fn schemas(tree: &Tree) -> Option<Value> {
    to_body(&Collection::of("JsonSchemaFile", SCHEMAS, schema_ids(tree))).ok()
}

fn schema(id: &str, tree: &Tree) -> Option<Value> {
    if !schema_ids(tree).contains(id) {
        return None;
    }
    let name = id.split('.').next().unwrap_or(id);
    Some(json!({
        "@odata.id": format!("{SCHEMAS}/{id}"), "@odata.type": "#JsonSchemaFile.v1_1_4.JsonSchemaFile",
        "Id": id, "Name": format!("Schema {id}"), "Schema": format!("#{id}.{name}"), "Languages": ["en"],
        "Location": [{"Language": "en", "PublicationUri": format!("http://redfish.dmtf.org/schemas/v1/{id}.json")}]}))
}

/// The CSDL of Drystone's own types.
fn schema_file(file: &str) -> Option<String> {
    let text = match file {
        "DrystoneZone_v1.xml" => include_str!("../../schemas/DrystoneZone_v1.xml"),
        "DrystoneAddressPool_v1.xml" => include_str!("../../schemas/DrystoneAddressPool_v1.xml"),
        _ => return None,
    };
    Some(text.to_owned())
}

/// The routes as an OpenAPI document; what bodies hold is in the schemas that they name.
fn openapi(routes: &RouteTable) -> String {
    let mut paths: Vec<_> = routes.iter().collect();
    paths.sort_by_key(|route| route.pattern());
    let mut text = "openapi: 3.0.3\ninfo:\n  title: Drystone\n  version: '1'\npaths:\n".to_owned();
    for route in paths {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  '{}':", route.pattern());
        let names: Vec<&str> =
            route.pattern().split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        if !names.is_empty() {
            text.push_str("    parameters:\n");
        }
        for name in names {
            let _ =
                writeln!(text, "    - {{name: {name}, in: path, required: true, schema: {{type: string}}}}");
        }
        for (method, _) in route.methods() {
            let _ = writeln!(
                text,
                "    {}:\n      responses:\n        default: {{description: A Redfish resource or error}}",
                method.as_str().to_lowercase()
            );
        }
    }
    text
}
