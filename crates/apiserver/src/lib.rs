//! The Kubernetes API over a store.

pub mod machinery;
