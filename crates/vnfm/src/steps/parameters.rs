//! What steps are told.

use serde::{Deserialize, Serialize};

use crate::{model::Vnfc, plan::changes::Before};

/// Of `vnfm.stack-create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StackCreateParameters {
    /// Name of the stack.
    pub name: String,
    /// Whose it is: uid of the instance, by which an attempt whose answer was lost is found again.
    pub owner: String,
    /// Undone, it stays: what it stands for was there before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keep: bool,
}

/// Of `vnfm.stack-update`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StackUpdateParameters {
    /// The stack: `NAME/ID`.
    pub stack: String,
    /// Whose it is: uid of the instance.
    pub owner: String,
    /// Where servers are added: those that were there before. Undone, all others go first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<String>,
}

/// Of `vnfm.stack-delete`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StackDeleteParameters {
    /// The stack: `NAME/ID`.
    pub stack: String,
    /// Whose it is: uid of the instance.
    pub owner: String,
    /// Undone, a stack like it is made again: it was deleted in order to be made anew.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub renew: bool,
    /// What there was, for the record of changes.
    pub before: Before,
}

/// Of `vnfm.mark-unhealthy`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MarkUnhealthyParameters {
    /// The stack whose template has the resource: `NAME/ID`.
    pub stack: String,
    /// Name of the resource.
    pub resource: String,
    /// Why.
    pub reason: String,
}

/// Of `vnfm.inventory`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InventoryParameters {
    /// The stack: `NAME/ID`; that of the step before if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
    /// Names that the VNFD has for resources.
    pub names: Vec<String>,
    /// Servers that have an index.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<Vnfc>,
    /// What there was, for the record of changes.
    pub before: Before,
}

/// What `vnfm.stack-create` and `vnfm.stack-update` tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StackOutput {
    /// The stack: `NAME/ID`.
    pub stack: String,
}
