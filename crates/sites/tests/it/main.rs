//! Global and local controllers on real API servers in this process, with cables between them that can be cut.

// Test code as a whole, which clippy sees only function by function.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod convergence;
mod delivery;
mod hand_off;
mod local;
mod receiver;
mod world;
