//! What is accepted and yet may not do what its author expects: told to the client as warnings.

use serde_json::Value;

use super::field::{Field, repeated};
use crate::machinery::schema::structural;

/// What to warn of in an object of a built-in kind, in sentences that begin with the field.
pub(super) fn warnings(group: &str, kind: &str, object: &Value) -> Vec<String> {
    let object = Field::root(object);
    match (group, kind) {
        ("", "Pod") => pod_spec(&object.get("spec")),
        ("", "ReplicationController") | ("apps", _) | ("batch", "Job") => {
            pod_spec(&object.at(&["spec", "template", "spec"]))
        }
        ("batch", "CronJob") => pod_spec(&object.at(&["spec", "jobTemplate", "spec", "template", "spec"])),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition(&object),
        _ => Vec::new(),
    }
}

/// Entries of lists that a merge by key would take for one.
fn pod_spec(spec: &Field<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    for container in [spec.get("initContainers"), spec.get("containers")].iter().flat_map(Field::items) {
        let variables = container.get("env").items();
        for position in repeated(&variables, |variable| Some(variable.get("name").text())) {
            let variable = &variables[position];
            let name = variable.get("name").text();
            warnings.push(format!(
                "{}: hides previous definition of {name:?}, which may be dropped when using apply",
                variable.path
            ));
        }
        let ports = container.get("ports").items();
        let identity = |port: &Field<'_>| {
            let number = port.get("containerPort").number()?;
            Some((number, port.get("protocol").text().to_owned()))
        };
        for position in repeated(&ports, identity) {
            let port = &ports[position];
            warnings.push(format!(
                "{}: duplicate port definition, which may be dropped when using apply",
                port.path
            ));
        }
    }
    warnings
}

/// Rules in CEL are kept, and not evaluated.
fn definition(object: &Field<'_>) -> Vec<String> {
    let versions = object.at(&["spec", "versions"]).items();
    let rules = versions.iter().flat_map(|version| {
        let schema = version.at(&["schema", "openAPIV3Schema"]);
        structural::rules(schema.value, &schema.path)
    });
    rules
        .map(|path| {
            format!("{path}: x-kubernetes-validations are stored, but this server does not evaluate them")
        })
        .collect()
}
