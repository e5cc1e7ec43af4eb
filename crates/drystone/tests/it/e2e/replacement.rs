//! Hosts that cannot be switched are replaced by others, and hold up neither the cluster nor its end.

use std::collections::BTreeSet;

use crate::stage::{Drystone, is_skipped};

/// Some of these are chosen first.
const STUCK: [&str; 2] = ["gpu-01", "gpu-03"];

#[test]
fn hosts_that_cannot_be_switched_are_replaced() {
    if is_skipped() {
        return;
    }
    let mut drystone = Drystone::new("netns", |site| {
        let faults: String =
            STUCK.iter().map(|host| format!("    - {{host: {host}, kind: powerStuck}}\n")).collect();
        let replaced = site.replace("faults: {}", &format!("faults:\n  bmc:\n{faults}"));
        assert_ne!(site, replaced, "the example site has no place for faults");
        replaced
    });
    drystone.start();
    drystone.must(&[
        "wait",
        "--for=condition=Ready",
        "site",
        "--all",
        "-n",
        "drystone-system",
        "--timeout=300s",
    ]);
    drystone.must(&["apply", "-f", "examples/mlops/cluster.yaml"]);
    drystone.must(&["wait", "--for=condition=Ready", "cluster/mlops", "-n", "research", "--timeout=900s"]);
    let cluster = drystone.json(&["get", "cluster/mlops", "-n", "research"]);
    let strings = |pointer: &str, key: &str| -> BTreeSet<String> {
        let list =
            cluster.pointer(pointer).and_then(serde_json::Value::as_array).cloned().unwrap_or_default();
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        list.iter().filter_map(|item| if key.is_empty() { text(item) } else { text(&item[key]) }).collect()
    };
    let members = strings("/status/members", "host");
    let excluded = strings("/status/excludedHosts", "");
    println!("members {members:?}, left out {excluded:?}");
    assert_eq!(members.len(), 3);
    assert!(!excluded.is_empty(), "none of {STUCK:?} was chosen: the test tests nothing");
    assert!(STUCK.iter().all(|host| !members.contains(*host)), "a host that cannot be switched is a member");
    drystone.must(&["delete", "cluster/mlops", "-n", "research", "--timeout=300s"]);
    drystone.assert_all_given_back();
}
