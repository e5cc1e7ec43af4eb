//! Hardware that misbehaves costs a retry or another host, never a hang and never a host booked twice.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::stage::{Drystone, Reply};

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

const HSN: &str = "/redfish/v1/Fabrics/HSN";
const SET: &str = "/redfish/v1/Managers/1/Actions/Oem/DrystoneManager.SetFault";
const CLEAR: &str = "/redfish/v1/Managers/1/Actions/Oem/DrystoneManager.ClearFaults";

/// The example rack with its fast fabric found, and a zone over both of its switches to be posted.
fn with_fabric() -> (Drystone, Value) {
    let mut drystone = Drystone::new("sim", |site| site.replace("scale: 1.0", "scale: 0.05"));
    drystone.start();
    drystone.wait_for("all endpoints of the fast fabric", || {
        let reply = drystone.redfish("GET", &format!("{HSN}/Endpoints"), &Value::Null, &[]);
        (reply.body["Members@odata.count"] == 9).then_some(())
    });
    let link = |host: &str| json!({"@odata.id": format!("{HSN}/Endpoints/{host}-hsn0")});
    let body = json!({"Id": "red", "ZoneType": "ZoneOfEndpoints",
        "Links": {"Endpoints": [link("gpu-01"), link("gpu-02")]}});
    (drystone, body)
}

/// Zones in the forwarding tables of both switches and in the agent's own tree. Asks until the agent answers.
fn zones_in_hardware(drystone: &Drystone) -> Vec<String> {
    let read = |uri: &str| {
        drystone.wait_for("the agent's answer", || {
            let reply = drystone.device("HSN", "GET", uri, &Value::Null, &[]);
            (reply.status == 200).then_some(reply.body)
        })
    };
    let mut found = Vec::new();
    for switch in ["hsn-a", "hsn-b"] {
        let table = read(&format!("{HSN}/Switches/{switch}/Oem/Drystone/ForwardingTable"));
        found.extend(table["Zones"].as_object().unwrap().keys().map(|zone| format!("{switch}: {zone}")));
    }
    let zones = read(&format!("{HSN}/Zones"));
    found.extend(zones["Members"].as_array().unwrap().iter().map(ToString::to_string));
    found
}

/// Waits for the end of a POST that was answered with a task, or at once; what a GET of the zone says in the end.
fn finished(drystone: &Drystone, reply: &Reply) -> u16 {
    assert!(matches!(reply.status, 201 | 202), "{reply:?}");
    if reply.status == 202 {
        drystone.wait_for("the end of the task", || {
            let monitor = drystone.redfish("GET", &reply.location, &Value::Null, &[]);
            (monitor.status != 202).then_some(())
        });
    }
    drystone.redfish("GET", &format!("{HSN}/Zones/red"), &Value::Null, &[]).status
}

#[test]
fn a_switch_that_is_busy_is_asked_again() {
    let (mut drystone, zone) = with_fabric();
    let fault = json!({"Kind": "TableRefused", "Switch": "hsn-b", "Status": 503});
    assert_eq!(drystone.device("HSN", "POST", SET, &fault, &[]).status, 204);
    let reply = drystone.redfish("POST", &format!("{HSN}/Zones"), &zone, &[]);
    assert_eq!(reply.status, 202, "it cannot have been carried out yet: {reply:?}");
    drystone.wait_for("the reason why it takes so long", || {
        let zone = drystone.json(&["get", "zone/red", "-n", "drystone-system"]);
        let message = zone.pointer("/status/message").and_then(Value::as_str).unwrap_or_default().to_owned();
        message.contains("hsn-b").then_some(())
    });
    assert_eq!(drystone.device("HSN", "POST", CLEAR, &json!({}), &[]).status, 204);
    assert_eq!(finished(&drystone, &reply), 200);
    assert_eq!(zones_in_hardware(&drystone).len(), 3);
    let phase = ["get", "zone/red", "-n", "drystone-system", "-o", "jsonpath={.status.phase}"];
    assert_eq!(drystone.must(&phase), "Ready");
    drystone.stop();
}

#[test]
fn a_table_that_a_switch_cannot_hold_is_taken_back_everywhere() {
    let (mut drystone, zone) = with_fabric();
    for status in [507, 400] {
        let fault = json!({"Kind": "TableRefused", "Switch": "hsn-b", "Status": status});
        assert_eq!(drystone.device("HSN", "POST", SET, &fault, &[]).status, 204);
        let reply = drystone.redfish("POST", &format!("{HSN}/Zones"), &zone, &[]);
        assert_eq!(reply.status, 409, "{reply:?}");
        let text = reply.body.to_string();
        assert!(text.contains("OperationFailed") && text.contains("hsn-b"), "{text}");
        assert_eq!(zones_in_hardware(&drystone), [""; 0], "left in the fabric");
        assert_eq!(drystone.items(&["get", "zones", "-A"]).len(), 0);
        assert_eq!(drystone.device("HSN", "POST", CLEAR, &json!({}), &[]).status, 204);
    }
    let reply = drystone.redfish("POST", &format!("{HSN}/Zones"), &zone, &[]);
    assert_eq!(finished(&drystone, &reply), 200);
    drystone.stop();
}

#[test]
fn an_agent_that_dies_half_way_is_carried_on_with() {
    let (mut drystone, zone) = with_fabric();
    for kind in ["DiesBefore", "DiesAfter"] {
        let fault = json!({"Kind": kind, "Count": 1, "DelaySeconds": 3});
        let set = drystone.device("HSN", "POST", SET, &fault, &[]);
        assert_eq!(set.status, 204, "{set:?}");
        let reply = drystone.redfish("POST", &format!("{HSN}/Zones"), &zone, &[]);
        assert_eq!(finished(&drystone, &reply), 200, "{kind}");
        assert_eq!(zones_in_hardware(&drystone).len(), 3, "{kind}");
        let gone = drystone.redfish("DELETE", &format!("{HSN}/Zones/red"), &Value::Null, &[]);
        assert_eq!(gone.status, 204, "{kind}: {gone:?}");
        assert_eq!(zones_in_hardware(&drystone), [""; 0], "{kind}");
    }
    drystone.stop();
}
