//! The equivalent of DefaultUserData: VDUs in groups whose size changes.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    Operation, Situation, StackRequest, UserData, UserDataError,
    links::Attachment,
    nfv::{apply_managed_links, asked_for, point, section},
    sections,
    views::{current, machines},
};
use crate::{vnfd::Flavour, yaml};

/// Tacker's DefaultUserData.
#[derive(Debug, Clone, Copy)]
pub struct DefaultUserData;

impl UserData for DefaultUserData {
    fn stack_request(
        &self,
        operation: Operation,
        situation: &Situation<'_>,
    ) -> Result<StackRequest, UserDataError> {
        let asked = asked_for(&situation.base_hot()?.top.to_json());
        match operation {
            Operation::Instantiate => instantiate(situation, &asked),
            Operation::Scale => scale(situation, |vdu| situation.wanted(vdu)),
            Operation::ScaleRollback => scale(situation, |vdu| current(situation.instance, vdu)),
            Operation::Heal => Ok(StackRequest::change(json!({}))),
            Operation::ChangeExternalConnectivity => {
                Ok(StackRequest::change(json!({"CP": points(&asked, |name| situation.requested(name))})))
            }
            Operation::ChangeExternalConnectivityRollback => {
                Ok(StackRequest::change(json!({"CP": points(&asked, |name| situation.attached(name))})))
            }
            Operation::ChangePackage => {
                let assets = |name: &str| (situation.flavor(name), situation.image(name));
                let machines = machines_with(&asked, assets);
                Ok(StackRequest::change(sections(machines, points(&asked, |name| situation.requested(name)))))
            }
            Operation::ChangePackageRollback => {
                let (flavors, images) = situation.stored_assets();
                let stored =
                    |map: &BTreeMap<&str, &Value>, name: &str| map.get(name)?.as_str().map(str::to_owned);
                let machines = machines_with(&asked, |name| (stored(&flavors, name), stored(&images, name)));
                Ok(StackRequest::change(sections(machines, points(&asked, |name| situation.attached(name)))))
            }
        }
    }
}

fn instantiate(situation: &Situation<'_>, asked: &Value) -> Result<StackRequest, UserDataError> {
    let hot = situation.base_hot()?;
    let mut nfv = asked.clone();
    for (name, members) in nfv.get_mut("VDU").and_then(Value::as_object_mut).into_iter().flatten() {
        let Some(members) = members.as_object_mut() else { continue };
        for (member, value) in members {
            *value = match member.as_str() {
                "computeFlavourId" => json!(situation.flavor(name)),
                "vcImageId" => json!(situation.image(name)),
                "locationConstraints" => json!(situation.zone(name)),
                "desired_capacity" => json!(situation.wanted(name)),
                _ => continue,
            };
        }
    }
    for (name, members) in nfv.get_mut("CP").and_then(Value::as_object_mut).into_iter().flatten() {
        if let Some(given) = point(members, situation.requested(name)) {
            given.into_iter().for_each(|(member, value)| members[member] = value);
        } else if members.get("fixed_ips").is_some() {
            members["fixed_ips"] = json!([]);
        }
    }
    let links = situation.managed_links();
    let (capacities, change) = fixed_capacities(situation.flavour()?, |vdu| situation.wanted(vdu));
    let template = if links.is_empty() && !change {
        hot.top.text.clone()
    } else {
        let mut template = hot.top.to_json();
        apply_managed_links(&mut template, &links);
        yaml::write_json(&super::merge_patch(template, &capacities))
    };
    let mut parameters = Map::new();
    if hot.top.root.at(&["parameters", "nfv"]).is_some() {
        parameters.insert("nfv".to_owned(), situation.merge_stated(nfv));
    }
    Ok(StackRequest { template: Some(template), parameters, files: hot.files(), existing: false })
}

/// Sizes of groups that are numbers in the template: what makes them the wanted ones, and whether that changes anything.
pub(super) fn fixed_capacities(flavour: &Flavour, count: impl Fn(&str) -> u32) -> (Value, bool) {
    let mut resources = Map::new();
    let mut change = false;
    for group in flavour.groups() {
        if !group.capacity_parameter {
            let wanted = count(&group.vdu);
            change |= group.fixed_capacity != Some(wanted);
            resources.insert(group.name, json!({"properties": {"desired_capacity": wanted}}));
        }
    }
    (json!({"resources": resources}), change)
}

/// New sizes of groups: by their parameter, or, where the size is a number in the template, by a change of the template.
pub(super) fn scale(
    situation: &Situation<'_>,
    count: impl Fn(&str) -> u32,
) -> Result<StackRequest, UserDataError> {
    let (flavour, hot) = (situation.flavour()?, situation.base_hot()?);
    let asked = section(&asked_for(&hot.top.to_json()), "VDU");
    let by_parameter =
        |name: &str| asked.get(name).is_some_and(|members| members.get("desired_capacity").is_some());
    let names = asked.keys().filter(|name| by_parameter(name));
    let capacities: Map<String, Value> =
        names.map(|name| (name.clone(), json!({"desired_capacity": count(name)}))).collect();
    let (template, _) = fixed_capacities(flavour, &count);
    let groups = flavour.groups();
    let lists = ["addResources", "removeResources"];
    for machine in lists.iter().flat_map(|list| machines(situation.grant_request, list)) {
        let in_group = groups.iter().any(|group| group.vdu == machine.vdu && !group.capacity_parameter);
        if !by_parameter(machine.vdu) && !in_group {
            return Err(UserDataError::NotScalable(machine.vdu.to_owned()));
        }
    }
    let mut request = StackRequest::change(json!({"VDU": capacities}));
    if template["resources"].as_object().is_some_and(|resources| !resources.is_empty()) {
        request.template = Some(yaml::write_json(&template));
    }
    Ok(request)
}

/// Connection points that are attached somewhere, with what the template asks for.
pub(super) fn points<'a>(
    asked: &Value,
    attachment: impl Fn(&str) -> Option<Attachment<'a>>,
) -> Map<String, Value> {
    let asked = section(asked, "CP");
    let points = asked.iter().filter_map(|(name, members)| {
        let given = point(members, attachment(name))?;
        Some((name.clone(), Value::Object(given)))
    });
    points.collect()
}

/// VDUs with the flavor and image that they are given, where the template asks for them.
fn machines_with(
    asked: &Value,
    assets: impl Fn(&str) -> (Option<String>, Option<String>),
) -> Map<String, Value> {
    let mut machines = Map::new();
    for (name, members) in section(asked, "VDU") {
        let (flavor, image) = assets(&name);
        let mut given = Map::new();
        for (member, value) in [("computeFlavourId", flavor), ("vcImageId", image)] {
            if members.get(member).is_some() {
                given.insert(member.to_owned(), json!(value));
            }
        }
        if !given.is_empty() {
            machines.insert(name, Value::Object(given));
        }
    }
    machines
}
