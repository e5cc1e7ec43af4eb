//! Conditions of a host, from what its status says otherwise.
//! Source: the baremetal-operator's conditions of a BareMetalHost.

use drystone_api::{
    BareMetalHostStatus, OperationalStatus, ProvisioningState as State, condition, set_condition,
};
use k8s_openapi::jiff::Timestamp;

/// Health as the management controller tells it (Redfish `Status.Health`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Health {
    /// Nobody tells.
    #[default]
    Unknown,
    /// All is well.
    Healthy,
    /// Something wants looking at.
    Warning,
    /// Something is broken.
    Critical,
}

impl Health {
    /// Reads Redfish's word for it.
    pub fn of(text: Option<&str>) -> Self {
        match text {
            Some("OK") => Self::Healthy,
            Some("Warning") => Self::Warning,
            Some("Critical") => Self::Critical,
            _ => Self::Unknown,
        }
    }
}

/// What is going on in a state, if anything is.
const fn progressing(state: State) -> Option<&'static str> {
    match state {
        State::Registering => Some("Registering"),
        State::Inspecting => Some("Inspecting"),
        State::Preparing => Some("Preparing"),
        State::Provisioning => Some("Provisioning"),
        State::Deprovisioning => Some("Deprovisioning"),
        State::PoweringOffBeforeDelete => Some("PoweringOffBeforeDelete"),
        State::Deleting => Some("Deleting"),
        State::None
        | State::Unmanaged
        | State::Available
        | State::Provisioned
        | State::ExternallyProvisioned => None,
    }
}

/// Writes the conditions. `note` says how far the host's work is, if anything is going on.
pub fn write(status: &mut BareMetalHostStatus, note: &str, now: Timestamp) {
    let (state, operational) = (status.provisioning.state, status.operational_status);
    let registered = !status.good_credentials.credentials_version.is_empty();
    let error = status.error_message.clone();
    let manageable = registered
        && operational != OperationalStatus::Detached
        && !matches!(
            status.error_type.as_str(),
            "registration error" | "provisioned registration error" | "power management error"
        );
    let is_provisioned = matches!(state, State::Provisioned | State::ExternallyProvisioned);
    let (ready, ready_reason) = match operational {
        OperationalStatus::Error => (false, "Error"),
        OperationalStatus::Servicing => (false, "Servicing"),
        OperationalStatus::Detached => (false, "Detached"),
        OperationalStatus::Delayed => (false, "Delayed"),
        _ if is_provisioned => (true, "Provisioned"),
        _ if state == State::Available => (true, "Available"),
        _ => (false, progressing(state).unwrap_or("Unmanaged")),
    };
    let progress = progressing(state);
    let available = state == State::Available && operational == OperationalStatus::OK;
    let all = [
        condition("Manageable", manageable, if manageable { "Registered" } else { "NotRegistered" }, ""),
        condition(
            "AvailableForProvisioning",
            available,
            if available { "Available" } else { "NotAvailable" },
            "",
        ),
        condition(
            "Provisioned",
            is_provisioned,
            if is_provisioned { "Provisioned" } else { "NotProvisioned" },
            "",
        ),
        condition("Ready", ready, ready_reason, error),
        condition("Progressing", progress.is_some(), progress.unwrap_or("AtRest"), note),
    ];
    for condition in all {
        set_condition(&mut status.conditions, condition, now);
    }
}

/// Writes the condition of health.
pub fn write_health(status: &mut BareMetalHostStatus, health: Health, now: Timestamp) {
    let (word, reason) = match health {
        Health::Unknown => ("Unknown", "Unknown"),
        Health::Healthy => ("True", "Healthy"),
        Health::Warning => ("False", "Warning"),
        Health::Critical => ("False", "CriticalError"),
    };
    let mut condition = condition("Healthy", true, reason, "");
    word.clone_into(&mut condition.status);
    set_condition(&mut status.conditions, condition, now);
}

#[cfg(test)]
mod tests {
    use drystone_api::is_true;

    use super::*;

    fn status(state: State, operational: OperationalStatus) -> BareMetalHostStatus {
        let mut status = BareMetalHostStatus { operational_status: operational, ..Default::default() };
        status.provisioning.state = state;
        status.good_credentials.credentials_version = "7".to_owned();
        status
    }

    fn reason(status: &BareMetalHostStatus, kind: &str) -> String {
        status.conditions.iter().find(|found| found.type_ == kind).map(|found| found.reason.clone()).unwrap()
    }

    #[test]
    fn conditions_follow_the_state() {
        let mut host = status(State::Inspecting, OperationalStatus::OK);
        write(&mut host, "", Timestamp::UNIX_EPOCH);
        assert!(is_true(&host.conditions, "Manageable") && is_true(&host.conditions, "Progressing"));
        assert_eq!(
            (reason(&host, "Progressing"), reason(&host, "Ready")),
            ("Inspecting".into(), "Inspecting".into())
        );
        host.provisioning.state = State::Provisioned;
        write(&mut host, "", Timestamp::UNIX_EPOCH);
        assert!(is_true(&host.conditions, "Provisioned") && is_true(&host.conditions, "Ready"));
        assert!(!is_true(&host.conditions, "AvailableForProvisioning"));
        host.operational_status = OperationalStatus::Error;
        host.error_type = "power management error".to_owned();
        write(&mut host, "", Timestamp::UNIX_EPOCH);
        assert!(!is_true(&host.conditions, "Manageable") && !is_true(&host.conditions, "Ready"));
        assert_eq!(reason(&host, "Ready"), "Error");
    }

    #[test]
    fn health_may_be_unknown() {
        let mut host = status(State::Available, OperationalStatus::OK);
        for (text, word, why) in [
            (None, "Unknown", "Unknown"),
            (Some("OK"), "True", "Healthy"),
            (Some("Warning"), "False", "Warning"),
            (Some("Critical"), "False", "CriticalError"),
        ] {
            write_health(&mut host, Health::of(text), Timestamp::UNIX_EPOCH);
            assert_eq!((host.conditions[0].status.as_str(), host.conditions[0].reason.as_str()), (word, why));
        }
        assert_eq!(host.conditions.len(), 1);
    }
}
