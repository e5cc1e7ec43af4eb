//! Plans: building them, and deciding what to do next. Everything here is pure: no I/O, no clock, no randomness.
//!
//! [`PlanBuilder`] makes an [`OperationSpec`](drystone_api::OperationSpec); [`Plan`] is one that was found valid, with its
//! graph; [`decide`] says what the engine has to do next, given what the journal says; [`transition`] are the
//! changes of the journal; [`estimate`] tells progress and remaining time.

mod builder;
mod decide;
pub mod estimate;
mod graph;
pub mod transition;
mod validate;

#[cfg(test)]
mod tests;

pub use builder::{PlanBuilder, StepBuilder};
pub use decide::{Decision, Situation, decide};
pub use graph::Graph;
pub use validate::{Plan, PlanError};
