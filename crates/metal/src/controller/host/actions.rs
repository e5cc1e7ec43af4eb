//! What each decision of the state machine does.

use std::time::Duration;

use drystone_api::{
    BareMetalHost, BareMetalHostStatus, CredentialsStatus, OperationalStatus, ProvisioningState as State,
    SITE_LABEL, SecretReference,
};
use drystone_engine::events::EventKind;
use kube::{
    ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{ActionError, HostError, INSPECT, Outcome, Pass, STEADY_POLL, api_error, blocks};
use crate::{
    medium::Seed,
    provisioner::{Power, Progress},
};

/// Look again at once: the next thing is to be done.
const AT_ONCE: Duration = Duration::from_millis(1);

type Change = Box<dyn Fn(&mut BareMetalHostStatus) + Send + Sync>;

/// What a step came to, with the change of status that its result means.
fn outcome<T>(progress: Progress<T>, done: impl FnOnce(T) -> (Change, Duration)) -> Outcome {
    match progress {
        Progress::Working { again, .. } => Outcome::Working(again),
        Progress::Done(result) => {
            let (change, pause) = done(result);
            Outcome::Changed(change, pause)
        }
    }
}

impl Pass<'_> {
    pub(super) fn enter(&self, state: State) -> Outcome {
        let event = match state {
            State::Inspecting => Some(("InspectionStarted", "Hardware inspection started")),
            State::Provisioning => Some(("ProvisioningStarted", "Image provisioning started")),
            State::Deprovisioning => Some(("DeprovisioningStarted", "Image deprovisioning started")),
            _ => None,
        };
        if let Some((reason, note)) = event {
            self.event(EventKind::Normal, reason, note);
        }
        let change = move |status: &mut BareMetalHostStatus| {
            status.provisioning.state = state;
            if state == State::Unmanaged {
                status.operational_status = OperationalStatus::Discovered;
            }
        };
        Outcome::Changed(Box::new(change), AT_ONCE)
    }

    pub(super) async fn register(&self) -> Result<Outcome, ActionError> {
        let way = self.way()?;
        let progress = way.provisioner.register(&self.job(&way)).await?;
        let secret = self.secret.as_ref();
        let credentials = CredentialsStatus {
            credentials: secret
                .map(|secret| SecretReference { name: secret.name_any(), namespace: secret.namespace() }),
            credentials_version: secret.and_then(kube::ResourceExt::resource_version).unwrap_or_default(),
        };
        Ok(outcome(progress, |registered| {
            self.event(EventKind::Normal, "BMCAccessValidated", "Verified access to BMC");
            let change = move |status: &mut BareMetalHostStatus| {
                status.provisioning.id.clone_from(&registered.id);
                status.good_credentials = credentials.clone();
                status.tried_credentials = credentials.clone();
            };
            (Box::new(change), AT_ONCE)
        }))
    }

    pub(super) async fn inspect(&self) -> Result<Outcome, ActionError> {
        let way = self.way()?;
        let inspected = match way.provisioner.inspect(&self.job(&way)).await? {
            Progress::Working { again, .. } => return Ok(Outcome::Working(again)),
            Progress::Done(inspected) => inspected,
        };
        self.event(EventKind::Normal, "InspectionComplete", "Hardware inspection completed");
        let recorded = blocks::record(&self.reconciler.client, &self.host, &inspected.inventory).await;
        recorded.map_err(HostError::from)?;
        self.take_as_found(inspected.powered_on).await?;
        self.clear_inspection_request().await?;
        let change = move |status: &mut BareMetalHostStatus| {
            status.hardware = Some(inspected.details.clone());
            status.provisioning.state = State::Preparing;
            status.powered_on = inspected.powered_on;
        };
        Ok(Outcome::Changed(Box::new(change), AT_ONCE))
    }

    /// A host that is met for the first time, made by a Site and running, is wanted running: it belongs to the hosts that
    /// start fast, until its first use.
    async fn take_as_found(&self, powered_on: bool) -> Result<(), HostError> {
        let host = &self.host;
        let first = host.status.as_ref().is_none_or(|status| status.hardware.is_none());
        let from_site = host.labels().contains_key(SITE_LABEL);
        if first && from_site && powered_on && !host.spec.online {
            let patch = json!({"spec": {"online": true}});
            self.patch(&patch).await.map_err(api_error("taking the host as it was found"))?;
        }
        Ok(())
    }

    async fn clear_inspection_request(&self) -> Result<(), HostError> {
        if self.host.annotations().get(INSPECT).is_some_and(|value| value != "disabled") {
            let patch = json!({"metadata": {"annotations": {INSPECT: null}}});
            self.patch(&patch).await.map_err(api_error("clearing the inspection request"))?;
        }
        Ok(())
    }

    async fn patch(&self, patch: &serde_json::Value) -> Result<BareMetalHost, kube::Error> {
        self.api.patch(&self.host.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await
    }

    pub(super) async fn provision(&self) -> Result<Outcome, ActionError> {
        let way = self.way()?;
        let progress = way.provisioner.provision(&self.job(&way)).await?;
        Ok(outcome(progress, |()| {
            self.event(EventKind::Normal, "ProvisioningComplete", "Image provisioning completed");
            let image = self.host.spec.image.clone();
            let instance = self.seed.as_ref().map(Seed::instance_id).unwrap_or_default();
            let change = move |status: &mut BareMetalHostStatus| {
                status.provisioning.state = State::Provisioned;
                status.provisioning.image.clone_from(&image);
                status.provisioning.instance_id.clone_from(&instance);
                status.powered_on = true;
            };
            (Box::new(change), STEADY_POLL)
        }))
    }

    pub(super) async fn deprovision(&self) -> Result<Outcome, ActionError> {
        let way = self.way()?;
        let progress = way.provisioner.deprovision(&self.job(&way)).await?;
        Ok(outcome(progress, |()| {
            self.event(EventKind::Normal, "DeprovisioningComplete", "Image deprovisioning completed");
            let change = |status: &mut BareMetalHostStatus| {
                status.provisioning.state = State::Available;
                status.provisioning.image = None;
                status.provisioning.instance_id = String::new();
                status.powered_on = false;
            };
            (Box::new(change), AT_ONCE)
        }))
    }

    pub(super) async fn power(&self, on: bool) -> Result<Outcome, ActionError> {
        let wanted = if on { Power::On } else { Power::SoftOff };
        let way = self.way()?;
        let progress = way.provisioner.power(&self.job(&way), wanted).await?;
        Ok(outcome(progress, |changed| {
            if changed && on {
                self.event(EventKind::Normal, "PowerOn", "Host powered on");
            } else if changed {
                self.event(EventKind::Normal, "PowerOff", "Host powered off");
            }
            (Box::new(move |status: &mut BareMetalHostStatus| status.powered_on = on), STEADY_POLL)
        }))
    }

    pub(super) async fn power_off_and_forget(&self) -> Result<Outcome, ActionError> {
        if self.secret.is_none() || self.host.spec.bmc.is_none() {
            return Ok(Outcome::Forgotten);
        }
        let way = self.way()?;
        let progress = way.provisioner.power(&self.job(&way), Power::HardOff).await?;
        if let Progress::Working { again, .. } = progress {
            return Ok(Outcome::Working(again));
        }
        Ok(match way.provisioner.detach(&self.job(&way)).await? {
            Progress::Working { again, .. } => Outcome::Working(again),
            Progress::Done(()) => Outcome::Forgotten,
        })
    }
}
