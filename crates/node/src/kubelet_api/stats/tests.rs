//! What is said of measurements.

use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::cri::messages::{ContainerAttributes, CpuUsage, MemoryUsage};

fn stats(id: &str, pod: &str, container: &str, cpu: u64, memory: u64) -> ContainerStats {
    let labels = [
        (labels::POD_NAMESPACE, "default"),
        (labels::POD_NAME, pod),
        (labels::POD_UID, pod),
        (labels::CONTAINER_NAME, container),
    ];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let time = 1_767_225_600_500_000_000;
    ContainerStats {
        attributes: Some(ContainerAttributes { id: id.into(), metadata: None, labels: labels.into() }),
        cpu: Some(CpuUsage {
            timestamp: time,
            usage_core_nano_seconds: Some(UInt64Value { value: cpu }),
            usage_nano_cores: None,
        }),
        memory: Some(MemoryUsage {
            timestamp: time,
            working_set_bytes: Some(UInt64Value { value: memory }),
            ..MemoryUsage::default()
        }),
        writable_layer: None,
    }
}

fn usage() -> Usage {
    let time: Timestamp = "2026-01-01T00:00:01Z".parse().unwrap();
    let started: Timestamp = "2026-01-01T00:00:00.25Z".parse().unwrap();
    let all = [
        stats("1", "web", "side", 500_000_000, 10),
        stats("2", "web", "main", 1_000_000_001, 20),
        stats("3", "", "nobody's", 1, 1),
    ];
    let started = HashMap::from([("1".to_owned(), started), ("2".to_owned(), started)]);
    Usage {
        node: "n1".into(),
        machine: Machine { time, started: time, cpu: 3_000_000_000, working_set: 7, usage: 9, available: 11 },
        disk: FileSystem { total: 100, available: 40, inodes: 10, inodes_free: 4 },
        images: Vec::new(),
        pods: by_pod(&all, &started),
    }
}

#[test]
fn the_summary_has_what_metrics_server_reads() {
    let summary = summary::summary(&usage());
    assert_eq!(summary["node"]["nodeName"], "n1");
    assert_eq!(summary["node"]["cpu"]["usageCoreNanoSeconds"], 3_000_000_000_u64);
    assert_eq!(summary["node"]["fs"]["usedBytes"], 60);
    assert_eq!(summary["pods"].as_array().unwrap().len(), 1);
    let pod = &summary["pods"][0];
    assert_eq!(pod["podRef"], json!({"name": "web", "namespace": "default", "uid": "web"}));
    assert_eq!(pod["containers"][0]["name"], "main");
    assert_eq!(pod["containers"][0]["memory"]["workingSetBytes"], 20);
    assert_eq!(pod["containers"][0]["cpu"]["time"], "2026-01-01T00:00:00.5Z");
    assert_eq!(pod["cpu"]["usageCoreNanoSeconds"], 1_500_000_001_u64);
}

#[test]
fn metrics_are_prometheus_text() {
    insta::assert_snapshot!(prometheus::metrics(&usage()));
}
