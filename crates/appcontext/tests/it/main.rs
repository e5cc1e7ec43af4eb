//! AppContexts in stores: the embedded one, and etcd.

mod concurrency;
mod contexts;
mod counting;
mod edits;
mod fixture;
