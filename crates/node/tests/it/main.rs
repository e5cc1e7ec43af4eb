//! Parts of the node agent against what they live on: a container runtime, an API server, network namespaces.
//!
//! Needs root and the system's tools; tests say `skipped: why` without.

#[cfg(test)]
mod machine;
#[cfg(test)]
mod netns;
