//! Node agent.

pub mod config;
pub mod containerd;
pub mod cri;
pub mod image_archive;
pub mod pods;
pub mod quantity;
