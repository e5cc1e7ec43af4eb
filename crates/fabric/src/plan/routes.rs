//! Shortest paths between switches, with the load spread over equal ones, and loop-free trees for flooding.
//!
//! A next hop always lies strictly closer to its destination, so that no table can contain a loop.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::model::{Fabric, SwitchIndex};

/// Ways to one destination switch: for every switch the links that lead closer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ways {
    /// Distance in links; `None` where the destination cannot be reached.
    pub distance: Vec<Option<u32>>,
}

/// Distances of all switches to `destination` (breadth-first search).
pub fn ways_to(fabric: &Fabric, destination: SwitchIndex) -> Ways {
    let mut distance = vec![None; fabric.switches.len()];
    distance[destination] = Some(0_u32);
    let mut queue = VecDeque::from([destination]);
    while let Some(switch) = queue.pop_front() {
        let next = distance[switch].map_or(0, |d| d + 1);
        for link in &fabric.switches[switch].links {
            if distance[link.peer].is_none() {
                distance[link.peer] = Some(next);
                queue.push_back(link.peer);
            }
        }
    }
    Ways { distance }
}

impl Ways {
    /// The port by which `switch` forwards towards the destination. Of several equally short ways one is chosen by
    /// `flow`, the same one every time.
    pub fn next_port<'a>(
        &self,
        fabric: &'a Fabric,
        switch: SwitchIndex,
        flow: usize,
    ) -> Option<(&'a str, SwitchIndex)> {
        let here = self.distance[switch]?;
        let closer = |peer: SwitchIndex| self.distance[peer].is_some_and(|there| there + 1 == here);
        let count = fabric.switches[switch].links.iter().filter(|link| closer(link.peer)).count();
        let chosen = (flow.wrapping_add(switch)) % count.max(1);
        fabric.switches[switch]
            .links
            .iter()
            .filter(|link| closer(link.peer))
            .nth(chosen)
            .map(|link| (link.port.as_str(), link.peer))
    }
}

/// The ports that connect a set of switches as a tree: by switch, the ports of tree links. Switches in between are part of it.
/// `None` if they are not all connected; the second value is then a switch that is cut off.
pub fn flooding_tree(
    fabric: &Fabric,
    switches: &BTreeSet<SwitchIndex>,
) -> Result<BTreeMap<SwitchIndex, BTreeSet<String>>, SwitchIndex> {
    let mut tree: BTreeMap<SwitchIndex, BTreeSet<String>> = BTreeMap::new();
    let Some(root) = switches.first().copied() else { return Ok(tree) };
    tree.entry(root).or_default();
    let ways = ways_to(fabric, root);
    for start in switches {
        let mut at = *start;
        while at != root {
            let (port, peer) = ways.next_port(fabric, at, 0).ok_or(*start)?;
            let known = !tree.entry(at).or_default().insert(port.to_owned());
            let back = fabric.switches[peer]
                .links
                .iter()
                .find(|link| link.peer == at && is_twin(fabric, peer, at, link, port));
            let back = back.ok_or(*start)?;
            tree.entry(peer).or_default().insert(back.port.clone());
            if known {
                break;
            }
            at = peer;
        }
    }
    Ok(tree)
}

/// Whether `link` (of `peer`, leading to `at`) is the other end of `at`'s port: with parallel links the n-th of one side is
/// taken to be the n-th of the other.
fn is_twin(
    fabric: &Fabric,
    peer: SwitchIndex,
    at: SwitchIndex,
    link: &crate::model::Link,
    port: &str,
) -> bool {
    let mine = fabric.switches[at].links.iter().filter(|l| l.peer == peer).position(|l| l.port == port);
    let theirs =
        fabric.switches[peer].links.iter().filter(|l| l.peer == at).position(|l| l.port == link.port);
    mine == theirs
}
