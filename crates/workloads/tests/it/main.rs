//! The scheduler and all controllers against a real API server in this process, with hollow nodes that pretend to run pods.

mod cluster;
mod deployments;
mod jobs;
mod leadership;
mod nodes;
mod scheduling;
mod services;
mod sets;
mod storage;
