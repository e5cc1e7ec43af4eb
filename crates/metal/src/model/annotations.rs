//! What the annotations of a BareMetalHost ask for.
//! Source: the baremetal-operator's documentation of its annotations.

use std::collections::BTreeMap;

use drystone_api::{BareMetalHostStatus, HardwareDetails, OperationalStatus};
use serde::Deserialize;

use super::{Problem, unknown_fields::read_strictly};

/// The host is left alone.
pub const PAUSED: &str = "baremetalhost.metal3.io/paused";
/// The provisioner forgets the host.
pub const DETACHED: &str = "baremetalhost.metal3.io/detached";
/// A status to take over.
pub const STATUS: &str = "baremetalhost.metal3.io/status";
/// Off and on again; with a slash and a key: off until the annotation is gone.
pub const REBOOT: &str = "reboot.metal3.io";
/// Inspect again, or never.
pub const INSPECT: &str = "inspect.metal3.io";
/// Hardware to take over in place of inspection.
pub const HARDWARE_DETAILS: &str = "inspect.metal3.io/hardwaredetails";

/// How a host is detached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Detached {
    /// Its deletion waits until it is attached again.
    pub delay_deletion: bool,
    /// In whatever state it is.
    pub force: bool,
}

/// One request to reboot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reboot {
    /// It has no key: it is taken off by us as soon as the host is off. Others are taken off by who put them there.
    pub once: bool,
    /// Without asking the operating system.
    pub hard: bool,
    /// Also when the host is not provisioned.
    pub force: bool,
}

/// What the annotations ask for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Annotations {
    /// Leave the host alone.
    pub paused: bool,
    /// Make the provisioner forget it.
    pub detached: Option<Detached>,
    /// Never inspect it.
    pub inspection_disabled: bool,
    /// Inspect it again.
    pub inspection_requested: bool,
    /// Take this over as its hardware.
    pub hardware: Option<HardwareDetails>,
    /// Take this over as its status, if it has none.
    pub status: Option<BareMetalHostStatus>,
    /// Reboot it.
    pub reboots: Vec<Reboot>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DetachedArguments {
    #[serde(default)]
    delete_action: DeleteAction,
    #[serde(default)]
    force: bool,
}

#[derive(Deserialize, Default, PartialEq)]
#[serde(rename_all = "lowercase")]
enum DeleteAction {
    #[default]
    Delete,
    Delay,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RebootArguments {
    #[serde(default)]
    mode: RebootMode,
    #[serde(default)]
    force: bool,
}

#[derive(Deserialize, Default, PartialEq)]
#[serde(rename_all = "lowercase")]
enum RebootMode {
    #[default]
    Soft,
    Hard,
}

impl Annotations {
    /// Reads annotations. What cannot be read is a problem and asks for nothing.
    pub fn read(annotations: &BTreeMap<String, String>) -> (Self, Vec<Problem>) {
        let (mut read, mut problems) = (Self::default(), Vec::new());
        for (name, value) in annotations {
            let outcome = match name.as_str() {
                PAUSED => {
                    read.paused = true;
                    Ok(())
                }
                DETACHED => parse_detached(value).map(|detached| read.detached = Some(detached)),
                INSPECT => {
                    read.inspection_disabled = value == "disabled";
                    read.inspection_requested = value.is_empty();
                    let known = value.is_empty() || value == "disabled";
                    if known { Ok(()) } else { Err("use an empty value, or `disabled`".to_owned()) }
                }
                HARDWARE_DETAILS => read_strictly(value).map(|hardware| read.hardware = Some(hardware)),
                STATUS => parse_status(value).map(|status| read.status = Some(status)),
                other if other == REBOOT || other.starts_with("reboot.metal3.io/") => {
                    parse_reboot(value, other == REBOOT).map(|reboot| read.reboots.push(reboot))
                }
                _ => Ok(()),
            };
            if let Err(reason) = outcome {
                problems.push(Problem::new(format!("metadata.annotations[{name}]"), reason));
            }
        }
        (read, problems)
    }
}

fn parse_detached(value: &str) -> Result<Detached, String> {
    if !value.trim_start().starts_with('{') {
        // Metal3 takes any other value for an empty one.
        return Ok(Detached::default());
    }
    let read: DetachedArguments = serde_json::from_str(value).map_err(|error| error.to_string())?;
    Ok(Detached { delay_deletion: read.delete_action == DeleteAction::Delay, force: read.force })
}

fn parse_reboot(value: &str, once: bool) -> Result<Reboot, String> {
    if value.is_empty() {
        return Ok(Reboot { once, ..Reboot::default() });
    }
    let read: RebootArguments = serde_json::from_str(value).map_err(|error| error.to_string())?;
    Ok(Reboot { once, hard: read.mode == RebootMode::Hard, force: read.force })
}

fn parse_status(value: &str) -> Result<BareMetalHostStatus, String> {
    let status: BareMetalHostStatus = read_strictly(value)?;
    if status.operational_status == OperationalStatus::Servicing {
        return Err("operationalStatus: `servicing` cannot be taken over".to_owned());
    }
    if matches!(status.error_type.as_str(), "detach error" | "servicing error") {
        return Err(format!("errorType: `{}` cannot be taken over", status.error_type));
    }
    Ok(status)
}

#[cfg(test)]
mod tests {
    use drystone_api::ProvisioningState;
    use drystone_hostile::damaged_text;
    use proptest::prelude::*;

    use super::*;

    fn read(entries: &[(&str, &str)]) -> (Annotations, Vec<Problem>) {
        Annotations::read(&entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn metal3_annotations_are_read() {
        let (read, problems) = read(&[
            (PAUSED, "metal3.io/capm3"),
            (DETACHED, r#"{"deleteAction":"delay","force":true}"#),
            (INSPECT, ""),
            ("reboot.metal3.io", r#"{"mode":"hard"}"#),
            ("reboot.metal3.io/capm3", ""),
            ("example.com/other", "{"),
        ]);
        assert_eq!(problems, []);
        assert!(read.paused && read.inspection_requested && !read.inspection_disabled);
        assert_eq!(read.detached, Some(Detached { delay_deletion: true, force: true }));
        assert_eq!(read.reboots.len(), 2);
        assert!(read.reboots.contains(&Reboot { once: true, hard: true, force: false }));
        assert!(read.reboots.contains(&Reboot::default()));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (name, value) in [
            (DETACHED, r#"{"deleteAction":"burn"}"#),
            (REBOOT, "hard"),
            ("reboot.metal3.io/key", r#"{"mode":"gentle"}"#),
            (INSPECT, "yes"),
            (HARDWARE_DETAILS, r#"{"colour":"red"}"#),
            (STATUS, r#"{"operationalStatus":"servicing"}"#),
            (STATUS, r#"{"operationalStatus":"OK","shoeSize":44}"#),
        ] {
            let (_, problems) = read(&[(name, value)]);
            assert_eq!(problems.len(), 1, "{name}: {value}");
            assert_eq!(problems[0].field, format!("metadata.annotations[{name}]"));
        }
    }

    #[test]
    fn a_status_of_metal3_is_taken_over() {
        let text = r#"{"operationalStatus":"OK","errorCount":0,"errorMessage":"","poweredOn":true,
            "goodCredentials":{"credentials":{"name":"bmc","namespace":"metal3"},"credentialsVersion":"123"},
            "hardware":{"cpu":{"arch":"x86_64","count":4,"flags":["avx"],"clockMegahertz":2100.5,"model":"m"},"ramMebibytes":4096},
            "operationHistory":{"register":{"start":"2026-08-01T10:00:00Z","end":"2026-08-01T10:00:05Z"},
                "inspect":{"start":null,"end":null},"provision":{"start":null,"end":null},"deprovision":{"start":null,"end":null}},
            "provisioning":{"ID":"4d1d","bootMode":"UEFI","state":"provisioned","image":{"url":"http://h/i.qcow2","checksum":"c"}},
            "triedCredentials":{}}"#;
        let (read, problems) = read(&[(STATUS, text)]);
        assert_eq!(problems, []);
        let status = read.status.expect("read");
        assert_eq!(status.provisioning.state, ProvisioningState::Provisioned);
        assert_eq!(status.hardware.expect("given").ram_mebibytes, 4096);
    }

    proptest! {
        #[test]
        fn any_text_is_answered(value in damaged_text([
            r#"{"deleteAction":"delay","force":true}"#, r#"{"mode":"hard","force":false}"#,
            r#"{"operationalStatus":"OK","provisioning":{"state":"available","ID":""}}"#,
        ])) {
            for name in [DETACHED, REBOOT, INSPECT, HARDWARE_DETAILS, STATUS] {
                let _ = read(&[(name, &value)]);
            }
        }
    }
}
