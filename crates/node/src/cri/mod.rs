//! The Container Runtime Interface, `runtime.v1`: messages and a client.
//!
//! The messages are written by hand with the field numbers of `k8s.io/cri-api`, as far as the agent uses them; a field that is
//! left out is skipped when it comes and absent when it goes, which protocol buffers allow. No build step needs `protoc`.

mod client;
pub mod events;
pub mod messages;

pub use client::{CriError, Runtime};
