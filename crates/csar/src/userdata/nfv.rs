//! The parameter `nfv`: which values a template asks for, and what they are.

use serde_json::{Map, Value, json};

use super::{Situation, links::Attachment};

/// A patch of RFC 7396 applied.
pub fn merge_patch(target: Value, patch: &Value) -> Value {
    let Value::Object(changes) = patch else { return patch.clone() };
    let mut members = match target {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    for (name, change) in changes {
        if change.is_null() {
            members.remove(name);
        } else {
            let before = members.remove(name).unwrap_or(Value::Null);
            members.insert(name.clone(), merge_patch(before, change));
        }
    }
    Value::Object(members)
}

/// What the resources of a template ask for: `nfv` as nested maps that end in nulls.
pub(super) fn asked_for(template: &Value) -> Value {
    let mut nfv = json!({});
    let resources = template.get("resources").and_then(Value::as_object);
    for resource in resources.into_iter().flat_map(Map::values) {
        if let Some(properties) = resource.get("properties") {
            collect(properties, &mut nfv);
        }
    }
    nfv
}

fn collect(value: &Value, nfv: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::Array(path) if name == "get_param" => ask(path, nfv),
                    _ if name == "get_param" => {}
                    _ => collect(value, nfv),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, nfv)),
        _ => {}
    }
}

fn ask(path: &[Value], nfv: &mut Value) {
    let [first, middle @ .., last] = path else { return };
    if path.len() < 4 || first != "nfv" {
        return;
    }
    let mut place = nfv;
    for item in middle {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[key(item)];
    }
    if !place.is_object() {
        *place = json!({});
    }
    let place = &mut place[key(last)];
    if !place.is_object() {
        *place = Value::Null;
    }
}

fn key(item: &Value) -> String {
    item.as_str().map_or_else(|| item.to_string(), str::to_owned)
}

/// A section of `nfv`: `VDU` or `CP`.
pub(super) fn section(nfv: &Value, name: &str) -> Map<String, Value> {
    nfv.get(name).and_then(Value::as_object).cloned().unwrap_or_default()
}

/// Networks that stand in the place of virtual links: references become the networks, and the links with their subnets go.
pub(super) fn apply_managed_links(template: &mut Value, links: &[(&str, &str)]) {
    for (link, network) in links {
        let reference = json!({"get_resource": link});
        let Some(resources) = template.get_mut("resources").and_then(Value::as_object_mut) else { return };
        resources.retain(|name, resource| {
            let subnet = resource.get("type").is_some_and(|kind| kind == "OS::Neutron::Subnet");
            let of_link = resource.pointer("/properties/network") == Some(&reference);
            name != link && !(subnet && of_link)
        });
        for resource in resources.values_mut() {
            replace(resource, &reference, network);
        }
    }
}

fn replace(value: &mut Value, reference: &Value, network: &str) {
    if value == reference {
        *value = Value::String(network.to_owned());
        return;
    }
    match value {
        Value::Object(members) => members.values_mut().for_each(|member| replace(member, reference, network)),
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, reference, network)),
        _ => {}
    }
}

/// What a connection point is given, of what is asked for. `None` if it is attached nowhere.
pub(super) fn point(asked: &Value, attachment: Option<Attachment<'_>>) -> Option<Map<String, Value>> {
    let attachment = attachment?;
    let mut members = Map::new();
    if asked.get("network").is_some() {
        members.insert("network".to_owned(), attachment.network.into());
    }
    if let Some(asked) = asked.get("fixed_ips") {
        members.insert("fixed_ips".to_owned(), fixed_ips(asked, attachment.fixed_ips(<[Value]>::first)));
    }
    Some(members)
}

/// Addresses, of which only those indexes and members are given that are asked for; all if the list as a whole is.
fn fixed_ips(asked: &Value, given: Vec<Value>) -> Value {
    let Some(indexes) = asked.as_object() else { return Value::Array(given) };
    let mut list = Vec::new();
    for (index, given) in given.into_iter().enumerate() {
        let Some(wanted) = indexes.get(&index.to_string()) else { break };
        let members = wanted.as_object().into_iter().flat_map(Map::keys);
        let members = members.map(|name| (name.clone(), given.get(name).cloned().unwrap_or(Value::Null)));
        list.push(Value::Object(members.collect()));
    }
    Value::Array(list)
}

impl Situation<'_> {
    /// What the request and the grant state, merged into what was found.
    pub(super) fn merge_stated(&self, nfv: Value) -> Value {
        self.stated_nfv().fold(nfv, merge_patch)
    }
}
