//! The flow of a site: a list of hosts becomes a cluster; a host that is put on the list is installed and joins; one that is taken off
//! is drained and given back.

use serde_json::{Value, json};

use crate::stage::{Drystone, is_skipped, kubectl};

const SYSTEM: [&str; 2] = ["-n", "drystone-system"];

/// The entry of a host in the list that the site has now, with a role.
fn entry(all: &[Value], name: &str, role: &str) -> Value {
    let found = all.iter().find(|bmc| bmc["name"] == name);
    let mut entry = found.unwrap_or_else(|| panic!("no host {name}")).clone();
    entry["role"] = role.into();
    entry
}

/// The only site.
fn site(drystone: &Drystone) -> Value {
    let mut sites = drystone.items(&[&["get", "sites"], &SYSTEM[..]].concat());
    sites.pop().unwrap_or_else(|| panic!("no site"))
}

fn relist(drystone: &Drystone, list: &[Value], cluster: &Value) {
    let patch = json!({"spec": {"bmcs": list, "cluster": cluster}}).to_string();
    let site = site(drystone);
    let name = site["metadata"]["name"].as_str().unwrap();
    drystone.must(&[&["patch", "site", name, "--type", "merge", "-p", &patch], &SYSTEM[..]].concat());
}

fn wait_for_nodes(drystone: &Drystone, nodes: u64) {
    drystone.wait_for(&format!("{nodes} nodes"), || {
        let site = site(drystone);
        let cluster = &site["status"]["cluster"];
        (cluster["phase"] == "Ready" && cluster["readyNodes"] == nodes).then_some(())
    });
}

#[test]
fn a_cluster_follows_its_list() {
    if is_skipped() {
        return;
    }
    let mut drystone = Drystone::new("netns", |site| site);
    drystone.start();
    let all = site(&drystone)["spec"]["bmcs"].as_array().cloned().unwrap();
    let of = |name: &str, role: &str| entry(&all, name, role);
    let cluster = json!({"name": "edge", "namespace": "edge"});
    let mut list = vec![of("control-01", "ControlPlane"), of("compute-01", "Worker")];
    relist(&drystone, &list, &cluster);
    wait_for_nodes(&drystone, 2);

    // A compute node is added to the list.
    list.push(of("compute-02", "Worker"));
    relist(&drystone, &list, &cluster);
    wait_for_nodes(&drystone, 3);
    let inside = drystone.cluster_kubeconfig("edge", "edge");
    let nodes = || kubectl(&inside, &["get", "nodes", "-o", "name"]).unwrap_or_default();
    assert!(nodes().contains("node/compute-02"), "{}", nodes());

    // One is taken off: its node goes, it is powered off, given back and forgotten.
    list.remove(1);
    relist(&drystone, &list, &cluster);
    drystone.wait_for("the host to be forgotten", || {
        let hosts = drystone.items(&[&["get", "baremetalhosts"], &SYSTEM[..]].concat());
        (!hosts.iter().any(|host| host["metadata"]["name"] == "compute-01")).then_some(())
    });
    wait_for_nodes(&drystone, 2);
    assert!(!nodes().contains("node/compute-01"), "{}", nodes());

    // Without a cluster the hosts are anybody's again.
    relist(&drystone, &list, &Value::Null);
    drystone.wait_for("all hosts back", || drystone.claimed().is_empty().then_some(()));
    // They are back a moment before the cluster is gone.
    drystone.wait_for("the cluster's end", || {
        drystone.items(&["get", "clusters", "-A"]).is_empty().then_some(())
    });
    drystone.assert_all_given_back();
    drystone.stop();
}
