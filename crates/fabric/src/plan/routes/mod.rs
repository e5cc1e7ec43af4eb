//! Shortest ways between switches, with the load spread over equal ones and parallel links.
//!
//! **No loops.** Every way goes to a switch that is strictly closer to the destination, so that a frame passes no switch twice,
//! whatever equal way each switch chose. On fabrics that drop frames when queues are full (Ethernet) this is all that
//! deadlock-freedom asks for. On lossless fabrics full queues may wait for each other in a circle; [`lanes`] gives each hop a
//! virtual lane such that they cannot.
//!
//! **Spreading.** Which of several equal ways the frames to an endpoint take is decided by rendezvous hashing, weighted by the
//! speed of the links: each switch draws a number for every way from the names of its port and of the endpoint, and takes the
//! best one. So the choice needs no state, is the same whoever computes it, and when a link fails only what used it moves.
//!
//! Everything follows from the distances to the destination switches: [`Routes`] keeps a row of them per destination, for all
//! switches of a fabric or for the few that a zone needs.

pub mod distances;
pub mod lanes;
pub mod switch_tables;
pub mod tree;

use crate::model::{Fabric, LinkIndex, SwitchIndex};

/// Distance to a switch that cannot be reached.
pub const UNREACHABLE: u16 = u16::MAX;

/// A set of switches that frames may pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SwitchSet {
    words: Vec<u64>,
}

impl SwitchSet {
    /// An empty set.
    pub const fn new() -> Self {
        Self { words: Vec::new() }
    }

    /// Puts a switch in; whether it was absent.
    pub fn insert(&mut self, switch: SwitchIndex) -> bool {
        let (word, bit) = (switch as usize / 64, 1_u64 << (switch % 64));
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let absent = self.words[word] & bit == 0;
        self.words[word] |= bit;
        absent
    }

    /// Whether a switch is in.
    pub fn contains(&self, switch: SwitchIndex) -> bool {
        self.words.get(switch as usize / 64).is_some_and(|word| word >> (switch % 64) & 1 == 1)
    }

    /// The switches, in order.
    pub fn iter(&self) -> impl Iterator<Item = SwitchIndex> + '_ {
        (0..).zip(&self.words).flat_map(|(at, word): (u32, &u64)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at * 64 + bit)
        })
    }
}

impl FromIterator<SwitchIndex> for SwitchSet {
    fn from_iter<I: IntoIterator<Item = SwitchIndex>>(switches: I) -> Self {
        let mut set = Self::new();
        for switch in switches {
            set.insert(switch);
        }
        set
    }
}

/// Distances of all switches to some destinations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    pub(super) switches: usize,
    /// Row of each destination; `u32::MAX` where there is none.
    pub(super) row_of: Vec<u32>,
    pub(super) destinations: Vec<SwitchIndex>,
    /// A row of `switches` distances for each destination.
    pub(super) rows: Vec<u16>,
}

impl Routes {
    /// Routes to some destinations, over all switches that are up or only those `allowed`.
    pub fn to(fabric: &Fabric, destinations: &[SwitchIndex], allowed: Option<&SwitchSet>) -> Self {
        let mut routes = Self::empty(fabric, destinations);
        distances::fill(fabric, &routes.destinations, allowed, &mut routes.rows);
        routes
    }

    /// Routes to all switches, computed by so many threads.
    pub fn full(fabric: &Fabric, threads: usize) -> Self {
        let all: Vec<SwitchIndex> = (0..fabric.switch_count()).collect();
        let mut routes = Self::empty(fabric, &all);
        let switches = routes.switches.max(1);
        // Whole batches of 64 destinations per thread: see `distances`.
        let batches = all.len().div_ceil(64);
        let share = batches.div_ceil(threads.max(1)).max(1) * 64;
        std::thread::scope(|scope| {
            for (destinations, rows) in all.chunks(share).zip(routes.rows.chunks_mut(share * switches)) {
                scope.spawn(move || distances::fill(fabric, destinations, None, rows));
            }
        });
        routes
    }

    fn empty(fabric: &Fabric, destinations: &[SwitchIndex]) -> Self {
        let switches = fabric.switch_count() as usize;
        let mut routes = Self { switches, row_of: vec![u32::MAX; switches], ..Self::default() };
        for destination in destinations {
            let Some(row) = routes.row_of.get_mut(*destination as usize) else { continue };
            if *row == u32::MAX {
                *row = u32::try_from(routes.destinations.len()).unwrap_or(u32::MAX);
                routes.destinations.push(*destination);
            }
        }
        routes.rows = vec![UNREACHABLE; switches * routes.destinations.len()];
        routes
    }

    /// The destinations that there are rows for.
    pub fn destinations(&self) -> &[SwitchIndex] {
        &self.destinations
    }

    /// Distances of all switches to a destination, [`UNREACHABLE`] where there is no way; empty for a destination that these
    /// routes are not about.
    pub fn row(&self, destination: SwitchIndex) -> &[u16] {
        match self.row_of.get(destination as usize) {
            Some(row) if *row != u32::MAX => {
                let start = *row as usize * self.switches;
                &self.rows[start..start + self.switches]
            }
            _ => &[],
        }
    }

    /// Number of links between two switches.
    pub fn distance(&self, from: SwitchIndex, to: SwitchIndex) -> Option<u16> {
        self.row(to).get(from as usize).copied().filter(|distance| *distance != UNREACHABLE)
    }

    /// All equally short ways from a switch towards another one, as links to the next switch, in order of port name.
    pub fn ways<'a>(
        &'a self,
        fabric: &'a Fabric,
        from: SwitchIndex,
        to: SwitchIndex,
    ) -> impl Iterator<Item = LinkIndex> + 'a {
        ways_in(self.row(to), fabric, from)
    }

    /// The way from a switch towards another one that frames of a flow take.
    pub fn way(&self, fabric: &Fabric, from: SwitchIndex, to: SwitchIndex, flow: u32) -> Option<LinkIndex> {
        best(fabric, self.ways(fabric, from, to), flow)
    }

    /// Brings the routes up to date after links went up or down. Computes only the rows that can have changed, and says
    /// which did: pairs of destination and switch whose distance is another one now.
    ///
    /// Only for routes that are not restricted to some switches.
    pub fn update(&mut self, fabric: &Fabric, changed: &[LinkIndex]) -> Vec<(SwitchIndex, SwitchIndex)> {
        let suspects: Vec<SwitchIndex> = self
            .destinations
            .iter()
            .copied()
            .filter(|to| changed.iter().any(|link| self.concerns(fabric, *link, *to)))
            .collect();
        let mut differences = Vec::new();
        let mut fresh = vec![UNREACHABLE; 64 * self.switches];
        for batch in suspects.chunks(64) {
            let fresh = &mut fresh[..batch.len() * self.switches];
            fresh.fill(UNREACHABLE);
            distances::fill(fabric, batch, None, fresh);
            for (destination, row) in batch.iter().zip(fresh.chunks(self.switches.max(1))) {
                let start = self.row_of[*destination as usize] as usize * self.switches;
                let old = &mut self.rows[start..start + self.switches];
                let pairs = (0..).zip(old.iter().zip(row)).filter(|(_, (old, new))| old != new);
                differences.extend(pairs.map(|(switch, _)| (*destination, switch)));
                old.copy_from_slice(row);
            }
        }
        differences
    }

    /// Whether the distances to a destination may change because a link changed: it was the only way of a switch, or it makes
    /// one shorter.
    fn concerns(&self, fabric: &Fabric, link: LinkIndex, to: SwitchIndex) -> bool {
        let Some(end) = fabric.ends_of(link) else { return true };
        let row = self.row(to);
        let (a, b) = (row[end.0 as usize], row[end.1 as usize]);
        if !fabric.link(link).up {
            // Distances are still the old ones: a failed link matters to the farther end, if it has no other way left.
            let farther = match a.cmp(&b) {
                std::cmp::Ordering::Less => end.1,
                std::cmp::Ordering::Greater => end.0,
                std::cmp::Ordering::Equal => return false,
            };
            return ways_in(row, fabric, farther).next().is_none();
        }
        a.abs_diff(b) > 1
    }
}

/// The links of a switch that lead one step closer, going by a row of distances.
pub(crate) fn ways_in<'a>(
    row: &'a [u16],
    fabric: &'a Fabric,
    from: SwitchIndex,
) -> impl Iterator<Item = LinkIndex> + 'a {
    let here = row.get(from as usize).copied().filter(|here| *here != UNREACHABLE && *here > 0);
    here.into_iter().flat_map(move |here| {
        fabric
            .links_of(from)
            .filter(move |(_, link)| link.up && row[link.peer as usize] == here - 1)
            .map(|(index, _)| index)
    })
}

/// Rendezvous hashing over links: the one that a flow takes.
#[inline]
pub(crate) fn best(fabric: &Fabric, links: impl Iterator<Item = LinkIndex>, flow: u32) -> Option<LinkIndex> {
    let draw = |link: LinkIndex| {
        let record = fabric.link(link);
        (link, mix(record.key, flow), record.speed_gbps.max(1))
    };
    let better = |winner: (LinkIndex, u32, u32), next: (LinkIndex, u32, u32)| {
        // Between links of one speed the greater number wins, which is what the weighted rule comes to. Equal numbers are all
        // but impossible; the first in order of port name wins then.
        let next_wins = if winner.2 == next.2 {
            next.1 > winner.1
        } else {
            let weighted =
                |drawn: u32, other_speed: u32| u64::from(exponential(drawn)) * u64::from(other_speed);
            weighted(next.1, winner.2) < weighted(winner.1, next.2)
        };
        if next_wins { next } else { winner }
    };
    links.map(draw).reduce(better).map(|(link, _, _)| link)
}

/// Mixes two numbers into one in which every bit depends on all of theirs.
const fn mix(key: u32, flow: u32) -> u32 {
    let mut mixed = key ^ flow.rotate_left(16).wrapping_mul(0x9e37_79b9);
    mixed = (mixed ^ (mixed >> 16)).wrapping_mul(0x7feb_352d);
    mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x846c_a68b);
    mixed ^ (mixed >> 16)
}

/// `-log2(u)` of a uniform number, in units of 2^-16: exponentially distributed, which makes weights come out exactly. The
/// logarithm of the mantissa is taken by a parabola (error below 0.01), with whole numbers only, so that all machines agree.
fn exponential(uniform: u32) -> u32 {
    let uniform = uniform.max(1);
    let zeros = uniform.leading_zeros();
    let fraction = ((uniform << zeros) & 0x7fff_ffff) >> 15;
    let bend = (((fraction * (0xffff - fraction)) >> 16) * 22_500) >> 16;
    ((zeros + 1) << 16) - fraction - bend.min(fraction.max(1) - 1)
}
