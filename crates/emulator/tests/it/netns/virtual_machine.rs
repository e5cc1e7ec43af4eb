//! Virtual machines on the emulated switches: one boots the agent's real medium and is heard at the controller's address inside
//! the site; and it outlives the emulator that switched it on. Needs QEMU and `./dev image`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use axum::{Json, Router, http::StatusCode, routing::put};
use drystone_agent::medium::{self, AgentConfig};
use drystone_emulator::{
    backend::{Backend, BootSource, BootState, ForwardingMember, ForwardingZone, ForwardingZones},
    netns::{NetnsBackend, NetnsConfig, inspect_leftovers},
    qemu::{QemuBackend, QemuConfig},
};
use tokio::sync::mpsc;

use super::site::{PATIENCE, cannot_run, gateway_config, site_file, which};

const SITE: &str = "
name: NAME
fabrics: [{id: Ethernet, switches: [{name: eth-a, ports: 4, speedGbps: 25}]}]
hosts:
- {name: vm1, processor: {cores: 1}, memoryMiB: 512, drives: [{capacityGiB: 1}, {capacityGiB: 2, media: HDD}],
   nics: [{name: eth0, switch: eth-a, port: p1, mac: '02:d5:00:00:00:01'}]}
gateway: {nodeAddress: 10.20.0.1/16, campusAddress: 203.0.113.1/24, switch: eth-a, port: p4, mac: '02:d5:00:00:00:05'}
";

const NETWORK: &str = "version: 2\nethernets:\n  main:\n    match: {macaddress: '02:d5:00:00:00:01'}\n    addresses: [10.20.0.11/16]\n    \
     routes: [{to: default, via: 10.20.0.1}]\n";

fn agent_medium() -> Result<PathBuf, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/images/agent.iso");
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
    QemuBackend::new(QemuConfig {
        state_directory: state.to_owned(),
        network: Some(network.unwrap()),
        mixed: false,
    })
}

/// The machine and the gateway in one zone.
fn zone() -> ForwardingZones {
    let member = |port: &str, shared| ForwardingMember { port: port.to_owned(), shared, peers: None };
    let members = [("02:d5:00:00:00:01", member("p1", false)), ("02:d5:00:00:00:05", member("p4", true))];
    let zone = ForwardingZone {
        tag: 1,
        members: members.map(|(mac, member)| (mac.to_owned(), member)).into(),
        flood_ports: vec!["p1".to_owned(), "p4".to_owned()],
    };
    [("red".to_owned(), zone)].into()
}

/// Hears inventories.
async fn desk() -> (std::net::SocketAddr, mpsc::UnboundedReceiver<serde_json::Value>) {
    let (send, receive) = mpsc::unbounded_channel();
    let hear = move |Json(inventory): Json<serde_json::Value>| {
        // A test that has ended hears no more.
        let _ = send.send(inventory);
        async { StatusCode::NO_CONTENT }
    };
    let router = Router::new().route("/agent/v1/inventory", put(hear));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, receive)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_s_real_medium_boots_and_is_heard_through_the_gateway() {
    if cannot_run() {
        return;
    }
    let shared = match agent_medium() {
        Ok(path) => path,
        Err(reason) => {
            println!("skipped: {reason}");
            assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
            return;
        }
    };
    let state = tempfile::tempdir().unwrap();
    let site = site_file(SITE, &format!("q{}", std::process::id()));
    let host = site.host("vm1").unwrap();
    let (desk, mut heard) = desk().await;
    let mut emulated = backend(state.path());
    let endpoints = emulated.start(&site, &gateway_config(desk)).await.unwrap();
    emulated.program_switch("eth-a", &zone()).await.unwrap();

    let mut image = std::fs::read(shared).unwrap();
    let place = medium::place(&mut std::io::Cursor::new(&image)).unwrap();
    let config = AgentConfig {
        url: format!("http://{}", endpoints.controller),
        token: "u.t".to_owned(),
        ca: String::new(),
        network_data: NETWORK.to_owned(),
    };
    let own = medium::overlay(&config, place.length).unwrap();
    let from = usize::try_from(place.offset).unwrap();
    image[from..from + own.len()].copy_from_slice(&own);
    let path = state.path().join("medium.iso");
    std::fs::write(&path, image).unwrap();

    emulated.power_on(host, BootSource::Medium(path)).await.unwrap();
    let inventory = match tokio::time::timeout(5 * PATIENCE, heard.recv()).await {
        Ok(inventory) => inventory.unwrap(),
        Err(_) => {
            let console = std::fs::read_to_string(state.path().join("hosts/vm1/console.log"));
            emulated.stop().await.unwrap();
            panic!("the agent was not heard; the console: {}", console.unwrap_or_default());
        }
    };
    assert_eq!(inventory["interfaces"][0]["mac"], "02:d5:00:00:00:01");
    let disks = inventory["disks"].as_array().unwrap();
    let sizes: Vec<u64> = disks.iter().map(|disk| disk["sizeBytes"].as_u64().unwrap() >> 30).collect();
    assert_eq!(sizes, [1, 2], "{inventory}");
    assert_eq!(disks[1]["serialNumber"], "vm1-hdd0", "{inventory}");
    assert_eq!(
        (disks[0]["rotational"].as_bool(), disks[1]["rotational"].as_bool()),
        (Some(false), Some(true))
    );

    // Another emulator finds it running, and takes everything down.
    drop(emulated);
    emulated = backend(state.path());
    emulated.start(&site, &gateway_config(desk)).await.unwrap();
    let end = Instant::now() + PATIENCE;
    while emulated.boot_state(host).await.unwrap() != BootState::OsRunning {
        assert!(Instant::now() < end, "{:?}", emulated.boot_state(host).await);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(emulated.wipe_disk(host).await.is_err(), "it is on");
    emulated.power_off(host).await.unwrap();
    assert_eq!(emulated.boot_state(host).await.unwrap(), BootState::Off);
    emulated.wipe_disk(host).await.unwrap();
    // Empty drives boot nothing.
    emulated.power_on(host, BootSource::Disk).await.unwrap();
    let end = Instant::now() + PATIENCE;
    while emulated.boot_state(host).await.unwrap() != BootState::NoBoot {
        assert!(Instant::now() < end, "{:?}", emulated.boot_state(host).await);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let emulated = Arc::new(emulated);
    emulated.stop().await.unwrap();
    assert_eq!(inspect_leftovers(&site, state.path()), Vec::<String>::new());
}
