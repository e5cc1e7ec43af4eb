//! The equivalent of StandardUserData: a resource for each virtual machine, `VDU-INDEX`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{
    Operation, Situation, StackRequest, UserData, UserDataError,
    links::Attachment,
    nfv::{apply_managed_links, asked_for, point, section},
    views::{current, items, machines, text},
};
use crate::{hot::BaseHot, yaml};

/// Tacker's StandardUserData.
#[derive(Debug, Clone, Copy)]
pub struct StandardUserData;

impl UserData for StandardUserData {
    fn stack_request(
        &self,
        operation: Operation,
        situation: &Situation<'_>,
    ) -> Result<StackRequest, UserDataError> {
        match operation {
            Operation::Instantiate => instantiate(situation),
            Operation::Scale => scale(situation),
            Operation::ScaleRollback => scale_rollback(situation),
            Operation::ChangeExternalConnectivity => change_connectivity(situation),
            Operation::ChangeExternalConnectivityRollback => {
                Ok(StackRequest::change(stored(situation)?.clone()))
            }
            Operation::Heal => heal(situation),
            Operation::ChangePackage => change_package(situation),
            Operation::ChangePackageRollback => change_package_rollback(situation),
        }
    }
}

/// The template with a place for each virtual machine.
struct Plan<'a> {
    hot: &'a BaseHot,
    template: Value,
    /// Resources of VDUs, which are taken out of the template.
    patterns: BTreeMap<String, Value>,
}

impl<'a> Plan<'a> {
    fn new(situation: &Situation<'a>) -> Result<Self, UserDataError> {
        let (flavour, hot) = (situation.flavour()?, situation.base_hot()?);
        let mut template = hot.top.to_json();
        let mut patterns = BTreeMap::new();
        for vdu in flavour.vdus.keys() {
            let resources = template.get_mut("resources").and_then(Value::as_object_mut);
            let Some(pattern) = resources.and_then(|resources| resources.remove(vdu)) else {
                let message = format!(
                    "{}: the template has no resource `{vdu}`; StandardUserData needs one for each VDU, by its name",
                    hot.top.path
                );
                return Err(UserDataError::Malformed(message));
            };
            patterns.insert(vdu.clone(), pattern);
        }
        Ok(Self { hot, template, patterns })
    }

    /// Adds the resource of a virtual machine. What is directly asked of `nfv` is asked of `NAME-INDEX`.
    fn add(&mut self, vdu: &str, index: u64) -> Option<Value> {
        let mut resource = self.patterns.get(vdu)?.clone();
        let properties = resource.get_mut("properties").and_then(Value::as_object_mut);
        for property in properties.into_iter().flat_map(Map::values_mut) {
            let Some(path) = property.get_mut("get_param").and_then(Value::as_array_mut) else { continue };
            if path.len() >= 4
                && let Some(name) = path[2].as_str()
            {
                path[2] = Value::String(indexed(name, index));
            }
        }
        self.template["resources"][indexed(vdu, index)] = resource.clone();
        Some(resource)
    }

    /// Adds those that come; gives the zone of each by name.
    fn add_coming(&mut self, situation: &Situation<'_>) -> BTreeMap<String, Option<String>> {
        let mut zones = BTreeMap::new();
        for (vdu, index, definition) in coming(situation) {
            if self.add(vdu, index).is_some() {
                let zone = definition.and_then(|definition| situation.zone_of(definition));
                zones.insert(indexed(vdu, index), zone);
            }
        }
        zones
    }

    /// Adds those that the instance has; gives their resources by name, with the id of the VIM.
    fn add_present(&mut self, situation: &Situation<'_>) -> BTreeMap<String, (Value, String)> {
        let mut present = BTreeMap::new();
        for vnfc in items(situation.instance, "/instantiatedVnfInfo/vnfcResourceInfo") {
            let (Some(vdu), Some(index)) = (text(vnfc, "vduId"), index_of(vnfc)) else { continue };
            let id = vnfc.pointer("/computeResource/resourceId").and_then(Value::as_str).unwrap_or_default();
            if let Some(resource) = self.add(vdu, index) {
                present.insert(indexed(vdu, index), (resource, id.to_owned()));
            }
        }
        present
    }
}

fn indexed(name: &str, index: u64) -> String {
    format!("{name}-{index}")
}

fn bare(name: &str) -> &str {
    name.rsplit_once('-').map_or(name, |(bare, _)| bare)
}

/// Index of a virtual machine among those of its VDU.
fn index_of(vnfc: &Value) -> Option<u64> {
    let index = vnfc.pointer("/metadata/vdu_idx")?;
    index.as_u64().or_else(|| index.as_str()?.parse().ok())
}

/// Virtual machines that come: VDU, index, id of the definition. Indexes go on from the number of those that are there, past those in use.
fn coming<'a>(situation: &Situation<'a>) -> Vec<(&'a str, u64, Option<&'a str>)> {
    let mut used: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for vnfc in items(situation.instance, "/instantiatedVnfInfo/vnfcResourceInfo") {
        if let (Some(vdu), Some(index)) = (text(vnfc, "vduId"), index_of(vnfc)) {
            used.entry(vdu).or_default().insert(index);
        }
    }
    let mut coming = Vec::new();
    for machine in machines(situation.grant_request, "addResources") {
        let used = used.entry(machine.vdu).or_default();
        let start = u64::from(current(situation.instance, machine.vdu));
        let index = (start..).find(|index| !used.contains(index)).unwrap_or(start);
        used.insert(index);
        coming.push((machine.vdu, index, text(machine.definition, "id")));
    }
    coming
}

/// Virtual machines that go: their resources.
fn going(situation: &Situation<'_>) -> Result<Vec<String>, UserDataError> {
    let vnfcs = items(situation.instance, "/instantiatedVnfInfo/vnfcResourceInfo");
    let names = machines(situation.grant_request, "removeResources").into_iter().map(|machine| {
        let id = machine.definition.pointer("/resource/resourceId").and_then(Value::as_str);
        let vnfc = vnfcs.iter().find(|vnfc| {
            id.is_some() && vnfc.pointer("/computeResource/resourceId").and_then(Value::as_str) == id
        });
        let index = vnfc.and_then(index_of);
        index.map(|index| indexed(machine.vdu, index)).ok_or_else(|| {
            let id = id.unwrap_or_default();
            UserDataError::Malformed(format!(
                "the virtual machine `{id}`, which is to go, is not of the instance, or has no `vdu_idx`"
            ))
        })
    });
    names.collect()
}

fn stored<'a>(situation: &Situation<'a>) -> Result<&'a Value, UserDataError> {
    let missing = "the instance has no `metadata.nfv`, which StandardUserData needs";
    situation.stored_nfv().ok_or_else(|| UserDataError::Malformed(missing.to_owned()))
}

/// Values of virtual machines and ports by their indexed names.
fn values<'a>(
    asked: &Value,
    situation: &Situation<'_>,
    zones: &BTreeMap<String, Option<String>>,
    attachment: impl Fn(&str) -> Option<Attachment<'a>>,
) -> Value {
    let mut nfv = asked.clone();
    for (name, members) in nfv.get_mut("VDU").and_then(Value::as_object_mut).into_iter().flatten() {
        let bare = bare(name);
        for (member, value) in members.as_object_mut().into_iter().flatten() {
            *value = match member.as_str() {
                "computeFlavourId" => json!(situation.flavor(bare)),
                "vcImageId" => json!(situation.image(bare)),
                "locationConstraints" => json!(zones.get(name).cloned().flatten()),
                _ => continue,
            };
        }
    }
    for (name, members) in nfv.get_mut("CP").and_then(Value::as_object_mut).into_iter().flatten() {
        if let Some(given) = point(members, attachment(bare(name))) {
            given.into_iter().for_each(|(member, value)| members[member] = value);
        } else if members.get("fixed_ips").is_some() {
            members["fixed_ips"] = json!([]);
        }
    }
    nfv
}

fn instantiate(situation: &Situation<'_>) -> Result<StackRequest, UserDataError> {
    let mut plan = Plan::new(situation)?;
    let zones = plan.add_coming(situation);
    let nfv = values(&asked_for(&plan.template), situation, &zones, |name| situation.requested(name));
    apply_managed_links(&mut plan.template, &situation.managed_links());
    Ok(StackRequest {
        template: Some(yaml::write_json(&plan.template)),
        parameters: Map::from_iter([("nfv".to_owned(), situation.merge_stated(nfv))]),
        files: plan.hot.files(),
        existing: false,
    })
}

/// More and fewer at once, as a change of the template; values only of what comes.
fn scale(situation: &Situation<'_>) -> Result<StackRequest, UserDataError> {
    let going = going(situation)?;
    let mut request = StackRequest { existing: true, ..StackRequest::default() };
    let mut template = json!({"resources": {}});
    if !machines(situation.grant_request, "addResources").is_empty() {
        let mut plan = Plan::new(situation)?;
        let zones = plan.add_coming(situation);
        let mut nfv = values(&asked_for(&plan.template), situation, &zones, |name| situation.attached(name));
        drop_nulls(&mut nfv);
        apply_managed_links(&mut plan.template, &situation.managed_links_of_instance());
        request.parameters.insert("nfv".to_owned(), situation.merge_stated(nfv));
        template = plan.template;
    }
    for name in going {
        template["resources"][name] = Value::Null;
    }
    request.template = Some(yaml::write_json(&template));
    Ok(request)
}

/// Members of virtual machines and ports that have no value; with a merge they would take away what the stack has.
fn drop_nulls(nfv: &mut Value) {
    let sections = nfv.as_object_mut().into_iter().flat_map(Map::values_mut);
    for members in sections.filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
        if let Some(members) = members.as_object_mut() {
            members.retain(|_, value| !value.is_null());
        }
    }
}

fn scale_rollback(situation: &Situation<'_>) -> Result<StackRequest, UserDataError> {
    situation.flavour()?;
    let resources: Map<String, Value> =
        coming(situation).into_iter().map(|(vdu, index, _)| (indexed(vdu, index), Value::Null)).collect();
    let template = Some(yaml::write_json(&json!({"resources": resources})));
    Ok(StackRequest { template, existing: true, ..StackRequest::default() })
}

/// Ports, by indexed name, that the request attaches elsewhere.
fn requested_points(asked: &Value, situation: &Situation<'_>) -> Map<String, Value> {
    super::default::points(asked, |name| situation.requested(bare(name)))
}

fn change_connectivity(situation: &Situation<'_>) -> Result<StackRequest, UserDataError> {
    let mut plan = Plan::new(situation)?;
    plan.add_present(situation);
    let points = requested_points(&asked_for(&plan.template), situation);
    Ok(StackRequest::change(situation.merge_stated(json!({"CP": points}))))
}

fn heal(situation: &Situation<'_>) -> Result<StackRequest, UserDataError> {
    let mut vdus = section(stored(situation)?, "VDU");
    for name in going(situation)? {
        if let Some(image) = situation.granted_image(bare(&name)) {
            let members = vdus.entry(name).or_insert_with(|| json!({}));
            members["vcImageId"] = json!(image);
        }
    }
    Ok(StackRequest::change(situation.merge_stated(json!({"VDU": vdus}))))
}

fn change_package(situation: &Situation<'_>) -> Result<StackRequest, UserDataError> {
    let stored = stored(situation)?;
    let mut plan = Plan::new(situation)?;
    let present = plan.add_present(situation);
    let removed = machines(situation.grant_request, "removeResources");
    let targets: BTreeSet<&str> = removed
        .iter()
        .filter_map(|machine| machine.definition.pointer("/resource/resourceId").and_then(Value::as_str))
        .collect();
    let replaced = present.iter().filter(|(_, (_, id))| targets.contains(id.as_str()));
    let replaced: Map<String, Value> =
        replaced.map(|(name, (resource, _))| (name.clone(), resource.clone())).collect();
    let mut vdus = section(stored, "VDU");
    for (name, members) in section(&asked_for(&json!({"resources": replaced})), "VDU") {
        let given = vdus.entry(name.clone()).or_insert_with(|| json!({}));
        if members.get("computeFlavourId").is_some() {
            given["computeFlavourId"] = json!(situation.flavor(bare(&name)));
        }
        if members.get("vcImageId").is_some() {
            given["vcImageId"] = json!(situation.image(bare(&name)));
        }
    }
    let asked = asked_for(&plan.template);
    let requested = requested_points(&asked, situation);
    let before = section(stored, "CP");
    let mut points = Map::new();
    for name in section(&asked, "CP").into_iter().map(|(name, _)| name) {
        if let Some(given) = requested.get(&name).or_else(|| before.get(&name)) {
            points.insert(name, given.clone());
        }
    }
    apply_managed_links(&mut plan.template, &situation.managed_links());
    let nfv = situation.merge_stated(super::sections(vdus, points));
    Ok(StackRequest {
        template: Some(yaml::write_json(&plan.template)),
        parameters: Map::from_iter([("nfv".to_owned(), nfv)]),
        files: plan.hot.files(),
        existing: false,
    })
}

fn change_package_rollback(situation: &Situation<'_>) -> Result<StackRequest, UserDataError> {
    let nfv = stored(situation)?.clone();
    let mut plan = Plan::new(situation)?;
    plan.add_present(situation);
    let mut links = situation.managed_links_of_instance();
    links.extend(situation.managed_links());
    apply_managed_links(&mut plan.template, &links);
    Ok(StackRequest {
        template: Some(yaml::write_json(&plan.template)),
        parameters: Map::from_iter([("nfv".to_owned(), nfv)]),
        files: plan.hot.files(),
        existing: false,
    })
}
