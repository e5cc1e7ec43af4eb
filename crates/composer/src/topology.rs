//! How far apart hosts are: switches, the links between them, and what is attached where.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::OnceLock,
};

use drystone_api::{Switch, SwitchState};

/// What counts as the distance between hosts that no fabric connects.
pub const UNREACHABLE_HOPS: u16 = 64;

/// No way.
const NONE: u16 = u16::MAX;

/// A switch, its up links and the endpoints cabled to it, whatever resource they were read from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SwitchNode {
    /// Fabric.
    pub fabric: String,
    /// Id in the fabric.
    pub id: String,
    /// Ids of the switches at the other ends of its links.
    pub peers: Vec<String>,
    /// MAC addresses of its endpoints.
    pub macs: Vec<String>,
}

/// The switches that work, with their links that do. Switches of one fabric, by id and UUID, belong together whoever reported
/// them.
pub fn nodes_of<'a>(switches: impl IntoIterator<Item = &'a Switch>) -> Vec<SwitchNode> {
    let working =
        |switch: &&Switch| switch.status.as_ref().is_none_or(|status| status.state == SwitchState::Up);
    let mut nodes: BTreeMap<(String, String), SwitchNode> = BTreeMap::new();
    for switch in switches.into_iter().filter(working) {
        let spec = &switch.spec;
        let fabric = format!("{} {}", spec.fabric, spec.fabric_uuid).trim_end().to_owned();
        let node = nodes.entry((fabric, spec.id.clone())).or_default();
        if let Some(status) = &switch.status {
            let links = status.links.iter().filter(|link| !link.down);
            node.peers.extend(links.map(|link| link.peer_switch.clone()));
            let macs = status.endpoints.iter().map(|endpoint| endpoint.mac.clone());
            node.macs.extend(macs.filter(|mac| !mac.is_empty()));
        }
    }
    let named = nodes.into_iter().map(|((fabric, id), node)| SwitchNode { fabric, id, ..node });
    named.collect()
}

/// Number of switches on the shortest way between any two switches. Computed from each switch when it is first asked for: a
/// choice among thousands of switches looks from a few hundred only, and the next choice finds them again.
#[derive(Debug, Default)]
pub struct Distances {
    names: Vec<(String, String)>,
    index: HashMap<(String, String), u32>,
    /// Peers of switch `n`: `peers[starts[n]..starts[n + 1]]`.
    starts: Vec<u32>,
    peers: Vec<u32>,
    rows: Vec<OnceLock<Box<[u16]>>>,
    attached: HashMap<String, Vec<u32>>,
}

impl Distances {
    /// From switches; each fabric and id once. Links to switches that are not among them are left out.
    pub fn new(mut nodes: Vec<SwitchNode>) -> Self {
        nodes.sort_by(|a, b| (&a.fabric, &a.id).cmp(&(&b.fabric, &b.id)));
        let names: Vec<(String, String)> =
            nodes.iter().map(|node| (node.fabric.clone(), node.id.clone())).collect();
        let index: HashMap<(String, String), u32> = names.iter().cloned().zip(0_u32..).collect();
        let mut starts = vec![0];
        let mut peers = Vec::new();
        let mut attached: HashMap<String, Vec<u32>> = HashMap::new();
        for (node, at) in nodes.iter().zip(0_u32..) {
            let ids = node.peers.iter().map(|peer| (node.fabric.clone(), peer.clone()));
            let mut own: Vec<u32> = ids.filter_map(|key| index.get(&key).copied()).collect();
            own.sort_unstable();
            own.dedup();
            peers.extend(own);
            starts.push(u32::try_from(peers.len()).unwrap_or(u32::MAX));
            for mac in &node.macs {
                attached.entry(mac.to_ascii_lowercase()).or_default().push(at);
            }
        }
        let rows = nodes.iter().map(|_| OnceLock::new()).collect();
        Self { names, index, starts, peers, rows, attached }
    }

    /// Position of a switch.
    pub fn switch(&self, fabric: &str, switch: &str) -> Option<u32> {
        self.index.get(&(fabric.to_owned(), switch.to_owned())).copied()
    }

    /// Id of the switch at a position.
    pub fn name(&self, switch: u32) -> &str {
        self.names.get(switch as usize).map_or("", |(_, id)| id)
    }

    /// Number of switches.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are no switches.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Positions of the switches that a port with this MAC address is cabled to.
    pub fn attached(&self, mac: &str) -> &[u32] {
        self.attached.get(&mac.to_ascii_lowercase()).map_or(&[], Vec::as_slice)
    }

    /// Switches on the way between two switches, both counted; 1 for the same switch. `None` if there is no way.
    pub fn hops(&self, from: u32, to: u32) -> Option<u16> {
        let row = self.row(from)?;
        row.get(to as usize).copied().filter(|hops| *hops != NONE)
    }

    /// Number of switches whose distances have been computed.
    pub fn computed_rows(&self) -> usize {
        self.rows.iter().filter(|row| row.get().is_some()).count()
    }

    fn row(&self, from: u32) -> Option<&[u16]> {
        let row = self.rows.get(from as usize)?;
        Some(row.get_or_init(|| self.search(from)))
    }

    fn peers_of(&self, switch: u32) -> &[u32] {
        let bound = |at: u32| self.starts.get(at as usize).map_or(0, |start| *start as usize);
        self.peers.get(bound(switch)..bound(switch + 1)).unwrap_or(&[])
    }

    /// Breadth first; ends as soon as everything has been reached.
    fn search(&self, start: u32) -> Box<[u16]> {
        let mut hops = vec![NONE; self.names.len()].into_boxed_slice();
        let mut left = hops.len() - 1;
        hops[start as usize] = 1;
        let mut queue = VecDeque::from([start]);
        while let Some(at) = queue.pop_front() {
            let next = hops[at as usize].saturating_add(1).min(NONE - 1);
            for peer in self.peers_of(at) {
                let seen = &mut hops[*peer as usize];
                if *seen == NONE {
                    *seen = next;
                    queue.push_back(*peer);
                    left -= 1;
                }
            }
            if left == 0 {
                break;
            }
        }
        hops
    }
}

#[cfg(test)]
mod tests {
    use drystone_api::{SwitchEndpoint, SwitchLink, SwitchSpec, SwitchStatus};
    use proptest::prelude::*;

    use super::*;

    fn graph(size: u32, edges: &[(u32, u32)]) -> Distances {
        let peers = |at: u32| {
            let ends = edges.iter().filter_map(move |(a, b)| match (*a == at, *b == at) {
                (true, _) => Some(*b),
                (_, true) => Some(*a),
                _ => None,
            });
            ends.map(|peer| format!("s{peer:03}")).collect()
        };
        let node = |at| SwitchNode {
            fabric: "F".into(),
            id: format!("s{at:03}"),
            peers: peers(at),
            macs: vec![format!("02:0{at}")],
        };
        Distances::new((0..size).map(node).collect())
    }

    fn switch(id: &str, peers: &[&str], mac: &str) -> Switch {
        let spec = SwitchSpec { id: id.into(), fabric: "F".into(), ..Default::default() };
        let link = |peer: &&str| SwitchLink { peer_switch: (*peer).into(), ..Default::default() };
        let links = peers.iter().map(link).collect();
        let endpoints = vec![SwitchEndpoint { mac: mac.into(), ..Default::default() }];
        let mut switch = Switch::new(id, spec);
        switch.status = Some(SwitchStatus { links, endpoints, ..Default::default() });
        switch
    }

    #[test]
    fn ports_are_found_in_any_case_and_distances_are_computed_when_asked_for() {
        let distances =
            Distances::new(nodes_of(&[switch("b", &["a", "a"], "02:bb"), switch("a", &["b"], "02:AA")]));
        assert_eq!(distances.attached("02:Aa"), [0]);
        assert_eq!(distances.computed_rows(), 0, "nothing is computed before it is asked for");
        assert_eq!(distances.hops(0, 1), Some(2));
        assert_eq!((distances.computed_rows(), distances.name(1)), (1, "b"));
        assert_eq!(distances.hops(0, 7), None);
    }

    #[test]
    fn what_is_down_is_no_way() {
        let mut ring =
            [switch("a", &["b", "c"], "1"), switch("b", &["a", "c"], "2"), switch("c", &["a", "b"], "3")];
        for (at, other) in [(0, 1), (1, 0)] {
            let links = &mut ring[at].status.as_mut().expect("set").links;
            links[other.min(at)].down = true;
        }
        let distances = Distances::new(nodes_of(&ring));
        assert_eq!(distances.hops(0, 1), Some(3), "the link between a and b is down");
        ring[2].status.as_mut().expect("set").state = SwitchState::Down;
        let distances = Distances::new(nodes_of(&ring));
        assert_eq!((distances.len(), distances.hops(0, 1)), (2, None));
    }

    proptest! {
        #[test]
        fn distances_are_those_of_floyd_and_warshall(
            size in 1_u32..14,
            edges in prop::collection::vec((0_u32..14, 0_u32..14), 0..30),
        ) {
            let edges: Vec<_> = edges.into_iter().map(|(a, b)| (a % size, b % size)).collect();
            let distances = graph(size, &edges);
            let n = size as usize;
            let mut expected = vec![vec![None::<u16>; n]; n];
            for (at, row) in expected.iter_mut().enumerate() {
                row[at] = Some(1);
            }
            for (a, b) in edges.iter().filter(|(a, b)| a != b) {
                expected[*a as usize][*b as usize] = Some(2);
                expected[*b as usize][*a as usize] = Some(2);
            }
            for via in 0..n {
                for from in 0..n {
                    for to in 0..n {
                        if let (Some(one), Some(two)) = (expected[from][via], expected[via][to]) {
                            let sum = one + two - 1;
                            if expected[from][to].is_none_or(|known| known > sum) {
                                expected[from][to] = Some(sum);
                            }
                        }
                    }
                }
            }
            for from in 0..size {
                for to in 0..size {
                    prop_assert_eq!(distances.hops(from, to), expected[from as usize][to as usize]);
                }
            }
        }
    }
}
