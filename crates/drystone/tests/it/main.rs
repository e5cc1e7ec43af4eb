//! The program as its users run it: processes, files, stock kubectl.

// Test code as a whole, which clippy sees only function by function.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod appcontext;
mod compose;
mod disk_images;
mod e2e;
mod emco_grpc;
mod emco_rest;
mod etcd;
mod faults;
mod images;
mod machine;
mod nfv;
mod process;
mod search;
mod secrets;
mod sequences;
mod sites;
mod software;
mod stage;
mod sunfish;
mod up;
