//! Operations as objects of the API: starting, following, cancelling, running and pruning them.

mod controller;
mod follow;
pub mod prune;
mod running;
mod start;
#[cfg(test)]
mod tests;

pub use controller::{OperationController, OperationControllerConfig, UnknownActions};
pub use follow::{FollowError, await_final, cancel, follow, go_on, halt, roll_back};
pub use start::{StartError, operation_name, start};

/// Keeps an operation until it has been run, or undone, to its end.
pub const OPERATION_FINALIZER: &str = "drystone.dev/operation";

/// Label on an operation: uid of its subject.
pub const SUBJECT_UID_LABEL: &str = "drystone.dev/subject-uid";

/// Label on an operation: kind of its subject.
pub const SUBJECT_KIND_LABEL: &str = "drystone.dev/subject-kind";
