//! What an object has come to. Pure.
//!
//! | module | what it does |
//! |---|---|
//! | [`rules`] | by kind, and for kinds that nobody here knows |
//! | [`bundle`] | EMCO's `ResourceBundleState` of a part |

pub mod bundle;
pub mod rules;
mod workloads;

pub use rules::{Readiness, has_run, judge, tells};
