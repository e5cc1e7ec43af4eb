//! The scheduler and all controllers against a real API server in this process, with hollow nodes that pretend to run pods.

#[cfg(test)]
mod cluster;
#[cfg(test)]
mod deployments;
#[cfg(test)]
mod jobs;
#[cfg(test)]
mod leadership;
#[cfg(test)]
mod nodes;
#[cfg(test)]
mod scheduling;
#[cfg(test)]
mod services;
#[cfg(test)]
mod sets;
#[cfg(test)]
mod storage;
