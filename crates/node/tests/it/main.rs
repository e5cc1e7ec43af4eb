//! Parts of the node agent against real things.
//!
//! Needs root and the system's network tools; tests say `skipped: why` without.

// Test code as a whole, which clippy sees only function by function.
#![allow(clippy::unwrap_used)]

mod netns;
