//! Charts of our own, rendered by the real helm, beside what helm says when it is asked by hand.

// Test code as a whole, which clippy sees only function by function.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod charts;
mod measure;
mod overrides;
mod pack;
mod refusals;
