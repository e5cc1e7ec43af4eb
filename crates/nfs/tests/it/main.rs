//! The client against a real server: NFS-Ganesha, in a network namespace of the test's own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod machine;
