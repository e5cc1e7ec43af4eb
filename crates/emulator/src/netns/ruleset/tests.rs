use proptest::prelude::*;

use super::*;
use crate::backend::ForwardingMember;

fn mac(number: u8) -> String {
    format!("02:d5:00:00:00:{number:02x}")
}

fn ports() -> SwitchPorts {
    SwitchPorts {
        edge: [("p1", mac(1)), ("p2", mac(2)), ("p3", mac(3)), ("p9", mac(9))]
            .map(|(port, mac)| (port.to_owned(), BTreeSet::from([mac])))
            .into(),
        interswitch: BTreeSet::from(["isl0".to_owned()]),
    }
}

fn zone(tag: u32, members: &[(u8, &str, bool)], flood: &[&str]) -> ForwardingZone {
    ForwardingZone {
        tag,
        members: members
            .iter()
            .map(|(number, port, shared)| {
                (mac(*number), ForwardingMember { port: (*port).to_owned(), shared: *shared, peers: None })
            })
            .collect(),
        flood_ports: flood.iter().map(|port| (*port).to_owned()).collect(),
    }
}

/// Two zones on a switch with a shared gateway (9) and a member behind another switch (4).
fn two_zones() -> ForwardingZones {
    [
        (
            "red".to_owned(),
            zone(1, &[(1, "p1", false), (4, "isl0", false), (9, "p9", true)], &["p1", "isl0", "p9"]),
        ),
        ("blue".to_owned(), zone(2, &[(2, "p2", false), (9, "p9", true)], &["p2", "p9"])),
    ]
    .into()
}

#[test]
fn two_zones_with_a_shared_gateway() {
    assert_eq!(render(&ports(), &two_zones()).unwrap(), include_str!("two_zones.nft"));
}

#[test]
fn without_zones_nothing_passes() {
    let script = render(&ports(), &ForwardingZones::new()).unwrap();
    assert!(!script.contains("02:d5:00:00:00:01 : "), "no member");
    assert!(script.contains("\"p1\" . 02:d5:00:00:00:01"), "bindings stay");
}

#[test]
fn tables_that_cannot_be_enforced() {
    let message = |zones: &[(&str, ForwardingZone)]| {
        let zones = zones.iter().map(|(id, zone)| ((*id).to_owned(), zone.clone())).collect();
        render(&ports(), &zones).unwrap_err().to_string()
    };
    assert_eq!(
        message(&[("red", zone(1, &[(1, "p7", false)], &[]))]),
        "zone red: Members/02:d5:00:00:00:01: the switch has no port \"p7\"; it has p1, p2, p3, p9, isl0"
    );
    assert!(message(&[("red", zone(1, &[], &["p8"]))]).contains("FloodPorts"));
    assert!(message(&[("red", zone(0, &[], &[]))]).contains("tag 0"));
    assert!(message(&[("a", zone(1, &[], &[])), ("b", zone(1, &[], &[]))]).contains("zone b: tag 1"));
    let twice = [("a", zone(1, &[(1, "p1", true)], &[])), ("b", zone(2, &[(1, "p1", false)], &[]))];
    assert!(message(&twice).contains("in zones a and b but not Shared"));
    let mut stranger = zone(1, &[(1, "p1", false)], &[]);
    stranger.members.get_mut(&mac(1)).unwrap().peers = Some(BTreeSet::from([mac(2)]));
    assert!(message(&[("red", stranger)]).contains("no member of the zone"));
    for bad in ["02:D5:00:00:00:01", "03:d5:00:00:00:01", "02:d5:00:00:00", "", "02:d5:00:00:00:01; drop"] {
        let mut broken = zone(1, &[], &[]);
        broken
            .members
            .insert(bad.to_owned(), ForwardingMember { port: "p1".to_owned(), shared: false, peers: None });
        assert!(message(&[("red", broken)]).contains("no unicast MAC"), "{bad}");
    }
}

#[test]
fn the_kernel_takes_the_script() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        return;
    }
    let mut zones = two_zones();
    for (member, peer) in [(1, 4), (4, 1)] {
        let members = &mut zones.get_mut("red").unwrap().members;
        members.get_mut(&mac(member)).unwrap().peers = Some(BTreeSet::from([mac(peer)]));
    }
    let script = render(&ports(), &zones).unwrap();
    // `-c` checks without applying; it needs a namespace only to be independent of the machine's rules.
    let mut child = match std::process::Command::new("unshare")
        .args(["--net", "nft", "-c", "-f", "-"])
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
    {
        Ok(child) => child,
        Err(error) => {
            println!("skipped: {error}");
            assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
            return;
        }
    };
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What the specification of the forwarding table says, word for word: the oracle for the ruleset.
fn may_leave(zones: &ForwardingZones, source: &str, destination: Option<&str>, port: &str) -> bool {
    let list_has = |zone: &ForwardingZone, one: &str, other: &str| {
        zone.members[one].peers.as_ref().is_none_or(|peers| peers.contains(other))
    };
    let permits = |zone: &ForwardingZone, one: &str, other: &str| {
        zone.members.contains_key(one)
            && zone.members.contains_key(other)
            && list_has(zone, one, other)
            && list_has(zone, other, one)
    };
    let of_source = || zones.values().filter(|zone| zone.members.contains_key(source));
    match destination {
        Some(destination) => of_source()
            .any(|zone| permits(zone, source, destination) && zone.members[destination].port == port),
        None => of_source().any(|zone| {
            let behind: Vec<_> = zone.members.iter().filter(|(_, member)| member.port == port).collect();
            zone.flood_ports.iter().any(|flood| flood == port)
                && (behind.iter().all(|(_, member)| member.peers.is_none())
                    || behind.iter().any(|(mac, _)| *mac != source && permits(zone, source, mac)))
        }),
    }
}

/// What the chains do with the sets, as nftables evaluates them.
fn evaluate(sets: &Sets, source: &str, destination: Option<&str>, port: &str) -> bool {
    let tag_of = |mac: &str| {
        let prefix = format!("{mac} : ");
        sets.zone.iter().find_map(|element| element.strip_prefix(&prefix)).map(str::to_owned)
    };
    let mark = tag_of(source);
    let Some(destination) = destination else {
        let by_zone = mark.is_some_and(|tag| {
            let quiet = sets.quiet.contains(&format!("{tag} . \"{port}\""));
            (!quiet || sets.heard.contains(&format!("{tag} . {source} . \"{port}\"")))
                && sets.flood.contains(&format!("{tag} . \"{port}\""))
        });
        return by_zone || sets.shared_flood.contains(&format!("{source} . \"{port}\""));
    };
    let between = |tag: &str| {
        let forbids = |one: &str, other: &str| {
            sets.restricted.contains(&format!("{tag} . {one}"))
                && !sets.peers.contains(&format!("{tag} . {one} . {other}"))
        };
        !forbids(source, destination)
            && !forbids(destination, source)
            && sets.egress.contains(&format!("{tag} . {destination} . \"{port}\""))
    };
    if let Some(tag) = mark {
        return between(&tag);
    }
    if sets.shared_pairs.contains(&format!("{source} . {destination} . \"{port}\"")) {
        return true;
    }
    tag_of(destination)
        .is_some_and(|tag| sets.belongs.contains(&format!("{tag} . {source}")) && between(&tag))
}

prop_compose! {
    /// Up to five zones over twelve endpoints, of which 9 to 11 are shared; every endpoint has one port.
    fn any_zones()(homes in prop::collection::vec(0usize..6, 9), guests in prop::collection::vec(prop::collection::vec(any::<bool>(), 5), 3),
        floods in prop::collection::vec(prop::collection::btree_set(0usize..5, 0..5), 5),
        restricted in prop::collection::vec(prop::option::weighted(0.3, prop::collection::btree_set(0u8..12, 0..8)), 12)) -> ForwardingZones
    {
        let names = ["p1", "p2", "p3", "p9", "isl0"];
        (0..5u32).map(|index| {
            let i = index as usize;
            let own = homes.iter().enumerate().filter(|(_, home)| **home == i).map(|(e, _)| (e, false));
            let shared = guests.iter().enumerate().filter(|(_, zones)| zones[i]).map(|(g, _)| (9 + g, true));
            let members: Vec<(usize, bool)> = own.chain(shared).collect();
            let inside = |peer: &u8| members.iter().any(|(e, _)| *e == usize::from(*peer));
            let peers = |e: usize| restricted[e].as_ref().map(|list| {
                list.iter().filter(|peer| usize::from(**peer) != e && inside(peer)).map(|peer| mac(*peer)).collect()
            });
            let members = members.iter()
                .map(|(e, shared)| {
                    (mac(u8::try_from(*e).unwrap()), ForwardingMember { port: names[e % 5].to_owned(), shared: *shared, peers: peers(*e) })
                })
                .collect();
            let flood_ports = floods[i].iter().map(|p| names[*p].to_owned()).collect();
            (format!("z{index}"), ForwardingZone { tag: index + 1, members, flood_ports })
        }).collect()
    }
}

proptest! {
    #[test]
    fn the_ruleset_forwards_what_the_table_says_and_nothing_else(zones in any_zones()) {
        validate(&ports(), &zones).unwrap();
        let sets = sets(&zones);
        for source in 0..13 {
            let source = mac(source);
            for port in ["p1", "p2", "p3", "p9", "isl0"] {
                for destination in 0..13 {
                    let destination = mac(destination);
                    if source != destination {
                        let to = Some(destination.as_str());
                        prop_assert_eq!(evaluate(&sets, &source, to, port), may_leave(&zones, &source, to, port), "{} to {} by {}", source, destination, port);
                    }
                }
                prop_assert_eq!(evaluate(&sets, &source, None, port), may_leave(&zones, &source, None, port), "{} floods {}", source, port);
            }
        }
    }
}
