//! Storage of a cluster: a `StorageServer` becomes an NFS server with the drives of a host, and PersistentVolumes in the cluster.
//!
//! Rooms: [`model`] (what it means, what is wrong with it), [`plan`] (pure), `steps` (effects, over SSH by the library `storage`, and in the
//! cluster), `controller`.

mod controller;
pub mod model;
pub mod plan;
pub mod steps;

pub(crate) use controller::run;
