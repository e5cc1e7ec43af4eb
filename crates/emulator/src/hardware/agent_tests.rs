//! The agent of a simulated host: booted from its medium, at work for a desk, gone with the power; and what it leaves on the disk.

use std::{
    io::Read as _,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    routing::{get, post, put},
};
use drystone_agent::{
    download::Detours,
    medium::{self, AgentConfig},
};
use drystone_redfish::types::ResetType;
use serde_json::{Value, json};

use super::{
    BootOverride, BootTarget, Change, Hardware, HardwareFiles, HostRecord, InsertedMedium, OverrideEnabled,
    Phase,
};
use crate::{
    backend::Backend,
    sim::SimBackend,
    site::{SiteFile, Timing},
};

/// SHA-256 of `image`.
const DIGEST: &str = "6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d";

/// A desk with one order after the other, and what it heard.
#[derive(Clone, Default)]
struct Desk {
    orders: Arc<Mutex<Value>>,
    heard: Arc<Mutex<Vec<Value>>>,
}

impl Desk {
    async fn serve(&self, medium: Vec<u8>) -> SocketAddr {
        let (orders, heard) = (Arc::clone(&self.orders), Arc::clone(&self.heard));
        let result = move |Json(report): Json<Value>| {
            heard.lock().unwrap().push(report);
            async { axum::http::StatusCode::NO_CONTENT }
        };
        let router = Router::new()
            .route("/agent/v1/orders", get(move || async move { Json(orders.lock().unwrap().clone()) }))
            .route("/agent/v1/inventory", put(|| async { axum::http::StatusCode::NO_CONTENT }))
            .route("/agent/v1/progress", post(|| async { axum::http::StatusCode::NO_CONTENT }))
            .route("/agent/v1/result", post(result))
            .route("/image", get(|| async { "image" }))
            .route("/medium", get(move || async move { medium }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    async fn await_report(&self, order: &str) -> Value {
        for _ in 0..6000 {
            let found = self.heard.lock().unwrap().iter().find(|report| report["order"] == order).cloned();
            if let Some(report) = found {
                return report;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no report of {order}");
    }
}

async fn reach(hardware: &Hardware, phase: Phase) {
    for _ in 0..6000 {
        if hardware.situation().phase == phase {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{:?} instead of {phase:?}", hardware.situation());
}

fn seed_of(files: &HardwareFiles) -> Option<String> {
    let bytes = std::fs::read(files.media.join("c01.disk")).ok()?;
    let mut archive = tar::Archive::new(bytes.as_slice());
    let texts = archive.entries().unwrap().map(|entry| {
        let mut text = String::new();
        entry.unwrap().read_to_string(&mut text).unwrap();
        text
    });
    Some(texts.collect())
}

#[tokio::test]
async fn an_image_brings_the_medium_that_the_disk_boots() {
    let directory = tempfile::tempdir().unwrap();
    let named = SocketAddr::from(([10, 20, 0, 1], 6443));
    let config =
        AgentConfig { url: format!("http://{named}"), token: "u.t".to_owned(), ..AgentConfig::default() };
    let desk = Desk::default();
    let real = desk.serve(medium::bare(&config).unwrap()).await;
    let deployment = json!({"id": "1", "order": "deploy",
        "image": {"url": format!("http://{named}/image"), "checksum": DIGEST},
        "configDrive": {"metaData": {"uuid": "u-1", "name": "node"}, "userData": "I2Nsb3VkLWNvbmZpZwo="}});
    *desk.orders.lock().unwrap() = deployment;
    let files = HardwareFiles {
        records: directory.path().to_owned(),
        media: directory.path().to_owned(),
        detours: Detours::default().with(named, real),
    };
    let text =
        "{name: s, hosts: [{name: c01, processor: {cores: 1}, memoryMiB: 1024, drives: [{capacityGiB: 1}]}]}";
    let site = SiteFile::parse(text).unwrap();
    let backend: Arc<dyn Backend> = Arc::new(SimBackend::new([]));
    let timing = Timing { scale: 0.0, ..site.timing };
    let start = |record: HostRecord| {
        Hardware::new(Arc::new(site.hosts[0].clone()), timing, Arc::clone(&backend), &files, record)
    };
    let hardware = start(HostRecord::default());
    let medium =
        InsertedMedium { url: format!("http://{real}/medium"), credentials: None, write_protected: true };
    let boot =
        BootOverride { enabled: OverrideEnabled::Once, target: BootTarget::Cd, ..BootOverride::default() };
    let insert = |record: &mut HostRecord| (record.medium, record.boot) = (Some(medium), boot);
    hardware.change(Change::Medium, insert).await.unwrap();
    hardware.reset(ResetType::On).await.unwrap();
    let report = desk.await_report("1").await;
    assert!(report.get("error").is_none() && report["bytes"] == 5, "{report}");
    assert_eq!(hardware.situation().phase, Phase::OsRunning);
    assert!(!directory.path().join("c01.img").exists(), "the medium has been read and holds a token");
    let seed = seed_of(&files).unwrap();
    assert!(seed.contains("u-1") && seed.contains("#cloud-config"), "{seed}");

    // An emulator that is started again finds the agent's boot on record, and boots the agent again.
    hardware.halt().await;
    let hardware = start(files.load(&site.hosts[0]).unwrap());
    *desk.orders.lock().unwrap() = json!({"id": "2", "order": "wait"});
    hardware.resume().await.unwrap();
    reach(&hardware, Phase::OsRunning).await;
    assert!(hardware.runs_agent());

    // The disk boots, and the agent is gone.
    hardware.reset(ResetType::ForceRestart).await.unwrap();
    reach(&hardware, Phase::PoweringOff).await;
    reach(&hardware, Phase::OsRunning).await;
    assert!(!hardware.runs_agent());

    // Cleaning leaves nothing to boot.
    hardware.reset(ResetType::ForceOff).await.unwrap();
    reach(&hardware, Phase::Off).await;
    *desk.orders.lock().unwrap() = json!({"id": "3", "order": "clean"});
    let again = |record: &mut HostRecord| record.boot.enabled = OverrideEnabled::Once;
    hardware.change(Change::System, again).await.unwrap();
    let target = |record: &mut HostRecord| record.boot.target = BootTarget::Cd;
    hardware.change(Change::System, target).await.unwrap();
    hardware.reset(ResetType::On).await.unwrap();
    assert!(desk.await_report("3").await.get("error").is_none());
    assert_eq!(seed_of(&files), None);
    hardware.reset(ResetType::ForceRestart).await.unwrap();
    reach(&hardware, Phase::NoBoot).await;
}
