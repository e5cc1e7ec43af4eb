//! How a host is described to Ironic. Source: what the baremetal-operator writes.

use std::collections::BTreeMap;

use drystone_api::{BootMode, HostImage, ImageFormat, Raid, RootDeviceHints};
use kube::ResourceExt as _;
use serde_json::{Map, Value, json};

use crate::{
    model::{BmcAddress, BootVia, Protocol},
    provisioner::{Job, Preparation},
};

/// Name of a host's node: namespaces have no `~` in theirs.
pub(super) fn node_name(job: &Job<'_>) -> String {
    format!("{}~{}", job.host.namespace().unwrap_or_default(), job.host.name_any())
}

/// Where the management controller is, and how to log in.
pub(super) fn driver_info(job: &Job<'_>) -> Map<String, Value> {
    let (address, credentials) = (job.address, job.credentials);
    let verify = job.host.spec.bmc.as_ref().is_none_or(|bmc| !bmc.disable_certificate_verification);
    let mut info = Map::new();
    let mut put = |name: &str, value: Value| info.insert(name.to_owned(), value);
    match address.scheme.protocol {
        Protocol::Redfish => {
            put("redfish_address", json!(address.base.as_str().trim_end_matches('/')));
            if let Some(system) = &address.system {
                put("redfish_system_id", json!(system));
            }
            put("redfish_username", json!(credentials.username));
            put("redfish_password", json!(credentials.password));
            put("redfish_verify_ca", json!(verify));
        }
        Protocol::Ipmi => {
            put("ipmi_address", json!(address.base.host_str().unwrap_or_default().trim_matches(['[', ']'])));
            put("ipmi_port", json!(address.base.port().unwrap_or(623)));
            put("ipmi_username", json!(credentials.username));
            put("ipmi_password", json!(credentials.password));
            if let Some(level) = &address.privilege_level {
                put("ipmi_priv_level", json!(level));
            }
        }
    }
    info
}

/// A node to be made.
pub(super) fn node(job: &Job<'_>, interfaces: &BTreeMap<String, String>) -> Value {
    let spec = &job.host.spec;
    let (driver, boot) = driver_and_boot(job.address);
    let mut node = json!({
        "name": node_name(job),
        "driver": driver,
        "driver_info": driver_info(job),
        "boot_interface": boot,
        "properties": properties(job),
        "automated_clean": spec.automated_cleaning_mode.as_deref() != Some("disabled"),
    });
    if spec.inspection_mode.as_deref() == Some("fast") {
        node["inspect_interface"] = json!("redfish");
    }
    for (kind, interface) in interfaces {
        node[format!("{kind}_interface")] = json!(interface);
    }
    node
}

fn driver_and_boot(address: &BmcAddress) -> (&'static str, &'static str) {
    match (address.scheme.protocol, address.scheme.boot) {
        (Protocol::Ipmi, _) => ("ipmi", "ipxe"),
        // Controllers of HPE and Dell speak Redfish well enough: their drivers of old are on their way out of Ironic.
        (Protocol::Redfish, BootVia::VirtualMedia) => ("redfish", "redfish-virtual-media"),
        (Protocol::Redfish, BootVia::UefiHttp) => ("redfish", "redfish-https"),
        (Protocol::Redfish, BootVia::Network) => ("redfish", "ipxe"),
    }
}

/// `properties` of a node.
pub(super) fn properties(job: &Job<'_>) -> Value {
    let spec = &job.host.spec;
    let capabilities = match spec.boot_mode.unwrap_or(BootMode::UEFI) {
        BootMode::UEFI => "boot_mode:uefi",
        BootMode::UEFISecureBoot => "boot_mode:uefi,secure_boot:true",
        BootMode::Legacy => "boot_mode:bios",
    };
    json!({
        "capabilities": capabilities,
        "cpu_arch": spec.architecture.clone().unwrap_or_else(|| "x86_64".to_owned()),
    })
}

/// The deploy interface for what is wanted, and `instance_info`.
pub(super) fn instance(job: &Job<'_>) -> (&'static str, Value) {
    let spec = &job.host.spec;
    let mut info = Map::new();
    if let Some(hints) = &spec.root_device_hints {
        info.insert("root_device".to_owned(), Value::Object(root_device(hints)));
    }
    let Some(image) = &spec.image else { return ("custom-agent", Value::Object(info)) };
    if image.format == Some(ImageFormat::LiveIso) {
        return ("ramdisk", json!({"boot_iso": image.url}));
    }
    add_image(&mut info, image);
    let interface = if spec.custom_deploy.is_some() { "custom-agent" } else { "direct" };
    (interface, Value::Object(info))
}

fn add_image(info: &mut Map<String, Value>, image: &HostImage) {
    let mut put = |name: &str, value: &str| info.insert(name.to_owned(), json!(value));
    put("image_source", &image.url);
    let format = match image.format {
        Some(ImageFormat::Raw) => Some("raw"),
        Some(ImageFormat::Qcow2) => Some("qcow2"),
        Some(ImageFormat::Vdi) => Some("vdi"),
        Some(ImageFormat::Vmdk) => Some("vmdk"),
        Some(ImageFormat::LiveIso) | None => None,
    };
    if let Some(format) = format {
        put("image_disk_format", format);
    }
    match image.checksum_type.as_deref() {
        Some(kind @ ("sha256" | "sha512")) => {
            put("image_os_hash_algo", kind);
            put("image_os_hash_value", &image.checksum);
        }
        _ if image.checksum.is_empty() => {}
        _ => {
            put("image_checksum", &image.checksum);
        }
    }
}

/// Hints in Ironic's words: parts of names are told from whole ones by an operator.
fn root_device(hints: &RootDeviceHints) -> Map<String, Value> {
    let mut device = Map::new();
    for (name, value) in [
        ("name", &hints.device_name),
        ("hctl", &hints.hctl),
        ("serial", &hints.serial_number),
        ("wwn", &hints.wwn),
        ("wwn_with_extension", &hints.wwn_with_extension),
        ("wwn_vendor_extension", &hints.wwn_vendor_extension),
    ] {
        if let Some(value) = value {
            let by_path = name == "name" && value.starts_with("/dev/disk/by-path/");
            device.insert(if by_path { "by_path" } else { name }.to_owned(), json!(format!("s== {value}")));
        }
    }
    for (name, value) in [("model", &hints.model), ("vendor", &hints.vendor)] {
        if let Some(value) = value {
            device.insert(name.to_owned(), json!(format!("<in> {value}")));
        }
    }
    if let Some(size) = hints.min_size_gigabytes {
        device.insert("size".to_owned(), json!(format!(">= {size}")));
    }
    if let Some(rotational) = hints.rotational {
        device.insert("rotational".to_owned(), json!(rotational));
    }
    device
}

/// Steps that set a node up: RAID, then firmware.
pub(super) fn clean_steps(preparation: &Preparation) -> Vec<Value> {
    let mut steps = Vec::new();
    if let Some(raid) = &preparation.raid {
        let software = raid.hardware_volumes.is_none();
        // Ironic's steps of the agent make software RAID, those of the controller hardware RAID: both have these names.
        steps.push(json!({"interface": "raid", "step": "delete_configuration"}));
        if !logical_disks(raid).is_empty() {
            steps.push(json!({"interface": "raid", "step": "create_configuration"}));
        }
        if software && !logical_disks(raid).is_empty() {
            steps.insert(1, json!({"interface": "deploy", "step": "erase_devices_metadata"}));
        }
    }
    if !preparation.firmware_settings.is_empty() {
        let settings: Vec<Value> = preparation
            .firmware_settings
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        steps.push(
            json!({"interface": "bios", "step": "apply_configuration", "args": {"settings": settings}}),
        );
    }
    steps
}

/// A RAID layout in Ironic's words (`target_raid_config`).
pub(super) fn logical_disks(raid: &Raid) -> Vec<Value> {
    let size =
        |gibibytes: Option<u64>| gibibytes.filter(|size| *size > 0).map_or(json!("MAX"), |size| json!(size));
    let mut disks = Vec::new();
    for (index, volume) in raid.hardware_volumes.iter().flatten().enumerate() {
        let mut disk = json!({"raid_level": volume.level, "size_gb": size(volume.size_gibibytes)});
        let mut put = |name: &str, value: Value| disk[name] = value;
        if index == 0 {
            put("is_root_volume", json!(true));
        }
        if let Some(name) = &volume.name {
            put("volume_name", json!(name));
        }
        if let Some(rotational) = volume.rotational {
            put("disk_type", json!(if rotational { "hdd" } else { "ssd" }));
        }
        if let Some(number) = volume.number_of_physical_disks {
            put("number_of_physical_disks", json!(number));
        }
        if let Some(controller) = &volume.controller {
            put("controller", json!(controller));
        }
        if !volume.physical_disks.is_empty() {
            put("physical_disks", json!(volume.physical_disks));
        }
        disks.push(disk);
    }
    for volume in raid.software_volumes.iter().flatten() {
        let mut disk = json!({"raid_level": volume.level, "size_gb": size(volume.size_gibibytes), "controller": "software"});
        if let Some(hints) = &volume.physical_disks {
            disk["physical_disks"] = hints.iter().map(|hints| Value::Object(root_device(hints))).collect();
        }
        disks.push(disk);
    }
    disks
}

#[cfg(test)]
mod tests {
    use drystone_api::{BareMetalHost, HardwareRaidVolume, SoftwareRaidVolume};
    use drystone_engine::events::Silent;

    use super::*;
    use crate::driver::Credentials;

    fn with_job<T>(address: &str, spec: Value, work: impl FnOnce(&Job<'_>) -> T) -> T {
        let mut spec = spec;
        spec["online"] = json!(true);
        let host: BareMetalHost = serde_json::from_value(json!({
            "apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost",
            "metadata": {"name": "n0", "namespace": "metal3", "uid": "u"}, "spec": spec}))
        .expect("a host");
        let address = BmcAddress::parse(address).expect("an address");
        let credentials = Credentials { username: "admin".into(), password: "secret".into() };
        work(&Job { host: &host, address: &address, credentials: &credentials, seed: None, events: &Silent })
    }

    #[test]
    fn controllers_are_described() {
        let address = "redfish-virtualmedia+http://10.0.0.7:8000/redfish/v1/Systems/1";
        with_job(
            address,
            json!({"automatedCleaningMode": "disabled", "bootMode": "UEFISecureBoot"}),
            |job| {
                let node = node(job, &BTreeMap::from([("bios".to_owned(), "no-bios".to_owned())]));
                assert_eq!((&node["name"], &node["driver"]), (&json!("metal3~n0"), &json!("redfish")));
                assert_eq!(node["boot_interface"], "redfish-virtual-media");
                assert_eq!(node["bios_interface"], "no-bios");
                assert_eq!(node["driver_info"]["redfish_address"], "http://10.0.0.7:8000");
                assert_eq!(node["driver_info"]["redfish_system_id"], "/redfish/v1/Systems/1");
                assert_eq!(node["properties"]["capabilities"], "boot_mode:uefi,secure_boot:true");
                assert_eq!(node["automated_clean"], false);
            },
        );
        with_job("ipmi://[fd00::7]:9623?privilegelevel=OPERATOR", json!({}), |job| {
            let info = driver_info(job);
            assert_eq!((&info["ipmi_address"], &info["ipmi_port"]), (&json!("fd00::7"), &json!(9623)));
            assert_eq!(info["ipmi_priv_level"], "OPERATOR");
        });
    }

    #[test]
    fn images_are_described() {
        let live = json!({"image": {"url": "http://h/live.iso", "format": "live-iso"}});
        let (interface, info) = with_job("ipmi://h", live, instance);
        assert_eq!((interface, info), ("ramdisk", json!({"boot_iso": "http://h/live.iso"})));
        let disk = json!({"image": {"url": "http://h/i", "checksum": "abc", "checksumType": "sha256", "format": "qcow2"},
            "rootDeviceHints": {"deviceName": "/dev/sda", "model": "m", "minSizeGigabytes": 100, "rotational": false}});
        let (interface, info) = with_job("ipmi://h", disk, instance);
        let root = json!({"name": "s== /dev/sda", "model": "<in> m", "size": ">= 100", "rotational": false});
        let expected = json!({"image_source": "http://h/i", "image_disk_format": "qcow2", "image_os_hash_algo": "sha256",
            "image_os_hash_value": "abc", "root_device": root});
        assert_eq!((interface, info), ("direct", expected));
    }

    #[test]
    fn preparations_become_steps() {
        let volume = HardwareRaidVolume { level: "1+0".into(), ..Default::default() };
        let raid = Raid { hardware_volumes: Some(vec![volume]), ..Default::default() };
        let mut settings = Map::new();
        settings.insert("ProcVirtualization".to_owned(), json!("Enabled"));
        let preparation = Preparation { raid: Some(raid.clone()), firmware_settings: settings };
        let names: Vec<Value> =
            clean_steps(&preparation).into_iter().map(|step| step["step"].clone()).collect();
        assert_eq!(names, ["delete_configuration", "create_configuration", "apply_configuration"]);
        let disk = json!({"raid_level": "1+0", "size_gb": "MAX", "is_root_volume": true});
        assert_eq!(logical_disks(&raid), [disk]);
        let none = Raid { hardware_volumes: Some(vec![]), ..Default::default() };
        assert_eq!(clean_steps(&Preparation { raid: Some(none), ..Default::default() }).len(), 1);
        let software = SoftwareRaidVolume { level: "1".into(), ..Default::default() };
        let software = Raid { software_volumes: Some(vec![software]), ..Default::default() };
        assert_eq!(logical_disks(&software)[0]["controller"], "software");
    }
}
