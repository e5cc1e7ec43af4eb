//! The description of what is served (OpenAPI 3.1), made of the table of routes: what is not in the table is not served.

use axum::http::Method;
use serde_json::{Map, Value, json};

use crate::{
    kinds,
    routes::{Endpoint, Route, RouteTable},
};

/// The description.
pub(crate) fn description(routes: &RouteTable) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in routes.iter() {
        let entry = paths.entry(route.pattern.clone()).or_insert_with(|| json!({}));
        if let Some(methods) = entry.as_object_mut() {
            methods.insert(route.method.as_str().to_ascii_lowercase(), operation(route));
        }
    }
    let text = |most: u32| json!({"type": "string", "maxLength": most});
    let metadata = json!({"type": "object", "required": ["name"], "properties": {
        "name": {"type": "string", "maxLength": 128, "pattern": "^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$"},
        "description": text(1024), "userData1": text(512), "userData2": text(512)}});
    let mut schemas = Map::from_iter([("Metadata".to_owned(), metadata)]);
    for kind in kinds::all() {
        let mut properties =
            json!({"metadata": {"$ref": "#/components/schemas/Metadata"}, "spec": kind.schema()});
        let mut required = vec!["metadata"];
        match kind.name() {
            "ClusterLabel" => {
                properties = json!({"clusterLabel": text(128)});
                required = vec!["clusterLabel"];
            }
            "CompositeApp" => {
                properties["spec"] = json!({"type": "object", "required": ["compositeAppVersion"],
                                            "properties": {"compositeAppVersion": text(128)}});
            }
            "ClusterQuota" => {
                properties["spec"] = json!({"type": "object", "additionalProperties": {"type": "string"}});
            }
            _ => {}
        }
        let schema = json!({"type": "object", "required": required, "properties": properties});
        schemas.insert(kind.name().to_owned(), schema);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Drystone: composite applications over many clusters",
            "version": "2",
            "description": "The interface of EMCO (Edge Multi-Cluster Orchestrator): orchestrator, cluster manager, distributed cloud manager, network configuration manager and generic action controller. Errors are plain text."
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "bearer": {"type": "http", "scheme": "bearer"},
                "certificate": {"type": "mutualTLS"}
            }
        },
        "security": [{"basic": []}, {"bearer": []}, {"certificate": []}]
    })
}

fn operation(route: &Route) -> Value {
    let open = route.pattern.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let named = |name: &str, place: &str| json!({"name": name, "in": place, "required": place == "path", "schema": {"type": "string"}});
    let mut parameters: Vec<Value> = open.map(|name| named(name, "path")).collect();
    parameters.extend(queries(route).iter().map(|name| named(name, "query")));
    let schema = schema_of(route);
    let mut success = json!({"description": route.summary});
    if let Some(schema) = &schema {
        success["content"] = json!({"application/json": {"schema": schema}});
    }
    let mut responses = json!({"default": {"description": "What is wrong, and what to do", "content": {"text/plain": {"schema": {"type": "string"}}}}});
    responses[route.success.to_string()] = success;
    let mut operation = json!({"summary": route.summary, "responses": responses});
    if !parameters.is_empty() {
        operation["parameters"] = Value::Array(parameters);
    }
    if let Some(body) = route.body {
        let whole = schema.unwrap_or_else(|| json!({"type": "object"}));
        let schema = match body {
            "multipart/form-data" => json!({"type": "object", "required": ["metadata"], "properties": {
                "metadata": whole, "file": {"type": "string", "format": "binary"},
                "files": {"type": "array", "items": {"type": "string", "format": "binary"}}}}),
            _ => whole,
        };
        operation["requestBody"] = json!({"required": true, "content": {body: {"schema": schema}}});
    }
    operation
}

/// The schema of a reply's body, and of the request's.
fn schema_of(route: &Route) -> Option<Value> {
    let of = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    match route.endpoint {
        Endpoint::Read(kind) | Endpoint::Create(kind) | Endpoint::Replace(kind) => Some(of(kind.name())),
        Endpoint::List(kind) if kind.name() == "GroupIntent" => Some(json!({"type": "object"})),
        Endpoint::List(kind) => Some(json!({"type": "array", "items": of(kind.name())})),
        Endpoint::Status(_) | Endpoint::OpenApi => Some(json!({"type": "object"})),
        Endpoint::Delete(_) | Endpoint::Lifecycle(..) | Endpoint::UserKubeconfig(_) => None,
    }
}

/// Query parameters that an endpoint knows.
pub(crate) fn queries(route: &Route) -> &'static [&'static str] {
    let is_get = route.method == Method::GET;
    match route.endpoint {
        Endpoint::Status(_) => &[
            "status",
            "type",
            "output",
            "instance",
            "app",
            "cluster",
            "resource",
            "apps",
            "clusters",
            "resources",
        ],
        Endpoint::List(kind) if is_get => match kind.name() {
            "Cluster" => &["label", "withLabels"],
            "Profile" | "AppIntent" => &["app"],
            "GroupIntent" => &["intent"],
            _ => &[],
        },
        Endpoint::Read(kind) => match kind.name() {
            "ClusterKeyValues" | "ClusterSyncObject" | "LogicalCloudKeyValues" => &["key"],
            _ => &[],
        },
        _ => &[],
    }
}
