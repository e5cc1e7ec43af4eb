//! Logical clouds: a namespace over several clusters, with users, permissions and quotas.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{KeyValues, StateEntry, document::document, key_values};

document! {
    /// A namespace over several clusters. What is done with it are `LifecycleOperation`s.
    LogicalCloud("LogicalCloud", "logicalclouds", "lcloud"), LogicalCloudSpec, "Logical Cloud",
    "projects/{project}/logical-clouds/{logicalCloud}",
    [
        status = "LogicalCloudStatus",
        printcolumn = r#"{"name":"Namespace","type":"string","jsonPath":".spec.namespace"}"#,
        printcolumn = r#"{"name":"Level","type":"string","jsonPath":".spec.level"}"#,
        printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.stateInfo[-1:].state"}"#,
        printcolumn = r#"{"name":"Operation","type":"string","jsonPath":".status.operation","priority":1}"#
    ]
    {
        /// Namespace on the clusters; `default` at level 0.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        #[schemars(length(max = 63))]
        pub namespace: String,
        /// `1`: with a user, permissions and quotas of its own; `0`: as the administrator of the clusters.
        #[serde(default = "level_one")]
        #[schemars(regex(pattern = r"^[01]$"))]
        pub level: String,
        /// Labels of the namespace.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        pub labels: BTreeMap<String, String>,
        /// Its user.
        #[serde(default)]
        pub user: LogicalCloudUser,
    }
}

fn level_one() -> String {
    "1".to_owned()
}

/// The user of a logical cloud.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogicalCloudUser {
    /// Name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 20))]
    pub user_name: String,
    /// How it shows who it is: `certificate`.
    #[serde(default, rename = "type", skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub kind: String,
}

/// What was done with a logical cloud. Written by its controller.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogicalCloudStatus {
    /// Its states, the present one last; one without is `Created`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub state_info: Vec<StateEntry>,
    /// The AppContext that carries the status; empty if there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status_context_id: String,
    /// Name of the LifecycleOperation that holds it: no other begins before that one is through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// What went wrong last.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

document! {
    /// A cluster of a logical cloud. The kubeconfig of the cloud's user there is in the Secret of its name, under `kubeconfig`, once the
    /// cloud is instantiated.
    ClusterReference("ClusterReference", "clusterreferences", "cref"), ClusterReferenceSpec, "Cluster reference",
    "projects/{project}/logical-clouds/{logicalCloud}/cluster-references/{clusterReference}",
    [
        printcolumn = r#"{"name":"Provider","type":"string","jsonPath":".spec.clusterProvider"}"#,
        printcolumn = r#"{"name":"Cluster","type":"string","jsonPath":".spec.cluster"}"#
    ]
    {
        /// Provider of the cluster.
        #[schemars(length(min = 1, max = 128))]
        pub cluster_provider: String,
        /// The cluster.
        #[schemars(length(min = 1, max = 128))]
        pub cluster: String,
        /// Address at which users reach its API.
        #[serde(default, rename = "loadBalancerIP", skip_serializing_if = "String::is_empty")]
        #[schemars(length(max = 45))]
        pub load_balancer_ip: String,
    }
}

document! {
    /// What the user of a logical cloud may do.
    UserPermission("UserPermission", "userpermissions", "uperm"), UserPermissionSpec, "User Permission",
    "projects/{project}/logical-clouds/{logicalCloud}/user-permissions/{userPermission}", []
    {
        /// In which namespace; in all of the cluster if empty.
        #[serde(default)]
        #[schemars(length(max = 63))]
        pub namespace: String,
        /// API groups.
        #[serde(default)]
        #[schemars(length(max = 1024))]
        pub api_groups: Vec<String>,
        /// Resources.
        #[serde(default)]
        #[schemars(length(max = 1024))]
        pub resources: Vec<String>,
        /// Verbs.
        #[serde(default)]
        #[schemars(length(max = 1024))]
        pub verbs: Vec<String>,
    }
}

document! {
    /// What a logical cloud may use of each cluster.
    ClusterQuota("ClusterQuota", "clusterquotas", "cquota"), ClusterQuotaSpec, "Cluster Quota",
    "projects/{project}/logical-clouds/{logicalCloud}/cluster-quotas/{clusterQuota}", []
    {
        /// Amounts, by resource (`limits.cpu`, `count/jobs.batch`).
        #[serde(default)]
        pub hard: BTreeMap<String, String>,
    }
}

document! {
    /// Facts about a logical cloud.
    LogicalCloudKeyValues("LogicalCloudKeyValues", "logicalcloudkeyvalues", "lckv"), LogicalCloudKeyValuesSpec,
    "Key Value pair",
    "projects/{project}/logical-clouds/{logicalCloud}/kv-pairs/{logicalCloudKv}", []
    {
        /// The facts.
        #[serde(default)]
        #[schemars(schema_with = "key_values")]
        pub kv: KeyValues,
    }
}
