//! Cluster life cycle: from a declared `Cluster` to running nodes, growth when pods do not fit, and back to the pools.
//!
//! Rooms: [`model`] (names and what a specification means), [`plan`] (pure: what to do next), [`bootstrap`] (what a host
//! is booted with), [`growth`] (pure: how many hosts are missing), [`steps`] (effects) and [`controller`]. [`storage`] gives a cluster
//! PersistentVolumes.

pub mod access;
pub mod bootstrap;
pub mod controller;
pub mod distribution;
pub mod ensure;
pub mod gateway;
pub mod growth;
pub mod model;
pub mod plan;
pub mod steps;
pub mod storage;

pub use controller::{ClusterConfig, run};
