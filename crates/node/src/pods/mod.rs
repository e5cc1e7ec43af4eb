//! Pods: what to do for them, doing it, and telling the API.

pub mod backoff;
pub mod hooks;
pub mod images;
pub mod labels;
mod log_rotation;
mod manager;
pub mod objects;
pub mod observed;
pub mod plan;
pub mod resources;
pub mod spec;
pub mod status;
pub mod volumes;
mod worker;

pub use manager::{Manager, PodStore};
pub use worker::PodContext;
