//! The service over an API server in memory, with controllers that do as they are told.

// Test code as a whole, which clippy sees only function by function.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;
mod controllers;
mod hostile;
mod instances;
mod library;
mod lists;
mod notifications;
mod operations;
mod packages;
mod secrets;
mod strangers;
mod vims;
mod world;
