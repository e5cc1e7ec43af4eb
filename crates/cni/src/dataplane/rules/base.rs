//! The part of the table that does not depend on Services.

use std::collections::BTreeMap;

use super::{MASQUERADE_BIT, NodeView};
use crate::{
    dataplane::ruleset::{Chain, Ruleset, Set, SetKind},
    network::INTERFACE_PREFIX,
};

/// The chain that looks a Service up.
pub const DISPATCH: &str = "dispatch";

/// Address, protocol and port of each Service → chain.
pub(super) const SERVICES: &str = "services";
/// Protocol and port on the node's address → chain.
pub(super) const NODE_PORTS: &str = "node-ports";
/// Local endpoints as source and destination of the same packet.
pub(super) const HAIRPIN: &str = "hairpin";
/// Local endpoints.
pub(super) const LOCAL_PODS: &str = "local-pods";
const NODES: &str = "nodes";
const ANNOUNCED: &str = "announced";

pub(super) fn ruleset(node: &NodeView) -> Ruleset {
    let mut ruleset = Ruleset::default();
    for (name, kind, kind_of_element) in [
        (SERVICES, SetKind::Map, "type ipv4_addr . inet_proto . inet_service : verdict"),
        (NODE_PORTS, SetKind::Map, "type inet_proto . inet_service : verdict"),
        (HAIRPIN, SetKind::Set, "type ipv4_addr . ipv4_addr"),
        (LOCAL_PODS, SetKind::Set, "type ipv4_addr"),
        (NODES, SetKind::Set, "type ipv4_addr"),
        (ANNOUNCED, SetKind::Set, "type ipv4_addr"),
    ] {
        let set = Set { kind, definition: kind_of_element.to_owned(), elements: BTreeMap::new() };
        ruleset.sets.insert(name.to_owned(), set);
    }
    for (set, addresses) in [(NODES, &node.nodes), (ANNOUNCED, &node.announced)] {
        if let Some(set) = ruleset.sets.get_mut(set) {
            set.elements = addresses.iter().map(|address| (address.to_string(), String::new())).collect();
        }
    }
    add_translation(&mut ruleset, node);
    add_filters(&mut ruleset, node);
    ruleset
}

fn chain(ruleset: &mut Ruleset, name: &str, hook: Option<&'static str>, rules: &[String]) {
    ruleset.chains.insert(name.to_owned(), Chain { hook, rules: rules.to_vec() });
}

fn add_translation(ruleset: &mut Ruleset, node: &NodeView) {
    let NodeView { address, pod_cidr: pods, service_cidr: services, .. } = node;
    let jump = [format!("jump {DISPATCH}")];
    chain(ruleset, "prerouting", Some("type nat hook prerouting priority -100"), &jump);
    chain(ruleset, "output", Some("type nat hook output priority -100"), &jump);
    let look_up = [
        // Neither a pod nor a node: it came by this node, and the answer must do so too.
        format!(
            "ip daddr {services} ip saddr != {pods} ip saddr != @{NODES} meta mark set meta mark or {MASQUERADE_BIT}"
        ),
        format!("ip daddr . meta l4proto . th dport vmap @{SERVICES}"),
        format!("ip daddr {address} meta l4proto . th dport vmap @{NODE_PORTS}"),
    ];
    chain(ruleset, DISPATCH, None, &look_up);
    let after = [
        // A pod that reached itself by a Service would answer itself directly.
        format!("ct status dnat ip saddr . ip daddr @{HAIRPIN} snat ip to {address}"),
        // Pods of this node answer by this node anyway and may see who asked.
        format!("meta mark & {MASQUERADE_BIT} == {MASQUERADE_BIT} ip daddr != @{LOCAL_PODS} masquerade"),
        format!("ip saddr {pods} ip daddr != {pods} ip daddr != @{NODES} masquerade"),
    ];
    chain(ruleset, "postrouting", Some("type nat hook postrouting priority 100"), &after);
}

fn add_filters(ruleset: &mut Ruleset, node: &NodeView) {
    // The way back to the source does not lead where the packet came from: the source is forged.
    let forged = format!("iifname \"{INTERFACE_PREFIX}*\" fib saddr . iif oif 0 drop");
    chain(ruleset, "spoofing", Some("type filter hook prerouting priority -300"), &[forged]);
    // Whatever is still addressed to a Service has no endpoint: say so at once instead of letting clients wait.
    let refuse = [format!("ip daddr {} reject with icmp type port-unreachable", node.service_cidr)];
    chain(ruleset, "forward", Some("type filter hook forward priority 0"), &refuse);
    chain(ruleset, "local-out", Some("type filter hook output priority 0"), &refuse);
    // An announced address is the Service's, not a second address of the host.
    let own = [
        format!("ip daddr @{ANNOUNCED} ip protocol icmp accept"),
        format!("ip daddr @{ANNOUNCED} ct state new reject with icmp type port-unreachable"),
    ];
    chain(ruleset, "local-in", Some("type filter hook input priority 0"), &own);
}
