//! Custom resources: validation, defaults, pruning, columns, subresources, life and death of their definitions.

use drystone_apiserver::Profile;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::cluster::{Cluster, eventually};

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "walls.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "walls", "kind": "Wall", "shortNames": ["wl"], "categories": ["all"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "required": ["length"], "properties": {
                        "length": {"type": "integer", "minimum": 1},
                        "stone": {"type": "string", "default": "slate", "enum": ["slate", "granite"]},
                        "replicas": {"type": "integer"},
                        "courses": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                            "items": {"type": "object", "required": ["name"], "properties": {
                                "name": {"type": "string"}, "height": {"type": "integer"}}}},
                    }},
                    "status": {"type": "object", "properties": {
                        "replicas": {"type": "integer"}, "phase": {"type": "string"}, "selector": {"type": "string"}}},
                }}},
                "subresources": {"status": {}, "scale": {
                    "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
                    "labelSelectorPath": ".status.selector"}},
                "selectableFields": [{"jsonPath": ".spec.stone"}],
                "additionalPrinterColumns": [
                    {"name": "Stone", "type": "string", "jsonPath": ".spec.stone"},
                    {"name": "Length", "type": "integer", "jsonPath": ".spec.length", "priority": 1}],
            }],
        },
    })
}

fn definitions(client: &Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    Api::all_with(client.clone(), &ApiResource::from_gvk(&kind))
}

fn walls(client: &Client) -> Api<DynamicObject> {
    let resource =
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("example.com", "v1", "Wall"), "walls");
    Api::default_namespaced_with(client.clone(), &resource)
}

fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).unwrap()
}

fn wall(name: &str, spec: &Value) -> DynamicObject {
    object(json!({"apiVersion": "example.com/v1", "kind": "Wall", "metadata": {"name": name}, "spec": spec}))
}

fn has_condition(object: &DynamicObject, kind: &str) -> bool {
    let conditions = object.data["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == kind && one["status"] == "True"))
}

/// A server that serves walls.
async fn with_walls(profile: Profile) -> (Cluster, Client) {
    let cluster = Cluster::start(profile).await;
    let client = cluster.client();
    let definitions = definitions(&client);
    definitions.create(&PostParams::default(), &object(definition())).await.unwrap();
    eventually("the definition is established", async || {
        let found = definitions.get("walls.example.com").await.unwrap();
        has_condition(&found, "Established").then_some(())
    })
    .await;
    (cluster, client)
}

fn refusal(error: kube::Error) -> (u16, String) {
    match error {
        kube::Error::Api(status) => (status.code, status.message.clone()),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn objects_are_validated_defaulted_and_pruned() {
    let (_cluster, client) = with_walls(Profile::Management).await;
    let walls = walls(&client);
    let spec = json!({"length": 7, "colour": "grey"});
    let made = walls.create(&PostParams::default(), &wall("a", &spec)).await.unwrap();
    assert_eq!(made.data["spec"], json!({"length": 7, "stone": "slate"}));
    assert_eq!(made.metadata.generation, Some(1));
    for (spec, expected) in [
        (json!({}), "spec.length: Required value"),
        (json!({"length": 0}), "spec.length: Invalid value: 0"),
        (json!({"length": "x"}), "must be of type integer"),
        (json!({"length": 1, "stone": "sand"}), "spec.stone: Unsupported value: \"sand\""),
        (json!({"length": 1, "courses": [{"name": "a"}, {"name": "a"}]}), "spec.courses[1]: Duplicate value"),
    ] {
        let error = walls.create(&PostParams::default(), &wall("b", &spec)).await.unwrap_err();
        let (code, message) = refusal(error);
        assert!(code == 422 && message.contains(expected), "{code} {message}");
    }
}

#[tokio::test]
async fn status_and_spec_are_written_apart() {
    let (_cluster, client) = with_walls(Profile::Management).await;
    let walls = walls(&client);
    let mut made = wall("a", &json!({"length": 7}));
    made.data["status"] = json!({"phase": "Forged"});
    let made = walls.create(&PostParams::default(), &made).await.unwrap();
    assert!(made.data["status"].is_null());
    let patch = json!({"spec": {"length": 9}, "status": {"phase": "Built"}});
    let patched = walls.patch_status("a", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    assert_eq!(
        (&patched.data["spec"]["length"], &patched.data["status"]["phase"]),
        (&json!(7), &json!("Built"))
    );
    assert_eq!(patched.metadata.generation, Some(1));
    let patched = walls.patch("a", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    assert_eq!(patched.data["spec"]["length"], 9);
    assert_eq!(patched.metadata.generation, Some(2));
    // A custom object cannot be replaced blindly.
    let mut blind = wall("a", &json!({"length": 1}));
    blind.metadata.resource_version = None;
    let (code, message) = refusal(walls.replace("a", &PostParams::default(), &blind).await.unwrap_err());
    assert!(code == 422 && message.contains("metadata.resourceVersion"), "{message}");
}

#[tokio::test]
async fn they_are_scaled_and_selected() {
    let (_cluster, client) = with_walls(Profile::Management).await;
    let walls = walls(&client);
    walls.create(&PostParams::default(), &wall("a", &json!({"length": 7, "replicas": 2}))).await.unwrap();
    walls
        .create(&PostParams::default(), &wall("b", &json!({"length": 7, "stone": "granite"})))
        .await
        .unwrap();
    let scale = walls.get_scale("a").await.unwrap();
    assert_eq!(scale.spec.unwrap().replicas, Some(2));
    let patch = json!({"spec": {"replicas": 4}});
    walls.patch_scale("a", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    assert_eq!(walls.get("a").await.unwrap().data["spec"]["replicas"], 4);
    let granite = walls.list(&ListParams::default().fields("spec.stone=granite")).await.unwrap();
    assert_eq!(granite.items.len(), 1);
    let (code, _) = refusal(walls.list(&ListParams::default().fields("spec.length=7")).await.unwrap_err());
    assert_eq!(code, 400);
}

#[tokio::test]
async fn they_are_applied_by_several_managers() {
    let (_cluster, client) = with_walls(Profile::Management).await;
    let walls = walls(&client);
    let apply = async |manager: &str, spec: Value| {
        let config =
            json!({"apiVersion": "example.com/v1", "kind": "Wall", "metadata": {"name": "a"}, "spec": spec});
        walls.patch("a", &PatchParams::apply(manager), &Patch::Apply(config)).await
    };
    apply("mason", json!({"length": 7, "courses": [{"name": "base", "height": 2}]})).await.unwrap();
    apply("cope", json!({"courses": [{"name": "top", "height": 1}]})).await.unwrap();
    let (code, message) = refusal(apply("cope", json!({"length": 8})).await.unwrap_err());
    assert!(code == 409 && message.contains("conflict with \"mason\": .spec.length"), "{message}");
    let wall = apply("mason", json!({"length": 7})).await.unwrap();
    // What mason no longer wants goes; what cope wants stays.
    assert_eq!(wall.data["spec"]["courses"], json!([{"name": "top", "height": 1}]));
    let same = apply("mason", json!({"length": 7})).await.unwrap();
    assert_eq!(same.metadata.resource_version, wall.metadata.resource_version);
}

#[tokio::test]
async fn definitions_change_and_end() {
    let (_cluster, client) = with_walls(Profile::Management).await;
    let (walls, definitions) = (walls(&client), definitions(&client));
    walls.create(&PostParams::default(), &wall("a", &json!({"length": 7}))).await.unwrap();
    // A default that is added later shows in objects that were stored before.
    let patch = json!([{"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/mortar",
        "value": {"type": "string", "default": "none"}}]);
    let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
    definitions.patch("walls.example.com", &PatchParams::default(), &Patch::<()>::Json(patch)).await.unwrap();
    eventually("the new default", async || {
        let found = walls.get("a").await.unwrap();
        (found.data["spec"]["mortar"] == "none").then_some(())
    })
    .await;
    definitions.delete("walls.example.com", &DeleteParams::default()).await.unwrap();
    eventually("the definition is gone", async || {
        definitions.get_opt("walls.example.com").await.unwrap().is_none().then_some(())
    })
    .await;
    eventually("the resource is gone", async || match walls.list(&ListParams::default()).await {
        Err(kube::Error::Api(status)) => (status.code == 404).then_some(()),
        _ => None,
    })
    .await;
    // A definition of the same name begins afresh.
    definitions.create(&PostParams::default(), &object(definition())).await.unwrap();
    let found =
        eventually("the resource is back", async || walls.list(&ListParams::default()).await.ok()).await;
    assert!(found.items.is_empty());
}

#[tokio::test]
async fn wrong_definitions_are_refused() {
    let cluster = Cluster::start(Profile::Management).await;
    let definitions = definitions(&cluster.client());
    let create = async |change: &dyn Fn(&mut Value)| {
        let mut wrong = definition();
        change(&mut wrong);
        refusal(definitions.create(&PostParams::default(), &object(wrong)).await.unwrap_err())
    };
    let (code, message) = create(&|crd| crd["metadata"]["name"] = "other.example.com".into()).await;
    assert!(code == 422 && message.contains("metadata.name"), "{message}");
    let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let (code, message) = create(&|crd| {
        crd.pointer_mut(schema).unwrap().as_object_mut().unwrap().remove("type");
    })
    .await;
    assert!(
        code == 422 && message.contains("openAPIV3Schema.properties[spec].type: Required value"),
        "{message}"
    );
}

#[tokio::test]
async fn kubectl_knows_them() {
    let (cluster, client) = with_walls(Profile::Cluster).await;
    let kubectl = cluster.kubectl();
    if !kubectl.exists() {
        println!("skipped: there is no kubectl on PATH");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        return;
    }
    walls(&client).create(&PostParams::default(), &wall("a", &json!({"length": 7}))).await.unwrap();
    let table = kubectl.run(&["get", "wl"]).await;
    assert_eq!(table.split_whitespace().collect::<Vec<_>>(), ["NAME", "STONE", "a", "slate"]);
    let wide = kubectl.run(&["get", "walls", "-o", "wide"]).await;
    assert_eq!(wide.split_whitespace().collect::<Vec<_>>(), ["NAME", "STONE", "LENGTH", "a", "slate", "7"]);
    assert!(kubectl.run(&["get", "all"]).await.contains("wall.example.com/a"));
    assert!(kubectl.run(&["explain", "wall.spec"]).await.contains("stone"));
    assert!(kubectl.run(&["describe", "wall", "a"]).await.contains("Stone:"));
    assert_eq!(kubectl.run(&["scale", "wall/a", "--replicas=3"]).await, "wall.example.com/a scaled\n");
    let manifest = "apiVersion: example.com/v1\nkind: Wall\nmetadata: {name: b}\nspec: {length: 3}\n";
    assert_eq!(kubectl.run_with(&["apply", "-f", "-"], manifest).await, "wall.example.com/b created\n");
    let changed = manifest.replace('3', "4");
    assert_eq!(kubectl.run_with(&["apply", "-f", "-"], &changed).await, "wall.example.com/b configured\n");
    let wrong = manifest.replace("length", "lenght");
    let said = kubectl.try_run_with(&["apply", "-f", "-"], &wrong, &[]).await;
    assert!(!said.success && said.err.contains("unknown field \"spec.lenght\""), "{said:?}");
    assert_eq!(
        kubectl.run(&["delete", "wall", "--all"]).await,
        "wall.example.com \"a\" deleted\nwall.example.com \"b\" deleted\n"
    );
}
