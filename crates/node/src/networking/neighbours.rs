//! Other nodes: their addresses, and routes to their pods.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use drystone_cni::network::{NetworkError, PodNetwork, routes::Routes};
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use tokio::sync::watch;

use super::{
    objects::{Changing, Objects},
    readiness::{Part, Readiness},
    retry::Retry,
};
use crate::{config::NodeConfig, node_object::POD_BLOCKS_ANNOTATION};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often routes are looked at although nothing was told: somebody may have removed one.
const REVIEW: Duration = Duration::from_secs(60);

/// What a node knows of itself.
#[derive(Debug, Clone)]
pub struct Own<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its address.
    pub address: Ipv4Addr,
    /// Addresses of all pods of the cluster.
    pub pod_cidr: Ipv4Net,
    /// Its blocks.
    pub blocks: &'a [Ipv4Net],
}

/// What Node objects say of other nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Neighbours {
    /// Blocks of other nodes, and those nodes' addresses.
    pub routes: Routes,
    /// Addresses of all nodes, this one's too.
    pub addresses: BTreeSet<Ipv4Addr>,
    /// Entries that were left out, and why.
    pub problems: BTreeSet<String>,
}

/// Reads Node objects. What makes no sense is left out: a block that is not in the pods' network, or that overlaps one of this
/// node or of an older node, would draw in traffic that is not its node's. Pure.
pub fn neighbours(nodes: &[Arc<Node>], own: &Own<'_>) -> Neighbours {
    let mut found = Neighbours { addresses: BTreeSet::from([own.address]), ..Neighbours::default() };
    let mut others: Vec<&Node> =
        nodes.iter().map(AsRef::as_ref).filter(|node| name(node) != own.name).collect();
    others.sort_by_key(|node| (node.metadata.creation_timestamp.as_ref().map(|time| time.0), name(node)));
    let mut claims: BTreeMap<Ipv4Net, &str> =
        own.blocks.iter().map(|block| (block.trunc(), own.name)).collect();
    for node in others {
        // A node tells its address a moment after it is registered.
        let Some(text) = internal_address(node) else { continue };
        let address = match text.parse::<Ipv4Addr>() {
            Ok(address) if address != own.address && is_usable(address) => address,
            _ => {
                let name = name(node);
                found
                    .problems
                    .insert(format!("Node {name}: address {text:?} cannot be that of another node"));
                continue;
            }
        };
        found.addresses.insert(address);
        for block in blocks(node) {
            match claim(&mut claims, &block, name(node), own.pod_cidr) {
                Ok(block) => {
                    found.routes.insert(block, address);
                }
                Err(problem) => {
                    found.problems.insert(format!("Node {}: block {block:?} {problem}", name(node)));
                }
            }
        }
    }
    found
}

fn name(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

/// The first IPv4 address; of an IPv6 cluster this agent knows nothing.
fn internal_address(node: &Node) -> Option<&str> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    let mut internal = addresses.iter().filter(|address| address.type_ == "InternalIP");
    internal.find(|address| !address.address.contains(':')).map(|address| address.address.as_str())
}

fn is_usable(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || address.is_broadcast())
}

/// The blocks as they are written down: all in the annotation, else what the specification holds.
fn blocks(node: &Node) -> Vec<String> {
    let annotation = node.metadata.annotations.as_ref().and_then(|all| all.get(POD_BLOCKS_ANNOTATION));
    let spec = node.spec.as_ref();
    let texts: Vec<&str> = match annotation {
        Some(text) => text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect(),
        None => {
            let several = spec.and_then(|spec| spec.pod_cidrs.as_ref()).into_iter().flatten();
            let single = spec.and_then(|spec| spec.pod_cidr.as_ref());
            several.chain(single).map(String::as_str).filter(|text| !text.contains(':')).collect()
        }
    };
    let distinct: BTreeSet<&str> = texts.into_iter().collect();
    distinct.into_iter().map(str::to_owned).collect()
}

/// Notes whose block it is. Claims never overlap, so that only the two next to it can.
fn claim<'a>(
    claims: &mut BTreeMap<Ipv4Net, &'a str>,
    text: &str,
    node: &'a str,
    pod_cidr: Ipv4Net,
) -> Result<Ipv4Net, String> {
    let block =
        text.parse::<Ipv4Net>().map_err(|_| "is not a network such as 10.42.3.0/24".to_owned())?.trunc();
    if !pod_cidr.contains(&block) {
        return Err(format!("is not in {pod_cidr}"));
    }
    let before = claims.range(..=block).next_back().filter(|(other, _)| other.contains(&block));
    let after = || claims.range(block..).next().filter(|(other, _)| block.contains(*other));
    if let Some((other, holder)) = before.or_else(after) {
        return Err(format!("overlaps {other} of Node {holder}"));
    }
    claims.insert(block, node);
    Ok(block)
}

/// Keeps the routes, and tells the addresses of all nodes.
pub(super) struct NeighbourKeeper {
    pub(super) config: Arc<NodeConfig>,
    pub(super) network: Arc<PodNetwork>,
    pub(super) nodes: Objects<Node>,
    pub(super) blocks: watch::Receiver<Vec<Ipv4Net>>,
    pub(super) addresses: watch::Sender<Option<BTreeSet<Ipv4Addr>>>,
    pub(super) readiness: Arc<Readiness>,
}

impl NeighbourKeeper {
    /// Goes on until it is dropped. Routes of an earlier agent stay until the API has told all nodes.
    pub(super) async fn run(mut self) {
        self.nodes.listed().await;
        let mut retry = Retry::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut told = BTreeSet::new();
        let mut set: Option<(Routes, Vec<Ipv4Net>)> = None;
        let mut reviewed = tokio::time::Instant::now();
        loop {
            let blocks = self.blocks.borrow_and_update().clone();
            let found = self.read(&blocks, &mut told);
            let wanted = (found.routes, blocks);
            let mut pause = REVIEW;
            // Nodes change often, their routes hardly ever.
            if set.as_ref() != Some(&wanted) || reviewed.elapsed() >= REVIEW {
                reviewed = tokio::time::Instant::now();
                match self.set(&wanted.0).await {
                    Ok(()) => {
                        retry.succeeded();
                        set = Some(wanted);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "routes to other nodes' pods");
                        pause = retry.pause();
                        set = None;
                    }
                }
            }
            tokio::select! {
                () = self.nodes.changed() => {}
                Ok(()) = self.blocks.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn read(&self, blocks: &[Ipv4Net], told: &mut BTreeSet<String>) -> Neighbours {
        let NodeConfig { node_name, node_address, pod_cidr, .. } = &*self.config;
        let own = Own { name: node_name, address: *node_address, pod_cidr: *pod_cidr, blocks };
        let mut found = neighbours(&self.nodes.all(), &own);
        for problem in found.problems.difference(told) {
            tracing::warn!(problem, "an entry of a Node is ignored");
        }
        *told = std::mem::take(&mut found.problems);
        self.addresses.send_if_modified(|addresses| {
            let changed = addresses.as_ref() != Some(&found.addresses);
            if changed {
                *addresses = Some(found.addresses.clone());
            }
            changed
        });
        found
    }

    async fn set(&self, routes: &Routes) -> Result<(), NetworkError> {
        let result = self.network.set_routes(routes).await;
        match &result {
            Ok(()) => self.readiness.set(Part::Routes, Ok(())),
            // Another node's mistake is not this node's illness.
            Err(NetworkError::Routes { missing, .. })
                if missing.iter().all(|route| routes.contains_key(route)) =>
            {
                self.readiness.set(Part::Routes, Ok(()));
            }
            Err(error) => self.readiness.set(Part::Routes, Err(error.to_string())),
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str, address: &str, annotation: Option<&str>, spec: &Value) -> Arc<Node> {
        let annotations = annotation.map(|text| json!({POD_BLOCKS_ANNOTATION: text}));
        let node = json!({
            "metadata": {"name": name, "annotations": annotations}, "spec": spec,
            "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": "fd00::1"},
                {"type": "InternalIP", "address": address}]}});
        Arc::new(serde_json::from_value(node).unwrap())
    }

    fn read(nodes: &[Arc<Node>]) -> Neighbours {
        let own = Own {
            name: "n0",
            address: [10, 20, 0, 5].into(),
            pod_cidr: "10.42.0.0/16".parse().unwrap(),
            blocks: &["10.42.0.0/24".parse().unwrap()],
        };
        neighbours(nodes, &own)
    }

    fn shown(found: &Neighbours) -> Vec<String> {
        found.routes.iter().map(|(block, node)| format!("{block} {node}")).collect()
    }

    #[test]
    fn blocks_lead_to_their_nodes() {
        let found = read(&[
            node("n0", "10.20.0.5", Some("10.42.9.0/24"), &json!({})),
            node("n1", "10.20.0.6", Some("10.42.1.0/24, 10.42.2.0/24"), &json!({"podCIDR": "10.42.7.0/24"})),
            node(
                "n2",
                "10.20.0.7",
                None,
                &json!({"podCIDR": "10.42.3.0/24", "podCIDRs": ["10.42.3.0/24", "fd00::/64"]}),
            ),
            node("n3", "10.20.0.8", None, &json!({"podCIDR": "10.42.4.0/24"})),
            node("n4", "10.20.0.9", None, &json!({})),
        ]);
        let expected = [
            "10.42.1.0/24 10.20.0.6",
            "10.42.2.0/24 10.20.0.6",
            "10.42.3.0/24 10.20.0.7",
            "10.42.4.0/24 10.20.0.8",
        ];
        assert_eq!(shown(&found), expected);
        assert_eq!(found.addresses.len(), 5);
        assert_eq!(found.problems, BTreeSet::new());
    }

    #[test]
    fn what_makes_no_sense_is_left_out_alone() {
        let found = read(&[
            node("n1", "10.20.0.6", Some("nonsense,10.42.1.0/24,0.0.0.0/0,10.42.0.128/25"), &json!({})),
            node("n2", "10.20.0.7", Some("10.42.1.0/25,10.42.0.0/16,10.42.2.0/24"), &json!({})),
            node("n3", "10.20.0.5", Some("10.42.3.0/24"), &json!({})),
            node("n4", "elsewhere", Some("10.42.4.0/24"), &json!({})),
        ]);
        assert_eq!(shown(&found), ["10.42.1.0/24 10.20.0.6", "10.42.2.0/24 10.20.0.7"]);
        assert_eq!(found.problems.len(), 7, "{:#?}", found.problems);
        assert!(found.problems.contains("Node n2: block \"10.42.1.0/25\" overlaps 10.42.1.0/24 of Node n1"));
    }

    #[test]
    fn the_older_node_keeps_its_block() {
        let aged = |name: &str, address: &str, time: &str| {
            let mut node = Node::clone(&node(name, address, Some("10.42.1.0/24"), &json!({})));
            let time: Value = json!(time);
            node.metadata.creation_timestamp = serde_json::from_value(time).unwrap();
            Arc::new(node)
        };
        let found = read(&[
            aged("a", "10.20.0.6", "2026-02-01T00:00:00Z"),
            aged("b", "10.20.0.7", "2026-01-01T00:00:00Z"),
        ]);
        assert_eq!(shown(&found), ["10.42.1.0/24 10.20.0.7"]);
    }

    proptest! {
        #[test]
        fn routes_never_overlap_and_never_touch_own_blocks(
            claims in prop::collection::vec((any::<u16>(), 12u8..=32, 0u8..6), 0..40)
        ) {
            let nodes: Vec<_> = claims
                .iter()
                .map(|(low, length, node)| {
                    let base = u32::from(Ipv4Addr::new(10, 42, 0, 0)) | u32::from(*low);
                    let block = Ipv4Net::new(base.into(), *length).unwrap();
                    self::node(&format!("n{node}"), &format!("10.20.0.{}", node + 5), Some(&block.to_string()), &json!({}))
                })
                .collect();
            let found = read(&nodes);
            let mut blocks: Vec<Ipv4Net> = found.routes.keys().copied().collect();
            blocks.push("10.42.0.0/24".parse().unwrap());
            for (index, one) in blocks.iter().enumerate() {
                for other in &blocks[index + 1..] {
                    prop_assert!(!one.contains(other) && !other.contains(one), "{} and {}", one, other);
                }
            }
        }
    }
}
