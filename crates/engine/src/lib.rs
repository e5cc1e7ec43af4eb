//! Operations: plan, journal, run, resume, undo; controller harness and leader election.
//!
//! Two halves, used together by every domain:
//!
//! - **Operations.** A planner builds an [`OperationSpec`](drystone_api::OperationSpec) with [`plan::PlanBuilder`];
//!   [`operations::start`] stores it; the [`operations::OperationController`] carries it out with the [`action::Action`]s that
//!   the domains registered, journaling each step before and after its effect, so that a controller killed at any instant
//!   resumes where it was.
//! - **Controller harness.** [`harness::Controller`] calls a [`harness::Reconciler`] for each object that changed, one call
//!   at a time per object, with back-off; [`events::EventRecorder`] tells the story; [`leader`] makes sure that one process
//!   does it.
//!
//! What is decided is decided by pure functions ([`plan::decide`], [`leader::decide`], [`operations::prune`]); what has
//! effects calls them.

pub mod action;
pub mod backoff;
pub mod cluster_access;
pub mod events;
#[cfg(any(test, feature = "fake-api"))]
pub mod fake_api;
pub mod harness;
pub mod leader;
pub mod operations;
pub mod plan;
pub mod reference;
pub mod runner;
pub mod view;
