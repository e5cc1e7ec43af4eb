//! Two virtual machines of the system that `./dev image` makes for members of clusters: one exports a volume by its kernel's NFS server, the
//! other mounts it by its kernel's client; what is written outlives a power cycle of the server. And one logs in at the other, as `ubuntu`.
//! Needs QEMU and `./dev image`.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use drystone_agent::{config_drive, linux::BlockDevice, partition, protocol::ConfigDrive};
use drystone_emulator::{
    backend::{Backend, BootSource, BootState, ForwardingMember, ForwardingZone},
    netns::{NetnsBackend, NetnsConfig, inspect_leftovers},
    qemu::{QemuBackend, QemuConfig},
};
use serde_json::json;

use super::site::{PATIENCE, cannot_run, gateway_config, site_file, which};

const SITE: &str = "
name: NAME
fabrics: [{id: Ethernet, switches: [{name: eth-a, ports: 4, speedGbps: 25}]}]
templates:
  machine: {processor: {cores: 1, threads: 1}, memoryMiB: 512, drives: [{capacityGiB: 3, media: SSD}, {capacityGiB: 1, media: HDD}]}
hosts:
- {name: server, template: machine, nics: [{name: eth0, switch: eth-a, port: p1, mac: '02:d5:00:00:00:01'}]}
- {name: client, template: machine, nics: [{name: eth0, switch: eth-a, port: p2, mac: '02:d5:00:00:00:02'}]}
gateway: {nodeAddress: 10.20.0.1/16, campusAddress: 203.0.113.1/24, switch: eth-a, port: p4, mac: '02:d5:00:00:00:05'}
";

/// Prepares the volume once, as a storage server is prepared, and tells at every start what is on it.
const SERVER: &str = r#"#!/bin/sh
set -e
# Which disk is found first is chance: the volume is the one without partitions.
for disk in /dev/sd?; do [ -e "${disk}1" ] || volume=$disk; done
if ! blkid "$volume"; then
  mkfs.ext4 -q "$volume"
  mkdir -p /volume
  echo "UUID=$(blkid -s UUID -o value "$volume") /volume ext4 defaults 0 2" >>/etc/fstab
  mount /volume
  mkdir /volume/data
  chown nobody /volume/data
  echo "/volume/data 10.20.0.0/16(rw,sync,no_subtree_check,all_squash,anonuid=65534,anongid=65534,mp=/volume)" >/etc/exports.d/test.exports
  systemctl enable --now nfs-server
fi
until [ -s /volume/data/note ]; do sleep 1; done
echo "the server has: $(cat /volume/data/note)" >/dev/ttyS0
"#;

const CLIENT: &str = r#"#!/bin/sh
until mount -t nfs4 -o vers=4.2 10.20.0.11:/volume/data /mnt; do sleep 1; done
[ -s /mnt/note ] || { echo "from $(hostname)" >/mnt/new && mv /mnt/new /mnt/note; }
echo "the client has: $(cat /mnt/note) by $(stat -f -c %T /mnt) of $(stat -c %U /mnt/note)" >/dev/ttyS0
as="ssh -i /etc/key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null ubuntu@10.20.0.11"
until $as true; do sleep 1; done
echo "logged in: $($as whoami), $($as sudo whoami)" >/dev/ttyS0
"#;

fn system() -> Result<PathBuf, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/images/node.raw");
    if which("qemu-system-x86_64").is_none() {
        return Err("qemu-system-x86_64 is not installed".to_owned());
    }
    if path.is_file() { Ok(path) } else { Err(format!("no {}; `./dev image` makes it", path.display())) }
}

fn backend(state: &Path) -> QemuBackend {
    let network = NetnsBackend::new(NetnsConfig {
        state_directory: state.to_owned(),
        executable: Some(env!("CARGO_BIN_EXE_emulated-host").into()),
        hidden: Vec::new(),
        shown: Vec::new(),
        machines: true,
    });
    let state_directory = state.to_owned();
    QemuBackend::new(QemuConfig { state_directory, network: Some(network.unwrap()), mixed: false })
}

/// Both machines in one zone.
fn zone() -> ForwardingZone {
    let member = |port: &str| ForwardingMember { port: port.to_owned(), shared: false, peers: None };
    let members = [("02:d5:00:00:00:01", member("p1")), ("02:d5:00:00:00:02", member("p2"))];
    ForwardingZone {
        tag: 1,
        members: members.map(|(mac, member)| (mac.to_owned(), member)).into(),
        flood_ports: vec!["p1".to_owned(), "p2".to_owned()],
    }
}

/// Writes the system to a machine's first drive, with a script that runs at every start.
fn install(system: &Path, state: &Path, host: &str, address: &str, script: &str, files: &serde_json::Value) {
    let drives = state.join("hosts").join(host).join("drives");
    std::fs::create_dir_all(&drives).unwrap();
    let disk = drives.join("ssd0.raw");
    assert!(Command::new("cp").arg("--sparse=always").args([system, &disk]).status().unwrap().success());
    std::fs::OpenOptions::new().write(true).open(&disk).unwrap().set_len(3 << 30).unwrap();
    let unit =
        "[Service]\nType=oneshot\nExecStart=/usr/local/bin/story\n[Install]\nWantedBy=multi-user.target\n";
    let mut written = vec![
        json!({"path": "/usr/local/bin/story", "content": script, "permissions": "0755"}),
        json!({"path": "/etc/systemd/system/story.service", "content": unit}),
    ];
    written.extend(files.as_array().unwrap().iter().cloned());
    let user_data = json!({"write_files": written, "runcmd": [["systemctl", "enable", "--now", "--no-block", "story.service"]]});
    let network = format!(
        "version: 2\nethernets:\n  main:\n    match: {{macaddress: '02:d5:00:00:00:0{}'}}\n    addresses: [{address}/16]\n",
        if host == "server" { 1 } else { 2 }
    );
    let drive = ConfigDrive {
        meta_data: json!({"uuid": format!("i-{host}"), "hostname": host}),
        user_data: base64(&format!("#cloud-config\n{user_data}\n")),
        network_data: network,
    };
    let content = config_drive::build(&drive).unwrap();
    partition::add(&mut BlockDevice::open(&disk).unwrap(), &content).unwrap();
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// Waits until a console has said something so often; long, for machines are emulated.
async fn said(state: &Path, host: &str, wanted: &str, times: usize) {
    let console = state.join("hosts").join(host).join("console.log");
    let end = Instant::now() + 5 * PATIENCE;
    loop {
        let text = std::fs::read(&console).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        if text.matches(wanted).count() >= times {
            return;
        }
        assert!(Instant::now() < end, "{host} has not said {wanted:?} {times} times:\n{text}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_shared_by_the_kernels_of_two_machines() {
    if cannot_run() {
        return;
    }
    let system = match system() {
        Ok(path) => path,
        Err(reason) => {
            println!("skipped: {reason}");
            assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
            return;
        }
    };
    let state = tempfile::tempdir().unwrap();
    let site = site_file(SITE, &format!("n{}", std::process::id()));
    let key = state.path().join("key");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
    assert!(made.unwrap().success());
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    let authorized = json!([{"path": "/home/ubuntu/.ssh/authorized_keys", "content": public, "owner": "ubuntu:ubuntu", "permissions": "0600"}]);
    let private = json!([{"path": "/etc/key", "content": std::fs::read_to_string(&key).unwrap(), "permissions": "0600"}]);
    install(&system, state.path(), "server", "10.20.0.11", SERVER, &authorized);
    install(&system, state.path(), "client", "10.20.0.12", CLIENT, &private);

    let emulated = backend(state.path());
    emulated.start(&site, &gateway_config("127.0.0.1:9".parse().unwrap())).await.unwrap();
    emulated.program_switch("eth-a", &[("red".to_owned(), zone())].into()).await.unwrap();
    for host in ["server", "client"] {
        emulated.power_on(site.host(host).unwrap(), BootSource::Disk).await.unwrap();
    }
    said(state.path(), "client", "the client has: from client by nfs of nobody", 1).await;
    said(state.path(), "server", "the server has: from client", 1).await;
    said(state.path(), "client", "logged in: ubuntu, root", 1).await;

    // Off by its button, so that what was written is on the disk, and on again: both mount again.
    for host in ["server", "client"] {
        let spec = site.host(host).unwrap();
        emulated.shut_down(spec).await.unwrap();
        // A client waits until its server is there again before it lets go of what it has mounted.
        let end = Instant::now() + 5 * PATIENCE;
        while emulated.boot_state(spec).await.unwrap() != BootState::Off {
            assert!(Instant::now() < end, "{host} does not shut down");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        emulated.power_off(spec).await.unwrap();
        emulated.power_on(spec, BootSource::Disk).await.unwrap();
    }
    said(state.path(), "server", "the server has: from client", 2).await;
    said(state.path(), "client", "the client has: from client by nfs of nobody", 2).await;
    emulated.stop().await.unwrap();
    assert_eq!(inspect_leftovers(&site, state.path()), Vec::<String>::new());
}
