//! The tree that broadcasts take.
//!
//! All zones flood over parts of **one** spanning tree of the fabric. An endpoint that several zones contain floods through all
//! of them at once; were their trees different, the union could contain a circle, in which a broadcast would go round for ever.

use std::collections::{BTreeMap, BTreeSet};

use super::SwitchSet;
use crate::model::{Fabric, LinkIndex, SwitchIndex};

/// A spanning tree: for every switch the link towards the root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpanningTree {
    parent: Vec<Option<LinkIndex>>,
    depth: Vec<u32>,
    /// By switch, the root of the tree that it is in.
    root: Vec<SwitchIndex>,
}

/// Depth of a switch that is in no tree.
const OUTSIDE: u32 = u32::MAX;

impl SpanningTree {
    /// A shortest-path tree over the links that are up (between switches that are `allowed`), from the first one with the most links;
    /// further trees for what is cut off from it. Of several parents the first one in order of position counts, so that
    /// neighbours share theirs and a zone's part of the tree stays small.
    pub fn new(fabric: &Fabric, allowed: Option<&SwitchSet>) -> Self {
        let count = fabric.switch_count();
        let usable = |switch: SwitchIndex| allowed.is_none_or(|allowed| allowed.contains(switch));
        let mut tree = Self {
            parent: vec![None; count as usize],
            depth: vec![OUTSIDE; count as usize],
            root: (0..count).collect(),
        };
        let mut roots: Vec<SwitchIndex> = (0..count).filter(|switch| usable(*switch)).collect();
        // By cabling, not by what is up: one failed link must not move the root, and with it everybody's tree.
        roots.sort_by_key(|switch| (std::cmp::Reverse(fabric.link_range(*switch).len()), *switch));
        for root in roots {
            if tree.depth[root as usize] == OUTSIDE {
                tree.grow(fabric, root, &usable);
            }
        }
        tree
    }

    fn grow(&mut self, fabric: &Fabric, root: SwitchIndex, usable: &impl Fn(SwitchIndex) -> bool) {
        self.depth[root as usize] = 0;
        let mut level = vec![root];
        let mut depth = 0;
        while !level.is_empty() {
            depth += 1;
            let mut next = Vec::new();
            // In order of position, so that a switch's parent is the first one possible.
            level.sort_unstable();
            for switch in level {
                for (_, link) in fabric.links_of(switch).filter(|(_, link)| link.up && usable(link.peer)) {
                    let peer = link.peer as usize;
                    if self.depth[peer] == OUTSIDE {
                        self.depth[peer] = depth;
                        self.root[peer] = root;
                        self.parent[peer] = Some(link.twin);
                        next.push(link.peer);
                    }
                }
            }
            level = next;
        }
    }

    /// The switches that have another parent or depth in another tree of the same fabric.
    pub fn moved<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = SwitchIndex> + 'a {
        let places =
            (0..).zip(self.parent.iter().zip(&self.depth).zip(other.parent.iter().zip(&other.depth)));
        places.filter(|(_, (own, theirs))| own != theirs).map(|(switch, _)| switch)
    }

    /// The part of the tree that connects some switches: by switch, the links of the tree, in both directions. The switches
    /// in between are part of it. An error names a switch that is cut off from the first one.
    pub fn connecting(
        &self,
        fabric: &Fabric,
        switches: &BTreeSet<SwitchIndex>,
    ) -> Result<BTreeMap<SwitchIndex, Vec<LinkIndex>>, SwitchIndex> {
        let mut part: BTreeMap<SwitchIndex, Vec<LinkIndex>> =
            switches.iter().map(|switch| (*switch, Vec::new())).collect();
        let Some(first) = switches.first().copied() else { return Ok(part) };
        // All climb level by level; the lone one that is left when they have met is the top of the part.
        let mut climbing: BTreeSet<(std::cmp::Reverse<u32>, SwitchIndex)> = BTreeSet::new();
        for switch in switches {
            let depth = self.depth[*switch as usize];
            if depth == OUTSIDE || self.root[*switch as usize] != self.root[first as usize] {
                return Err(*switch);
            }
            climbing.insert((std::cmp::Reverse(depth), *switch));
        }
        while climbing.len() > 1 {
            let Some((_, switch)) = climbing.pop_first() else { break };
            // Only a root has no parent, and all have the same one: it is the last to be left.
            let Some(up) = self.parent[switch as usize] else { break };
            let link = fabric.link(up);
            part.entry(switch).or_default().push(up);
            part.entry(link.peer).or_default().push(link.twin);
            climbing.insert((std::cmp::Reverse(self.depth[link.peer as usize]), link.peer));
        }
        for links in part.values_mut() {
            links.sort_unstable();
        }
        Ok(part)
    }
}
