//! The in-house way on the emulator that Ironic's developers test with.

use std::time::Duration;

use drystone_api::{OperationalStatus, ProvisioningState};
use serde_json::json;

use super::{
    peers::{Sushy, live_image},
    world::{World, is_true},
};
use crate::peers_or_skip;

#[tokio::test(flavor = "multi_thread")]
async fn a_host_lives_its_whole_life() {
    let environment = peers_or_skip!();
    let sushy = Sushy::start(&environment, 2).await;
    let image = live_image(&environment).await;
    let world = World::start().await;
    world.add_secret("bmc", json!({"username": "admin", "password": "secret"})).await;
    let bmc = json!({"address": sushy.address("redfish-virtualmedia", 0), "credentialsName": "bmc"});
    // The emulator fails when it is asked for drives, so that none can be erased.
    let spec = json!({"online": false, "bmc": bmc, "automatedCleaningMode": "disabled"});
    world.add_host("n0", spec).await;

    let status = world.until_state("n0", ProvisioningState::Available).await;
    assert!(is_true(&status, "Manageable") && is_true(&status, "AvailableForProvisioning"), "{status:#?}");
    let history = &status.operation_history;
    assert!(
        history.register.end.is_some() && history.inspect.start.is_some() && history.inspect.end.is_some()
    );
    let hardware = world.hardware().get("n0").await.unwrap().spec.hardware.expect("inspected");
    assert_eq!(hardware.nics[0].mac, sushy.systems[0].mac);
    assert_eq!(status.hardware.as_ref(), Some(&hardware));
    let secret = world.secrets().get("bmc").await.unwrap();
    assert_eq!(secret.metadata.labels.unwrap()["environment.metal3.io"], "baremetal");

    let live = json!({"url": image, "format": "live-iso"});
    world.patch("n0", json!({"spec": {"online": true, "image": live}})).await;
    let status = world.until_state("n0", ProvisioningState::Provisioned).await;
    assert!(status.powered_on && is_true(&status, "Provisioned") && is_true(&status, "Ready"));
    assert_eq!(status.provisioning.image.unwrap().url, image);
    assert!(status.operation_history.provision.end.is_some());

    // Off and on again, and the request is gone.
    world.patch("n0", json!({"metadata": {"annotations": {"reboot.metal3.io": r#"{"mode":"hard"}"#}}})).await;
    world
        .until("n0", "rebooted", |host, status| {
            let asked =
                host.metadata.annotations.iter().flatten().any(|(name, _)| name == "reboot.metal3.io");
            !asked && status.powered_on && status.operational_status == OperationalStatus::OK
        })
        .await;
    assert!(world.told("n0").contains(&"PowerOff".to_owned()), "{:?}", world.told("n0"));

    world.patch("n0", json!({"spec": {"image": null, "online": false}})).await;
    let status = world.until_state("n0", ProvisioningState::Available).await;
    assert!(!status.powered_on && status.provisioning.image.is_none());
    assert!(status.operation_history.deprovision.end.is_some());
    world.delete("n0").await;
    let told = world.told("n0");
    for reason in [
        "Registered",
        "BMCAccessValidated",
        "InspectionStarted",
        "InspectionComplete",
        "ProvisioningStarted",
        "ProvisioningComplete",
        "DeprovisioningStarted",
        "DeprovisioningComplete",
    ] {
        assert!(told.iter().any(|one| one == reason), "{reason} is not among {told:?}");
    }
    sushy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_and_a_right_one_taken() {
    let environment = peers_or_skip!();
    let sushy = Sushy::start(&environment, 1).await;
    let world = World::start().await;
    world.add_secret("bmc", json!({"username": "admin", "password": "wrong"})).await;
    let bmc = json!({"address": sushy.address("redfish-virtualmedia", 0), "credentialsName": "bmc"});
    world.add_host("n0", json!({"online": false, "bmc": bmc})).await;
    let message = world.until_error("n0", "registration error").await;
    assert!(message.contains("refuses the credentials"), "{message}");
    let status = world.status("n0").await;
    assert_eq!(status.provisioning.state, ProvisioningState::Registering);
    assert!(status.good_credentials.credentials_version.is_empty());
    assert!(!status.tried_credentials.credentials_version.is_empty());
    assert!(!is_true(&status, "Manageable") && !is_true(&status, "Ready"));
    world.change_secret("bmc", json!({"password": "secret"})).await;
    let status = world.until_state("n0", ProvisioningState::Available).await;
    assert_eq!((status.error_count, status.error_type.as_str()), (0, ""));
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(sushy.log().contains("401"), "the emulator refused at least once");
    sushy.stop().await;
}
