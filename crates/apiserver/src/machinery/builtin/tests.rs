//! The built-in kinds at work: examples that are valid, what they default to, and what is refused.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{BuiltinKind, KINDS, definitions};
use crate::machinery::arbitrary;
use crate::machinery::patch::{merge_patch, strategic_merge};

fn kind_of(object: &Value) -> &'static BuiltinKind {
    let api_version = object["apiVersion"].as_str().expect("apiVersion");
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    BuiltinKind::find(group, version, object["kind"].as_str().expect("kind")).expect("a built-in kind")
}

fn prepared(mut object: Value) -> Value {
    let kind = kind_of(&object);
    kind.decode(&mut object).expect("decodes");
    kind.default(&mut object);
    object
}

/// Examples in YAML, one document each, by name.
fn example(name: &str) -> Value {
    let examples = include_str!("testdata/examples.yaml");
    let documents = examples.split("\n---\n").map(|text| {
        let document = crate::machinery::document::Document::from_yaml(text.as_bytes());
        document.unwrap_or_else(|error| panic!("{text}: {error}")).value
    });
    documents
        .into_iter()
        .find(|object| object["kind"] == name)
        .unwrap_or_else(|| panic!("no example of a {name}"))
}

#[test]
fn every_kind_has_a_schema() {
    for kind in KINDS {
        let root = kind.schema().root().property("apiVersion").is_some();
        assert!(root, "{kind:?}");
        assert!(BuiltinKind::find(kind.group, kind.version, kind.kind).is_some());
    }
}

#[test]
fn definitions_refer_only_to_each_other() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(entries) => entries.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let definitions = definitions();
    let all = Value::Object(definitions.clone());
    let mut found = Vec::new();
    references(&all, &mut found);
    assert!(found.len() > 500);
    for reference in found {
        let name = reference.strip_prefix("#/components/schemas/").expect(reference);
        assert!(definitions.contains_key(name), "{reference}");
    }
}

#[test]
fn examples_are_valid_and_get_their_defaults() {
    let examples = include_str!("testdata/examples.yaml");
    let mut defaulted = Vec::new();
    for text in examples.split("\n---\n") {
        let object = crate::machinery::document::Document::from_yaml(text.as_bytes()).expect(text).value;
        let kind = kind_of(&object);
        assert_eq!(kind.schema().unknown_fields(&object), Vec::<String>::new(), "{text}");
        let object = prepared(object);
        let errors: Vec<String> = kind.validate(&object).iter().map(ToString::to_string).collect();
        assert_eq!(errors, Vec::<String>::new(), "{text}");
        assert!(kind.validate_update(&object, &object).is_empty(), "{text}");
        defaulted.push(object);
    }
    insta::assert_yaml_snapshot!("defaults", defaulted);
}

#[test]
fn wrong_objects_are_refused_field_by_field() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("testdata/refused.json")).expect("JSON");
    for case in cases {
        let object = example(case["kind"].as_str().expect("kind"));
        let object = prepared(merge_patch(&object, &case["with"]).expect("a patch"));
        let found: Vec<String> = kind_of(&object).validate(&object).iter().map(ToString::to_string).collect();
        let expected = case["error"].as_str().expect("error");
        assert!(found.iter().any(|message| message == expected), "{case}: {found:#?}");
    }
}

#[test]
fn changes_of_what_is_fixed_are_refused() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("testdata/changes.json")).expect("JSON");
    for case in cases {
        let old = prepared(
            merge_patch(&example(case["kind"].as_str().expect("kind")), &case["from"]).expect("a patch"),
        );
        let kind = kind_of(&old);
        let new = prepared(strategic_merge(&old, &case["with"], &kind.schema()).expect("a patch"));
        let found: Vec<String> = kind.validate_update(&new, &old).iter().map(ToString::to_string).collect();
        match case["error"].as_str() {
            Some(expected) => assert!(found.iter().any(|message| message == expected), "{case}: {found:#?}"),
            None => assert_eq!(found, Vec::<String>::new(), "{case}"),
        }
    }
}

#[test]
fn what_may_surprise_is_warned_of() {
    let warnings = |object: &Value| kind_of(object).warnings(object);
    let mut pod = example("Pod");
    assert_eq!(warnings(&pod), Vec::<String>::new());
    pod["spec"]["containers"] = json!([{"name": "a", "env": [{"name": "A"}, {"name": "A"}],
        "ports": [{"containerPort": 1}, {"containerPort": 1}]}]);
    assert_eq!(
        warnings(&pod),
        [
            "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
            "spec.containers[0].ports[1]: duplicate port definition, which may be dropped when using apply",
        ]
    );
    let mut definition = example("CustomResourceDefinition");
    assert_eq!(warnings(&definition), Vec::<String>::new());
    let schema = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    schema["properties"]["spec"]["x-kubernetes-validations"] = json!([{"rule": "self.size > 0"}]);
    assert_eq!(kind_of(&definition).validate(&prepared(definition.clone())), []);
    assert_eq!(
        warnings(&definition),
        [
            "spec.versions[0].schema.openAPIV3Schema.properties[spec]: x-kubernetes-validations are stored, but this server does not evaluate them"
        ]
    );
}

#[test]
fn bodies_that_do_not_decode_are_bad_requests() {
    let pod = |spec: Value| json!({"apiVersion": "v1", "kind": "Pod", "spec": spec});
    let cases = [
        (
            pod(json!({"containers": "x"})),
            "Pod in version \"v1\" cannot be handled as a Pod: spec.containers: Invalid value: \"string\": must be of type array",
        ),
        (
            pod(json!({"containers": [{"resources": {"limits": {"cpu": "1 core"}}}]})),
            "Pod in version \"v1\" cannot be handled as a Pod: spec.containers[0].resources.limits.cpu: Invalid value: \"1 core\": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            pod(json!({"priority": 5_000_000_000_u64})),
            "Pod in version \"v1\" cannot be handled as a Pod: spec.priority: Invalid value: 5000000000: must fit int32",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Secret", "data": {"a": "hunter2"}}),
            "Secret in version \"v1\" cannot be handled as a Secret: data.a: Invalid value: \"(not shown)\": must be base64",
        ),
        (
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {"renewTime": "now"}}),
            "Lease in version \"v1\" cannot be handled as a Lease: spec.renewTime: Invalid value: \"now\": must be a time in RFC 3339 form, e.g. 2026-01-02T03:04:05Z",
        ),
    ];
    for (mut object, expected) in cases {
        let error = kind_of(&object).decode(&mut object).expect_err("refused");
        assert_eq!((error.code(), error.to_string().as_str()), (400, expected));
    }
}

#[test]
fn decoding_drops_nulls_and_writes_quantities_canonically() {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"creationTimestamp": null}, "spec": {
        "priority": 3.0, "nodeName": null,
        "containers": [{"name": "a", "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}, "requests": {"cpu": 2}}}]}});
    kind_of(&pod).decode(&mut pod).expect("decodes");
    let expected = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": {
        "priority": 3,
        "containers": [{"name": "a", "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}, "requests": {"cpu": "2"}}}]}});
    assert_eq!(pod, expected);
}

#[test]
fn secrets_are_written_as_text_and_read_as_base64() {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "stringData": {"a": "x"}, "data": {"a": "YQ==", "b": "Yg=="}});
    assert_eq!(
        prepared(secret),
        json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {"a": "eA==", "b": "Yg=="}})
    );
}

#[test]
fn strategic_patches_know_the_keys_of_lists() {
    let pod = example("Pod");
    let patch = json!({"spec": {
        "containers": [{"name": "main", "ports": [{"containerPort": 8080, "name": "web"}], "env": [{"name": "B", "value": "2"}]}],
        "volumes": [{"name": "scratch", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/tmp"}}]}});
    let schema = kind_of(&pod).schema();
    let patched = strategic_merge(&pod, &patch, &schema).expect("applies");
    let main = &patched["spec"]["containers"][0];
    assert_eq!(main["image"], pod["spec"]["containers"][0]["image"]);
    assert_eq!(main["ports"], json!([{"containerPort": 8080, "name": "web"}]));
    assert_eq!(main["env"].as_array().map(Vec::len), Some(3));
    let scratch =
        patched["spec"]["volumes"].as_array().expect("a list").iter().find(|v| v["name"] == "scratch");
    assert_eq!(scratch, Some(&json!({"name": "scratch", "hostPath": {"path": "/tmp"}})));
    let budget = example("PodDisruptionBudget");
    let patch = json!({"spec": {"selector": {"matchLabels": {"b": "2"}}}});
    let patched = strategic_merge(&budget, &patch, &kind_of(&budget).schema()).expect("applies");
    assert_eq!(patched["spec"]["selector"], json!({"matchLabels": {"b": "2"}}));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_makes_a_kind_panic(seed in any::<u64>(), position in 0..KINDS.len(), odd in arbitrary::json()) {
        let kind = &KINDS[position];
        for mut object in [arbitrary::from_seed(&kind.schema(), seed, true), odd] {
            let _ = kind.validate(&object);
            let _ = kind.validate_update(&object, &json!({}));
            let _ = kind.decode(&mut object);
            kind.default(&mut object);
            let _ = kind.validate(&object);
            let _ = kind.validate_update(&object, &object);
        }
    }

    #[test]
    fn decoding_and_defaulting_are_idempotent(seed in any::<u64>(), position in 0..KINDS.len()) {
        let kind = &KINDS[position];
        let mut once = arbitrary::from_seed(&kind.schema(), seed, false);
        if kind.decode(&mut once).is_ok() {
            kind.default(&mut once);
            let mut twice = once.clone();
            prop_assert!(kind.decode(&mut twice).is_ok(), "{:?}", twice);
            kind.default(&mut twice);
            prop_assert_eq!(once, twice);
        }
    }
}
