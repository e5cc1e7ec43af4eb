//! A control plane of three on etcd: any one host may be lost under writes; nothing that was acknowledged is, and another host takes its
//! place.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use base64::Engine as _;
use serde_json::{Value, json};

use super::kill::Reaper;
use crate::stage::{Drystone, is_skipped, kubectl};

/// How often Drystone is killed while it creates the cluster, and while it heals it.
const KILLS: usize = 3;

/// Whether etcd is missing; says so.
fn has_no_etcd() -> bool {
    let path = std::env::var_os("PATH").unwrap();
    let missing = !std::env::split_paths(&path).any(|directory| directory.join("etcd").is_file());
    if missing {
        println!("skipped: etcd is not installed");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI: etcd is not installed");
    }
    missing
}

/// Makes ConfigMaps until it is told to stop, one after the other.
struct Writer {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<(String, Instant)>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    fn start(kubeconfig: PathBuf) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (told, list): (_, Arc<Mutex<Vec<_>>>) = (Arc::clone(&stop), Arc::clone(&acknowledged));
        let thread = std::thread::spawn(move || {
            let mut number = 0;
            while !told.load(Ordering::Relaxed) {
                let name = format!("entry-{number:05}");
                let arguments = ["create", "configmap", &name, "--from-literal=x=1", "--request-timeout=3s"];
                if kubectl(&kubeconfig, &arguments).is_ok() {
                    list.lock().unwrap().push((name, Instant::now()));
                }
                number += 1;
            }
        });
        Self { stop, acknowledged, thread: Some(thread) }
    }

    /// Names of what was acknowledged.
    fn finish(&mut self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        self.acknowledged.lock().unwrap().iter().map(|(name, _)| name.clone()).collect()
    }

    /// When the first write after a moment was acknowledged.
    fn first_after(&self, moment: Instant) -> Option<Instant> {
        let list = self.acknowledged.lock().unwrap();
        list.iter().map(|(_, time)| *time).find(|time| *time > moment)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A host's management controller.
struct Bmc {
    url: String,
    credentials: String,
}

impl Bmc {
    fn of(drystone: &Drystone, host: &str) -> Self {
        let object = drystone.json(&["get", "baremetalhost", host, "-n", "drystone-system"]);
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
        let address = text("/spec/bmc/address");
        let (_, url) = address.split_once('+').unwrap();
        let secret =
            drystone.json(&["get", "secret", &text("/spec/bmc/credentialsName"), "-n", "drystone-system"]);
        let decoded = |key: &str| {
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(secret["data"][key].as_str().unwrap())
                .unwrap();
            String::from_utf8(bytes).unwrap()
        };
        Self {
            url: url.split("/redfish").next().unwrap().trim_end_matches('/').to_owned(),
            credentials: format!("{}:{}", decoded("username"), decoded("password")),
        }
    }

    fn post(&self, path: &str, body: &Value) {
        let mut command = Command::new("curl");
        command.args(["-sS", "--fail-with-body", "--noproxy", "*", "-u", &self.credentials]);
        command.args(["-H", "Content-Type: application/json", "-d", &body.to_string()]);
        let output = command.arg(format!("{}{path}", self.url)).output().unwrap();
        assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stdout));
    }

    /// The host loses its power; whoever is in charge of it may switch it on again.
    fn power_off(&self) {
        self.post("/redfish/v1/Systems/1/Actions/ComputerSystem.Reset", &json!({"ResetType": "ForceOff"}));
    }

    /// The host loses its power and cannot be switched on again: its controller does not answer any more.
    fn break_down(&self) {
        self.power_off();
        self.post(
            "/redfish/v1/Managers/1/Actions/Oem/DrystoneManager.SetFault",
            &json!({"Kind": "Unavailable503"}),
        );
    }
}

fn cluster(drystone: &Drystone) -> Value {
    drystone.json(&["get", "cluster/ledger", "-n", "bank"])
}

/// Hosts of a role.
fn hosts(drystone: &Drystone, role: &str) -> BTreeSet<String> {
    let members = cluster(drystone)["status"]["members"].as_array().cloned().unwrap_or_default();
    let of_role = members.iter().filter(|member| member["role"] == role);
    of_role.map(|member| member["host"].as_str().unwrap().to_owned()).collect()
}

/// Names of the members of etcd that vote.
fn voters(inside: &Path) -> Result<BTreeSet<String>, String> {
    let text = kubectl(inside, &["get", "--raw", "/control-plane/members", "--request-timeout=3s"])?;
    let list: Value = serde_json::from_str(&text).unwrap();
    let voting = list["items"].as_array().unwrap().iter().filter(|member| member["learner"] == false);
    Ok(voting.map(|member| member["name"].as_str().unwrap().to_owned()).collect())
}

/// Waits until these members vote, and no others.
fn wait_for_voters(drystone: &Drystone, inside: &Path, expected: &BTreeSet<String>) {
    drystone.wait_for(&format!("{expected:?} to vote"), || {
        voters(inside).is_ok_and(|voting| voting == *expected).then_some(())
    });
}

/// The host that answers for the control plane.
fn holder(drystone: &Drystone) -> String {
    let endpoint = cluster(drystone)["status"]["endpoint"].as_str().unwrap().to_owned();
    let address = endpoint.trim_start_matches("https://").trim_end_matches(":6443").to_owned();
    drystone.wait_for("a holder of the control plane's address", || {
        drystone.namespaces().into_iter().find_map(|namespace| {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net=/run/netns/{namespace}"));
            let shown = command.args(["ip", "-o", "-4", "address"]).output().ok()?;
            let has = String::from_utf8_lossy(&shown.stdout).contains(&format!(" {address}/32 "));
            let (_, host) = namespace.split_once('-')?.1.split_once('-')?;
            has.then(|| host.to_owned())
        })
    })
}

fn is_ready(drystone: &Drystone) -> bool {
    let phase = ["get", "cluster/ledger", "-n", "bank", "-o", "jsonpath={.status.phase}"];
    drystone.kubectl(&phase).is_ok_and(|phase| phase == "Ready")
}

#[test]
fn a_control_plane_of_three_loses_any_one_host() {
    if is_skipped() || has_no_etcd() {
        return;
    }
    let mut drystone = Drystone::new("netns", |site| site);
    let mut reaper = Reaper { done: 0, seed: 11, most: 30 };
    drystone.start();
    let site = ["wait", "--for=condition=Ready", "site", "--all", "-n", "drystone-system", "--timeout=300s"];
    drystone.must(&site);
    drystone.must(&["apply", "-f", "examples/ha/cluster.yaml"]);
    let begun = Instant::now();
    reaper.until(&mut drystone, KILLS, is_ready);
    println!("ready after {:.1} s and {} kills", begun.elapsed().as_secs_f64(), reaper.done);
    let inside = drystone.cluster_kubeconfig("bank", "ledger");
    let before = hosts(&drystone, "ControlPlane");
    assert_eq!(before.len(), 3);
    wait_for_voters(&drystone, &inside, &before);

    // The host that answers breaks down under writes.
    let mut writer = Writer::start(inside.clone());
    drystone.wait_for("some writes", || writer.first_after(begun));
    let lost = holder(&drystone);
    assert!(before.contains(&lost), "{lost} is no control plane");
    let bmc = Bmc::of(&drystone, &lost);
    let moment = Instant::now();
    bmc.break_down();
    let broken = Instant::now();
    // A write that was under way may be acknowledged at the last moment.
    let again = drystone
        .wait_for("writes after the loss", || writer.first_after(broken + Duration::from_millis(500)));
    println!("{lost} was lost; writes were acknowledged again after {:.1} s", (again - moment).as_secs_f64());
    assert_ne!(holder(&drystone), lost);

    // It is given up, and another host takes its place; Drystone is killed meanwhile.
    drystone.wait_for("the loss to be noticed", || {
        let excluded = cluster(&drystone)["status"]["excludedHosts"].clone();
        excluded.as_array().is_some_and(|hosts| hosts.contains(&json!(lost))).then_some(())
    });
    println!("the loss was noticed after {:.1} s", moment.elapsed().as_secs_f64());
    let healed = |drystone: &Drystone| {
        let members = hosts(drystone, "ControlPlane");
        is_ready(drystone) && members.len() == 3 && !members.contains(&lost)
    };
    let kills = reaper.done + KILLS;
    reaper.until(&mut drystone, KILLS, healed);
    println!("healed after {:.1} s and {} kills", moment.elapsed().as_secs_f64(), reaper.done);
    assert!(reaper.done <= kills);
    let after = hosts(&drystone, "ControlPlane");
    wait_for_voters(&drystone, &inside, &after);

    // Every write that was acknowledged is there.
    let acknowledged = writer.finish();
    let text = kubectl(&inside, &["get", "configmaps", "-o", "jsonpath={.items[*].metadata.name}"]).unwrap();
    let there: BTreeSet<String> = text.split_whitespace().map(str::to_owned).collect();
    let gone: Vec<&String> = acknowledged.difference(&there).collect();
    println!("{} writes were acknowledged", acknowledged.len());
    assert!(gone.is_empty(), "lost: {gone:?}");
    let nodes = kubectl(&inside, &["get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"]).unwrap();
    let nodes: BTreeSet<String> = nodes.split_whitespace().map(str::to_owned).collect();
    let members: BTreeSet<String> = after.union(&hosts(&drystone, "Worker")).cloned().collect();
    assert_eq!(nodes, members, "nodes are not the members");

    one_after_the_other(&drystone, &inside, &after);

    // What runs on it goes on being managed: a pod is made by the controllers of whoever leads now.
    let image = "--image=drystone.dev/hello:1";
    kubectl(&inside, &["create", "deployment", "after", image]).unwrap();
    if let Err(error) = kubectl(&inside, &["rollout", "status", "deployment/after", "--timeout=300s"]) {
        panic!("{error}\n{}", what_there_is(&inside));
    }

    drystone.must(&["delete", "cluster/ledger", "-n", "bank", "--timeout=300s"]);
    drystone.assert_all_given_back();
    drystone.stop();
    assert_eq!(drystone.namespaces(), [""; 0], "namespaces are left");
}

/// What to look at where pods do not run.
fn what_there_is(inside: &Path) -> String {
    let look = |arguments: &[&str]| kubectl(inside, arguments).unwrap_or_else(|error| error);
    [
        look(&["get", "nodes,pods,replicasets,deployments,leases", "--all-namespaces", "-o", "wide"]),
        look(&["describe", "nodes,pods"]),
        look(&["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"]),
    ]
    .join("\n")
}

/// Hosts that only lose their power come back with their data: when the first one is back, the next one may go.
fn one_after_the_other(drystone: &Drystone, inside: &Path, control_planes: &BTreeSet<String>) {
    for host in control_planes.iter().take(2) {
        let boots = drystone.boots(host).len();
        Bmc::of(drystone, host).power_off();
        // Each attempt has a name of its own: one that was not answered in time may have been carried out all the same.
        let mut attempt = 0;
        drystone.wait_for("a write without this host", || {
            attempt += 1;
            let name = format!("without-{host}-{attempt}");
            let arguments = ["create", "configmap", &name, "--from-literal=x=1", "--request-timeout=3s"];
            kubectl(inside, &arguments).ok()
        });
        drystone.wait_for("the host to be switched on again", || {
            (drystone.boots(host).len() > boots).then_some(())
        });
    }
    // Nobody was replaced.
    wait_for_voters(drystone, inside, control_planes);
    assert_eq!(hosts(drystone, "ControlPlane"), *control_planes);
}

#[test]
fn what_cannot_be_is_refused_with_the_field() {
    let mut drystone = Drystone::new("sim", |site| site.replace("scale: 1.0", "scale: 0.05"));
    drystone.start();
    let text = std::fs::read_to_string(crate::stage::workspace().join("examples/ha/cluster.yaml")).unwrap();
    let file = drystone.data.join("two.yaml");
    std::fs::write(&file, text.replace("replicas: 3", "replicas: 2")).unwrap();
    drystone.must(&["apply", "-f", file.to_str().unwrap()]);
    let message = drystone.wait_for("a refusal", || {
        let status = cluster(&drystone)["status"].clone();
        status["message"].as_str().filter(|message| message.contains("replicas")).map(str::to_owned)
    });
    assert!(message.starts_with("spec.controlPlane.replicas: 2 is not possible"), "{message}");
    let error = drystone
        .kubectl(&[
            "patch",
            "cluster/ledger",
            "-n",
            "bank",
            "--type=merge",
            "-p",
            r#"{"spec":{"controlPlane":{"replicas":5}}}"#,
        ])
        .unwrap_err();
    assert!(error.contains("spec.controlPlane.replicas"), "{error}");
    drystone.must(&["delete", "cluster/ledger", "-n", "bank", "--timeout=300s"]);
    drystone.stop();
}
