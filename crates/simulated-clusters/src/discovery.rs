//! Which kinds there are, for clients that ask, such as kubectl.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cluster::Cluster;

/// Group and version, kind, name in URLs, whether in namespaces.
type Kind = (String, String, String, bool);

/// Kinds that every cluster has.
const BUILT_IN: &[(&str, &str, &str, bool)] = &[
    ("v1", "Namespace", "namespaces", false),
    ("v1", "ConfigMap", "configmaps", true),
    ("v1", "PersistentVolumeClaim", "persistentvolumeclaims", true),
    ("v1", "Pod", "pods", true),
    ("v1", "Secret", "secrets", true),
    ("v1", "Service", "services", true),
    ("v1", "ServiceAccount", "serviceaccounts", true),
    (
        "admissionregistration.k8s.io/v1",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        false,
    ),
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        false,
    ),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", false),
    ("apps/v1", "DaemonSet", "daemonsets", true),
    ("apps/v1", "Deployment", "deployments", true),
    ("apps/v1", "StatefulSet", "statefulsets", true),
    ("batch/v1", "Job", "jobs", true),
    ("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", false),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", false),
    ("rbac.authorization.k8s.io/v1", "Role", "roles", true),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings", true),
];

fn kinds(cluster: &Cluster) -> Vec<Kind> {
    let built_in = BUILT_IN.iter().map(|(version, kind, plural, namespaced)| {
        ((*version).into(), (*kind).into(), (*plural).into(), *namespaced)
    });
    let mut all: Vec<Kind> = built_in.collect();
    let (definitions, _) = cluster.list("apiextensions.k8s.io/v1/customresourcedefinitions", false);
    for definition in definitions {
        let spec = definition.template.field("spec");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        for version in spec["versions"].as_array().into_iter().flatten() {
            let group_version = format!("{}/{}", text(&spec["group"]), text(&version["name"]));
            let (kind, plural) = (text(&spec["names"]["kind"]), text(&spec["names"]["plural"]));
            all.push((group_version, kind, plural, spec["scope"] == "Namespaced"));
        }
    }
    all
}

/// The answer to a question: which `version` it is, or about kinds: `api`, `apis`, or a group with its version.
pub(crate) fn answer(cluster: &Cluster, path: &str) -> Option<Value> {
    match path {
        "version" => {
            Some(json!({"major": "1", "minor": "35", "gitVersion": "v1.35.0+simulated", "gitCommit": "",
            "gitTreeState": "clean", "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}))
        }
        "api" => Some(json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})),
        "apis" => {
            let mut groups: BTreeMap<String, Vec<Value>> = BTreeMap::new();
            for (group_version, ..) in kinds(cluster) {
                let Some((group, version)) = group_version.split_once('/') else { continue };
                let one = json!({"groupVersion": group_version, "version": version});
                let versions = groups.entry(group.to_owned()).or_default();
                if !versions.contains(&one) {
                    versions.push(one);
                }
            }
            let groups: Vec<Value> = groups
                .into_iter()
                .map(|(name, versions)| json!({"name": name, "preferredVersion": versions[0], "versions": versions}))
                .collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        version => {
            let verbs = ["create", "delete", "get", "list", "patch", "update", "watch"];
            let resources: Vec<Value> = kinds(cluster)
                .into_iter()
                .filter(|(of, ..)| of == version)
                .map(|(_, kind, plural, namespaced)| {
                    json!({"name": plural, "singularName": "", "kind": kind, "namespaced": namespaced, "verbs": verbs})
                })
                .collect();
            let list = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources});
            (!resources.is_empty()).then_some(list)
        }
    }
}
