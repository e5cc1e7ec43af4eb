//! Real hosts: each a root of its own over this machine's, with a real SSH server, dpkg and apt.

mod reboot;
mod rpm;

use drystone_loopback::free_port;
use std::{
    collections::BTreeMap,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use axum::{Router, extract::Path as UrlPath, http::StatusCode, routing::get};
use drystone_api::{
    HostRolloutPhase, HostSelector, HostSoftware, HostSoftwareSpec, HostSoftwareStatus, PackageArtifact,
    RolloutPhase, SYSTEM_NAMESPACE, SoftwareAccess, SoftwareFile, SoftwarePackage, SoftwareSetSpec,
    SoftwareTrust,
};
use drystone_software::{trust::SigningKey, validate::digest_of};
use drystone_ssh::PrivateKey;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

use crate::stage::{Stage, control, eventually};

/// Name of the package that the tests install.
const PACKAGE: &str = "drystone-test-hello";

/// Starts a host; what it changes lies in its own layer.
const BOOT: &str = r#"set -e
[ "$4" = lasting ] || mount -t tmpfs tmpfs "$1"
mkdir -p "$1/upper/drystone" "$1/work" "$1/root"
cp "$2"/* "$1/upper/drystone/"
chmod 600 "$1"/upper/drystone/*
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount -t proc proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
mount -t tmpfs tmpfs "$1/root/run"
mkdir -p "$1/root/run/sshd"
chroot "$1/root" usermod -p '*' root
chroot "$1/root" sh -c "$3"
exec chroot "$1/root" /usr/sbin/sshd -D -e -f /drystone/sshd_config
"#;

/// A host that runs until it is dropped.
struct Host {
    process: Child,
    folder: tempfile::TempDir,
    address: String,
    port: u16,
    program: String,
    /// Whether what it changes is still there when it starts again.
    disk: Disk,
}

/// Where what a host changes is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disk {
    /// In memory, until it ends.
    Fleeting,
    /// In the test's folder.
    Lasting,
}

impl Drop for Host {
    fn drop(&mut self) {
        // It is the parent of everything in its process namespace.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

static NUMBER: AtomicU16 = AtomicU16::new(1);

impl Host {
    fn start(port: u16, key: &PrivateKey) -> Self {
        Self::prepared(port, key, &[], "true")
    }

    /// One to which files were given, in `/drystone`, and on which something was done before its SSH server started.
    fn prepared(port: u16, key: &PrivateKey, files: &[(&str, &[u8])], program: &str) -> Self {
        Self::with_disk(port, key, files, program, Disk::Fleeting)
    }

    fn with_disk(port: u16, key: &PrivateKey, files: &[(&str, &[u8])], program: &str, disk: Disk) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let address = format!("127.88.{}.{}", std::process::id() % 250 + 1, number);
        let folder = tempfile::tempdir().expect("a folder");
        let (space, given) = (folder.path().join("space"), folder.path().join("given"));
        std::fs::create_dir_all(&space).expect("made");
        std::fs::create_dir_all(&given).expect("made");
        let config = format!(
            "ListenAddress {address}\nPort {port}\nHostKey /drystone/host_key\nAuthorizedKeysFile /drystone/authorized_keys\n\
             StrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\nPidFile none\nPrintMotd no\n"
        );
        std::fs::write(given.join("sshd_config"), config).expect("written");
        std::fs::write(given.join("authorized_keys"), key.public_key()).expect("written");
        let host_key = PrivateKey::generate().expect("made");
        std::fs::write(given.join("host_key"), host_key.to_text().expect("text").expose()).expect("written");
        std::fs::write(given.join("host_key.pub"), host_key.public_key()).expect("written");
        for (name, bytes) in files {
            std::fs::write(given.join(name), bytes).expect("written");
        }
        let process = boot(folder.path(), program, disk);
        let host = Self { process, folder, address, port, program: program.to_owned(), disk };
        host.await_server();
        host
    }

    /// Takes its power away and gives it back.
    fn restart(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.process = boot(self.folder.path(), &self.program, self.disk);
        self.await_server();
    }

    fn await_server(&self) {
        for _ in 0..1_200 {
            if std::net::TcpStream::connect((self.address.as_str(), self.port)).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the SSH server of {} does not answer", self.address);
    }

    fn host_key(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("given/host_key.pub")).expect("there")
    }

    /// Runs something in the host, beside all that is tested.
    fn run(&self, program: &str) -> String {
        let init = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.process.id()))
            .expect("running");
        let output = Command::new("nsenter")
            .args(["--mount", "--pid", "--root", "--wd", "--target", init.trim(), "sh", "-c", program])
            .output()
            .expect("nsenter");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn version(&self) -> String {
        self.run(&format!("dpkg-query -W -f '${{db:Status-Abbrev}}${{Version}}' {PACKAGE} 2>/dev/null"))
    }
}

fn boot(folder: &Path, program: &str, disk: Disk) -> Child {
    Command::new("unshare")
        .args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--propagation",
            "private",
            "sh",
            "-c",
            BOOT,
            "sh",
        ])
        .args([folder.join("space"), folder.join("given")])
        .args([program, if disk == Disk::Lasting { "lasting" } else { "fleeting" }])
        .stdin(Stdio::null())
        .spawn()
        .expect("unshare")
}

fn can_run() -> bool {
    let there = |program: &str| Path::new(program).exists();
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if root && there("/usr/sbin/sshd") && there("/usr/bin/dpkg-deb") && there("/usr/bin/unshare") {
        return true;
    }
    println!("skipped: needs root, openssh-server, dpkg and unshare");
    assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
    false
}

/// A package of that version.
fn package(version: &str, post_install: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("root");
    std::fs::create_dir_all(root.join("DEBIAN")).expect("made");
    std::fs::create_dir_all(root.join("usr/share/drystone-test")).expect("made");
    let control = format!(
        "Package: {PACKAGE}\nVersion: {version}\nArchitecture: all\nMaintainer: Tests <tests@example.org>\nDescription: says hello\n"
    );
    std::fs::write(root.join("DEBIAN/control"), control).expect("written");
    std::fs::write(root.join("usr/share/drystone-test/hello"), version).expect("written");
    let script = root.join("DEBIAN/postinst");
    std::fs::write(&script, format!("#!/bin/sh\n{post_install}\n")).expect("written");
    let mode: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).expect("set");
    let file = folder.path().join("package.deb");
    let status = Command::new("dpkg-deb")
        .args(["--root-owner-group", "-b"])
        .args([&root, &file])
        .stdout(Stdio::null())
        .status()
        .expect("dpkg-deb");
    assert!(status.success());
    std::fs::read(&file).expect("made")
}

/// Packages by HTTP.
struct Shop {
    address: std::net::SocketAddr,
    digests: BTreeMap<String, String>,
    _server: AbortOnDropHandle<()>,
}

impl Shop {
    async fn open(goods: Vec<(&str, Vec<u8>)>) -> Self {
        let goods: BTreeMap<String, Vec<u8>> =
            goods.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
        let digests = goods.iter().map(|(name, bytes)| (name.clone(), digest_of(bytes))).collect();
        let give = move |UrlPath(name): UrlPath<String>| {
            let found = goods.get(&name).cloned();
            async move { found.ok_or(StatusCode::NOT_FOUND) }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let router = Router::new().route("/{name}", get(give));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.expect("served") });
        Self { address, digests, _server: AbortOnDropHandle::new(server) }
    }

    fn artifact(&self, name: &str) -> PackageArtifact {
        PackageArtifact {
            url: format!("http://{}/{name}", self.address),
            digest: self.digests[name].clone(),
            ..PackageArtifact::default()
        }
    }

    fn packages(&self, version: &str, name: &str) -> Value {
        json!([{"name": PACKAGE, "version": version, "artifact": self.artifact(name)}])
    }
}

/// Declares hosts and the key to them.
async fn declare(stage: &Stage, hosts: &[&Host], key: &PrivateKey, known_hosts: bool) {
    let software: Api<HostSoftware> = Api::namespaced(stage.client.clone(), SYSTEM_NAMESPACE);
    let mut known = String::new();
    for (index, host) in hosts.iter().enumerate() {
        let name = format!("h{index}");
        stage.host(&name, "edge").await;
        let spec = HostSoftwareSpec { address: host.address.clone(), ..HostSoftwareSpec::default() };
        software.create(&PostParams::default(), &HostSoftware::new(&name, spec)).await.expect("accepted");
        known.push_str(&format!("{name} {}\n", host.host_key()));
    }
    let text = key.to_text().expect("text").expose().as_bytes().to_vec();
    let mut data: BTreeMap<String, ByteString> = [("ssh-privatekey".to_owned(), ByteString(text))].into();
    if known_hosts {
        data.insert("known-hosts".to_owned(), ByteString(known.into_bytes()));
    }
    let secret = Secret {
        metadata: ObjectMeta { name: Some("hosts".to_owned()), ..ObjectMeta::default() },
        data: Some(data),
        ..Secret::default()
    };
    let secrets: Api<Secret> = Api::namespaced(stage.client.clone(), SYSTEM_NAMESPACE);
    secrets.create(&PostParams::default(), &secret).await.expect("accepted");
}

fn spec(shop: &Shop, port: u16, version: &str, name: &str) -> SoftwareSetSpec {
    SoftwareSetSpec {
        selector: HostSelector { all: true, ..HostSelector::default() },
        packages: vec![SoftwarePackage {
            name: PACKAGE.to_owned(),
            version: version.to_owned(),
            artifact: Some(shop.artifact(name)),
            ..SoftwarePackage::default()
        }],
        access: Some(SoftwareAccess {
            port,
            key_secret: "hosts".to_owned(),
            trust_on_first_use: true,
            ..SoftwareAccess::default()
        }),
        ..SoftwareSetSpec::default()
    }
}

fn controlled(stage: &Stage, folder: &Path) -> AbortOnDropHandle<()> {
    let (client, folder) = (stage.client.clone(), folder.to_owned());
    AbortOnDropHandle::new(tokio::spawn(async move { control(client, &folder).await }))
}

/// What all rollouts say of their hosts.
async fn why(stage: &Stage) -> String {
    let statuses = stage.rollouts().await.into_iter().filter_map(|rollout| rollout.status);
    statuses.flat_map(|status| status.hosts).map(|host| host.message).collect::<Vec<_>>().join("\n")
}

/// What is said of the first host, when it is said to be as its sets say: another controller than that of the sets says so.
async fn as_declared(software: &Api<HostSoftware>) -> HostSoftwareStatus {
    eventually("no drift", || async {
        let known = software.get("h0").await.expect("there").status.unwrap_or_default();
        if known.observed_at.is_some() && known.drift.is_empty() {
            Ok(known)
        } else {
            Err(format!("{known:?}"))
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packages_and_files_come_to_hosts_by_ssh_and_what_fails_is_taken_back() {
    if !can_run() {
        return;
    }
    let (port, key) = (free_port(), PrivateKey::generate().expect("made"));
    let hosts = [Host::start(port, &key), Host::start(port, &key)];
    let shop = Shop::open(vec![
        ("one", package("1.0", "exit 0")),
        ("two", package("1.1", "exit 0")),
        ("bad", package("1.2", "echo it does not work >&2; exit 1")),
    ])
    .await;
    let (stage, folder) = (Stage::start().await, tempfile::tempdir().expect("a folder"));
    declare(&stage, &[&hosts[0], &hosts[1]], &key, false).await;
    let _control = controlled(&stage, folder.path());
    stage.set("base", spec(&shop, port, "1.0", "one")).await;
    stage.set_is("base", "Current").await;
    assert_eq!(hosts.each_ref().map(Host::version), ["ii 1.0", "ii 1.0"]);
    let software: Api<HostSoftware> = Api::namespaced(stage.client.clone(), SYSTEM_NAMESPACE);
    let known = as_declared(&software).await;
    assert_eq!(known.host_keys.len(), 1, "the key is pinned: {known:?}");
    assert!(hosts[0].host_key().starts_with(&known.host_keys[0]));
    assert_eq!(known.packages[PACKAGE], "1.0");

    let file = SoftwareFile {
        path: "/etc/drystone-test.conf".to_owned(),
        content: Some("greeting = hello\n".to_owned()),
        after_change: "cp /etc/drystone-test.conf /etc/drystone-test.seen".to_owned(),
        ..SoftwareFile::default()
    };
    stage.change("base", json!({"packages": shop.packages("1.1", "two"), "files": [file]})).await;
    stage.set_is("base", "Current").await;
    for host in &hosts {
        assert_eq!(host.version(), "ii 1.1");
        assert_eq!(host.run("cat /etc/drystone-test.seen"), "greeting = hello");
    }

    let other = SoftwareFile { content: Some("greeting = oops\n".to_owned()), ..file };
    stage.change("base", json!({"packages": shop.packages("1.2", "bad"), "files": [other]})).await;
    stage.set_is("base", "RolloutFailed").await;
    assert_eq!(hosts.each_ref().map(Host::version), ["ii 1.1", "ii 1.1"], "returned, and never touched");
    assert_eq!(hosts[0].run("cat /etc/drystone-test.conf"), "greeting = hello");
    let rollouts = stage.rollouts().await;
    let failed: Vec<_> = rollouts
        .iter()
        .filter_map(|rollout| rollout.status.as_ref())
        .filter(|status| status.phase == RolloutPhase::Failed)
        .collect();
    assert_eq!(failed.len(), 1);
    let phases: Vec<HostRolloutPhase> = failed[0].hosts.iter().map(|host| host.phase).collect();
    assert_eq!(phases, [HostRolloutPhase::FailedRolledBack, HostRolloutPhase::Pending], "{:?}", failed[0]);
    assert!(failed[0].hosts[0].message.contains("exit status"), "{}", failed[0].hosts[0].message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_what_it_should_be_is_not_used() {
    if !can_run() {
        return;
    }
    let (port, key) = (free_port(), PrivateKey::generate().expect("made"));
    let host = Host::start(port, &key);
    let shop = Shop::open(vec![("one", package("1.0", "exit 0")), ("two", package("1.1", "exit 0"))]).await;
    let (stage, folder) = (Stage::start().await, tempfile::tempdir().expect("a folder"));
    declare(&stage, &[&host], &key, true).await;
    let _control = controlled(&stage, folder.path());
    let (signer, _) = SigningKey::generate().expect("made");
    let mut wrong = spec(&shop, port, "1.0", "one");
    wrong.trust = Some(SoftwareTrust { public_keys: vec![signer.public_key()] });
    let artifact = wrong.packages[0].artifact.as_mut().expect("there");
    artifact.signature = signer.sign(b"something else");
    stage.set("base", wrong.clone()).await;
    stage.set_is("base", "RolloutFailed").await;
    let told = why(&stage).await;
    assert!(told.contains("is by none of the keys"), "{told}");

    // Signed as it should be, but not what is there.
    let mut artifact = shop.artifact("one");
    artifact.digest = shop.digests["two"].clone();
    artifact.signature = signer.sign(artifact.digest.as_bytes());
    let packages = json!([{"name": PACKAGE, "version": "1.0", "artifact": artifact}]);
    stage.change("base", json!({"packages": packages})).await;
    eventually("the digest is seen", || async {
        let told = why(&stage).await;
        if told.contains("has digest") { Ok(()) } else { Err(told) }
    })
    .await;

    // The right file, under a wrong version.
    let mut artifact = shop.artifact("one");
    artifact.signature = signer.sign(artifact.digest.as_bytes());
    let packages = json!([{"name": PACKAGE, "version": "3.0", "artifact": artifact}]);
    stage.change("base", json!({"packages": packages})).await;
    eventually("the version is seen", || async {
        let told = why(&stage).await;
        if told.contains(&format!("holds {PACKAGE} 1.0, not {PACKAGE} 3.0")) { Ok(()) } else { Err(told) }
    })
    .await;
    assert_eq!(host.version(), "");

    let packages = json!([{"name": PACKAGE, "version": "1.0", "artifact": artifact}]);
    stage.change("base", json!({"packages": packages})).await;
    stage.set_is("base", "Current").await;
    assert_eq!(host.version(), "ii 1.0");
}

#[test]
fn killed_while_packages_are_installed_each_is_installed_once() {
    if !can_run() {
        return;
    }
    let (port, key) = (free_port(), PrivateKey::generate().expect("made"));
    let host = Host::start(port, &key);
    let lasting = tokio::runtime::Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let (stage, _shop) = lasting.block_on(async {
        let slow = "echo once >>/drystone/installed; sleep 4; exit 0";
        let shop = Shop::open(vec![("one", package("1.0", slow))]).await;
        let stage = Stage::start().await;
        declare(&stage, &[&host], &key, true).await;
        stage.set("base", spec(&shop, port, "1.0", "one")).await;
        (stage, shop)
    });
    let mut lives = 0;
    for life in 1..400_u64 {
        let process = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (client, folder) = (process.block_on(async { stage.another_client() }), folder.path().to_owned());
        // Dropped wherever it is; what its tasks still had in hand is dropped before the files are closed to them.
        process.block_on(async {
            let _ = tokio::time::timeout(
                Duration::from_millis(400 + 211 * life % 700 + 40 * life),
                control(client, &folder),
            )
            .await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        });
        process.shutdown_background();
        lives += 1;
        let rollouts = lasting.block_on(stage.rollouts());
        println!("life {life}: {:?}", lasting.block_on(stage.told()));
        let phase = rollouts.first().and_then(|rollout| rollout.status.as_ref()).map(|status| status.phase);
        if phase.is_some_and(RolloutPhase::is_final) {
            break;
        }
    }
    let rollouts = lasting.block_on(stage.rollouts());
    let status = rollouts[0].status.clone().expect("has one");
    assert_eq!((rollouts.len(), status.phase), (1, RolloutPhase::Succeeded), "{status:?}");
    assert_eq!(host.version(), "ii 1.0");
    assert_eq!(host.run("cat /drystone/installed"), "once");
    assert!(lives > 2, "it was to be killed in between");
    println!("{lives} lives");
}
