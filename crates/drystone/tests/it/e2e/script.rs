//! A cluster that a program of the user's sets up over SSH on composed hosts: real sshd in the hosts, real nodes, pods that run.

use std::path::Path;

use serde_json::Value;

use super::kill::Reaper;
use crate::stage::{Drystone, is_skipped, kubectl, workspace};

/// How often Drystone is killed while it installs.
const KILLS: usize = 3;

fn lacks(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| !Path::new(program).exists());
    if let Some(program) = missing {
        println!("skipped: {program} is not installed");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI: {program}");
    }
    missing.is_some()
}

fn phase(drystone: &Drystone) -> String {
    drystone
        .kubectl(&["get", "cluster/own", "-n", "research", "-o", "jsonpath={.status.phase}"])
        .unwrap_or_default()
}

fn ready_nodes(inside: &Path) -> Vec<String> {
    let path =
        "jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type==\"Ready\")].status} {end}";
    let text = kubectl(inside, &["get", "nodes", "-o", path, "--request-timeout=5s"]).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.strip_suffix("=True").map(str::to_owned)).collect()
}

fn hosts_of_pool(drystone: &Drystone, role: &str) -> Vec<String> {
    let cluster = drystone.json(&["get", "cluster/own", "-n", "research"]);
    let members = cluster["status"]["members"].as_array().cloned().unwrap_or_default();
    let of_role = members.iter().filter(|member| member["role"] == role);
    of_role.map(|member| member["host"].as_str().unwrap().to_owned()).collect()
}

fn scale(drystone: &Drystone, replicas: u32) {
    let patch =
        format!("[{{\"op\": \"replace\", \"path\": \"/spec/workers/0/replicas\", \"value\": {replicas}}}]");
    drystone.must(&["patch", "cluster/own", "-n", "research", "--type=json", "-p", &patch]);
    drystone.wait_for("the cluster of another size", || {
        let settled =
            phase(drystone) == "Ready" && hosts_of_pool(drystone, "Worker").len() == replicas as usize;
        settled.then_some(())
    });
}

#[test]
fn a_program_of_the_users_own_sets_a_cluster_up_over_ssh() {
    if is_skipped() || lacks(&["/usr/sbin/sshd", "/usr/bin/jq", "/usr/bin/openssl"]) {
        return;
    }
    let mut drystone = Drystone::new("netns", |site| site);
    drystone.start();
    drystone.must(&["create", "namespace", "research"]);
    let file = "--from-file=install=examples/script/install.sh";
    drystone.must(&["create", "configmap", "own-installer", "-n", "research", file]);
    drystone.must(&["apply", "-f", "examples/script/cluster.yaml"]);
    let archive = workspace().join("target/images/hello.tar");
    let patch = serde_json::json!({"spec": {"script": {"environment": {"IMAGE_ARCHIVES": archive}}}});
    drystone.must(&["patch", "cluster/own", "-n", "research", "--type=merge", "-p", &patch.to_string()]);
    let mut reaper = Reaper { done: 0, seed: 7, most: 30 };
    reaper.until(&mut drystone, KILLS, |drystone| phase(drystone) == "Ready");
    assert_eq!(reaper.done, KILLS);

    let inside = drystone.cluster_kubeconfig("research", "own");
    let control_plane = hosts_of_pool(&drystone, "ControlPlane");
    assert_eq!((control_plane.len(), hosts_of_pool(&drystone, "Worker").len()), (1, 1));
    drystone.wait_for("two nodes", || (ready_nodes(&inside).len() == 2).then_some(()));
    kubectl(&inside, &["create", "deployment", "hello", "--image=drystone.dev/hello:1", "--replicas=3"])
        .unwrap();
    kubectl(&inside, &["wait", "--for=condition=Available", "deployment/hello", "--timeout=300s"]).unwrap();
    let labelled =
        kubectl(&inside, &["get", "nodes", "-l", "example.com/tier=general", "-o", "name"]).unwrap();
    assert_eq!(labelled.lines().count(), 1);

    scale(&drystone, 2);
    drystone.wait_for("three nodes", || (ready_nodes(&inside).len() == 3).then_some(()));
    assert_eq!(hosts_of_pool(&drystone, "ControlPlane"), control_plane);
    scale(&drystone, 1);
    drystone.wait_for("two nodes", || (ready_nodes(&inside).len() == 2).then_some(()));

    nothing_is_told(&drystone, &inside);
    drystone.must(&["delete", "cluster/own", "-n", "research", "--timeout=300s"]);
    drystone.assert_all_given_back();
}

/// No operation and no line of the log has a join token, a key or a kubeconfig in it.
fn nothing_is_told(drystone: &Drystone, inside: &Path) {
    let secrets = kubectl(inside, &["get", "secrets", "-n", "kube-system", "-o", "json"]).unwrap();
    let secrets: Value = serde_json::from_str(&secrets).unwrap();
    let tokens: Vec<String> = secrets["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|secret| secret["type"] == "bootstrap.kubernetes.io/token")
        .map(|secret| {
            use base64::Engine as _;
            let text = secret["data"]["token-secret"].as_str().unwrap();
            String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text).unwrap()).unwrap()
        })
        .collect();
    assert!(
        tokens.len() >= 3,
        "one of the control plane's and one for each host that joined: {}",
        tokens.len()
    );
    let operations = drystone.must(&["get", "operations", "-A", "-o", "json"]);
    let log = std::fs::read_to_string(drystone.data.join("drystone.log")).unwrap();
    for text in [&operations, &log] {
        for token in &tokens {
            assert!(!text.contains(token.as_str()), "a join token is told");
        }
        assert!(!text.contains("PRIVATE KEY") && !text.contains("client-key-data"));
    }
}
