//! Bare-metal hosts: enrolment, inspection, power, provisioning.
//!
//! Rooms: [`model`] (addresses, inventory), [`plan`] (pure state machine).

pub mod controller;
pub mod driver;
pub mod http;
pub mod medium;
pub mod model;
pub mod plan;
