//! The built-in resources: what Kubernetes itself serves, as a table of facts.

use super::resource::{
    Behaviour, ResourceInfo, Scope, Source, SubresourceKind, Verb, api_version, key_prefix,
};
use crate::config::Profile;

use SubresourceKind::{
    Approval, Attach, Binding, Eviction, Exec, Finalize, Log, PortForward, Scale, Status, Token,
};

/// Where a row belongs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Served {
    /// In every profile.
    Always,
    /// In clusters that run pods.
    InClusters,
}

/// A row of the table.
struct Row {
    served: Served,
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    categories: &'static [&'static str],
    scope: Scope,
    subresources: &'static [SubresourceKind],
    behaviour: u8,
    form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Stored,
    Virtual,
    EventView,
}

/// Generation is counted.
const GENERATION: u8 = 1;
/// An update needs a resourceVersion.
const CONDITIONAL: u8 = 2;
/// `PUT` creates.
const CREATES: u8 = 4;

const fn row(served: Served, group: &'static str, kind: &'static str, plural: &'static str) -> Row {
    Row {
        served,
        group,
        version: "v1",
        kind,
        plural,
        short: &[],
        categories: &[],
        scope: Scope::Namespaced,
        subresources: &[],
        behaviour: 0,
        form: Form::Stored,
    }
}

impl Row {
    const fn version(mut self, version: &'static str) -> Self {
        self.version = version;
        self
    }

    const fn short(mut self, short: &'static [&'static str]) -> Self {
        self.short = short;
        self
    }

    /// Listed by `kubectl get all`.
    const fn in_all(mut self) -> Self {
        self.categories = &["all"];
        self
    }

    const fn cluster(mut self) -> Self {
        self.scope = Scope::Cluster;
        self
    }

    const fn with(mut self, subresources: &'static [SubresourceKind]) -> Self {
        self.subresources = subresources;
        self
    }

    const fn marked(mut self, behaviour: u8) -> Self {
        self.behaviour = behaviour;
        self
    }

    /// Stored by the core group under the same plural name.
    const fn view_of_core(mut self) -> Self {
        self.form = Form::EventView;
        self
    }

    /// Answered without storing anything.
    const fn computed(mut self) -> Self {
        self.form = Form::Virtual;
        self
    }
}

const APIEXTENSIONS: &str = "apiextensions.k8s.io";
const APPS: &str = "apps";
const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";
const AUTOSCALING: &str = "autoscaling";
const BATCH: &str = "batch";
const CERTIFICATES: &str = "certificates.k8s.io";
const COORDINATION: &str = "coordination.k8s.io";
const CORE: &str = "";
const DISCOVERY: &str = "discovery.k8s.io";
const EVENTS: &str = "events.k8s.io";
const NETWORKING: &str = "networking.k8s.io";
const NODE: &str = "node.k8s.io";
const POLICY: &str = "policy";
const RBAC: &str = "rbac.authorization.k8s.io";
const SCHEDULING: &str = "scheduling.k8s.io";
const STORAGE: &str = "storage.k8s.io";

use Served::{Always, InClusters};

/// The table. Groups are listed by discovery in the order in which they first occur.
const ROWS: &[Row] = &[
    row(Always, CORE, "ConfigMap", "configmaps").short(&["cm"]),
    row(InClusters, CORE, "Endpoints", "endpoints").short(&["ep"]).marked(CREATES),
    row(Always, CORE, "Event", "events").short(&["ev"]).marked(CREATES),
    row(InClusters, CORE, "LimitRange", "limitranges").short(&["limits"]).marked(CREATES),
    row(Always, CORE, "Namespace", "namespaces").short(&["ns"]).cluster().with(&[Status, Finalize]),
    row(InClusters, CORE, "Node", "nodes").short(&["no"]).cluster().with(&[Status]),
    row(InClusters, CORE, "PersistentVolumeClaim", "persistentvolumeclaims").short(&["pvc"]).with(&[Status]),
    row(InClusters, CORE, "PersistentVolume", "persistentvolumes").short(&["pv"]).cluster().with(&[Status]),
    row(InClusters, CORE, "Pod", "pods").short(&["po"]).in_all().marked(GENERATION).with(&[
        Status,
        Log,
        Exec,
        Attach,
        PortForward,
        Binding,
        Eviction,
    ]),
    row(InClusters, CORE, "PodTemplate", "podtemplates").marked(GENERATION),
    row(InClusters, CORE, "ReplicationController", "replicationcontrollers")
        .short(&["rc"])
        .in_all()
        .marked(GENERATION)
        .with(&[Status, Scale]),
    row(InClusters, CORE, "ResourceQuota", "resourcequotas").short(&["quota"]).with(&[Status]),
    row(Always, CORE, "Secret", "secrets"),
    row(Always, CORE, "ServiceAccount", "serviceaccounts").short(&["sa"]).with(&[Token]),
    row(InClusters, CORE, "Service", "services").short(&["svc"]).in_all().with(&[Status]),
    row(Always, EVENTS, "Event", "events").short(&["ev"]).marked(CREATES).view_of_core(),
    row(Always, AUTHENTICATION, "TokenReview", "tokenreviews").cluster().computed(),
    row(Always, AUTHENTICATION, "SelfSubjectReview", "selfsubjectreviews").cluster().computed(),
    row(Always, AUTHORIZATION, "LocalSubjectAccessReview", "localsubjectaccessreviews").computed(),
    row(Always, AUTHORIZATION, "SelfSubjectAccessReview", "selfsubjectaccessreviews").cluster().computed(),
    row(Always, AUTHORIZATION, "SelfSubjectRulesReview", "selfsubjectrulesreviews").cluster().computed(),
    row(Always, AUTHORIZATION, "SubjectAccessReview", "subjectaccessreviews").cluster().computed(),
    row(InClusters, APPS, "ControllerRevision", "controllerrevisions"),
    row(InClusters, APPS, "DaemonSet", "daemonsets")
        .short(&["ds"])
        .in_all()
        .marked(GENERATION)
        .with(&[Status]),
    row(InClusters, APPS, "Deployment", "deployments")
        .short(&["deploy"])
        .in_all()
        .marked(GENERATION)
        .with(&[Status, Scale]),
    row(InClusters, APPS, "ReplicaSet", "replicasets")
        .short(&["rs"])
        .in_all()
        .marked(GENERATION)
        .with(&[Status, Scale]),
    row(InClusters, APPS, "StatefulSet", "statefulsets")
        .short(&["sts"])
        .in_all()
        .marked(GENERATION)
        .with(&[Status, Scale]),
    row(InClusters, AUTOSCALING, "HorizontalPodAutoscaler", "horizontalpodautoscalers")
        .version("v2")
        .short(&["hpa"])
        .in_all()
        .with(&[Status]),
    row(InClusters, BATCH, "CronJob", "cronjobs").short(&["cj"]).in_all().marked(GENERATION).with(&[Status]),
    row(InClusters, BATCH, "Job", "jobs").in_all().marked(GENERATION).with(&[Status]),
    row(Always, CERTIFICATES, "CertificateSigningRequest", "certificatesigningrequests")
        .short(&["csr"])
        .cluster()
        .with(&[Approval, Status]),
    row(InClusters, NETWORKING, "Ingress", "ingresses").short(&["ing"]).marked(GENERATION).with(&[Status]),
    row(InClusters, NETWORKING, "IngressClass", "ingressclasses").cluster().marked(GENERATION),
    row(InClusters, NETWORKING, "NetworkPolicy", "networkpolicies").short(&["netpol"]).marked(GENERATION),
    row(InClusters, POLICY, "PodDisruptionBudget", "poddisruptionbudgets")
        .short(&["pdb"])
        .marked(GENERATION | CONDITIONAL)
        .with(&[Status]),
    row(Always, RBAC, "ClusterRoleBinding", "clusterrolebindings").cluster().marked(CREATES),
    row(Always, RBAC, "ClusterRole", "clusterroles").cluster().marked(CREATES),
    row(Always, RBAC, "RoleBinding", "rolebindings").marked(CREATES),
    row(Always, RBAC, "Role", "roles").marked(CREATES),
    row(InClusters, STORAGE, "CSIDriver", "csidrivers").cluster().marked(GENERATION),
    row(InClusters, STORAGE, "CSINode", "csinodes").cluster().marked(CONDITIONAL),
    row(InClusters, STORAGE, "CSIStorageCapacity", "csistoragecapacities"),
    row(InClusters, STORAGE, "StorageClass", "storageclasses").short(&["sc"]).cluster(),
    row(InClusters, STORAGE, "VolumeAttachment", "volumeattachments").cluster().with(&[Status]),
    row(Always, APIEXTENSIONS, "CustomResourceDefinition", "customresourcedefinitions")
        .short(&["crd", "crds"])
        .cluster()
        .marked(GENERATION | CONDITIONAL)
        .with(&[Status]),
    row(InClusters, SCHEDULING, "PriorityClass", "priorityclasses")
        .short(&["pc"])
        .cluster()
        .marked(GENERATION),
    row(Always, COORDINATION, "Lease", "leases").marked(CREATES | CONDITIONAL),
    row(InClusters, NODE, "RuntimeClass", "runtimeclasses").cluster(),
    row(InClusters, DISCOVERY, "EndpointSlice", "endpointslices").marked(GENERATION | CREATES),
];

/// The built-in resources of a profile.
pub fn resources(profile: Profile) -> Vec<ResourceInfo> {
    ROWS.iter().filter(|row| row.served == Always || profile == Profile::Cluster).map(describe).collect()
}

fn describe(row: &Row) -> ResourceInfo {
    let strings = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
    // Events are one storage under two groups.
    let (source, storage_group) = match row.form {
        Form::Virtual => (Source::Virtual, row.group),
        Form::EventView => (Source::EventView, CORE),
        Form::Stored => (Source::BuiltIn, row.group),
    };
    ResourceInfo {
        group: row.group.into(),
        version: row.version.into(),
        api_version: api_version(row.group, row.version),
        kind: row.kind.into(),
        list_kind: format!("{}List", row.kind),
        plural: row.plural.into(),
        singular: row.kind.to_lowercase(),
        short_names: strings(row.short),
        categories: strings(row.categories),
        scope: row.scope,
        verbs: if row.form == Form::Virtual { &[Verb::Create] } else { Verb::ALL },
        subresources: row.subresources.to_vec(),
        behaviour: Behaviour {
            generation: row.behaviour & GENERATION != 0,
            status: row.subresources.contains(&Status),
            unconditional_update: row.behaviour & CONDITIONAL == 0,
            create_on_update: row.behaviour & CREATES != 0,
        },
        source,
        key_prefix: key_prefix(storage_group, row.plural),
        storage_api_version: api_version(storage_group, row.version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_resource_is_described_once() {
        let mut seen = HashSet::new();
        for resource in resources(Profile::Cluster) {
            assert!(
                seen.insert((resource.api_version.clone(), resource.plural.clone())),
                "{}",
                resource.qualified()
            );
        }
    }

    #[test]
    fn a_management_server_serves_no_pods() {
        let plurals: Vec<_> =
            resources(Profile::Management).into_iter().map(|resource| resource.plural).collect();
        assert!(plurals.contains(&"secrets".into()) && !plurals.contains(&"pods".into()));
    }
}
