//! What may not be said of a host. Metal3 has an admission webhook for this; here the schema of the resource says what it
//! can, and the host's controller the rest, in the host's status: it then changes nothing on the hardware.
//! Source: the baremetal-operator's admission rules.

use std::{collections::BTreeSet, fmt};

use drystone_api::{
    BareMetalHost, BareMetalHostSpec, BootMode, HostImage, ImageFormat, ProvisioningState as State, Raid,
    RegisteredAs, SITE_LABEL,
};
use kube::ResourceExt as _;

use super::{Annotations, BmcAddress, Protocol};
use crate::medium::MEDIUM_IMAGE;

/// Something that may not be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field.
    pub field: String,
    /// What is wrong with it, and what to do.
    pub reason: String,
}

impl Problem {
    /// A problem with a field.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

/// Checks everything. `annotations` are those that could be read.
pub fn check(host: &BareMetalHost, annotations: &Annotations) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut found = |field: &str, reason: &str| problems.push(Problem::new(field, reason));
    check_name(&host.name_any(), &mut found);
    check_controller(host, &mut found);
    check_secrets(host, &mut found);
    check_inspection(&host.spec, annotations, &mut found);
    if let Some(raid) = &host.spec.raid {
        check_raid(&host.spec, raid, &mut found);
    }
    if let Some(image) = &host.spec.image {
        check_image(image, &mut found);
    }
    check_rest(&host.spec, &mut found);
    check_change(host, annotations, &mut found);
    problems
}

type Found<'a> = dyn FnMut(&str, &str) + 'a;

fn check_name(name: &str, found: &mut Found<'_>) {
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        found("metadata.name", "may only have letters, digits, dots, underscores and hyphens");
    }
    let parts: Vec<&str> = name.split('-').collect();
    let is_hexadecimal = |part: &&str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    if parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && parts.iter().all(is_hexadecimal) {
        found("metadata.name", "may not be a UUID");
    }
}

fn check_controller(host: &BareMetalHost, found: &mut Found<'_>) {
    let spec = &host.spec;
    let Some(bmc) = &spec.bmc else { return };
    if bmc.credentials_name.is_empty() {
        found("spec.bmc.credentialsName", "is missing; name a Secret with keys `username` and `password`");
    }
    let address = match BmcAddress::parse(&bmc.address) {
        Ok(address) => address,
        Err(error) => return found("spec.bmc.address", &error.to_string()),
    };
    let mac_is_missing = spec.boot_mac_address.is_empty();
    if address.scheme.needs_mac && mac_is_missing {
        found("spec.bootMACAddress", &format!("is needed with scheme `{}`", address.scheme.name));
    }
    if address.scheme.protocol == Protocol::Ipmi {
        if spec.boot_mode == Some(BootMode::UEFISecureBoot) {
            found("spec.bootMode", "`UEFISecureBoot` needs Redfish");
        }
        if spec.raid.as_ref().is_some_and(|raid| raid.hardware_volumes.is_some()) {
            found("spec.raid.hardwareRAIDVolumes", "needs Redfish");
        }
        if spec.inspection_mode.as_deref() == Some("fast") {
            found("spec.inspectionMode", "`fast` needs Redfish");
        }
    }
}

fn check_secrets(host: &BareMetalHost, found: &mut Found<'_>) {
    let (spec, namespace) = (&host.spec, host.namespace().unwrap_or_default());
    for (field, reference) in
        [("userData", &spec.user_data), ("networkData", &spec.network_data), ("metaData", &spec.meta_data)]
    {
        let other = reference.as_ref().and_then(|reference| reference.namespace.as_ref());
        if other.is_some_and(|other| *other != namespace) {
            found(
                &format!("spec.{field}.namespace"),
                &format!("must be the host's own namespace, {namespace}"),
            );
        }
    }
}

fn check_inspection(spec: &BareMetalHostSpec, annotations: &Annotations, found: &mut Found<'_>) {
    let disabled = spec.inspection_mode.as_deref() == Some("disabled");
    if annotations.inspection_disabled && spec.inspection_mode.is_some() && !disabled {
        found("spec.inspectionMode", "contradicts the annotation inspect.metal3.io, which is `disabled`");
    }
    if annotations.inspection_requested && disabled {
        found(
            "spec.inspectionMode",
            "is `disabled`, but the annotation inspect.metal3.io asks for inspection",
        );
    }
    if annotations.hardware.is_some() && !disabled && !annotations.inspection_disabled {
        found(
            "metadata.annotations[inspect.metal3.io/hardwaredetails]",
            "needs inspection to be disabled by spec.inspectionMode",
        );
    }
    if (disabled || annotations.inspection_disabled) && spec.bmc.is_some() && spec.boot_mac_address.is_empty()
    {
        found("spec.bootMACAddress", "is needed when inspection is disabled");
    }
}

fn check_raid(spec: &BareMetalHostSpec, raid: &Raid, found: &mut Found<'_>) {
    let some = |volumes: Option<usize>| volumes.is_some_and(|number| number > 0);
    let hardware = some(raid.hardware_volumes.as_ref().map(Vec::len));
    let software = some(raid.software_volumes.as_ref().map(Vec::len));
    if hardware && software {
        found("spec.raid", "has both hardwareRAIDVolumes and softwareRAIDVolumes; one of them only");
    }
    for (index, volume) in raid.hardware_volumes.iter().flatten().enumerate() {
        let field = |name: &str| format!("spec.raid.hardwareRAIDVolumes[{index}].{name}");
        if !volume.physical_disks.is_empty() && volume.controller.as_ref().is_none_or(String::is_empty) {
            found(&field("controller"), "is needed with physicalDisks");
        }
        let number = volume.number_of_physical_disks.and_then(|number| usize::try_from(number).ok());
        if !volume.physical_disks.is_empty()
            && number.is_some_and(|number| number != volume.physical_disks.len())
        {
            found(&field("numberOfPhysicalDisks"), "is not the number of physicalDisks");
        }
    }
    let volumes = raid.software_volumes.as_deref().unwrap_or_default();
    if volumes.len() > 2 {
        found("spec.raid.softwareRAIDVolumes", "has more than two volumes");
    }
    let roots: Vec<usize> = (0..volumes.len()).filter(|index| volumes[*index].root_volume).collect();
    if roots.len() > 1 {
        found("spec.raid.softwareRAIDVolumes", "has more than one rootVolume");
    }
    // Without a choice the first one is the root volume.
    if let Some(root) = roots.first().copied().or((!volumes.is_empty()).then_some(0))
        && volumes[root].level != "1"
    {
        found(&format!("spec.raid.softwareRAIDVolumes[{root}].level"), "must be 1 for the root volume");
    }
    if software && spec.root_device_hints.is_some() {
        found("spec.rootDeviceHints", "cannot be combined with softwareRAIDVolumes");
    }
}

fn check_image(image: &HostImage, found: &mut Found<'_>) {
    if image.url == MEDIUM_IMAGE {
        return;
    }
    let scheme = image.url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        Some("oci") => {
            if !image.checksum.is_empty() {
                found("spec.image.checksum", "must be empty for oci:// images, whose digest is their name");
            }
        }
        Some("http" | "https" | "ftp" | "gopher") => {
            if url::Url::parse(&image.url).map_or(true, |url| !url.has_host()) {
                found("spec.image.url", "is not a URL with a host");
            }
            if image.checksum.is_empty() && image.format != Some(ImageFormat::LiveIso) {
                found("spec.image.checksum", "is needed, unless the format is live-iso");
            }
        }
        _ => found("spec.image.url", "must begin with http://, https://, ftp://, gopher:// or oci://"),
    }
}

fn check_rest(spec: &BareMetalHostSpec, found: &mut Found<'_>) {
    if spec.firmware.is_some() {
        found("spec.firmware", "has been removed; write a HostFirmwareSettings of the host's name");
    }
    if spec.disable_power_off && !spec.online {
        found("spec.online", "cannot be false while disablePowerOff is true");
    }
    if let Some(name) = spec.root_device_hints.as_ref().and_then(|hints| hints.device_name.as_deref()) {
        let rest = name.strip_prefix("/dev/disk/by-path/").or_else(|| name.strip_prefix("/dev/"));
        if rest.is_none_or(|rest| rest.is_empty() || rest.contains('/')) {
            found("spec.rootDeviceHints.deviceName", "must be /dev/NAME or /dev/disk/by-path/NAME");
        }
    }
    let mut seen = BTreeSet::new();
    for (index, interface) in spec.network_interfaces.iter().enumerate() {
        let field = format!("spec.networkInterfaces[{index}]");
        let selector = match (&interface.name, &interface.mac_address) {
            (Some(name), None) => name.clone(),
            (None, Some(mac)) => mac.to_ascii_lowercase(),
            _ => {
                found(&field, "must have either name or macAddress");
                continue;
            }
        };
        if !seen.insert(selector) {
            found(&field, "selects the same interface as another one");
        }
    }
}

/// What may not change any more. A Site's hosts follow its list, which is where their addresses are kept.
fn check_change(host: &BareMetalHost, annotations: &Annotations, found: &mut Found<'_>) {
    let (spec, status) = (&host.spec, host.status.clone().unwrap_or_default());
    let state = status.provisioning.state;
    let fresh = matches!(state, State::None | State::Unmanaged | State::Registering);
    if let Some(RegisteredAs { bmc_address, boot_mac_address }) = &status.provisioning.registered {
        let address = spec.bmc.as_ref().map(|bmc| &bmc.address);
        let may_move = fresh || annotations.detached.is_some() || host.labels().contains_key(SITE_LABEL);
        if address != Some(bmc_address) && !may_move {
            found(
                "spec.bmc.address",
                &format!("cannot be changed from {bmc_address}, unless the host is registering or detached"),
            );
        }
        if !boot_mac_address.is_empty() && !spec.boot_mac_address.eq_ignore_ascii_case(boot_mac_address) {
            found("spec.bootMACAddress", &format!("cannot be changed from {boot_mac_address}"));
        }
    }
    let may_be_external = fresh || matches!(state, State::Available | State::ExternallyProvisioned);
    if spec.externally_provisioned && !may_be_external {
        found("spec.externallyProvisioned", "can be set only while the host is available");
    }
}

#[cfg(test)]
mod tests;
