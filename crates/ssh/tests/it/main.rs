//! The library against OpenSSH's server, and against servers that mean no good.

// Test code as a whole, which clippy sees only function by function.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod hostile;
mod machine;
mod server;
