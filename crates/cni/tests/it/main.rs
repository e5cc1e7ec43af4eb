//! The network of two nodes in network namespaces: the plugin as a runtime calls it, packets between pods, Services.
//!
//! Needs root, `ip`, `nft` and `nsenter`; tests say `skipped: why` without.

// The lab is test code as a whole, which clippy sees only function by function.
#![allow(clippy::unwrap_used)]

mod lab;
mod netns;
