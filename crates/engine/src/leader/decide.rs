//! What a candidate does about the lease that it sees. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{api::coordination::v1::LeaseSpec, apimachinery::pkg::apis::meta::v1::MicroTime};

use super::LeaderConfig;

/// What a candidate does about the lease that it sees.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Write this: if the write succeeds, the candidate leads.
    Claim(Box<LeaseSpec>),
    /// Somebody else leads.
    Follow {
        /// Who.
        leader: String,
    },
}

/// Decides what to do about a lease, `None` if there is none, that has been seen unchanged for that long.
pub fn decide(
    config: &LeaderConfig,
    lease: Option<&LeaseSpec>,
    unchanged_for: Duration,
    now: Timestamp,
) -> Decision {
    let holder = lease.and_then(|lease| lease.holder_identity.as_deref()).unwrap_or_default();
    let ours = holder == config.identity;
    if let Some(lease) = lease.filter(|_| !ours && !holder.is_empty()) {
        let duration = lease.lease_duration_seconds.unwrap_or(0).max(1).unsigned_abs();
        if unchanged_for < Duration::from_secs(duration.into()) {
            return Decision::Follow { leader: holder.to_owned() };
        }
    }
    let transitions = lease.and_then(|lease| lease.lease_transitions).unwrap_or(0);
    let acquired = lease.filter(|_| ours).and_then(|lease| lease.acquire_time.clone());
    Decision::Claim(Box::new(LeaseSpec {
        holder_identity: Some(config.identity.clone()),
        lease_duration_seconds: Some(i32::try_from(config.lease_duration.as_secs()).unwrap_or(i32::MAX)),
        acquire_time: Some(acquired.unwrap_or(MicroTime(now))),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(if ours || lease.is_none() {
            transitions
        } else {
            transitions.saturating_add(1)
        }),
        ..LeaseSpec::default()
    }))
}

/// What a leader that goes writes, so that nobody has to wait for the lease to expire. There is no holder then; an empty name
/// would be refused.
pub(super) fn released(lease: &LeaseSpec, now: Timestamp) -> LeaseSpec {
    LeaseSpec {
        holder_identity: None,
        lease_duration_seconds: Some(1),
        acquire_time: Some(MicroTime(now)),
        renew_time: Some(MicroTime(now)),
        lease_transitions: lease.lease_transitions,
        ..LeaseSpec::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            acquire_time: Some(MicroTime(Timestamp::UNIX_EPOCH)),
            lease_transitions: Some(3),
            ..LeaseSpec::default()
        }
    }

    fn claim(lease: Option<&LeaseSpec>, unchanged_seconds: u64) -> Option<LeaseSpec> {
        let config = LeaderConfig { identity: "me".to_owned(), ..LeaderConfig::new("test") };
        let now = Timestamp::from_second(100).expect("in range");
        match decide(&config, lease, Duration::from_secs(unchanged_seconds), now) {
            Decision::Claim(spec) => Some(*spec),
            Decision::Follow { leader } => {
                assert_eq!(leader, "other");
                None
            }
        }
    }

    #[test]
    fn a_lease_that_is_renewed_is_respected() {
        assert_eq!(claim(Some(&held_by("other")), 14), None);
    }

    #[test]
    fn an_expired_lease_is_taken_over() {
        let spec = claim(Some(&held_by("other")), 15).expect("claimed");
        assert_eq!(spec.holder_identity.as_deref(), Some("me"));
        assert_eq!(spec.lease_transitions, Some(4));
    }

    #[test]
    fn a_missing_or_released_lease_is_taken_at_once() {
        assert_eq!(claim(None, 0).and_then(|spec| spec.lease_transitions), Some(0));
        let free = released(&held_by("other"), Timestamp::UNIX_EPOCH);
        assert_eq!(claim(Some(&free), 0).and_then(|spec| spec.lease_transitions), Some(4));
    }

    #[test]
    fn renewing_keeps_the_time_of_acquisition() {
        let spec = claim(Some(&held_by("me")), 0).expect("renewed");
        assert_eq!(spec.acquire_time, Some(MicroTime(Timestamp::UNIX_EPOCH)));
        assert_eq!(spec.lease_transitions, Some(3));
        assert_ne!(spec.renew_time, spec.acquire_time);
    }
}
