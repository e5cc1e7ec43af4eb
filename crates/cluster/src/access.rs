//! Reaching a composed cluster with its administrator's kubeconfig.

pub use drystone_engine::cluster_access::{AccessError, check, client_of, kubeconfig};
