//! From a forwarding table to nftables: a pure function, so that what a switch enforces can be read and tested.
//!
//! The bridge only offers frames to ports; the ruleset decides, and its default is to drop.
//! - *ingress* (before the bridge looks at the frame, so that a forged source is never learnt): an edge port accepts the
//!   source addresses bound to it and no other. The frame is then marked with the zone of its source; a source that
//!   several zones share, or that no zone has, stays unmarked.
//! - *egress* (asked once for every port that the bridge would send the frame to): a unicast frame leaves by the port of
//!   its destination if source and destination have a zone in common; a broadcast or multicast frame leaves by the flood
//!   ports of the source's zones.
//!
//! - *peers*: a member with a list of peers exchanges frames with these only, whichever of the two ends has the list; and
//!   a flood port behind which there is such a member lets out only frames of those whom somebody there may hear.
//!
//! Sets grow with the members, not with the pairs of members; only pairs of *shared* endpoints and the lists of restricted
//! members are written one by one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use crate::backend::{ForwardingZone, ForwardingZones};

/// Name of the nftables table in a switch's namespace.
pub(super) const TABLE: &str = "drystone";

/// The ports of a switch by interface name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SwitchPorts {
    /// Edge ports with the source addresses that each accepts.
    pub(super) edge: BTreeMap<String, BTreeSet<String>>,
    /// Ports to other switches; these have checked the sources at their own edges.
    pub(super) interswitch: BTreeSet<String>,
}

/// Why a forwarding table cannot be enforced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RulesetError {
    /// The switch has no such port.
    #[error("zone {zone}: {place}: the switch has no port {port:?}; it has {known}")]
    UnknownPort {
        /// Zone id.
        zone: String,
        /// `Members/02:…` or `FloodPorts`.
        place: String,
        /// The port named.
        port: String,
        /// The ports there are.
        known: String,
    },
    /// Not an address in the form that the table uses.
    #[error("zone {zone}: member {mac:?} is no unicast MAC address in lower case with colons")]
    BadAddress {
        /// Zone id.
        zone: String,
        /// What was given.
        mac: String,
    },
    /// A member has a peer that is no member.
    #[error("zone {zone}: member {mac} has the peer {peer:?}, which is no member of the zone")]
    UnknownPeer {
        /// Zone id.
        zone: String,
        /// The member.
        mac: String,
        /// Its peer.
        peer: String,
    },
    /// An endpoint that is not shared is in two zones.
    #[error("member {mac} is in zones {first} and {second} but not Shared in both")]
    NotShared {
        /// The member.
        mac: String,
        /// One zone id.
        first: String,
        /// The other.
        second: String,
    },
    /// Two zones have the same tag, or a zone has tag 0.
    #[error("zone {zone}: tag {tag} is 0 or used by another zone")]
    BadTag {
        /// Zone id.
        zone: String,
        /// The tag.
        tag: u32,
    },
}

/// The sets of the ruleset, each with its elements in nftables' notation, sorted.
#[derive(Default)]
struct Sets {
    zone: BTreeSet<String>,
    egress: BTreeSet<String>,
    belongs: BTreeSet<String>,
    flood: BTreeSet<String>,
    shared_flood: BTreeSet<String>,
    shared_pairs: BTreeSet<String>,
    /// Members with a list of peers, and the pairs of those lists.
    restricted: BTreeSet<String>,
    peers: BTreeSet<String>,
    /// Ports behind which there are restricted members, and who is heard there.
    quiet: BTreeSet<String>,
    heard: BTreeSet<String>,
}

/// The nftables script that makes a switch with `ports` forward exactly what `zones` say. It replaces an earlier
/// ruleset as one transaction.
pub(super) fn render(ports: &SwitchPorts, zones: &ForwardingZones) -> Result<String, RulesetError> {
    validate(ports, zones)?;
    let sets = sets(zones);
    let edge = ports.edge.keys().map(|port| format!("\"{port}\"")).collect();
    let bound = ports
        .edge
        .iter()
        .flat_map(|(port, macs)| macs.iter().map(move |mac| format!("\"{port}\" . {mac}")))
        .collect();
    let mut script = String::new();
    // Declaring before deleting makes the deletion succeed the first time too.
    let _ = writeln!(script, "table bridge {TABLE}\ndelete table bridge {TABLE}\ntable bridge {TABLE} {{");
    declare(&mut script, "set edge", "ifname", &edge);
    declare(&mut script, "set bound", "ifname . ether_addr", &bound);
    declare(&mut script, "map zone", "ether_addr : mark", &sets.zone);
    declare(&mut script, "set egress", "mark . ether_addr . ifname", &sets.egress);
    declare(&mut script, "set belongs", "mark . ether_addr", &sets.belongs);
    declare(&mut script, "set flood", "mark . ifname", &sets.flood);
    declare(&mut script, "set shared_flood", "ether_addr . ifname", &sets.shared_flood);
    declare(&mut script, "set shared_pairs", "ether_addr . ether_addr . ifname", &sets.shared_pairs);
    declare(&mut script, "set restricted", "mark . ether_addr", &sets.restricted);
    declare(&mut script, "set peers", "mark . ether_addr . ether_addr", &sets.peers);
    declare(&mut script, "set quiet", "mark . ifname", &sets.quiet);
    declare(&mut script, "set heard", "mark . ether_addr . ifname", &sets.heard);
    script.push_str(CHAINS);
    Ok(script)
}

/// The chains are the same on every switch; only the sets differ.
const CHAINS: &str = "\tchain ingress {
\t\ttype filter hook prerouting priority filter; policy accept;
\t\tiifname @edge iifname . ether saddr != @bound counter drop
\t\tmeta mark set 0
\t\tmeta mark set ether saddr map @zone
\t}
\tchain egress {
\t\ttype filter hook forward priority filter; policy drop;
\t\tether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00 goto flooded
\t\tmeta mark != 0 goto between
\t\tether saddr . ether daddr . oifname @shared_pairs accept
\t\tmeta mark set ether daddr map @zone
\t\tmeta mark . ether saddr @belongs goto between
\t}
\tchain between {
\t\tmeta mark . ether saddr @restricted meta mark . ether saddr . ether daddr != @peers counter drop
\t\tmeta mark . ether daddr @restricted meta mark . ether daddr . ether saddr != @peers counter drop
\t\tmeta mark . ether daddr . oifname @egress accept
\t\tcounter drop
\t}
\tchain flooded {
\t\tmeta mark . oifname @quiet meta mark . ether saddr . oifname != @heard drop
\t\tmeta mark . oifname @flood accept
\t\tether saddr . oifname @shared_flood accept
\t}
\tchain input {
\t\ttype filter hook input priority filter; policy drop;
\t}
\tchain output {
\t\ttype filter hook output priority filter; policy drop;
\t}
}
";

fn declare(script: &mut String, what: &str, kind: &str, elements: &BTreeSet<String>) {
    let _ = writeln!(script, "\t{what} {{\n\t\ttype {kind}");
    if !elements.is_empty() {
        let _ = writeln!(script, "\t\telements = {{");
        for element in elements {
            let _ = writeln!(script, "\t\t\t{element},");
        }
        let _ = writeln!(script, "\t\t}}");
    }
    let _ = writeln!(script, "\t}}");
}

fn sets(zones: &ForwardingZones) -> Sets {
    let mut sets = Sets::default();
    for zone in zones.values() {
        sets.add_members(zone);
        sets.add_restrictions(zone);
        for port in &zone.flood_ports {
            sets.flood.insert(format!("{} . {}", zone.tag, quoted(port)));
        }
    }
    sets
}

/// A port as nftables writes its interface.
fn quoted(port: &str) -> String {
    format!("\"{}\"", super::names::interface(port))
}

impl Sets {
    fn add_members(&mut self, zone: &ForwardingZone) {
        let tag = zone.tag;
        for (mac, member) in &zone.members {
            self.egress.insert(format!("{tag} . {mac} . {}", quoted(&member.port)));
            self.belongs.insert(format!("{tag} . {mac}"));
            if !member.shared {
                self.zone.insert(format!("{mac} : {tag}"));
                continue;
            }
            for port in zone.flood_ports.iter().filter(|port| zone.floods(mac, port)) {
                self.shared_flood.insert(format!("{mac} . {}", quoted(port)));
            }
            let others = zone.members.iter().filter(|(other, m)| m.shared && *other != mac);
            for (other, _) in others.filter(|(other, _)| zone.permits(other, mac)) {
                self.shared_pairs.insert(format!("{other} . {mac} . {}", quoted(&member.port)));
            }
        }
    }

    fn add_restrictions(&mut self, zone: &ForwardingZone) {
        let tag = zone.tag;
        let mut quiet = BTreeSet::new();
        for (mac, member) in &zone.members {
            let Some(peers) = &member.peers else { continue };
            self.restricted.insert(format!("{tag} . {mac}"));
            self.peers.extend(peers.iter().map(|peer| format!("{tag} . {mac} . {peer}")));
            quiet.insert(&member.port);
        }
        for port in quiet {
            self.quiet.insert(format!("{tag} . {}", quoted(port)));
            let heard = zone.members.keys().filter(|mac| zone.floods(mac, port));
            self.heard.extend(heard.map(|mac| format!("{tag} . {mac} . {}", quoted(port))));
        }
    }
}

fn validate(ports: &SwitchPorts, zones: &ForwardingZones) -> Result<(), RulesetError> {
    let mut tags = BTreeSet::new();
    let mut home: BTreeMap<&str, (&str, bool)> = BTreeMap::new();
    for (id, zone) in zones {
        if zone.tag == 0 || !tags.insert(zone.tag) {
            return Err(RulesetError::BadTag { zone: id.clone(), tag: zone.tag });
        }
        for (mac, member) in &zone.members {
            if !is_unicast_address(mac) {
                return Err(RulesetError::BadAddress { zone: id.clone(), mac: mac.clone() });
            }
            let strange = member.peers.iter().flatten().find(|peer| !zone.members.contains_key(*peer));
            if let Some(peer) = strange {
                return Err(RulesetError::UnknownPeer {
                    zone: id.clone(),
                    mac: mac.clone(),
                    peer: peer.clone(),
                });
            }
            check_port(ports, id, &format!("Members/{mac}"), &member.port)?;
            if let Some((first, shared)) = home.insert(mac, (id, member.shared))
                && !(shared && member.shared)
            {
                return Err(RulesetError::NotShared {
                    mac: mac.clone(),
                    first: first.to_owned(),
                    second: id.clone(),
                });
            }
        }
        for port in &zone.flood_ports {
            check_port(ports, id, "FloodPorts", port)?;
        }
    }
    Ok(())
}

fn check_port(ports: &SwitchPorts, zone: &str, place: &str, port: &str) -> Result<(), RulesetError> {
    let interface = super::names::interface(port);
    if ports.edge.contains_key(&interface) || ports.interswitch.contains(&interface) {
        return Ok(());
    }
    let known: Vec<&str> = ports.edge.keys().chain(&ports.interswitch).map(String::as_str).collect();
    Err(RulesetError::UnknownPort {
        zone: zone.to_owned(),
        place: place.to_owned(),
        port: port.to_owned(),
        known: known.join(", "),
    })
}

/// Whether this is `xx:xx:xx:xx:xx:xx` in lower case with the group bit clear.
pub(super) fn is_unicast_address(mac: &str) -> bool {
    let octets: Vec<&str> = mac.split(':').collect();
    let valid =
        |octet: &&str| octet.len() == 2 && octet.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    octets.len() == 6
        && octets.iter().all(valid)
        && u8::from_str_radix(octets[0], 16).is_ok_and(|first| first & 1 == 0)
}

#[cfg(test)]
mod tests;
