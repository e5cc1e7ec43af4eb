//! Bare-metal hosts: enrolment, inspection, power, provisioning.
//!
//! Rooms: [`model`] (addresses, inventory), [`plan`] (pure state machine), [`controller`] (carries it out), [`provisioner`] (ways of
//! provisioning), [`driver`] (management controllers), [`rotation`] (new passwords for them).

pub mod agent;
pub mod controller;
pub mod driver;
pub mod http;
pub mod medium;
pub mod model;
pub mod plan;
pub mod provisioner;
pub mod rotation;
