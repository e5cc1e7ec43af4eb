//! Nodes, and what pods refer to when they are placed on them: priorities and runtimes.

use super::Printer;
use crate::machinery::table::column::Column;
use crate::machinery::table::object::{NONE, Object};

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";
const UNKNOWN: &str = "<unknown>";

pub(super) const NODE: Printer = Printer::new(
    &[
        Column::NAME,
        Column::text("Status"),
        Column::text("Roles"),
        Column::AGE,
        Column::text("Version"),
        Column::wide("Internal-IP"),
        Column::wide("External-IP"),
        Column::wide("OS-Image"),
        Column::wide("Kernel-Version"),
        Column::wide("Container-Runtime"),
    ],
    |node| {
        let info = node.part("/status/nodeInfo");
        vec![
            node.name(),
            status(node).into(),
            roles(node).into(),
            node.age(),
            info.text("/kubeletVersion").into(),
            address(node, "InternalIP").into(),
            address(node, "ExternalIP").into(),
            info.text_or("/osImage", UNKNOWN).into(),
            info.text_or("/kernelVersion", UNKNOWN).into(),
            info.text_or("/containerRuntimeVersion", UNKNOWN).into(),
        ]
    },
);

pub(super) const PRIORITY_CLASS: Printer = Printer::new(
    &[
        Column::NAME,
        Column::integer("Value"),
        Column::boolean("Global-Default"),
        Column::AGE,
        Column::text("PreemptionPolicy"),
    ],
    |class| {
        vec![
            class.name(),
            class.number("/value").into(),
            class.is_true("/globalDefault").into(),
            class.age(),
            class.text_or("/preemptionPolicy", "PreemptLowerPriority").into(),
        ]
    },
);

pub(super) const RUNTIME_CLASS: Printer =
    Printer::new(&[Column::NAME, Column::text("Handler"), Column::AGE], |class| {
        vec![class.name(), class.text("/handler").into(), class.age()]
    });

fn status(node: Object<'_>) -> String {
    let mut status = match node.condition("Ready").map(|condition| condition.text("/status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if node.is_true("/spec/unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    status
}

fn roles(node: Object<'_>) -> String {
    let mut roles: Vec<&str> = node
        .fields("/metadata/labels")
        .filter_map(|(label, value)| match label.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None => (label == ROLE_LABEL).then(|| value.as_str().unwrap_or_default()),
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { NONE.to_owned() } else { roles.join(",") }
}

fn address<'a>(node: Object<'a>, address_type: &str) -> &'a str {
    let address = node.list("/status/addresses").find(|address| address.text("/type") == address_type);
    address.map_or(NONE, |address| address.text_or("/address", NONE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn roles_come_from_both_kinds_of_labels() {
        let node = json!({"metadata": {"labels": {
            "node-role.kubernetes.io/worker": "", "kubernetes.io/role": "gpu", "node-role.kubernetes.io/": "", "a": "b",
        }}});
        assert_eq!(roles(Object::new(&node, jiff::Timestamp::UNIX_EPOCH)), "gpu,worker");
        assert_eq!(roles(Object::new(&Value::Null, jiff::Timestamp::UNIX_EPOCH)), NONE);
    }
}
