//! What the resource managers know at one moment: hosts, what they have, in which pool they are, how far apart they are.

use std::collections::{BTreeMap, HashMap, VecDeque};

use drystone_api::{Accelerator, BlockPool, ObjectReference, Switch, quantity::Memory};

/// A host as the composer sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// Name of the BareMetalHost.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Site it stands in.
    pub site: String,
    /// Pool it is in.
    pub pool: BlockPool,
    /// Kept out of compositions by an administrator.
    pub maintenance: bool,
    /// Who claimed it.
    pub consumer: Option<ObjectReference>,
    /// Processor cores.
    pub cores: u32,
    /// Memory.
    pub memory: Memory,
    /// Accelerators.
    pub accelerators: Vec<Accelerator>,
    /// Capacity of all drives.
    pub storage: Memory,
    /// Speed of the fastest port in Gbit/s.
    pub bandwidth_gbps: u32,
    /// Chassis.
    pub chassis: String,
    /// Power drawn under load, in watts; 0 if unknown.
    pub watts: u32,
    /// Whether it is powered on.
    pub powered_on: bool,
    /// Positions in [`Distances`] of the switches that it is cabled to, one per fabric.
    pub switches: Vec<usize>,
    /// Why it is not usable, if it is not.
    pub message: String,
}

impl Host {
    /// `namespace/name`.
    pub fn key(&self) -> (String, String) {
        (self.namespace.clone(), self.name.clone())
    }
}

/// Number of switches on the shortest way between any two switches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distances {
    index: HashMap<(String, String), usize>,
    hops: Vec<Vec<Option<u16>>>,
}

impl Distances {
    /// From the switches of all fabrics: breadth-first search from each. Those of one fabric go by its id.
    pub fn new<'a>(switches: impl IntoIterator<Item = &'a Switch>) -> Self {
        let mut edges: BTreeMap<(String, String), Vec<(String, String)>> = BTreeMap::new();
        for switch in switches {
            let fabric = &switch.spec.fabric;
            let peers = edges.entry((fabric.clone(), switch.spec.id.clone())).or_default();
            let links = switch.status.iter().flat_map(|status| &status.links).filter(|link| !link.down);
            peers.extend(links.map(|link| (fabric.clone(), link.peer_switch.clone())));
        }
        let index: HashMap<_, _> =
            edges.keys().cloned().enumerate().map(|(position, key)| (key, position)).collect();
        let peers: Vec<Vec<usize>> = edges
            .values()
            .map(|peers| peers.iter().filter_map(|peer| index.get(peer).copied()).collect())
            .collect();
        let hops = (0..peers.len()).map(|start| hops_from(&peers, start)).collect();
        Self { index, hops }
    }

    /// Position of a switch.
    pub fn switch(&self, fabric: &str, switch: &str) -> Option<usize> {
        self.index.get(&(fabric.to_owned(), switch.to_owned())).copied()
    }

    /// Switches on the way between two switches, both counted; 1 for the same switch. `None` if there is no way.
    pub fn hops(&self, a: usize, b: usize) -> Option<u16> {
        self.hops.get(a).and_then(|row| row.get(b).copied().flatten())
    }

    /// Switches on the shortest way between two hosts over any fabric that both are on.
    pub fn between(&self, a: &Host, b: &Host) -> Option<u16> {
        let pairs = a.switches.iter().flat_map(|from| b.switches.iter().map(move |to| (*from, *to)));
        pairs.filter_map(|(from, to)| self.hops(from, to)).min()
    }
}

fn hops_from(peers: &[Vec<usize>], start: usize) -> Vec<Option<u16>> {
    let mut hops = vec![None; peers.len()];
    hops[start] = Some(1);
    let mut queue = VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        let next = hops[at].map_or(1_u16, |hops: u16| hops.saturating_add(1));
        for peer in &peers[at] {
            if hops[*peer].is_none() {
                hops[*peer] = Some(next);
                queue.push_back(*peer);
            }
        }
    }
    hops
}

/// Everything a plan is made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Hosts in order of namespace and name.
    pub hosts: Vec<Host>,
    /// Distances between switches.
    pub distances: Distances,
}

impl Snapshot {
    /// Puts the hosts in order, so that plans do not depend on the order of observation.
    pub fn new(mut hosts: Vec<Host>, distances: Distances) -> Self {
        hosts.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        Self { hosts, distances }
    }
}
