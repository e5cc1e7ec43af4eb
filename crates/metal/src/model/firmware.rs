//! What the firmware of a host is set to, and what it can be set to.

use std::collections::BTreeMap;

use drystone_api::SettingSchema;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::Problem;

/// What a management controller says of its host's firmware settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FirmwareReading {
    /// Every setting by name, as text.
    pub settings: BTreeMap<String, String>,
    /// Limits by name of the setting; empty if the controller publishes none.
    pub limits: BTreeMap<String, SettingSchema>,
    /// Maker of the host.
    pub vendor: String,
    /// Model of the host.
    pub model: String,
}

impl FirmwareReading {
    /// Name of the FirmwareSchema with these limits: hosts with the same limits share it.
    pub fn schema_name(&self) -> String {
        let mut digest = Sha256::new();
        digest.update(&self.vendor);
        digest.update([0]);
        digest.update(&self.model);
        digest.update(serde_json::to_vec(&self.limits).unwrap_or_default());
        let hex: String = digest.finalize().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        format!("schema-{hex}")
    }

    /// A value in the type that the setting has.
    pub fn typed(&self, name: &str, value: &str) -> Value {
        let kind = self.limits.get(name).map(|limits| limits.attribute_type.as_str());
        match kind {
            Some("Integer") => value.parse::<i64>().map_or_else(|_| json!(value), |number| json!(number)),
            Some("Boolean") => value.parse::<bool>().map_or_else(|_| json!(value), |truth| json!(truth)),
            _ => json!(value),
        }
    }
}

/// A wanted value as text, as settings are compared.
pub fn text_of(value: &IntOrString) -> String {
    match value {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(text) => text.clone(),
    }
}

/// Wanted settings that are not as they are wanted.
pub fn differing(
    wanted: &BTreeMap<String, IntOrString>,
    present: &BTreeMap<String, String>,
) -> Map<String, Value> {
    let differs = |name: &String, value: &IntOrString| present.get(name) != Some(&text_of(value));
    wanted
        .iter()
        .filter(|(name, value)| differs(name, value))
        .map(|(name, value)| (name.clone(), json!(text_of(value))))
        .collect()
}

/// What is wrong with wanted settings.
pub fn check(
    wanted: &BTreeMap<String, IntOrString>,
    present: &BTreeMap<String, String>,
    limits: &BTreeMap<String, SettingSchema>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, value) in wanted {
        let text = text_of(value);
        let reason = match limits.get(name) {
            Some(limits) => misfit(&text, limits),
            None if present.contains_key(name) => None,
            None => Some("is no setting of this host".to_owned()),
        };
        if let Some(reason) = reason {
            problems.push(Problem::new(format!("spec.settings.{name}"), reason));
        }
    }
    problems
}

fn misfit(text: &str, limits: &SettingSchema) -> Option<String> {
    if limits.read_only == Some(true) {
        return Some("cannot be changed".to_owned());
    }
    if limits.unique == Some(true) {
        return Some("is different for every host and cannot be set here".to_owned());
    }
    match limits.attribute_type.as_str() {
        "Enumeration" if !limits.allowable_values.iter().any(|value| value == text) => {
            Some(format!("must be one of {}", limits.allowable_values.join(", ")))
        }
        "Integer" => {
            let Ok(number) = text.parse::<i64>() else { return Some("must be a whole number".to_owned()) };
            let (low, high) = (limits.lower_bound, limits.upper_bound);
            if low.is_some_and(|low| number < low) || high.is_some_and(|high| number > high) {
                let bound =
                    |bound: Option<i64>| bound.map_or_else(|| "any".to_owned(), |bound| bound.to_string());
                return Some(format!("must be from {} to {}", bound(low), bound(high)));
            }
            None
        }
        "String" | "Password" => {
            let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
            let short = limits.min_length.is_some_and(|least| length < least);
            let long = limits.max_length.is_some_and(|most| length > most);
            (short || long).then(|| "is too short or too long".to_owned())
        }
        "Boolean" if text.parse::<bool>().is_err() => Some("must be true or false".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(kind: &str) -> SettingSchema {
        SettingSchema { attribute_type: kind.to_owned(), ..Default::default() }
    }

    #[test]
    fn wanted_settings_are_checked_and_compared() {
        let reading = FirmwareReading {
            settings: [
                ("Boost", "Enabled"),
                ("Delay", "5"),
                ("Asset", "a"),
                ("Serial", "s"),
                ("Fast", "true"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
            limits: [
                (
                    "Boost",
                    SettingSchema {
                        allowable_values: vec!["Enabled".into(), "Disabled".into()],
                        ..limits("Enumeration")
                    },
                ),
                ("Delay", SettingSchema { lower_bound: Some(0), upper_bound: Some(10), ..limits("Integer") }),
                ("Asset", SettingSchema { max_length: Some(4), ..limits("String") }),
                ("Serial", SettingSchema { read_only: Some(true), ..limits("String") }),
                ("Fast", limits("Boolean")),
            ]
            .map(|(name, limits)| (name.to_owned(), limits))
            .into(),
            ..Default::default()
        };
        let wanted = |name: &str, value: IntOrString| BTreeMap::from([(name.to_owned(), value)]);
        let text = |text: &str| IntOrString::String(text.to_owned());
        for (name, value, good) in [
            ("Boost", text("Disabled"), true),
            ("Boost", text("On"), false),
            ("Delay", IntOrString::Int(10), true),
            ("Delay", IntOrString::Int(11), false),
            ("Delay", text("x"), false),
            ("Asset", text("abcd"), true),
            ("Asset", text("abcde"), false),
            ("Serial", text("t"), false),
            ("Fast", text("false"), true),
            ("Fast", text("maybe"), false),
            ("Unknown", text("x"), false),
        ] {
            let wanted = wanted(name, value.clone());
            let problems = check(&wanted, &reading.settings, &reading.limits);
            assert_eq!(problems.is_empty(), good, "{name} {value:?} {problems:?}");
            assert!(problems.iter().all(|problem| problem.field == format!("spec.settings.{name}")));
        }
        assert!(differing(&wanted("Delay", IntOrString::Int(5)), &reading.settings).is_empty());
        assert_eq!(differing(&wanted("Delay", IntOrString::Int(6)), &reading.settings)["Delay"], "6");
        assert_eq!((reading.typed("Delay", "6"), reading.typed("Fast", "false")), (json!(6), json!(false)));
        assert_ne!(reading.schema_name(), FirmwareReading::default().schema_name());
    }
}
