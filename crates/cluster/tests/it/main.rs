//! The programs that run on hosts, run by a real shell in a mount namespace, against a stand-in for kubeadm that checks what it is told.

// Test code as a whole, which clippy sees only function by function.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

/// A host of a test's own, with an SSH server and block devices; the library's tests have it.
#[allow(dead_code)]
#[path = "../../../storage/tests/it/host.rs"]
mod host;
mod machine;
