//! What is known of the tables of switches, so that a zone can be written and proven without reading all others again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use drystone_redfish::etag::ETag;

use super::ZoneEntry;
use crate::model::{ForwardingTable, ForwardingZone, Member};

/// A table that one at a time works with.
type Slot = Arc<tokio::sync::Mutex<KnownTable>>;

/// Tables by fabric and switch.
#[derive(Debug, Default)]
pub(super) struct KnownTables(Mutex<HashMap<(String, String), Slot>>);

impl KnownTables {
    /// The table of a switch; nothing may be known of it yet.
    pub(super) fn of(&self, fabric: &str, switch: &str) -> Slot {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry((fabric.to_owned(), switch.to_owned())).or_default().clone()
    }
}

/// A table as it was last seen.
#[derive(Debug, Default)]
pub(super) struct KnownTable {
    etag: Option<ETag>,
    zones: BTreeMap<Box<str>, KnownZone>,
    ports: Vec<Box<str>>,
}

/// A zone in little room: large fabrics have millions of members in their tables.
#[derive(Debug)]
enum KnownZone {
    /// Members without restrictions, in order, each as address, port and whether it is shared in one word; ports by number.
    Plain { tag: u32, members: Box<[u64]>, flood: Box<[u16]> },
    /// Anything else, as it is.
    Other(ForwardingZone),
}

impl KnownTable {
    /// The tag of the table, if the table is known.
    pub(super) fn etag(&self) -> Option<ETag> {
        self.etag.clone()
    }

    /// Forgets everything.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Takes over a whole table. Without an entity tag nothing is known.
    pub(super) fn learn(&mut self, etag: Option<ETag>, table: ForwardingTable) {
        self.forget();
        self.etag = etag;
        if self.etag.is_some() {
            for (id, zone) in table.zones {
                let packed = self.pack(&zone);
                self.zones.insert(id.into(), packed);
            }
        }
    }

    /// Notes a changed zone, and the tag that the table has with it.
    pub(super) fn change(&mut self, etag: Option<ETag>, id: &str, zone: Option<&ForwardingZone>) {
        self.etag = etag;
        match zone {
            Some(zone) => {
                let packed = self.pack(zone);
                self.zones.insert(id.into(), packed);
            }
            None => drop(self.zones.remove(id)),
        }
    }

    /// Ids of its zones.
    pub(super) fn ids(&self) -> BTreeSet<String> {
        self.zones.keys().map(ToString::to_string).collect()
    }

    /// Whether the table has a zone just so.
    pub(super) fn has(&self, id: &str, zone: Option<&ForwardingZone>) -> bool {
        let known = self.zones.get(id).map(|known| self.unpack(known));
        known.as_ref() == zone
    }

    /// The part of the table that a proof of a zone has to know.
    pub(super) fn excerpt(&self, wanted: ZoneEntry<'_>) -> ForwardingTable {
        let macs: Vec<(&String, Option<u64>)> = wanted
            .entry
            .iter()
            .flat_map(|entry| entry.members.keys())
            .map(|mac| (mac, number(mac)))
            .collect();
        let concerns = |id: &str, zone: &KnownZone| {
            id == wanted.zone || wanted.beside.contains(id) || zone.lists_any(&macs)
        };
        let zones = self.zones.iter().filter(|(id, zone)| concerns(id, zone));
        ForwardingTable { zones: zones.map(|(id, zone)| (id.to_string(), self.unpack(zone))).collect() }
    }

    fn pack(&mut self, zone: &ForwardingZone) -> KnownZone {
        let mut members = Vec::with_capacity(zone.members.len());
        for (mac, member) in &zone.members {
            match (number(mac), self.port(&member.port), &member.peers) {
                (Some(mac), Some(port), None) => {
                    members.push(mac << 16 | u64::from(port) << 1 | u64::from(member.shared));
                }
                _ => return KnownZone::Other(zone.clone()),
            }
        }
        let flood: Option<Box<[u16]>> = zone.flood_ports.iter().map(|port| self.port(port)).collect();
        let Some(flood) = flood else { return KnownZone::Other(zone.clone()) };
        KnownZone::Plain { tag: zone.tag, members: members.into(), flood }
    }

    fn unpack(&self, zone: &KnownZone) -> ForwardingZone {
        let (tag, members, flood) = match zone {
            KnownZone::Other(zone) => return zone.clone(),
            KnownZone::Plain { tag, members, flood } => (*tag, members, flood),
        };
        let port =
            |number: u16| self.ports.get(usize::from(number)).map(ToString::to_string).unwrap_or_default();
        let member = |word: &u64| {
            let number = u16::try_from(*word >> 1 & u64::from(MOST_PORTS)).unwrap_or_default();
            (text(*word >> 16), Member { port: port(number), shared: word & 1 == 1, peers: None })
        };
        ForwardingZone {
            tag,
            members: members.iter().map(member).collect(),
            flood_ports: flood.iter().map(|number| port(*number)).collect(),
        }
    }

    /// The number of a port; `None` if there are too many.
    fn port(&mut self, name: &str) -> Option<u16> {
        let at = self.ports.iter().position(|known| **known == *name).unwrap_or_else(|| {
            self.ports.push(name.into());
            self.ports.len() - 1
        });
        u16::try_from(at).ok().filter(|at| *at <= MOST_PORTS)
    }
}

/// The largest number of a port that fits beside an address and a mark.
const MOST_PORTS: u16 = (1 << 15) - 1;

impl KnownZone {
    /// Whether it lists one of these addresses.
    fn lists_any(&self, macs: &[(&String, Option<u64>)]) -> bool {
        match self {
            Self::Other(zone) => macs.iter().any(|(mac, _)| zone.members.contains_key(*mac)),
            Self::Plain { members, .. } => macs
                .iter()
                .filter_map(|(_, number)| *number)
                .any(|mac| members.binary_search_by_key(&mac, |word| word >> 16).is_ok()),
        }
    }
}

/// An address as a number, if it is written as tables write it.
fn number(mac: &str) -> Option<u64> {
    let mut value = 0;
    for part in mac.split(':') {
        value = value << 8 | u64::from(u8::from_str_radix(part, 16).ok()?);
    }
    (mac.len() == 17 && text(value) == mac).then_some(value)
}

fn text(number: u64) -> String {
    let [_, _, a, b, c, d, e, f] = number.to_be_bytes();
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn zone(tag: u32, macs: &[&str]) -> ForwardingZone {
        let member = |mac: &&str| {
            let member = Member { port: format!("p{}", mac.len()), shared: mac.ends_with('9'), peers: None };
            ((*mac).to_owned(), member)
        };
        ForwardingZone {
            tag,
            members: macs.iter().map(member).collect(),
            flood_ports: vec!["p2".into(), "isl".into()],
        }
    }

    const A: &str = "02:d5:00:00:00:0a";
    const B: &str = "02:d5:00:00:00:09";

    #[test]
    fn packing_loses_nothing() {
        let mut table = ForwardingTable::default();
        table.zones.insert("plain".into(), zone(1, &[A, B]));
        table.zones.insert("strange".into(), zone(2, &["nonsense", "02:D5:00:00:00:0A", "ff", A]));
        let mut restricted = zone(3, &[A]);
        restricted.members.values_mut().for_each(|member| member.peers = Some(vec![B.into()]));
        table.zones.insert("restricted".into(), restricted);
        table.zones.insert("empty".into(), ForwardingZone::default());
        let mut known = KnownTable::default();
        known.learn(Some(ETag::from_header("\"1\"")), table.clone());
        for (id, zone) in &table.zones {
            assert!(known.has(id, Some(zone)), "{id}");
            assert!(!known.has(id, None), "{id}");
        }
        assert!(matches!(known.zones["plain"], KnownZone::Plain { .. }));
        assert!(known.has("none", None));
    }

    #[test]
    fn an_excerpt_has_whoever_lists_a_member() {
        let mut table = ForwardingTable::default();
        let own = zone(1, &[A]);
        table.zones.insert("own".into(), own.clone());
        table.zones.insert("intruder".into(), zone(2, &[A, B]));
        table.zones.insert("odd intruder".into(), zone(3, &[A, "x"]));
        table.zones.insert("beside".into(), zone(4, &[B]));
        table.zones.insert("far".into(), zone(5, &["02:d5:00:00:00:0b", "y"]));
        let mut known = KnownTable::default();
        known.learn(Some(ETag::from_header("\"1\"")), table);
        let beside = BTreeSet::from(["beside".to_owned()]);
        let wanted = ZoneEntry { fabric: "f", switch: "s", zone: "own", entry: Some(&own), beside: &beside };
        let ids: Vec<_> = known.excerpt(wanted).zones.into_keys().collect();
        assert_eq!(ids, ["beside", "intruder", "odd intruder", "own"]);
    }

    #[test]
    fn a_table_without_a_tag_is_not_known() {
        let mut known = KnownTable::default();
        known.learn(None, ForwardingTable { zones: [("z".to_owned(), zone(1, &[A]))].into() });
        assert!(known.etag().is_none() && known.has("z", None));
    }
}
