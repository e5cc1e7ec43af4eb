//! A small site for a test, in a directory of its own.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use drystone_emulator::{Emulator, EmulatorConfig, endpoints::Service};
use drystone_redfish::{
    client::{AuthenticationMode, Client, Options, RedfishError, RetryPolicy},
    types::{ComputerSystem, PowerState},
};
use serde_json::json;
use tempfile::TempDir;

/// How long anything may take on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
pub(super) const SYSTEM: &str = "/redfish/v1/Systems/1";
pub(super) const CD: &str = "/redfish/v1/Managers/1/VirtualMedia/Cd";

/// Two switches with a host on each, a fabric with an agent and both hosts on it, a pool, a gateway.
pub(super) const SITE: &str = "
name: small
timing: {scale: 0}
fabrics:
- id: Ethernet
  switches: [{name: eth-a, ports: 4, speedGbps: 25}, {name: eth-b, ports: 4, speedGbps: 25}]
  links: [{from: eth-a, to: eth-b, speedGbps: 100}]
- id: HSN
  services: agent
  switches: [{name: hsn-a, ports: 4, speedGbps: 200}, {name: hsn-b, ports: 4, speedGbps: 200}]
  links: [{from: hsn-a, to: hsn-b, speedGbps: 400}]
hosts:
- name: 'c{n}'
  count: 2
  rack: r1
  processor: {model: EPYC 9354, sockets: 2, cores: 64}
  memoryMiB: 524288
  gpus: [{model: A100, memoryMiB: 81920, count: 2}]
  drives: [{capacityGiB: 960}, {capacityGiB: 4000, media: HDD}]
  nics: [{name: eth0, switches: [eth-a, eth-b]}, {name: hsn0, switches: [hsn-a, hsn-b]}]
  watts: {idle: 100, busy: 900}
- {name: online, processor: {cores: 8}, memoryMiB: 16384, power: on}
pools: [{name: shelf, fabric: HSN, gpus: [{model: V100, memoryMiB: 16384, count: 2}], }]
gateway:
  nodeAddress: 10.20.0.1/16
  nodeAllocation: 10.20.1.0/24
  campusAddress: 203.0.113.1/24
  switch: eth-a
  externalPools: [{name: campus, ranges: [198.51.100.0/24], blockPrefixLength: 28}]
";

pub(super) struct TestSite {
    pub(super) emulator: Emulator,
    config: EmulatorConfig,
    directory: TempDir,
}

impl TestSite {
    pub(super) async fn start(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("site.yaml");
        std::fs::write(&file, text).unwrap();
        let controller = SocketAddr::from(([127, 0, 0, 1], 6443));
        let config = EmulatorConfig::new(file, directory.path().join("state"), controller);
        Self { emulator: Emulator::start(config.clone()).await.unwrap(), config, directory }
    }

    /// Ends the emulator as a kill would, and starts another one.
    pub(super) async fn restart(self) -> Self {
        self.emulator.abandon().await;
        let emulator = Emulator::start(self.config.clone()).await.unwrap();
        Self { emulator, ..self }
    }

    /// Takes the site down and starts it again.
    pub(super) async fn power_cycle(self) -> Self {
        self.emulator.stop().await.unwrap();
        let emulator = Emulator::start(self.config.clone()).await.unwrap();
        Self { emulator, ..self }
    }

    pub(super) fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    pub(super) fn config(&self) -> &EmulatorConfig {
        &self.config
    }

    pub(super) fn bmc_service(&self, host: &str) -> &Service {
        self.emulator.endpoints().bmcs.iter().find(|service| service.name == host).unwrap()
    }

    pub(super) fn fabric_service(&self, name: &str) -> &Service {
        self.emulator.endpoints().fabric_services.iter().find(|service| service.name == name).unwrap()
    }

    pub(super) fn bmc(&self, host: &str) -> Client {
        client(self.bmc_service(host))
    }

    pub(super) fn fabric(&self, name: &str) -> Client {
        client(self.fabric_service(name))
    }
}

pub(super) fn options(service: &Service) -> Options {
    let retry = RetryPolicy {
        attempts: 3,
        first_pause: Duration::from_millis(10),
        longest_pause: Duration::from_millis(50),
    };
    Options::new(&service.url)
        .credentials(&service.user, &service.password)
        .authentication(AuthenticationMode::Basic)
        .timeouts(Duration::from_secs(10), Duration::from_secs(30))
        .retry(retry)
}

pub(super) fn client(service: &Service) -> Client {
    Client::new(options(service)).unwrap()
}

pub(super) async fn reset(bmc: &Client, kind: &str) -> Result<(), RedfishError> {
    let target = format!("{SYSTEM}/Actions/ComputerSystem.Reset");
    bmc.action(&target, &json!({"ResetType": kind})).await.map(drop)
}

/// Waits for a boot state of the system: `OSRunning`, `NothingBoots`, `None` (off).
pub(super) async fn wait_for(bmc: &Client, wanted: &str) -> ComputerSystem {
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let system = bmc.get_as::<ComputerSystem>(SYSTEM).await.unwrap().value;
        let progress = &system.boot_progress;
        if progress.last_state.as_deref() == Some(wanted)
            || progress.oem_last_state.as_deref() == Some(wanted)
        {
            return system;
        }
        assert!(std::time::Instant::now() < end, "{system:#?} instead of {wanted}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until a host is off: while it goes off it boots nothing either.
pub(super) async fn wait_off(bmc: &Client) -> ComputerSystem {
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let system = wait_for(bmc, "None").await;
        if system.power_state == Some(PowerState::Off) {
            return system;
        }
        assert!(std::time::Instant::now() < end, "{system:#?} instead of off");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Serves an image over HTTP; returns its URL.
pub(super) async fn image_server() -> String {
    let router = axum::Router::new().route("/boot.img", axum::routing::get(|| async { "a medium" }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/boot.img", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// Inserts an image and makes the next boot read it.
pub(super) async fn insert(bmc: &Client, image: &str) {
    bmc.action(&format!("{CD}/Actions/VirtualMedia.InsertMedia"), &json!({"Image": image})).await.unwrap();
    let boot = json!({"Boot": {"BootSourceOverrideTarget": "Cd", "BootSourceOverrideEnabled": "Once"}});
    bmc.modify(SYSTEM, |_| Some(boot.clone())).await.unwrap();
}
