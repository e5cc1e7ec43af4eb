//! The program as its users run it: processes, files, stock kubectl.

// Test code as a whole, which clippy sees only function by function.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod compose;
mod e2e;
mod etcd;
mod faults;
mod process;
mod sites;
mod stage;
mod sunfish;
mod up;
