//! The service over an API server in memory, with controllers that do as they are told.

// Test code as a whole, which clippy sees only function by function.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod accounts;
mod aggregates;
mod at_once;
mod events;
mod hostile;
mod reads;
mod strangers;
mod systems;
mod world;
mod zones;
