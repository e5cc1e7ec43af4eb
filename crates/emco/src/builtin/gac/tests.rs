use drystone_api::emco::{DataKeyOption, DataOptions, JsonPatchOperation, ResourceGvk};
use drystone_appcontext::{App, AppContext, ClusterName, ContextId, Meta, Part, ResourceName};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::builtin::manifest;

const DEPLOYMENT: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  template:
    spec:
      containers: [{name: web, image: web:1}, {name: side, image: side:1}]
      volumes: [{name: v, configMap: {name: c, defaultMode: 0644}}]
";

fn cluster(name: &str) -> ClusterName {
    ClusterName::new("edge", name)
}

fn context() -> AppContext {
    let mut context = AppContext::new(ContextId::of("test"), Meta::default());
    let mut part = Part::default();
    part.put(ResourceName::new("web", "Deployment"), DEPLOYMENT);
    part.put(
        ResourceName::new("conf", "ConfigMap"),
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: conf}, data: {a: b}}",
    );
    let clusters = ["c1", "c2", "c3"].map(|name| (cluster(name), part.clone()));
    context.apps.insert("shop".to_owned(), App { clusters: clusters.into(), ..App::default() });
    context
}

fn clusters() -> Clusters {
    let mut clusters = Clusters::new();
    for (name, labels) in [("c1", &["near"][..]), ("c2", &["near", "big"]), ("c3", &[])] {
        let mut facts = ClusterFacts::named(cluster(name));
        facts.labels.extend(labels.iter().map(|label| (*label).to_owned()));
        clusters.insert(cluster(name), facts);
    }
    clusters
}

fn resource(kind: &str, name: &str, new: bool, customizations: Vec<GenericCustomization>) -> GenericResource {
    let api_version = if kind == "Deployment" { "apps/v1" } else { "v1" };
    GenericResource {
        name: format!("r-{name}"),
        spec: K8sResourceSpec {
            app: "shop".to_owned(),
            new_object: new.to_string(),
            resource_gvk: ResourceGvk {
                api_version: api_version.to_owned(),
                kind: kind.to_owned(),
                name: name.to_owned(),
            },
            ..K8sResourceSpec::default()
        },
        file: None,
        customizations,
    }
}

fn customization(spec: CustomizationSpec, files: &[(&str, &[u8])]) -> GenericCustomization {
    let mut spec = spec;
    if spec.cluster_specific.is_empty() {
        spec.cluster_specific = "false".to_owned();
    }
    let files = files.iter().map(|(name, content)| ((*name).to_owned(), Arc::from(*content))).collect();
    GenericCustomization { name: "c".to_owned(), spec, files }
}

fn json_patch(operations: &[(&str, &str, Value)]) -> CustomizationSpec {
    let operation = |(op, path, value): &(&str, &str, Value)| JsonPatchOperation {
        op: (*op).to_owned(),
        path: (*path).to_owned(),
        from: None,
        value: value.clone(),
    };
    CustomizationSpec {
        patch_type: "json".to_owned(),
        patch_json: operations.iter().map(operation).collect(),
        ..CustomizationSpec::default()
    }
}

fn only(spec: CustomizationSpec, scope: &str, which: &str, mode: &str) -> CustomizationSpec {
    CustomizationSpec {
        cluster_specific: "true".to_owned(),
        cluster_info: ClusterInformation {
            scope: scope.to_owned(),
            cluster_provider: "edge".to_owned(),
            cluster: which.to_owned(),
            cluster_label: which.to_owned(),
            mode: mode.to_owned(),
        },
        ..spec
    }
}

fn applied(resource: GenericResource) -> AppContext {
    let mut context = context();
    apply(
        &mut context,
        &GenericIntent { resources: vec![resource] },
        &clusters(),
        &FetchedValues::new(),
        &Marks::new(),
    )
    .unwrap();
    context
}

fn refused(resource: GenericResource) -> String {
    let intent = GenericIntent { resources: vec![resource] };
    apply(&mut context(), &intent, &clusters(), &FetchedValues::new(), &Marks::new()).unwrap_err().message
}

fn object(context: &AppContext, name: &str, kind: &str, resource: &str) -> Option<Value> {
    let part = context.part("shop", &cluster(name)).unwrap();
    let resource = part.resources.get(&ResourceName::new(resource, kind))?;
    Some(manifest::read(&resource.manifest).unwrap())
}

/// Clusters on which a change of the deployment arrived.
fn changed(spec: CustomizationSpec) -> Vec<&'static str> {
    let context = applied(resource("Deployment", "web", false, vec![customization(spec, &[])]));
    let on = |name: &&str| object(&context, name, "Deployment", "web").unwrap()["spec"]["replicas"] == 5;
    ["c1", "c2", "c3"].into_iter().filter(on).collect()
}

#[test]
fn customizations_are_for_some_clusters() {
    let five = || json_patch(&[("replace", "/spec/replicas", json!(5))]);
    assert_eq!(changed(five()), ["c1", "c2", "c3"]);
    for (scope, which, mode, expected) in [
        ("label", "near", "allow", &["c1", "c2"][..]),
        ("label", "near", "deny", &["c3"]),
        ("label", "nowhere", "allow", &[]),
        ("name", "c3", "allow", &["c3"]),
        ("name", "c3", "deny", &["c1", "c2"]),
        ("name", "c9", "deny", &["c1", "c2", "c3"]),
    ] {
        assert_eq!(changed(only(five(), scope, which, mode)), expected, "{scope} {which} {mode}");
    }
    let mut elsewhere = only(five(), "label", "near", "allow");
    elsewhere.cluster_info.cluster_provider = "core".to_owned();
    assert!(changed(elsewhere).is_empty());
}

#[test]
fn json_patches_change_what_is_there() {
    let spec = json_patch(&[
        ("add", "/spec/template/spec/containers/-", json!({"name": "new", "image": "x"})),
        ("remove", "/spec/replicas", Value::Null),
        ("add", "/metadata/labels", json!({"yes": "on"})),
        ("add", "/metadata/annotations", Value::Null),
    ]);
    let context = applied(resource("Deployment", "web", false, vec![customization(spec, &[])]));
    let object = object(&context, "c1", "Deployment", "web").unwrap();
    assert_eq!(object["spec"]["template"]["spec"]["containers"][2]["name"], "new");
    assert_eq!(object["metadata"]["labels"]["yes"], "on");
    assert!(object["spec"].get("replicas").is_none());
    assert_eq!(
        object["spec"]["template"]["spec"]["volumes"][0]["configMap"]["defaultMode"], 420,
        "0644 is octal"
    );
    let order = &context.part("shop", &cluster("c1")).unwrap().order;
    assert_eq!(order.len(), 2, "what is changed keeps its place");
}

#[test]
fn merges_know_lists_of_kubernetes() {
    let merge = CustomizationSpec { patch_type: "merge".to_owned(), ..CustomizationSpec::default() };
    let patch = b"spec: {replicas: 2, template: {spec: {containers: [{name: side, image: side:2}]}}}";
    let second = b"spec: {template: {spec: {containers: [{name: web, $patch: delete}]}}}";
    let files = [("one", &patch[..]), ("two", &second[..])];
    let context = applied(resource("Deployment", "web", false, vec![customization(merge, &files)]));
    let object = object(&context, "c2", "Deployment", "web").unwrap();
    assert_eq!(
        object["spec"]["template"]["spec"]["containers"],
        json!([{"name": "side", "image": "side:2"}])
    );
    assert_eq!(object["spec"]["replicas"], 2);
}

#[test]
fn new_objects_go_last_and_everywhere_unless_it_is_said_where() {
    let mut new = resource("Service", "extra", true, Vec::new());
    new.file = Some(Arc::from(&b"{apiVersion: v1, kind: Service, metadata: {name: extra}, spec: {}}"[..]));
    let everywhere = applied(new.clone());
    for name in ["c1", "c2", "c3"] {
        let order = &everywhere.part("shop", &cluster(name)).unwrap().order;
        assert_eq!(order.last(), Some(&ResourceName::new("extra", "Service")));
    }
    let label = json_patch(&[("add", "/spec/type", json!("NodePort"))]);
    new.customizations = vec![customization(only(label, "label", "big", "allow"), &[])];
    let somewhere = applied(new);
    assert!(object(&somewhere, "c1", "Service", "extra").is_none());
    assert_eq!(object(&somewhere, "c2", "Service", "extra").unwrap()["spec"]["type"], "NodePort");
}

#[test]
fn several_customizations_of_a_new_object_follow_each_other() {
    let one = customization(CustomizationSpec::default(), &[("a.txt", b"A")]);
    let two = customization(only(CustomizationSpec::default(), "name", "c1", "allow"), &[("b.txt", b"B")]);
    let context = applied(resource("ConfigMap", "new", true, vec![one, two]));
    assert_eq!(
        object(&context, "c1", "ConfigMap", "new").unwrap()["data"],
        json!({"a.txt": "A", "b.txt": "B"})
    );
    assert_eq!(object(&context, "c2", "ConfigMap", "new").unwrap()["data"], json!({"a.txt": "A"}));
    let names = &context.part("shop", &cluster("c1")).unwrap().order;
    assert_eq!(names.iter().filter(|name| name.name() == "new").count(), 1);
}

#[test]
fn files_become_data() {
    let options = Some(DataOptions {
        data_key_options: vec![
            DataKeyOption {
                file_name: "f".to_owned(),
                key_name: "key".to_owned(),
                merge_patch: String::new(),
            },
            DataKeyOption {
                file_name: "patch".to_owned(),
                key_name: String::new(),
                merge_patch: "true".to_owned(),
            },
        ],
    });
    let spec = CustomizationSpec {
        config_map_options: options.clone(),
        secret_options: options,
        patch_type: "merge".to_owned(),
        ..CustomizationSpec::default()
    };
    let files: [(&str, &[u8]); 3] =
        [("f", b"text"), ("binary", b"\xff\0"), ("patch", b"metadata: {labels: {x: z}}")];
    let context = applied(resource("ConfigMap", "new", true, vec![customization(spec.clone(), &files)]));
    let map = object(&context, "c1", "ConfigMap", "new").unwrap();
    assert_eq!(map["data"], json!({"key": "text"}));
    assert_eq!(map["binaryData"], json!({"binary": "/wA="}));
    assert_eq!(map["metadata"], json!({"name": "new", "labels": {"x": "z"}}));
    let context = applied(resource("Secret", "new", true, vec![customization(spec.clone(), &files)]));
    let secret = object(&context, "c1", "Secret", "new").unwrap();
    assert_eq!(
        (&secret["data"], &secret["type"]),
        (&json!({"key": "dGV4dA==", "binary": "/wA="}), &json!("Opaque"))
    );
    let context = applied(resource("ConfigMap", "conf", false, vec![customization(spec, &[("f", b"text")])]));
    assert_eq!(
        object(&context, "c1", "ConfigMap", "conf").unwrap()["data"],
        json!({"a": "b", "key": "text"})
    );
}

#[test]
fn what_cannot_be_done_is_told_with_its_place() {
    let json = |operations: &[(&str, &str, Value)]| vec![customization(json_patch(operations), &[])];
    let merge = || CustomizationSpec { patch_type: "merge".to_owned(), ..CustomizationSpec::default() };
    for (resource, told) in [
        (resource("Service", "x", true, Vec::new()), "a new Service needs a file"),
        (resource("Deployment", "web", false, json(&[])), "patchJson is empty"),
        (
            resource("Deployment", "web", false, json(&[("remove", "/spec/nothing", Value::Null)])),
            "/spec/nothing",
        ),
        (resource("Deployment", "web", false, json(&[("jump", "/spec", Value::Null)])), "jump"),
        (
            resource("Deployment", "web", false, vec![customization(merge(), &[])]),
            "no file has a merge patch",
        ),
        (
            resource("Deployment", "web", false, vec![customization(merge(), &[("f", b"- a")])]),
            "file f: not a mapping",
        ),
        (
            resource(
                "Deployment",
                "web",
                false,
                vec![customization(CustomizationSpec::default(), &[("f", b"a: b")])],
            ),
            "file f is for nothing",
        ),
        (
            resource(
                "ConfigMap",
                "x",
                true,
                vec![customization(CustomizationSpec::default(), &[("a b", b"")])],
            ),
            "is no key of data",
        ),
        (
            resource(
                "ConfigMap",
                "x",
                true,
                vec![customization(CustomizationSpec::default(), &[("a", b""), ("a", b"")])],
            ),
            "there is data under a already",
        ),
        (
            resource(
                "Deployment",
                "web",
                false,
                json(&[("add", "/spec/x", json!("$(http://host/{cluster})$"))]),
            ),
            "nothing was fetched from http://host/c1",
        ),
    ] {
        let message = refused(resource.clone());
        assert!(message.contains(told) && message.contains(&resource.name), "{message}");
    }
    let mut other = resource("Deployment", "web", false, Vec::new());
    other.spec.app = "other".to_owned();
    assert!(refused(other).contains("app other is not part of the deployment"));
    let mut many = resource("Service", "x", true, Vec::new());
    many.file = Some(Arc::from(&b"a: b\n---\nc: d"[..]));
    assert!(refused(many).contains("2 objects where one is expected"));
}

#[test]
fn fetched_values_are_those_of_each_cluster() {
    let spec = json_patch(&[
        ("add", "/metadata/labels", json!({})),
        ("add", "/metadata/labels/region", json!("$(http://host/{clusterProvider}/{cluster})$")),
        ("add", "/metadata/labels/plain", json!("$(shell)$")),
    ]);
    let own = only(spec, "label", "near", "allow");
    let intent = GenericIntent {
        resources: vec![resource("Deployment", "web", false, vec![customization(own, &[])])],
    };
    let mut context = context();
    let addresses = addresses(&context, &intent, &clusters());
    assert_eq!(Vec::from_iter(&addresses), ["http://host/edge/c1", "http://host/edge/c2"]);
    let fetched =
        addresses.into_iter().map(|address| (address.clone(), json!(address.len().to_string()))).collect();
    apply(&mut context, &intent, &clusters(), &fetched, &Marks::new()).unwrap();
    let labels = object(&context, "c1", "Deployment", "web").unwrap()["metadata"]["labels"].clone();
    assert_eq!(labels, json!({"region": "19", "plain": "$(shell)$"}));
}

#[test]
fn documents_below_an_intent_are_gathered_in_their_order() {
    let path = "projects/p/composite-apps/a/v1/deployment-intent-groups/g/generic-k8s-intents/i";
    let resource = |intent: &str, name: &str, time: &str| {
        let mut resource = K8sResource::new(
            "x",
            K8sResourceSpec { path: format!("{intent}/resources/{name}"), ..K8sResourceSpec::default() },
        );
        resource.metadata.creation_timestamp = serde_json::from_value(json!(time)).unwrap();
        resource
    };
    let resources = [
        resource(path, "a", "2026-01-01T00:00:02Z"),
        resource(path, "b", "2026-01-01T00:00:01Z"),
        resource(&format!("{path}2"), "c", "2026-01-01T00:00:00Z"),
    ];
    let custom = |of: &str| {
        Customization::new(
            "x",
            CustomizationSpec { path: format!("{path}/resources/{of}"), ..CustomizationSpec::default() },
        )
    };
    let customizations =
        [custom("a/customizations/z"), custom("a/customizations/y"), custom("ab/customizations/x")];
    let declared = declared(path, &resources, &customizations);
    let names: Vec<_> = declared
        .iter()
        .map(|(resource, own)| {
            (resource.document_name(), own.iter().map(Customization::document_name).collect::<Vec<_>>())
        })
        .collect();
    assert_eq!(names, [("b", vec![]), ("a", vec!["y", "z"])]);
}

#[test]
fn what_was_changed_before_is_not_changed_again() {
    let container = json!({"name": "new", "image": "x"});
    let patch = json_patch(&[
        ("add", "/spec/template/spec/containers/-", container),
        ("remove", "/spec/replicas", Value::Null),
    ]);
    let intent = GenericIntent {
        resources: vec![resource("Deployment", "web", false, vec![customization(patch, &[])])],
    };
    let run = |context: &mut AppContext, done: &Marks| {
        apply(context, &intent, &clusters(), &FetchedValues::new(), done)
    };
    let mut once = context();
    let marks = run(&mut once, &Marks::new()).unwrap();
    assert_eq!(marks.len(), 3);
    // Killed in the middle: one cluster has it already.
    let mut half = context();
    let done = once.part("shop", &cluster("c2")).unwrap().clone();
    *half.part_mut("shop", &cluster("c2")).unwrap() = done;
    run(&mut half, &marks).unwrap();
    assert_eq!(half, once);
    run(&mut half, &marks).unwrap();
    assert_eq!(half, once);
    assert!(run(&mut half, &Marks::new()).is_err(), "without marks it would be done twice");
}

proptest! {
    #[test]
    fn strange_patches_are_answered(
        operations in proptest::collection::vec(("(add|remove|replace|test|x)", "(/[a-z0-9~-]{0,4}){0,4}", "[ -~]{0,8}"), 0..5),
        file in "[ -~\n]{0,40}",
    ) {
        let operations: Vec<_> = operations.iter().map(|(op, path, value)| (op.as_str(), path.as_str(), json!(value))).collect();
        let json = customization(json_patch(&operations), &[]);
        let merge = customization(CustomizationSpec { patch_type: "merge".to_owned(), ..CustomizationSpec::default() }, &[("f", file.as_bytes())]);
        for customization in [json, merge] {
            let intent = GenericIntent { resources: vec![resource("Deployment", "web", false, vec![customization])] };
            let _ = apply(&mut context(), &intent, &clusters(), &FetchedValues::new(), &Marks::new());
        }
    }
}

#[test]
fn an_object_that_is_to_be_changed_and_is_nowhere_is_told() {
    let change = || json_patch(&[("replace", "/spec/replicas", json!(5))]);
    let told = refused(resource("Deployment", "wbe", false, vec![customization(change(), &[])]));
    assert!(told.contains("app shop has no Deployment wbe"), "{told}");
    // A deployment that is on no cluster of those that it is for is no mistake.
    let elsewhere = only(change(), "name", "c9", "allow");
    applied(resource("Deployment", "wbe", false, vec![customization(elsewhere, &[])]));
}
