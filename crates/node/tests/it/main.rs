//! Parts of the node agent against what they live on: a container runtime, an API server, network namespaces.
//!
//! Needs root and the system's tools; tests say `skipped: why` without.

// Test code as a whole, which clippy sees only function by function.
#![allow(clippy::unwrap_used)]

mod machine;
mod netns;
