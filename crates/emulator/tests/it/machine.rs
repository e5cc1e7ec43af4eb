//! The whole of a site on this machine: a BMC's commands become namespaces, a switch's table lets packets through, and
//! when the site is told to stop nothing is left.

use std::{
    io::Read as _,
    net::{SocketAddr, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use drystone_emulator::{Emulator, EmulatorConfig, netns::inspect_leftovers, site::SiteFile};
use drystone_redfish::{
    client::{AuthenticationMode, Client, Options},
    types::{ComputerSystem, PowerState},
};
use nix::sched::{CloneFlags, setns};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(120);
const SYSTEM: &str = "/redfish/v1/Systems/1";
const MEDIA: &str = "/redfish/v1/Managers/1/VirtualMedia/Cd/Actions";
const TABLE: &str = "/redfish/v1/Fabrics/Ethernet/Switches/eth-a/Oem/Drystone/ForwardingTable";

fn site(name: &str) -> String {
    format!(
        "name: {name}
backend: netns
timing: {{scale: 0}}
fabrics: [{{id: Ethernet, switches: [{{name: eth-a, ports: 4, speedGbps: 25}}]}}]
hosts:
- {{name: 'c{{n}}', count: 2, processor: {{cores: 1}}, memoryMiB: 1024, drives: [{{capacityGiB: 10}}], nics: [{{name: eth0, switch: eth-a}}]}}
"
    )
}

/// A medium with a unit that answers on port 80 with the name of the host.
fn medium(host: &str, address: &str) -> Vec<u8> {
    let user_data = format!(
        "#cloud-config\nwrite_files:\n- path: /etc/systemd/system/answer.service\n  content: |\n    [Service]\n    \
         ExecStart=/usr/local/bin/drystone serve 80 {host}\n    Restart=always\nruncmd:\n- [systemctl, enable, --now, answer.service]\n"
    );
    let network = format!("version: 2\nethernets:\n  eth0: {{addresses: [{address}/24]}}\n");
    let mut archive = tar::Builder::new(Vec::new());
    for (name, text) in [
        ("meta-data", format!("instance-id: {host}-1\nlocal-hostname: {host}\n")),
        ("user-data", user_data),
        ("network-config", network),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_cksum();
        archive.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap()
}

async fn serve_media() -> SocketAddr {
    let media = |host: &'static str, address: &'static str| move || async move { medium(host, address) };
    let router = axum::Router::new()
        .route("/c1", axum::routing::get(media("c1", "10.20.0.11")))
        .route("/c2", axum::routing::get(media("c2", "10.20.0.12")));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// What a host answers on port 80, asked from inside another host.
fn ask_from(namespace: &str, address: &str) -> Option<String> {
    let file = std::fs::File::open(Path::new("/run/netns").join(namespace)).unwrap();
    let target: SocketAddr = format!("{address}:80").parse().unwrap();
    let inside = std::thread::spawn(move || {
        setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
        let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(1)).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    });
    inside.join().unwrap()
}

fn clients(emulator: &Emulator) -> (Vec<Client>, Client) {
    let client = |service: &drystone_emulator::endpoints::Service| {
        let options = Options::new(&service.url).credentials(&service.user, &service.password);
        Client::new(options.authentication(AuthenticationMode::Basic)).unwrap()
    };
    (emulator.endpoints().bmcs.iter().map(client).collect(), client(&emulator.endpoints().fabric_services[0]))
}

async fn reset(bmc: &Client, kind: &str) {
    let target = format!("{SYSTEM}/Actions/ComputerSystem.Reset");
    bmc.action(&target, &json!({"ResetType": kind})).await.unwrap();
}

async fn wait_for(bmc: &Client, wanted: &str) {
    wait_until(bmc, wanted, |system| system.boot_progress.last_state.as_deref() == Some(wanted)).await;
}

async fn wait_until(bmc: &Client, wanted: &str, is_so: impl Fn(&ComputerSystem) -> bool) {
    let end = Instant::now() + PATIENCE;
    loop {
        let system = bmc.get_as::<ComputerSystem>(SYSTEM).await.unwrap().value;
        if is_so(&system) {
            return;
        }
        assert!(Instant::now() < end, "{system:#?} instead of {wanted}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_boot_through_their_bmcs_and_meet_where_the_switch_lets_them() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (file, state) = (directory.path().join("site.yaml"), directory.path().join("state"));
    let name = format!("m{}", std::process::id());
    std::fs::write(&file, site(&name)).unwrap();
    let mut config = EmulatorConfig::new(&file, &state, SocketAddr::from(([127, 0, 0, 1], 9)));
    config.guest_program = Some(env!("CARGO_BIN_EXE_emulated-host").into());
    let emulator = Emulator::start(config.clone()).await.unwrap();
    let media = serve_media().await;
    let (bmcs, switch) = clients(&emulator);
    for (bmc, host) in bmcs.iter().zip(["c1", "c2"]) {
        let image = json!({"Image": format!("http://{media}/{host}")});
        bmc.action(&format!("{MEDIA}/VirtualMedia.InsertMedia"), &image).await.unwrap();
        let boot = json!({"Boot": {"BootSourceOverrideTarget": "Cd", "BootSourceOverrideEnabled": "Once"}});
        bmc.modify(SYSTEM, |_| Some(boot.clone())).await.unwrap();
        reset(bmc, "On").await;
    }
    for bmc in &bmcs {
        wait_for(bmc, "OSRunning").await;
    }
    let namespace = format!("ds-{name}-c1");
    assert_eq!(ask_from(&namespace, "10.20.0.12"), None, "without a zone nothing passes");
    let mut members = serde_json::Map::new();
    for (port, bmc) in ["p1", "p2"].into_iter().zip(&bmcs) {
        let interface = bmc.get(&format!("{SYSTEM}/EthernetInterfaces/eth0")).await.unwrap();
        members.insert(interface.body["MACAddress"].as_str().unwrap().to_owned(), json!({"Port": port}));
    }
    let zone = json!({"Zones": {"z1": {"Tag": 1, "Members": members, "FloodPorts": ["p1", "p2"]}}});
    switch.modify(TABLE, |_| Some(zone.clone())).await.unwrap();
    let answered = || (0..60).find_map(|_| ask_from(&namespace, "10.20.0.12"));
    assert_eq!(answered().as_deref(), Some("c2"));

    // The emulator is gone for a while: hosts run on, and their BMCs know it afterwards.
    emulator.abandon().await;
    assert_eq!(answered().as_deref(), Some("c2"));
    let emulator = Emulator::start(config).await.unwrap();
    let (bmcs, _switch) = clients(&emulator);
    wait_for(&bmcs[1], "OSRunning").await;
    assert_eq!(answered().as_deref(), Some("c2"));
    reset(&bmcs[1], "GracefulShutdown").await;
    wait_until(&bmcs[1], "off", |system| system.power_state == Some(PowerState::Off)).await;
    assert_eq!(ask_from(&namespace, "10.20.0.12"), None);

    emulator.stop().await.unwrap();
    let left = inspect_leftovers(&SiteFile::load(&file).unwrap(), &state);
    assert_eq!(left, Vec::<String>::new());
}
