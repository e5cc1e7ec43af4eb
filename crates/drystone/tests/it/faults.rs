//! Hardware that misbehaves costs a retry or another host, never a hang and never a host booked twice.

use std::collections::BTreeSet;

use crate::stage::Drystone;

/// The example rack with faults, and all delays left out.
fn with_faults(faults: &'static str) -> Drystone {
    Drystone::new("sim", |site| {
        let site = site.replace("scale: 1.0", "scale: 0.05");
        let replaced = site.replace("faults: {}", &format!("faults:\n  bmc:\n{faults}"));
        assert_ne!(site, replaced, "the example site has no place for faults");
        replaced
    })
}

fn members(drystone: &Drystone) -> BTreeSet<String> {
    let provisioned = |host: &serde_json::Value| {
        host.pointer("/status/provisioning/state").and_then(serde_json::Value::as_str) == Some("provisioned")
    };
    let hosts = drystone.items(&["get", "baremetalhosts", "-n", "drystone-system"]);
    let claimed: BTreeSet<String> = drystone.claimed().into_iter().map(|(host, _)| host).collect();
    let all = hosts.iter().filter(|host| provisioned(host));
    all.map(|host| host["metadata"]["name"].as_str().unwrap().to_owned())
        .filter(|host| claimed.contains(host))
        .collect()
}

/// Composes the example cluster; returns its hosts when three are provisioned and no other is claimed.
fn compose(drystone: &mut Drystone) -> BTreeSet<String> {
    drystone.start();
    drystone.wait_for("all hosts, or their errors", || {
        let hosts = drystone.items(&["get", "baremetalhosts", "-n", "drystone-system"]);
        let settled = |host: &serde_json::Value| {
            let text = |pointer: &str| host.pointer(pointer).and_then(serde_json::Value::as_str);
            text("/status/provisioning/state") == Some("available")
                || text("/status/operationalStatus") == Some("error")
        };
        (hosts.len() == 12 && hosts.iter().all(settled)).then_some(())
    });
    drystone.must(&["apply", "-f", "examples/mlops/cluster.yaml"]);
    let hosts = drystone.wait_for("three provisioned hosts", || {
        let hosts = members(drystone);
        (hosts.len() == 3).then_some(hosts)
    });
    let cluster = drystone.json(&["get", "cluster/mlops", "-n", "research"]);
    println!("{hosts:?}; left out: {}", cluster["status"]["excludedHosts"]);
    drystone.must(&["delete", "cluster/mlops", "-n", "research", "--timeout=200s"]);
    drystone.assert_all_given_back();
    hosts
}

/// Simulated hosts run no nodes, so the cluster never becomes ready; that its hosts are provisioned is what counts here.
#[test]
fn answers_of_503_are_retried() {
    let mut drystone = with_faults(
        "    - {host: gpu-01, kind: unavailable503, probability: 0.3}\n    - {host: gpu-02, kind: unavailable503, probability: 0.3}\n    - {host: control-01, kind: unavailable503, probability: 0.3}\n",
    );
    assert_eq!(compose(&mut drystone).len(), 3);
}

#[test]
fn a_password_that_is_refused_leaves_the_host_out() {
    let mut drystone = with_faults(
        "    - {host: gpu-03, kind: wrongPassword}\n    - {host: control-01, kind: wrongPassword}\n",
    );
    let hosts = compose(&mut drystone);
    assert!(!hosts.contains("gpu-03") && !hosts.contains("control-01"), "{hosts:?}");
    let host = drystone.json(&["get", "bmh/gpu-03", "-n", "drystone-system"]);
    let message = host["status"]["errorMessage"].as_str().unwrap_or_default().to_lowercase();
    assert!(message.contains("password") || message.contains("credentials"), "{}", host["status"]);
}

#[test]
fn requests_that_time_out_are_retried() {
    let mut drystone = with_faults(
        "    - {host: gpu-01, kind: timeout, count: 2, delay: 3s}\n    - {host: control-01, kind: timeout, count: 2, delay: 3s}\n",
    );
    assert_eq!(compose(&mut drystone).len(), 3);
}
