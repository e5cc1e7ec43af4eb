//! The Node object: what this node is and offers, whether it is well, and that it is alive.

mod conditions;
pub mod facts;
mod heartbeat;
mod registration;

pub use conditions::{Health, conditions};
pub use heartbeat::Heartbeat;
pub use registration::{Description, RegisterError, register};

/// Annotation on a Node: all its blocks of pod addresses, separated by commas. `spec.podCIDRs` holds only one of a family.
pub const POD_BLOCKS_ANNOTATION: &str = "drystone.dev/pod-blocks";

/// Version that the agent reports: the Kubernetes API that it speaks.
pub const KUBELET_VERSION: &str = concat!("v1.35.0+drystone.", env!("CARGO_PKG_VERSION"));
