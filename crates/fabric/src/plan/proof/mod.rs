//! Proof of isolation, from tables read back from the switches.
//!
//! A switch passes a frame only if one of its entries lists both ends. So if no entry lists anybody but members of its zone,
//! no two endpoints that share no zone can reach each other, whatever the ports: that is looked up entry by entry. What
//! remains is followed hop by hop: that every allowed pair arrives, that pairs of a zone without default routing that no
//! connection joins do not, and that a broadcast reaches every member it may, once, and nobody else.
//!
//! A proof may refuse a table that does no harm yet (an entry for an endpoint that is not in the zone, on a switch that the
//! endpoint's frames never come to); it never accepts one that does. [`prove`] and [`prove_zone`] look at one zone and cost
//! what the zone is big; [`prove_all`] looks at every table of a fabric.

mod delivery;
mod flood;
mod follow;
mod several;

use std::collections::BTreeMap;

use self::delivery::ZoneView;
use super::{
    entry::{ReadTables, ZoneEntry},
    zone::ZoneRequest,
};
use crate::model::{EndpointIndex, Fabric, ForwardingTable, SwitchIndex};

/// Tables by switch, as read back.
pub type Tables = BTreeMap<SwitchIndex, ForwardingTable>;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proof {
    /// Ordered pairs of endpoints that were checked one by one, or by following frames of all at once.
    pub checked_pairs: u64,
    /// The first violation, in words, with the path.
    pub counter_example: Option<String>,
}

impl Proof {
    /// Whether isolation (and connectivity) holds.
    pub const fn holds(&self) -> bool {
        self.counter_example.is_none()
    }

    fn of(checked_pairs: u64, result: Result<(), Violation>) -> Self {
        Self { checked_pairs, counter_example: result.err().map(|violation| violation.0) }
    }
}

/// A violation, in words.
#[derive(Debug)]
struct Violation(String);

/// Checks one zone against the tables of its switches, given all other zones that ought to exist.
pub fn prove(fabric: &Fabric, zone: &ZoneRequest, others: &[ZoneRequest], tables: &Tables) -> Proof {
    let mut read = ReadTables::default();
    for (switch, table) in tables {
        read.add(fabric, *switch, table);
    }
    prove_zone(fabric, zone, others, &read)
}

/// Like [`prove`], for tables by number.
pub fn prove_zone(fabric: &Fabric, zone: &ZoneRequest, others: &[ZoneRequest], read: &ReadTables) -> Proof {
    let mut checked = 0;
    let mut scratch = Scratch::new(fabric);
    let result = one_zone(fabric, zone, others, read, &mut scratch, &mut checked)
        .and_then(|()| several::intruders(fabric, zone, others, read))
        .and_then(|()| several::beside(fabric, zone, others, read));
    Proof::of(checked, result)
}

/// Checks every table of a fabric against all zones that ought to exist, by so many threads.
pub fn prove_all(fabric: &Fabric, zones: &[ZoneRequest], read: &ReadTables, threads: usize) -> Proof {
    let share = zones.len().div_ceil(threads.max(1) * 8).max(1);
    let chunks: Vec<&[ZoneRequest]> = zones.chunks(share).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let results = std::sync::Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let mut scratch = Scratch::new(fabric);
                loop {
                    let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(chunk) = chunks.get(at) else { break };
                    let mut checked = 0;
                    let result = chunk
                        .iter()
                        .try_for_each(|zone| one_zone(fabric, zone, zones, read, &mut scratch, &mut checked));
                    if let Ok(mut results) = results.lock() {
                        results.insert(at, (checked, result));
                    }
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    // A thread that died would have left a hole; what was not checked is not proven.
    let complete = results.len() == chunks.len();
    let mut checked = 0;
    let mut first = Ok(());
    for (_, (pairs, result)) in results {
        checked += pairs;
        first = first.and(result);
    }
    if !complete {
        first = first.and(Err(Violation("the check was cut short; run it again".to_owned())));
    }
    let result = first
        .and_then(|()| several::unknown_zones(fabric, zones, read))
        .and_then(|()| several::shared(fabric, zones, read));
    Proof::of(checked, result)
}

/// What a thread keeps from zone to zone, so that a zone costs what it is big.
struct Scratch {
    /// By endpoint, its place among the members of the zone at hand.
    rank: Vec<u32>,
    /// By switch, its place among the entries of the zone at hand.
    entry: Vec<u32>,
}

/// No place.
const NOWHERE: u32 = u32::MAX;

impl Scratch {
    fn new(fabric: &Fabric) -> Self {
        Self {
            rank: vec![NOWHERE; fabric.endpoint_limit()],
            entry: vec![NOWHERE; fabric.switch_count() as usize],
        }
    }
}

/// Everything that can be said of a zone from its own entries.
fn one_zone(
    fabric: &Fabric,
    zone: &ZoneRequest,
    others: &[ZoneRequest],
    read: &ReadTables,
    scratch: &mut Scratch,
    checked: &mut u64,
) -> Result<(), Violation> {
    let entries: &[ZoneEntry] = read.zones.get(&zone.id).map_or(&[], Vec::as_slice);
    let members: Vec<EndpointIndex> = zone.members.iter().copied().collect();
    for (place, index) in (0..).zip(&members) {
        if let Some(rank) = scratch.rank.get_mut(*index as usize) {
            *rank = place;
        }
    }
    for (place, entry) in (0..).zip(entries) {
        if let Some(slot) = scratch.entry.get_mut(entry.switch as usize) {
            *slot = place;
        }
    }
    let view = ZoneView { fabric, zone, others, read, entries, members: &members, scratch };
    let result = view.check(checked);
    for index in &members {
        if let Some(rank) = scratch.rank.get_mut(*index as usize) {
            *rank = NOWHERE;
        }
    }
    for entry in entries {
        if let Some(slot) = scratch.entry.get_mut(entry.switch as usize) {
            *slot = NOWHERE;
        }
    }
    result
}
