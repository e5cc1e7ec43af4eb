//! Many Kubernetes API servers in one process, light enough for a thousand: for tests and measurements, never for work.
//!
//! They speak real HTTP (1.1 and 2, plain text) on one port, each below a path of its own, and know what a client needs that applies,
//! watches and deletes objects: server-side apply, create, get, list and watch by label, delete with preconditions, approval of certificate
//! signing requests, and what kinds definitions bring. What an object would become by its controllers it is at once, or when it is said so.
//! Nothing is validated. Objects that are the same on many clusters are kept once.
//!
//! | module | what it does |
//! |---|---|
//! | `server` | the port, and requests |
//! | `cluster` | what a cluster keeps, and its faults |
//! | `discovery` | which kinds there are, for clients that ask |
//! | `object` | objects, and what controllers would make of them |

mod cluster;
mod discovery;
mod object;
mod server;

pub use cluster::{Cluster, Counts, Fault};
pub use server::{Options, Simulation};
