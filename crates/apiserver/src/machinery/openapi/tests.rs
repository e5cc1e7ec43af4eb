//! Documents as `kubectl` reads them.

use k8s_openapi::api::{apps, core};
use proptest::prelude::*;
use schemars::generate::SchemaSettings;

use super::*;

fn definitions() -> Map<String, Value> {
    let mut generator = SchemaSettings::openapi3().into_generator();
    generator.subschema_for::<apps::v1::Deployment>();
    generator.subschema_for::<core::v1::ConfigMap>();
    generator.subschema_for::<core::v1::Namespace>();
    let mut definitions = generator.take_definitions(true);
    // What the server knows beyond k8s-openapi: how lists merge.
    let containers = &mut definitions["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    containers["x-kubernetes-patch-strategy"] = "merge".into();
    containers["x-kubernetes-patch-merge-key"] = "name".into();
    definitions
}

const ALL: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

fn resource<'a>(plural: &'a str, kind: &'a str, list_kind: &'a str, namespaced: bool) -> Resource<'a> {
    let status = Subresource { name: "status", verbs: vec!["get", "patch", "update"], kind: None };
    Resource {
        plural,
        kind,
        list_kind,
        namespaced,
        verbs: ALL.to_vec(),
        subresources: vec![status],
        schema: Schema::BuiltIn,
    }
}

fn apps() -> Value {
    let mut deployments = resource("deployments", "Deployment", "DeploymentList", true);
    let scale = Gvk { group: "autoscaling", version: "v1", kind: "Scale" };
    deployments.subresources.push(Subresource {
        name: "scale",
        verbs: vec!["get", "patch", "update"],
        kind: Some(scale),
    });
    document("apps", "v1", &[deployments], &definitions())
}

fn core_document() -> Value {
    let resources = [
        resource("configmaps", "ConfigMap", "ConfigMapList", true),
        resource("namespaces", "Namespace", "NamespaceList", false),
    ];
    document("", "v1", &resources, &definitions())
}

fn cron_tab() -> Value {
    json!({
        "type": "object",
        "description": "A table of times.",
        "properties": {
            "spec": {
                "type": "object",
                "description": "What is wanted.",
                "required": ["schedule"],
                "properties": {
                    "schedule": {"type": "string", "description": "When."},
                    "port": {"x-kubernetes-int-or-string": true},
                    "ports": {
                        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                        "items": {"type": "object", "properties": {"name": {"type": "string"}}},
                    },
                },
            },
        },
    })
}

fn custom() -> Value {
    let schema = cron_tab();
    let mut resource = resource("crontabs", "CronTab", "CronTabList", true);
    resource.schema = Schema::Custom(&schema);
    document("example.com", "v1", &[resource], &definitions())
}

/// All references must lead somewhere: clients refuse a document otherwise.
fn dangling(document: &Value) -> Vec<String> {
    fn visit(value: &Value, document: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(target) = fields.get("$ref").and_then(Value::as_str) {
                    let known = target.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
                    if known.is_none() || fields.len() != 1 {
                        found.push(target.to_owned());
                    }
                }
                fields.values().for_each(|value| visit(value, document, found));
            }
            Value::Array(entries) => entries.iter().for_each(|value| visit(value, document, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    visit(document, document, &mut found);
    found
}

#[test]
fn references_lead_somewhere_and_stand_alone() {
    for document in [apps(), core_document(), custom()] {
        assert_eq!(dangling(&document), Vec::<String>::new());
    }
}

#[test]
fn kubectl_finds_where_the_server_validates() {
    let document = apps();
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "apps", "version": "v1", "kind": "Deployment"})
    );
    let parameters = patch["parameters"].as_array().unwrap();
    assert!(
        parameters
            .iter()
            .any(|parameter| parameter["name"] == "fieldValidation" && parameter["in"] == "query")
    );
    let content = patch["requestBody"]["content"].as_object().unwrap();
    let media_types: Vec<_> = content.keys().map(String::as_str).collect();
    assert_eq!(
        media_types,
        [
            "application/apply-patch+yaml",
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
        ]
    );
}

#[test]
fn scale_is_of_its_own_kind() {
    let document = apps();
    let scale = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"];
    assert_eq!(scale["get"]["x-kubernetes-group-version-kind"]["kind"], "Scale");
    assert_eq!(
        scale["get"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"],
        "#/components/schemas/io.k8s.api.autoscaling.v1.Scale"
    );
}

#[test]
fn merge_keys_and_descriptions_are_published() {
    let document = apps();
    let schemas = &document["components"]["schemas"];
    let spec = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"];
    assert_eq!(spec["containers"]["x-kubernetes-patch-merge-key"], "name");
    let affinity = &spec["affinity"];
    assert_eq!(affinity["allOf"], json!([{"$ref": "#/components/schemas/io.k8s.api.core.v1.Affinity"}]));
    assert!(affinity["description"].is_string());
}

#[test]
fn no_kind_requires_metadata() {
    let document = apps();
    let deployment = &document["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"];
    let required = deployment["required"].as_array().map(Vec::as_slice).unwrap_or_default();
    assert!(!required.contains(&"metadata".into()), "{required:?}");
}

#[test]
fn operation_ids_are_unique() {
    for document in [apps(), core_document(), custom()] {
        let mut seen = std::collections::HashSet::new();
        for path in document["paths"].as_object().unwrap().values() {
            for operation in path.as_object().unwrap().values().filter(|operation| operation.is_object()) {
                let id = operation["operationId"].as_str().unwrap();
                assert!(seen.insert(id.to_owned()), "{id}");
            }
        }
    }
}

#[test]
fn a_custom_kind() {
    let document = custom();
    let patch = &document["paths"]["/apis/example.com/v1/namespaces/{namespace}/crontabs/{name}"]["patch"];
    let content = patch["requestBody"]["content"].as_object().unwrap();
    assert!(!content.contains_key("application/strategic-merge-patch+json"));
    insta::assert_yaml_snapshot!(document["components"]["schemas"]["com.example.v1.CronTab"]);
    let metadata = &document["components"]["schemas"][names::OBJECT_META];
    assert_eq!(metadata["properties"]["generateName"]["type"], "string");
}

#[test]
fn paths_of_a_custom_kind() {
    let document = custom();
    let operations: Vec<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, operations)| {
            operations.as_object().unwrap().keys().map(move |method| format!("{method} {path}"))
        })
        .collect();
    insta::assert_yaml_snapshot!(operations);
}

#[test]
fn the_root_lists_documents_with_their_hashes() {
    let hash = hash(b"{}");
    assert_eq!(hash, "44136FA355B3678A1146AD16F7E8649E94FB4FC21FE77E8310C060F61CAAFF8A");
    let path = names::document_path("apps", "v1");
    assert_eq!(
        root([(path.as_str(), hash.as_str())]),
        json!({"paths": {"apis/apps/v1": {"serverRelativeURL": format!("/openapi/v3/apis/apps/v1?hash={hash}")}}})
    );
}

#[test]
fn what_is_not_defined_may_be_anything() {
    let resources = [resource("widgets", "Widget", "WidgetList", false)];
    let document = document("", "v1", &resources, &Map::new());
    assert_eq!(dangling(&document), Vec::<String>::new());
    assert_eq!(
        document["components"]["schemas"]["io.k8s.api.core.v1.Widget"]["x-kubernetes-preserve-unknown-fields"],
        true
    );
}

fn json_like_schema() -> BoxedStrategy<Value> {
    let key = prop::sample::select(vec![
        "$ref",
        "type",
        "properties",
        "items",
        "allOf",
        "additionalProperties",
        "x-kubernetes-int-or-string",
        "a",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        "[a-z/#]{0,6}".prop_map(Value::from)
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
    .boxed()
}

proptest! {
    #[test]
    fn no_schema_breaks_a_document(schema in json_like_schema(), other in json_like_schema()) {
        let mut resource = resource("things", "Thing", "ThingList", true);
        resource.schema = Schema::Custom(&schema);
        let definitions = Map::from_iter([("a".to_owned(), other)]);
        let document = document("example.com", "v1", &[resource], &definitions);
        prop_assert!(!v2::document([&document]).is_empty());
        prop_assert!(document["components"]["schemas"]["com.example.v1.Thing"]["properties"]["metadata"].is_object());
    }
}
