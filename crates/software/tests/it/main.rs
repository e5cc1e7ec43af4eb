//! Against the real thing: dpkg, rpm, an SSH server, the API server.

// Test code as a whole, which clippy sees only function by function.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cluster;
mod images;
mod killed;
mod machine;
#[path = "../../../metal/tests/it/mortal.rs"]
mod mortal;
mod stage;
mod versions;
