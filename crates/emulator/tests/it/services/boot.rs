//! Power and boot through a BMC, as provisioning does it.

use drystone_redfish::types::{PowerState, VirtualMedia};
use serde_json::json;

use super::site::{CD, SITE, SYSTEM, TestSite, image_server, insert, reset, wait_for, wait_off};

#[tokio::test]
async fn a_host_boots_a_medium_once_and_its_disk_from_then_on() {
    let site = TestSite::start(SITE).await;
    let bmc = site.bmc("c1");
    let off = wait_off(&bmc).await;
    assert_eq!(
        (off.power_state, off.boot_progress.last_state.as_deref()),
        (Some(PowerState::Off), Some("None"))
    );
    insert(&bmc, &image_server().await).await;
    reset(&bmc, "On").await.unwrap();
    let running = wait_for(&bmc, "OSRunning").await;
    assert_eq!(running.power_state, Some(PowerState::On));
    assert_eq!(running.boot.boot_source_override_enabled.as_deref(), Some("Disabled"), "it counted once");

    bmc.action(&format!("{CD}/Actions/VirtualMedia.EjectMedia"), &json!({})).await.unwrap();
    reset(&bmc, "ForceRestart").await.unwrap();
    wait_for(&bmc, "OSRunning").await;
    // It may be shutting down, off, or running again when it is told to stay off: the last command counts.
    reset(&bmc, "GracefulRestart").await.unwrap();
    reset(&bmc, "GracefulShutdown").await.unwrap();
    wait_off(&bmc).await;
    bmc.action(&format!("{SYSTEM}/Storage/1/Drives/nvme0/Actions/Drive.SecureErase"), &json!({}))
        .await
        .unwrap();
    reset(&bmc, "On").await.unwrap();
    let idle = wait_for(&bmc, "NothingBoots").await;
    assert!(idle.status.conditions[0].message.contains("nothing bootable"), "{:?}", idle.status);
}

#[tokio::test]
async fn a_server_that_is_online_has_power_and_no_system() {
    let site = TestSite::start(SITE).await;
    let online = wait_for(&site.bmc("online"), "NothingBoots").await;
    assert_eq!(online.power_state, Some(PowerState::On));
}

#[tokio::test]
async fn what_cannot_be_is_refused_in_the_protocols_words() {
    let site = TestSite::start(SITE).await;
    let bmc = site.bmc("c1");
    for (uri, body, status, key) in [
        (
            "Actions/ComputerSystem.Reset",
            json!({"ResetType": "Explode"}),
            400,
            "ActionParameterValueNotInList",
        ),
        ("Actions/ComputerSystem.Reset", json!({}), 400, "ActionParameterMissing"),
        (
            "Actions/ComputerSystem.Reset",
            json!({"ResetType": "On", "Delay": 1}),
            400,
            "ActionParameterUnknown",
        ),
        (
            "Actions/ComputerSystem.Reset",
            json!({"ResetType": "ForceRestart"}),
            409,
            "ActionParameterValueConflict",
        ),
    ] {
        let error = bmc.action(&format!("{SYSTEM}/{uri}"), &body).await.unwrap_err();
        assert_eq!((error.status(), error.message_keys()), (Some(status), vec![key]), "{body}");
    }
    for (body, key) in [
        (json!({"Boot": {"BootSourceOverrideTarget": "Tape"}}), "PropertyValueNotInList"),
        (
            json!({"Boot": {"BootSourceOverrideTarget": "UefiHttp", "BootSourceOverrideEnabled": "Once"}}),
            "PropertyValueConflict",
        ),
        (json!({"PowerState": "On"}), "PropertyNotWritable"),
        (json!({"HostName": 7}), "PropertyValueTypeError"),
        (json!({"Boot": {"BootSourceOverrideTarget": "Cd"}, "Colour": "red"}), "PropertyUnknown"),
    ] {
        let error = bmc.patch(SYSTEM, &body, None).await.unwrap_err();
        assert!(error.status() == Some(400) && error.says(key), "{body}: {error}");
    }
    let untouched = wait_for(&bmc, "None").await;
    assert_eq!(
        untouched.boot.boot_source_override_target.as_deref(),
        Some("None"),
        "nothing of a bad request counts"
    );

    let insert = format!("{CD}/Actions/VirtualMedia.InsertMedia");
    let bad = bmc.action(&insert, &json!({"Image": "nfs://server/x"})).await.unwrap_err();
    assert!(bad.says("ActionParameterValueFormatError"));
    bmc.action(&insert, &json!({"Image": "http://127.0.0.1:1/a"})).await.unwrap();
    bmc.action(&insert, &json!({"Image": "http://127.0.0.1:1/a"})).await.unwrap();
    let second = bmc.action(&insert, &json!({"Image": "http://127.0.0.1:1/b"})).await.unwrap_err();
    assert_eq!((second.status(), second.says("ResourceInUse")), (Some(409), true));
    let media = bmc.get_as::<VirtualMedia>(CD).await.unwrap().value;
    assert_eq!(media.image.as_deref(), Some("http://127.0.0.1:1/a"));
    // A restart of the BMC leaves everything but its sessions as it is.
    bmc.action("/redfish/v1/Managers/1/Actions/Manager.Reset", &json!({})).await.unwrap();
    assert_eq!(bmc.get_as::<VirtualMedia>(CD).await.unwrap().value.inserted, Some(true));
}

#[tokio::test]
async fn a_medium_that_is_gone_is_told() {
    let site = TestSite::start(SITE).await;
    let bmc = site.bmc("c2");
    insert(&bmc, "http://127.0.0.1:1/unguessable").await;
    reset(&bmc, "On").await.unwrap();
    let idle = wait_for(&bmc, "NothingBoots").await;
    let told = &idle.status.conditions[0].message;
    assert!(told.contains("medium") && !told.contains("unguessable"), "{told}");
}
