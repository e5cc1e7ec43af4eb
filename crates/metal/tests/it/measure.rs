//! Measurements beside Ironic, and of many hosts. They are run on demand, and print what they find:
//! `cargo nextest run -p drystone-metal --run-ignored only --no-capture measure`.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    time::{Duration, Instant},
};

use drystone_api::{BareMetalHost, ProvisioningState};
use drystone_emulator::{Emulator, EmulatorConfig};
use drystone_metal::{driver::redfish::Pauses, plan::Pacing, provisioner::redfish::Timing};
use futures::StreamExt as _;
use kube::api::{ListParams, PostParams};
use serde_json::json;

use super::{
    ironic::through,
    peers::{Ironic, Sushy, live_image},
    world::{World, in_house},
};
use crate::peers_or_skip;

/// Seconds that the emulator takes to change power.
const POWER_SECONDS: u32 = 5;
const HOSTS: usize = 10;
/// Longest time that a measurement may take.
const LIMIT: Duration = Duration::from_secs(1500);

/// Waits until all hosts of the world are in a state; returns how long it took.
async fn all_in(world: &World, count: usize, state: ProvisioningState, began: Instant) -> Duration {
    loop {
        let hosts = world.hosts().list(&ListParams::default()).await.unwrap();
        let there = hosts.iter().filter(|host: &&BareMetalHost| {
            host.status.as_ref().is_some_and(|status| status.provisioning.state == state)
        });
        if there.count() == count {
            return began.elapsed();
        }
        assert!(began.elapsed() < LIMIT, "not all of {count} hosts are {state:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// From declaring ten hosts with their image until all of them run it, by one way.
async fn enrol_to_active(world: &World, sushy: &Sushy, way: &str, image: &str) -> (Duration, f64) {
    let resets_before = sushy.log().matches("ComputerSystem.Reset").count();
    world.add_secret("bmc", json!({"username": "admin", "password": "secret"})).await;
    let began = Instant::now();
    for number in 0..HOSTS {
        let host = json!({"apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost",
            "metadata": {"name": format!("n{number}"), "annotations": {"drystone.dev/provisioner": way}},
            "spec": {"online": true, "inspectionMode": "disabled", "automatedCleaningMode": "disabled",
                "bmc": {"address": sushy.address("redfish-virtualmedia", number), "credentialsName": "bmc"},
                "bootMACAddress": sushy.systems[number].mac, "image": {"url": image, "format": "live-iso"}}});
        world.hosts().create(&PostParams::default(), &serde_json::from_value(host).unwrap()).await.unwrap();
    }
    let took = all_in(world, HOSTS, ProvisioningState::Provisioned, began).await;
    let resets = sushy.log().matches("ComputerSystem.Reset").count() - resets_before;
    #[expect(clippy::cast_precision_loss, reason = "a few dozen")]
    (took, resets as f64 / HOSTS as f64)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn ten_hosts_beside_ironic() {
    let environment = peers_or_skip!();
    let image = live_image(&environment).await;
    for way in ["redfish", "ironic"] {
        let sushy = Sushy::start_with(&environment, HOSTS, Some(POWER_SECONDS)).await;
        let ironic = Ironic::start(&environment).await;
        let world = World::start_with(Pacing::QUICK, |media| {
            vec![in_house(media, Pauses::default(), Timing::default()), through(&ironic)]
        })
        .await;
        let (took, resets) = enrol_to_active(&world, &sushy, way, &image).await;
        let own = resets * f64::from(POWER_SECONDS);
        println!(
            "{way}: {HOSTS} hosts enrolled and active in {:.1} s; {resets:.1} resets per host of up to {POWER_SECONDS} s: {:.1} s above them",
            took.as_secs_f64(),
            took.as_secs_f64() - own
        );
        drop(world);
        ironic.stop().await;
        sushy.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn a_thousand_hosts_are_enrolled_and_inspected() {
    const MANY: usize = 1000;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("site.yaml");
    let mut text = "name: large\ntiming: {scale: 0}\nhosts:\n".to_owned();
    writeln!(
        text,
        "- {{name: 'c{{n}}', count: {MANY}, processor: {{cores: 8}}, memoryMiB: 16384, drives: [{{capacityGiB: 960}}]}}"
    )
    .unwrap();
    std::fs::write(&file, text).unwrap();
    let controller = SocketAddr::from(([127, 0, 0, 1], 6443));
    let config = EmulatorConfig::new(file, directory.path().join("state"), controller);
    let emulator = Emulator::start(config).await.unwrap();
    let world =
        World::start_with(Pacing::QUICK, |media| vec![in_house(media, Pauses::default(), Timing::default())])
            .await;
    let bmcs = emulator.endpoints().bmcs.clone();
    let began = Instant::now();
    futures::stream::iter(&bmcs)
        .for_each_concurrent(32, |bmc| {
            let world = &world;
            async move {
                let secret = format!("{}-bmc", bmc.name);
                world.add_secret(&secret, json!({"username": bmc.user, "password": bmc.password})).await;
                let url = bmc.url.trim_start_matches("http://").trim_end_matches('/');
                let address = format!("redfish-virtualmedia+http://{url}");
                let spec = json!({"online": false, "bmc": {"address": address, "credentialsName": secret}});
                world.add_host(&bmc.name, spec).await;
            }
        })
        .await;
    let declared = began.elapsed();
    let took = all_in(&world, MANY, ProvisioningState::Available, began).await;
    println!(
        "{MANY} hosts declared in {:.1} s, enrolled and inspected {:.1} s after the first was declared",
        declared.as_secs_f64(),
        took.as_secs_f64()
    );
    emulator.stop().await.unwrap();
}
