//! What planning needs to know of a package.

use std::collections::BTreeMap;

use drystone_api::nfv::{VnfInstanceStatus, VnfLcmOperationSpec};
use serde_json::{Map, Value};

use super::{Problem, Topology};

/// A package, as the life cycle needs it.
pub trait Blueprint: Send + Sync {
    /// A deployment flavour.
    ///
    /// # Errors
    /// There is none of that id.
    fn flavour(&self, id: &str) -> Result<&dyn Flavour, Problem>;

    /// What the VIM is asked for. The same for the same arguments, always.
    ///
    /// # Errors
    /// What is wrong with the request or the package.
    fn stack_request(&self, ask: &StackAsk<'_>) -> Result<StackRequest, Problem>;
}

/// A deployment flavour, as planning needs it.
pub trait Flavour: Send + Sync {
    /// What it is made of.
    fn topology(&self) -> Topology;

    /// What the VIM is asked for each VDU: flavor and image.
    fn assets(&self) -> BTreeMap<String, (Option<String>, Option<String>)>;

    /// Scripts of hooks, by the hook's name: paths in the package.
    fn hooks(&self) -> BTreeMap<String, String>;

    /// Highest level of each scaling aspect.
    fn highest_levels(&self) -> BTreeMap<String, u32>;

    /// Levels of all scaling aspects at an instantiation level, or at the default one.
    ///
    /// # Errors
    /// There is no such instantiation level.
    fn levels(&self, instantiation_level: Option<&str>) -> Result<BTreeMap<String, u32>, Problem>;

    /// How many instances each VDU has at an instantiation level, or at the default one.
    ///
    /// # Errors
    /// There is no such instantiation level.
    fn counts(&self, instantiation_level: Option<&str>) -> Result<BTreeMap<String, u32>, Problem>;

    /// How many instances each VDU has more when an aspect goes from one level to another; negative for fewer. VDUs that stay as they are
    /// are left out.
    ///
    /// # Errors
    /// There is no such aspect, or it does not go so far.
    fn difference(&self, aspect: &str, from: u32, to: u32) -> Result<BTreeMap<String, i64>, Problem>;
}

/// Whether a change is made, or taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Made.
    Forward,
    /// Taken back.
    Rollback,
}

/// What a stack request is made of.
#[derive(Debug, Clone, Copy)]
pub struct StackAsk<'a> {
    /// The operation; its `parameters` here are the request's body in full, secrets included.
    pub operation: &'a VnfLcmOperationSpec,
    /// The instance as it was before the operation.
    pub instance: &'a VnfInstanceStatus,
    /// `additionalParams` of the instantiation in full, secrets included.
    pub instantiated_with: &'a Map<String, Value>,
    /// The flavour.
    pub flavour: &'a str,
    /// How many instances each VDU has before the operation.
    pub before: &'a BTreeMap<String, u32>,
    /// How many it has afterwards.
    pub after: &'a BTreeMap<String, u32>,
    /// Places of members that are removed, or healed: VDU and index.
    pub affected: &'a [super::Member],
    /// Whether everything is made anew.
    pub entire: bool,
    /// Whether the change is made or taken back.
    pub phase: Phase,
}

/// What the VIM is asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StackRequest {
    /// The template; none where the stack keeps what it has. Where `existing`, what is to be merged into it (RFC 7396).
    pub template: Option<String>,
    /// Parameters. Where `existing`, the parameter `nfv` is merged into what the stack has (RFC 7396).
    pub parameters: Map<String, Value>,
    /// Files that the template names.
    pub files: BTreeMap<String, String>,
    /// Whether it is a change on top of what the stack has, instead of all of it.
    pub existing: bool,
}
