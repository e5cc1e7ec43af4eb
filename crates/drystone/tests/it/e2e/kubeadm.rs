//! kubeadm on hosts that are there already, with a stand-in for kubeadm that checks what it is told and sets up Drystone's control plane;
//! all else is real: OpenSSH's servers, the order in which hosts join, kubectl. Then the same cluster as an existing one.

use std::{
    collections::BTreeMap,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use super::kill::Reaper;
use crate::stage::{Drystone, kubectl};

const KUBEADM: &str = include_str!("../../../../cluster/tests/it/kubeadm.py");

/// What the stand-in does beside checking: a control plane, and Nodes.
const HOOK: &str = include_str!("kubeadm-hook.sh");

/// Control planes and workers.
const CONTROL_PLANES: usize = 3;
const WORKERS: usize = 4;

/// How often Drystone is killed while it installs.
const KILLS: usize = 4;

/// A host: a mount namespace with an SSH server on a loopback address of its own.
struct Host {
    name: String,
    address: String,
    server: Child,
}

struct Rack {
    directory: tempfile::TempDir,
    hosts: Vec<Host>,
    port: u16,
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn write(path: &Path, text: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

impl Rack {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let d = directory.path();
        run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", d.join("user").to_str().unwrap()]);
        let port = drystone_loopback::free_port();
        let mut rack = Self { hosts: Vec::new(), port, directory };
        for number in 1..=CONTROL_PLANES + WORKERS {
            let name = if number <= CONTROL_PLANES {
                format!("cp{number}")
            } else {
                format!("w{}", number - CONTROL_PLANES)
            };
            let host = rack.host(&name, &format!("127.77.{}.{number}", std::process::id() % 250));
            rack.hosts.push(host);
        }
        rack
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn host(&self, name: &str, address: &str) -> Host {
        let d = self.path(name);
        for folder in ["drystone", "kubernetes", "run", "cni"] {
            std::fs::create_dir_all(d.join(folder)).unwrap();
        }
        run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", d.join("host_key").to_str().unwrap()]);
        let log = self.path("kubeadm.log");
        let kubeadm = format!(
            "#!/bin/sh\nexport KUBEADM_LOG={} PROGRAM={} HOST={name} ADDRESS={address} SHARED={}\nexec sh {}/hook.sh \"$@\"\n",
            log.display(),
            env!("CARGO_BIN_EXE_drystone"),
            self.directory.path().display(),
            d.display(),
        );
        write(&d.join("hook.sh"), HOOK, 0o644);
        write(&d.join("bin/kubeadm"), &kubeadm, 0o755);
        write(&d.join("bin/kubeadm.py"), KUBEADM, 0o755);
        for quiet in ["kubelet", "containerd", "systemctl", "swapoff", "modprobe", "sysctl"] {
            write(&d.join("bin").join(quiet), "#!/bin/sh\n", 0o755);
        }
        let config = format!(
            "Port {}\nListenAddress {address}\nHostKey {}/host_key\nAuthorizedKeysFile {}/user.pub\nPermitRootLogin yes\n\
             StrictModes no\nUsePAM no\nPidFile none\nSetEnv PATH={}/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
            self.port,
            d.display(),
            self.directory.path().display(),
            d.display()
        );
        write(&d.join("sshd_config"), &config, 0o644);
        let setup = format!(
            "set -e; D={0}; mkdir $D/scratch; mount -t tmpfs tmpfs $D/scratch; \
             for name in etc var/lib; do mkdir -p $D/scratch/$name/upper $D/scratch/$name/work; \
               mount -t overlay overlay -o lowerdir=/$name,upperdir=$D/scratch/$name/upper,workdir=$D/scratch/$name/work /$name; done; \
             mkdir -p /var/lib/drystone /etc/kubernetes /etc/cni/net.d /etc/sysctl.d; \
             mount --bind $D/drystone /var/lib/drystone; mount --bind $D/kubernetes /etc/kubernetes; mount --bind $D/run /run; \
             mkdir -p /run/sshd; exec /usr/sbin/sshd -D -e -f $D/sshd_config",
            d.display()
        );
        let log = std::fs::File::create(d.join("sshd.log")).unwrap();
        let server = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &setup])
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let end = std::time::Instant::now() + Duration::from_secs(120);
        while TcpStream::connect((address, self.port)).is_err() {
            assert!(std::time::Instant::now() < end, "sshd of {name} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Host { name: name.to_owned(), address: address.to_owned(), server }
    }

    /// The host as a Cluster lists it; every second one by its fingerprint, the others by trust at the first connection.
    fn listed(&self, host: &Host, number: usize) -> Value {
        let role = if host.name.starts_with("cp") { "ControlPlane" } else { "Worker" };
        let file = self.path(&host.name).join("host_key.pub");
        let shown = run("ssh-keygen", &["-lf", file.to_str().unwrap()]);
        let keys = if number.is_multiple_of(2) {
            vec![shown.split_whitespace().nth(1).unwrap().to_owned()]
        } else {
            vec![]
        };
        json!({"name": host.name, "address": host.address, "role": role, "hostKeys": keys})
    }

    fn all_listed(&self) -> Vec<Value> {
        self.hosts.iter().enumerate().map(|(number, host)| self.listed(host, number)).collect()
    }

    /// What was done on hosts, in order.
    fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("kubeadm.log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// When hosts began and ended to join, by host; the last time of each.
    fn joins(&self) -> BTreeMap<String, (f64, f64)> {
        let mut joins = BTreeMap::new();
        for entry in self.log() {
            let Some(host) = entry["joined"].as_str() else { continue };
            joins.insert(
                host.to_owned(),
                (entry["begun"].as_f64().unwrap(), entry["ended"].as_f64().unwrap()),
            );
        }
        joins
    }
}

impl Drop for Rack {
    fn drop(&mut self) {
        for host in &mut self.hosts {
            let _ = Command::new("pkill").args(["-KILL", "-P", &host.server.id().to_string()]).status();
            let _ = host.server.kill();
            let _ = host.server.wait();
            // The control plane that the stand-in started, if the cluster was not deleted.
            if let Ok(pid) = std::fs::read_to_string(self.directory.path().join("control-plane.pid")) {
                let _ = Command::new("kill").args(["-KILL", pid.trim()]).stderr(Stdio::null()).status();
            }
        }
    }
}

fn is_skipped() -> bool {
    let programs =
        ["/usr/sbin/sshd", "/usr/bin/unshare", "/usr/bin/python3", "/usr/bin/openssl", "/usr/bin/pkill"];
    let missing = programs.into_iter().find(|program| !Path::new(program).exists());
    let why = if nix::unistd::geteuid().is_root() { missing } else { Some("root") };
    if let Some(why) = why {
        println!("skipped: needs {why}");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI: needs {why}");
    }
    why.is_some()
}

fn status(drystone: &Drystone, name: &str, path: &str) -> String {
    let path = format!("jsonpath={{.status.{path}}}");
    drystone.kubectl(&["get", &format!("cluster/{name}"), "-n", "research", "-o", &path]).unwrap_or_default()
}

fn apply(drystone: &Drystone, object: &Value) {
    let file = drystone.data.join("object.json");
    std::fs::write(&file, object.to_string()).unwrap();
    drystone.must(&["apply", "-f", file.to_str().unwrap()]);
}

fn cluster(rack: &Rack, hosts: &[Value]) -> Value {
    let endpoint = format!("{}:6443", rack.hosts[0].address);
    json!({
        "apiVersion": "drystone.dev/v1alpha1", "kind": "Cluster",
        "metadata": {"name": "metal", "namespace": "research"},
        "spec": {
            "distribution": "Kubeadm",
            "kubeadm": {"addonsConfigMap": "cni", "ignorePreflightErrors": ["Swap"]},
            "controlPlane": {"endpoint": endpoint},
            "access": {"credentialsName": "rack-ssh", "port": rack.port, "trustOnFirstUse": true},
            "hosts": hosts,
        },
    })
}

fn wait_ready(drystone: &Drystone, hosts: usize) {
    drystone.wait_for(&format!("the cluster with {hosts} hosts"), || {
        // At one moment: while it grows it is not Ready, but has its number already.
        let both = "jsonpath={.status.phase}:{.status.hosts}";
        let both = drystone.kubectl(&["get", "cluster/metal", "-n", "research", "-o", both]);
        both.is_ok_and(|both| both == format!("Ready:{hosts}")).then_some(())
    });
}

#[test]
fn hosts_that_are_there_already_become_a_cluster_by_kubeadm() {
    if is_skipped() {
        return;
    }
    let rack = Rack::start();
    let mut drystone = Drystone::new("sim", |site| site);
    drystone.start();
    drystone.must(&["create", "namespace", "research"]);
    let key = format!("--from-file=ssh-privatekey={}", rack.path("user").display());
    drystone.must(&["create", "secret", "generic", "rack-ssh", "-n", "research", &key]);
    let addon = "--from-literal=a.yaml=apiVersion: v1\nkind: Namespace\nmetadata:\n  name: network\n";
    drystone.must(&["create", "configmap", "cni", "-n", "research", addon]);
    // All but the last worker, which comes later.
    let all = rack.all_listed();
    let first = &all[..all.len() - 1];
    apply(&drystone, &cluster(&rack, first));
    let mut reaper = Reaper { done: 0, seed: 11, most: 30 };
    reaper.until(&mut drystone, KILLS, |drystone| status(drystone, "metal", "phase") == "Ready");
    check(&drystone, &rack, first.len());

    apply(&drystone, &cluster(&rack, &all));
    wait_ready(&drystone, all.len());
    assert_eq!(rack.joins().len(), all.len() - 1);
    existing(&drystone, all.len());
    // A control plane and a worker leave.
    let fewer: Vec<Value> = all.iter().filter(|host| host["name"] != "w1").cloned().collect();
    apply(&drystone, &cluster(&rack, &fewer));
    wait_ready(&drystone, fewer.len());
    assert!(!rack.path("w1/kubernetes/kubelet.conf").exists(), "Kubernetes is off the host");

    drystone.must(&["delete", "cluster/metal", "-n", "research", "--timeout=300s"]);
    for host in &rack.hosts {
        let state = rack.path(&host.name).join("drystone/kubernetes.state");
        assert!(!state.exists(), "{} remembers the cluster", host.name);
    }
}

fn check(drystone: &Drystone, rack: &Rack, hosts: usize) {
    assert_eq!(status(drystone, "metal", "hosts"), hosts.to_string());
    let inside = drystone.cluster_kubeconfig("research", "metal");
    let nodes = kubectl(&inside, &["get", "nodes", "-o", "name"]).unwrap();
    assert_eq!(nodes.lines().count(), hosts);
    kubectl(&inside, &["get", "namespace", "network"]).expect("the add-ons are applied");
    let joins = rack.joins();
    let (cp2, cp3) = (joins["cp2"], joins["cp3"]);
    assert!(cp2.1 <= cp3.0 || cp3.1 <= cp2.0, "control planes join one at a time: {joins:?}");
    // Whoever was not interrupted joined while others did.
    println!("joins: {joins:?}");
    let log = rack.log();
    let invited = log.iter().filter(|entry| entry["invite"].is_string()).count();
    let withdrawn = log.iter().filter(|entry| entry["withdraw"].is_string()).count();
    println!("{invited} invitations, {withdrawn} taken back");
    assert!(invited >= hosts - 1 && withdrawn >= hosts - 1);
    let cluster = drystone.json(&["get", "cluster/metal", "-n", "research"]);
    let learnt = cluster["status"]["hostKeys"].as_object().unwrap();
    assert_eq!(learnt.len(), hosts / 2, "keys that were not pinned are known now");
    let operations = drystone.must(&["get", "operations", "-A", "-o", "json"]);
    let log = std::fs::read_to_string(drystone.data.join("drystone.log")).unwrap();
    for text in [operations, log] {
        assert!(
            !text.contains("0123456789abcdef") && !text.contains(&"ab".repeat(32)),
            "an invitation is told"
        );
    }
}

/// The same cluster once more, as one that exists.
fn existing(drystone: &Drystone, nodes: usize) {
    let inside = drystone.cluster_kubeconfig("research", "metal");
    let file = format!("--from-file=kubeconfig={}", inside.display());
    drystone.must(&["create", "secret", "generic", "theirs", "-n", "research", &file]);
    apply(
        drystone,
        &json!({
            "apiVersion": "drystone.dev/v1alpha1", "kind": "Cluster",
            "metadata": {"name": "theirs", "namespace": "research"},
            "spec": {"distribution": "External", "external": {"kubeconfigSecret": "theirs"}},
        }),
    );
    drystone.wait_for("the existing cluster", || {
        (status(drystone, "theirs", "hosts") == nodes.to_string()).then_some(())
    });
    assert!(status(drystone, "theirs", "endpoint").starts_with("https://127.77."));
    assert_eq!(drystone.items(&["get", "compositions", "-A"]).len(), 0, "nothing is composed");
    let again = drystone.cluster_kubeconfig("research", "theirs");
    kubectl(&again, &["get", "nodes"]).unwrap();
    // Its kubeconfig is no way to run programs here.
    let bad = std::fs::read_to_string(&inside).unwrap();
    let start = bad.find("client-certificate-data").unwrap();
    let exec = "exec: {apiVersion: client.authentication.k8s.io/v1, command: touch, args: [/tmp/never], interactiveMode: Never}\n    ";
    let patch = json!({"stringData": {"kubeconfig": format!("{}{exec}{}", &bad[..start], &bad[start..])}});
    drystone.must(&["patch", "secret", "theirs", "-n", "research", "--type=merge", "-p", &patch.to_string()]);
    drystone.wait_for("the refusal", || {
        status(drystone, "theirs", "message").contains("runs a program").then_some(())
    });
    drystone.must(&["delete", "cluster/theirs", "-n", "research", "--timeout=60s"]);
    kubectl(&inside, &["get", "nodes"]).expect("the cluster is left alone");
}
