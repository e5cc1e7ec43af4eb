//! Failures in the status of a host, and what a success clears.

use std::time::Duration;

use drystone_api::{BareMetalHostStatus, OperationalStatus, ProvisioningState as State};
use drystone_engine::{
    events::EventKind,
    harness::{Requeue, update_status},
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::ResourceExt as _;

use super::{HostError, Pass, blocks};
use crate::{driver::DriverError, plan::backoff};

/// How long to wait for a Secret that is missing; its arrival is noticed at once anyway.
const MISSING_SECRET_POLL: Duration = Duration::from_secs(10);

impl Pass<'_> {
    pub(super) async fn report_missing(&self, what: &str) -> Result<Requeue, HostError> {
        let namespace = self.host.namespace().unwrap_or_default();
        let message = format!("{what} is missing; create it in namespace {namespace}");
        update_status(&self.api, &self.host, |status: &mut BareMetalHostStatus| {
            status.operational_status = OperationalStatus::Error;
            "registration error".clone_into(&mut status.error_type);
            status.error_message.clone_from(&message);
        })
        .await?;
        Ok(Requeue::After(MISSING_SECRET_POLL))
    }

    /// Writes a failure down and says when to try again.
    pub(super) async fn report(&self, error: &DriverError) -> Result<Requeue, HostError> {
        let host = &self.host;
        let state = host.status.as_ref().map(|status| status.provisioning.state).unwrap_or_default();
        let kind = match state {
            _ if matches!(error, DriverError::Unauthorized { .. }) => "registration error",
            State::None | State::Unmanaged | State::Registering => "registration error",
            State::Inspecting => "inspection error",
            State::Provisioning | State::Deprovisioning => "provisioning error",
            _ => "power management error",
        };
        let message = error.to_string();
        let written = update_status(&self.api, host, |status: &mut BareMetalHostStatus| {
            status.operational_status = OperationalStatus::Error;
            kind.clone_into(&mut status.error_type);
            status.error_message.clone_from(&message);
            status.error_count =
                host.status.as_ref().map_or(0, |status| status.error_count).saturating_add(1);
        })
        .await?;
        blocks::follow(&self.reconciler.client, &written).await?;
        let errors = written.status.map_or(1, |status| status.error_count);
        let reason = kind.split(' ').map(capitalized).collect::<String>();
        self.event(EventKind::Warning, &reason, &message);
        Ok(Requeue::After(backoff(errors)))
    }
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// After a success: no error any more; the time of the last change is kept when nothing changed.
pub(super) fn settle(status: &mut BareMetalHostStatus, before: Option<&BareMetalHostStatus>) {
    if !matches!(status.operational_status, OperationalStatus::Detached | OperationalStatus::Discovered) {
        status.operational_status = OperationalStatus::OK;
    }
    status.error_type.clear();
    status.error_message.clear();
    status.error_count = 0;
    if before != Some(status) {
        status.last_updated = Some(Time(Timestamp::now()));
    }
}
