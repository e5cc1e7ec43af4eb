//! `VnfLcmOperation`: an occurrence of a VNF LCM operation (SOL003, clause 5.5.2.13).

use std::collections::BTreeMap;

use drystone_sol003::types::{
    ApiVersion, CancelMode, ExtVirtualLinkData, KeyValuePairs, LcmOperationState, LcmOperationType,
    ProblemDetails, ResourceChanges,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::any_object;

/// Something that is done with a VNF. Made once; afterwards only `retries`, `rollback`, `fail` and `cancel` change.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "nfv.drystone.dev",
    version = "v1alpha1",
    kind = "VnfLcmOperation",
    plural = "vnflcmoperations",
    shortname = "vnfop",
    category = "drystone",
    namespaced,
    status = "VnfLcmOperationStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Instance","type":"string","jsonPath":".spec.instance"}"#,
    printcolumn = r#"{"name":"Operation","type":"string","jsonPath":".spec.operation"}"#,
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.operationState"}"#,
    printcolumn = r#"{"name":"Progress","type":"integer","jsonPath":".status.progress.percent"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.progress.message","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VnfLcmOperationSpec {
    /// Name of the VnfInstance, in the same namespace.
    #[schemars(length(min = 1))]
    pub instance: String,
    /// What is done.
    pub operation: LcmOperationType,
    /// By which version of the API it was asked for: they differ in what healing means, and in names.
    #[serde(default)]
    pub api_version: ApiVersion,
    /// Whether the manager itself asked for it.
    #[serde(default)]
    pub is_automatic_invocation: bool,
    /// The request's body in the shape of version 2, without what is secret.
    #[serde(default, skip_serializing_if = "KeyValuePairs::is_empty")]
    #[schemars(schema_with = "any_object")]
    pub parameters: KeyValuePairs,
    /// Name of the Secret whose key `parameters.json` has the body whole, if something in it is secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// How often it was told to try again.
    #[serde(default)]
    pub retries: u32,
    /// How often it was told to roll back.
    #[serde(default)]
    pub rollbacks: u32,
    /// Gives it up, once it has failed.
    #[serde(default)]
    pub fail: bool,
    /// Cancels it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<CancelMode>,
}

impl VnfLcmOperation {
    /// Whether it is not at its end and makes an instance one of the VNFD, which the instance shows only then.
    pub fn may_lead_to(&self, vnfd: &str) -> bool {
        let state = self.status.as_ref().map(|status| status.operation_state).unwrap_or_default();
        let names_it = || self.spec.parameters.get("vnfdId").and_then(Value::as_str) == Some(vnfd);
        let changes =
            matches!(self.spec.operation, LcmOperationType::ChangeVnfPackage | LcmOperationType::ModifyInfo);
        !state.is_final() && changes && names_it()
    }

    /// Whether it is not at its end and may be at work on a VIM: one that its request names, or the default one if it names none. What an
    /// instance is on is only noted when its instantiation has succeeded.
    pub fn may_use(&self, vim: &super::Vim) -> bool {
        let state = self.status.as_ref().map(|status| status.operation_state).unwrap_or_default();
        if state.is_final() || self.metadata.namespace != vim.metadata.namespace {
            return false;
        }
        let named = self.spec.parameters.get("vimConnectionInfo").and_then(Value::as_object);
        let mut named = named
            .into_iter()
            .flat_map(|named| named.values())
            .filter_map(|info| info.get("vimId"))
            .peekable();
        match named.peek() {
            None => vim.spec.is_default && self.spec.operation == LcmOperationType::Instantiate,
            Some(_) => named.any(|id| id.as_str() == vim.metadata.uid.as_deref()),
        }
    }
}

/// Where an operation stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VnfLcmOperationStatus {
    /// State.
    #[serde(default)]
    pub operation_state: LcmOperationState,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_entered_time: Option<MicroTime>,
    /// When it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<MicroTime>,
    /// Every change of state, in order: what subscribers are told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transitions: Vec<OperationStateTransition>,
    /// Identifier of the grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_id: Option<String>,
    /// Name of the engine's Operation that carries it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_operation: Option<String>,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<VnfLcmOperationProgress>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ProblemDetails>,
    /// What it changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_changes: Option<ResourceChanges>,
    /// What was modified of the instance's information.
    #[serde(default, skip_serializing_if = "KeyValuePairs::is_empty")]
    #[schemars(schema_with = "any_object")]
    pub changed_info: KeyValuePairs,
    /// External connectivity that was changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed_ext_connectivity: Vec<ExtVirtualLinkData>,
    /// What a change of the package modified.
    #[serde(default, skip_serializing_if = "KeyValuePairs::is_empty")]
    #[schemars(schema_with = "any_object")]
    pub modifications_triggered_by_vnf_pkg_change: KeyValuePairs,
    /// `retries` that have been taken up.
    #[serde(default)]
    pub observed_retries: u32,
    /// `rollbacks` that have been taken up.
    #[serde(default)]
    pub observed_rollbacks: u32,
    /// Cancellation that has been taken up and is not through yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelling: Option<CancelMode>,
    /// What the planner remembers from one attempt to the next: never secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A change of an operation's state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationStateTransition {
    /// Number of the change, from 1.
    pub sequence: u32,
    /// The state that was entered.
    pub state: LcmOperationState,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<MicroTime>,
    /// What had failed, for states that say that something failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ProblemDetails>,
}

/// How far an operation is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VnfLcmOperationProgress {
    /// Percent.
    #[serde(default)]
    pub percent: u8,
    /// Expected remaining time in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_seconds: Option<u32>,
    /// What is going on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}
