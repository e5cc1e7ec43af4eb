//! `Operation`: a plan being carried out. Redfish tasks, SOL003 occurrences, EMCO deployment states and Kubernetes
//! conditions are projections of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ObjectReference;

/// What to do, as a directed acyclic graph of steps. Immutable, but for `cancel`, `halt`, `retries` and `rollbacks`.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "drystone.dev",
    version = "v1alpha1",
    kind = "Operation",
    plural = "operations",
    shortname = "op",
    shortname = "ops",
    category = "drystone",
    namespaced,
    status = "OperationStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Title","type":"string","jsonPath":".spec.title"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Progress","type":"integer","jsonPath":".status.progressPercent"}"#,
    printcolumn = r#"{"name":"Remaining","type":"integer","jsonPath":".status.remainingSeconds","priority":1}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct OperationSpec {
    /// One line for people: `Create cluster research/mlops`.
    pub title: String,
    /// The object this is done for.
    pub subject: ObjectReference,
    /// The steps. Ids are unique; dependencies name steps of this operation; no cycles.
    pub steps: Vec<StepSpec>,
    /// What to do when a step has failed for good.
    #[serde(default)]
    pub on_failure: FailurePolicy,
    /// Most steps to run at the same time; 0 for the engine's default.
    #[serde(default)]
    pub parallelism: u32,
    /// Set to stop: running steps are interrupted, no further step starts, what was done is undone if the policy says so.
    #[serde(default)]
    pub cancel: bool,
    /// Set to stop gently: running steps come to their end, no further step starts, what was done is undone if the policy says so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub halt: bool,
    /// Raised to have an operation that stopped (`Failed`, `Cancelled`) go on: what is done stays done, all other steps wait again.
    /// Whoever raises it takes back `cancel` and `halt`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: u32,
    /// Raised to have an operation that stopped (`Failed`, `Cancelled`) undone, or its undoing tried again. Whoever raises it takes
    /// back `cancel` and `halt`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rollbacks: u32,
}

// The signature is serde's.
#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What to do when a step has failed for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FailurePolicy {
    /// Undo the completed steps in reverse order.
    #[default]
    Undo,
    /// Start nothing new and leave what was done.
    Stop,
    /// Go on with every step that does not depend on the failed one.
    Continue,
}

/// One step of an operation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepSpec {
    /// Unique inside the operation: `power-on/rack-03`.
    pub id: String,
    /// Which registered action runs it: `cluster.create-zone`.
    pub action: String,
    /// One line for people: `Power on rack-03`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// Ids of steps that must have succeeded before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
    /// Input of the action. Never holds secrets, only references to them.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    #[schemars(schema_with = "any_object")]
    pub parameters: Value,
    /// How long one attempt may take, in seconds; 0 for the engine's default.
    #[serde(default)]
    pub timeout_seconds: u32,
    /// How often to try; 0 for the engine's default.
    #[serde(default)]
    pub max_attempts: u32,
    /// How long it is expected to take, in seconds; the basis of the estimate.
    #[serde(default)]
    pub estimate_seconds: u32,
}

/// State of an operation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OperationPhase {
    /// Not started.
    #[default]
    Pending,
    /// Steps are running.
    Running,
    /// Completed steps are being undone.
    Undoing,
    /// All steps are done.
    Succeeded,
    /// A step failed for good; nothing was undone, or undoing failed as well.
    Failed,
    /// A step failed for good or the operation was cancelled, and everything was undone.
    Undone,
    /// Cancelled without undoing.
    Cancelled,
}

impl OperationPhase {
    /// Whether it ended before its time, and can be told to go on or to be undone.
    pub const fn is_resumable(self) -> bool {
        matches!(self, Self::Failed | Self::Cancelled)
    }

    /// Whether nothing more will happen, unless it [can be told to go on](Self::is_resumable).
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Undone | Self::Cancelled)
    }
}

/// State of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StepState {
    /// Waits for its dependencies or for a free place.
    #[default]
    Waiting,
    /// Journaled as started; its effect may or may not have happened.
    Running,
    /// Failed an attempt, will be tried again.
    Retrying,
    /// Done; its output is recorded.
    Succeeded,
    /// Failed for good.
    Failed,
    /// Never run, since something it depends on failed or the operation was cancelled.
    Skipped,
    /// Its undoing was journaled as started.
    Undoing,
    /// Undone.
    Undone,
    /// Could not be undone.
    UndoFailed,
}

/// Journal of a step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// The step's id.
    pub id: String,
    /// Its state.
    pub state: StepState,
    /// Attempts made so far.
    #[serde(default)]
    pub attempts: u32,
    /// How many of them were made before the operation was last told to go on: they do not count against the step's limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts_before: u32,
    /// When the first attempt started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it reached a final state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// What it is doing, or why it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Progress of this step in percent, as far as it tells.
    #[serde(default)]
    pub progress_percent: u8,
    /// What it produced, for the steps that depend on it. Never holds secrets.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    #[schemars(schema_with = "any_object")]
    pub output: Value,
}

/// What has been done so far; the journal from which a restarted engine resumes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationStatus {
    /// State.
    #[serde(default)]
    pub phase: OperationPhase,
    /// The steps, in the order of the specification.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepStatus>,
    /// Progress in percent, weighted by the steps' estimates.
    #[serde(default)]
    pub progress_percent: u8,
    /// Expected remaining time along the critical path, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_seconds: Option<u32>,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// What is going on, or why it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// How much of the specification's `retries` has been followed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: u32,
    /// How much of the specification's `rollbacks` has been followed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rollbacks: u32,
}

impl Operation {
    /// Whether it stopped and has been told to go on, or to be undone, which has not begun yet.
    pub fn is_told_to_resume(&self) -> bool {
        let Some(status) = self.status.as_ref().filter(|status| status.phase.is_resumable()) else {
            return false;
        };
        self.spec.retries > status.retries || self.spec.rollbacks > status.rollbacks
    }
}

fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}
