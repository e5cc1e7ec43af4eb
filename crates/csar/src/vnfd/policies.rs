//! Policies of a flavour: scaling, instantiation levels, placement.

use std::collections::BTreeMap;

use super::{
    flavour::{Aspect, Level, Placement, Reading, Scope},
    nodes::number,
    types::Policy,
};
use crate::yaml::{Entry, Node, Value};

/// A policy with its name.
struct Named<'a> {
    name: &'a str,
    policy: Policy,
    node: &'a Node,
}

impl<'a> Named<'a> {
    fn property(&self, name: &str) -> Option<&'a Node> {
        self.node.at(&["properties", name])
    }

    fn targets(&self) -> &'a [Node] {
        self.node.get("targets").map_or(&[], Node::items)
    }
}

/// Reads all policies, and checks that they agree with each other.
pub(super) fn read(reading: &mut Reading<'_>) {
    let document = reading.document;
    let section = document.root.at(&["topology_template", "policies"]);
    // A list of mappings with one entry each, or one mapping.
    let entries: Vec<&Entry> = match section.map(|node| &node.value) {
        Some(Value::Sequence(items)) => items.iter().flat_map(Node::entries).collect(),
        Some(Value::Mapping(entries)) => entries.iter().collect(),
        _ => Vec::new(),
    };
    let policies: Vec<Named<'_>> = entries.into_iter().filter_map(|entry| named(reading, entry)).collect();
    let of = |wanted: Policy| policies.iter().filter(move |policy| policy.policy == wanted);
    for policy in of(Policy::ScalingAspects) {
        aspects(reading, policy);
    }
    for policy in of(Policy::Levels) {
        levels(reading, policy);
    }
    for policy in of(Policy::InitialDelta) {
        let node = policy.node.at(&["properties", "initial_delta", "number_of_instances"]);
        let initial = required_number(reading, policy, node, "initial_delta.number_of_instances");
        for_vdus(reading, policy, |vdu| vdu.initial = initial.unwrap_or(vdu.initial));
    }
    for policy in of(Policy::AspectDeltas) {
        aspect_deltas(reading, policy);
    }
    for policy in of(Policy::VduLevels) {
        vdu_levels(reading, policy);
    }
    for policy in &policies {
        match policy.policy {
            Policy::Affinity => placement(reading, policy, false),
            Policy::AntiAffinity => placement(reading, policy, true),
            _ => {}
        }
    }
    for policy in of(Policy::ScalingAspects) {
        check_deltas(reading, policy);
    }
    for policy in of(Policy::Levels) {
        check_counts(reading, policy);
    }
}

fn named<'a>(reading: &mut Reading<'_>, entry: &'a Entry) -> Option<Named<'a>> {
    let Some(type_node) = entry.value.get("type") else {
        reading.error(&entry.value, format!("the policy `{}` has no type", entry.key), "write its type");
        return None;
    };
    let type_name = type_node.text().unwrap_or_default();
    let policy = reading.types.policy(type_name);
    if policy == Policy::Unknown {
        let message = format!("`{}` is of the type `{type_name}`, of which nothing is known", entry.key);
        let advice = "use a type of SOL001, or define this one in `policy_types`, derived from such a type";
        reading.error(type_node, message, advice);
    }
    Some(Named { name: &entry.key, policy, node: &entry.value })
}

/// A number that a policy must have.
fn required_number(
    reading: &mut Reading<'_>,
    policy: &Named<'_>,
    node: Option<&Node>,
    path: &str,
) -> Option<u32> {
    match node {
        Some(node) => number(reading, node),
        None => {
            let message = format!("the policy `{}` has no `{path}`", policy.name);
            reading.error(policy.node, message, "write it");
            None
        }
    }
}

/// Does something for each VDU that a policy is about; others that it names are a problem.
fn for_vdus(reading: &mut Reading<'_>, policy: &Named<'_>, mut action: impl FnMut(&mut super::Vdu)) {
    if policy.targets().is_empty() {
        let message = format!("the policy `{}` has no targets", policy.name);
        reading.error(policy.node, message, "name the VDUs that it is about");
    }
    for target in policy.targets() {
        let name = target.text().unwrap_or_default();
        match reading.flavour.vdus.get_mut(name) {
            Some(vdu) => action(vdu),
            None => {
                let message =
                    format!("the policy `{}` is about `{name}`, which is no VDU of the flavour", policy.name);
                reading.error(target, message, "name VDUs of the flavour");
            }
        }
    }
}

fn aspects(reading: &mut Reading<'_>, policy: &Named<'_>) {
    for entry in policy.property("aspects").map_or(&[][..], Node::entries) {
        let text = |key: &str| entry.value.get(key).and_then(Node::text).map(str::to_owned);
        let max = entry.value.get("max_scale_level");
        let max_level =
            required_number(reading, policy, max, &format!("aspects.{}.max_scale_level", entry.key));
        let step_deltas = entry.value.get("step_deltas").map_or(&[][..], Node::items);
        let step_deltas: Vec<String> = step_deltas.iter().filter_map(Node::text).map(str::to_owned).collect();
        let max_level = max_level.unwrap_or_default();
        if step_deltas.is_empty() && max_level > 0 {
            let message = format!("the aspect `{}` has no `step_deltas`", entry.key);
            reading.error(&entry.value, message, "name the delta of its steps");
        } else if step_deltas.len() > 1 && step_deltas.len() < max_level as usize {
            let message =
                format!("the aspect `{}` has {max_level} levels and {} deltas", entry.key, step_deltas.len());
            reading.error(&entry.value, message, "name one delta for all steps, or one for each");
        }
        let name = text("name").unwrap_or_else(|| entry.key.clone());
        let aspect = Aspect { name, description: text("description"), max_level, step_deltas };
        reading.flavour.aspects.insert(entry.key.clone(), aspect);
    }
}

fn levels(reading: &mut Reading<'_>, policy: &Named<'_>) {
    for entry in policy.property("levels").map_or(&[][..], Node::entries) {
        let mut scale = BTreeMap::new();
        for info in entry.value.get("scale_info").map_or(&[][..], Node::entries) {
            let node = info.value.get("scale_level");
            let level = required_number(
                reading,
                policy,
                node,
                &format!("levels.{}.scale_info.{}.scale_level", entry.key, info.key),
            );
            let most = reading.flavour.aspects.get(&info.key).map(|aspect| aspect.max_level);
            match (most, level) {
                (None, _) => {
                    let message = format!(
                        "the level `{}` is about the aspect `{}`, which is not defined",
                        entry.key, info.key
                    );
                    reading.error(&info.value, message, "define it in `ScalingAspects`");
                }
                (Some(most), Some(level)) if level > most => {
                    let message = format!("level {level} of `{}` is above its highest, {most}", info.key);
                    reading.error(&info.value, message, "correct one of them");
                }
                (_, level) => drop(scale.insert(info.key.clone(), level.unwrap_or_default())),
            }
        }
        let description = entry.value.get("description").and_then(Node::text).map(str::to_owned);
        reading.flavour.levels.insert(entry.key.clone(), Level { description, scale });
    }
    match policy.property("default_level") {
        Some(node) => {
            let name = node.text().unwrap_or_default().to_owned();
            if !reading.flavour.levels.contains_key(&name) {
                reading.error(
                    node,
                    format!("the default level `{name}` is not defined"),
                    "name one of the levels",
                );
            }
            reading.flavour.default_level = Some(name);
        }
        None if reading.flavour.levels.len() > 1 => {
            reading.error(policy.node, "there are several levels, and no `default_level`", "name one");
        }
        None => reading.flavour.default_level = reading.flavour.levels.keys().next().cloned(),
    }
}

fn aspect_deltas(reading: &mut Reading<'_>, policy: &Named<'_>) {
    let aspect_node = policy.property("aspect");
    let aspect = aspect_node.and_then(Node::text).unwrap_or_default().to_owned();
    if !reading.flavour.aspects.contains_key(&aspect) {
        let message =
            format!("the policy `{}` is about the aspect `{aspect}`, which is not defined", policy.name);
        reading.error(aspect_node.unwrap_or(policy.node), message, "define it in `ScalingAspects`");
    }
    let mut deltas = BTreeMap::new();
    for entry in policy.property("deltas").map_or(&[][..], Node::entries) {
        let node = entry.value.get("number_of_instances");
        let count =
            required_number(reading, policy, node, &format!("deltas.{}.number_of_instances", entry.key));
        deltas.insert(entry.key.clone(), count.unwrap_or_default());
    }
    for_vdus(reading, policy, |vdu| drop(vdu.deltas.insert(aspect.clone(), deltas.clone())));
}

fn vdu_levels(reading: &mut Reading<'_>, policy: &Named<'_>) {
    let mut counts = BTreeMap::new();
    for entry in policy.property("levels").map_or(&[][..], Node::entries) {
        let node = entry.value.get("number_of_instances");
        let count =
            required_number(reading, policy, node, &format!("levels.{}.number_of_instances", entry.key));
        if !reading.flavour.levels.contains_key(&entry.key) {
            let message = format!("the level `{}` of the policy `{}` is not defined", entry.key, policy.name);
            reading.error(&entry.value, message, "define it in `InstantiationLevels`");
        }
        counts.insert(entry.key.clone(), count.unwrap_or_default());
    }
    let missing: Vec<String> =
        reading.flavour.levels.keys().filter(|level| !counts.contains_key(*level)).cloned().collect();
    if !missing.is_empty() {
        let message =
            format!("the policy `{}` says nothing of the level `{}`", policy.name, missing.join("`, `"));
        reading.error(policy.node, message, "say how many instances there are");
    }
    for_vdus(reading, policy, |vdu| vdu.at_level.clone_from(&counts));
}

fn placement(reading: &mut Reading<'_>, policy: &Named<'_>, apart: bool) {
    let scope_node = policy.property("scope");
    let scope = match scope_node.and_then(Node::text) {
        Some("zone") => Scope::Zone,
        Some("nfvi_node") => Scope::NfviNode,
        other => {
            let found = other.unwrap_or("nothing");
            let message = format!("the scope of the policy `{}` is {found}", policy.name);
            reading.warning(
                scope_node.unwrap_or(policy.node),
                message,
                "it has no effect; `zone` and `nfvi_node` have",
            );
            return;
        }
    };
    let mut targets = Vec::new();
    for target in policy.targets() {
        let name = target.text().unwrap_or_default();
        if let Some(members) = group_members(reading, name) {
            targets.extend(members);
        } else if reading.flavour.vdus.contains_key(name) || reading.flavour.virtual_links.contains_key(name)
        {
            targets.push(name.to_owned());
        } else {
            let message =
                format!("the policy `{}` is about `{name}`, which the flavour does not have", policy.name);
            reading.error(target, message, "name VDUs, virtual links or placement groups of the flavour");
        }
    }
    reading.flavour.placement.push(Placement { name: policy.name.to_owned(), apart, scope, targets });
}

/// Members of a placement group.
fn group_members(reading: &mut Reading<'_>, name: &str) -> Option<Vec<String>> {
    let groups = reading.document.root.at(&["topology_template", "groups"])?;
    let listed = groups.items().iter().find_map(|item| item.get(name));
    let group = groups.get(name).or(listed)?;
    let mut members = Vec::new();
    for member in group.get("members").map_or(&[][..], Node::items) {
        let member_name = member.text().unwrap_or_default();
        if reading.flavour.vdus.contains_key(member_name)
            || reading.flavour.virtual_links.contains_key(member_name)
        {
            members.push(member_name.to_owned());
        } else {
            let message =
                format!("the group `{name}` has the member `{member_name}`, which the flavour does not have");
            reading.error(member, message, "name VDUs or virtual links of the flavour");
        }
    }
    Some(members)
}

/// Steps of an aspect have deltas that are defined.
fn check_deltas(reading: &mut Reading<'_>, policy: &Named<'_>) {
    for entry in policy.property("aspects").map_or(&[][..], Node::entries) {
        let Some(aspect) = reading.flavour.aspects.get(&entry.key).cloned() else { continue };
        let scaled: Vec<_> =
            reading.flavour.vdus.iter().filter(|(_, vdu)| vdu.deltas.contains_key(&entry.key)).collect();
        let mut lacking = Vec::new();
        for (name, vdu) in &scaled {
            for delta in &aspect.step_deltas {
                if !vdu.deltas[&entry.key].contains_key(delta) {
                    lacking.push(format!("`{delta}` of `{name}`"));
                }
            }
        }
        let nobody = scaled.is_empty() && aspect.max_level > 0;
        if !lacking.is_empty() {
            lacking.dedup();
            let message =
                format!("the aspect `{}` steps by {}, which is not defined", entry.key, lacking.join(", "));
            reading.error(&entry.value, message, "define it in `VduScalingAspectDeltas`");
        }
        if nobody {
            let message = format!("the aspect `{}` scales no VDU", entry.key);
            reading.warning(&entry.value, message, "add `VduScalingAspectDeltas` for it");
        }
    }
}

/// Numbers of instances are within the bounds of the VDUs, and those that are written are those that deltas give.
fn check_counts(reading: &mut Reading<'_>, policy: &Named<'_>) {
    for entry in policy.property("levels").map_or(&[][..], Node::entries) {
        let Some(level) = reading.flavour.levels.get(&entry.key).cloned() else { continue };
        let mut remarks = Vec::new();
        for (name, vdu) in &reading.flavour.vdus {
            let by_deltas = reading.flavour.count_at(vdu, &level.scale);
            let count = vdu.at_level.get(&entry.key).copied().unwrap_or(by_deltas);
            if count != by_deltas {
                remarks.push(format!(
                    "`{name}` has {count} instances at the level `{}`, and {by_deltas} by its deltas",
                    entry.key
                ));
            }
            if vdu.least.is_some_and(|least| count < least) || vdu.most.is_some_and(|most| count > most) {
                remarks.push(format!("`{name}` has {count} instances at the level `{}`, out of the bounds of its `vdu_profile`", entry.key));
            }
        }
        for remark in remarks {
            reading.warning(&entry.value, remark, "correct one of them");
        }
    }
}
