//! AppContexts in stores: the embedded one, and etcd.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod concurrency;
mod contexts;
mod counting;
mod edits;
mod figures;
mod fixture;
