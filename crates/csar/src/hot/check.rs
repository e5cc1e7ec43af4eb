//! What can be said of templates without Heat: Heat would say it when the stack is made, and then less clearly.

use std::collections::BTreeSet;

use super::{AUTO_SCALING_GROUP, BaseHot, Template, collect, list_of};
use crate::{problem::Problems, yaml::Node};

/// Parameters that Heat itself gives.
const PSEUDO_PARAMETERS: [&str; 3] = ["OS::stack_id", "OS::stack_name", "OS::project_id"];

/// Checks each template for itself, and that those it refers to are there.
pub(super) fn templates(hot: &BaseHot, problems: &mut Problems) {
    for template in hot.templates() {
        let file = &template.path;
        let version = template.root.get("heat_template_version").and_then(Node::text);
        if version.is_none() {
            let advice = "write `heat_template_version: 2013-05-23`, or a newer one";
            problems.error(file, template.root.mark, "`heat_template_version` is missing", advice);
        }
        let resources = template.resources();
        if resources.is_empty() {
            problems.error(file, template.root.mark, "the template has no resources", "add them");
        }
        for entry in resources {
            resource(hot, template, &entry.value, problems);
        }
        let sections = [template.root.get("resources"), template.root.get("outputs")];
        for section in sections.into_iter().flatten() {
            references(template, section, problems);
        }
    }
    for (name, nested) in &hot.nested {
        let mut types = hot.templates().flat_map(types_of);
        if !types.any(|used| used == name) {
            problems.warning(
                &nested.path,
                nested.root.mark,
                "no template refers to this one",
                "leave it out, or use it",
            );
        }
    }
}

/// Types of resources of a template, with those inside of groups.
fn types_of(template: &Template) -> Vec<&str> {
    let mut types = Vec::new();
    for entry in template.resources() {
        types.extend(entry.value.get("type").and_then(Node::text));
        for path in [["properties", "resource", "type"].as_slice(), &["properties", "resource_def", "type"]] {
            types.extend(entry.value.at(path).and_then(Node::text));
        }
    }
    types
}

fn resource(hot: &BaseHot, template: &Template, node: &Node, problems: &mut Problems) {
    let file = &template.path;
    let Some(type_node) = node.get("type") else {
        problems.error(file, node.mark, "the resource has no type", "write its type");
        return;
    };
    if type_node.text() == Some(AUTO_SCALING_GROUP) && node.at(&["properties", "resource", "type"]).is_none()
    {
        problems.error(
            file,
            node.mark,
            "the group has no `resource` with a type",
            "say what its members are",
        );
    }
    let inner =
        [node.at(&["properties", "resource", "type"]), node.at(&["properties", "resource_def", "type"])];
    for node in std::iter::once(type_node).chain(inner.into_iter().flatten()) {
        let Some(name) = node.text() else { continue };
        if !(name.ends_with(".yaml") || name.ends_with(".yml")) {
            continue;
        }
        if name.contains("://") || !hot.nested.contains_key(name) {
            let message =
                format!("refers to the template `{name}`, which is not among the nested ones of the flavour");
            problems.error(
                file,
                node.mark,
                message,
                "add it to `nested`, and refer to it by the name of its file",
            );
        }
    }
}

/// Parameters and resources that are referred to are declared.
fn references(template: &Template, section: &Node, problems: &mut Problems) {
    let parameters = template.root.get("parameters").map_or(&[][..], Node::entries);
    let file = &template.path;
    collect(section, &mut |value| {
        let list = list_of(value);
        let Some(name) = list.first() else { return };
        if !PSEUDO_PARAMETERS.contains(&name.as_str()) && !parameters.iter().any(|entry| entry.key == *name) {
            let message = format!("the parameter `{name}` is not declared");
            problems.error(file, value.mark, message, "declare it in `parameters`");
        }
    });
    resource_references(template, section, problems);
}

fn resource_references(template: &Template, node: &Node, problems: &mut Problems) {
    for entry in node.entries() {
        let name = match entry.key.as_str() {
            "get_resource" => entry.value.text(),
            "get_attr" => entry.value.items().first().and_then(Node::text),
            _ => None,
        };
        if let Some(name) = name
            && !template.resources().iter().any(|resource| resource.key == name)
        {
            let message = format!("refers to the resource `{name}`, which the template does not have");
            problems.error(&template.path, entry.value.mark, message, "name one of its resources");
        }
        resource_references(template, &entry.value, problems);
    }
    for item in node.items() {
        resource_references(template, item, problems);
    }
}

/// What the parameter `nfv` is asked for is what the flavour has.
pub(super) fn names(
    hot: &BaseHot,
    machines: &BTreeSet<&str>,
    ports: &BTreeSet<&str>,
    problems: &mut Problems,
) {
    for template in hot.templates() {
        collect(&template.root, &mut |value| {
            let list = list_of(value);
            let [nfv, section, name, ..] = list.as_slice() else { return };
            if nfv != "nfv" {
                return;
            }
            let mark = value.items().get(2).map_or(value.mark, |item| item.mark);
            let missing = match section.as_str() {
                "VDU" if !machines.contains(name.as_str()) => "neither a VDU nor a volume",
                "CP" if !ports.contains(name.as_str()) => "no connection point",
                _ => return,
            };
            let message = format!("`{name}` is {missing} of the flavour");
            problems.error(&template.path, mark, message, "use the name of its node in the VNFD");
        });
    }
}
