//! Redfish (DSP0266): resource types, an asynchronous client, and what any Redfish service needs.
//!
//! - [`types`]: the resources that Drystone reads and writes, as structs.
//! - [`client`]: talks to BMCs, switches and fabric agents; retries, sessions, tasks, crawling.
//! - [`server`]: turns a tree of resources into a service: routes, authentication, preconditions, queries, events.
//! - [`message`] and [`error`]: messages of the standard registries, and the error bodies made of them.
//! - [`etag`]: entity tags.
//! - [`tree`]: finished bodies by URI, for services that show much.

pub mod client;
pub mod error;
pub mod etag;
pub mod message;
pub mod server;
pub mod tree;
pub mod types;

/// Root of every Redfish service.
pub const SERVICE_ROOT: &str = "/redfish/v1";
