//! Drystone's own Redfish service: one tree in which systems, chassis, fabrics, zones, pools of resource blocks and tasks are
//! found together, whichever part of Drystone looks after them (DMTF Redfish, and OFMF's one tree of all fabrics).
//!
//! | module | what it does |
//! |---|---|
//! | [`feed`] | watches Drystone's resources and keeps the tree current |
//! | [`render`] | from resources to Redfish bodies; pure |
//! | [`service`] | answers requests: reads out of the tree, writes as changes of resources |
//! | `writes` | what a POST, PATCH or DELETE becomes |
//! | [`agents`] | announcements of agents, and writes that are theirs to carry out |
//! | [`accounts`] | users, kept as Secrets |
//! | `subscriptions` | who wants to be told what; events out of what changes in the tree |
//!
//! The tree is a cache: it is made anew after a start, and writes never touch it. They become resources, whose controllers do
//! the work; the reply waits for them.

pub mod accounts;
pub mod agents;
pub mod feed;
pub mod names;
pub mod render;
pub mod service;
mod subscriptions;
mod writes;

pub use service::{Config, Door, Ofmf};
