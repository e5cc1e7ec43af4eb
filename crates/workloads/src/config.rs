//! Configuration of the in-cluster controllers.

use serde::{Deserialize, Serialize};

use crate::{error::ConfigError, loadbalancer::pool::Pools};

/// Everything the controllers can be told. The default runs one set of controllers without external addresses.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WorkloadsConfig {
    /// Elects a leader among several control planes; without it this process always runs the controllers.
    pub leader_election: Option<LeaderElectionConfig>,
    /// Where LoadBalancer Services get their addresses from.
    pub external_pools: Vec<ExternalPool>,
    /// Scheduler.
    pub scheduler: SchedulerConfig,
    /// Node life cycle.
    pub nodes: NodeConfig,
    /// Garbage collection of pods.
    pub pods: PodGarbageConfig,
    /// Workers per controller.
    pub concurrency: Concurrency,
}

impl WorkloadsConfig {
    /// Checks everything that can be checked without a cluster.
    ///
    /// # Errors
    /// The first mistake, with the path of its field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        Pools::parse(&self.external_pools)?;
        if let Some(election) = &self.leader_election {
            election.validate()?;
        }
        self.nodes.validate()?;
        if self.scheduler.name.is_empty() {
            return Err(ConfigError::new(
                "scheduler.name",
                "must not be empty; the usual name is default-scheduler",
            ));
        }
        if self.concurrency.workers == 0 {
            return Err(ConfigError::new("concurrency.workers", "must be at least 1"));
        }
        Ok(())
    }
}

/// A named set of external addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalPool {
    /// Name, as Services request it by the annotation `drystone.dev/external-pool`.
    pub name: String,
    /// Addresses: `203.0.113.0/28`, `203.0.113.10-203.0.113.20`, or single ones.
    pub ranges: Vec<String>,
    /// Whether Services that name no pool may get addresses of it.
    #[serde(default = "yes")]
    pub auto_assign: bool,
}

fn yes() -> bool {
    true
}

/// Leader election by a Lease; times as in Kubernetes' own components.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LeaderElectionConfig {
    /// What tells this candidate from the others, such as its host name. Must be unique.
    pub identity: String,
    /// Namespace of the Lease.
    pub lease_namespace: String,
    /// Name of the Lease.
    pub lease_name: String,
    /// Seconds after which an unchanged Lease may be taken over.
    pub lease_duration_seconds: u64,
    /// Seconds after which a leader that cannot renew stops leading; less than the lease's duration.
    pub renew_deadline_seconds: u64,
    /// Seconds between two tries.
    pub retry_period_seconds: u64,
}

impl Default for LeaderElectionConfig {
    fn default() -> Self {
        Self {
            identity: String::new(),
            lease_namespace: "kube-system".into(),
            lease_name: "drystone-workloads".into(),
            lease_duration_seconds: 15,
            renew_deadline_seconds: 10,
            retry_period_seconds: 2,
        }
    }
}

impl LeaderElectionConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let field = |name: &str| format!("leaderElection.{name}");
        if self.identity.is_empty() {
            return Err(ConfigError::new(
                field("identity"),
                "must name this candidate, for instance by its host name",
            ));
        }
        if self.retry_period_seconds == 0 || self.renew_deadline_seconds <= self.retry_period_seconds {
            return Err(ConfigError::new(
                field("renewDeadlineSeconds"),
                "must be greater than retryPeriodSeconds, which must be at least 1",
            ));
        }
        if self.lease_duration_seconds <= self.renew_deadline_seconds {
            return Err(ConfigError::new(
                field("leaseDurationSeconds"),
                "must be greater than renewDeadlineSeconds",
            ));
        }
        Ok(())
    }
}

/// Configuration of the scheduler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SchedulerConfig {
    /// Pods whose `spec.schedulerName` is this one are scheduled.
    pub name: String,
    /// Bindings in flight at a time.
    pub parallel_bindings: usize,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self { name: "default-scheduler".into(), parallel_bindings: 32 }
    }
}

/// Configuration of the node life cycle; times as in Kubernetes' own controller.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NodeConfig {
    /// Seconds between two looks at all nodes.
    pub monitor_period_seconds: u64,
    /// Seconds without a heartbeat after which a node's condition becomes Unknown.
    pub grace_period_seconds: u64,
    /// The same for a node that has never reported.
    pub startup_grace_period_seconds: u64,
    /// How long pods that say nothing about it stay on a node that is not ready or unreachable.
    pub default_toleration_seconds: i64,
    /// Nodes per second and zone from which eviction may begin.
    pub eviction_rate: f64,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            monitor_period_seconds: 5,
            grace_period_seconds: 40,
            startup_grace_period_seconds: 60,
            default_toleration_seconds: 300,
            eviction_rate: 0.1,
        }
    }
}

impl NodeConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        if self.monitor_period_seconds == 0 {
            return Err(ConfigError::new("nodes.monitorPeriodSeconds", "must be at least 1"));
        }
        if self.grace_period_seconds < self.monitor_period_seconds {
            return Err(ConfigError::new(
                "nodes.gracePeriodSeconds",
                "must be at least monitorPeriodSeconds",
            ));
        }
        if self.default_toleration_seconds < 0 {
            return Err(ConfigError::new("nodes.defaultTolerationSeconds", "must not be negative"));
        }
        if !self.eviction_rate.is_finite() || self.eviction_rate < 0.0 {
            return Err(ConfigError::new(
                "nodes.evictionRate",
                "must be a number of nodes per second, 0 or more",
            ));
        }
        Ok(())
    }
}

/// Configuration of the pod garbage collector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PodGarbageConfig {
    /// How many finished pods may remain; the oldest above that are deleted. 0 means no limit.
    pub terminated_threshold: usize,
    /// Seconds that a node must be missing before its pods are deleted.
    pub orphan_quarantine_seconds: u64,
}

impl Default for PodGarbageConfig {
    fn default() -> Self {
        Self { terminated_threshold: 12_500, orphan_quarantine_seconds: 40 }
    }
}

/// How much is done in parallel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Concurrency {
    /// Objects that one controller reconciles at a time.
    pub workers: usize,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self { workers: 5 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_mistakes_name_their_field() {
        WorkloadsConfig::default().validate().unwrap();
        let parse = |text: &str| serde_json::from_str::<WorkloadsConfig>(text).unwrap();
        for (text, field) in [
            (
                r#"{"externalPools":[{"name":"a","ranges":["10.0.0.9-10.0.0.1"]}]}"#,
                "externalPools[0].ranges[0]",
            ),
            (r#"{"leaderElection":{"identity":""}}"#, "leaderElection.identity"),
            (
                r#"{"leaderElection":{"identity":"a","leaseDurationSeconds":5}}"#,
                "leaderElection.leaseDurationSeconds",
            ),
            (r#"{"nodes":{"gracePeriodSeconds":1}}"#, "nodes.gracePeriodSeconds"),
            (r#"{"scheduler":{"name":""}}"#, "scheduler.name"),
            (r#"{"concurrency":{"workers":0}}"#, "concurrency.workers"),
        ] {
            assert_eq!(parse(text).validate().unwrap_err().field, field, "{text}");
        }
        assert!(serde_json::from_str::<WorkloadsConfig>(r#"{"externalPool":[]}"#).is_err());
    }
}
