//! Which nodes have gone silent. Pure: observations and times in, assessments out.
//!
//! A node shows that it lives by renewing its Lease or updating its status. Only *changes* count, timed by this process's
//! own clock: the clocks of nodes need not agree with ours, and after a restart every node gets the full grace period.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Node, NodeCondition},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, Time},
};
use tokio::time::Instant;

use crate::kind;

/// Conditions that nobody can vouch for once the node is silent.
const REPORTED_BY_NODE: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// What a sign of life looks like: if any of it differs from before, the node lives.
#[derive(Debug, Clone, PartialEq)]
struct Signs {
    renewed: Option<MicroTime>,
    heartbeats: Vec<(String, String, Option<Time>)>,
}

#[derive(Debug, Clone)]
struct Observation {
    signs: Signs,
    changed: Instant,
}

/// Grace periods.
#[derive(Debug, Clone, Copy)]
pub struct Grace {
    /// For a node that has reported before.
    pub usual: Duration,
    /// For a node that never has.
    pub startup: Duration,
}

/// Whether a node is alive as far as one can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// It gave a sign of life within its grace period, which ends after this time unless it gives another.
    Alive(Duration),
    /// It has been silent for too long.
    Silent,
}

/// The memory of signs of life.
#[derive(Debug, Default)]
pub struct Health {
    observations: HashMap<String, Observation>,
}

impl Health {
    /// Takes note of what a node shows now and says whether it lives.
    pub fn observe(&mut self, node: &Node, lease: Option<&Lease>, grace: Grace, now: Instant) -> Liveness {
        let signs = signs(node, lease);
        let name = kind::name(node).to_owned();
        let observation = self
            .observations
            .entry(name)
            .or_insert_with(|| Observation { signs: signs.clone(), changed: now });
        if observation.signs != signs {
            *observation = Observation { signs, changed: now };
        }
        let reported = condition(node, "Ready").is_some();
        let limit = if reported { grace.usual } else { grace.startup };
        let silent_for = now.saturating_duration_since(observation.changed);
        if silent_for >= limit { Liveness::Silent } else { Liveness::Alive(limit - silent_for) }
    }

    /// Forgets nodes that no longer exist.
    pub fn retain(&mut self, exists: impl Fn(&str) -> bool) {
        self.observations.retain(|name, _| exists(name));
    }
}

fn signs(node: &Node, lease: Option<&Lease>) -> Signs {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let mut heartbeats: Vec<_> = conditions
        .iter()
        // A condition that this controller set is no sign of the node.
        .filter(|condition| condition.status != "Unknown")
        .map(|c| (c.type_.clone(), c.status.clone(), c.last_heartbeat_time.clone()))
        .collect();
    heartbeats.sort_by(|a, b| a.0.cmp(&b.0));
    Signs {
        renewed: lease.and_then(|lease| lease.spec.as_ref()).and_then(|spec| spec.renew_time.clone()),
        heartbeats,
    }
}

/// A condition of a node.
pub fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == type_)
}

/// The conditions to write for a silent node; empty if they are all `Unknown` already.
pub fn silent_conditions(node: &Node, now: Timestamp) -> Vec<NodeCondition> {
    REPORTED_BY_NODE
        .into_iter()
        .filter_map(|type_| {
            let known = condition(node, type_);
            if known.is_some_and(|known| known.status == "Unknown") {
                return None;
            }
            let (reason, message) = if known.is_some() {
                ("NodeStatusUnknown", "Kubelet stopped posting node status.")
            } else {
                ("NodeStatusNeverUpdated", "Kubelet never posted node status.")
            };
            Some(NodeCondition {
                type_: type_.into(),
                status: "Unknown".into(),
                reason: Some(reason.into()),
                message: Some(message.into()),
                last_heartbeat_time: known
                    .and_then(|known| known.last_heartbeat_time.clone())
                    .or_else(|| node.metadata.creation_timestamp.clone()),
                last_transition_time: Some(Time(now)),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{coordination::v1::LeaseSpec, core::v1::NodeStatus};

    use super::*;

    const GRACE: Grace = Grace { usual: Duration::from_secs(40), startup: Duration::from_secs(60) };

    fn node(ready: Option<&str>, heartbeat: i64) -> Node {
        let conditions = ready.map(|status| {
            vec![NodeCondition {
                type_: "Ready".into(),
                status: status.into(),
                last_heartbeat_time: Some(Time(Timestamp::from_second(heartbeat).unwrap())),
                ..Default::default()
            }]
        });
        let mut node =
            Node { status: Some(NodeStatus { conditions, ..Default::default() }), ..Default::default() };
        node.metadata.name = Some("n".into());
        node
    }

    fn lease(renewed: i64) -> Lease {
        let renew_time = Some(MicroTime(Timestamp::from_second(renewed).unwrap()));
        Lease { spec: Some(LeaseSpec { renew_time, ..Default::default() }), ..Default::default() }
    }

    #[test]
    fn any_change_is_a_sign_of_life_whatever_clock_it_shows() {
        let mut health = Health::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let alive = |liveness| matches!(liveness, Liveness::Alive(_));
        assert!(alive(health.observe(&node(Some("True"), 1), Some(&lease(9_999)), GRACE, at(0))));
        assert!(alive(health.observe(&node(Some("True"), 1), Some(&lease(9_999)), GRACE, at(39))));
        assert_eq!(
            health.observe(&node(Some("True"), 1), Some(&lease(9_999)), GRACE, at(40)),
            Liveness::Silent
        );
        // The lease jumps backwards: the node's clock was set, but it lives.
        assert!(alive(health.observe(&node(Some("True"), 1), Some(&lease(5)), GRACE, at(41))));
        assert!(alive(health.observe(&node(Some("True"), 2), Some(&lease(5)), GRACE, at(80))));
        // What the controller itself writes is no sign of life.
        assert_eq!(health.observe(&node(Some("True"), 2), None, GRACE, at(90)), Liveness::Alive(GRACE.usual));
        assert_eq!(
            health.observe(&node(Some("Unknown"), 2), None, GRACE, at(95)),
            Liveness::Alive(GRACE.usual)
        );
        assert_eq!(health.observe(&node(Some("Unknown"), 2), None, GRACE, at(135)), Liveness::Silent);
    }

    #[test]
    fn a_node_that_never_reported_has_longer() {
        let mut health = Health::default();
        let start = Instant::now();
        assert_eq!(health.observe(&node(None, 0), None, GRACE, start), Liveness::Alive(GRACE.startup));
        assert_eq!(health.observe(&node(None, 0), None, GRACE, start + GRACE.startup), Liveness::Silent);
        let written = silent_conditions(&node(None, 0), Timestamp::UNIX_EPOCH);
        assert_eq!((written.len(), written[0].reason.as_deref()), (4, Some("NodeStatusNeverUpdated")));
        let written = silent_conditions(&node(Some("True"), 0), Timestamp::UNIX_EPOCH);
        assert_eq!(written[0].reason.as_deref(), Some("NodeStatusUnknown"));
        assert_eq!(silent_conditions(&node(Some("Unknown"), 0), Timestamp::UNIX_EPOCH).len(), 3);
    }
}
