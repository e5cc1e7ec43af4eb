//! Groups: resources that are stacks of so many equal members.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::super::{
    hot::{Definition, HotError, Template, kind_of},
    model::{Resource, Stack},
};

/// Types of groups.
pub(super) const GROUPS: [&str; 2] = ["OS::Heat::AutoScalingGroup", "OS::Heat::ResourceGroup"];

/// Most members of a group.
const MOST: u64 = 1000;

/// Whether a type is one of a group.
pub(in crate::cloud) fn is_group(kind: &str) -> bool {
    GROUPS.contains(&kind)
}

/// A whole number, however it was written.
fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()))
}

fn size_property(properties: &Map<String, Value>, name: &str) -> Result<Option<u64>, HotError> {
    let Some(value) = properties.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    let size = number(value).and_then(|number| u64::try_from(number).ok()).filter(|size| *size <= MOST);
    size.map(Some).ok_or_else(|| {
        HotError::new(format!("properties.{name}"), format!("{value} is no number from 0 to {MOST}"))
    })
}

/// How many members a group is to have: what it says if that changed, else what it has, within its limits.
fn wanted_size(
    kind: &str,
    properties: &Map<String, Value>,
    before: Option<(&Resource, usize)>,
    told: Option<u64>,
) -> Result<u64, HotError> {
    if kind == "OS::Heat::ResourceGroup" {
        return Ok(size_property(properties, "count")?.unwrap_or(1));
    }
    let needed = |name: &str| {
        let missing = || HotError::new(format!("properties.{name}"), format!("Property {name} not assigned"));
        size_property(properties, name)?.ok_or_else(missing)
    };
    let (least, most) = (needed("min_size")?, needed("max_size")?);
    if least > most {
        return Err(HotError::new("properties.min_size", format!("{least} is above max_size, {most}")));
    }
    let desired = size_property(properties, "desired_capacity")?;
    if let Some(desired) = desired.filter(|desired| !(least..=most).contains(desired)) {
        return Err(HotError::new(
            "properties.desired_capacity",
            format!("{desired} is outside of {least} to {most}"),
        ));
    }
    if let Some(told) = told {
        return Ok(told.clamp(least, most));
    }
    let Some((before, present)) = before else { return Ok(desired.unwrap_or(least)) };
    let unchanged = before.properties.get("desired_capacity") == properties.get("desired_capacity");
    let present = u64::try_from(present).unwrap_or(MOST);
    Ok(desired.filter(|_| !unchanged).unwrap_or(present).clamp(least, most))
}

/// The template of a group's own stack: its members, by name.
///
/// `told` is a size that somebody else than the properties wants. Members that are there stay, the oldest of those that are well going first when there are too many; members that are not well go before them.
pub(super) fn template(
    kind: &str,
    properties: &Map<String, Value>,
    before: Option<(&Resource, &Stack)>,
    told: Option<u64>,
    ids: &mut dyn FnMut() -> Uuid,
) -> Result<Template, HotError> {
    let scaling = kind == "OS::Heat::AutoScalingGroup";
    let known: &[&str] = if scaling {
        &["resource", "min_size", "max_size", "desired_capacity", "cooldown", "rolling_updates"]
    } else {
        &["resource_def", "count", "index_var", "removal_policies", "removal_policies_mode"]
    };
    if let Some(unknown) = properties.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(HotError::new(
            format!("properties.{unknown}"),
            format!("Unknown Property {unknown} of {kind}"),
        ));
    }
    let member = if scaling { "resource" } else { "resource_def" };
    let path = format!("properties.{member}");
    let definition = properties.get(member).ok_or_else(|| HotError::new(&path, "Property not assigned"))?;
    let definition = definition
        .as_object()
        .ok_or_else(|| HotError::new(&path, format!("is {}, not a map", kind_of(definition))))?;
    let kind_of_member = definition.get("type").and_then(Value::as_str).unwrap_or_default();
    if kind_of_member.is_empty() {
        return Err(HotError::new(path, "has no type"));
    }
    let present = before.map(|(resource, stack)| (resource, stack.resources.len()));
    let size = wanted_size(kind, properties, present, told)?;
    let size = usize::try_from(size).unwrap_or_default();
    let names = if scaling {
        scaled(size, before.map(|(_, stack)| stack), ids)
    } else {
        (0..size).map(|n| n.to_string()).collect()
    };
    let index_var = properties.get("index_var").and_then(Value::as_str).unwrap_or("%index%");
    let mut template = Template::default();
    for name in names {
        let given = definition.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        let given =
            if scaling { Value::Object(given) } else { indexed(Value::Object(given), index_var, &name) };
        let Value::Object(given) = given else { continue };
        let definition = Definition {
            kind: kind_of_member.to_owned(),
            properties: given,
            metadata: definition.get("metadata").cloned().unwrap_or_default(),
            literal: true,
            ..Definition::default()
        };
        template.resources.insert(name, definition);
    }
    Ok(template)
}

/// Names of the members that stay, and of new ones.
fn scaled(size: usize, before: Option<&Stack>, ids: &mut dyn FnMut() -> Uuid) -> Vec<String> {
    let mut present: Vec<&Resource> =
        before.map(|stack| stack.resources.values().collect()).unwrap_or_default();
    let age = |member: &Resource| -> (bool, Timestamp, String) {
        (!member.is_unhealthy(), member.created, member.name.clone())
    };
    present.sort_by_key(|member| age(member));
    let surplus = present.len().saturating_sub(size);
    let mut names: Vec<String> = present[surplus..].iter().map(|member| member.name.clone()).collect();
    while names.len() < size {
        names.push(short_name(ids()));
    }
    names
}

/// A name for a member: twelve lower-case letters and digits.
fn short_name(id: Uuid) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    id.as_bytes().iter().take(12).map(|byte| char::from(LETTERS[usize::from(byte & 31)])).collect()
}

fn indexed(value: Value, variable: &str, index: &str) -> Value {
    match value {
        Value::String(text) if !variable.is_empty() => Value::String(text.replace(variable, index)),
        Value::Array(list) => list.into_iter().map(|item| indexed(item, variable, index)).collect(),
        Value::Object(map) => {
            Value::Object(map.into_iter().map(|(key, item)| (key, indexed(item, variable, index))).collect())
        }
        other => other,
    }
}

/// The size that a scaling policy makes of a group's present one.
///
/// # Errors
/// The policy says something that it cannot.
pub(in crate::cloud) fn adjusted(policy: &Value, group: &Value, present: usize) -> Result<u64, String> {
    let amount =
        policy.get("scaling_adjustment").and_then(number).ok_or("scaling_adjustment is no number")?;
    let present = i64::try_from(present).unwrap_or_default();
    let wanted = match policy.get("adjustment_type").and_then(Value::as_str) {
        Some("change_in_capacity") => present.saturating_add(amount),
        Some("exact_capacity") => amount,
        Some("percent_change_in_capacity") => {
            let part = present.saturating_mul(amount);
            let step = part / 100;
            present.saturating_add(if step == 0 { part.signum() } else { step })
        }
        other => return Err(format!("adjustment_type {other:?} is not understood")),
    };
    let bound = |name: &str| group.get(name).and_then(number);
    let least = bound("min_size").unwrap_or_default().max(0);
    let most = bound("max_size").unwrap_or(i64::MAX).max(least);
    u64::try_from(wanted.clamp(least, most)).map_err(|_| "no group has so many members".to_owned())
}

/// What a group tells: `current_size`, `refs`, and those of its members' outputs that are asked for.
pub(super) fn attribute(
    stack: &Stack,
    nested: impl Fn(Uuid) -> Option<Value>,
    attribute: &str,
) -> Option<Value> {
    match attribute {
        "current_size" => Some(json!(stack.resources.len())),
        "refs" => Some(stack.resources.values().map(|member| json!(member.physical)).collect()),
        "refs_map" => Some(
            stack
                .resources
                .values()
                .map(|member| (member.name.clone(), json!(member.physical)))
                .collect::<Map<_, _>>()
                .into(),
        ),
        "outputs" => {
            let told = stack.resources.values().map(|member| {
                (member.name.clone(), nested(member.physical).unwrap_or_else(|| member.attributes.clone()))
            });
            Some(Value::Object(told.collect()))
        }
        "outputs_list" => {
            let told = stack
                .resources
                .values()
                .map(|member| nested(member.physical).unwrap_or_else(|| member.attributes.clone()));
            Some(told.collect())
        }
        _ => None,
    }
}
