//! The description of what is served (OpenAPI 3.1), made of the table of routes: what is not in the table is not served.

use serde_json::{Map, Value, json};

use crate::routes::{Endpoint, Family, Route, RouteTable, V2};

/// The description.
pub(crate) fn description(routes: &RouteTable) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in routes.iter() {
        let path = route.pattern.replace("{*", "{");
        let entry = paths.entry(path).or_insert_with(|| json!({}));
        if let Some(methods) = entry.as_object_mut() {
            methods.insert(route.method.as_str().to_ascii_lowercase(), operation(route));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Drystone: VNF life cycle management, VNF packages and VIMs",
            "version": "1",
            "description": "ETSI GS NFV-SOL 003 (life cycle, versions 1.3.0 and 2.0.0), packages as in NFV-SOL 005, and OpenStack's registration of VIMs. Bodies are those of the specifications."
        },
        "paths": paths,
        "components": {
            "schemas": {"ProblemDetails": problem_details()},
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "bearer": {"type": "http", "scheme": "bearer"},
                "token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"},
                "certificate": {"type": "mutualTLS"}
            }
        },
        "security": [{"basic": []}, {"bearer": []}, {"token": []}, {"certificate": []}]
    })
}

fn problem_details() -> Value {
    let text = json!({"type": "string"});
    json!({"type": "object", "required": ["status", "detail"], "properties": {
        "type": text, "title": text, "status": {"type": "integer"}, "detail": text, "instance": text}})
}

fn operation(route: &Route) -> Value {
    let mut parameters: Vec<Value> = Vec::new();
    let open = route.pattern.split('/').filter_map(|part| part.split_once('{')?.1.split_once('}'));
    for (name, _) in open {
        let name = name.trim_start_matches('*');
        parameters.push(json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}));
    }
    if let Family::Lcm(drystone_sol003::types::ApiVersion::V2) = route.family {
        parameters.push(json!({"name": "Version", "in": "header", "required": true, "schema": {"type": "string", "example": V2.to_string()}}));
    }
    if is_list(route.endpoint) {
        let texts = ["filter", "fields", "exclude_fields", "nextpage_opaque_marker"];
        let flags = ["all_fields", "exclude_default"];
        let query = |name: &str, flag: bool| json!({"name": name, "in": "query", "allowEmptyValue": flag, "schema": {"type": "string"}});
        parameters.extend(texts.iter().map(|name| query(name, false)));
        parameters.extend(flags.iter().map(|name| query(name, true)));
    }
    let (media, schema) = match route.family {
        Family::Vims => ("application/json", json!({"type": "object"})),
        _ => ("application/problem+json", json!({"$ref": "#/components/schemas/ProblemDetails"})),
    };
    let mut responses =
        json!({"default": {"description": "An error", "content": {media: {"schema": schema}}}});
    responses[route.success.to_string()] = json!({"description": route.summary});
    let mut operation = json!({"summary": route.summary, "responses": responses});
    if !parameters.is_empty() {
        operation["parameters"] = Value::Array(parameters);
    }
    if let Some(body) = route.body {
        operation["requestBody"] = json!({"required": true, "content": {body: {}}});
    }
    operation
}

fn is_list(endpoint: Endpoint) -> bool {
    matches!(
        endpoint,
        Endpoint::Instances(_) | Endpoint::Operations(_) | Endpoint::Subscriptions(_) | Endpoint::Packages
    )
}
