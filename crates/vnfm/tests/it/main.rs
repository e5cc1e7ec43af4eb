//! The life cycle against real API servers: container network functions on a cluster, and stacks of an emulated cloud.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cluster;
mod cnf;
mod stacks;
