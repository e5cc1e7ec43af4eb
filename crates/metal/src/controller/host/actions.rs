//! What each decision of the state machine does.

use std::time::Duration;

use drystone_api::{
    BareMetalHost, BareMetalHostStatus, BootMode, CredentialsStatus, OperationMetric, OperationalStatus,
    ProvisioningState as State, SITE_LABEL, SecretReference,
};
use drystone_engine::{events::EventKind, harness::is_deleted};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{ActionError, HostError, Outcome, Pass, api_error, blocks, slots::needs_slot};
use crate::{
    medium::Seed,
    model::{
        Inventory,
        annotations::{INSPECT, REBOOT},
    },
    plan::{conditions, failures_with, raid_to_apply, registered_as},
    provisioner::{Power, Preparation, Progress},
};

/// Look again at once: the next thing is to be done.
pub(super) const AT_ONCE: Duration = Duration::from_millis(1);

/// Goes on if a step is done; else the pass ends here.
macro_rules! done {
    ($step:expr) => {
        match $step {
            Progress::Working { again, note } => return Ok(Outcome::Working(again, note)),
            Progress::Done(result) => result,
        }
    };
}

/// Writes that a host is in a state, and when what it does there began.
pub(super) fn enter_state(status: &mut BareMetalHostStatus, state: State, now: Timestamp) {
    status.provisioning.state = state;
    let history = &mut status.operation_history;
    let metric = match state {
        State::Registering => &mut history.register,
        State::Inspecting => &mut history.inspect,
        State::Provisioning => &mut history.provision,
        State::Deprovisioning => &mut history.deprovision,
        _ => return,
    };
    *metric = OperationMetric { start: Some(Time(now)), end: None };
}

fn ended(metric: &mut OperationMetric, began: Timestamp) {
    if metric.start.is_none() || metric.end.is_some() {
        metric.start = Some(Time(began));
    }
    metric.end = Some(Time(Timestamp::now()));
}

fn changed(change: impl Fn(&mut BareMetalHostStatus) + Send + Sync + 'static, pause: Duration) -> Outcome {
    Outcome::Changed(Box::new(change), pause)
}

impl Pass<'_> {
    pub(super) fn enter(&self, state: State) -> Outcome {
        if needs_slot(state) && !self.is_exempt() && !self.reconciler.slots.take(&self.uid()) {
            return self.delay();
        }
        let event = match state {
            State::Inspecting => Some(("InspectionStarted", "Hardware inspection started")),
            State::Provisioning => Some(("ProvisioningStarted", "Image provisioning started")),
            State::Deprovisioning => Some(("DeprovisioningStarted", "Image deprovisioning started")),
            _ => None,
        };
        if let Some((reason, note)) = event {
            self.event(EventKind::Normal, reason, note);
        }
        let (spec, began) = (self.host.spec.clone(), self.began);
        let change = move |status: &mut BareMetalHostStatus| {
            if state == State::Provisioning {
                status.provisioning_fail_count = failures_with(&spec, status);
                status.last_attempted_image.clone_from(&spec.image);
                status.provisioning.custom_deploy.clone_from(&spec.custom_deploy);
            }
            enter_state(status, state, began);
            match state {
                State::Unmanaged => status.operational_status = OperationalStatus::Discovered,
                // It was only discovered until now, or detached before it goes.
                _ => status.operational_status = OperationalStatus::OK,
            }
        };
        changed(change, AT_ONCE)
    }

    pub(super) fn delay(&self) -> Outcome {
        let pause = self.reconciler.config.pacing.delayed.mul_f64(1.0 + rand::random::<f64>());
        let change =
            |status: &mut BareMetalHostStatus| status.operational_status = OperationalStatus::Delayed;
        Outcome::Noted(Box::new(change), pause)
    }

    pub(super) fn credentials_status(&self) -> CredentialsStatus {
        let secret = self.secret.as_ref();
        CredentialsStatus {
            credentials: secret
                .map(|secret| SecretReference { name: secret.name_any(), namespace: secret.namespace() }),
            credentials_version: secret.and_then(kube::ResourceExt::resource_version).unwrap_or_default(),
        }
    }

    pub(super) async fn register(&self) -> Result<Outcome, ActionError> {
        let way = self.way()?;
        let registered = done!(way.provisioner.register(&self.job(&way)).await?);
        let status = self.host.status.clone().unwrap_or_default();
        if status.good_credentials.credentials_version.is_empty() {
            self.event(EventKind::Normal, "Registered", "Registered new host");
        }
        self.event(EventKind::Normal, "BMCAccessValidated", "Verified access to BMC");
        let mut known = None;
        if status.hardware.is_none() {
            known = self.known_hardware().await?;
            if let Some(details) = &known {
                let inventory = Inventory::from_details(details);
                let recorded = blocks::record(&self.reconciler.client, &self.host, &inventory).await;
                recorded.map_err(HostError::from)?;
            }
        }
        let (credentials, as_what) = (self.credentials_status(), registered_as(&self.host.spec));
        let began = self.began;
        let change = move |status: &mut BareMetalHostStatus| {
            status.provisioning.id.clone_from(&registered.id);
            status.provisioning.registered = Some(as_what.clone());
            status.good_credentials = credentials.clone();
            status.tried_credentials = credentials.clone();
            if status.hardware.is_none() {
                status.hardware.clone_from(&known);
            }
            ended(&mut status.operation_history.register, began);
        };
        Ok(changed(change, AT_ONCE))
    }

    pub(super) async fn inspect(&self) -> Result<Outcome, ActionError> {
        let way = self.way()?;
        let inspected = done!(way.provisioner.inspect(&self.job(&way)).await?);
        self.event(EventKind::Normal, "InspectionComplete", "Hardware inspection completed");
        self.write_hardware_data(&inspected.details).await?;
        let recorded = blocks::record(&self.reconciler.client, &self.host, &inspected.inventory).await;
        recorded.map_err(HostError::from)?;
        if let Some(reading) = way.provisioner.firmware(&self.job(&way)).await? {
            self.record_firmware(&reading).await?;
        }
        self.take_as_found(inspected.powered_on).await?;
        if self.annotations.inspection_requested {
            self.remove_annotation(INSPECT).await?;
        }
        let began = self.began;
        let change = move |status: &mut BareMetalHostStatus| {
            status.hardware = Some(inspected.details.clone());
            "unknown".clone_into(&mut status.hardware_profile);
            status.provisioning.state = State::Preparing;
            status.powered_on = inspected.powered_on;
            ended(&mut status.operation_history.inspect, began);
        };
        Ok(changed(change, AT_ONCE))
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

    pub(super) async fn patch(&self, patch: &serde_json::Value) -> Result<BareMetalHost, kube::Error> {
        self.api.patch(&self.host.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await
    }

    pub(super) async fn prepare(&self) -> Result<Outcome, ActionError> {
        let status = self.host.status.clone().unwrap_or_default();
        let preparation = Preparation {
            raid: raid_to_apply(&self.host.spec, &status).cloned(),
            firmware_settings: self.firmware_to_apply.clone(),
        };
        let way = self.way()?;
        done!(way.provisioner.prepare(&self.job(&way), &preparation).await?);
        if !preparation.firmware_settings.is_empty()
            && let Some(reading) = way.provisioner.firmware(&self.job(&way)).await?
        {
            self.record_firmware(&reading).await?;
        }
        let (hints, raid) = (self.host.spec.root_device_hints.clone(), preparation.raid);
        let change = move |status: &mut BareMetalHostStatus| {
            status.provisioning.state = State::Available;
            status.provisioning.root_device_hints.clone_from(&hints);
            if raid.is_some() {
                status.provisioning.raid.clone_from(&raid);
            }
        };
        Ok(changed(change, AT_ONCE))
    }

    pub(super) async fn provision(&self) -> Result<Outcome, ActionError> {
        let way = self.way()?;
        done!(way.provisioner.provision(&self.job(&way)).await?);
        self.event(EventKind::Normal, "ProvisioningComplete", "Image provisioning completed");
        let spec = self.host.spec.clone();
        let instance = self.seed.as_ref().map(Seed::instance_id).unwrap_or_default();
        let began = self.began;
        let change = move |status: &mut BareMetalHostStatus| {
            status.provisioning.state = State::Provisioned;
            status.provisioning.image.clone_from(&spec.image);
            status.provisioning.custom_deploy.clone_from(&spec.custom_deploy);
            status.provisioning.boot_mode = Some(spec.boot_mode.unwrap_or(BootMode::UEFI));
            status.provisioning.instance_id.clone_from(&instance);
            status.provisioning_fail_count = 0;
            status.powered_on = true;
            ended(&mut status.operation_history.provision, began);
        };
        // What it was booted from is taken out by who looks at its power next.
        Ok(changed(change, AT_ONCE))
    }

    pub(super) async fn deprovision(&self) -> Result<Outcome, ActionError> {
        let way = self.way()?;
        done!(way.provisioner.deprovision(&self.job(&way)).await?);
        self.event(EventKind::Normal, "DeprovisioningComplete", "Image deprovisioning completed");
        let began = self.began;
        let next = if is_deleted(&self.host) { State::PoweringOffBeforeDelete } else { State::Available };
        let change = move |status: &mut BareMetalHostStatus| {
            status.provisioning.state = next;
            status.provisioning.image = None;
            status.provisioning.custom_deploy = None;
            status.provisioning.instance_id = String::new();
            status.powered_on = false;
            ended(&mut status.operation_history.deprovision, began);
        };
        // What could not be provisioned is still wanted: the error stays until it is tried again.
        let status = self.host.status.clone().unwrap_or_default();
        if failures_with(&self.host.spec, &status) > 0 && self.host.spec.image.is_some() {
            return Ok(Outcome::Noted(Box::new(change), AT_ONCE));
        }
        Ok(changed(change, AT_ONCE))
    }

    pub(super) async fn power(&self, wanted: Power) -> Result<Outcome, ActionError> {
        let way = self.way()?;
        let powered = done!(way.provisioner.power(&self.job(&way), wanted).await?);
        let on = wanted.is_on();
        if powered.changed && on {
            self.event(EventKind::Normal, "PowerOn", "Host powered on");
        } else if powered.changed {
            self.event(EventKind::Normal, "PowerOff", "Host powered off");
        }
        let mut pause = self.reconciler.config.pacing.steady;
        if !on && self.annotations.reboots.iter().any(|reboot| reboot.once) {
            self.remove_annotation(REBOOT).await?;
            pause = AT_ONCE;
        }
        let change = move |status: &mut BareMetalHostStatus| {
            status.powered_on = on;
            conditions::write_health(status, powered.health, Timestamp::now());
        };
        Ok(changed(change, pause))
    }

    pub(super) async fn refuse_reboot(&self) -> Result<Outcome, ActionError> {
        self.event(EventKind::Warning, "RebootRefused", "spec.disablePowerOff forbids to power the host off");
        self.remove_annotation(REBOOT).await?;
        Ok(Outcome::Working(AT_ONCE, String::new()))
    }

    pub(super) async fn detach(&self) -> Result<Outcome, ActionError> {
        let way = self.way()?;
        done!(way.provisioner.detach(&self.job(&way)).await?);
        self.event(EventKind::Normal, "Detached", "Host detached: nobody manages it");
        let change = |status: &mut BareMetalHostStatus| {
            status.operational_status = OperationalStatus::Detached;
            status.good_credentials = CredentialsStatus::default();
            status.provisioning.id.clear();
        };
        Ok(changed(change, self.reconciler.config.pacing.detached))
    }

    pub(super) fn attach(&self) -> Outcome {
        self.event(EventKind::Normal, "Attached", "Host is managed again");
        changed(|status| status.operational_status = OperationalStatus::OK, AT_ONCE)
    }

    pub(super) async fn power_off_before_delete(&self) -> Result<Outcome, ActionError> {
        let way = self.way()?;
        done!(way.provisioner.power(&self.job(&way), Power::HardOff).await?);
        let change = |status: &mut BareMetalHostStatus| {
            status.provisioning.state = State::Deleting;
            status.powered_on = false;
        };
        Ok(changed(change, AT_ONCE))
    }

    pub(super) async fn delete(&self) -> Result<Outcome, ActionError> {
        let way = self.way()?;
        done!(way.provisioner.detach(&self.job(&way)).await?);
        Ok(Outcome::Forgotten)
    }
}
