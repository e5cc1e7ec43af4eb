//! Node agent.

pub mod agent;
pub mod config;
pub mod containerd;
pub mod cri;
pub mod dns;
pub mod events;
pub mod image_archive;
pub mod join;
pub mod kubelet_api;
pub mod networking;
pub mod node_object;
pub mod pods;
pub mod probes;
