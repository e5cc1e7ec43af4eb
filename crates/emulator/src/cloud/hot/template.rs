//! Templates as they are written.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{HotError, functions, kind_of};

/// Longest template, in bytes.
const LONGEST: usize = 512 << 10;
/// Most resources of one template.
const MOST_RESOURCES: usize = 1000;
/// Deepest nesting of values.
const DEEPEST: usize = 60;

/// A template.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::cloud) struct Template {
    /// What it says of itself.
    pub(in crate::cloud) description: String,
    /// Its parameters.
    pub(in crate::cloud) parameters: BTreeMap<String, Parameter>,
    /// Its conditions, not evaluated.
    pub(in crate::cloud) conditions: BTreeMap<String, Value>,
    /// Its resources.
    pub(in crate::cloud) resources: BTreeMap<String, Definition>,
    /// Its outputs, not evaluated: `value` and `description`.
    pub(in crate::cloud) outputs: BTreeMap<String, (Value, String)>,
}

/// A parameter.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cloud) struct Parameter {
    /// `string`, `number`, `json`, `comma_delimited_list` or `boolean`.
    pub(in crate::cloud) kind: String,
    /// What it is unless somebody says something else.
    pub(in crate::cloud) default: Option<Value>,
    /// Whether its value is not shown.
    pub(in crate::cloud) hidden: bool,
    /// What it has to keep to.
    pub(in crate::cloud) constraints: Vec<Map<String, Value>>,
}

/// A resource as a template defines it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::cloud) struct Definition {
    /// Its type.
    pub(in crate::cloud) kind: String,
    /// Its properties, not evaluated.
    pub(in crate::cloud) properties: Map<String, Value>,
    /// Its metadata, not evaluated.
    pub(in crate::cloud) metadata: Value,
    /// What it needs beside what its properties refer to.
    pub(in crate::cloud) depends_on: BTreeSet<String>,
    /// The condition under which it is there.
    pub(in crate::cloud) condition: Option<Value>,
    /// Whether its properties are values, in which nothing is to be evaluated any more.
    pub(in crate::cloud) literal: bool,
}

/// Reads the text of a template, or of an environment, to a value.
pub(in crate::cloud) fn parse_text(text: &str) -> Result<Value, HotError> {
    if text.len() > LONGEST {
        return Err(HotError::new(
            "template",
            format!("has {} bytes; at most {LONGEST} are read", text.len()),
        ));
    }
    let read = if text.trim_start().starts_with('{') {
        serde_json::from_str(text)
            .or_else(|_| serde_saphyr::from_str(text).map_err(|error| error.without_snippet().to_string()))
    } else {
        serde_saphyr::from_str(text).map_err(|error| error.without_snippet().to_string())
    };
    let value: Value = read.map_err(|reason| HotError::new("template", format!("is no YAML: {reason}")))?;
    if depth_exceeds(&value, DEEPEST) {
        return Err(HotError::new("template", format!("is nested deeper than {DEEPEST} levels")));
    }
    Ok(value)
}

fn depth_exceeds(value: &Value, left: usize) -> bool {
    match value {
        Value::Array(list) => left == 0 || list.iter().any(|item| depth_exceeds(item, left - 1)),
        Value::Object(map) => left == 0 || map.values().any(|item| depth_exceeds(item, left - 1)),
        _ => false,
    }
}

impl Template {
    /// Reads a template out of a value, or out of a text.
    ///
    /// # Errors
    /// It is no HOT template, or says something that is not understood.
    pub(in crate::cloud) fn parse(document: &Value) -> Result<Self, HotError> {
        let parsed;
        let document = match document {
            Value::String(text) => {
                parsed = parse_text(text)?;
                &parsed
            }
            other => other,
        };
        let map = as_map(document, "template")?;
        check_version(map)?;
        let mut template = Self::default();
        for (key, value) in map {
            match key.as_str() {
                "heat_template_version" | "parameter_groups" => {}
                "description" => template.description = super::text_of(value),
                "parameters" => template.parameters = entries(key, value, parameter)?,
                "conditions" => template.conditions = entries(key, value, |_, value| Ok(value.clone()))?,
                "resources" => template.resources = entries(key, value, definition)?,
                "outputs" => template.outputs = entries(key, value, output)?,
                other => {
                    return Err(HotError::new(
                        other,
                        "is no section of a template; there are heat_template_version, description, parameter_groups, parameters, conditions, \
                         resources and outputs",
                    ));
                }
            }
        }
        if template.resources.len() > MOST_RESOURCES {
            let found = template.resources.len();
            return Err(HotError::new("resources", format!("{found} are more than {MOST_RESOURCES}")));
        }
        template.check_references()?;
        Ok(template)
    }

    /// Whatever the resources refer to must be there.
    fn check_references(&self) -> Result<(), HotError> {
        for (name, definition) in &self.resources {
            let path = format!("resources.{name}");
            for needed in definition.needs() {
                if !self.resources.contains_key(&needed) {
                    return Err(HotError::new(
                        path,
                        format!(
                            "The specified reference \"{needed}\" (in {name}) is incorrect: the template has no such resource"
                        ),
                    ));
                }
            }
        }
        for (name, (value, _)) in &self.outputs {
            let mut found = BTreeSet::new();
            functions::references(value, &mut found);
            if let Some(missing) = found.iter().find(|needed| !self.resources.contains_key(*needed)) {
                return Err(HotError::new(
                    format!("outputs.{name}"),
                    format!(
                        "The specified reference \"{missing}\" is incorrect: the template has no such resource"
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Names of the resources in an order in which each follows those that it needs; of several that could be next, the first by name.
    ///
    /// # Errors
    /// Some need each other in a circle.
    pub(in crate::cloud) fn order(&self) -> Result<Vec<String>, HotError> {
        let mut needs: BTreeMap<&String, BTreeSet<String>> =
            self.resources.iter().map(|(name, definition)| (name, definition.needs())).collect();
        self.put_subnets_first(&mut needs);
        let mut done: BTreeSet<&String> = BTreeSet::new();
        let mut order = Vec::with_capacity(needs.len());
        while order.len() < needs.len() {
            let ready: Vec<&String> = needs
                .iter()
                .filter(|(name, needed)| !done.contains(*name) && needed.iter().all(|one| done.contains(one)))
                .map(|(name, _)| *name)
                .collect();
            if ready.is_empty() {
                let left: Vec<&str> =
                    needs.keys().filter(|name| !done.contains(*name)).map(|name| name.as_str()).collect();
                return Err(HotError::new(
                    "resources",
                    format!("Circular Dependency Found: {}", left.join(", ")),
                ));
            }
            order.extend(ready.iter().map(|name| (*name).clone()));
            done.extend(ready);
        }
        Ok(order)
    }
}

impl Template {
    /// What has an address in a network cannot come before the network's subnet, though it need not name it.
    fn put_subnets_first(&self, needs: &mut BTreeMap<&String, BTreeSet<String>>) {
        const UNDERNEATH: [&str; 4] =
            ["OS::Neutron::Net", "OS::Neutron::Subnet", "OS::Neutron::SecurityGroup", "OS::Cinder::Volume"];
        let is = |name: &String, kinds: &[&str]| {
            self.resources.get(name).is_some_and(|definition| kinds.contains(&definition.kind.as_str()))
        };
        let subnets: Vec<String> =
            self.resources.keys().filter(|name| is(name, &["OS::Neutron::Subnet"])).cloned().collect();
        for (name, needed) in needs.iter_mut().filter(|(name, _)| !is(name, &UNDERNEATH)) {
            needed.extend(subnets.iter().filter(|subnet| subnet != name).cloned());
        }
    }
}

impl Definition {
    /// Names of the resources that it needs.
    pub(in crate::cloud) fn needs(&self) -> BTreeSet<String> {
        let mut found = self.depends_on.clone();
        if !self.literal {
            self.properties.values().for_each(|value| functions::references(value, &mut found));
            functions::references(&self.metadata, &mut found);
        }
        found
    }
}

fn check_version(map: &Map<String, Value>) -> Result<(), HotError> {
    if map.contains_key("AWSTemplateFormatVersion") || map.contains_key("HeatTemplateFormatVersion") {
        return Err(HotError::new(
            "template",
            "is a CloudFormation template; only heat_template_version is understood",
        ));
    }
    let version = map.get("heat_template_version").map(super::text_of).unwrap_or_default();
    let dated = version.len() >= 10 && version.starts_with("20");
    let named =
        ["newton", "ocata", "pike", "queens", "rocky", "stein", "train", "ussuri", "victoria", "wallaby"];
    if dated || named.contains(&version.as_str()) {
        return Ok(());
    }
    Err(HotError::new(
        "heat_template_version",
        format!("{version:?} is no version such as 2013-05-23 or wallaby"),
    ))
}

fn as_map<'a>(value: &'a Value, path: &str) -> Result<&'a Map<String, Value>, HotError> {
    value.as_object().ok_or_else(|| HotError::new(path, format!("is {}, but must be a map", kind_of(value))))
}

fn entries<T>(
    section: &str,
    value: &Value,
    read: impl Fn(&str, &Value) -> Result<T, HotError>,
) -> Result<BTreeMap<String, T>, HotError> {
    if value.is_null() {
        return Ok(BTreeMap::new());
    }
    let map = as_map(value, section)?;
    map.iter().map(|(name, value)| Ok((name.clone(), read(&format!("{section}.{name}"), value)?))).collect()
}

fn parameter(path: &str, value: &Value) -> Result<Parameter, HotError> {
    let map = as_map(value, path)?;
    let kind = map.get("type").map(super::text_of).unwrap_or_default();
    if !matches!(kind.as_str(), "string" | "number" | "json" | "comma_delimited_list" | "boolean") {
        return Err(HotError::new(
            format!("{path}.type"),
            format!("{kind:?} is none of string, number, json, comma_delimited_list and boolean"),
        ));
    }
    let mut constraints = Vec::new();
    for (key, value) in map {
        match key.as_str() {
            "type" | "default" | "hidden" | "label" | "description" | "immutable" | "tags" => {}
            "constraints" => {
                let list = value
                    .as_array()
                    .ok_or_else(|| HotError::new(format!("{path}.constraints"), "must be a list of maps"))?;
                for one in list {
                    constraints.push(as_map(one, &format!("{path}.constraints"))?.clone());
                }
            }
            other => return Err(HotError::new(format!("{path}.{other}"), "is no key of a parameter")),
        }
    }
    let hidden =
        map.get("hidden").is_some_and(|hidden| matches!(super::text_of(hidden).as_str(), "true" | "True"));
    Ok(Parameter { kind, default: map.get("default").cloned(), hidden, constraints })
}

fn definition(path: &str, value: &Value) -> Result<Definition, HotError> {
    let map = as_map(value, path)?;
    let mut definition = Definition::default();
    for (key, value) in map {
        match key.as_str() {
            "type" => definition.kind = super::text_of(value),
            "properties" if value.is_null() => {}
            "properties" => definition.properties = as_map(value, &format!("{path}.properties"))?.clone(),
            "metadata" => definition.metadata = value.clone(),
            "condition" => definition.condition = Some(value.clone()),
            "depends_on" => definition.depends_on = depends_on(path, value)?,
            // Group updates are not rolled, and nothing is retained.
            "update_policy" => {}
            "deletion_policy" if super::text_of(value).eq_ignore_ascii_case("delete") => {}
            other => {
                return Err(HotError::new(
                    format!("{path}.{other}"),
                    "is not understood; there are type, properties, metadata, depends_on, condition, update_policy and deletion_policy: Delete",
                ));
            }
        }
    }
    if definition.kind.is_empty() {
        return Err(HotError::new(path, "has no type"));
    }
    Ok(definition)
}

fn depends_on(path: &str, value: &Value) -> Result<BTreeSet<String>, HotError> {
    match value {
        Value::String(one) => Ok([one.clone()].into()),
        Value::Array(list) => Ok(list.iter().map(super::text_of).collect()),
        other => Err(HotError::new(
            format!("{path}.depends_on"),
            format!("is {}, but must be a name or a list of names", kind_of(other)),
        )),
    }
}

fn output(path: &str, value: &Value) -> Result<(Value, String), HotError> {
    let map = as_map(value, path)?;
    let description = map.get("description").map(super::text_of).unwrap_or_default();
    let value = map.get("value").ok_or_else(|| HotError::new(path, "has no value"))?;
    Ok((value.clone(), description))
}
