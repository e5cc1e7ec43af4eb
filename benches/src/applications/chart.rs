//! An application of the size of kube-prometheus-stack.

use serde_json::{Value, json};

/// An object, and whether it is one that defines a kind.
pub(super) struct Object {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) manifest: Value,
    pub(super) is_definition: bool,
}

fn object(api_version: &str, kind: &'static str, name: String, rest: &Value) -> Object {
    let mut manifest = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}});
    for (field, value) in rest.as_object().into_iter().flatten() {
        manifest[field] = value.clone();
    }
    Object { name, kind, manifest, is_definition: kind == "CustomResourceDefinition" }
}

/// So many bytes that do not look all the same.
fn filling(seed: usize, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 24);
    let mut number = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    while text.len() < bytes {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(&format!("{:x} ", number >> 20));
    }
    text
}

const GROUP: &str = "monitoring.example.com";

fn definitions() -> impl Iterator<Item = Object> {
    let names = ["prometheusrules", "servicemonitors"].map(str::to_owned);
    let others = (0..8).map(|number| format!("others{number}"));
    names.into_iter().chain(others).enumerate().map(|(seed, plural)| {
        let kind = match plural.as_str() {
            "prometheusrules" => "PrometheusRule".to_owned(),
            "servicemonitors" => "ServiceMonitor".to_owned(),
            other => other.replace("others", "Other"),
        };
        let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "description": filling(seed, 230_000)}});
        let spec = json!({"spec": {"group": GROUP, "scope": "Namespaced",
            "names": {"kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]}});
        object("apiextensions.k8s.io/v1", "CustomResourceDefinition", format!("{plural}.{GROUP}"), &spec)
    })
}

/// All of it: 144 objects, about 3 MB.
pub(super) fn objects() -> Vec<Object> {
    let custom = format!("{GROUP}/v1");
    let rbac = "rbac.authorization.k8s.io/v1";
    let rules = json!({"rules": [{"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]}]});
    let template =
        json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let workload =
        json!({"spec": {"replicas": 1, "selector": {"matchLabels": {"app": "a"}}, "template": template}});
    let mut all: Vec<Object> = definitions().collect();
    for number in 0..28 {
        let data = json!({"data": {"dashboard.json": filling(100 + number, 20_000)}});
        all.push(object("v1", "ConfigMap", format!("dashboard-{number}"), &data));
    }
    for number in 0..35 {
        let spec = json!({"spec": {"groups": [{"name": "g", "rules": filling(200 + number, 4_000)}]}});
        all.push(object(&custom, "PrometheusRule", format!("rule-{number}"), &spec));
    }
    for number in 0..14 {
        let spec = json!({"spec": {"endpoints": [{"port": "http"}]}});
        all.push(object(&custom, "ServiceMonitor", format!("monitor-{number}"), &spec));
    }
    let binding = |kind: &str, number: usize| {
        json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": format!("role-{number}")},
            "subjects": [{"kind": "ServiceAccount", "name": format!("account-{number}"), "namespace": "monitoring"}]})
    };
    for number in 0..12 {
        all.push(object("v1", "ServiceAccount", format!("account-{number}"), &json!({})));
    }
    for number in 0..10 {
        let ports = json!({"spec": {"ports": [{"port": 80}], "selector": {"app": "a"}}});
        all.push(object("v1", "Service", format!("service-{number}"), &ports));
        all.push(object(rbac, "ClusterRole", format!("role-{number}"), &rules));
        all.push(object(
            rbac,
            "ClusterRoleBinding",
            format!("role-{number}"),
            &binding("ClusterRole", number),
        ));
    }
    for number in 0..5 {
        all.push(object(rbac, "Role", format!("role-{number}"), &rules));
        all.push(object("apps/v1", "Deployment", format!("deployment-{number}"), &workload));
    }
    for number in 0..3 {
        all.push(object(rbac, "RoleBinding", format!("role-{number}"), &binding("Role", number)));
    }
    all.push(object("apps/v1", "StatefulSet", "database".to_owned(), &workload));
    all.push(object("apps/v1", "DaemonSet", "exporter".to_owned(), &workload));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_large_as_it_says() {
        let all = objects();
        let bytes: usize = all.iter().map(|object| object.manifest.to_string().len()).sum();
        assert_eq!(all.len(), 144);
        assert!((2_900_000..3_300_000).contains(&bytes), "{bytes}");
    }
}
