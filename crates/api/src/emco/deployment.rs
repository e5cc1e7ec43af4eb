//! Deployment intent groups, and where their applications are to run.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NewClusterPolicy, PlacementRules, StateEntry, document::document};

document! {
    /// A composite application as it is to be deployed. What is done with it are `LifecycleOperation`s.
    DeploymentIntentGroup("DeploymentIntentGroup", "deploymentintentgroups", "dig"), DeploymentIntentGroupSpec,
    "DeploymentIntentGroup",
    "projects/{project}/composite-apps/{compositeApp}/{compositeAppVersion}/deployment-intent-groups/{deploymentIntentGroup}",
    [
        status = "DeploymentIntentGroupStatus",
        printcolumn = r#"{"name":"Release","type":"string","jsonPath":".spec.version"}"#,
        printcolumn = r#"{"name":"Cloud","type":"string","jsonPath":".spec.logicalCloud"}"#,
        printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.stateInfo[-1:].state"}"#,
        printcolumn = r#"{"name":"Revision","type":"integer","jsonPath":".status.stateInfo[-1:].revision"}"#,
        printcolumn = r#"{"name":"Operation","type":"string","jsonPath":".status.operation","priority":1}"#
    ]
    {
        /// The composite profile.
        #[schemars(length(min = 1, max = 128))]
        pub composite_profile: String,
        /// Name of the Helm release.
        #[schemars(length(min = 1, max = 128))]
        pub version: String,
        /// The logical cloud.
        #[schemars(length(min = 1, max = 128))]
        pub logical_cloud: String,
        /// Values that override those of charts and profiles, as `--set` does.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[schemars(length(max = 1024))]
        pub override_values: Vec<OverrideValues>,
        /// Has a cluster made when none fits an application. An addition of Drystone's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub new_cluster: Option<NewClusterPolicy>,
    }
}

/// Values for one application.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OverrideValues {
    /// The application.
    #[schemars(length(min = 1, max = 128))]
    pub app: String,
    /// By the path of the value.
    #[serde(default)]
    pub values: BTreeMap<String, String>,
}

/// What was done with a deployment intent group. Written by its controller, but for `operation`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentIntentGroupStatus {
    /// Its states, the present one last; a group without is `Created`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub state_info: Vec<StateEntry>,
    /// The AppContext that carries the status; the first of an instantiation, kept over updates. Empty if there is none.
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
    /// Which intents of which controllers belong to a deployment intent group.
    GroupIntent("GroupIntent", "groupintents", "gintent"), GroupIntentSpec, "Intent",
    "projects/{project}/composite-apps/{compositeApp}/{compositeAppVersion}/deployment-intent-groups/{deploymentIntentGroup}/intents/{intent}",
    []
    {
        /// Name of the intent, by the name of the controller, or by `genericPlacementIntent`.
        #[serde(default)]
        pub intent: BTreeMap<String, String>,
    }
}

document! {
    /// Where applications are to run: its app-intents say it.
    GenericPlacementIntent("GenericPlacementIntent", "genericplacementintents", "gpintent"), GenericPlacementIntentSpec,
    "GenericPlacementIntent",
    "projects/{project}/composite-apps/{compositeApp}/{compositeAppVersion}/deployment-intent-groups/{deploymentIntentGroup}/generic-placement-intents/{genericPlacementIntent}",
    []
    {}
}

document! {
    /// Where one application is to run.
    AppIntent("AppIntent", "appintents", "appintent"), AppIntentSpec, "AppIntent",
    "projects/{project}/composite-apps/{compositeApp}/{compositeAppVersion}/deployment-intent-groups/{deploymentIntentGroup}/generic-placement-intents/{genericPlacementIntent}/app-intents/{appIntent}",
    [printcolumn = r#"{"name":"App","type":"string","jsonPath":".spec.app"}"#]
    {
        /// The application.
        #[schemars(length(min = 1, max = 128))]
        pub app: String,
        /// On which clusters.
        #[serde(default)]
        pub intent: PlacementIntent,
        /// What these clusters must be like. An addition of Drystone's.
        #[serde(default, skip_serializing_if = "PlacementRules::is_empty")]
        pub rules: PlacementRules,
    }
}

/// On which clusters an application is to run: on every one of `allOf`, and on one of `anyOf`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlacementIntent {
    /// All of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10_000))]
    pub all_of: Vec<PlacementItem>,
    /// One of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10_000))]
    pub any_of: Vec<PlacementChoice>,
}

/// A cluster, all clusters with a label, or one of several.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlacementItem {
    /// Provider of the cluster, or of the clusters with the label.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub cluster_provider: String,
    /// The cluster.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub cluster: String,
    /// The label.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub cluster_label: String,
    /// One of these, instead of all that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10_000))]
    pub any_of: Vec<PlacementChoice>,
}

/// A cluster, or any of the clusters with a label.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlacementChoice {
    /// Provider of the cluster, or of the clusters with the label.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub cluster_provider: String,
    /// The cluster.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub cluster: String,
    /// The label.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub cluster_label: String,
}
