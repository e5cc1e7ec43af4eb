//! The definitions are structural, and what users write parses.

use std::str::FromStr;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    Cluster, Purpose, custom_resource_definitions,
    quantity::{Bandwidth, Memory, TimeSpan},
};

fn assert_typed(node: &Value, path: &str) {
    let Some(object) = node.as_object() else { panic!("{path} is not a schema: {node}") };
    let free = object.contains_key("x-kubernetes-preserve-unknown-fields")
        || object.contains_key("x-kubernetes-int-or-string");
    assert!(free || object.contains_key("type"), "{path} has no type: {node}");
    assert!(!object.contains_key("$ref"), "{path} has a reference");
    for (name, child) in object.get("properties").and_then(Value::as_object).into_iter().flatten() {
        assert_typed(child, &format!("{path}.{name}"));
    }
    if let Some(items) = object.get("items") {
        assert_typed(items, &format!("{path}[]"));
    }
}

#[test]
fn definitions_are_structural() {
    for definition in custom_resource_definitions() {
        let name = definition.metadata.name.unwrap_or_default();
        for version in definition.spec.versions {
            let schema = version.schema.and_then(|schema| schema.open_api_v3_schema).expect("a schema");
            assert_typed(&serde_json::to_value(schema).expect("serializable"), &name);
        }
    }
}

#[test]
fn the_design_example_parses() {
    let cluster: Cluster = serde_json::from_value(json!({
        "apiVersion": "drystone.dev/v1alpha1", "kind": "Cluster",
        "metadata": {"name": "mlops", "namespace": "research"},
        "spec": {
            "purpose": "MLOps",
            "controlPlane": {"replicas": 1, "host": {"cores": 4, "memory": "16Gi"}},
            "workers": [{"name": "train", "replicas": 2, "maxReplicas": 4, "host": {
                "cores": 16, "memory": "64Gi", "accelerators": [{"type": "GPU", "count": 2}],
                "network": {"minBandwidth": "100Gbit", "maxHops": 2}}}],
            "network": {"podCIDR": "10.42.0.0/16", "serviceCIDR": "10.43.0.0/16", "externalPool": "campus"},
            "zone": {"isolation": "Exclusive"},
            "distribution": "Embedded"
        }
    }))
    .expect("the example is valid");
    assert_eq!(cluster.spec.purpose, Purpose::MLOps);
    assert_eq!(cluster.spec.workers[0].host.memory, Some(Memory(64 << 30)));
    let network = cluster.spec.workers[0].host.network.as_ref().expect("given");
    assert_eq!(network.min_bandwidth, Some(Bandwidth::from_gigabits(100)));
}

#[test]
fn amounts_are_refused_with_a_reason() {
    for wrong in ["", "Gi", "1.5Gi", "-1Gi", "64 Gi", "64Qi", "99999999999Ti"] {
        let error = Memory::from_str(wrong).expect_err(wrong);
        assert!(error.to_string().contains("Ki, Mi, Gi"), "{error}");
    }
    for wrong in ["100", "100G", "Gbit", "100gbit"] {
        assert!(Bandwidth::from_str(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn spans_of_time_are_written_as_everywhere() {
    for (text, seconds) in
        [("90s", 90), ("10m", 600), ("1h30m", 5_400), ("2h5s", 7_205), ("0s", 0), ("72h", 259_200)]
    {
        assert_eq!(TimeSpan::from_str(text), Ok(TimeSpan(seconds)));
    }
    for wrong in ["", "10", "5", "10d", "m", "1m1h", "1.5h", "-1s", "1s1s", " 1s", "1234567890s"] {
        assert!(TimeSpan::from_str(wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn time_survives_text(seconds in 0_u64..3_000_000_000) {
        let text = TimeSpan(seconds).to_string();
        prop_assert_eq!(TimeSpan::from_str(&text), Ok(TimeSpan(seconds)));
    }

    #[test]
    fn memory_survives_text(number in 0..1_u64 << 33, shift in 0..30_u32, decimal in any::<bool>()) {
        let bytes = if decimal { number * 1_000_000_000 } else { number << shift };
        let text = Memory(bytes).to_string();
        prop_assert_eq!(Memory::from_str(&text), Ok(Memory(bytes)));
        prop_assert!(text.len() < 21, "{}", text);
    }

    #[test]
    fn any_amount_can_be_written_and_read(bytes in any::<u64>()) {
        let read = Memory::from_str(&Memory(bytes).to_string());
        prop_assert!(read.is_ok_and(|read| read.0 <= bytes && (read.0 == bytes || bytes >> 62 != 0)));
    }

    #[test]
    fn any_text_is_an_amount_or_refused(text in "[0-9]{0,22}[.eEkKMGTPi]{0,3}(bit)?|.{0,20}") {
        let _ = (Memory::from_str(&text), Bandwidth::from_str(&text));
    }

    #[test]
    fn bandwidth_survives_text(kilobits in 0..u64::MAX / 1_000) {
        let bandwidth = Bandwidth(kilobits * 1_000);
        let text = bandwidth.to_string();
        prop_assert_eq!(Bandwidth::from_str(&text), Ok(bandwidth));
    }
}
