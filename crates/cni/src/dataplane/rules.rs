//! Services → ruleset. Pure.

mod base;

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use super::{
    model::{Endpoint, NodeView, ServicePort, TrafficPolicy},
    ruleset::{Chain, Ruleset, Set, SetKind},
};
use crate::hash::fnv64;

pub use base::DISPATCH;
use base::{HAIRPIN, LOCAL_PODS, NODE_PORTS, SERVICES};

/// Bit of the packet mark that asks for source translation after routing; the one that Kubernetes uses.
const MASQUERADE_BIT: &str = "0x4000";
/// Longest readable part of a chain's name; nftables allows 128 characters in all.
const MAX_LABEL: usize = 80;

/// The whole table for these Services, as one node sees them. The order of Services and endpoints makes no difference; of two
/// Services that claim the same address and port, the first by namespace and name gets it.
pub fn ruleset(services: &[ServicePort], node: &NodeView) -> Ruleset {
    let mut ruleset = base::ruleset(node);
    let mut services: Vec<&ServicePort> = services.iter().collect();
    services.sort_by_key(|port| (&port.namespace, &port.service, port.protocol, port.port, &port.name));
    for port in services {
        add_port(&mut ruleset, port, node);
    }
    ruleset
}

fn add_port(ruleset: &mut Ruleset, port: &ServicePort, node: &NodeView) {
    let names = Names::new(port);
    let all = port.usable_endpoints(false);
    if all.is_empty() {
        // Nothing is translated then, and what is addressed to a Service nonetheless is refused by the base rules.
        return;
    }
    let local = port.usable_endpoints(true);
    for endpoint in all.iter().filter(|endpoint| endpoint.local) {
        let address = endpoint.address;
        insert(ruleset, HAIRPIN, format!("{address} . {address}"), "");
        insert(ruleset, LOCAL_PODS, address.to_string(), "");
    }
    balance(ruleset, &names.all, &names, port, &all);
    if port.internal_policy == TrafficPolicy::Local || port.external_policy == TrafficPolicy::Local {
        balance(ruleset, &names.local, &names, port, &local);
    }
    let internal = match port.internal_policy {
        TrafficPolicy::Cluster => &names.all,
        TrafficPolicy::Local => &names.local,
    };
    for address in &port.cluster_addresses {
        insert(ruleset, SERVICES, key(*address, port), &format!("goto {internal}"));
    }
    add_outside(ruleset, port, &names, node);
}

/// The way in from outside the cluster.
fn add_outside(ruleset: &mut Ruleset, port: &ServicePort, names: &Names, node: &NodeView) {
    let is_reached_from_outside = port.node_port.is_some() || port.outside_addresses().next().is_some();
    if !is_reached_from_outside {
        return;
    }
    let pods = node.pod_cidr;
    let rules = match port.external_policy {
        // The answer must come back by this node, for it knows the translation. Pods are answered anyway.
        TrafficPolicy::Cluster => {
            let mark = format!("ip saddr != {pods} meta mark set meta mark or {MASQUERADE_BIT}");
            vec![mark, format!("goto {}", names.all)]
        }
        // Clients inside the cluster need not know where the endpoints are.
        TrafficPolicy::Local => vec![
            format!("ip saddr {pods} goto {}", names.all),
            format!("fib saddr type local goto {}", names.all),
            format!("goto {}", names.local),
        ],
    };
    ruleset.chains.insert(names.outside.clone(), Chain { hook: None, rules });
    let outside = format!("goto {}", names.outside);
    for address in &port.external_addresses {
        insert(ruleset, SERVICES, key(*address, port), &outside);
    }
    let balancer = if port.source_ranges.is_empty() {
        outside.clone()
    } else {
        let ranges: Vec<String> = port.source_ranges.iter().map(ToString::to_string).collect();
        let refuse = format!("ip saddr != {{ {} }} drop", ranges.join(", "));
        ruleset
            .chains
            .insert(names.guard.clone(), Chain { hook: None, rules: vec![refuse, outside.clone()] });
        format!("goto {}", names.guard)
    };
    for address in &port.load_balancer_addresses {
        insert(ruleset, SERVICES, key(*address, port), &balancer);
    }
    if let Some(node_port) = port.node_port {
        insert(ruleset, NODE_PORTS, format!("{} . {node_port}", port.protocol), &outside);
    }
}

/// A chain that sends a connection to one of the endpoints, each equally likely.
fn balance(ruleset: &mut Ruleset, chain: &str, names: &Names, port: &ServicePort, endpoints: &[&Endpoint]) {
    let rules = match (endpoints, port.client_affinity) {
        // Traffic that may only stay here has nowhere to go.
        ([], _) => vec!["drop".to_owned()],
        ([only], None) => vec![destination(port, only)],
        (several, None) => {
            let choices: Vec<String> = several
                .iter()
                .enumerate()
                .map(|(index, endpoint)| format!("{index} : {} . {}", endpoint.address, endpoint.port))
                .collect();
            vec![format!(
                "meta l4proto {} dnat ip to numgen random mod {} map {{ {} }}",
                port.protocol,
                several.len(),
                choices.join(", ")
            )]
        }
        (several, Some(timeout)) => {
            let mut known = Vec::new();
            let mut choices = Vec::new();
            for (index, endpoint) in several.iter().enumerate() {
                let (set, endpoint_chain) = names.affinity(endpoint, timeout);
                let rules = vec![format!("update @{set} {{ ip saddr }}"), destination(port, endpoint)];
                ruleset.chains.insert(endpoint_chain.clone(), Chain { hook: None, rules });
                let definition =
                    format!("type ipv4_addr; flags dynamic,timeout; timeout {}s", timeout.as_secs());
                let clients = Set { kind: SetKind::Set, definition, elements: BTreeMap::new() };
                ruleset.sets.insert(set.clone(), clients);
                known.push(format!("ip saddr @{set} goto {endpoint_chain}"));
                choices.push(format!("{index} : goto {endpoint_chain}"));
            }
            known.push(format!("numgen random mod {} vmap {{ {} }}", several.len(), choices.join(", ")));
            known
        }
    };
    ruleset.chains.insert(chain.to_owned(), Chain { hook: None, rules });
}

fn destination(port: &ServicePort, endpoint: &Endpoint) -> String {
    format!("meta l4proto {} dnat ip to {}:{}", port.protocol, endpoint.address, endpoint.port)
}

fn key(address: Ipv4Addr, port: &ServicePort) -> String {
    format!("{address} . {} . {}", port.protocol, port.port)
}

/// The first to claim a key has it.
fn insert(ruleset: &mut Ruleset, set: &str, key: String, value: &str) {
    if let Some(set) = ruleset.sets.get_mut(set) {
        set.elements.entry(key).or_insert_with(|| value.to_owned());
    }
}

/// Names of a port's chains: unique by a hash, readable by a label.
struct Names {
    id: String,
    all: String,
    local: String,
    outside: String,
    guard: String,
}

impl Names {
    fn new(port: &ServicePort) -> Self {
        let number = port.port.to_string();
        let protocol = port.protocol.to_string();
        let parts = [&port.namespace, &port.service, &port.name, &protocol, &number];
        let id = format!("{:016x}", fnv64(&parts.map(String::as_bytes)));
        let mut label = format!("{}/{}/{protocol}/{number}", port.namespace, port.service);
        label.truncate(MAX_LABEL);
        // Names in nftables end with a letter or digit.
        let label = label.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        Self {
            all: format!("svc-{id}-{label}"),
            local: format!("loc-{id}-{label}"),
            outside: format!("ext-{id}-{label}"),
            guard: format!("lb-{id}-{label}"),
            id,
        }
    }

    /// The set of clients that an endpoint keeps, and the chain that leads to it. A set's timeout cannot be changed: another
    /// timeout is another set.
    fn affinity(&self, endpoint: &Endpoint, timeout: Duration) -> (String, String) {
        let suffix = format!("{}-{}-{}", self.id, endpoint.address, endpoint.port);
        (format!("clients-{suffix}-{}", timeout.as_secs()), format!("ep-{suffix}"))
    }
}

#[cfg(test)]
mod tests;
