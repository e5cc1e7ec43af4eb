//! The whole of a fabric's routes as one table per switch: for every destination switch the link to take. What switches need
//! that are programmed by destination, independent of zones.

use super::{Routes, best, ways_in};
use crate::model::{Fabric, LinkIndex, SwitchIndex};

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
        std::thread::scope(|scope| {
            for (first, rows) in (0..).step_by(share).zip(places.chunks_mut(share * switches.max(1))) {
                scope.spawn(move || {
                    for (destination, row) in (first..).zip(rows.chunks_mut(switches.max(1))) {
                        fill_row(fabric, routes, destination, row);
                    }
                });
            }
        });
        Self { switches, places }
    }

    /// Computes the rows of some destinations again, and the choices of some switches in all rows. Returns how many rows
    /// were computed.
    pub fn update(
        &mut self,
        fabric: &Fabric,
        routes: &Routes,
        differences: &[(SwitchIndex, SwitchIndex)],
        changed: &[LinkIndex],
    ) -> usize {
        let mut destinations: Vec<SwitchIndex> = differences.iter().map(|(to, _)| *to).collect();
        destinations.dedup();
        for destination in &destinations {
            let start = *destination as usize * self.switches;
            fill_row(fabric, routes, *destination, &mut self.places[start..start + self.switches]);
        }
        let ends = changed.iter().filter_map(|link| fabric.ends_of(*link));
        let mut ends: Vec<SwitchIndex> = ends.flat_map(|(a, b)| [a, b]).collect();
        ends.sort_unstable();
        ends.dedup();
        for destination in 0..fabric.switch_count() {
            let row = routes.row(destination);
            for switch in &ends {
                let at = destination as usize * self.switches + *switch as usize;
                self.places[at] = place(fabric, row, *switch, destination);
            }
        }
        destinations.len()
    }

    /// The link by which a switch forwards to another one; `None` if there is no way, or it is the switch itself.
    pub fn link(&self, fabric: &Fabric, switch: SwitchIndex, destination: SwitchIndex) -> Option<LinkIndex> {
        let at = destination as usize * self.switches + switch as usize;
        let place = self.places.get(at).copied().filter(|place| *place != NOWHERE)?;
        Some(fabric.link_range(switch).start + u32::from(place))
    }
}

fn fill_row(fabric: &Fabric, routes: &Routes, destination: SwitchIndex, places: &mut [u16]) {
    let row = routes.row(destination);
    for (switch, slot) in (0..).zip(places) {
        *slot = place(fabric, row, switch, destination);
    }
}

fn place(fabric: &Fabric, row: &[u16], switch: SwitchIndex, destination: SwitchIndex) -> u16 {
    let flow = destination.wrapping_mul(0x9e37_79b9);
    let link = best(fabric, ways_in(row, fabric, switch), flow);
    let offset = link.map(|link| link - fabric.link_range(switch).start);
    offset.and_then(|offset| u16::try_from(offset).ok()).unwrap_or(NOWHERE)
}
