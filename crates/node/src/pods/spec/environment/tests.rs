use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::pods::spec::tests_support::facts;

fn objects() -> Objects {
    let config: ConfigMap = serde_json::from_value(json!({"data": {"color": "blue", "size": "9"}})).unwrap();
    // "s3cret" and the bytes ff fe.
    let secret: Secret =
        serde_json::from_value(json!({"data": {"password": "czNjcmV0", "binary": "//4="}})).unwrap();
    Objects {
        config_maps: [("settings".to_owned(), config)].into(),
        secrets: [("keys".to_owned(), secret)].into(),
    }
}

fn pod() -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "web-1", "namespace": "shop", "uid": "u-1",
                     "labels": {"app": "web", "tier": "front"}, "annotations": {"a/b": "c \"d\""}},
        "spec": {"nodeName": "n1", "serviceAccountName": "robot", "containers": []},
    }))
    .unwrap()
}

fn run(container: Value) -> Result<BTreeMap<String, String>, EnvironmentError> {
    let mut container = container;
    container["name"] = "c".into();
    let container: Container = serde_json::from_value(container).unwrap();
    let services = BTreeMap::from([("KUBERNETES_SERVICE_HOST".to_owned(), "10.43.0.1".to_owned())]);
    environment(
        &container,
        Sources {
            pod: &pod(),
            addresses: &["10.42.0.7".parse().unwrap()],
            node: &facts(),
            services: &services,
            objects: &objects(),
        },
    )
}

#[test]
fn later_variables_see_earlier_ones_and_override_them() {
    let variables = run(json!({
        "envFrom": [{"configMapRef": {"name": "settings"}}, {"prefix": "P_", "configMapRef": {"name": "settings"}}],
        "env": [
            {"name": "color", "value": "red"},
            {"name": "TEXT", "value": "$(color) $(P_color) $(KUBERNETES_SERVICE_HOST) $(LATER) $$(color)"},
            {"name": "LATER", "value": "x"},
            {"name": "EMPTY"},
        ],
    }))
    .unwrap();
    assert_eq!(variables["TEXT"], "red blue 10.43.0.1 $(LATER) $(color)");
    assert_eq!((variables["size"].as_str(), variables["EMPTY"].as_str()), ("9", ""));
}

#[test]
fn fields_resources_and_keys() {
    let from = |name: &str, source: Value| json!({"name": name, "valueFrom": source});
    let variables = run(json!({
        "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "64Mi"}},
        "env": [
            from("NAME", json!({"fieldRef": {"fieldPath": "metadata.name"}})),
            from("APP", json!({"fieldRef": {"fieldPath": "metadata.labels['app']"}})),
            from("LABELS", json!({"fieldRef": {"fieldPath": "metadata.labels"}})),
            from("NOTE", json!({"fieldRef": {"fieldPath": "metadata.annotations"}})),
            from("NODE", json!({"fieldRef": {"fieldPath": "spec.nodeName"}})),
            from("IP", json!({"fieldRef": {"fieldPath": "status.podIP"}})),
            from("HOST", json!({"fieldRef": {"fieldPath": "status.hostIP"}})),
            from("CPU", json!({"resourceFieldRef": {"resource": "limits.cpu"}})),
            from("MILLI", json!({"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}})),
            from("MEMORY", json!({"resourceFieldRef": {"resource": "requests.memory", "divisor": "1Mi"}})),
            from("UNLIMITED", json!({"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Gi"}})),
            from("PASSWORD", json!({"secretKeyRef": {"name": "keys", "key": "password"}})),
            from("COLOR", json!({"configMapKeyRef": {"name": "settings", "key": "color"}})),
            from("MAYBE", json!({"configMapKeyRef": {"name": "none", "key": "x", "optional": true}})),
        ],
    }))
    .unwrap();
    for (name, value) in [
        ("NAME", "web-1"),
        ("APP", "web"),
        ("LABELS", "app=\"web\"\ntier=\"front\""),
        ("NOTE", r#"a/b="c \"d\"""#),
        ("NODE", "n1"),
        ("IP", "10.42.0.7"),
        ("HOST", "10.20.0.7"),
        ("CPU", "2"),
        ("MILLI", "1500"),
        ("MEMORY", "64"),
        ("UNLIMITED", "8"),
        ("PASSWORD", "s3cret"),
        ("COLOR", "blue"),
    ] {
        assert_eq!(variables.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!variables.contains_key("MAYBE"));
}

#[test]
fn what_is_missing_is_named() {
    let error =
        |source: Value| run(json!({"env": [{"name": "X", "valueFrom": source}]})).unwrap_err().to_string();
    assert_eq!(
        error(json!({"configMapKeyRef": {"name": "none", "key": "x"}})),
        "configmap \"none\" not found"
    );
    assert_eq!(
        error(json!({"secretKeyRef": {"name": "keys", "key": "x"}})),
        "couldn't find key x in Secret keys"
    );
    assert!(error(json!({"secretKeyRef": {"name": "keys", "key": "binary"}})).contains("UTF-8"));
    assert!(error(json!({"fieldRef": {"fieldPath": "spec.x"}})).contains("spec.x"));
    assert!(error(json!({"resourceFieldRef": {"resource": "cpu"}})).contains("cpu"));
    let whole = run(json!({"envFrom": [{"secretRef": {"name": "none"}}]})).unwrap_err();
    assert_eq!(whole.to_string(), "secret \"none\" not found");
    assert!(run(json!({"envFrom": [{"secretRef": {"name": "none", "optional": true}}]})).is_ok());
}

#[test]
fn references_are_found() {
    let container: Container = serde_json::from_value(json!({"name": "c",
        "envFrom": [{"secretRef": {"name": "s1"}}, {"configMapRef": {"name": "c1"}}],
        "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s2", "key": "k"}}}],
    }))
    .unwrap();
    assert_eq!(references(&container), (["c1".to_owned()].into(), ["s1".to_owned(), "s2".to_owned()].into()));
}

proptest! {
    #[test]
    fn text_without_dollars_stays(text in "[^$]*") {
        prop_assert_eq!(expand(&text, &BTreeMap::new()), text);
    }

    #[test]
    fn nothing_panics_and_unknown_names_stay(text in "[$()A-C ]*") {
        let known = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        let expanded = expand(&text, &known);
        if !text.contains("$$") && !text.contains("$(A)") {
            prop_assert_eq!(expanded, text);
        }
    }
}
