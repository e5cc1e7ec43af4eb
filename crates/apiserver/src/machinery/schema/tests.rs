//! Schemas at work: tables of cases, and properties over arbitrary JSON.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Schema, SchemaSet, structural};
use crate::machinery::arbitrary;

fn widget() -> Value {
    json!({
        "type": "object",
        "required": ["spec"],
        "properties": {"spec": {
            "type": "object",
            "required": ["size"],
            "properties": {
                "size": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 5},
                "name": {"type": "string", "minLength": 2, "maxLength": 4, "pattern": "^[a-z]+$"},
                "colour": {"type": "string", "enum": ["red", "blue"], "default": "red"},
                "when": {"type": "string", "format": "date-time"},
                "port": {"x-kubernetes-int-or-string": true},
                "maybe": {"type": "string", "nullable": true},
                "tags": {"type": "array", "maxItems": 3, "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                "ports": {
                    "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"],
                    "items": {"type": "object", "required": ["port"], "properties": {
                        "port": {"type": "integer"}, "protocol": {"type": "string", "default": "TCP"}}},
                },
                "limits": {"type": "object", "additionalProperties": {"type": "integer"}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                         "properties": {"known": {"type": "object", "properties": {"a": {"type": "integer"}}}}},
                "template": {"type": "object", "x-kubernetes-embedded-resource": true,
                             "x-kubernetes-preserve-unknown-fields": true},
                "choice": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
                           "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
                "some": {"type": "integer", "anyOf": [{"minimum": 10}, {"maximum": 3}], "not": {"enum": [12]},
                         "allOf": [{"multipleOf": 2}]},
            },
        }},
    })
}

fn schema() -> Schema {
    Schema::from_crd(&widget()).expect("a good schema")
}

fn messages(spec: &Value) -> Vec<String> {
    let object = json!({"apiVersion": "v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec});
    schema().validate(&object).iter().map(ToString::to_string).collect()
}

#[test]
fn valid_objects_have_no_errors() {
    let spec = json!({
        "size": 3, "name": "abc", "colour": "blue", "when": "2026-01-01T00:00:00Z", "port": "http", "maybe": null,
        "tags": ["a", "b"], "ports": [{"port": 1}, {"port": 1, "protocol": "UDP"}], "limits": {"x": 1},
        "free": {"anything": [1]}, "template": {"apiVersion": "v1", "kind": "Pod", "spec": {}}, "choice": {"a": 1},
        "some": 14,
    });
    assert_eq!(messages(&spec), Vec::<String>::new());
}

#[test]
fn errors_name_field_and_reason() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("error_cases.json")).expect("JSON");
    for case in cases {
        let found = messages(&case["spec"]);
        assert!(found.iter().any(|message| *message == case["error"]), "{case}: {found:#?}");
    }
}

#[test]
fn unchanged_fields_are_not_held_against_a_writer() {
    let object = |size: i64, name: &str| json!({"spec": {"size": size, "name": name}});
    assert!(schema().validate_update(&object(9, "abc"), &object(9, "abd")).is_empty());
    assert_eq!(schema().validate_update(&object(9, "abc"), &object(8, "abc")).len(), 1);
}

#[test]
fn unknown_fields_are_named_and_pruned() {
    let mut object = json!({
        "apiVersion": "v1", "kind": "Widget", "extra": 1,
        "metadata": {"name": "w", "colour": 1, "ownerReferences": [{"uid": "u", "shoe": 1}]},
        "spec": {"size": 1, "ports": [{"port": 1, "speed": 2}], "limits": {"x": 1}, "typo": {},
                 "free": {"kept": {"b": 1}, "known": {"a": 1, "b": 1}},
                 "template": {"metadata": {"name": "x", "bad": 1}, "spec": {"kept": 1}}},
    });
    assert_eq!(
        schema().unknown_fields(&object),
        [
            "extra",
            "metadata.colour",
            "metadata.ownerReferences[0].shoe",
            "spec.free.known.b",
            "spec.ports[0].speed",
            "spec.template.metadata.bad",
            "spec.typo"
        ]
    );
    schema().prune(&mut object);
    assert_eq!(
        object,
        json!({
            "apiVersion": "v1", "kind": "Widget", "metadata": {"name": "w", "ownerReferences": [{"uid": "u"}]},
            "spec": {"size": 1, "ports": [{"port": 1}], "limits": {"x": 1}, "free": {"kept": {"b": 1}, "known": {"a": 1}},
                     "template": {"metadata": {"name": "x"}, "spec": {"kept": 1}}},
        })
    );
}

#[test]
fn defaults_fill_in_and_nulls_go() {
    let mut object = json!({"spec": {"colour": null, "maybe": null, "name": null, "ports": [{"port": 1}], "free": {"n": null}}});
    schema().default(&mut object);
    let expected = json!({"spec": {"colour": "red", "maybe": null, "ports": [{"port": 1, "protocol": "TCP"}], "free": {"n": null}}});
    assert_eq!(object, expected);
}

#[test]
fn references_may_be_recursive() {
    let definitions = json!({
        "Tree": {"type": "object", "properties": {"name": {"type": "string"}, "children": {
            "type": "array", "items": {"$ref": "#/components/schemas/Tree"}}}},
    });
    let Value::Object(definitions) = definitions else { unreachable!() };
    let set = SchemaSet::read(definitions, &["Tree"]).expect("a good schema");
    let tree = set.schema("Tree").expect("a root");
    let object = json!({"children": [{"children": [{"name": 7, "x": 1}]}]});
    assert_eq!(tree.validate(&object)[0].path, "children[0].children[0].name");
    assert_eq!(tree.unknown_fields(&object), ["children[0].children[0].x"]);
    assert!(SchemaSet::read(serde_json::Map::new(), &["Tree"]).is_err());
}

fn structural_errors(schema: &Value) -> Vec<String> {
    structural::check(schema, "s").iter().map(ToString::to_string).collect()
}

#[test]
fn structural_schemas_pass() {
    assert_eq!(structural_errors(&widget()), Vec::<String>::new());
    let int_or_string = json!({"type": "object", "properties": {"p": {
        "x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}}});
    assert_eq!(structural_errors(&int_or_string), Vec::<String>::new());
}

#[test]
fn structural_errors_name_the_place() {
    let with = |schema: Value| json!({"type": "object", "properties": {"a": schema}});
    let cases = [
        (json!({}), "s.type: Required value: must not be empty at the root"),
        (
            json!({"type": "array", "items": {"type": "string"}}),
            "s.type: Invalid value: \"array\": must be object at the root",
        ),
        (
            with(json!({})),
            "s.properties[a].type: Required value: must not be empty for specified object fields",
        ),
        (with(json!({"type": "array"})), "s.properties[a].items: Required value: must be specified"),
        (
            with(json!({"type": "array", "items": {}})),
            "s.properties[a].items.type: Required value: must not be empty for specified array items",
        ),
        (
            with(json!({"type": "text"})),
            "s.properties[a].type: Unsupported value: \"text\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\"",
        ),
        (with(json!({"$ref": "#/x", "type": "object"})), "s.properties[a].$ref: Forbidden: must not be used"),
        (
            with(json!({"type": "object", "properties": {}, "additionalProperties": {"type": "string"}})),
            "s.properties[a].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
        ),
        (
            with(json!({"type": "object", "anyOf": [{"properties": {"x": {}}}]})),
            "s.properties[a].anyOf[0].properties[x]: Required value: must be specified outside of the logical alternatives to be structural",
        ),
        (
            with(json!({"type": "string", "anyOf": [{"type": "string"}]})),
            "s.properties[a].anyOf[0].type: Forbidden: must be empty to be structural",
        ),
        (
            with(json!({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map"})),
            "s.properties[a].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
        ),
        (
            with(
                json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                        "items": {"type": "object", "properties": {"k": {"type": "string"}}}}),
            ),
            "s.properties[a].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
        ),
        (
            with(json!({"x-kubernetes-int-or-string": true, "type": "string"})),
            "s.properties[a].type: Forbidden: must be empty if x-kubernetes-int-or-string is true",
        ),
        (
            with(json!({"x-kubernetes-embedded-resource": true, "type": "object"})),
            "s.properties[a].x-kubernetes-embedded-resource: Required value: must have properties or x-kubernetes-preserve-unknown-fields set",
        ),
        (
            with(json!({"type": "integer", "default": "x"})),
            "s.properties[a].default: Invalid value: \"string\":  in body must be of type integer: \"string\"",
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
            "s.properties[metadata].properties[labels]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
        ),
    ];
    for (schema, expected) in cases {
        let found = structural_errors(&schema);
        assert!(found.iter().any(|message| message == expected), "{schema}: {found:#?}");
    }
    assert!(
        structural_errors(&with(json!({"type": "string", "pattern": "("})))[0]
            .contains("valid regular expression")
    );
}

proptest! {
    #[test]
    fn nothing_makes_the_passes_panic(object in arbitrary::json(), like in arbitrary::shaped_as(&schema())) {
        for mut object in [object, like] {
            let _ = schema().validate(&object);
            let _ = schema().unknown_fields(&object);
            schema().default(&mut object);
            schema().prune(&mut object);
        }
    }

    #[test]
    fn any_json_is_a_schema_or_refused(schema in arbitrary::json_with_keys(SCHEMA_WORDS), object in arbitrary::json()) {
        if structural::check(&schema, "s").is_empty() {
            let schema = Schema::from_crd(&schema).expect("what is structural can be read");
            let _ = schema.validate(&object);
        }
        let _ = Schema::from_crd(&schema);
    }

    #[test]
    fn pruning_twice_is_pruning_once(object in arbitrary::shaped_as(&schema())) {
        let mut once = object;
        schema().prune(&mut once);
        prop_assert!(schema().unknown_fields(&once).is_empty());
        let mut twice = once.clone();
        schema().prune(&mut twice);
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn defaulting_twice_is_defaulting_once(object in arbitrary::shaped_as(&schema())) {
        let mut once = object;
        schema().default(&mut once);
        let mut twice = once.clone();
        schema().default(&mut twice);
        prop_assert_eq!(once, twice);
    }
}

const SCHEMA_WORDS: &[&str] = &[
    "type",
    "properties",
    "items",
    "additionalProperties",
    "anyOf",
    "not",
    "default",
    "x-kubernetes-list-type",
    "x-kubernetes-int-or-string",
    "required",
    "enum",
    "object",
    "array",
];
