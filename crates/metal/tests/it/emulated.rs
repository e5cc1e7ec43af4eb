//! The in-house way on Drystone's own emulator, with its faults, and the rules of admission through a real API.

use std::{net::SocketAddr, time::Duration};

use drystone_api::{OperationalStatus, ProvisioningState};
use drystone_emulator::{Emulator, EmulatorConfig};
use drystone_metal::{driver::redfish::Pauses, provisioner::redfish::Timing};
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::world::{NAMESPACE, PACING, World, in_house, is_true};

pub(crate) struct Site {
    emulator: Emulator,
    _directory: TempDir,
}

impl Site {
    pub(crate) async fn start(hosts: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("site.yaml");
        std::fs::write(&file, format!("name: small\ntiming: {{scale: 0}}\n{hosts}")).unwrap();
        let controller = SocketAddr::from(([127, 0, 0, 1], 6443));
        let config = EmulatorConfig::new(file, directory.path().join("state"), controller);
        Self { emulator: Emulator::start(config).await.unwrap(), _directory: directory }
    }

    pub(crate) async fn stop(self) {
        self.emulator.stop().await.unwrap();
    }

    /// Declares a host's Secret; returns its `bmc`.
    pub(crate) async fn bmc(&self, world: &World, host: &str) -> Value {
        let service = self.emulator.endpoints().bmcs.iter().find(|bmc| bmc.name == host).unwrap();
        let name = format!("{host}-bmc");
        world.add_secret(&name, json!({"username": service.user, "password": service.password})).await;
        let url = service.url.trim_start_matches("http://").trim_end_matches('/');
        json!({"address": format!("redfish-virtualmedia+http://{url}"), "credentialsName": name})
    }
}

const HOSTS: &str = "hosts:\n- {name: 'c{n}', count: 2, processor: {cores: 8}, memoryMiB: 16384, drives: [{capacityGiB: 960}]}\n";

const MEDIUM: &str = "medium:///";

#[tokio::test(flavor = "multi_thread")]
async fn user_data_alone_boots_and_is_taken_out_again() {
    let (site, world) = (Site::start(HOSTS).await, World::start().await);
    let bmc = site.bmc(&world, "c1").await;
    world.add_secret("boot", json!({"userData": "#cloud-config\n{}\n", "metaData": "rack: r1\n"})).await;
    let reference = json!({"name": "boot"});
    let spec = json!({"online": true, "bmc": bmc, "image": {"url": MEDIUM}, "userData": reference, "metaData": reference});
    world.add_host("c1", spec).await;
    let status = world.until_state("c1", ProvisioningState::Provisioned).await;
    assert!(status.powered_on && !status.provisioning.instance_id.is_empty());
    assert!(is_true(&world.until("c1", "healthy", |_, status| is_true(status, "Healthy")).await, "Ready"));
    world.delete("c1").await;
    site.emulator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_schema_can_say_is_refused_by_the_api() {
    let world = World::start().await;
    for (field, spec) in [
        ("spec.online", json!({})),
        ("spec.bootMACAddress", json!({"online": true, "bootMACAddress": "nonsense"})),
        ("spec.image.url", json!({"online": true, "image": {"url": "file:///x"}})),
        ("spec.image.format", json!({"online": true, "image": {"url": "http://h/x", "format": "zip"}})),
        ("spec.inspectionMode", json!({"online": true, "inspectionMode": "thorough"})),
        (
            "spec.rootDeviceHints.deviceName",
            json!({"online": true, "rootDeviceHints": {"deviceName": "sda"}}),
        ),
        (
            "spec.raid.hardwareRAIDVolumes[0].level",
            json!({"online": true, "raid": {"hardwareRAIDVolumes": [{"level": "7"}]}}),
        ),
        (
            "spec.raid.softwareRAIDVolumes",
            json!({"online": true, "raid": {"softwareRAIDVolumes": [{"level": "1"}, {"level": "1"}, {"level": "1"}]}}),
        ),
    ] {
        let host = json!({"apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost",
            "metadata": {"name": "wrong", "namespace": NAMESPACE}, "spec": spec});
        let resource = kube::core::ApiResource::erase::<drystone_api::BareMetalHost>(&());
        let api: kube::Api<kube::core::DynamicObject> =
            kube::Api::namespaced_with(world.client.clone(), NAMESPACE, &resource);
        let host = serde_json::from_value(host).unwrap();
        let error = api.create(&PostParams::default(), &host).await.expect_err(field).to_string();
        assert!(error.contains(field), "{field}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_schema_cannot_say_changes_nothing_on_the_hardware() {
    let (site, world) = (Site::start(HOSTS).await, World::start().await);
    let bmc = site.bmc(&world, "c1").await;
    world.add_host("c1", json!({"online": true, "bmc": bmc, "image": {"url": MEDIUM}})).await;
    world.until_state("c1", ProvisioningState::Provisioned).await;
    // A rule is broken, and at the same time the host is to be switched off: it stays on.
    world
        .patch(
            "c1",
            json!({"spec": {"online": false, "disablePowerOff": true, "firmware": {"sriovEnabled": true}}}),
        )
        .await;
    let message = world.until_error("c1", "power management error").await;
    assert!(message.contains("spec.firmware: has been removed"), "{message}");
    assert!(message.contains("spec.online: cannot be false while disablePowerOff is true"), "{message}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let status = world.status("c1").await;
    assert!(status.powered_on && status.error_count == 1, "{status:#?}");
    assert_eq!(world.told("c1").iter().filter(|reason| *reason == "PowerManagementError").count(), 1);
    world.patch("c1", json!({"spec": {"online": false, "disablePowerOff": false, "firmware": null}})).await;
    world.until("c1", "off", |_, status| !status.powered_on && status.error_type.is_empty()).await;
    site.emulator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_are_detached_or_paused_are_left_alone() {
    let (site, world) = (Site::start(HOSTS).await, World::start().await);
    let bmc = site.bmc(&world, "c1").await;
    world.add_host("c1", json!({"online": false, "bmc": bmc})).await;
    world.until_state("c1", ProvisioningState::Available).await;
    for (name, value) in [
        ("baremetalhost.metal3.io/paused", "metal3.io/capm3"),
        ("baremetalhost.metal3.io/detached", r#"{"deleteAction":"delay"}"#),
    ] {
        world.patch("c1", json!({"metadata": {"annotations": {name: value}}})).await;
        if name.ends_with("detached") {
            let detached = |status: OperationalStatus| status == OperationalStatus::Detached;
            world.until("c1", "detached", |_, status| detached(status.operational_status)).await;
        }
        world.patch("c1", json!({"spec": {"online": true}})).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!world.status("c1").await.powered_on, "{name}");
        world.patch("c1", json!({"metadata": {"annotations": {name: null}}})).await;
        world.until("c1", "on", |_, status| status.powered_on).await;
        world.patch("c1", json!({"spec": {"online": false}})).await;
        world.until("c1", "off", |_, status| !status.powered_on).await;
    }
    site.emulator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hardware_and_status_are_taken_over_from_annotations() {
    let (site, world) = (Site::start(HOSTS).await, World::start().await);
    let bmc = site.bmc(&world, "c1").await;
    let details = json!({"cpu": {"arch": "aarch64", "count": 96}, "ramMebibytes": 1024});
    let host = json!({"apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost",
        "metadata": {"name": "c1", "annotations": {"inspect.metal3.io/hardwaredetails": details.to_string()}},
        "spec": {"online": false, "bmc": bmc, "inspectionMode": "disabled", "bootMACAddress": "52:54:00:00:00:01"}});
    world.hosts().create(&PostParams::default(), &serde_json::from_value(host).unwrap()).await.unwrap();
    let status = world.until_state("c1", ProvisioningState::Available).await;
    assert_eq!(status.hardware.as_ref().expect("taken over").cpu.count, 96);
    assert!(!world.told("c1").contains(&"InspectionStarted".to_owned()));
    let data = world.hardware().get("c1").await.unwrap();
    assert_eq!(data.spec.hardware.expect("written").cpu.arch, "aarch64");

    // Moved to another management cluster: what runs is not touched.
    let bmc = site.bmc(&world, "c2").await;
    let running = json!({"operationalStatus": "OK", "errorCount": 0, "errorMessage": "", "poweredOn": true,
        "hardware": {"cpu": {"count": 8}}, "provisioning": {"state": "provisioned", "ID": "x", "image": {"url": "http://h/i.qcow2", "checksum": "c"}}});
    let host = json!({"apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost",
        "metadata": {"name": "c2", "annotations": {"baremetalhost.metal3.io/status": running.to_string()}},
        "spec": {"online": true, "bmc": bmc, "image": {"url": "http://h/i.qcow2", "checksum": "c"}}});
    world.hosts().create(&PostParams::default(), &serde_json::from_value(host).unwrap()).await.unwrap();
    let status = world.until_state("c2", ProvisioningState::Provisioned).await;
    assert_eq!(status.hardware.expect("taken over").cpu.count, 8);
    world
        .until("c2", "registered", |host, status| {
            let asked = host.metadata.annotations.iter().flatten().any(|(name, _)| name.ends_with("/status"));
            !asked && !status.good_credentials.credentials_version.is_empty()
        })
        .await;
    let told = world.told("c2");
    assert!(!told.iter().any(|reason| reason.starts_with("Provisioning")), "{told:?}");
    site.emulator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_controller_is_waited_for() {
    let faults = format!("{HOSTS}faults: {{bmc: [{{host: c1, kind: timeout, until: 3s, delay: 1s}}]}}\n");
    let (site, world) = (Site::start(&faults).await, World::start().await);
    let bmc = site.bmc(&world, "c1").await;
    world.add_host("c1", json!({"online": true, "bmc": bmc, "image": {"url": MEDIUM}})).await;
    world.until_state("c1", ProvisioningState::Provisioned).await;
    site.emulator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn power_that_does_not_change_ends_the_attempts() {
    let faults = format!("{HOSTS}faults: {{bmc: [{{host: c1, kind: powerStuck}}]}}\n");
    let site = Site::start(&faults).await;
    let pauses = Pauses { power_limit: Duration::from_millis(300), ..Pauses::default() };
    let world = World::start_with(PACING, |media| vec![in_house(media, pauses, Timing::default())]).await;
    let bmc = site.bmc(&world, "c1").await;
    world.add_host("c1", json!({"online": true, "bmc": bmc, "image": {"url": MEDIUM}})).await;
    let status = world.until("c1", "given up", |_, status| status.provisioning_fail_count >= 5).await;
    assert!(status.is_hopeless() && status.error_message.contains("power stayed off"), "{status:#?}");
    assert_eq!(status.last_attempted_image.expect("noted").url, MEDIUM);
    let status =
        world.until("c1", "at rest", |_, status| status.provisioning.state == ProvisioningState::Available);
    assert_eq!(status.await.error_type, "provisioning error");
    // It is not tried for ever; without the image it is as it was.
    let patch = json!({"spec": {"image": null, "online": false}});
    world.hosts().patch("c1", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    world.until_state("c1", ProvisioningState::Available).await;
    site.emulator.stop().await.unwrap();
}
