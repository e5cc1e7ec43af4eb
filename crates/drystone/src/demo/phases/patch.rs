//! Software on a host: a package is uploaded and rolled out; a newer one is uploaded, and the host that needs it gets it.

use std::path::{Path, PathBuf};

use drystone_cluster::bootstrap::{network_data::network_config, ssh_server::SshServer, user_data::UserData};
use drystone_identity::Secret;
use drystone_ssh::PrivateKey;
use serde_json::{Value, json};
use tokio::process::Command;

use super::{Report, Stage, TIMEOUT, items, json as get, text, wait_for};
use crate::command::Failure;

const SYSTEM: &str = "drystone-system";
/// The host that is patched, and its address beside those that clusters get.
const HOST: &str = "compute-03";
const ADDRESS: &str = "10.20.2.3";
const SSH_PORT: u16 = 2222;
const PACKAGE: &str = "site-greeting";
/// Everything that is declared here.
const OBJECTS: &str =
    "zone/patch secret/patch-user-data secret/patch-network-data secret/patch-key softwareset/greeting";

/// A host without any cluster, declared as Metal3's users do, with an SSH server; then the package in two versions.
pub(super) async fn package(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    let began = report.begin("Software: a package is uploaded; the hosts that need it are found and get it");
    let boot = boot(stage).await?;
    stage
        .kubectl([
            "wait",
            "--for=jsonpath={.status.provisioning.state}=provisioned",
            TIMEOUT,
            &host(),
            "-n",
            SYSTEM,
        ])
        .await?;
    report.line(&format!("{HOST} has booted the user data of its BareMetalHost, with an SSH server"));
    upload(stage, report, "1.0").await?;
    stage.apply(&declaration(&boot)).await?;
    await_version(stage, "1.0").await?;
    report.line(&stage.kubectl(["get", "softwaresets,hostsoftwares,rollouts", "-n", SYSTEM]).await?);
    upload(stage, report, "1.1").await?;
    await_version(stage, "1.1").await?;
    report.line(&stage.kubectl(["get", "rollouts", "-n", SYSTEM]).await?);
    report.end(
        "patch",
        began,
        format!("{PACKAGE} 1.0 was installed on {HOST}; 1.1 was uploaded and followed by itself"),
    );
    give_back(stage).await
}

fn host() -> String {
    format!("baremetalhost/{HOST}")
}

/// What lets Drystone into the host.
struct Boot {
    login: Secret,
    host_key: String,
}

/// Declares zone, user data, network data and image of the host.
async fn boot(stage: &Stage) -> Result<Boot, Failure> {
    let (login, host_key) = (PrivateKey::generate()?, PrivateKey::generate()?);
    let mut data = UserData::new(HOST);
    let server = SshServer {
        port: SSH_PORT,
        host_key: host_key.to_text()?,
        authorized_keys: vec![login.public_key()],
    };
    server.add_to(&mut data);
    let found = get(stage, &["get", &host(), "-n", SYSTEM]).await?;
    let nics = found["status"]["hardware"]["nics"].as_array().cloned().unwrap_or_default();
    let nic = nics.iter().find(|nic| text(nic, "/name") == "eth0").ok_or("the host has no eth0")?;
    let address = format!("{ADDRESS}/16").parse()?;
    let network = network_config(text(nic, "/mac"), address, Some([10, 20, 0, 1].into()));
    let metadata = |name: &str| json!({"name": name, "namespace": SYSTEM});
    let secret = |name: &str, value: String| json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata(name), "stringData": {"value": value}});
    let objects = [
        json!({"apiVersion": "drystone.dev/v1alpha1", "kind": "Zone", "metadata": metadata("patch"),
               "spec": {"members": [{"host": HOST}], "isolation": "Exclusive"}}),
        secret("patch-user-data", data.render()?),
        secret("patch-network-data", network.to_string()),
    ];
    stage.apply(&objects).await?;
    let spec = json!({"spec": {
        "online": true, "image": {"url": "medium:///"},
        "userData": {"name": "patch-user-data", "namespace": SYSTEM},
        "networkData": {"name": "patch-network-data", "namespace": SYSTEM},
    }});
    stage.kubectl(["patch", &host(), "-n", SYSTEM, "--type=merge", "-p", &spec.to_string()]).await?;
    Ok(Boot { login: login.to_text()?, host_key: host_key.public_key() })
}

/// The set, the way to the host, and the key.
fn declaration(boot: &Boot) -> [Value; 3] {
    let metadata = |name: &str| json!({"name": name, "namespace": SYSTEM});
    [
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata("patch-key"), "stringData": {
            "ssh-privatekey": boot.login.expose(), "known-hosts": format!("{HOST} {}", boot.host_key)}}),
        json!({"apiVersion": "drystone.dev/v1alpha1", "kind": "HostSoftware", "metadata": metadata(HOST),
               "spec": {"address": ADDRESS}}),
        json!({"apiVersion": "drystone.dev/v1alpha1", "kind": "SoftwareSet", "metadata": metadata("greeting"), "spec": {
            "selector": {"hosts": [HOST]},
            "access": {"keySecret": "patch-key", "port": SSH_PORT},
            "packages": [{"name": PACKAGE, "artifact": {"name": format!("{PACKAGE}_*_all.deb")}}]}}),
    ]
}

/// Builds the package of a version and uploads it.
async fn upload(stage: &Stage, report: &Report, version: &str) -> Result<(), Failure> {
    let file = build(&stage.data("packages"), version).await?;
    let file = file.to_str().ok_or("the data directory has no UTF-8 name")?;
    let arguments = ["image", "push", file, "--owner", SYSTEM, "--cluster", "packages", "--type", "binary"];
    stage.drystone(arguments).await?;
    report.line(&format!("$ drystone image push {PACKAGE}_{version}_all.deb --type binary …"));
    Ok(())
}

async fn build(directory: &Path, version: &str) -> Result<PathBuf, Failure> {
    let root = directory.join(version);
    std::fs::create_dir_all(root.join("DEBIAN"))?;
    std::fs::create_dir_all(root.join("usr/share/greeting"))?;
    let control = format!(
        "Package: {PACKAGE}\nVersion: {version}\nArchitecture: all\nMaintainer: Demo <demo@example.org>\nDescription: a greeting\n"
    );
    std::fs::write(root.join("DEBIAN/control"), control)?;
    std::fs::write(root.join("usr/share/greeting/text"), format!("hello from {version}\n"))?;
    let file = directory.join(format!("{PACKAGE}_{version}_all.deb"));
    let built = Command::new("dpkg-deb")
        .arg("--root-owner-group")
        .arg("--build")
        .args([&root, &file])
        .output()
        .await?;
    if built.status.success() {
        return Ok(file);
    }
    Err(format!("dpkg-deb: {}", String::from_utf8_lossy(&built.stderr)).into())
}

/// Waits until the inventory of the host has that version and no roll-out is at work.
async fn await_version(stage: &Stage, version: &str) -> Result<(), Failure> {
    wait_for(&format!("{PACKAGE} {version} on {HOST}"), async || {
        let found = get(stage, &["get", "hostsoftware", HOST, "-n", SYSTEM]).await?;
        if found["status"]["packages"][PACKAGE] != version {
            return Ok(None);
        }
        let rollouts = items(&get(stage, &["get", "rollouts", "-n", SYSTEM]).await?);
        Ok(rollouts.iter().all(|rollout| text(rollout, "/status/phase") == "Succeeded").then_some(()))
    })
    .await
}

/// The host returns to the pool, and what was declared goes.
async fn give_back(stage: &Stage) -> Result<(), Failure> {
    let spec = json!({"spec": {"online": false, "image": null, "userData": null, "networkData": null}});
    stage.kubectl(["patch", &host(), "-n", SYSTEM, "--type=merge", "-p", &spec.to_string()]).await?;
    stage
        .kubectl([
            "wait",
            "--for=jsonpath={.status.provisioning.state}=available",
            TIMEOUT,
            &host(),
            "-n",
            SYSTEM,
        ])
        .await?;
    stage.kubectl(["delete", "-n", SYSTEM, TIMEOUT].into_iter().chain(OBJECTS.split(' '))).await?;
    stage.kubectl(["delete", "artifacts", "--all", "-n", SYSTEM, TIMEOUT]).await?;
    Ok(())
}
