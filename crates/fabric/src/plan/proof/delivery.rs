//! One zone: nobody listed who is no member, and every frame between members arrives, or not, as the zone says.

use super::{
    NOWHERE, Scratch, Violation,
    follow::{Fate, follow, refuted},
};
use crate::{
    model::{EndpointIndex, Fabric, SwitchIndex},
    plan::{
        entry::{Egress, Exit, ReadTables, ZoneEntry},
        zone::ZoneRequest,
    },
};

/// A zone with its entries.
pub(super) struct ZoneView<'a> {
    pub(super) fabric: &'a Fabric,
    pub(super) zone: &'a ZoneRequest,
    /// The other zones of the fabric; may include the zone itself.
    pub(super) others: &'a [ZoneRequest],
    pub(super) read: &'a ReadTables,
    pub(super) entries: &'a [ZoneEntry],
    /// Members in order.
    pub(super) members: &'a [EndpointIndex],
    pub(super) scratch: &'a Scratch,
}

/// Entries laid out by member, so that a hop is two look-ups.
struct Grid {
    members: usize,
    words: usize,
    /// Entry by entry, where frames to each member leave.
    egress: Vec<Option<Egress>>,
    /// Entry by entry, a bit for each member that is listed.
    listed: Vec<u64>,
}

impl Grid {
    fn new(view: &ZoneView<'_>) -> Self {
        let (members, words) = (view.members.len(), view.members.len().div_ceil(64));
        let mut grid = Self {
            members,
            words,
            egress: vec![None; view.entries.len() * members],
            listed: vec![0; view.entries.len() * words],
        };
        for (place, entry) in view.entries.iter().enumerate() {
            for (index, egress) in &entry.members {
                let rank = view.scratch.rank[*index as usize] as usize;
                grid.egress[place * members + rank] = Some(*egress);
                grid.listed[place * words + rank / 64] |= 1 << (rank % 64);
            }
        }
        grid
    }
}

impl ZoneView<'_> {
    /// The place of a switch's entry.
    pub(super) fn entry(&self, switch: SwitchIndex) -> Option<&ZoneEntry> {
        let place = self.scratch.entry.get(switch as usize).copied().filter(|place| *place != NOWHERE)?;
        self.entries.get(place as usize)
    }

    pub(super) fn rank(&self, endpoint: EndpointIndex) -> Option<usize> {
        let rank = self.scratch.rank.get(endpoint as usize).copied();
        rank.filter(|rank| *rank != NOWHERE).map(|rank| rank as usize)
    }

    pub(super) fn check(&self, checked: &mut u64) -> Result<(), Violation> {
        if let Some(gone) = self.members.iter().find(|index| self.fabric.endpoint(**index).is_none()) {
            let (name, zone) = (self.fabric.endpoint_name(*gone), &self.zone.id);
            return Err(Violation(format!("endpoint {name} of zone {zone} is no longer on the fabric")));
        }
        self.entries.iter().try_for_each(|entry| self.only_members(entry))?;
        let count = self.members.len() as u64;
        *checked += count * count.saturating_sub(1);
        if self.zone.connections.is_none() && self.entries.iter().all(|entry| entry.peers.is_empty()) {
            self.everyone_arrives()?;
        } else {
            self.pairs_as_joined()?;
        }
        self.floods()
    }

    fn only_members(&self, entry: &ZoneEntry) -> Result<(), Violation> {
        let (switch, zone) = (&self.fabric.switch(entry.switch).id, &self.zone.id);
        if entry.tag != self.zone.tag {
            let (found, right) = (entry.tag, self.zone.tag);
            return Err(Violation(format!(
                "switch {switch} carries zone {zone} under tag {found} instead of {right}"
            )));
        }
        if let Some(mac) = entry.strangers.first() {
            return Err(Violation(format!(
                "switch {switch} lets members of zone {zone} exchange frames with {mac}, which is no endpoint of the fabric"
            )));
        }
        let foreign = entry.members.iter().map(|(index, _)| *index).find(|index| self.rank(*index).is_none());
        foreign.map_or(Ok(()), |foreign| Err(self.foreign(entry, foreign)))
    }

    /// An entry lists an endpoint that is no member: if a frame arrives by it, the way it takes.
    fn foreign(&self, entry: &ZoneEntry, foreign: EndpointIndex) -> Violation {
        let all: Vec<&[ZoneEntry]> = self.read.zones.values().map(Vec::as_slice).collect();
        let shares = |member: EndpointIndex| {
            let both = |zone: &ZoneRequest| zone.members.contains(&member) && zone.members.contains(&foreign);
            self.others.iter().any(both)
        };
        for (member, _) in entry.members.iter().filter(|(index, _)| *index != foreign && !shares(*index)) {
            for (from, to) in [(foreign, *member), (*member, foreign)] {
                if let Fate::Arrives(path) = follow(self.fabric, &all, from, to) {
                    let what = format!(
                        "arrives although they share no zone: {} is not in {}",
                        self.fabric.endpoint_name(foreign),
                        self.zone.id
                    );
                    return refuted(self.fabric, from, to, &path, &what);
                }
            }
        }
        let (switch, name) = (&self.fabric.switch(entry.switch).id, self.fabric.endpoint_name(foreign));
        Violation(format!("switch {switch} lists {name} in zone {}, of which it is no member", self.zone.id))
    }

    /// Follows frames from all members of a switch at once to each member.
    fn everyone_arrives(&self) -> Result<(), Violation> {
        let grid = Grid::new(self);
        let homes: Vec<(SwitchIndex, Vec<u64>)> = self.homes(grid.words);
        for (rank, to) in self.members.iter().enumerate() {
            for (home, own) in &homes {
                if let Some((path, from, what)) = self.lost(&grid, *home, own, rank, *to) {
                    return Err(refuted(self.fabric, from, *to, &path, &what));
                }
            }
        }
        Ok(())
    }

    /// The switches that members are cabled to, with a bit for each member there.
    fn homes(&self, words: usize) -> Vec<(SwitchIndex, Vec<u64>)> {
        let mut homes: Vec<(SwitchIndex, usize)> = Vec::with_capacity(self.members.len());
        homes.extend(self.members.iter().enumerate().filter_map(|(rank, index)| {
            self.fabric.endpoint(*index).map(|endpoint| (endpoint.switch, rank))
        }));
        homes.sort_unstable();
        let mut grouped: Vec<(SwitchIndex, Vec<u64>)> = Vec::new();
        for (switch, rank) in homes {
            if grouped.last().is_none_or(|(last, _)| *last != switch) {
                grouped.push((switch, vec![0; words]));
            }
            if let Some((_, bits)) = grouped.last_mut() {
                bits[rank / 64] |= 1 << (rank % 64);
            }
        }
        grouped
    }

    /// Follows a frame from the members at a switch to a member; if one of them does not arrive: path, sender and why.
    fn lost(
        &self,
        grid: &Grid,
        home: SwitchIndex,
        own: &[u64],
        rank: usize,
        to: EndpointIndex,
    ) -> Option<(Vec<SwitchIndex>, EndpointIndex, String)> {
        let destination = self.fabric.endpoint(to)?;
        // Whom the switch does not list, the destination itself left out.
        let missing = |place: usize| {
            let listed = &grid.listed[place * grid.words..(place + 1) * grid.words];
            own.iter().zip(listed).enumerate().find_map(|(word, (own, listed))| {
                let itself = if rank / 64 == word { 1 << (rank % 64) } else { 0 };
                let bits = own & !listed & !itself;
                (bits != 0).then(|| self.members[word * 64 + bits.trailing_zeros() as usize])
            })
        };
        let sender = || {
            let mut ranks = (0..self.members.len()).filter(|other| own[other / 64] >> (other % 64) & 1 == 1);
            ranks.find(|other| *other != rank).map(|other| self.members[other])
        };
        let fate = |from: EndpointIndex| match follow(self.fabric, &[self.entries], from, to) {
            Fate::Arrives(path) => (path, from, "takes a way that another frame loses".to_owned()),
            Fate::Dropped(path, why) => (path, from, format!("is lost: {why}")),
            Fate::Astray(path, why) => (path, from, format!("goes astray: {why}")),
        };
        let mut at = home;
        for _ in 0..=self.entries.len() {
            let place = self.scratch.entry[at as usize];
            let egress =
                (place != NOWHERE).then(|| grid.egress[place as usize * grid.members + rank]).flatten();
            let Some(egress) = egress else { return sender().map(fate) };
            if let Some(from) = missing(place as usize) {
                return Some(fate(from));
            }
            if at == destination.switch && egress == Egress::edge(destination.port) {
                return None;
            }
            match egress.exit() {
                Exit::Link(link) if self.fabric.link(link).up => at = self.fabric.link(link).peer,
                _ => return sender().map(fate),
            }
        }
        sender().map(fate)
    }

    /// Follows a frame between every two members.
    fn pairs_as_joined(&self) -> Result<(), Violation> {
        for from in self.members {
            for to in self.members.iter().filter(|to| *to != from) {
                let joined = self.zone.joins(*from, *to);
                match follow(self.fabric, &[self.entries], *from, *to) {
                    Fate::Arrives(path) if !joined => {
                        let what =
                            format!("arrives although no connection of zone {} joins them", self.zone.id);
                        return Err(refuted(self.fabric, *from, *to, &path, &what));
                    }
                    Fate::Dropped(path, why) if joined => {
                        return Err(refuted(self.fabric, *from, *to, &path, &format!("is lost: {why}")));
                    }
                    Fate::Astray(path, why) => {
                        return Err(refuted(self.fabric, *from, *to, &path, &format!("goes astray: {why}")));
                    }
                    Fate::Arrives(_) | Fate::Dropped(..) => {}
                }
            }
        }
        Ok(())
    }
}
