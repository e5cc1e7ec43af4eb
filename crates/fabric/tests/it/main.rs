//! The fabric manager over an API server in memory, with switches in memory.

// Test code as a whole, which clippy sees only function by function.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod agents;
mod strays;
mod switches;
mod world;
mod writes;
