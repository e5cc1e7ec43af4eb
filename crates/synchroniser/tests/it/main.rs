//! Contexts are carried to clusters, followed, changed, and taken back.

// Test code as a whole, which clippy sees only function by function.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod depend;
mod etcd;
mod faults;
mod flaky;
mod install;
mod kill;
mod real;
mod strict;
mod succession;
mod update;
mod world;
