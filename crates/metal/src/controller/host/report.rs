//! Failures in the status of a host, and what a success clears.

use std::sync::atomic::{AtomicBool, Ordering};

use drystone_api::{BareMetalHostStatus, OperationalStatus, ProvisioningState as State};
use drystone_engine::{
    events::EventKind,
    harness::{Requeue, update_status},
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::ResourceExt as _;

use super::{After, HostError, Pass, actions, blocks};
use crate::{
    driver::DriverError,
    plan::{Missing, Next, conditions, failures_with},
};

/// Kind of a failure, by what failed (`status.errorType`).
fn kind_of(failed: &Next, error: &DriverError, state: State) -> &'static str {
    let provisioned = matches!(state, State::Provisioned | State::ExternallyProvisioned);
    match failed {
        Next::Register if provisioned => "provisioned registration error",
        _ if matches!(error, DriverError::Unauthorized { .. }) => "registration error",
        Next::Register => "registration error",
        Next::Inspect => "inspection error",
        Next::Prepare => "preparation error",
        Next::Provision | Next::Deprovision => "provisioning error",
        Next::Detach => "detach error",
        _ => "power management error",
    }
}

/// Kind of a mistake in the resource, by what it keeps the host from.
const fn kind_of_mistake(state: State) -> &'static str {
    match state {
        State::None | State::Unmanaged | State::Registering => "registration error",
        State::Inspecting => "inspection error",
        State::Preparing | State::Available => "preparation error",
        State::Provisioning | State::Deprovisioning => "provisioning error",
        _ => "power management error",
    }
}

impl Pass<'_> {
    pub(super) async fn report_missing(&self, missing: Missing) -> Result<Requeue, HostError> {
        let host = &self.host;
        let namespace = host.namespace().unwrap_or_default();
        let secret = host.spec.bmc.as_ref().map(|bmc| bmc.credentials_name.clone()).unwrap_or_default();
        let (kind, message) = match missing {
            Missing::Credentials => (
                "registration error",
                format!(
                    "spec.bmc.credentialsName: Secret {secret} with BMC credentials is missing; create it in namespace {namespace}"
                ),
            ),
            Missing::UsernameOrPassword => (
                "registration error",
                format!(
                    "spec.bmc.credentialsName: Secret {secret} in namespace {namespace} lacks `username` or `password`"
                ),
            ),
            Missing::BootData => (
                "provisioning error",
                format!("a Secret with boot data is missing; create it in namespace {namespace}"),
            ),
        };
        self.report_mistake(kind, &message).await?;
        Ok(Requeue::After(self.reconciler.config.pacing.missing_secret))
    }

    /// Writes what is wrong with the resource. Nothing was done to the hardware.
    pub(super) async fn report_invalid(&self) -> Result<Requeue, HostError> {
        let problems: Vec<String> = self.problems.iter().map(ToString::to_string).collect();
        self.report_mistake(kind_of_mistake(self.state()), &problems.join("; ")).await?;
        Ok(Requeue::After(self.reconciler.config.pacing.unmanaged))
    }

    async fn report_mistake(&self, kind: &str, message: &str) -> Result<(), HostError> {
        let host = &self.host;
        // As it is when it is written: the copy that this pass began with may be older than what the pass before has told.
        let known = AtomicBool::new(false);
        let written = update_status(&self.api, host, |status: &mut BareMetalHostStatus| {
            known.store(status.error_message == message, Ordering::Relaxed);
            status.operational_status = OperationalStatus::Error;
            kind.clone_into(&mut status.error_type);
            message.clone_into(&mut status.error_message);
            status.error_count = status.error_count.max(1);
            finish(status, host.status.as_ref(), "");
        })
        .await?;
        if !known.into_inner() {
            self.event(EventKind::Warning, &event_reason(kind), message);
        }
        blocks::follow(&self.reconciler.client, &written).await?;
        Ok(())
    }

    /// Writes a failure down and says when to try again. An image that could not be provisioned is removed first.
    pub(super) async fn report(&self, failed: &Next, error: &DriverError) -> Result<After, HostError> {
        let host = &self.host;
        let kind = kind_of(failed, error, self.state());
        let message = error.to_string();
        let starts_over = *failed == Next::Provision
            && matches!(error, DriverError::Refused { .. } | DriverError::Stuck { .. });
        let tried = self.credentials_status();
        let written = update_status(&self.api, host, |status: &mut BareMetalHostStatus| {
            status.operational_status = OperationalStatus::Error;
            kind.clone_into(&mut status.error_type);
            status.error_message.clone_from(&message);
            status.error_count =
                host.status.as_ref().map_or(0, |status| status.error_count).saturating_add(1);
            if *failed == Next::Register {
                status.tried_credentials = tried.clone();
            }
            if starts_over {
                status.provisioning_fail_count =
                    failures_with(&host.spec, &host.status.clone().unwrap_or_default()).saturating_add(1);
                actions::enter_state(status, State::Deprovisioning, self.began);
            }
            finish(status, host.status.as_ref(), "");
        })
        .await?;
        blocks::follow(&self.reconciler.client, &written).await?;
        let errors = written.status.as_ref().map_or(1, |status| status.error_count);
        self.event(EventKind::Warning, &event_reason(kind), &message);
        if starts_over {
            // Removing what is there is no other attempt.
            return Ok(After::Again(Box::new(written)));
        }
        let pause = self.reconciler.config.pacing.backoff(errors, rand::random());
        self.reconciler.pauses.begin(&self.uid(), self.wanted(), pause);
        Ok(After::Rest(Requeue::After(pause)))
    }
}

/// `ProvisioningError` for `provisioning error`.
fn event_reason(kind: &str) -> String {
    kind.split(' ').map(capitalized).collect()
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// After a success there is no error any more.
pub(super) fn settle(status: &mut BareMetalHostStatus) {
    if !matches!(status.operational_status, OperationalStatus::Detached | OperationalStatus::Discovered) {
        status.operational_status = OperationalStatus::OK;
    }
    status.error_type.clear();
    status.error_message.clear();
    status.error_count = 0;
}

/// Conditions, and the time of the last change, which is kept when nothing changed.
pub(super) fn finish(status: &mut BareMetalHostStatus, before: Option<&BareMetalHostStatus>, note: &str) {
    let now = Timestamp::now();
    conditions::write(status, note, now);
    if before != Some(status) {
        status.last_updated = Some(Time(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_named_as_in_metal3() {
        let refused =
            DriverError::Refused { host: "h".into(), doing: "something".into(), reason: "no".into() };
        let table = [
            (Next::Register, State::Registering, "registration error", "RegistrationError"),
            (
                Next::Register,
                State::Provisioned,
                "provisioned registration error",
                "ProvisionedRegistrationError",
            ),
            (Next::Inspect, State::Inspecting, "inspection error", "InspectionError"),
            (Next::Prepare, State::Preparing, "preparation error", "PreparationError"),
            (Next::Provision, State::Provisioning, "provisioning error", "ProvisioningError"),
            (Next::Deprovision, State::Deprovisioning, "provisioning error", "ProvisioningError"),
            (
                Next::Power(crate::provisioner::Power::On),
                State::Available,
                "power management error",
                "PowerManagementError",
            ),
            (Next::Detach, State::Available, "detach error", "DetachError"),
        ];
        for (failed, state, kind, reason) in table {
            assert_eq!(kind_of(&failed, &refused, state), kind);
            assert_eq!(event_reason(kind), reason);
        }
        let unauthorized = DriverError::Unauthorized { host: "h".into() };
        assert_eq!(kind_of(&Next::Inspect, &unauthorized, State::Inspecting), "registration error");
    }
}
