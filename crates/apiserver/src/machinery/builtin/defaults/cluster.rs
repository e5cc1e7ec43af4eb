//! What belongs to the cluster as a whole: namespaces, nodes, secrets, access, limits, definitions.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::fields::{Fields, absent, each, object, set, text, within, within_made};

/// The API group of roles.
const RBAC: &str = "rbac.authorization.k8s.io";

/// A Secret. `stringData` is only another way to write `data`.
pub(super) fn secret(secret: &mut Fields) {
    set(secret, "type", "Opaque");
    let Some(Value::Object(plain)) = secret.remove("stringData") else { return };
    within_made(secret, "data", |data| {
        for (name, value) in plain {
            data.insert(name, STANDARD.encode(value.as_str().unwrap_or_default()).into());
        }
    });
}

/// A Namespace, which bears its name as a label too.
pub(super) fn namespace(namespace: &mut Fields) {
    within_made(namespace, "status", |status| set(status, "phase", "Active"));
    let Some(metadata) = object(namespace, "metadata") else { return };
    let name = text(metadata, "name").to_owned();
    if !name.is_empty() {
        within_made(metadata, "labels", |labels| {
            labels.insert("kubernetes.io/metadata.name".into(), name.into());
        });
    }
}

/// A Node: all that it has can be used, unless it says otherwise.
pub(super) fn node(node: &mut Fields) {
    within(node, "status", |status| {
        if absent(status, "allocatable")
            && let Some(capacity) = status.get("capacity").cloned()
        {
            status.insert("allocatable".into(), capacity);
        }
    });
}

/// A LimitRange: limits of containers that are not given follow from those that are.
pub(super) fn limit_range(range: &mut Fields) {
    let empty = |fields: &Fields, name: &str| {
        fields.get(name).and_then(Value::as_object).cloned().unwrap_or_default()
    };
    within(range, "spec", |spec| {
        each(spec, "limits", |limit| {
            if text(limit, "type") != "Container" {
                return;
            }
            fill(limit, "default", empty(limit, "max"));
            fill(limit, "defaultRequest", empty(limit, "default"));
            fill(limit, "defaultRequest", empty(limit, "min"));
        });
    });
}

fn fill(limit: &mut Fields, name: &str, from: Map<String, Value>) {
    if from.is_empty() {
        return;
    }
    within_made(limit, name, |amounts| {
        for (resource, amount) in from {
            amounts.entry(resource).or_insert(amount);
        }
    });
}

/// A RoleBinding or ClusterRoleBinding.
pub(super) fn role_binding(binding: &mut Fields) {
    within(binding, "roleRef", |role| set(role, "apiGroup", RBAC));
    each(binding, "subjects", |subject| {
        if matches!(text(subject, "kind"), "User" | "Group") {
            set(subject, "apiGroup", RBAC);
        }
    });
}

/// A PriorityClass.
pub(super) fn priority_class(class: &mut Fields) {
    set(class, "preemptionPolicy", "PreemptLowerPriority");
}

/// A CustomResourceDefinition.
pub(super) fn custom_resource_definition(definition: &mut Fields) {
    within(definition, "spec", |spec| {
        within(spec, "names", |names| {
            let kind = text(names, "kind").to_owned();
            if !kind.is_empty() {
                set(names, "singular", kind.to_lowercase());
                set(names, "listKind", format!("{kind}List"));
            }
        });
        within_made(spec, "conversion", |conversion| {
            set(conversion, "strategy", "None");
            within(conversion, "webhook", |webhook| {
                within(webhook, "clientConfig", |client| {
                    within(client, "service", |service| set(service, "port", 443));
                });
            });
        });
        if spec.get("preserveUnknownFields") == Some(&json!(false)) {
            spec.remove("preserveUnknownFields");
        }
    });
}
