//! Composite applications over many clusters: life cycle, placement, logical clouds, networks and status, as EMCO (Edge Multi-Cluster
//! Orchestrator, release 22.09) has them.
//!
//! | module | what it does |
//! |---|---|
//! | [`builtin`] | gac, ovnaction, ncm: what EMCO has as services of their own |
//! | [`model`] | histories of states, refusals, clusters as placement sees them; the documents of a deployment |
//! | [`plan`] | pure: state machines, placement, checks |
//! | [`status`] | pure: status queries |

pub mod builtin;
pub mod model;
pub mod plan;
pub mod status;
