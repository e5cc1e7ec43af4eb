//! Leader election by a `coordination.k8s.io/v1` Lease: of several processes, one runs the controllers.
//!
//! The rules and times are those of Kubernetes' own components (15 s lease, 10 s to renew, a try every 2 s). Who leads is
//! decided by the API's conflict detection alone; no clock is compared with another machine's: a lease counts as expired when it
//! has not been *seen to change* for its duration. A leader that cannot renew for 10 s stops what it runs and has 5 s for it
//! before somebody else may begin. What slips through all the same is refused by the resource versions of the journals.

mod candidate;
mod decide;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use candidate::lead;
pub use decide::{Decision, decide};

/// Who may lead, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderConfig {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease: what is led.
    pub name: String,
    /// Who this process is; different for each process, even on one machine.
    pub identity: String,
    /// How long a lease is respected after it was last seen to change.
    pub lease_duration: Duration,
    /// How long a leader tries to renew before it gives up.
    pub renew_deadline: Duration,
    /// Time between tries.
    pub retry_period: Duration,
}

impl LeaderConfig {
    /// The usual times, in Drystone's own namespace, under an identity made of host name and a random number.
    pub fn new(name: impl Into<String>) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = if host.trim().is_empty() { "drystone" } else { host.trim() };
        Self {
            namespace: drystone_api::SYSTEM_NAMESPACE.to_owned(),
            name: name.into(),
            identity: format!("{host}_{}", uuid::Uuid::new_v4()),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}
