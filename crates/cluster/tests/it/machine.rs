//! Programs on a host that a mount namespace stands for: its own `/var/lib/drystone`, `/etc/kubernetes`, `/run` and `kubeadm`.

mod storage;

use std::{
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use drystone_api::{ClusterSpec, KubeadmSettings, ScriptSettings};
use drystone_cluster::distribution::{
    kubeadm::{self, HostFacts},
    script::{self, ScriptAction},
};
use drystone_identity::Secret;
use serde_json::Value;

const KUBEADM: &str = include_str!("kubeadm.py");

/// A host whose files outlive its programs.
struct Host {
    directory: tempfile::TempDir,
    uid: &'static str,
}

fn is_skipped() -> bool {
    let runs = nix::unistd::geteuid().is_root()
        && Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success())
        && Path::new("/usr/bin/python3").exists();
    if !runs {
        println!("skipped: needs root, unshare and python3");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
    }
    !runs
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["bin", "state", "kubernetes", "run", "etc-cni", "sysctl", "scratch"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        let host = Self { directory, uid: "uid-1" };
        host.program("kubeadm", KUBEADM);
        host.program("kubelet", "#!/bin/sh\n");
        host.program("containerd", "#!/bin/sh\n");
        host.program("kubectl", "#!/bin/sh\necho \"{\\\"kubectl\\\": \\\"$*\\\"}\" >>\"$KUBEADM_LOG\"\n");
        for quiet in ["systemctl", "swapoff", "modprobe", "sysctl"] {
            host.program(quiet, "#!/bin/sh\n");
        }
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.path("bin").join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs a program as it would be run over SSH.
    fn run(&self, program: &str, environment: &[(&str, &str)], input: &str) -> Output {
        let d = self.directory.path().display();
        let setup = format!(
            "set -e; mount -t tmpfs tmpfs {d}/scratch; \
             for name in etc var/lib; do \
               mkdir -p {d}/scratch/$name/upper {d}/scratch/$name/work; \
               mount -t overlay overlay -o lowerdir=/$name,upperdir={d}/scratch/$name/upper,workdir={d}/scratch/$name/work /$name; \
             done; \
             mkdir -p /var/lib/drystone /etc/kubernetes /etc/cni /etc/sysctl.d; \
             mount --bind {d}/state /var/lib/drystone; mount --bind {d}/kubernetes /etc/kubernetes; \
             mount --bind {d}/etc-cni /etc/cni; mkdir -p /etc/cni/net.d; mount --bind {d}/sysctl /etc/sysctl.d; mount --bind {d}/run /run; \
             exec sh -c \"$PROGRAM\""
        );
        let path = format!("{d}/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let mut child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &setup])
            .env_clear()
            .env("PATH", path)
            .env("PROGRAM", program)
            .env("KUBEADM_LOG", self.path("log"))
            .env("DRYSTONE_CLUSTER_UID", self.uid)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A program need not read its input.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().unwrap()
    }

    #[track_caller]
    fn succeeds(&self, program: &str, environment: &[(&str, &str)], input: &str) -> String {
        let output = self.run(program, environment, input);
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{text}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn fails(&self, program: &str, input: &str) -> (i32, String) {
        let output = self.run(program, &[], input);
        assert!(!output.status.success(), "it succeeded");
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    /// What the stand-in was asked to do.
    fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn state(&self) -> String {
        std::fs::read_to_string(self.path("state/kubernetes.state")).unwrap_or_default()
    }

    fn files_in(&self, name: &str) -> usize {
        std::fs::read_dir(self.path(name)).unwrap().count()
    }
}

fn spec() -> ClusterSpec {
    let settings = KubeadmSettings {
        version: "v1.36.3".into(),
        ignore_preflight_errors: vec!["Swap".into()],
        cri_socket: "unix:///run/containerd/containerd.sock".into(),
        cluster_configuration: serde_json::json!({"apiServer": {"certSANs": ["lb"]}}),
        ..Default::default()
    };
    ClusterSpec { kubeadm: Some(settings), ..Default::default() }
}

fn facts(name: &str) -> HostFacts<'_> {
    let taint = drystone_api::Taint { key: "a".into(), value: "b".into(), effect: "NoSchedule".into() };
    HostFacts {
        name,
        address: [10, 0, 0, 1].into(),
        labels: vec![("drystone.dev/pool".into(), "train".into())],
        taints: vec![taint],
    }
}

fn init_configuration() -> Secret {
    kubeadm::init_configuration(&spec(), "mlops", &facts("cp1"), &"abcdef.0123456789abcdef".into())
}

#[test]
fn a_control_plane_is_made_once() {
    if is_skipped() {
        return;
    }
    let host = Host::new();
    host.succeeds(&kubeadm::prepare(), &[("DRYSTONE_SWAP_OFF", "yes")], "");
    host.succeeds(&kubeadm::init(), &[], init_configuration().expose());
    assert_eq!(host.state(), "uid-1 control-plane\n");
    let made = host.log();
    assert_eq!(
        (made[0]["init"].as_str(), made[0]["endpoint"].as_str()),
        (Some("cp1"), Some("10.0.0.1:6443"))
    );
    assert_eq!(host.files_in("run"), 0, "the configuration, which has a token, is gone");
    assert!(host.succeeds(&kubeadm::init(), &[], init_configuration().expose()).contains("done before"));
    assert_eq!(host.log().len(), 1);
}

#[test]
fn what_was_interrupted_begins_anew() {
    if is_skipped() {
        return;
    }
    let host = Host::new();
    std::fs::write(host.path("run/kubeadm-dies"), "").unwrap();
    let (code, error) = host.fails(&kubeadm::init(), init_configuration().expose());
    assert_eq!((code, error.contains("interrupted")), (1, true), "{error}");
    assert_eq!(host.state(), "uid-1 begun\n");
    host.succeeds(&kubeadm::init(), &[], init_configuration().expose());
    let done: Vec<String> =
        host.log().iter().map(|entry| entry.as_object().unwrap().keys().next().unwrap().clone()).collect();
    assert_eq!(done[0], "reset");
    assert!(host.log()[1]["init"].is_string());
    assert_eq!(host.state(), "uid-1 control-plane\n");
}

#[test]
fn hosts_of_others_are_left_alone() {
    if is_skipped() {
        return;
    }
    let host = Host::new();
    std::fs::write(host.path("kubernetes/kubelet.conf"), "somebody's").unwrap();
    let (code, error) = host.fails(&kubeadm::init(), init_configuration().expose());
    assert_eq!(code, 77);
    assert!(error.contains("a cluster that is not Drystone's"), "{error}");
    let host = Host { uid: "uid-2", ..Host::new() };
    std::fs::write(host.path("state/kubernetes.state"), "uid-1 worker\n").unwrap();
    for program in [kubeadm::init(), kubeadm::join(false), script::look_at_owner()] {
        let (code, error) = host.fails(&program, "");
        assert_eq!(code, 77);
        assert!(error.contains("the host belongs to another cluster (uid-1)"), "{error}");
    }
    host.succeeds(&kubeadm::reset(), &[], "");
    assert_eq!(host.state(), "uid-1 worker\n", "nor is Kubernetes taken off it");
    assert_eq!(host.log(), Vec::<Value>::new());
}

#[test]
fn hosts_are_invited_join_and_leave() {
    if is_skipped() {
        return;
    }
    let via = Host::new();
    for control_plane in [true, false] {
        let printed = via.succeeds(&kubeadm::invite(control_plane), &[("DRYSTONE_FOR_HOST", "h 2")], "");
        let invitation = kubeadm::read_invitation(&printed, control_plane).unwrap();
        assert_eq!(invitation.certificate_key.is_some(), control_plane);
        let host = Host::new();
        let configuration = kubeadm::join_configuration(&spec(), &facts("h2"), &invitation);
        host.succeeds(&kubeadm::join(control_plane), &[], configuration.expose());
        let joined = &host.log()[0];
        assert_eq!(
            (joined["join"].as_str(), joined["controlPlane"].as_bool()),
            (Some("h2"), Some(control_plane))
        );
        assert_eq!(host.files_in("run"), 0, "the configuration, which has a token, is gone");
        host.succeeds(&kubeadm::reset(), &[], "");
        assert_eq!((host.state().as_str(), host.files_in("kubernetes")), ("", 0));
        assert!(host.succeeds(&kubeadm::reset(), &[], "").contains("nothing of this cluster"));
        via.succeeds(&kubeadm::withdraw(control_plane), &[("DRYSTONE_TOKEN_ID", "abcdef")], "");
    }
    let log = via.log();
    assert_eq!(log[0]["invite"], "Drystone: h 2 joins");
    assert_eq!(log[0]["ttl"], "15m");
    assert!(log.iter().any(|entry| entry["withdraw"] == "abcdef"), "{log:?}");
}

#[test]
fn kubeadm_refuses_what_is_not_in_its_schema() {
    if is_skipped() {
        return;
    }
    let host = Host::new();
    let mut wrong = spec();
    wrong.kubeadm.as_mut().unwrap().cluster_configuration = serde_json::json!({"apiServers": {}});
    let text = kubeadm::init_configuration(&wrong, "mlops", &facts("cp1"), &"abcdef.0123456789abcdef".into());
    let (_, error) = host.fails(&kubeadm::init(), text.expose());
    assert!(error.contains("unknown field \"ClusterConfiguration.apiServers\""), "{error}");
}

#[test]
fn a_host_that_lacks_programs_says_which() {
    if is_skipped() {
        return;
    }
    let host = Host::new();
    std::fs::remove_file(host.path("bin/kubelet")).unwrap();
    if Path::new("/usr/bin/kubelet").exists() {
        return;
    }
    let (code, error) = host.fails(&kubeadm::prepare(), "");
    assert_eq!(code, 1, "it may come");
    assert!(error.contains("the host lacks kubelet;"), "{error}");
}

const INSTALLER: &str = r#"#!/bin/sh
set -eu
echo "$1 on $(pwd)"
case $1 in
  invite) echo "come in";;
  join) cp "$DRYSTONE_JOIN_FILE" /var/lib/drystone/got; echo "$DRYSTONE_JOIN_FILE" >/var/lib/drystone/file;;
  remove) ;;
esac
if [ -e /run/dies ]; then rm /run/dies; exit 5; fi
"#;

#[test]
fn a_program_of_the_users_own() {
    if is_skipped() {
        return;
    }
    let host = Host::new();
    std::fs::create_dir(host.path("state/installer")).unwrap();
    let place = |host: &Host| {
        let path = host.path("state/installer/program");
        std::fs::write(&path, INSTALLER).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    };
    place(&host);
    std::fs::write(host.path("run/dies"), "").unwrap();
    let install = script::run_program(ScriptAction::Install, false);
    assert_eq!(host.fails(&install, "").0, 5);
    assert_eq!(host.state(), "uid-1 begun\n");
    assert!(host.succeeds(&install, &[], "").contains("install on /var/lib/drystone/installer"));
    assert!(host.succeeds(&install, &[], "").contains("done before"));
    assert!(host.succeeds(&script::run_program(ScriptAction::Invite, false), &[], "").ends_with("come in\n"));
    let once = script::run_program(ScriptAction::Install, true);
    assert!(host.succeeds(&once, &[], "").contains("install on"), "for all hosts it runs again");

    let guest = Host::new();
    std::fs::create_dir(guest.path("state/installer")).unwrap();
    place(&guest);
    guest.succeeds(&script::run_program(ScriptAction::Join, false), &[], "an invitation\nof two lines");
    assert_eq!(std::fs::read_to_string(guest.path("state/got")).unwrap(), "an invitation\nof two lines");
    assert_eq!(guest.files_in("run"), 0, "the invitation is gone");
    assert_eq!(guest.state(), "uid-1 joined\n");
    guest.succeeds(&script::run_program(ScriptAction::Remove, false), &[], "");
    assert_eq!(guest.state(), "");
    assert!(!guest.path("state/installer").exists());
}

#[test]
fn a_program_from_a_url_is_only_taken_if_its_digest_is_right() {
    if is_skipped() || !Path::new("/usr/bin/curl").exists() {
        return;
    }
    let host = Host::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/installer", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 1024];
            let _ = std::io::Read::read(&mut stream, &mut head);
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{INSTALLER}", INSTALLER.len());
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let sum = {
        let path = host.path("x");
        std::fs::write(&path, INSTALLER).unwrap();
        let output = Command::new("sha256sum").arg(&path).output().unwrap();
        String::from_utf8(output.stdout).unwrap()[..64].to_owned()
    };
    let wrong = ScriptSettings { url: url.clone(), sha256: "0a".repeat(32), ..Default::default() };
    let (code, error) = host.fails(&script::fetch_program(&wrong), "");
    assert_eq!(code, 77);
    assert!(error.contains(&format!("has the digest {sum}")), "{error}");
    assert!(!host.path("state/installer/program").exists());
    let right = ScriptSettings { url, sha256: sum, ..Default::default() };
    host.succeeds(&script::fetch_program(&right), &[], "");
    assert_eq!(std::fs::read_to_string(host.path("state/installer/program")).unwrap(), INSTALLER);
    // It is there: nobody needs to be asked.
    server.join().unwrap();
    host.succeeds(&script::fetch_program(&right), &[], "");
}
