//! The client against a cloud that does what a test says, and against a real Keystone and Heat.

// Test code as a whole, which clippy sees only function by function.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod fake;
mod inventories;
mod machine;
mod peers;
mod protocol;
mod secure;
mod stacks;
