//! The rules, by table: each mistake is found at its field and nowhere else.

use drystone_api::{BareMetalHost, ProvisioningState};
use serde_json::{Value, json};

use super::{super::Annotations, check};

/// A host with this merged over it.
fn host(change: &Value) -> BareMetalHost {
    let mut host = json!({
        "apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost",
        "metadata": {"name": "worker-0", "namespace": "metal3"},
        "spec": {
            "online": true,
            "bootMACAddress": "00:5c:52:31:3a:9c",
            "bmc": {"address": "redfish-virtualmedia://192.0.2.7/redfish/v1/Systems/1", "credentialsName": "bmc"},
            "image": {"url": "http://images/ubuntu.qcow2", "checksum": "http://images/ubuntu.sha256", "checksumType": "sha256"},
            "userData": {"name": "user-data", "namespace": "metal3"}
        }
    });
    merge(&mut host, change);
    serde_json::from_value(host).expect("a host")
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

fn fields(change: &Value) -> Vec<String> {
    let host = host(change);
    let (annotations, mut problems) =
        Annotations::read(&host.metadata.annotations.clone().unwrap_or_default());
    problems.extend(check(&host, &annotations));
    problems.into_iter().map(|problem| problem.field).collect()
}

fn assert_found(table: &[(Value, &str)]) {
    for (spec, field) in table {
        assert_eq!(fields(&json!({"spec": spec})), [*field], "{spec}");
    }
}

#[test]
fn what_metal3_takes_is_taken() {
    for spec in [
        json!({}),
        json!({"image": {"url": "oci://registry/image:1", "checksum": ""}}),
        json!({"image": {"url": "https://h/live.iso", "format": "live-iso", "checksum": ""}}),
        json!({"image": {"url": "medium:///", "checksum": ""}}),
        json!({"raid": {"hardwareRAIDVolumes": [], "softwareRAIDVolumes": [{"level": "1"}]}}),
        json!({"bmc": {"address": "ipmi://192.0.2.7"}}),
        json!({"inspectionMode": "disabled"}),
        json!({"networkInterfaces": [{"name": "eth0"}, {"macAddress": "00:5c:52:31:3a:9d"}]}),
    ] {
        assert_eq!(fields(&json!({"spec": spec})), Vec::<String>::new(), "{spec}");
    }
}

#[test]
fn names_are_checked() {
    for name in ["worker:0", "0b6ee0a0-8f9d-4b2c-9a3e-0123456789ab"] {
        assert_eq!(fields(&json!({"metadata": {"name": name}})), ["metadata.name"]);
    }
}

#[test]
fn mistakes_about_the_controller_are_found_at_their_fields() {
    let ipmi = |more: Value| {
        let mut spec = json!({"bmc": {"address": "192.0.2.7"}});
        merge(&mut spec, &more);
        spec
    };
    assert_found(&[
        (json!({"bmc": {"address": "redfisch://192.0.2.7"}}), "spec.bmc.address"),
        (json!({"bmc": {"credentialsName": ""}}), "spec.bmc.credentialsName"),
        (json!({"bmc": {"address": "libvirt://192.0.2.7"}, "bootMACAddress": ""}), "spec.bootMACAddress"),
        (ipmi(json!({"raid": {"hardwareRAIDVolumes": []}})), "spec.raid.hardwareRAIDVolumes"),
        (ipmi(json!({"bootMode": "UEFISecureBoot"})), "spec.bootMode"),
        (ipmi(json!({"inspectionMode": "fast"})), "spec.inspectionMode"),
    ]);
}

#[test]
fn mistakes_about_disks_are_found_at_their_fields() {
    let hardware = |volume: Value| json!({"raid": {"hardwareRAIDVolumes": [volume]}});
    let software = |volumes: Value| json!({"raid": {"softwareRAIDVolumes": volumes}});
    let mut with_hints = software(json!([{"level": "1"}]));
    merge(&mut with_hints, &json!({"rootDeviceHints": {"model": "m"}}));
    assert_found(&[
        (
            json!({"raid": {"hardwareRAIDVolumes": [{"level": "1"}], "softwareRAIDVolumes": [{"level": "1"}]}}),
            "spec.raid",
        ),
        (
            hardware(json!({"level": "1", "physicalDisks": ["a", "b"]})),
            "spec.raid.hardwareRAIDVolumes[0].controller",
        ),
        (
            hardware(
                json!({"level": "1", "controller": "c", "numberOfPhysicalDisks": 3, "physicalDisks": ["a"]}),
            ),
            "spec.raid.hardwareRAIDVolumes[0].numberOfPhysicalDisks",
        ),
        (
            software(json!([{"level": "1", "rootVolume": true}, {"level": "1", "rootVolume": true}])),
            "spec.raid.softwareRAIDVolumes",
        ),
        (software(json!([{"level": "0"}, {"level": "1"}])), "spec.raid.softwareRAIDVolumes[0].level"),
        (with_hints, "spec.rootDeviceHints"),
        (json!({"rootDeviceHints": {"deviceName": "sda"}}), "spec.rootDeviceHints.deviceName"),
    ]);
}

#[test]
fn other_mistakes_are_found_at_their_fields() {
    assert_found(&[
        (json!({"firmware": {"sriovEnabled": true}}), "spec.firmware"),
        (json!({"userData": {"namespace": "other"}}), "spec.userData.namespace"),
        (json!({"inspectionMode": "disabled", "bootMACAddress": ""}), "spec.bootMACAddress"),
        (json!({"image": {"url": "file:///etc/passwd"}}), "spec.image.url"),
        (json!({"image": {"checksum": ""}}), "spec.image.checksum"),
        (json!({"image": {"url": "oci://registry/image:1"}}), "spec.image.checksum"),
        (json!({"disablePowerOff": true, "online": false}), "spec.online"),
        (
            json!({"networkInterfaces": [{"name": "eth0", "macAddress": "00:5c:52:31:3a:9d"}]}),
            "spec.networkInterfaces[0]",
        ),
        (json!({"networkInterfaces": [{"name": "eth0"}, {"name": "eth0"}]}), "spec.networkInterfaces[1]"),
    ]);
    let contradiction = json!({"metadata": {"annotations": {"inspect.metal3.io": "disabled"}},
        "spec": {"inspectionMode": "agent"}});
    assert_eq!(fields(&contradiction), ["spec.inspectionMode"]);
}

#[test]
fn what_may_not_change_any_more_is_found() {
    let registered = |state: ProvisioningState, change: Value| {
        let mut host = json!({"status": {"provisioning": {"state": state, "ID": "", "registered": {
            "bmcAddress": "redfish-virtualmedia://192.0.2.7/redfish/v1/Systems/1", "bootMACAddress": "00:5C:52:31:3A:9C"}}}});
        merge(&mut host, &change);
        fields(&host)
    };
    let none = Vec::<String>::new();
    let moved = || json!({"spec": {"bmc": {"address": "redfish-virtualmedia://192.0.2.8"}}});
    assert_eq!(registered(ProvisioningState::Provisioned, json!({})), none);
    assert_eq!(registered(ProvisioningState::Provisioned, moved()), ["spec.bmc.address"]);
    assert_eq!(registered(ProvisioningState::Registering, moved()), none);
    let mut detached = moved();
    merge(&mut detached, &json!({"metadata": {"annotations": {"baremetalhost.metal3.io/detached": ""}}}));
    assert_eq!(registered(ProvisioningState::Provisioned, detached), none);
    let mut of_a_site = moved();
    merge(&mut of_a_site, &json!({"metadata": {"labels": {"drystone.dev/site": "lab"}}}));
    assert_eq!(registered(ProvisioningState::Provisioned, of_a_site), none);
    let taken_away = json!({"spec": {"bmc": null}});
    assert_eq!(registered(ProvisioningState::Available, taken_away), ["spec.bmc.address"]);
    let another_mac = json!({"spec": {"bootMACAddress": "00:5c:52:31:3a:00"}});
    assert_eq!(registered(ProvisioningState::Available, another_mac), ["spec.bootMACAddress"]);
    let external = json!({"spec": {"externallyProvisioned": true}});
    assert_eq!(registered(ProvisioningState::Provisioned, external.clone()), ["spec.externallyProvisioned"]);
    assert_eq!(registered(ProvisioningState::Available, external), none);
}
