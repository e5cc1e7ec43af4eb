//! Distances by breadth-first search from 64 destinations at once: a bit of a word stands for each of them.

use super::{SwitchSet, UNREACHABLE};
use crate::model::{Fabric, SwitchIndex};

/// Destinations that one search serves.
const BATCH: usize = 64;

/// Fills a row of distances for each destination; `rows` must be all [`UNREACHABLE`].
pub(super) fn fill(
    fabric: &Fabric,
    destinations: &[SwitchIndex],
    allowed: Option<&SwitchSet>,
    rows: &mut [u16],
) {
    let switches = fabric.switch_count() as usize;
    if switches == 0 {
        return;
    }
    let mut search = Search::new(fabric, allowed);
    for (batch, rows) in destinations.chunks(BATCH).zip(rows.chunks_mut(BATCH * switches)) {
        search.run(batch, rows);
    }
}

struct Search<'a> {
    fabric: &'a Fabric,
    usable: Vec<bool>,
    /// By switch: destinations whose distance is known.
    seen: Vec<u64>,
    /// By switch: destinations that were reached in the last step, and in this one.
    frontier: Vec<u64>,
    next: Vec<u64>,
}

impl<'a> Search<'a> {
    fn new(fabric: &'a Fabric, allowed: Option<&SwitchSet>) -> Self {
        let switches = fabric.switch_count() as usize;
        // That a switch is down shows in its links.
        let usable = (0..fabric.switch_count())
            .map(|switch| allowed.is_none_or(|allowed| allowed.contains(switch)))
            .collect();
        let empty = || vec![0_u64; switches];
        Self { fabric, usable, seen: empty(), frontier: empty(), next: empty() }
    }

    fn run(&mut self, batch: &[SwitchIndex], rows: &mut [u16]) {
        let switches = self.usable.len();
        self.seen.fill(0);
        let mut active: Vec<SwitchIndex> = Vec::new();
        for (bit, destination) in batch.iter().enumerate() {
            let at = *destination as usize;
            if !self.usable.get(at).copied().unwrap_or(false) {
                continue;
            }
            if self.frontier[at] == 0 {
                active.push(*destination);
            }
            self.frontier[at] |= 1 << bit;
            self.seen[at] |= 1 << bit;
            rows[bit * switches + at] = 0;
        }
        let mut reached: Vec<SwitchIndex> = Vec::new();
        let mut distance: u16 = 0;
        while !active.is_empty() && distance < UNREACHABLE - 1 {
            distance += 1;
            for switch in active.drain(..) {
                let wave = std::mem::take(&mut self.frontier[switch as usize]);
                for (_, link) in self.fabric.links_of(switch) {
                    let peer = link.peer as usize;
                    let fresh = wave & !self.seen[peer];
                    if fresh == 0 || !link.up || !self.usable[peer] {
                        continue;
                    }
                    if self.next[peer] == 0 {
                        reached.push(link.peer);
                    }
                    self.next[peer] |= fresh;
                }
            }
            for switch in reached.drain(..) {
                let at = switch as usize;
                let mut fresh = std::mem::take(&mut self.next[at]);
                self.seen[at] |= fresh;
                self.frontier[at] = fresh;
                active.push(switch);
                while fresh != 0 {
                    let bit = fresh.trailing_zeros() as usize;
                    rows[bit * switches + at] = distance;
                    fresh &= fresh - 1;
                }
            }
        }
    }
}
