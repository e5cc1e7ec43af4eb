//! How fast pods may be driven off failing nodes: zone by zone, slower when much of a zone fails, not at all when everything
//! does. Pure.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Node;
use tokio::time::Instant;

use super::taint::{Eviction, Readiness};
use crate::kind::label;

/// From this share of failing nodes on a zone counts as disrupted (if more than two nodes fail).
const DISRUPTED_SHARE: f64 = 0.55;
/// Disrupted zones with no more nodes than this are left alone; larger ones are evicted slowly.
const SMALL_ZONE: usize = 50;
/// Nodes per second of a large disrupted zone.
const SLOW_RATE: f64 = 0.01;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct ZoneCount {
    ready: usize,
    failing: usize,
}

/// How a zone stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ZoneState {
    Normal,
    Disrupted { small: bool },
    Down,
}

impl ZoneCount {
    fn state(self) -> ZoneState {
        let total = self.ready + self.failing;
        if self.failing > 0 && self.ready == 0 {
            return ZoneState::Down;
        }
        #[allow(clippy::cast_precision_loss)]
        let share = self.failing as f64 / total.max(1) as f64;
        if self.failing > 2 && share >= DISRUPTED_SHARE {
            ZoneState::Disrupted { small: total <= SMALL_ZONE }
        } else {
            ZoneState::Normal
        }
    }
}

/// Gives out permissions to begin evicting a node, at a limited rate per zone.
#[derive(Debug, Default)]
pub struct Pace {
    /// When the next node of a zone may begin.
    next: HashMap<String, Instant>,
}

/// The zone of a node: region and zone labels together; all nodes without are one zone.
pub fn zone(node: &Node) -> String {
    let part = |key| label(node, key).unwrap_or_default();
    format!("{}/{}", part("topology.kubernetes.io/region"), part("topology.kubernetes.io/zone"))
}

impl Pace {
    /// Whether pods may be driven off `node`, given all nodes. `rate` is nodes per second in a zone that is otherwise well.
    ///
    /// [`Eviction::Begin`] uses the permission up; ask only for a node that is not ready and not being evicted already.
    pub fn permit<'a>(
        &mut self,
        node: &Node,
        all: impl IntoIterator<Item = &'a Node>,
        rate: f64,
        now: Instant,
    ) -> Eviction {
        let mut zones: HashMap<String, ZoneCount> = HashMap::new();
        for other in all {
            let count = zones.entry(zone(other)).or_default();
            match Readiness::of(other) {
                Readiness::Ready => count.ready += 1,
                _ => count.failing += 1,
            }
        }
        if zones.values().all(|count| count.state() == ZoneState::Down) {
            return Eviction::Halt;
        }
        let zone = zone(node);
        let rate = match zones.get(&zone).copied().unwrap_or_default().state() {
            // Another zone is well, so this one is really gone.
            ZoneState::Normal | ZoneState::Down => rate,
            ZoneState::Disrupted { small: true } => 0.0,
            ZoneState::Disrupted { small: false } => SLOW_RATE.min(rate),
        };
        if super::taint::is_evicting(node) {
            return Eviction::Continue;
        }
        if rate <= 0.0 || self.next.get(&zone).is_some_and(|next| *next > now) {
            return Eviction::Continue;
        }
        self.next.insert(zone, now + std::time::Duration::from_secs_f64((1.0 / rate).min(86_400.0)));
        Eviction::Begin
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use k8s_openapi::api::core::v1::{NodeCondition, NodeStatus};

    use super::*;

    fn nodes(ready: usize, failing: usize, zone: &str) -> Vec<Node> {
        let node = |status: &str| {
            let ready = NodeCondition { type_: "Ready".into(), status: status.into(), ..Default::default() };
            let mut node = Node {
                status: Some(NodeStatus { conditions: Some(vec![ready]), ..Default::default() }),
                ..Default::default()
            };
            node.metadata.labels = Some([("topology.kubernetes.io/zone".to_owned(), zone.to_owned())].into());
            node
        };
        let failing = std::iter::repeat_with(|| node("Unknown")).take(failing);
        failing.chain(std::iter::repeat_with(|| node("True")).take(ready)).collect()
    }

    #[test]
    fn one_node_after_the_other() {
        let mut pace = Pace::default();
        let all = nodes(3, 2, "a");
        let now = Instant::now();
        assert_eq!(pace.permit(&all[0], &all, 0.1, now), Eviction::Begin);
        assert_eq!(pace.permit(&all[1], &all, 0.1, now + Duration::from_secs(9)), Eviction::Continue);
        assert_eq!(pace.permit(&all[1], &all, 0.1, now + Duration::from_secs(10)), Eviction::Begin);
    }

    #[test]
    fn widespread_failure_is_not_made_worse() {
        let now = Instant::now();
        let down = nodes(0, 3, "a");
        assert_eq!(Pace::default().permit(&down[0], &down, 0.1, now), Eviction::Halt);
        let disrupted = nodes(2, 3, "a");
        assert_eq!(Pace::default().permit(&disrupted[0], &disrupted, 0.1, now), Eviction::Continue);
        let mut two_zones = nodes(0, 3, "a");
        two_zones.extend(nodes(3, 0, "b"));
        assert_eq!(Pace::default().permit(&two_zones[0], &two_zones, 0.1, now), Eviction::Begin);
        let two_of_three = nodes(1, 2, "a");
        assert_eq!(Pace::default().permit(&two_of_three[0], &two_of_three, 0.1, now), Eviction::Begin);
    }
}
