//! Controller harness: what every controller of Drystone runs in.
//!
//! [`Controller`] builds on kube's own controller runtime, which watches, deduplicates and never reconciles one object twice at
//! the same time, and adds what that leaves open: malformed objects do not stop the watch, failures back off per
//! object, a reconciliation has a deadline, shutdown is graceful but bounded.

mod cache;
mod caches;
mod controller;
mod failures;
mod finalizer;
mod guarded;
mod reconciler;
mod seldom;
mod status;
mod waiters;
mod waiting;

pub use cache::{Cache, Change};
pub use caches::Caches;
pub use controller::{Controller, ControllerConfig, Objects, run};
pub use finalizer::{add_finalizer, has_finalizer, is_deleted, remove_finalizer};
pub use guarded::{Guarded, InvalidObject};
pub use reconciler::{Reconciler, Requeue, WatchedObject};
pub use seldom::Seldom;
pub use status::{StatusError, update_status};
pub use waiting::{seen, seen_ending, unseen, until};

#[cfg(test)]
mod tests;
