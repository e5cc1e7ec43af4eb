//! PersistentVolumes on a composed cluster, seen with stock kubectl: on a host, and on an NFS server that both workers mount.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::stage::{Drystone, is_skipped, kubectl};

const MANIFEST: &str = include_str!("volumes.yaml");

const SERVER: &str = r#"
set -e
mkdir -p /srv/volume-test /run/rpcbind /run/ganesha
mount -t tmpfs tmpfs /srv/volume-test
chmod 1777 /srv/volume-test
cat >/run/ganesha.conf <<END
NFS_CORE_PARAM { Protocols = 3, 4; MNT_Port = 20048; Enable_NLM = false; Enable_RQUOTA = false; }
NFSV4 { Grace_Period = 5; RecoveryRoot = /run/ganesha; }
EXPORT { Export_Id = 7; Path = /srv/volume-test; Pseudo = /srv/volume-test; Access_Type = RW; Squash = All_Squash; SecType = sys;
         Protocols = 3, 4; Filesystem_id = 1.7; FSAL { Name = VFS; } }
END
pidof rpcbind >/dev/null || rpcbind
exec ganesha.nfsd -F -f /run/ganesha.conf -L /run/ganesha.log -p /run/ganesha.pid -N NIV_EVENT
"#;

struct Inside<'a> {
    drystone: &'a Drystone,
    kubeconfig: PathBuf,
}

impl Inside<'_> {
    fn must(&self, arguments: &[&str]) -> String {
        kubectl(&self.kubeconfig, arguments).unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
    }

    fn apply(&self, manifest: &str) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), manifest).unwrap();
        self.must(&["apply", "-f", file.path().to_str().unwrap()]);
    }

    /// Runs a pod that reads a file of a claim, and returns what it says.
    fn read(&self, name: &str, claim: &str, path: &str) -> String {
        self.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  containers:\n  \
             - name: main\n    image: drystone.dev/hello:1\n    command: [/hello, cat, {path}]\n    \
             volumeMounts: [{{name: data, mountPath: /data}}]\n  \
             volumes: [{{name: data, persistentVolumeClaim: {{claimName: {claim}}}}}]\n"
        ));
        self.ended(name);
        self.must(&["logs", name])
    }

    fn ended(&self, name: &str) {
        self.drystone.wait_for(&format!("the end of pod {name}"), || {
            let phase = self.must(&["get", "pod", name, "-o", "jsonpath={.status.phase}"]);
            assert_ne!(phase, "Failed", "{}", self.must(&["describe", "pod", name]));
            (phase == "Succeeded").then_some(())
        });
    }
}

/// Processes of a host whose arguments contain a word of their own.
fn processes(drystone: &Drystone, host: &str, word: &str) -> Vec<String> {
    let output = Command::new("ip").args(["netns", "pids", &drystone.namespace(host)]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let has = |process: &&str| {
        let arguments = std::fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default();
        arguments.split('\0').any(|argument| argument == word) && !arguments.starts_with("unshare")
    };
    text.lines().filter(has).map(str::to_owned).collect()
}

/// The first process of a host, by which its namespaces are entered.
fn process_of(drystone: &Drystone, host: &str) -> String {
    let found = processes(drystone, host, "guest-init");
    found.into_iter().next().unwrap_or_else(|| panic!("nothing runs on {host}"))
}

fn enter(process: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--target", process, "--net", "--mount", "--pid"]);
    command
}

fn mounts_of(process: &str, server: &str) -> usize {
    let output = enter(process).args(["cat", "/proc/self/mounts"]).output().unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter(|line| line.starts_with(&format!("{server}:/")))
        .count()
}

/// Which its pod uses all the time.
fn an_agent_that_comes_back_finds_the_mount(drystone: &Drystone, inside: &Inside<'_>, host: &str) {
    let agent = processes(drystone, host, "node").remove(0);
    assert!(Command::new("kill").args(["-9", &agent]).status().unwrap().success());
    drystone.wait_for("another agent", || {
        processes(drystone, host, "node").first().is_some_and(|found| *found != agent).then_some(())
    });
    drystone.wait_for("the share under the new agent", || {
        let read = ["exec", "share-holder", "--", "/hello", "cat", "/data/file"];
        kubectl(&inside.kubeconfig, &read).is_ok_and(|text| text == "kept on a server\n").then_some(())
    });
}

#[test]
fn what_pods_write_outlives_them_on_a_host_and_on_a_server() {
    if is_skipped() {
        return;
    }
    let has = |program: &str| {
        Command::new("which").arg(program).stdout(Stdio::null()).status().is_ok_and(|s| s.success())
    };
    if !has("ganesha.nfsd") || !has("rpcbind") {
        println!("skipped: nfs-ganesha or rpcbind is not installed");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        return;
    }
    let mut drystone = Drystone::new("netns", |site| site);
    drystone.start();
    drystone.must(&["apply", "-f", "examples/mlops/cluster.yaml"]);
    drystone.must(&["wait", "--for=condition=Ready", "cluster/mlops", "-n", "research", "--timeout=300s"]);
    let members = drystone.json(&["get", "cluster/mlops", "-n", "research", "-o", "json"]);
    let members = members["status"]["members"].as_array().unwrap().clone();
    let of = |role: &str| -> Vec<(String, String)> {
        let text = |member: &Value, field: &str| member[field].as_str().unwrap().to_owned();
        let these = members.iter().filter(|member| member["role"] == role);
        these.map(|member| (text(member, "host"), text(member, "address"))).collect()
    };
    let ((server_host, server), workers) = (of("ControlPlane").remove(0), of("Worker"));
    let mut daemon = enter(&process_of(&drystone, &server_host))
        .args(["sh", "-c", SERVER])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();

    let inside = Inside { drystone: &drystone, kubeconfig: drystone.cluster_kubeconfig("research", "mlops") };
    let (node, other) = (&workers[0].0, &workers[1].0);
    inside.apply(&MANIFEST.replace("NODE", node).replace("OTHER", other).replace("SERVER", &server));
    inside.must(&["wait", "pod/share-holder", "--for=condition=Ready", "--timeout=300s"]);
    for name in ["disk-writer", "share-writer"] {
        inside.ended(name);
    }
    assert_eq!(inside.must(&["get", "pod", "disk-writer", "-o", "jsonpath={.spec.nodeName}"]), *node);
    inside.must(&["delete", "pod", "disk-writer", "share-writer", "--timeout=120s"]);
    assert_eq!(inside.read("disk-reader", "disk", "/data/deep/er/file"), "kept on a disk\n");
    assert_eq!(
        inside.must(&["exec", "share-holder", "--", "/hello", "cat", "/data/file"]),
        "kept on a server\n"
    );
    let refused =
        kubectl(&inside.kubeconfig, &["exec", "share-holder", "--", "/hello", "append", "/data/file", "x"]);
    assert!(refused.is_err_and(|error| error.contains("Read-only")), "the claim is mounted read-only");

    let holder = process_of(&drystone, other);
    assert_ne!(mounts_of(&holder, &server), 0, "the share is mounted");
    an_agent_that_comes_back_finds_the_mount(&drystone, &inside, other);

    // Its claim is protected while a pod has it. A server that does not answer keeps no pod; the mount goes with it, the data stays.
    inside.must(&["delete", "pvc", "share", "--wait=false"]);
    let phase = ["get", "pv", "share", "-o", "jsonpath={.status.phase}"];
    assert_eq!(inside.must(&phase), "Bound");
    let ganesha = processes(&drystone, &server_host, "ganesha.nfsd").remove(0);
    assert!(Command::new("kill").args(["-STOP", &ganesha]).status().unwrap().success());
    inside.must(&["delete", "pod", "share-holder", "disk-reader", "--timeout=120s"]);
    assert_eq!(mounts_of(&holder, &server), 0, "a mount is left");
    inside.must(&["wait", "pv/share", "--for=jsonpath={.status.phase}=Released", "--timeout=120s"]);

    assert!(Command::new("kill").args(["-9", &ganesha]).status().unwrap().success());
    // It was stopped together with what it started.
    let _ = daemon.kill();
    let _ = daemon.wait();
    drystone.must(&["delete", "cluster/mlops", "-n", "research", "--timeout=300s"]);
    drystone.assert_all_given_back();
    drystone.stop();
    assert_eq!(drystone.namespaces(), [""; 0], "namespaces are left");
}
