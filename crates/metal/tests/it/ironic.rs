//! The way through a real, standalone Ironic, whose nodes are systems of sushy-emulator.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use drystone_api::ProvisioningState;
use drystone_metal::{
    driver::redfish::Pauses,
    provisioner::{
        Provisioner,
        ironic::{IronicConfig, IronicProvisioner},
        redfish::Timing,
    },
};
use serde_json::{Value, json};

use super::{
    peers::{Ironic, Sushy, live_image},
    world::{PACING, World, in_house},
};
use crate::peers_or_skip;

/// What sushy-emulator's fake systems have not.
pub(crate) fn interfaces() -> BTreeMap<String, String> {
    ["inspect", "bios", "raid", "vendor", "firmware"]
        .map(|kind| (kind.to_owned(), format!("no-{kind}")))
        .into_iter()
        .collect()
}

pub(crate) fn through(ironic: &Ironic) -> Arc<dyn Provisioner> {
    let url = ironic.url.parse().unwrap();
    let config = IronicConfig { url, credentials: None, interfaces: interfaces() };
    Arc::new(IronicProvisioner::new(config).unwrap())
}

async fn nodes(ironic: &Ironic) -> Vec<Value> {
    let http = drystone_redfish::client::http_builder().build().unwrap();
    let text = http
        .get(format!("{}v1/nodes", ironic.url))
        .header("x-openstack-ironic-api-version", "1.89")
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let body: Value = serde_json::from_str(&text).unwrap();
    body["nodes"].as_array().unwrap().clone()
}

fn spec(sushy: &Sushy, number: usize) -> Value {
    json!({
        "online": false,
        "bmc": {"address": sushy.address("redfish-virtualmedia", number), "credentialsName": "bmc"},
        "bootMACAddress": sushy.systems[number].mac,
        "inspectionMode": "disabled",
        "automatedCleaningMode": "disabled",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_are_enrolled_deployed_and_given_back() {
    let environment = peers_or_skip!();
    let (sushy, ironic) = tokio::join!(Sushy::start(&environment, 3), Ironic::start(&environment));
    let image = live_image(&environment).await;
    // Our own way is there as well: an annotation names Ironic.
    let world = World::start_with(PACING, |media| {
        vec![in_house(media, Pauses::default(), Timing::default()), through(&ironic)]
    })
    .await;
    world.add_secret("bmc", json!({"username": "admin", "password": "secret"})).await;
    for number in 0..3 {
        let name = format!("n{number}");
        let host = json!({"apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost",
            "metadata": {"name": name, "annotations": {"drystone.dev/provisioner": "ironic"}}, "spec": spec(&sushy, number)});
        let host = serde_json::from_value(host).unwrap();
        world.hosts().create(&kube::api::PostParams::default(), &host).await.unwrap();
    }
    for number in 0..3 {
        let status = world.until_state(&format!("n{number}"), ProvisioningState::Available).await;
        assert_eq!(status.provisioning.id.len(), 36, "the UUID of Ironic's node");
    }
    let mut names: Vec<Value> = nodes(&ironic).await.into_iter().map(|node| node["name"].clone()).collect();
    names.sort_by_key(ToString::to_string);
    assert_eq!(names, ["metal3~n0", "metal3~n1", "metal3~n2"]);

    let live = json!({"url": image, "format": "live-iso"});
    for number in 0..3 {
        world.patch(&format!("n{number}"), json!({"spec": {"online": true, "image": live}})).await;
    }
    for number in 0..3 {
        let status = world.until_state(&format!("n{number}"), ProvisioningState::Provisioned).await;
        assert!(status.powered_on);
    }
    for node in nodes(&ironic).await {
        assert_eq!(node["provision_state"], "active");
    }
    // A host that is detached is forgotten by Ironic, and adopted when it comes back.
    let annotation = "baremetalhost.metal3.io/detached";
    world.patch("n1", json!({"metadata": {"annotations": {annotation: ""}}})).await;
    world
        .until("n1", "detached", |_, status| {
            status.operational_status == drystone_api::OperationalStatus::Detached
        })
        .await;
    assert_eq!(nodes(&ironic).await.len(), 2);
    world.patch("n1", json!({"metadata": {"annotations": {annotation: null}}})).await;
    world.until_state("n1", ProvisioningState::Provisioned).await;
    let adopted = async || {
        nodes(&ironic)
            .await
            .iter()
            .any(|node| node["name"] == "metal3~n1" && node["provision_state"] == "active")
    };
    let deadline = std::time::Instant::now() + super::world::DEADLINE;
    while !adopted().await {
        assert!(std::time::Instant::now() < deadline, "n1 is not adopted: {}", ironic.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    world.patch("n0", json!({"spec": {"image": null, "online": false}})).await;
    let status = world.until_state("n0", ProvisioningState::Available).await;
    assert!(!status.powered_on);
    for number in 0..3 {
        world.delete(&format!("n{number}")).await;
    }
    assert_eq!(nodes(&ironic).await, Vec::<Value>::new());
    ironic.stop().await;
    sushy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ironic_cannot_do_is_told_in_its_words() {
    let environment = peers_or_skip!();
    let (sushy, ironic) = tokio::join!(Sushy::start(&environment, 1), Ironic::start(&environment));
    let world = World::start_with(PACING, |_| vec![through(&ironic)]).await;
    world.add_secret("bmc", json!({"username": "admin", "password": "wrong"})).await;
    world.add_host("n0", spec(&sushy, 0)).await;
    let message = world.until_error("n0", "registration error").await;
    assert!(message.contains("Ironic") && message.contains("registering node"), "{message}");
    world.change_secret("bmc", json!({"password": "secret"})).await;
    world.until_state("n0", ProvisioningState::Available).await;
    world.delete("n0").await;
    ironic.stop().await;
    sushy.stop().await;
}
