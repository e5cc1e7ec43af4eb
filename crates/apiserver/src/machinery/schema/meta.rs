//! The schema of `metadata`, which every object has: meta/v1 `ObjectMeta`.

use serde_json::{Map, Value, json};

/// Name of the definition of `metadata`.
pub const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The definitions that `metadata` needs, by name.
pub fn object_meta_definitions() -> Map<String, Value> {
    let string = json!({"type": "string"});
    let time = json!({"type": "string", "format": "date-time", "nullable": true});
    let strings = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let definition = json!({
        "type": "object",
        "properties": {
            "annotations": strings,
            "creationTimestamp": time,
            "deletionGracePeriodSeconds": {"type": "integer", "format": "int64"},
            "deletionTimestamp": time,
            "finalizers": {
                "type": "array", "items": string,
                "x-kubernetes-list-type": "set", "x-kubernetes-patch-strategy": "merge",
            },
            "generateName": string,
            "generation": {"type": "integer", "format": "int64"},
            "labels": strings,
            "managedFields": {"type": "array", "items": managed_fields_entry()},
            "name": string,
            "namespace": string,
            "ownerReferences": {
                "type": "array", "items": owner_reference(),
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["uid"],
                "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "uid",
            },
            "resourceVersion": string,
            "selfLink": string,
            "uid": string,
        },
    });
    Map::from_iter([(OBJECT_META.to_owned(), definition)])
}

fn managed_fields_entry() -> Value {
    json!({
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"},
            "fieldsType": {"type": "string"},
            "fieldsV1": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "manager": {"type": "string"},
            "operation": {"type": "string"},
            "subresource": {"type": "string"},
            "time": {"type": "string", "format": "date-time"},
        },
    })
}

fn owner_reference() -> Value {
    json!({
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"},
            "blockOwnerDeletion": {"type": "boolean"},
            "controller": {"type": "boolean"},
            "kind": {"type": "string"},
            "name": {"type": "string"},
            "uid": {"type": "string"},
        },
        "required": ["apiVersion", "kind", "name", "uid"],
        "x-kubernetes-map-type": "atomic",
    })
}
