//! Scripts that the VNF wants run at operations: the interface `Vnflcm` of its node.

use super::{
    flavour::{Hook, Reading},
    types::Kind,
};
use crate::yaml::{Node, Value};

/// Operations of `tosca.interfaces.nfv.Vnflcm`, and Tacker's hooks for rollbacks.
const OPERATIONS: [&str; 11] = [
    "instantiate",
    "terminate",
    "scale",
    "scale_to_level",
    "heal",
    "operate",
    "change_flavour",
    "change_external_connectivity",
    "change_current_package",
    "modify_information",
    "create_snapshot",
];
const MOMENTS: [&str; 4] = ["_start", "_end", "_rollback_start", "_rollback_end"];
/// What an interface may have besides operations.
const NOT_OPERATIONS: [&str; 3] = ["type", "inputs", "notifications"];

/// Reads the hooks of the VNF's node.
pub(super) fn read(reading: &mut Reading<'_>) {
    let document = reading.document;
    for entry in document.node_templates() {
        if reading.types.kind_of(&entry.value) != Kind::Vnf {
            continue;
        }
        let Some(interface) = entry.value.at(&["interfaces", "Vnflcm"]) else { continue };
        let operations = interface.get("operations").unwrap_or(interface);
        for operation in operations.entries() {
            if !NOT_OPERATIONS.contains(&operation.key.as_str()) {
                hook(reading, &entry.value, &operation.key, &operation.value);
            }
        }
    }
}

fn known(name: &str) -> bool {
    OPERATIONS.iter().any(|operation| {
        name.strip_prefix(operation).is_some_and(|rest| rest.is_empty() || MOMENTS.contains(&rest))
    })
}

fn hook(reading: &mut Reading<'_>, vnf: &Node, name: &str, value: &Node) {
    if !known(name) {
        reading.error(
            value,
            format!("`{name}` is not an operation of `Vnflcm`"),
            "use a name such as `instantiate_end`",
        );
        return;
    }
    // An operation may be there with nothing to do: `[]`.
    let implementation = value.get("implementation").unwrap_or(value);
    let artifact_node = implementation.get("primary").unwrap_or(implementation);
    let Some(artifact) = artifact_node.text() else {
        if !matches!(&value.value, Value::Sequence(items) if items.is_empty()) && !value.is_null() {
            reading.error(value, format!("`{name}` has no `implementation`"), "name an artifact of the VNF");
        }
        return;
    };
    let definition = vnf.at(&["artifacts", artifact]);
    let file_node = match definition {
        Some(definition) => definition.get("file").unwrap_or(definition),
        None => artifact_node,
    };
    let Some(reference) = file_node.text() else {
        reading.error(
            file_node,
            format!("the artifact `{artifact}` has no `file`"),
            "write the path of the script",
        );
        return;
    };
    let Some(file) = reading.document.find(reading.archive, reference) else {
        let (message, advice) = if definition.is_some() {
            (
                format!("the script `{reference}` of `{name}` is not in the package"),
                "add it, or correct the path",
            )
        } else {
            (
                format!("`{name}` is implemented by `{artifact}`, which is no artifact of the VNF"),
                "define it in `artifacts`",
            )
        };
        reading.error(file_node, message, advice);
        return;
    };
    let kind = definition.and_then(|definition| definition.get("type")).and_then(Node::text);
    let kind = kind.unwrap_or("tosca.artifacts.Implementation.Python").to_owned();
    let hook = Hook { artifact: artifact.to_owned(), kind, file };
    reading.flavour.hooks.insert(name.to_owned(), hook);
}

#[cfg(test)]
mod tests {
    use super::known;

    #[test]
    fn names_of_hooks() {
        for name in ["instantiate_end", "heal_start", "scale", "scale_to_level_start", "heal_rollback_end"] {
            assert!(known(name), "{name}");
        }
        for name in ["instantiate_ende", "healing", "", "scale_level"] {
            assert!(!known(name), "{name}");
        }
    }
}
