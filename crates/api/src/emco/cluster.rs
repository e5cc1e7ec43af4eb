//! Clusters that applications are deployed to, and what is known of them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{StateEntry, any_object, document::document, key_values};

/// Key-value pairs, as EMCO writes them: objects with one member each, usually.
pub type KeyValues = Vec<serde_json::Map<String, Value>>;

document! {
    /// Whose clusters they are.
    ClusterProvider("ClusterProvider", "clusterproviders", "cprovider"), ClusterProviderSpec, "ClusterProvider",
    "cluster-providers/{clusterProvider}", []
    {}
}

document! {
    /// A cluster that applications are deployed to. Its kubeconfig is in the Secret of its name, under `kubeconfig`.
    Cluster("Cluster", "clusters", "emcocluster"), ClusterSpec, "Cluster",
    "cluster-providers/{clusterProvider}/clusters/{cluster}",
    [
        status = "ClusterStatus",
        printcolumn = r#"{"name":"Connectivity","type":"string","jsonPath":".status.connectivity"}"#,
        printcolumn = r#"{"name":"Version","type":"string","jsonPath":".status.version"}"#,
        printcolumn = r#"{"name":"Networks","type":"string","jsonPath":".status.networks.stateInfo[-1:].state"}"#,
        printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message","priority":1}"#
    ]
    {
        /// How it is delivered to by way of a Git repository, instead of by a kubeconfig.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub git_ops: Option<GitOps>,
        /// The cluster of Drystone's own that it is: it has no Secret then. An addition of Drystone's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub drystone_cluster: Option<DrystoneCluster>,
    }
}

/// Delivery by way of a Git repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitOps {
    /// `fluxcd`, `azureArcV2` or `anthos`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub git_ops_type: String,
    /// Cluster sync object of the cluster provider: where references are kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub git_ops_reference_object: String,
    /// Cluster sync object of the cluster provider: where resources are kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub git_ops_resource_object: String,
}

/// A cluster that Drystone made: a `Cluster` of group `drystone.dev`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrystoneCluster {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What is known of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// Whether it answers.
    #[serde(default)]
    pub connectivity: ClusterConnectivity,
    /// Since when that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Version of its Kubernetes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Why it does not answer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Generation that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Name of the LifecycleOperation that holds its networks: no other begins before that one is through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// What was done with its networks.
    #[serde(default)]
    pub networks: NetworksStatus,
}

/// What was done with the networks of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworksStatus {
    /// States, the present one last: `Created`, `Applied`, `Terminated` …; without any they are `Created`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub state_info: Vec<StateEntry>,
    /// The AppContext that carries the status; empty if there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status_context_id: String,
}

/// Whether a cluster answers, in EMCO's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ClusterConnectivity {
    /// Not tried yet.
    #[default]
    Unknown,
    /// It answers.
    Available,
    /// It does not; it is tried again.
    Retrying,
}

document! {
    /// A label of a cluster, by which placement intents find it. Its name is the label.
    ClusterLabel("ClusterLabel", "clusterlabels", "clabel"), ClusterLabelSpec, "Cluster label",
    "cluster-providers/{clusterProvider}/clusters/{cluster}/labels/{clusterLabel}", []
    {}
}

document! {
    /// Facts about a cluster.
    ClusterKeyValues("ClusterKeyValues", "clusterkeyvalues", "ckv"), ClusterKeyValuesSpec, "Cluster key value pair",
    "cluster-providers/{clusterProvider}/clusters/{cluster}/kv-pairs/{clusterKvPair}", []
    {
        /// The facts.
        #[serde(default)]
        #[schemars(schema_with = "key_values")]
        pub kv: KeyValues,
    }
}

document! {
    /// Where clusters of a provider are delivered to by way of Git. What is secret is in the Secret of its name, under `kv.json`.
    ClusterSyncObject("ClusterSyncObject", "clustersyncobjects", "csync"), ClusterSyncObjectSpec, "Cluster sync object",
    "cluster-providers/{clusterProvider}/cluster-sync-objects/{clusterSyncObject}", []
    {
        /// `gitType`, `gitToken`, `repoName`, `userName`, `branch`, `url`; `***` where it is secret.
        #[serde(default)]
        #[schemars(schema_with = "key_values")]
        pub kv: KeyValues,
        /// Anything else that a way of delivery needs. An addition of Drystone's.
        #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
        #[schemars(schema_with = "any_object")]
        pub extra: serde_json::Map<String, Value>,
    }
}
