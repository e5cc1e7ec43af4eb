//! Whether the schema of a `CustomResourceDefinition` is structural and consistent.
//!
//! Source: Kubernetes "Specifying a structural schema": every place where a value can be has a type, and logical
//! alternatives only narrow what is specified outside of them.

use serde_json::{Map, Value};

use super::Schema;
use super::node::Pattern;
use super::structural_context::{Context, Place};
use crate::machinery::field_error::{FieldError, child, index, key};

/// Keywords of JSON schema that structural schemas do not have.
const FORBIDDEN: [&str; 7] =
    ["$ref", "definitions", "dependencies", "id", "patternProperties", "additionalItems", "$schema"];
/// Keywords that may not stand inside `allOf`, `anyOf`, `oneOf` and `not`.
const FORBIDDEN_IN_LOGIC: [&str; 8] = [
    "type",
    "additionalProperties",
    "default",
    "nullable",
    "description",
    "title",
    "example",
    "externalDocs",
];
/// Most problems that are reported for one schema.
const LIMIT: usize = 100;

/// What is wrong with `schema` (an `openAPIV3Schema`), each with its path below `path`.
pub fn check(schema: &Value, path: &str) -> Vec<FieldError> {
    let mut context = Context::new(LIMIT);
    let Value::Object(fields) = schema else {
        return vec![FieldError::required(path, "schemas are required")];
    };
    check_root(fields, path, &mut context);
    check_node(schema, path, Place::Root, &mut context);
    let mut errors = context.into_errors();
    if errors.is_empty() {
        check_defaults(schema, path, &mut errors);
    }
    errors
}

/// The places of rules in CEL (`x-kubernetes-validations`) in a schema, up to a limit.
pub fn rules(schema: &Value, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    find_rules(schema, path, &mut found);
    found
}

fn find_rules(schema: &Value, path: &str, found: &mut Vec<String>) {
    if found.len() >= LIMIT {
        return;
    }
    if schema["x-kubernetes-validations"].as_array().is_some_and(|rules| !rules.is_empty()) {
        found.push(path.to_owned());
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        find_rules(property, &key(&child(path, "properties"), name), found);
    }
    for name in ["items", "additionalProperties"] {
        if schema[name].is_object() {
            find_rules(&schema[name], &child(path, name), found);
        }
    }
}

fn check_root(fields: &Map<String, Value>, path: &str, context: &mut Context) {
    match fields.get("type").and_then(Value::as_str) {
        Some("object") => {}
        None | Some("") => {
            context.push(FieldError::required(child(path, "type"), "must not be empty at the root"));
        }
        Some(other) => {
            context.push(FieldError::invalid(child(path, "type"), other, "must be object at the root"));
        }
    }
    if fields.contains_key("additionalProperties") {
        context
            .push(FieldError::forbidden(child(path, "additionalProperties"), "must not be used at the root"));
    }
    if fields.get("nullable") == Some(&Value::Bool(true)) {
        context.push(FieldError::forbidden(child(path, "nullable"), "nullable cannot be true at the root"));
    }
    check_metadata(fields, path, context);
}

/// The root's `metadata` may say nothing but what `name` and `generateName` look like.
fn check_metadata(fields: &Map<String, Value>, path: &str, context: &mut Context) {
    let metadata = fields.get("properties").and_then(|properties| properties.get("metadata"));
    let Some(Value::Object(metadata)) = metadata else { return };
    let path = format!("{path}.properties[metadata]");
    for name in metadata.keys().filter(|name| !matches!(name.as_str(), "type" | "description" | "properties"))
    {
        let message = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        context.push(FieldError::forbidden(child(&path, name), message));
    }
    let properties = metadata.get("properties").and_then(Value::as_object).into_iter().flatten();
    for (name, _) in properties.filter(|(name, _)| !matches!(name.as_str(), "name" | "generateName")) {
        let message = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        context.push(FieldError::forbidden(key(&child(&path, "properties"), name), message));
    }
}

/// One schema and all below it.
fn check_node(schema: &Value, path: &str, place: Place<'_>, context: &mut Context) {
    if context.is_full() {
        return;
    }
    let Value::Object(fields) = schema else {
        context.push(FieldError::wrong_type(path, "not an object", "a schema must be an object"));
        return;
    };
    check_keywords(fields, path, context);
    check_type(fields, path, place, context);
    if place.is_logic() {
        check_logic_keywords(fields, path, place, context);
    } else {
        check_extensions(fields, path, context);
        check_list_map_keys(fields, path, context);
    }
    check_children(schema, path, place, context);
}

fn check_keywords(fields: &Map<String, Value>, path: &str, context: &mut Context) {
    for name in FORBIDDEN.iter().filter(|name| fields.contains_key(**name)) {
        context.push(FieldError::forbidden(child(path, name), "must not be used"));
    }
    if fields.get("uniqueItems") == Some(&Value::Bool(true)) {
        let message = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        context.push(FieldError::forbidden(child(path, "uniqueItems"), message));
    }
    if let Some(pattern) = fields.get("pattern").and_then(Value::as_str)
        && let Err(error) = Pattern::compile(pattern)
    {
        let message = format!("must be a valid regular expression, but isn't: {error}");
        context.push(FieldError::invalid(child(path, "pattern"), pattern, message));
    }
    for (low, high) in [
        ("minimum", "maximum"),
        ("minLength", "maxLength"),
        ("minItems", "maxItems"),
        ("minProperties", "maxProperties"),
    ] {
        let number = |name: &str| fields.get(name).and_then(Value::as_f64);
        if let (Some(least), Some(most)) = (number(low), number(high))
            && least > most
        {
            let message = format!("must not be greater than {high}");
            context.push(FieldError::invalid(child(path, low), fields[low].clone(), message));
        }
    }
    if fields.get("properties").is_some() && fields.get("additionalProperties").is_some_and(|v| *v != false) {
        let message = "additionalProperties and properties are mutual exclusive";
        context.push(FieldError::forbidden(child(path, "additionalProperties"), message));
    }
    if fields.get("additionalProperties") == Some(&Value::Bool(false)) {
        let message = "must not be false: unknown fields are pruned anyway";
        context.push(FieldError::forbidden(child(path, "additionalProperties"), message));
    }
}

fn check_type(fields: &Map<String, Value>, path: &str, place: Place<'_>, context: &mut Context) {
    let flag = |name: &str| fields.get(name) == Some(&Value::Bool(true));
    let name = fields.get("type").and_then(Value::as_str).unwrap_or_default();
    match name {
        "object" | "string" | "integer" | "number" | "boolean" => {}
        "array" => {
            if !place.is_logic() && !fields.contains_key("items") {
                context.push(FieldError::required(child(path, "items"), "must be specified"));
            }
        }
        "" => {
            let open = flag("x-kubernetes-int-or-string") || flag("x-kubernetes-preserve-unknown-fields");
            if let (Some(message), false) = (place.type_required(), open) {
                context.push(FieldError::required(child(path, "type"), message));
            }
        }
        other => {
            let supported = ["array", "boolean", "integer", "number", "object", "string"];
            context.push(FieldError::not_supported(child(path, "type"), other, supported));
        }
    }
}

fn check_extensions(fields: &Map<String, Value>, path: &str, context: &mut Context) {
    let flag = |name: &str| fields.get(name) == Some(&Value::Bool(true));
    let value_type = fields.get("type").and_then(Value::as_str).unwrap_or_default();
    if flag("x-kubernetes-embedded-resource") {
        let field = child(path, "x-kubernetes-embedded-resource");
        if value_type != "object" {
            let message = "must be object if x-kubernetes-embedded-resource is true";
            context.push(FieldError::invalid(child(path, "type"), value_type, message));
        }
        if !flag("x-kubernetes-preserve-unknown-fields") && !fields.contains_key("properties") {
            let message = "must have properties or x-kubernetes-preserve-unknown-fields set";
            context.push(FieldError::required(field, message));
        }
    }
    if flag("x-kubernetes-int-or-string") {
        for name in ["x-kubernetes-embedded-resource", "x-kubernetes-preserve-unknown-fields"] {
            if flag(name) {
                let message = "must be false if x-kubernetes-int-or-string is true";
                context.push(FieldError::invalid(child(path, name), true, message));
            }
        }
        if !value_type.is_empty() {
            let message = "must be empty if x-kubernetes-int-or-string is true";
            context.push(FieldError::forbidden(child(path, "type"), message));
        }
    }
    if fields.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        let field = child(path, "x-kubernetes-preserve-unknown-fields");
        context.push(FieldError::invalid(field, false, "must be true or undefined"));
    }
    let listed: [(&str, &str, &[&str]); 2] = [
        ("x-kubernetes-list-type", "array", &["atomic", "set", "map"]),
        ("x-kubernetes-map-type", "object", &["granular", "atomic"]),
    ];
    for (name, wanted, supported) in listed {
        let Some(kind) = fields.get(name) else { continue };
        if !kind.as_str().is_some_and(|kind| supported.contains(&kind)) {
            context.push(FieldError::not_supported(child(path, name), kind.clone(), supported));
        }
        if value_type != wanted {
            let message = format!("must be {wanted} if {name} is specified");
            context.push(FieldError::invalid(child(path, "type"), value_type, message));
        }
    }
}

/// Lists of type `map` name keys that are scalar, and that every entry has.
fn check_list_map_keys(fields: &Map<String, Value>, path: &str, context: &mut Context) {
    let field = child(path, "x-kubernetes-list-map-keys");
    let keys = fields.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
    if fields.get("x-kubernetes-list-type").and_then(Value::as_str) != Some("map") {
        if keys.is_some_and(|keys| !keys.is_empty()) {
            context.push(FieldError::forbidden(field, "must be empty unless x-kubernetes-list-type is map"));
        }
        return;
    }
    let Some(keys) = keys.filter(|keys| !keys.is_empty()) else {
        let message = "must not be empty if x-kubernetes-list-type is map";
        context.push(FieldError::required(field, message));
        return;
    };
    let items = fields.get("items").unwrap_or(&Value::Null);
    let required = items["required"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (position, name) in keys.iter().enumerate() {
        let (place, property) =
            (index(&field, position), &items["properties"][name.as_str().unwrap_or_default()]);
        if property.is_null() {
            let message = "entries must all be names of item properties";
            context.push(FieldError::invalid(place, name.clone(), message));
        } else if !matches!(property["type"].as_str(), Some("string" | "integer" | "number" | "boolean")) {
            let property = format!("{path}.items.properties[{}].type", name.as_str().unwrap_or_default());
            context.push(FieldError::invalid(property, Value::Null, "must be a scalar type"));
        } else if !required.contains(name) && property.get("default").is_none() {
            let place = format!("{path}.items.properties[{}].default", name.as_str().unwrap_or_default());
            let message = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            context.push(FieldError::required(place, message));
        }
    }
}

fn check_logic_keywords(fields: &Map<String, Value>, path: &str, place: Place<'_>, context: &mut Context) {
    let int_or_string = place.allows_type();
    for name in FORBIDDEN_IN_LOGIC.iter().filter(|name| fields.contains_key(**name)) {
        if *name == "type" && int_or_string {
            continue;
        }
        context.push(FieldError::forbidden(child(path, name), "must be empty to be structural"));
    }
    for name in
        fields.keys().filter(|name| name.starts_with("x-kubernetes-") && *name != "x-kubernetes-validations")
    {
        context.push(FieldError::forbidden(child(path, name), "must be empty to be structural"));
    }
}

fn check_children<'a>(schema: &'a Value, path: &str, place: Place<'a>, context: &mut Context) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let below = key(&child(path, "properties"), name);
        check_node(property, &below, place.property(name, &below, context), context);
    }
    if schema["additionalProperties"].is_object() {
        let below = child(path, "additionalProperties");
        check_node(&schema["additionalProperties"], &below, place.additional(), context);
    }
    match &schema["items"] {
        Value::Null => {}
        Value::Array(_) => {
            let message = "items must be a schema object and not an array";
            context.push(FieldError::forbidden(child(path, "items"), message));
        }
        items => {
            let below = child(path, "items");
            check_node(items, &below, place.items(&below, context), context);
        }
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        for (position, alternative) in schema[name].as_array().into_iter().flatten().enumerate() {
            let below = index(&child(path, name), position);
            check_node(alternative, &below, place.logic(schema, name), context);
        }
    }
    if !schema["not"].is_null() {
        check_node(&schema["not"], &child(path, "not"), place.logic(schema, "not"), context);
    }
}

/// Every default must itself be valid, and must not contain what would be pruned.
fn check_defaults(schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let Value::Object(fields) = schema else { return };
    if let Some(default) = fields.get("default") {
        let field = child(path, "default");
        match Schema::from_json(schema, &super::object_meta_definitions()) {
            Ok(node) => {
                if let Some(unknown) = node.unknown_fields(default).into_iter().next() {
                    let message = format!("must not have unknown fields: {unknown}");
                    errors.push(FieldError::invalid(field.as_str(), default.clone(), message));
                }
                let mut complete = default.clone();
                node.default(&mut complete);
                errors.extend(node.validate(&complete).into_iter().map(|mut error| {
                    error.path =
                        if error.path.is_empty() { field.clone() } else { format!("{field}.{}", error.path) };
                    error
                }));
            }
            Err(error) => errors.push(FieldError::invalid(field, default.clone(), error.to_string())),
        }
    }
    let properties = fields.get("properties").and_then(Value::as_object).into_iter().flatten();
    for (name, schema) in properties {
        check_defaults(schema, &key(&child(path, "properties"), name), errors);
    }
    for name in ["additionalProperties", "items"] {
        if let Some(schema) = fields.get(name) {
            check_defaults(schema, &child(path, name), errors);
        }
    }
}
