//! Leader election by a `coordination.k8s.io/v1` Lease: of several control planes of a cluster, one runs the controllers.
//!
//! Who leads is decided by the API's conflict detection alone. A candidate never compares its own clock with times written
//! by others: it considers a lease expired when it has not *seen it change* for the lease's duration.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::api::ObjectMeta;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    config::LeaderElectionConfig,
    error::ReconcileError,
    kind::{ObjectKey, name},
    writer::Writer,
};

/// What a candidate should do about the lease it sees.
#[derive(Debug, PartialEq)]
pub enum Decision {
    /// Write this lease: it makes, or keeps, us the leader if the write succeeds.
    Claim(Box<Lease>),
    /// Somebody else leads; look again later.
    Wait,
}

/// Decides, given the lease as read and for how long it has been seen unchanged. Pure.
pub fn decide(
    config: &LeaderElectionConfig,
    current: Option<&Lease>,
    unchanged_for: Duration,
    now: Timestamp,
) -> Decision {
    let previous = current.and_then(|lease| lease.spec.clone()).unwrap_or_default();
    let holder = previous.holder_identity.as_deref().unwrap_or_default();
    let ours = holder == config.identity;
    if !ours && !holder.is_empty() {
        let seconds = previous.lease_duration_seconds.unwrap_or(0).max(1).unsigned_abs();
        if unchanged_for < Duration::from_secs(seconds.into()) {
            return Decision::Wait;
        }
    }
    let metadata = current.map_or_else(
        || ObjectMeta {
            name: Some(config.lease_name.clone()),
            namespace: Some(config.lease_namespace.clone()),
            ..Default::default()
        },
        |lease| lease.metadata.clone(),
    );
    let transitions = previous.lease_transitions.unwrap_or(0);
    let spec = LeaseSpec {
        holder_identity: Some(config.identity.clone()),
        lease_duration_seconds: Some(i32::try_from(config.lease_duration_seconds).unwrap_or(i32::MAX)),
        acquire_time: if ours { previous.acquire_time.clone() } else { Some(MicroTime(now)) },
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(if ours || current.is_none() {
            transitions
        } else {
            transitions.saturating_add(1)
        }),
        ..previous
    };
    Decision::Claim(Box::new(Lease { metadata, spec: Some(spec) }))
}

/// One candidate.
pub struct Candidate {
    config: LeaderElectionConfig,
    writer: Writer,
    /// The version last seen, and when it was first seen.
    observed: Option<(String, Instant)>,
}

impl Candidate {
    /// A candidate that has not seen the lease yet.
    pub fn new(config: LeaderElectionConfig, writer: Writer) -> Self {
        Self { config, writer, observed: None }
    }

    /// Waits until this candidate leads; `false` if `shutdown` came first.
    pub async fn acquire(&mut self, shutdown: &CancellationToken) -> bool {
        loop {
            match self.try_claim().await {
                Ok(true) => {
                    tracing::info!(identity = %self.config.identity, "became leader");
                    return true;
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "cannot try for leadership; trying again"),
            }
            tokio::select! {
                () = shutdown.cancelled() => return false,
                () = tokio::time::sleep(self.retry_period()) => {}
            }
        }
    }

    /// Keeps renewing; returns when leadership is lost or `shutdown` comes. On shutdown the lease is released, so that
    /// another candidate takes over at once.
    pub async fn hold(&mut self, shutdown: &CancellationToken) {
        let deadline = Duration::from_secs(self.config.renew_deadline_seconds);
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => {
                    self.release().await;
                    return;
                }
                () = tokio::time::sleep(self.retry_period()) => {}
            }
            let left = deadline.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(left, self.try_claim()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => {
                    tracing::warn!(identity = %self.config.identity, "another candidate took the lease");
                    return;
                }
                Ok(Err(error)) => tracing::warn!(%error, "cannot renew the lease"),
                Err(_) => {}
            }
            if renewed.elapsed() >= deadline {
                tracing::warn!(identity = %self.config.identity, "leadership lost: the lease could not be renewed in time");
                return;
            }
        }
    }

    async fn try_claim(&mut self) -> Result<bool, ReconcileError> {
        let key = ObjectKey::new(&self.config.lease_namespace, &self.config.lease_name);
        let current: Option<Lease> = self.writer.get(&key).await?;
        let unchanged_for = self.observe(current.as_ref());
        let Decision::Claim(claim) = decide(&self.config, current.as_ref(), unchanged_for, Timestamp::now())
        else {
            return Ok(false);
        };
        let written = match &current {
            None => self.writer.create(claim.as_ref()).await.map(Some),
            Some(current) => self.writer.update(current, claim.as_ref()).await,
        };
        match written {
            Ok(written) => {
                self.observe(written.as_ref());
                Ok(true)
            }
            Err(error) if error.is_conflict() || error.is_already_exists() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Notes the version of the lease and returns for how long that version has been seen.
    fn observe(&mut self, lease: Option<&Lease>) -> Duration {
        let version = lease.and_then(|lease| lease.metadata.resource_version.clone()).unwrap_or_default();
        match &self.observed {
            Some((seen, since)) if *seen == version => since.elapsed(),
            _ => {
                self.observed = Some((version, Instant::now()));
                Duration::ZERO
            }
        }
    }

    async fn release(&self) {
        let key = ObjectKey::new(&self.config.lease_namespace, &self.config.lease_name);
        let Ok(Some(current)) = self.writer.get::<Lease>(&key).await else { return };
        let mut released = current.clone();
        let spec = released.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.config.identity) {
            return;
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        if let Err(error) = self.writer.update(&current, &released).await {
            tracing::debug!(%error, lease = name(&current), "cannot release the lease; it will expire");
        }
    }

    fn retry_period(&self) -> Duration {
        Duration::from_secs(self.config.retry_period_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(identity: &str) -> LeaderElectionConfig {
        LeaderElectionConfig { identity: identity.into(), ..Default::default() }
    }

    fn claimed(decision: Decision) -> LeaseSpec {
        match decision {
            Decision::Claim(lease) => lease.spec.unwrap(),
            Decision::Wait => panic!("expected a claim"),
        }
    }

    fn held_by(identity: &str) -> Lease {
        match decide(&config(identity), None, Duration::ZERO, Timestamp::UNIX_EPOCH) {
            Decision::Claim(lease) => *lease,
            Decision::Wait => panic!("a free lease must be claimable"),
        }
    }

    #[test]
    fn a_free_lease_is_taken_and_kept() {
        let lease = held_by("a");
        let later = Timestamp::from_second(5).unwrap();
        let renewed = claimed(decide(&config("a"), Some(&lease), Duration::ZERO, later));
        assert_eq!(renewed.lease_transitions, Some(0));
        assert_eq!(renewed.acquire_time, lease.spec.unwrap().acquire_time);
        assert_eq!(renewed.renew_time, Some(MicroTime(later)));
    }

    #[test]
    fn another_takes_over_only_when_it_expired_or_was_released() {
        let lease = held_by("a");
        let now = Timestamp::from_second(1000).unwrap();
        assert_eq!(decide(&config("b"), Some(&lease), Duration::from_secs(14), now), Decision::Wait);
        let taken = claimed(decide(&config("b"), Some(&lease), Duration::from_secs(15), now));
        assert_eq!((taken.holder_identity.as_deref(), taken.lease_transitions), (Some("b"), Some(1)));
        let mut released = lease;
        released.spec.as_mut().unwrap().holder_identity = Some(String::new());
        claimed(decide(&config("b"), Some(&released), Duration::ZERO, now));
    }
}
