//! Tables and properties of server-side apply and managed fields.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::machinery::{arbitrary, schema::Schema};

fn schema() -> Schema {
    Schema::from_crd(&json!({
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "replicas": {"type": "integer"},
                    "paused": {"type": "boolean"},
                    "selector": {"type": "object", "x-kubernetes-map-type": "atomic",
                                 "additionalProperties": {"type": "string"}},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "args": {"type": "array", "items": {"type": "string"}},
                    "finalizers": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                    "containers": {
                        "type": "array",
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["name"],
                        "items": {"type": "object", "properties": {
                            "name": {"type": "string"}, "image": {"type": "string"}, "tty": {"type": "boolean"}}}
                    },
                    "ports": {
                        "type": "array",
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["port", "protocol"],
                        "items": {"type": "object", "properties": {
                            "port": {"type": "integer"}, "protocol": {"type": "string", "default": "TCP"},
                            "name": {"type": "string"}}}
                    }
                }
            }
        }
    }))
    .expect("a schema")
}

fn object(spec: Value) -> Value {
    let mut object = json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "x"}});
    object["spec"] = spec;
    object
}

fn writer(manager: &str) -> Writer<'_> {
    let now = Timestamp::from_second(1_800_000_000).expect("valid");
    Writer { manager, api_version: "example.com/v1", subresource: None, now }
}

fn applied(live: Option<&Value>, manager: &str, spec: Value) -> Result<Value, ApplyError> {
    apply(Some(schema().root()), live, &object(spec), writer(manager), false)
}

fn updated(live: &Value, manager: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut new = live.clone();
    change(&mut new);
    track(Some(schema().root()), Some(live), &mut new, writer(manager)).expect("readable");
    new
}

fn fields(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let found = entries.iter().find(|entry| entry["manager"] == manager);
    found.map_or(Value::Null, |entry| entry["fieldsV1"].clone())
}

#[test]
fn creating_by_apply_notes_the_fields() {
    let made = applied(None, "a", json!({"replicas": 2, "containers": [{"name": "c", "image": "i"}]}))
        .expect("applied");
    assert_eq!(
        fields(&made, "a"),
        json!({"f:spec": {"f:replicas": {}, "f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:name": {}}}}})
    );
    assert_eq!(made["metadata"]["managedFields"][0]["operation"], "Apply");
}

#[test]
fn two_appliers_share_an_object_without_touching_each_other() {
    let first = applied(None, "a", json!({"containers": [{"name": "one", "image": "i"}]})).expect("applied");
    let second =
        applied(Some(&first), "b", json!({"containers": [{"name": "two", "image": "j"}]})).expect("applied");
    assert_eq!(
        second["spec"]["containers"],
        json!([{"name": "one", "image": "i"}, {"name": "two", "image": "j"}])
    );
    let third = applied(Some(&second), "a", json!({"replicas": 1})).expect("applied");
    assert_eq!(third["spec"], json!({"containers": [{"name": "two", "image": "j"}], "replicas": 1}));
}

#[test]
fn a_field_of_another_is_a_conflict_until_forced() {
    let first = applied(None, "a", json!({"replicas": 2, "paused": true})).expect("applied");
    let error = applied(Some(&first), "b", json!({"replicas": 3})).expect_err("a owns it");
    assert_eq!(
        error,
        ApplyError::Conflicts(vec![FieldConflict {
            manager: "\"a\"".into(),
            field: ".spec.replicas".into()
        }])
    );
    let forced =
        apply(Some(schema().root()), Some(&first), &object(json!({"replicas": 3})), writer("b"), true)
            .expect("forced");
    assert_eq!(forced["spec"]["replicas"], 3);
    assert_eq!(fields(&forced, "a"), json!({"f:spec": {"f:paused": {}}}));
    assert_eq!(fields(&forced, "b"), json!({"f:spec": {"f:replicas": {}}}));
}

#[test]
fn agreeing_is_no_conflict_and_both_own() {
    let first = applied(None, "a", json!({"replicas": 2})).expect("applied");
    let both = applied(Some(&first), "b", json!({"replicas": 2})).expect("the same value");
    assert_eq!(fields(&both, "a"), fields(&both, "b"));
    let left = applied(Some(&both), "a", json!({})).expect("a lets go");
    assert_eq!(left["spec"]["replicas"], 2, "b still wants it");
    let gone = applied(Some(&left), "b", json!({})).expect("b lets go");
    assert_eq!(gone["spec"].get("replicas"), None);
}

#[test]
fn sets_and_atomic_values() {
    let first = applied(None, "a", json!({"finalizers": ["x"], "selector": {"k": "v"}, "args": ["1"]}))
        .expect("applied");
    assert_eq!(
        fields(&first, "a"),
        json!({"f:spec": {"f:args": {}, "f:selector": {}, "f:finalizers": {"v:\"x\"": {}}}})
    );
    let second = applied(Some(&first), "b", json!({"finalizers": ["y"]})).expect("applied");
    assert_eq!(second["spec"]["finalizers"], json!(["x", "y"]));
    let third =
        applied(Some(&second), "a", json!({"selector": {"l": "w"}, "args": ["2", "3"]})).expect("its own");
    assert_eq!(third["spec"], json!({"finalizers": ["y"], "selector": {"l": "w"}, "args": ["2", "3"]}));
}

#[test]
fn absent_keys_have_their_default() {
    let first = applied(None, "a", json!({"ports": [{"port": 80, "protocol": "TCP", "name": "http"}]}))
        .expect("applied");
    let second =
        applied(Some(&first), "a", json!({"ports": [{"port": 80, "name": "web"}]})).expect("the same port");
    assert_eq!(second["spec"]["ports"][0]["name"], "web");
    assert_eq!(second["spec"]["ports"].as_array().map(Vec::len), Some(1));
}

#[test]
fn updates_take_what_they_change() {
    let made = applied(None, "a", json!({"replicas": 2, "paused": true})).expect("applied");
    let scaled = updated(&made, "scaler", |object| object["spec"]["replicas"] = json!(5));
    assert_eq!(fields(&scaled, "a"), json!({"f:spec": {"f:paused": {}}}));
    assert_eq!(fields(&scaled, "scaler"), json!({"f:spec": {"f:replicas": {}}}));
    let error =
        applied(Some(&scaled), "a", json!({"replicas": 2, "paused": true})).expect_err("the scaler owns it");
    assert!(
        matches!(&error, ApplyError::Conflicts(all) if all[0].manager == "\"scaler\" using example.com/v1"),
        "{error:?}"
    );
    let dropped = applied(Some(&scaled), "a", json!({"paused": true})).expect("it lets go");
    assert_eq!(dropped["spec"]["replicas"], 5);
}

#[test]
fn what_an_update_removes_is_nobodys() {
    let made = applied(None, "a", json!({"labels": {"k": "v", "l": "w"}})).expect("applied");
    let less = updated(&made, "u", |object| {
        object["spec"]["labels"].as_object_mut().expect("labels").remove("k");
    });
    assert_eq!(fields(&less, "a"), json!({"f:spec": {"f:labels": {"f:l": {}}}}));
}

#[test]
fn untracked_objects_belong_to_before_first_apply() {
    let live = object(json!({"replicas": 2, "paused": true}));
    let error = applied(Some(&live), "a", json!({"replicas": 3})).expect_err("somebody wrote it");
    assert!(
        matches!(&error, ApplyError::Conflicts(all) if all[0].manager.contains("before-first-apply")),
        "{error:?}"
    );
    let agreed = applied(Some(&live), "a", json!({"replicas": 2})).expect("the same");
    assert_eq!(fields(&agreed, "before-first-apply"), json!({"f:spec": {"f:paused": {}, "f:replicas": {}}}));
}

/// An object as client-side apply leaves it.
fn client_side_applied(spec: &Value) -> Value {
    let mut live = object(spec.clone());
    let last = object(spec.clone()).to_string();
    live["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": last});
    track(Some(schema().root()), None, &mut live, writer("kubectl-client-side-apply")).expect("readable");
    live
}

fn last_applied(object: &Value) -> Value {
    let text = &object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"];
    serde_json::from_str(text.as_str().expect("text")).expect("JSON")
}

#[test]
fn what_kubectl_applied_from_the_client_is_taken_without_conflict() {
    let live = client_side_applied(&json!({"replicas": 2, "paused": true}));
    let taken = applied(Some(&live), "kubectl", json!({"replicas": 3})).expect("handed over");
    assert_eq!(taken["spec"]["replicas"], 3);
    assert_eq!(fields(&taken, "kubectl"), json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(last_applied(&taken)["spec"], json!({"replicas": 3}));
    let again = applied(Some(&taken), "kubectl", json!({"replicas": 3})).expect("its own");
    assert_eq!(again, taken);
    assert!(applied(Some(&live), "somebody", json!({"replicas": 3})).is_err());
}

#[test]
fn what_changed_since_is_in_conflict_even_with_kubectl() {
    let live = client_side_applied(&json!({"replicas": 2}));
    let scaled = updated(&live, "scaler", |object| object["spec"]["replicas"] = json!(5));
    let error = applied(Some(&scaled), "kubectl", json!({"replicas": 3})).expect_err("the scaler owns it");
    assert!(matches!(&error, ApplyError::Conflicts(all) if all[0].manager.contains("scaler")), "{error:?}");
}

#[test]
fn a_configuration_names_every_entry_once() {
    let cases = [
        (
            json!({"containers": [{"name": "a"}, {"name": "a"}]}),
            ".spec.containers: duplicate entries for key [name=\"a\"]",
        ),
        (json!({"finalizers": ["x", "x"]}), ".spec.finalizers: duplicate entries for key [=\"x\"]"),
        (
            json!({"ports": [{"port": 1}, {"port": 1, "protocol": "TCP"}]}),
            ".spec.ports: duplicate entries for key [port=1,protocol=\"TCP\"]",
        ),
    ];
    for (spec, message) in cases {
        let error = ApiError::from(applied(None, "a", spec.clone()).expect_err("repeated"));
        assert_eq!(error.to_string(), format!("failed to create typed patch object: {message}"));
        assert_eq!(error.code(), 400);
        // What is stored already is tolerated.
        let live = object(spec);
        assert!(applied(Some(&live), "a", json!({"replicas": 1})).is_ok());
    }
}

#[test]
fn through_status_only_the_status_is_applied() {
    let live = applied(None, "a", json!({"replicas": 2})).expect("applied");
    let mut config = object(json!({"replicas": 7}));
    config["status"] = json!({"ready": 1});
    let status = Writer { subresource: Some("status"), ..writer("a") };
    let now = apply(None, Some(&live), &config, status, false).expect("another subresource");
    assert_eq!((&now["spec"]["replicas"], &now["status"]), (&json!(2), &json!({"ready": 1})));
    let entries = now["metadata"]["managedFields"].as_array().expect("entries");
    assert_eq!(entries[1]["fieldsV1"], json!({"f:status": {"f:ready": {}}}));
    assert_eq!(entries[1]["subresource"], "status");
}

#[test]
fn managed_fields_are_reset_and_never_applied() {
    let made = applied(None, "a", json!({"replicas": 2})).expect("applied");
    let reset = updated(&made, "u", |object| object["metadata"]["managedFields"] = json!([{}]));
    assert_eq!(reset["metadata"].get("managedFields"), None);
    let forged =
        updated(&made, "u", |object| object["metadata"]["managedFields"][0]["manager"] = json!("evil"));
    assert_eq!(forged["metadata"]["managedFields"], made["metadata"]["managedFields"]);
    let error =
        apply(Some(schema().root()), None, &made, writer("a"), false).expect_err("not in a configuration");
    assert_eq!(error, ApplyError::ManagedFieldsInConfig);
}

#[test]
fn the_oldest_updaters_become_ancient() {
    let mut live = object(json!({"labels": {}}));
    for index in 0..15 {
        let name = format!("u{index:02}");
        let mut now = writer(&name);
        now.now = Timestamp::from_second(1_800_000_000 + index).expect("valid");
        let mut new = live.clone();
        new["spec"]["labels"][&name] = json!("x");
        track(Some(schema().root()), Some(&live), &mut new, now).expect("readable");
        live = new;
    }
    let entries = live["metadata"]["managedFields"].as_array().expect("entries").clone();
    assert!(entries.len() <= 10, "{}", entries.len());
    let ancient = fields(&live, "ancient-changes");
    assert!(ancient.pointer("/f:spec/f:labels/f:u00").is_some(), "{ancient}");
}

fn object_json() -> impl Strategy<Value = Value> {
    arbitrary::json().prop_map(|value| if value.is_object() { value } else { json!({"spec": value}) })
}

fn specs() -> impl Strategy<Value = Value> {
    let label = prop::collection::btree_map("[a-c]", "[x-z]", 0..3);
    let container = (prop::sample::select(vec!["one", "two", "three"]), prop::option::of("[ij]"));
    (
        prop::option::of(0_u8..3),
        prop::option::of(label),
        prop::option::of(prop::collection::vec(container, 0..3)),
        prop::option::of(prop::collection::btree_set("[f-h]", 0..3)),
        prop::option::of(prop::collection::vec("[0-2]", 0..3)),
    )
        .prop_map(|(replicas, labels, containers, finalizers, args)| {
            let mut spec = Map::new();
            if let Some(replicas) = replicas {
                spec.insert("replicas".into(), json!(replicas));
            }
            if let Some(labels) = labels {
                spec.insert("labels".into(), json!(labels));
            }
            if let Some(containers) = containers {
                let mut seen = std::collections::BTreeSet::new();
                let each: Vec<Value> = containers
                    .into_iter()
                    .filter(|(name, _)| seen.insert(*name))
                    .map(|(name, image)| match image {
                        Some(image) => json!({"name": name, "image": image}),
                        None => json!({"name": name}),
                    })
                    .collect();
                spec.insert("containers".into(), json!(each));
            }
            if let Some(finalizers) = finalizers {
                spec.insert("finalizers".into(), json!(finalizers));
            }
            if let Some(args) = args {
                spec.insert("args".into(), json!(args));
            }
            Value::Object(spec)
        })
}

/// Whether everything in `wanted` is in `found`.
fn covers(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(name, value)| found.get(name).is_some_and(|found| covers(found, value)))
        }
        (Value::Array(found), Value::Array(wanted)) => wanted.iter().all(|item| {
            found.iter().any(|other| {
                if item.get("name").is_some() {
                    other.get("name") == item.get("name") && covers(other, item)
                } else {
                    other == item
                }
            })
        }),
        _ => found == wanted,
    }
}

proptest! {
    #[test]
    fn applying_twice_changes_nothing(a in specs(), b in specs(), c in specs()) {
        let schema = schema();
        let live = applied(None, "a", a).expect("created");
        let live = apply(Some(schema.root()), Some(&live), &object(b), writer("b"), true).expect("forced");
        let once = apply(Some(schema.root()), Some(&live), &object(c.clone()), writer("a"), true).expect("forced");
        let twice = apply(Some(schema.root()), Some(&once), &object(c), writer("a"), true).expect("forced");
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn what_is_applied_is_there(a in specs(), b in specs()) {
        let live = applied(None, "a", a).expect("created");
        let wanted = object(b);
        let now = apply(Some(schema().root()), Some(&live), &wanted, writer("b"), true).expect("forced");
        prop_assert!(covers(&now["spec"], &wanted["spec"]), "{} lacks some of {}", now["spec"], wanted["spec"]);
    }

    #[test]
    fn a_lone_applier_gets_exactly_what_it_wants(a in specs(), b in specs()) {
        let live = applied(None, "a", a).expect("created");
        let now = applied(Some(&live), "a", b.clone()).expect("its own");
        let fresh = applied(None, "a", b).expect("created");
        prop_assert!(covers(&fresh["spec"], &now["spec"]) || now["spec"] == fresh["spec"],
            "{} has more than {}", now["spec"], fresh["spec"]);
    }

    #[test]
    fn every_owned_field_exists(a in specs(), b in specs(), c in specs()) {
        let schema = schema();
        let live = applied(None, "a", a).expect("created");
        let live = apply(Some(schema.root()), Some(&live), &object(b), writer("b"), true).expect("forced");
        let live = updated(&live, "u", |object| object["spec"] = c);
        let all = fields_of(Some(schema.root()), &tracked(&live));
        for entry in Managers::of(&live).expect("readable").entries {
            for path in entry.fields.paths() {
                prop_assert!(all.reaches(&path), "{} owns {}", entry.manager, display(&path));
            }
        }
    }

    #[test]
    fn fields_survive_their_encoding(value in object_json()) {
        let set = fields_of(None, &value);
        prop_assert_eq!(FieldSet::decode(&set.encode()).expect("our own"), set);
    }

    #[test]
    fn any_json_is_answered(live in object_json(), config in object_json()) {
        let schema = schema();
        let _ = apply(Some(schema.root()), Some(&live), &config, writer("a"), true);
        let mut new = config;
        let _ = track(Some(schema.root()), Some(&live), &mut new, writer("u"));
    }
}
