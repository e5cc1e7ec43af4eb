//! The library against a real SSH server, real block devices with ext4, a real NFS server and a real NFS client, in namespaces.

// Test code as a whole, which clippy sees only function by function.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod host;
mod machine;
