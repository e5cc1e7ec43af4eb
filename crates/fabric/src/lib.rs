//! Fabric manager: topology, zones, forwarding tables, isolation proof, address pools and the address daemon.
//!
//! Rooms: [`model`] (graph and tables), [`plan`] (pure), [`drivers`] (fabric services), [`controller`],
//! [`addresses`] (leases) and [`http`] (the address daemon's front end).

pub mod addresses;
pub mod agents;
pub mod controller;
pub mod drivers;
pub mod http;
pub mod model;
pub mod plan;

pub use controller::{FabricConfig, FabricManager};
