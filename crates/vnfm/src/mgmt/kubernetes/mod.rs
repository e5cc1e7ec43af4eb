//! Kubernetes clusters as VNFs: what their hooks do, natively (Tacker's `kubernetes_mgmt.py`).
//!
//! [`plan`] (pure) says which steps a hook consists of; [`steps`] carries them out over SSH; [`programs`] is what runs on nodes. See ADR 0030.

pub mod access;
mod fields;
pub mod nodes;
pub mod parameters;
pub mod plan;
pub mod programs;
#[cfg(test)]
pub(crate) mod samples;
pub mod steps;
pub mod task;

pub use plan::KubernetesDriver;
pub use steps::{Dependencies, PackageFiles, register};

/// The script whose place this driver takes, by which VNFDs name it.
pub const SCRIPT: &str = "kubernetes_mgmt.py";
