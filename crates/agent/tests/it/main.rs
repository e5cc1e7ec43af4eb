//! An agent and its desk, over HTTP, on a machine whose disk is a file.

// Test code as a whole, which clippy sees only function by function.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod desk;
mod orders;
