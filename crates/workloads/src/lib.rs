//! What runs inside a Kubernetes cluster's control plane: the scheduler and the controllers of workloads, services, nodes
//! and volumes.
//!
//! All of them are ordinary clients of the API, which may be in the same process. Each has a pure core that decides
//! (`plan`, `decide`, tested with tables and properties) and a thin loop that watches and writes. They share one set of
//! watch caches. No state is kept outside the API: any of them can be stopped at any instant and started anywhere.

pub mod batch;
pub mod cache;
pub mod caches;
pub mod config;
pub mod context;
pub mod cronjob;
pub mod daemonset;
mod dependents;
pub mod deployment;
pub mod disruption;
pub mod endpoints;
pub mod error;
pub mod events;
pub mod expectations;
pub mod harness;
pub mod informer;
pub mod job;
pub mod kind;
pub mod leader;
pub mod loadbalancer;
pub mod node;
pub mod owner;
pub mod pod;
pub mod podgc;
pub mod queue;
pub mod replicaset;
pub mod revisions;
mod run;
pub mod scheduler;
pub mod statefulset;
pub mod template;
pub mod volumes;
pub mod writer;

pub use config::WorkloadsConfig;
pub use error::{ConfigError, WorkloadsError};
pub use run::run;
