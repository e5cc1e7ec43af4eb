//! Fabric manager: topology, zones, forwarding tables, isolation proof, address pools and the address daemon.
//!
//! Rooms: [`model`] (graph and tables), [`plan`] (pure).

pub mod model;
pub mod plan;
