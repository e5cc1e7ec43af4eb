//! Firmware settings: the `Bios` resource and its attribute registry.

use std::collections::BTreeMap;

use drystone_api::SettingSchema;
use drystone_redfish::client::RedfishError;
use serde_json::{Map, Value, json};

use super::{DriverError, RedfishHost};
use crate::model::FirmwareReading;

/// Where registries are.
const REGISTRIES: &str = "/redfish/v1/Registries";

/// Most settings that are read: no firmware has more.
const MOST_SETTINGS: usize = 10_000;

impl RedfishHost {
    /// Reads settings and limits; `None` if the system publishes none.
    pub(super) async fn read_firmware(&self) -> Result<Option<FirmwareReading>, DriverError> {
        let doing = "reading firmware settings";
        let system = self.system().await?;
        let Some(uri) = system.body.pointer("/Bios/@odata.id").and_then(Value::as_str) else {
            return Ok(None);
        };
        let bios = match self.client.get(uri).await {
            Err(error) if matches!(error.status(), Some(404 | 405 | 501)) => return Ok(None),
            bios => bios.map_err(|error| self.error(doing, &error))?.body,
        };
        let attributes = bios.get("Attributes").and_then(Value::as_object).cloned().unwrap_or_default();
        let limits = match bios.get("AttributeRegistry").and_then(Value::as_str) {
            Some(name) => self.limits(name).await.map_err(|error| self.error(doing, &error))?,
            None => BTreeMap::new(),
        };
        Ok(Some(FirmwareReading {
            settings: attributes.iter().take(MOST_SETTINGS).filter_map(setting).collect(),
            limits,
            vendor: system.value.manufacturer.clone().unwrap_or_default(),
            model: system.value.model.clone().unwrap_or_default(),
        }))
    }

    /// The registry of that name, where the service publishes it: one that it does not is no error.
    async fn limits(&self, name: &str) -> Result<BTreeMap<String, SettingSchema>, RedfishError> {
        let members = match self.client.members(REGISTRIES).await {
            Err(error) if error.status() == Some(404) => return Ok(BTreeMap::new()),
            members => members?,
        };
        for member in
            members.iter().filter(|uri| uri.rsplit('/').next().is_some_and(|id| name.starts_with(id)))
        {
            let file = self.client.get(member).await?.body;
            let Some(uri) = file.pointer("/Location/0/Uri").and_then(Value::as_str) else { continue };
            return Ok(read_registry(&self.client.get(uri).await?.body));
        }
        Ok(BTreeMap::new())
    }

    /// Asks for these settings; the firmware takes them when the host starts next.
    pub(super) async fn write_firmware(&self, settings: &Map<String, Value>) -> Result<(), DriverError> {
        let doing = "changing firmware settings";
        let system = self.system().await?;
        let Some(uri) = system.body.pointer("/Bios/@odata.id").and_then(Value::as_str) else {
            return Err(self.refused(doing, "the system publishes no firmware settings"));
        };
        let bios = self.client.get(uri).await.map_err(|error| self.error(doing, &error))?.body;
        let pending = bios.pointer("/@Redfish.Settings/SettingsObject/@odata.id").and_then(Value::as_str);
        let body = json!({"Attributes": settings});
        let changed = self.client.modify(pending.unwrap_or(uri), |_| Some(body.clone())).await;
        changed.map(drop).map_err(|error| self.error(doing, &error))
    }
}

fn setting((name, value): (&String, &Value)) -> Option<(String, String)> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        _ => return None,
    };
    Some((name.clone(), text))
}

/// Reads an attribute registry (`AttributeRegistry.v1_3_8`).
fn read_registry(registry: &Value) -> BTreeMap<String, SettingSchema> {
    let attributes = registry.pointer("/RegistryEntries/Attributes").and_then(Value::as_array);
    let read = |entry: &Value| {
        let number = |name: &str| entry.get(name).and_then(Value::as_i64);
        let truth = |name: &str| entry.get(name).and_then(Value::as_bool);
        let values = entry.get("Value").and_then(Value::as_array).into_iter().flatten();
        let name = entry.get("AttributeName").and_then(Value::as_str)?.to_owned();
        let limits = SettingSchema {
            attribute_type: entry.get("Type").and_then(Value::as_str).unwrap_or_default().to_owned(),
            allowable_values: values
                .filter_map(|value| value.get("ValueName").and_then(Value::as_str).map(str::to_owned))
                .collect(),
            lower_bound: number("LowerBound"),
            upper_bound: number("UpperBound"),
            min_length: number("MinLength"),
            max_length: number("MaxLength"),
            read_only: truth("ReadOnly"),
            unique: truth("IsSystemUniqueProperty"),
        };
        Some((name, limits))
    };
    attributes.into_iter().flatten().take(MOST_SETTINGS).filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use drystone_hostile::distorted;
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Value {
        json!({"RegistryEntries": {"Attributes": [
            {"AttributeName": "Boost", "Type": "Enumeration", "Value": [{"ValueName": "On"}, {"ValueName": "Off"}], "ReadOnly": false},
            {"AttributeName": "Delay", "Type": "Integer", "LowerBound": 0, "UpperBound": 10, "IsSystemUniqueProperty": true},
            {"Type": "String"}]}})
    }

    #[test]
    fn a_registry_becomes_limits() {
        let limits = read_registry(&sample());
        assert_eq!(limits.len(), 2);
        assert_eq!(limits["Boost"].allowable_values, ["On", "Off"]);
        assert_eq!((limits["Delay"].upper_bound, limits["Delay"].unique), (Some(10), Some(true)));
    }

    proptest! {
        #[test]
        fn any_registry_is_read(registry in distorted(sample(), &["Attributes", "AttributeName", "Value", "Type"])) {
            let _ = read_registry(&registry);
        }
    }
}
