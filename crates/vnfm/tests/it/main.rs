//! The life cycle of container network functions against an API server with the controllers of a cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cluster;
mod cnf;
