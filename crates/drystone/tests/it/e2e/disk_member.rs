//! A virtual machine with real firmware becomes a member of a cluster the way a real server does: the agent boots from virtual media, writes
//! an image out of the site's own store to the disk, the machine boots its disk and joins; beside a control plane that is namespaces. Needs
//! QEMU and the images of `./dev image`.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use serde_json::{Value, json};

use crate::{
    disk_images::await_state,
    stage::{Drystone, is_skipped, kubectl, workspace},
};

const WORKER: &str = "vm-01";

/// Images, or why the test cannot run.
fn images() -> Result<(PathBuf, PathBuf), String> {
    let images = workspace().join("target/images");
    let (agent, system) = (images.join("agent.iso"), images.join("node.qcow2"));
    for file in [&agent, &system] {
        if !file.is_file() {
            return Err(format!("no {}; `./dev image` makes it", file.display()));
        }
    }
    let qemu = std::process::Command::new("qemu-system-x86_64").arg("--version").output();
    qemu.map(|_| (agent, system)).map_err(|_| "qemu-system-x86_64 is not installed".to_owned())
}

fn site(text: &str) -> String {
    let name = text.lines().find(|line| line.starts_with("name: ")).unwrap();
    format!(
        "{name}
backend: netns
timing: {{scale: 0}}
fabrics: [{{id: Ethernet, switches: [{{name: eth-a, ports: 4, speedGbps: 25}}]}}]
templates:
  host: {{processor: {{cores: 2, threads: 2}}, memoryMiB: 1280, drives: [{{capacityGiB: 6, media: SSD}}], nics: [{{name: eth0, switch: eth-a}}]}}
hosts:
- {{name: control-01, template: host}}
- {{name: {WORKER}, template: host, backend: qemu}}
gateway: {{nodeAddress: 10.20.0.1/16, nodeAllocation: 10.20.1.0/24, campusAddress: 203.0.113.1/24, switch: eth-a, port: p4}}
"
    )
}

/// Puts the image of the system into the site's store; returns it as a cluster names it.
fn push(drystone: &Drystone, file: &Path) -> Value {
    let file = file.to_str().unwrap();
    let pushed = drystone.drystone(&[
        "image",
        "push",
        file,
        "--owner",
        "drystone-system",
        "--cluster",
        "any",
        "--type",
        "os",
    ]);
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    let artifact = drystone.items(&["get", "artifacts", "-n", "drystone-system"]).remove(0);
    let (urls, digest) = (&artifact["status"]["urls"], artifact["status"]["digest"].as_str().unwrap());
    let mut urls = urls.as_array().unwrap().iter().filter_map(Value::as_str);
    let url = urls.find(|url| url.starts_with("https://127.0.0.1")).unwrap();
    json!({"url": url, "checksum": digest.trim_start_matches("sha256:"), "checksumType": "sha256", "format": "qcow2"})
}

fn cluster(image: &Value) -> Value {
    let pool = json!({"name": "machines", "replicas": 1, "onlyHosts": [WORKER], "image": image});
    json!({"apiVersion": "drystone.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "mixed", "namespace": "default"},
        "spec": {"controlPlane": {"onlyHosts": ["control-01"]}, "workers": [pool]}})
}

/// A pod on a node, wherever that is.
fn pod(name: &str, node: &str) -> Value {
    let container = json!({"name": "main", "image": "drystone.dev/hello:1", "imagePullPolicy": "Never",
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8080}, "periodSeconds": 1, "timeoutSeconds": 10}});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"nodeName": node, "tolerations": [{"operator": "Exists"}], "containers": [container]}})
}

fn apply(drystone: &Drystone, kubeconfig: &Path, name: &str, object: &Value) {
    let file = drystone.data.join(format!("{name}.json"));
    std::fs::write(&file, object.to_string()).unwrap();
    kubectl(kubeconfig, &["apply", "-f", file.to_str().unwrap()]).unwrap();
}

/// Starts a pod on each kind of host and has them ask each other, by address and by the name of a Service.
fn pods_reach_each_other(drystone: &Drystone, inside: &Path) {
    let must = |arguments: &[&str]| kubectl(inside, arguments).unwrap();
    for (name, node) in [("among", "control-01"), ("beside", WORKER)] {
        apply(drystone, inside, name, &pod(name, node));
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]}});
        apply(drystone, inside, &format!("{name}-service"), &service);
    }
    for name in ["among", "beside"] {
        must(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=600s"]);
    }
    for (from, to) in [("among", "beside"), ("beside", "among")] {
        let address = must(&["get", "pod", to, "-o", "jsonpath={.status.podIP}"]);
        for place in [format!("{address}:8080"), format!("{to}.default.svc.cluster.local:80")] {
            drystone.wait_for(&format!("an answer of {to} at {place} to {from}"), || {
                let answer = kubectl(inside, &["exec", from, "--", "/hello", "fetch", &place, "/"]).ok()?;
                answer.contains(&format!("pod {to}\n")).then_some(())
            });
        }
    }
}

#[test]
fn a_machine_that_boots_from_its_disk_joins_a_cluster() {
    if is_skipped() {
        return;
    }
    let (agent, system) = match images() {
        Ok(images) => images,
        Err(reason) => {
            println!("skipped: {reason}");
            assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
            return;
        }
    };
    let begin = Instant::now();
    let tell = |what: &str| println!("{:5.1} s: {what}", begin.elapsed().as_secs_f64());
    let mut drystone = Drystone::new("netns", |text| site(&text));
    drystone.arguments = vec!["--agent-medium".to_owned(), agent.display().to_string()];
    drystone.start();
    let image = push(&drystone, &system);
    tell("the image is in the store");
    await_state(&drystone, WORKER, "available");
    apply(&drystone, &drystone.kubeconfig(), "cluster", &cluster(&image));
    let written = |host: &Value| host["metadata"]["annotations"]["drystone.dev/image-written"].is_string();
    drystone.wait_for("an image on the disk", || {
        written(&drystone.json(&["get", "baremetalhost", WORKER, "-n", "drystone-system"])).then_some(())
    });
    tell("the agent has written the disk");
    await_state(&drystone, WORKER, "provisioned");
    tell("the machine runs from its disk");
    let cluster = drystone.wait_for("the cluster", || {
        let cluster = drystone.json(&["get", "cluster/mixed"]);
        (cluster["status"]["phase"] == "Ready" && cluster["status"]["readyNodes"] == 2).then_some(cluster)
    });
    tell("the cluster is ready");
    assert_eq!(cluster["status"]["hosts"], 2, "{cluster}");
    let inside = drystone.cluster_kubeconfig("default", "mixed");
    let kernel =
        kubectl(&inside, &["get", "node", WORKER, "-o", "jsonpath={.status.nodeInfo.kernelVersion}"]);
    let own =
        kubectl(&inside, &["get", "node", "control-01", "-o", "jsonpath={.status.nodeInfo.kernelVersion}"]);
    assert_ne!(kernel.unwrap(), own.unwrap(), "the machine has a kernel of its own");
    pods_reach_each_other(&drystone, &inside);
    tell("pods on both hosts reach each other");

    drystone.must(&["delete", "cluster/mixed", "--timeout=900s"]);
    let host = await_state(&drystone, WORKER, "available");
    assert!(!written(&host), "cleaned: {host}");
    tell("the machine is clean");
    drystone.assert_all_given_back();
    drystone.stop();
    assert_eq!(drystone.namespaces(), [""; 0], "namespaces are left");
}
