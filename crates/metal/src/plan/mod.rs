//! The state machine of a BareMetalHost: what to do next. Pure; the resource itself is the journal, as in Metal3.
//! Source: the baremetal-operator's host state machine.

use std::time::Duration;

use drystone_api::{
    BareMetalHostSpec, BareMetalHostStatus, HostImage, OperationalStatus, ProvisioningState as State,
};

pub mod pool;

/// Errors in a row after which a provisioning attempt starts over from a switched-off host.
pub const RESTART_AFTER_ERRORS: u32 = 3;

/// Longest pause between two attempts.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// What is known beside specification and status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Surroundings<'a> {
    /// Whether the object is being deleted.
    pub deleting: bool,
    /// `resourceVersion` of the credentials Secret; `None` if there is no such Secret.
    pub credentials_version: Option<&'a str>,
    /// Whether the annotation `baremetalhost.metal3.io/paused` is set.
    pub paused: bool,
    /// Whether the annotation `baremetalhost.metal3.io/detached` is set.
    pub detached: bool,
    /// Whether the annotation `inspect.metal3.io` asks for another inspection.
    pub inspection_requested: bool,
    /// Digest of image, user data, network data and metadata; `None` if a Secret is missing.
    pub instance_id: Option<&'a str>,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing; look again after a while, or when something changes.
    Rest,
    /// Write this state and look again at once.
    Enter(State),
    /// Try the credentials; the state stays unless it is `registering`.
    Register,
    /// Read the hardware.
    Inspect,
    /// Boot the wanted image.
    Provision,
    /// Remove what is provisioned and switch off.
    Deprovision,
    /// Bring power to the wanted state and read it.
    Power(bool),
    /// Switch off before the object goes.
    PowerOffAndForget,
    /// Remove the finalizer.
    Forget,
    /// Write that the credentials Secret is missing.
    ReportMissingCredentials,
    /// Write that a Secret named in the specification is missing.
    ReportMissingData,
    /// Write that the host is detached.
    ReportDetached,
}

/// Decides.
pub fn next(spec: &BareMetalHostSpec, status: &BareMetalHostStatus, around: Surroundings<'_>) -> Next {
    if around.paused {
        return Next::Rest;
    }
    let state = status.provisioning.state;
    if around.deleting {
        return next_when_deleting(spec, status);
    }
    if around.detached
        && matches!(state, State::Provisioned | State::ExternallyProvisioned | State::Available)
    {
        let reported = status.operational_status == OperationalStatus::Detached;
        return if reported { Next::Rest } else { Next::ReportDetached };
    }
    if spec.bmc.is_none() {
        return if state == State::Unmanaged { Next::Rest } else { Next::Enter(State::Unmanaged) };
    }
    if matches!(state, State::None | State::Unmanaged) {
        return Next::Enter(State::Registering);
    }
    let Some(version) = around.credentials_version else { return Next::ReportMissingCredentials };
    if status.good_credentials.credentials_version != version {
        return Next::Register;
    }
    next_when_registered(spec, status, around)
}

fn next_when_registered(
    spec: &BareMetalHostSpec,
    status: &BareMetalHostStatus,
    around: Surroundings<'_>,
) -> Next {
    let inspection_disabled = spec.inspection_mode.as_deref() == Some("disabled");
    match status.provisioning.state {
        State::Registering | State::Available if spec.externally_provisioned => {
            Next::Enter(State::ExternallyProvisioned)
        }
        State::Registering if inspection_disabled => Next::Enter(State::Preparing),
        State::Registering => Next::Enter(State::Inspecting),
        State::Inspecting => Next::Inspect,
        State::Preparing => Next::Enter(State::Available),
        State::Available if around.inspection_requested => Next::Enter(State::Inspecting),
        State::Available if spec.online && spec.image.is_some() => match around.instance_id {
            Some(_) => Next::Enter(State::Provisioning),
            None => Next::ReportMissingData,
        },
        State::Provisioning | State::Provisioned if image_was_removed(spec, status) => {
            Next::Enter(State::Deprovisioning)
        }
        State::Provisioning => match around.instance_id {
            Some(_) => Next::Provision,
            None => Next::ReportMissingData,
        },
        State::ExternallyProvisioned if !spec.externally_provisioned => Next::Enter(State::Available),
        State::Available | State::Provisioned | State::ExternallyProvisioned => {
            Next::Power(wanted_power(spec, status))
        }
        State::Deprovisioning => Next::Deprovision,
        State::PoweringOffBeforeDelete | State::Deleting => Next::Enter(State::Registering),
        State::None | State::Unmanaged => Next::Rest,
    }
}

fn next_when_deleting(spec: &BareMetalHostSpec, status: &BareMetalHostStatus) -> Next {
    let given_up = status.error_count > RESTART_AFTER_ERRORS;
    match status.provisioning.state {
        State::None | State::Unmanaged | State::Registering | State::Deleting => Next::Forget,
        State::Provisioning | State::Provisioned => Next::Enter(State::Deprovisioning),
        State::Deprovisioning if given_up => Next::Enter(State::Deleting),
        State::Deprovisioning => Next::Deprovision,
        _ if given_up || spec.disable_power_off => Next::Forget,
        State::PoweringOffBeforeDelete => Next::PowerOffAndForget,
        _ => Next::Enter(State::PoweringOffBeforeDelete),
    }
}

/// The image was taken away, or another one is wanted (by URL; a changed checksum alone does nothing).
fn image_was_removed(spec: &BareMetalHostSpec, status: &BareMetalHostStatus) -> bool {
    let url = |image: &Option<HostImage>| image.as_ref().map(|image| image.url.clone());
    let wanted = url(&spec.image);
    match url(&status.provisioning.image) {
        Some(present) => wanted.as_ref() != Some(&present),
        None => wanted.is_none(),
    }
}

/// An available host without an image stays off unless it is asked to be online; a host that may not be powered off stays on.
fn wanted_power(spec: &BareMetalHostSpec, status: &BareMetalHostStatus) -> bool {
    spec.online || (spec.disable_power_off && status.powered_on)
}

/// Pause before the next attempt after `errors` failures in a row.
pub fn backoff(errors: u32) -> Duration {
    let seconds = Duration::from_millis(500 * 2_u64.saturating_pow(errors.min(9)));
    seconds.min(MAX_BACKOFF)
}

#[cfg(test)]
mod tests;
