//! Virtual lanes for lossless fabrics, so that full queues never wait for each other in a circle.
//!
//! Switches are put in an order, once, from the cabling: the farther from endpoints, the higher (in a fat tree the order of its
//! tiers). A link leads *up* or *down*. A frame begins in lane 0 and goes on to the next lane whenever it turns from down to up:
//!
//! - within a lane a frame goes up, then down, never up again. Queues of up links wait only for queues of higher switches or of
//!   down links, and those only for lower ones: no circle (up*/down* routing);
//! - between lanes frames wait only for higher lanes: no circle there either.
//!
//! Thus *every* way is free of deadlock, whichever of the equal ones is taken, over detours, and while old and new routes are
//! mixed after a failure; and shortest ways need not be given up, as up*/down* routing alone would. The price is one lane per
//! turn: none beyond the first in a fat tree, two lanes in a dragonfly (three links have one turn at most), `1 + links / 2` at
//! the very most. The lane of the next hop follows from the lane and the two ports, which is what switches can look up.
//! [`check`] does not rely on this argument: it builds the graph of dependencies and looks for a circle.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Routes, UNREACHABLE, ways_in};
use crate::model::{Fabric, LinkIndex, SwitchIndex};

/// A virtual lane.
pub type Lane = u8;

/// The order of switches that lanes follow from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lanes {
    /// By switch; a lower number is higher up.
    order: Vec<u32>,
}

impl Lanes {
    /// The order for a fabric. What is up or down at present does not matter.
    pub fn new(fabric: &Fabric) -> Self {
        let count = fabric.switch_count();
        let mut height: Vec<Option<u32>> = vec![None; count as usize];
        let mut queue: VecDeque<SwitchIndex> =
            (0..count).filter(|switch| !fabric.endpoints_of(*switch).is_empty()).collect();
        for switch in &queue {
            height[*switch as usize] = Some(0);
        }
        while let Some(switch) = queue.pop_front() {
            let next = height[switch as usize].map_or(0, |height| height + 1);
            for (_, link) in fabric.links_of(switch) {
                if height[link.peer as usize].is_none() {
                    height[link.peer as usize] = Some(next);
                    queue.push_back(link.peer);
                }
            }
        }
        let mut ranking: Vec<SwitchIndex> = (0..count).collect();
        ranking.sort_by_key(|switch| (std::cmp::Reverse(height[*switch as usize].unwrap_or(0)), *switch));
        let mut order = vec![0; count as usize];
        for (place, switch) in (0..).zip(ranking) {
            order[switch as usize] = place;
        }
        Self { order }
    }

    /// Whether a link leads up.
    pub fn is_up(&self, fabric: &Fabric, link: LinkIndex) -> bool {
        let own = fabric.link(fabric.link(link).twin).peer;
        self.order[fabric.link(link).peer as usize] < self.order[own as usize]
    }

    /// The lane of a frame on the link `out`, after it came in `lane` over the link `incoming`, or from an endpoint.
    pub fn next(&self, fabric: &Fabric, lane: Lane, incoming: Option<LinkIndex>, out: LinkIndex) -> Lane {
        let turns = incoming.is_some_and(|incoming| !self.is_up(fabric, incoming) && self.is_up(fabric, out));
        lane.saturating_add(Lane::from(turns))
    }

    /// How many lanes the routes need, whichever of equal ways are taken.
    pub fn needed(&self, fabric: &Fabric, routes: &Routes) -> Lane {
        let mut most = 0;
        for destination in routes.destinations() {
            let row = routes.row(*destination);
            let mut nearest: Vec<SwitchIndex> =
                (0..fabric.switch_count()).filter(|switch| row[*switch as usize] != UNREACHABLE).collect();
            nearest.sort_by_key(|switch| row[*switch as usize]);
            // By switch: turns still to come for a frame that comes in from above (went down), or otherwise.
            let mut turns = vec![[0_u8; 2]; row.len()];
            for switch in nearest {
                let mut own = [0_u8; 2];
                for link in ways_in(row, fabric, switch) {
                    let up = self.is_up(fabric, link);
                    let rest = turns[fabric.link(link).peer as usize][usize::from(up)];
                    own[1] = own[1].max(rest);
                    own[0] = own[0].max(rest.saturating_add(u8::from(up)));
                }
                turns[switch as usize] = own;
                if begins(fabric, switch) {
                    most = most.max(own[1]);
                }
            }
        }
        most.saturating_add(1)
    }
}

/// What [`check`] found when there is no circle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoCircle {
    /// Lanes in use.
    pub lanes: Lane,
    /// Pairs of queues of which the first may wait for the second.
    pub dependencies: usize,
}

/// Queues that wait for each other in a circle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("frames can wait for each other in a circle: {circle}")]
pub struct Circle {
    /// The links with their lanes, in words.
    pub circle: String,
}

type Queue = (LinkIndex, Lane);

/// Whether frames begin at a switch.
fn begins(fabric: &Fabric, switch: SwitchIndex) -> bool {
    !fabric.endpoints_of(switch).is_empty()
}

/// Proves that no queues wait for each other in a circle when frames take the routes (any of equal ways) in the lanes that
/// `next` says (as [`Lanes::next`]): builds the graph of all dependencies between queues, which has no circle, and hence none in
/// any lane. Grows with destinations × links²; made for tests and for fabrics of some hundred switches.
pub fn check(
    fabric: &Fabric,
    routes: &Routes,
    next: impl Fn(Lane, Option<LinkIndex>, LinkIndex) -> Lane,
) -> Result<NoCircle, Circle> {
    let mut waits: BTreeMap<Queue, BTreeSet<Queue>> = BTreeMap::new();
    for destination in routes.destinations() {
        let row = routes.row(*destination);
        let mut farthest: Vec<SwitchIndex> =
            (0..fabric.switch_count()).filter(|switch| row[*switch as usize] != UNREACHABLE).collect();
        farthest.sort_by_key(|switch| std::cmp::Reverse(row[*switch as usize]));
        let mut arriving: BTreeMap<SwitchIndex, BTreeSet<Queue>> = BTreeMap::new();
        for switch in farthest {
            let came = arriving.remove(&switch).unwrap_or_default();
            for out in ways_in(row, fabric, switch) {
                let peer = arriving.entry(fabric.link(out).peer).or_default();
                if begins(fabric, switch) {
                    let first = (out, next(0, None, out));
                    waits.entry(first).or_default();
                    peer.insert(first);
                }
                for (incoming, lane) in &came {
                    let then = (out, next(*lane, Some(*incoming), out));
                    waits.entry((*incoming, *lane)).or_default().insert(then);
                    waits.entry(then).or_default();
                    peer.insert(then);
                }
            }
        }
    }
    let lanes = waits.keys().map(|(_, lane)| lane.saturating_add(1)).max().unwrap_or(1);
    let dependencies = waits.values().map(BTreeSet::len).sum();
    without_circle(fabric, waits).map(|()| NoCircle { lanes, dependencies })
}

/// Takes away queues that nobody waits for until none is left; what cannot be taken away contains a circle.
fn without_circle(fabric: &Fabric, waits: BTreeMap<Queue, BTreeSet<Queue>>) -> Result<(), Circle> {
    let mut waiting: BTreeMap<Queue, usize> = waits.keys().map(|queue| (*queue, 0)).collect();
    for queue in waits.values().flatten() {
        *waiting.entry(*queue).or_default() += 1;
    }
    let mut free: Vec<Queue> =
        waiting.iter().filter(|(_, count)| **count == 0).map(|(queue, _)| *queue).collect();
    let mut left = waits;
    while let Some(queue) = free.pop() {
        for then in left.remove(&queue).unwrap_or_default() {
            if let Some(count) = waiting.get_mut(&then) {
                *count -= 1;
                if *count == 0 {
                    free.push(then);
                }
            }
        }
    }
    // Every queue that is left is waited for by one that is left: going backwards must come round.
    let Some(start) = left.keys().next().copied() else { return Ok(()) };
    let mut trail = vec![start];
    loop {
        let at = trail[trail.len() - 1];
        let Some(before) = left.iter().find(|(_, then)| then.contains(&at)).map(|(queue, _)| *queue) else {
            return Ok(());
        };
        if let Some(first) = trail.iter().position(|queue| *queue == before) {
            trail.drain(..first);
            break;
        }
        trail.push(before);
    }
    let words = trail.iter().rev().map(|(link, lane)| {
        let (from, to) = fabric.ends_of(*link).unwrap_or_default();
        format!("{} → {} in lane {lane}", fabric.switch(from).id, fabric.switch(to).id)
    });
    Err(Circle { circle: words.collect::<Vec<_>>().join(", ") })
}
