//! The equivalent of KubernetesClusterUserData, which Tacker's packages of Kubernetes clusters have: version 1, with `flavor` and `image` for VDUs.
//!
//! The class itself only knows how to instantiate; what the other operations ask for follows the same names.

use serde_json::{Map, Value, json};

use super::{
    Operation, Situation, StackRequest, UserData, UserDataError,
    default::{fixed_capacities, scale},
    links::Attachment,
    nfv::apply_managed_links,
    sections,
    views::current,
};
use crate::{
    hot::{AUTO_SCALING_GROUP, BaseHot, PORT, SERVER, VOLUME, get_params},
    yaml::{self, Node},
};

/// Tacker's KubernetesClusterUserData.
#[derive(Debug, Clone, Copy)]
pub struct KubernetesClusterUserData;

/// What templates ask for.
#[derive(Debug, Default)]
struct Asked {
    machines: Vec<String>,
    points: Vec<String>,
}

impl UserData for KubernetesClusterUserData {
    fn stack_request(
        &self,
        operation: Operation,
        situation: &Situation<'_>,
    ) -> Result<StackRequest, UserDataError> {
        let asked = Asked::of(situation.base_hot()?);
        let requested = || asked.points(|name| situation.requested(name));
        let attached = || asked.points(|name| situation.attached(name));
        match operation {
            Operation::Instantiate => instantiate(situation, &asked),
            Operation::Scale => scale(situation, |vdu| situation.wanted(vdu)),
            Operation::ScaleRollback => scale(situation, |vdu| current(situation.instance, vdu)),
            Operation::Heal => Ok(StackRequest::change(json!({}))),
            Operation::ChangeExternalConnectivity => Ok(StackRequest::change(json!({"CP": requested()}))),
            Operation::ChangeExternalConnectivityRollback => {
                Ok(StackRequest::change(json!({"CP": attached()})))
            }
            Operation::ChangePackage => {
                let machines =
                    asked.machines(|name| (json!(situation.flavor(name)), json!(situation.image(name))));
                Ok(StackRequest::change(sections(machines, requested())))
            }
            Operation::ChangePackageRollback => {
                let (flavors, images) = situation.stored_assets();
                let stored = |value: Option<&&Value>| value.map_or(Value::Null, |value| (*value).clone());
                let machines = asked.machines(|name| (stored(flavors.get(name)), stored(images.get(name))));
                Ok(StackRequest::change(sections(machines, attached())))
            }
        }
    }
}

fn instantiate(situation: &Situation<'_>, asked: &Asked) -> Result<StackRequest, UserDataError> {
    let hot = situation.base_hot()?;
    let machines = asked.machines(|name| (json!(situation.flavor(name)), json!(situation.image(name))));
    let mut nfv = sections(machines, asked.points(|name| situation.requested(name)));
    // Beside what the original gives: a size that the template asks for.
    for (name, members) in super::nfv::section(&super::nfv::asked_for(&hot.top.to_json()), "VDU") {
        if members.get("desired_capacity").is_some() {
            nfv["VDU"][&name]["desired_capacity"] = json!(situation.wanted(&name));
        }
    }
    let declared = hot.top.root.get("parameters").map_or(&[][..], Node::entries);
    let mut parameters = Map::new();
    for entry in declared {
        let stated =
            situation.request.get("additionalParams").and_then(|parameters| parameters.get(&entry.key));
        if let Some(value) = stated.filter(|value| truthy(value)) {
            parameters.insert(entry.key.clone(), value.clone());
        } else if entry.key == "nfv" {
            parameters.insert(entry.key.clone(), nfv.clone());
        }
    }
    let links = situation.managed_links();
    // The numbers of instances of the level that is instantiated, where the template has others.
    let (capacities, change) = fixed_capacities(situation.flavour()?, |vdu| situation.wanted(vdu));
    let template = if links.is_empty() && !change {
        hot.top.text.clone()
    } else {
        let mut template = hot.top.to_json();
        apply_managed_links(&mut template, &links);
        yaml::write_json(&super::merge_patch(template, &capacities))
    };
    Ok(StackRequest { template: Some(template), parameters, files: hot.files(), existing: false })
}

/// What counts as given in Python.
fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

impl Asked {
    /// Of the templates that declare `nfv`: of servers, ports and volumes, of images of boot volumes, and of members of groups.
    fn of(hot: &BaseHot) -> Self {
        let mut asked = Self::default();
        for template in hot.templates().filter(|template| template.root.at(&["parameters", "nfv"]).is_some())
        {
            for entry in template.resources() {
                let kind = entry.value.get("type").and_then(Node::text).unwrap_or_default();
                let properties = entry.value.get("properties");
                match kind {
                    SERVER | PORT | VOLUME => {
                        asked.direct(properties);
                        let devices =
                            properties.and_then(|properties| properties.get("block_device_mapping_v2"));
                        for device in devices.map_or(&[][..], Node::items) {
                            if let Some(image) = device.get("image") {
                                asked.parameter(image);
                            }
                        }
                    }
                    AUTO_SCALING_GROUP => {
                        asked.direct(
                            properties.and_then(|properties| properties.at(&["resource", "properties"])),
                        );
                    }
                    _ => {}
                }
            }
        }
        asked
    }

    fn direct(&mut self, properties: Option<&Node>) {
        for entry in properties.map_or(&[][..], Node::entries) {
            self.parameter(&entry.value);
        }
    }

    /// `{get_param: [nfv, VDU, NAME, …]}`
    fn parameter(&mut self, value: &Node) {
        if value.get("get_param").is_none() {
            return;
        }
        for list in get_params(value) {
            let [nfv, section, name, _] = list.as_slice() else { continue };
            let names = match section.as_str() {
                "VDU" => &mut self.machines,
                "CP" => &mut self.points,
                _ => continue,
            };
            if nfv == "nfv" && !names.contains(name) {
                names.push(name.clone());
            }
        }
    }

    /// VDUs with flavor and image; what there is none of is left out.
    fn machines(&self, assets: impl Fn(&str) -> (Value, Value)) -> Map<String, Value> {
        let machines = self.machines.iter().map(|name| {
            let (flavor, image) = assets(name);
            let members = [("flavor", flavor), ("image", image)];
            let given = members.into_iter().filter(|(_, value)| !value.is_null());
            (name.clone(), Value::Object(given.map(|(member, value)| (member.to_owned(), value)).collect()))
        });
        machines.collect()
    }

    /// Connection points that are attached somewhere. The last of several fixed addresses counts.
    fn points<'a>(&self, attachment: impl Fn(&str) -> Option<Attachment<'a>>) -> Map<String, Value> {
        let points = self.points.iter().filter_map(|name| {
            let attachment = attachment(name)?;
            let fixed_ips = attachment.fixed_ips(<[Value]>::last);
            Some((name.clone(), json!({"network": attachment.network, "fixed_ips": fixed_ips})))
        });
        points.collect()
    }
}
