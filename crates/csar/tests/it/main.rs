//! Packages as wholes: the example, packages that are broken in each way, and the stack requests that are made of them.

// Test code as a whole, which clippy sees only function by function.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod broken;
mod packages;
mod previews;
mod requests;
