//! A site outlives its emulator: by kill, and by being told to stop.

use drystone_emulator::{Emulator, EmulatorError, endpoints, state::StateError};
use drystone_redfish::types::PowerState;
use serde_json::json;

use super::site::{SITE, SYSTEM, TestSite, image_server, insert, reset, wait_for, wait_off};

const SUBSCRIPTIONS: &str = "/redfish/v1/EventService/Subscriptions";

#[tokio::test]
async fn a_restarted_emulator_finds_everything_as_it_was() {
    let site = TestSite::start(SITE).await;
    let bmc = site.bmc("c1");
    insert(&bmc, &image_server().await).await;
    reset(&bmc, "On").await.unwrap();
    wait_for(&bmc, "OSRunning").await;
    bmc.patch(SYSTEM, &json!({"HostName": "renamed", "Boot": {"BootSourceOverrideTarget": "Hdd", "BootSourceOverrideEnabled": "Continuous"}}), None)
        .await
        .unwrap();
    let listener = json!({"Destination": "http://127.0.0.1:1/", "Protocol": "Redfish"});
    bmc.create(SUBSCRIPTIONS, &listener).await.unwrap();
    let before = site.emulator.endpoints().clone();

    let site = site.restart().await;
    assert_eq!(site.emulator.endpoints(), &before, "ports and password are remembered");
    let bmc = site.bmc("c1");
    let system = wait_for(&bmc, "OSRunning").await;
    assert_eq!((system.power_state, system.host_name.as_deref()), (Some(PowerState::On), Some("renamed")));
    assert_eq!(system.boot.boot_source_override_target.as_deref(), Some("Hdd"));
    assert_eq!(bmc.members(SUBSCRIPTIONS).await.unwrap().len(), 1);
    wait_off(&site.bmc("c2")).await;

    // Told to stop, the site goes off; what was on comes back on from its disk.
    let state = site.state();
    let site = site.power_cycle().await;
    wait_for(&site.bmc("c1"), "OSRunning").await;
    wait_for(&site.bmc("online"), "NothingBoots").await;
    site.emulator.stop().await.unwrap();
    assert_eq!(endpoints::read(&state).unwrap(), None);
}

#[tokio::test]
async fn a_state_directory_has_one_emulator_and_one_site() {
    let site = TestSite::start(SITE).await;
    let second = Emulator::start(site.config().clone()).await.err().unwrap();
    assert!(matches!(second, EmulatorError::State(StateError::Locked { .. })), "{second}");
    let other = site.state().join("../other.yaml");
    std::fs::write(&other, SITE.replace("name: small", "name: other")).unwrap();
    let mut config = site.config().clone();
    config.site_file = other;
    site.emulator.abandon().await;
    let refused = Emulator::start(config).await.err().unwrap();
    assert!(matches!(refused, EmulatorError::OtherSite { .. }), "{refused}");
}

#[tokio::test]
async fn switches_forward_after_a_restart_what_they_did_before() {
    let site = TestSite::start(SITE).await;
    let table = "/redfish/v1/Fabrics/Ethernet/Switches/eth-a/Oem/Drystone/ForwardingTable";
    let zone = json!({"Zones": {"z1": {"Tag": 7, "Members": {"02:d5:00:00:00:01": {"Port": "p1", "Shared": false}}, "FloodPorts": ["p1"]}}});
    site.fabric("eth-a").modify(table, |_| Some(zone.clone())).await.unwrap();
    site.fabric("HSN")
        .create("/redfish/v1/Fabrics/HSN/Zones", &json!({"Id": "z1", "Name": "One"}))
        .await
        .unwrap();
    let site = site.restart().await;
    let after = site.fabric("eth-a").get(table).await.unwrap();
    assert_eq!(after.body["Zones"], zone["Zones"]);
    assert_eq!(site.fabric("HSN").get("/redfish/v1/Fabrics/HSN/Zones/z1").await.unwrap().body["Name"], "One");
}
