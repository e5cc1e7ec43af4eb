//! The whole of a fabric's routes as one table per switch: for every destination switch the link to take. What switches need
//! that are programmed by destination, independent of zones.

use std::collections::HashMap;

use super::{Routes, SwitchSet, UNREACHABLE, best, mix, ways_in};
use crate::model::{Fabric, Link, LinkIndex, SwitchIndex};

/// No way, or the switch itself.
const NOWHERE: u16 = u16::MAX;

/// For every switch and every destination switch the link that frames take, as its place among the switch's links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwitchTables {
    switches: usize,
    /// A row for each destination: the place of the link of every switch.
    places: Vec<u16>,
}

impl SwitchTables {
    /// Lays out full routes, by so many threads.
    pub fn new(fabric: &Fabric, routes: &Routes, threads: usize) -> Self {
        let switches = fabric.switch_count() as usize;
        let mut places = vec![NOWHERE; switches * switches];
        let share = switches.div_ceil(threads.max(1)).max(1);
        let links = &Links::new(fabric);
        std::thread::scope(|scope| {
            for (first, rows) in (0..).step_by(share).zip(places.chunks_mut(share * switches.max(1))) {
                scope.spawn(move || {
                    let mut distances = Vec::with_capacity(switches + 1);
                    for (destination, row) in (first..).zip(rows.chunks_mut(switches.max(1))) {
                        distances.clear();
                        distances.extend_from_slice(routes.row(destination));
                        distances.push(UNREACHABLE);
                        links.choose(fabric, &distances, destination, row);
                    }
                });
            }
        });
        Self { switches, places }
    }

    /// Brings the tables up to date after [`Routes::update`] said which distances differ because links changed. Returns how
    /// many choices were made again.
    pub fn update(
        &mut self,
        fabric: &Fabric,
        routes: &Routes,
        differences: &[(SwitchIndex, SwitchIndex)],
        changed: &[LinkIndex],
    ) -> usize {
        let ends = changed.iter().filter_map(|link| fabric.ends_of(*link));
        let ends: SwitchSet = ends.flat_map(|(a, b)| [a, b]).collect();
        let near = near(fabric, differences);
        let mut made = 0;
        for destination in 0..fabric.switch_count() {
            let row = routes.row(destination);
            let others = near.get(&destination).into_iter().flat_map(SwitchSet::iter);
            for switch in ends.iter().chain(others.filter(|switch| !ends.contains(*switch))) {
                let at = destination as usize * self.switches + switch as usize;
                self.places[at] = place(fabric, row, switch, destination);
                made += 1;
            }
        }
        made
    }

    /// The link by which a switch forwards to another one; `None` if there is no way, or it is the switch itself.
    pub fn link(&self, fabric: &Fabric, switch: SwitchIndex, destination: SwitchIndex) -> Option<LinkIndex> {
        let at = destination as usize * self.switches + switch as usize;
        let place = self.places.get(at).copied().filter(|place| *place != NOWHERE)?;
        Some(fabric.link_range(switch).start + u32::from(place))
    }
}

/// By destination, the switches whose ways may be others now: where a distance differs, and next to it.
pub(crate) fn near(
    fabric: &Fabric,
    differences: &[(SwitchIndex, SwitchIndex)],
) -> HashMap<SwitchIndex, SwitchSet> {
    let mut near: HashMap<SwitchIndex, SwitchSet> = HashMap::new();
    for (destination, switch) in differences {
        let set = near.entry(*destination).or_default();
        set.insert(*switch);
        for (_, link) in fabric.links_of(*switch) {
            set.insert(link.peer);
        }
    }
    near
}

/// What choosing needs of links, one after the other without anything between.
struct Links {
    /// By link: its peer; a number past the last switch where it is down.
    peers: Vec<u32>,
    /// By link: its key.
    keys: Vec<u32>,
    /// By switch: whether its links are of one speed.
    even: Vec<bool>,
    /// The most links of a switch.
    most: usize,
}

impl Links {
    fn new(fabric: &Fabric) -> Self {
        let all = || (0..fabric.switch_count()).map(|switch| fabric.links_of(switch).map(|(_, link)| link));
        let one_speed = |links: &mut dyn Iterator<Item = &Link>| {
            let mut speeds = links.map(|link| link.speed_gbps.max(1));
            let first = speeds.next();
            speeds.all(|speed| Some(speed) == first)
        };
        let past = fabric.switch_count();
        Self {
            peers: all().flatten().map(|link| if link.up { link.peer } else { past }).collect(),
            keys: all().flatten().map(|link| link.key).collect(),
            even: all().map(|mut links| one_speed(&mut links)).collect(),
            most: all().map(Iterator::count).max().unwrap_or(0),
        }
    }

    /// Chooses the links of all switches towards a destination. This is `place` for all of them, made for speed: hundreds of
    /// millions of distances are compared. `distances` ends with one that no switch has, for links that are down.
    fn choose(&self, fabric: &Fabric, distances: &[u16], destination: SwitchIndex, places: &mut [u16]) {
        let flow = flow(destination);
        let mut ways: Vec<LinkIndex> = vec![0; self.most];
        for (switch, slot) in (0..).zip(places) {
            let here = distances[switch as usize];
            *slot = NOWHERE;
            if here == 0 || here == UNREACHABLE {
                continue;
            }
            let range = fabric.link_range(switch);
            let mut count = 0;
            for (link, peer) in range.clone().zip(&self.peers[range.start as usize..range.end as usize]) {
                // Without a branch: which links lead closer is hard to foresee.
                ways[count] = link;
                count += usize::from(distances[*peer as usize] == here - 1);
                if count == ways.len() {
                    break;
                }
            }
            let ways = ways[..count].iter().copied();
            let chosen = if self.even[switch as usize] {
                // As `best` between links of one speed.
                let drawn = ways.map(|link| (mix(self.keys[link as usize], flow), link));
                drawn
                    .reduce(|winner, next| if next.0 > winner.0 { next } else { winner })
                    .map(|(_, link)| link)
            } else {
                best(fabric, ways, flow)
            };
            *slot = chosen.and_then(|link| u16::try_from(link - range.start).ok()).unwrap_or(NOWHERE);
        }
    }
}

/// Frames to a switch as a whole are one flow.
const fn flow(destination: SwitchIndex) -> u32 {
    destination.wrapping_mul(0x9e37_79b9)
}

fn place(fabric: &Fabric, row: &[u16], switch: SwitchIndex, destination: SwitchIndex) -> u16 {
    let link = best(fabric, ways_in(row, fabric, switch), flow(destination));
    let offset = link.map(|link| link - fabric.link_range(switch).start);
    offset.and_then(|offset| u16::try_from(offset).ok()).unwrap_or(NOWHERE)
}
