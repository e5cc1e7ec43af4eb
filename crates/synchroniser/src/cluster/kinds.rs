//! Names of kinds in URLs. Those of Kubernetes are known; others are told by the definitions that a context brings, and by the cluster.

use std::{collections::HashMap, sync::Mutex};

use kube::core::ApiResource;
use serde_json::Value;

/// A kind with its version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Kind {
    /// `apiVersion`.
    pub(crate) api_version: String,
    /// `kind`.
    pub(crate) kind: String,
}

/// How a kind is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Served {
    /// Its name in URLs.
    pub(crate) plural: String,
    /// Whether its objects are in namespaces.
    pub(crate) namespaced: bool,
}

impl Kind {
    /// A kind.
    pub(crate) fn new(api_version: &str, kind: &str) -> Self {
        Self { api_version: api_version.to_owned(), kind: kind.to_owned() }
    }

    /// Its group and version.
    pub(crate) fn group_version(&self) -> (&str, &str) {
        self.api_version.split_once('/').unwrap_or(("", &self.api_version))
    }

    /// As kube's clients want it.
    pub(crate) fn resource(&self, served: &Served) -> ApiResource {
        let (group, version) = self.group_version();
        ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: self.api_version.clone(),
            kind: self.kind.clone(),
            plural: served.plural.clone(),
        }
    }

    /// The path of the list of such things.
    pub(crate) fn path(&self, served: &Served, namespace: &str) -> String {
        let root = if self.api_version.contains('/') { "/apis" } else { "/api" };
        let Self { api_version, .. } = self;
        match (served.namespaced, served.plural.as_str()) {
            (true, plural) => format!("{root}/{api_version}/namespaces/{namespace}/{plural}"),
            (false, plural) => format!("{root}/{api_version}/{plural}"),
        }
    }
}

/// The kinds that every cluster has: group, kind, name in URLs, whether they are in namespaces. Versions do not matter for that.
const KNOWN: &[(&str, &str, &str, bool)] = &[
    ("", "Namespace", "namespaces", false),
    ("", "Node", "nodes", false),
    ("", "PersistentVolume", "persistentvolumes", false),
    ("", "ConfigMap", "configmaps", true),
    ("", "Endpoints", "endpoints", true),
    ("", "LimitRange", "limitranges", true),
    ("", "PersistentVolumeClaim", "persistentvolumeclaims", true),
    ("", "Pod", "pods", true),
    ("", "ReplicationController", "replicationcontrollers", true),
    ("", "ResourceQuota", "resourcequotas", true),
    ("", "Secret", "secrets", true),
    ("", "Service", "services", true),
    ("", "ServiceAccount", "serviceaccounts", true),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", false),
    (
        "admissionregistration.k8s.io",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        false,
    ),
    ("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions", false),
    ("apiregistration.k8s.io", "APIService", "apiservices", false),
    ("apps", "DaemonSet", "daemonsets", true),
    ("apps", "Deployment", "deployments", true),
    ("apps", "ReplicaSet", "replicasets", true),
    ("apps", "StatefulSet", "statefulsets", true),
    ("autoscaling", "HorizontalPodAutoscaler", "horizontalpodautoscalers", true),
    ("batch", "CronJob", "cronjobs", true),
    ("batch", "Job", "jobs", true),
    ("certificates.k8s.io", "CertificateSigningRequest", "certificatesigningrequests", false),
    ("coordination.k8s.io", "Lease", "leases", true),
    ("discovery.k8s.io", "EndpointSlice", "endpointslices", true),
    ("networking.k8s.io", "Ingress", "ingresses", true),
    ("networking.k8s.io", "IngressClass", "ingressclasses", false),
    ("networking.k8s.io", "NetworkPolicy", "networkpolicies", true),
    ("node.k8s.io", "RuntimeClass", "runtimeclasses", false),
    ("policy", "PodDisruptionBudget", "poddisruptionbudgets", true),
    ("rbac.authorization.k8s.io", "ClusterRole", "clusterroles", false),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding", "clusterrolebindings", false),
    ("rbac.authorization.k8s.io", "Role", "roles", true),
    ("rbac.authorization.k8s.io", "RoleBinding", "rolebindings", true),
    ("scheduling.k8s.io", "PriorityClass", "priorityclasses", false),
    ("storage.k8s.io", "CSIDriver", "csidrivers", false),
    ("storage.k8s.io", "StorageClass", "storageclasses", false),
];

/// What is known of the kinds of a cluster.
#[derive(Debug, Default)]
pub(crate) struct Kinds {
    learnt: Mutex<HashMap<Kind, Served>>,
}

impl Kinds {
    /// How a kind is served, if that is known.
    pub(crate) fn served(&self, kind: &Kind) -> Option<Served> {
        let (group, _) = kind.group_version();
        let known = KNOWN.iter().find(|(of, name, ..)| (*of, *name) == (group, kind.kind.as_str()));
        if let Some((_, _, plural, namespaced)) = known {
            return Some(Served { plural: (*plural).to_owned(), namespaced: *namespaced });
        }
        self.learnt.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(kind).cloned()
    }

    /// Remembers a kind.
    pub(crate) fn learn(&self, kind: Kind, served: Served) {
        self.learnt.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(kind, served);
    }

    /// Learns the kinds that a definition (`CustomResourceDefinition`, v1) brings.
    pub(crate) fn learn_definition(&self, definition: &Value) {
        let text = |path: &str| definition.pointer(path).and_then(Value::as_str);
        let (Some(group), Some(kind), Some(plural)) =
            (text("/spec/group"), text("/spec/names/kind"), text("/spec/names/plural"))
        else {
            return;
        };
        let namespaced = text("/spec/scope") == Some("Namespaced");
        let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
        for version in versions.into_iter().flatten().filter_map(|version| version["name"].as_str()) {
            let served = Served { plural: plural.to_owned(), namespaced };
            self.learn(Kind::new(&format!("{group}/{version}"), kind), served);
        }
    }

    /// Learns what a cluster says of a group's version (`APIResourceList`).
    pub(crate) fn learn_list(&self, api_version: &str, list: &Value) {
        for resource in list["resources"].as_array().into_iter().flatten() {
            let (Some(name), Some(kind)) = (resource["name"].as_str(), resource["kind"].as_str()) else {
                continue;
            };
            if !name.contains('/') {
                let namespaced = resource["namespaced"] == Value::Bool(true);
                self.learn(Kind::new(api_version, kind), Served { plural: name.to_owned(), namespaced });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_those_of_kubernetes() {
        let kinds = Kinds::default();
        let path = |api_version: &str, kind: &str| {
            let kind = Kind::new(api_version, kind);
            kinds.served(&kind).map(|served| kind.path(&served, "n"))
        };
        assert_eq!(path("v1", "ConfigMap").unwrap(), "/api/v1/namespaces/n/configmaps");
        assert_eq!(
            path("rbac.authorization.k8s.io/v1", "ClusterRole").unwrap(),
            "/apis/rbac.authorization.k8s.io/v1/clusterroles"
        );
        assert_eq!(path("example.com/v1", "Widget"), None);
        kinds.learn_definition(&json!({"spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets"}, "versions": [{"name": "v1"}, {"name": "v2"}]}}));
        assert_eq!(path("example.com/v2", "Widget").unwrap(), "/apis/example.com/v2/namespaces/n/widgets");
        kinds.learn_list(
            "other.io/v1",
            &json!({"resources": [{"name": "things", "kind": "Thing", "namespaced": false},
            {"name": "things/status", "kind": "Thing", "namespaced": false}]}),
        );
        assert_eq!(path("other.io/v1", "Thing").unwrap(), "/apis/other.io/v1/things");
    }
}
