//! `LifecycleOperation`: something that is done with a deployment intent group, a logical cloud, or the networks of a cluster.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Something that is done with a deployment intent group, a logical cloud, or the networks of a cluster. Made once, and never changed; the
/// controllers of these carry it out, one at a time of each path (`status.operation` there), and say what came of it.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "emco.drystone.dev",
    version = "v1alpha1",
    kind = "LifecycleOperation",
    plural = "lifecycleoperations",
    shortname = "lcop",
    category = "emco",
    namespaced,
    status = "LifecycleOperationStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Path","type":"string","jsonPath":".spec.path"}"#,
    printcolumn = r#"{"name":"Action","type":"string","jsonPath":".spec.action"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Code","type":"integer","jsonPath":".status.code"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct LifecycleOperationSpec {
    /// Path of the deployment intent group, the logical cloud or the cluster.
    #[schemars(length(min = 1, max = 2048))]
    pub path: String,
    /// What is done.
    pub action: LifecycleAction,
    /// With what.
    #[serde(default, skip_serializing_if = "LifecycleParameters::is_default")]
    pub parameters: LifecycleParameters,
}

/// What is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LifecycleAction {
    /// A group may be instantiated.
    #[default]
    Approve,
    /// A group or logical cloud is deployed.
    Instantiate,
    /// What is deployed is made what is declared now.
    Update,
    /// What is deployed becomes another group's.
    Migrate,
    /// What is deployed becomes what it was at a revision.
    Rollback,
    /// What is deployed is taken away.
    Terminate,
    /// An instantiation or termination is interrupted.
    Stop,
    /// The networks of a cluster are made.
    ApplyNetworks,
    /// The networks of a cluster are taken away.
    TerminateNetworks,
    /// An application or termination of networks is interrupted.
    StopNetworks,
}

/// With what it is done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LifecycleParameters {
    /// With `Rollback`: the revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// With `Migrate`: version of the composite application of the other group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target_composite_app_version: String,
    /// With `Migrate`: the other group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target_deployment_intent_group: String,
}

impl LifecycleParameters {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LifecycleOperationStatus {
    /// How far it is.
    #[serde(default)]
    pub phase: LifecyclePhase,
    /// Once it is through: the HTTP status that stands for what came of it: 202, or 409 if it could not be done in that state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// What went wrong, and what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The revision that is deployed now, if it made one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// The AppContext that it made.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub context_id: String,
    /// Name of the engine's Operation that carries it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_operation: Option<String>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<MicroTime>,
    /// When it was through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<MicroTime>,
}

/// How far an operation is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LifecyclePhase {
    /// Nobody has begun.
    #[default]
    Pending,
    /// It is being done.
    Running,
    /// It is done.
    Succeeded,
    /// It could not be done.
    Failed,
}

impl LifecyclePhase {
    /// Whether nothing happens any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}
