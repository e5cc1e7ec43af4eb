//! The state machine of a BareMetalHost: what to do next. Pure; the resource itself is the journal, as in Metal3.
//! Source: the baremetal-operator's host state machine.
//!
//! Rooms: [`deletion`], [`pacing`] (pauses and limits), [`conditions`] (what the status says for others), [`pool`].

use std::time::Duration;

use drystone_api::{
    BareMetalHostSpec, BareMetalHostStatus, HostImage, OperationalStatus, ProvisioningState as State, Raid,
    RegisteredAs,
};

use crate::{
    model::annotations::{Detached, Reboot},
    provisioner::Power,
};

pub mod conditions;
mod deletion;
pub mod pacing;
pub mod pool;

pub use pacing::Pacing;

/// What is known of the Secret with the credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialsFound<'a> {
    /// There is no such Secret.
    Missing,
    /// It lacks `username` or `password`.
    Incomplete,
    /// It is there, in this `resourceVersion`.
    Version(&'a str),
}

/// What is known beside specification and status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Surroundings<'a> {
    /// Whether the object is being deleted.
    pub deleting: bool,
    /// The credentials Secret.
    pub credentials: CredentialsFound<'a>,
    /// Whether the annotation `baremetalhost.metal3.io/paused` is set.
    pub paused: bool,
    /// The annotation `baremetalhost.metal3.io/detached`.
    pub detached: Option<Detached>,
    /// Whether the annotation `inspect.metal3.io` asks for another inspection.
    pub inspection_requested: bool,
    /// Whether specification or annotation forbid inspection.
    pub inspection_disabled: bool,
    /// Annotations `reboot.metal3.io`.
    pub reboots: &'a [Reboot],
    /// Digest of image, user data, network data and metadata; `None` if a Secret is missing.
    pub instance_id: Option<&'a str>,
    /// Whether nothing is wrong with what the host's resource says.
    pub valid: bool,
    /// Whether one host more may be inspected, provisioned or deprovisioned now.
    pub slot_free: bool,
    /// Whether the firmware is to be set otherwise than it is.
    pub firmware_changed: bool,
    /// How long ago the last deprovisioning ended.
    pub since_deprovisioned: Duration,
    /// Pauses and limits.
    pub pacing: &'a Pacing,
}

/// Something that is needed and missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The Secret with credentials.
    Credentials,
    /// User name or password in it.
    UsernameOrPassword,
    /// A Secret with boot data.
    BootData,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing; look again after this time, or when something changes.
    Rest(Duration),
    /// Write this state and look again at once.
    Enter(State),
    /// Try the credentials; the state stays unless it is `registering`.
    Register,
    /// Read the hardware.
    Inspect,
    /// Set up disks and firmware.
    Prepare,
    /// Bring the wanted image onto the host.
    Provision,
    /// Remove what is provisioned and switch off.
    Deprovision,
    /// Bring power to the wanted state and read it.
    Power(Power),
    /// Take the annotation that asks for a reboot off: the host may not be powered off.
    RefuseReboot,
    /// Make the provisioner forget the host, and say that it is detached.
    Detach,
    /// The host is not detached any more.
    Attach,
    /// Switch off before the object goes.
    PowerOffBeforeDelete,
    /// Make the provisioner forget the host, and remove the finalizer.
    Delete,
    /// Remove the finalizer: no provisioner knows the host, or it cannot be asked.
    Forget,
    /// Write that the host waits for a slot.
    Delay,
    /// Write that something is missing.
    ReportMissing(Missing),
    /// Write what is wrong with what the host's resource says.
    ReportInvalid,
}

/// Decides.
pub fn next(spec: &BareMetalHostSpec, status: &BareMetalHostStatus, around: &Surroundings<'_>) -> Next {
    if around.paused {
        return Next::Rest(around.pacing.steady);
    }
    let state = status.provisioning.state;
    let is_detached = status.operational_status == OperationalStatus::Detached;
    if around.deleting {
        return deletion::next(spec, status, around);
    }
    if !around.valid {
        return Next::ReportInvalid;
    }
    if let Some(detached) = around.detached {
        if is_detached {
            return Next::Rest(around.pacing.detached);
        }
        let at_rest = matches!(state, State::Provisioned | State::ExternallyProvisioned | State::Available);
        if at_rest || (detached.force && !matches!(state, State::None | State::Unmanaged)) {
            return Next::Detach;
        }
    } else if is_detached {
        return Next::Attach;
    }
    if spec.bmc.is_none() {
        let known = state == State::Unmanaged;
        return if known { Next::Rest(around.pacing.unmanaged) } else { Next::Enter(State::Unmanaged) };
    }
    if matches!(state, State::None | State::Unmanaged) {
        return Next::Enter(State::Registering);
    }
    let version = match around.credentials {
        CredentialsFound::Missing => return Next::ReportMissing(Missing::Credentials),
        CredentialsFound::Incomplete => return Next::ReportMissing(Missing::UsernameOrPassword),
        CredentialsFound::Version(version) => version,
    };
    if status.good_credentials.credentials_version != version
        || status.provisioning.registered.as_ref() != Some(&registered_as(spec))
    {
        return Next::Register;
    }
    next_when_registered(spec, status, around)
}

/// What a host is registered with.
pub fn registered_as(spec: &BareMetalHostSpec) -> RegisteredAs {
    RegisteredAs {
        bmc_address: spec.bmc.as_ref().map(|bmc| bmc.address.clone()).unwrap_or_default(),
        boot_mac_address: spec.boot_mac_address.clone(),
    }
}

/// Enters a state for which there are not many places at one time.
fn enter_slot(state: State, around: &Surroundings<'_>) -> Next {
    if around.slot_free { Next::Enter(state) } else { Next::Delay }
}

fn next_when_registered(
    spec: &BareMetalHostSpec,
    status: &BareMetalHostStatus,
    around: &Surroundings<'_>,
) -> Next {
    match status.provisioning.state {
        State::Registering if spec.externally_provisioned => Next::Enter(State::ExternallyProvisioned),
        State::Registering | State::Inspecting if around.inspection_disabled => Next::Enter(State::Preparing),
        State::Registering if status.hardware.is_some() => Next::Enter(State::Preparing),
        State::Registering => enter_slot(State::Inspecting, around),
        State::Inspecting => Next::Inspect,
        State::Preparing => Next::Prepare,
        State::Available => next_when_available(spec, status, around),
        State::Provisioning | State::Provisioned if is_cancelled(spec, status) => {
            enter_slot(State::Deprovisioning, around)
        }
        State::Provisioning => match around.instance_id {
            Some(_) => Next::Provision,
            None => Next::ReportMissing(Missing::BootData),
        },
        State::ExternallyProvisioned if !spec.externally_provisioned => Next::Enter(State::Provisioned),
        State::Provisioned | State::ExternallyProvisioned => next_power(spec, status, around),
        State::Deprovisioning => Next::Deprovision,
        State::PoweringOffBeforeDelete | State::Deleting => Next::Enter(State::Registering),
        State::None | State::Unmanaged => Next::Rest(around.pacing.unmanaged),
    }
}

fn next_when_available(
    spec: &BareMetalHostSpec,
    status: &BareMetalHostStatus,
    around: &Surroundings<'_>,
) -> Next {
    if spec.externally_provisioned {
        return Next::Enter(State::ExternallyProvisioned);
    }
    if around.inspection_requested {
        return enter_slot(State::Inspecting, around);
    }
    if needs_preparation(spec, status, around) {
        return Next::Enter(State::Preparing);
    }
    if !spec.online || (spec.image.is_none() && spec.custom_deploy.is_none()) {
        return next_power(spec, status, around);
    }
    let failures = failures_with(spec, status);
    if failures >= around.pacing.provisioning_attempts {
        return Next::Rest(around.pacing.steady);
    }
    if failures > 0 {
        let pause = around.pacing.backoff(failures, 0.0).saturating_sub(around.since_deprovisioned);
        if !pause.is_zero() {
            return Next::Rest(pause);
        }
    }
    if around.instance_id.is_none() {
        return Next::ReportMissing(Missing::BootData);
    }
    enter_slot(State::Provisioning, around)
}

/// How often what is wanted now could not be provisioned. An image whose checksum was corrected is another one.
pub fn failures_with(spec: &BareMetalHostSpec, status: &BareMetalHostStatus) -> u32 {
    if spec.image == status.last_attempted_image { status.provisioning_fail_count } else { 0 }
}

/// Whether disks or firmware are to be set up otherwise than they are.
fn needs_preparation(
    spec: &BareMetalHostSpec,
    status: &BareMetalHostStatus,
    around: &Surroundings<'_>,
) -> bool {
    around.firmware_changed
        || spec.root_device_hints != status.provisioning.root_device_hints
        || raid_to_apply(spec, status).is_some()
}

/// The RAID layout, if it is to be applied: what is absent keeps what is there, an empty list removes it.
pub fn raid_to_apply<'a>(spec: &'a BareMetalHostSpec, status: &BareMetalHostStatus) -> Option<&'a Raid> {
    let wanted = spec.raid.as_ref()?;
    let present = status.provisioning.raid.clone().unwrap_or_default();
    let differs = (wanted.hardware_volumes.is_some() && wanted.hardware_volumes != present.hardware_volumes)
        || (wanted.software_volumes.is_some() && wanted.software_volumes != present.software_volumes);
    differs.then_some(wanted)
}

/// What is provisioned was taken away, or something else is wanted (an image by its URL; a changed checksum alone does
/// nothing).
fn is_cancelled(spec: &BareMetalHostSpec, status: &BareMetalHostStatus) -> bool {
    let provisioning = &status.provisioning;
    if provisioning.custom_deploy.is_some() && provisioning.custom_deploy != spec.custom_deploy {
        return true;
    }
    let url = |image: &Option<HostImage>| image.as_ref().map(|image| image.url.clone());
    let wanted = url(&spec.image);
    let begun = provisioning.state == State::Provisioning;
    match url(if begun { &status.last_attempted_image } else { &provisioning.image }) {
        Some(present) => wanted.as_ref() != Some(&present),
        None => wanted.is_none() && spec.custom_deploy.is_none(),
    }
}

/// Power as it is wanted. A request to reboot wants it off: a plain one is taken off as soon as it is, the others by who put
/// them there, and then power is wanted on again.
fn next_power(spec: &BareMetalHostSpec, status: &BareMetalHostStatus, around: &Surroundings<'_>) -> Next {
    let provisioned = matches!(status.provisioning.state, State::Provisioned | State::ExternallyProvisioned);
    let heard = || around.reboots.iter().filter(|reboot| provisioned || reboot.force);
    if spec.disable_power_off {
        if heard().any(|reboot| reboot.once) {
            return Next::RefuseReboot;
        }
        return Next::Power(Power::On);
    }
    let wanted = match (spec.online, heard().next(), heard().any(|reboot| reboot.hard)) {
        (true, None, _) => Power::On,
        (_, _, true) => Power::HardOff,
        _ => Power::SoftOff,
    };
    Next::Power(wanted)
}

#[cfg(test)]
mod tests;
