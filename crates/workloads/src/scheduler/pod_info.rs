//! A pod as the scheduler sees it: everything parsed once, so that looking at a thousand nodes parses nothing.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1::{
    Pod, PodAffinityTerm, PodSpec, Toleration, TopologySpreadConstraint, WeightedPodAffinityTerm,
};
use kube::core::{Expression, Selector, SelectorExt};

use super::{
    node_selector::Labels,
    resources::{Resources, compared_request, pod_request},
};
use crate::{kind, owner::controller_of};

/// A port of the node that a pod occupies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Address it is bound to; `0.0.0.0` for all.
    pub address: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Number.
    pub port: i32,
}

impl HostPort {
    /// Whether both cannot be on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        let anywhere = |address: &str| address == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address == other.address || anywhere(&self.address) || anywhere(&other.address))
    }
}

/// Pods near which, or away from which, a pod wants to be.
#[derive(Debug, Clone)]
pub struct AffinityTerm {
    namespaces: BTreeSet<String>,
    namespace_selector: Option<Selector>,
    selector: Option<Selector>,
    /// Nodes with the same value of this label are one place.
    pub topology_key: String,
}

/// Labels of a namespace, for terms that select namespaces.
pub type NamespaceLabels<'a> = &'a dyn Fn(&str) -> Labels;

impl AffinityTerm {
    fn parse(term: &PodAffinityTerm, pod: &Pod) -> Self {
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(kind::namespace(pod).to_owned());
        }
        let mut selector: Option<Selector> = term.label_selector.clone().and_then(|s| s.try_into().ok());
        if let Some(selector) = &mut selector {
            for (keys, equal) in [(&term.match_label_keys, true), (&term.mismatch_label_keys, false)] {
                extend_by_own_labels(selector, keys.as_deref(), pod, equal);
            }
        }
        Self {
            namespaces,
            namespace_selector: term.namespace_selector.clone().and_then(|s| s.try_into().ok()),
            selector,
            topology_key: term.topology_key.clone(),
        }
    }

    /// Whether the term speaks of this pod.
    pub fn matches(&self, pod: &Pod, namespaces: NamespaceLabels<'_>) -> bool {
        let Some(selector) = &self.selector else { return false };
        if !crate::owner::matches(selector, pod) {
            return false;
        }
        let namespace = kind::namespace(pod);
        self.namespaces.contains(namespace)
            || self
                .namespace_selector
                .as_ref()
                .is_some_and(|s| s.selects_all() || s.matches(&namespaces(namespace)))
    }
}

/// A preferred term with its weight; negative for anti-affinity.
#[derive(Debug, Clone)]
pub struct WeightedTerm {
    /// The term.
    pub term: AffinityTerm,
    /// −100 to 100.
    pub weight: i64,
}

/// One topology spread constraint.
#[derive(Debug, Clone)]
pub struct SpreadConstraint {
    /// How much fuller than the emptiest place a place may be.
    pub max_skew: i64,
    /// Nodes with the same value of this label are one place.
    pub topology_key: String,
    /// Which pods count (of the pod's own namespace).
    pub selector: Selector,
    /// Below this number of places the emptiest counts as empty.
    pub min_domains: Option<usize>,
    /// Must hold (`DoNotSchedule`), or is only preferred.
    pub required: bool,
    /// Only nodes that the pod's node affinity admits count.
    pub honor_affinity: bool,
    /// Only nodes whose taints the pod tolerates count.
    pub honor_taints: bool,
}

impl SpreadConstraint {
    fn parse(constraint: &TopologySpreadConstraint, pod: &Pod) -> Option<Self> {
        // Without a selector nothing is counted, so the constraint always holds.
        let mut selector: Selector = constraint.label_selector.clone()?.try_into().ok()?;
        extend_by_own_labels(&mut selector, constraint.match_label_keys.as_deref(), pod, true);
        Some(Self {
            max_skew: constraint.max_skew.into(),
            topology_key: constraint.topology_key.clone(),
            selector,
            min_domains: constraint.min_domains.and_then(|n| usize::try_from(n).ok()),
            required: constraint.when_unsatisfiable != "ScheduleAnyway",
            honor_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        })
    }
}

/// Narrows a selector to pods whose labels under `keys` equal (or differ from) this pod's.
fn extend_by_own_labels(selector: &mut Selector, keys: Option<&[String]>, pod: &Pod, equal: bool) {
    for key in keys.unwrap_or_default() {
        if let Some(value) = kind::label(pod, key) {
            let (key, value) = (key.clone(), value.to_owned());
            let expression = if equal {
                Expression::Equal(key, value)
            } else {
                Expression::NotIn(key, BTreeSet::from([value]))
            };
            selector.extend(expression);
        }
    }
}

/// A pod as the scheduler sees it.
#[derive(Debug, Clone)]
pub struct PodInfo {
    /// The pod.
    pub pod: Arc<Pod>,
    /// What it asks for.
    pub request: Resources,
    /// CPU and memory for comparing nodes.
    pub compared: (i64, i64),
    /// Ports of the node.
    pub host_ports: Vec<HostPort>,
    /// Pods it must be near.
    pub affinity: Vec<AffinityTerm>,
    /// Pods it must be away from.
    pub anti_affinity: Vec<AffinityTerm>,
    /// Pods it would like to be near or away from.
    pub preferences: Vec<WeightedTerm>,
    /// Its topology spread constraints.
    pub spread: Vec<SpreadConstraint>,
    /// UID of its controller, empty without one.
    pub controller: Arc<str>,
}

impl PodInfo {
    /// Parses a pod.
    pub fn new(pod: Arc<Pod>) -> Self {
        let empty = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&empty);
        let affinity = spec.affinity.as_ref();
        let near = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
        let away = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
        let parse = |terms: Option<&Vec<PodAffinityTerm>>| -> Vec<AffinityTerm> {
            terms.into_iter().flatten().map(|term| AffinityTerm::parse(term, &pod)).collect()
        };
        let weigh = |terms: Option<&Vec<WeightedPodAffinityTerm>>, sign: i64| -> Vec<WeightedTerm> {
            let parse = |t: &WeightedPodAffinityTerm| WeightedTerm {
                term: AffinityTerm::parse(&t.pod_affinity_term, &pod),
                weight: sign * i64::from(t.weight),
            };
            terms.into_iter().flatten().map(parse).collect()
        };
        let mut preferences =
            weigh(near.and_then(|n| n.preferred_during_scheduling_ignored_during_execution.as_ref()), 1);
        preferences.extend(weigh(
            away.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()),
            -1,
        ));
        let spread = spec.topology_spread_constraints.iter().flatten();
        Self {
            request: pod_request(spec),
            compared: compared_request(spec),
            host_ports: host_ports(spec),
            affinity: parse(
                near.and_then(|n| n.required_during_scheduling_ignored_during_execution.as_ref()),
            ),
            anti_affinity: parse(
                away.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()),
            ),
            preferences,
            spread: spread.filter_map(|constraint| SpreadConstraint::parse(constraint, &pod)).collect(),
            controller: controller_of(pod.as_ref()).map_or("", |reference| &reference.uid).into(),
            pod,
        }
    }

    /// The pod's UID.
    pub fn uid(&self) -> &str {
        kind::uid(self.pod.as_ref())
    }

    /// The pod's priority; higher is more important.
    pub fn priority(&self) -> i32 {
        self.pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
    }

    /// What the pod tolerates.
    pub fn tolerations(&self) -> &[Toleration] {
        self.pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default()
    }

    /// Whether other pods' scheduling can depend on this one's terms.
    pub fn has_terms(&self) -> bool {
        !(self.affinity.is_empty() && self.anti_affinity.is_empty() && self.preferences.is_empty())
    }
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars =
        spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let number = port.host_port.filter(|port| *port > 0)?;
            Some(HostPort {
                address: port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".into()),
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
                port: number,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_conflict_on_the_same_or_on_all_addresses() {
        let port = |address: &str, protocol: &str, port| HostPort {
            address: address.into(),
            protocol: protocol.into(),
            port,
        };
        let http = port("0.0.0.0", "TCP", 80);
        assert!(http.conflicts(&http));
        assert!(http.conflicts(&port("10.0.0.1", "TCP", 80)));
        assert!(port("10.0.0.1", "TCP", 80).conflicts(&http));
        assert!(!port("10.0.0.1", "TCP", 80).conflicts(&port("10.0.0.2", "TCP", 80)));
        assert!(!http.conflicts(&port("0.0.0.0", "UDP", 80)));
        assert!(!http.conflicts(&port("0.0.0.0", "TCP", 81)));
    }
}
