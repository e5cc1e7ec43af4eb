//! Firmware settings of a host: HostFirmwareSettings and FirmwareSchema in step with what its controller says.

use std::collections::BTreeMap;

use drystone_api::{
    FirmwareSchema, FirmwareSchemaReference, FirmwareSchemaSpec, HostFirmwareSettings,
    HostFirmwareSettingsSpec, HostFirmwareSettingsStatus, ProvisioningState as State, condition,
    set_condition,
};
use drystone_engine::harness::update_status;
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{ObjectMeta, PostParams},
};
use serde_json::{Map, Value};

use super::{HostError, Pass, api_error};
use crate::model::{FirmwareReading, firmware};

impl Pass<'_> {
    fn firmware_api(&self) -> Api<HostFirmwareSettings> {
        Api::namespaced(self.reconciler.client.clone(), &self.host.namespace().unwrap_or_default())
    }

    /// Settings that are to be changed, while they can be. Wrong ones are told and change nothing.
    pub(super) async fn firmware_to_apply(&self) -> Result<Map<String, Value>, HostError> {
        if !matches!(self.state(), State::Available | State::Preparing) {
            return Ok(Map::new());
        }
        let api = self.firmware_api();
        let found = api.get_opt(&self.host.name_any()).await;
        let Some(wanted) = found.map_err(api_error("reading the HostFirmwareSettings"))? else {
            return Ok(Map::new());
        };
        // What the firmware is set to is known after inspection.
        let Some(status) = wanted.status.as_ref().filter(|status| !status.settings.is_empty()) else {
            return Ok(Map::new());
        };
        let limits = self.limits(status.schema.as_ref()).await?;
        let problems = firmware::check(&wanted.spec.settings, &status.settings, &limits);
        let differing = firmware::differing(&wanted.spec.settings, &status.settings);
        let (valid, changed) = (problems.is_empty(), !differing.is_empty());
        let message = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        update_status(&api, &wanted, |status: &mut HostFirmwareSettingsStatus| {
            let now = Timestamp::now();
            let valid = condition("Valid", valid, if valid { "Valid" } else { "Invalid" }, message.clone());
            set_condition(&mut status.conditions, valid, now);
            let reason = if changed { "SettingsDiffer" } else { "SettingsMatch" };
            set_condition(&mut status.conditions, condition("ChangeDetected", changed, reason, ""), now);
        })
        .await?;
        Ok(if valid { differing } else { Map::new() })
    }

    async fn limits(
        &self,
        reference: Option<&FirmwareSchemaReference>,
    ) -> Result<BTreeMap<String, drystone_api::SettingSchema>, HostError> {
        let Some(reference) = reference else { return Ok(BTreeMap::new()) };
        let api: Api<FirmwareSchema> =
            Api::namespaced(self.reconciler.client.clone(), &self.host.namespace().unwrap_or_default());
        let found = api.get_opt(&reference.name).await.map_err(api_error("reading the FirmwareSchema"))?;
        Ok(found.map(|schema| schema.spec.schema).unwrap_or_default())
    }

    /// Writes what the firmware is set to and can be set to.
    pub(super) async fn record_firmware(&self, reading: &FirmwareReading) -> Result<(), HostError> {
        let namespace = self.host.namespace().unwrap_or_default();
        let schema_name = reading.schema_name();
        if !reading.limits.is_empty() {
            let schemas: Api<FirmwareSchema> = Api::namespaced(self.reconciler.client.clone(), &namespace);
            let spec = FirmwareSchemaSpec {
                hardware_vendor: reading.vendor.clone(),
                hardware_model: reading.model.clone(),
                schema: reading.limits.clone(),
            };
            let created =
                schemas.create(&PostParams::default(), &FirmwareSchema::new(&schema_name, spec)).await;
            unless_there(created).map_err(api_error("writing the FirmwareSchema"))?;
        }
        let (api, name) = (self.firmware_api(), self.host.name_any());
        let mut settings = HostFirmwareSettings::new(&name, HostFirmwareSettingsSpec::default());
        settings.metadata = ObjectMeta {
            name: Some(name.clone()),
            owner_references: self.host.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..Default::default()
        };
        unless_there(api.create(&PostParams::default(), &settings).await)
            .map_err(api_error("writing the HostFirmwareSettings"))?;
        let found = api.get(&name).await.map_err(api_error("reading the HostFirmwareSettings"))?;
        let schema = (!reading.limits.is_empty())
            .then(|| FirmwareSchemaReference { namespace: namespace.clone(), name: schema_name.clone() });
        update_status(&api, &found, |status: &mut HostFirmwareSettingsStatus| {
            if status.settings != reading.settings || status.schema != schema {
                status.last_updated = Some(Time(Timestamp::now()));
            }
            status.settings.clone_from(&reading.settings);
            status.schema.clone_from(&schema);
        })
        .await?;
        Ok(())
    }
}

/// That something is there already is as good as making it.
fn unless_there<T>(made: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match made {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        other => other.map(drop),
    }
}
