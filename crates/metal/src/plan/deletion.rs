//! The way out of a host that is being deleted.

use drystone_api::{BareMetalHostSpec, BareMetalHostStatus, OperationalStatus, ProvisioningState as State};

use super::{CredentialsFound, Next, Surroundings, enter_slot};

/// Errors in a row after which deletion gives a step up.
pub(super) const GIVEN_UP_AFTER: u32 = 3;

pub(super) fn next(
    spec: &BareMetalHostSpec,
    status: &BareMetalHostStatus,
    around: &Surroundings<'_>,
) -> Next {
    let state = status.provisioning.state;
    if status.operational_status == OperationalStatus::Detached && state != State::Deleting {
        let waits = around.detached.is_some_and(|detached| detached.delay_deletion);
        return if waits { Next::Rest(around.pacing.detached) } else { Next::Enter(State::Deleting) };
    }
    if matches!(state, State::None | State::Unmanaged) {
        return Next::Forget;
    }
    // Without credentials, or with an address that makes no sense, nobody can be asked for anything.
    let reachable = matches!(around.credentials, CredentialsFound::Version(_)) && spec.bmc.is_some();
    let given_up = status.error_count > GIVEN_UP_AFTER;
    match state {
        State::Deleting if given_up || !reachable => Next::Forget,
        State::Deleting => Next::Delete,
        _ if !reachable => Next::Enter(State::Deleting),
        State::Provisioning | State::Provisioned => enter_slot(State::Deprovisioning, around),
        State::Deprovisioning if given_up => Next::Enter(State::Deleting),
        State::Deprovisioning => Next::Deprovision,
        State::PoweringOffBeforeDelete if !given_up && !spec.disable_power_off => Next::PowerOffBeforeDelete,
        State::Registering | State::PoweringOffBeforeDelete => Next::Enter(State::Deleting),
        _ => Next::Enter(State::PoweringOffBeforeDelete),
    }
}
