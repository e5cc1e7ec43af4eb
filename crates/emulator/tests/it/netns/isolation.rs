//! Zones are walls: proven by packets that do and do not arrive.

use std::time::Duration;

use drystone_emulator::backend::{Backend, ForwardingMember, ForwardingZone, ForwardingZones};

use super::site::{
    PATIENCE, SITE, TestSite, cannot_run, count_frames_from, counted_frames, ip, mac, received,
    send_datagrams, tcp_reaches,
};

/// How long to wait for what must not arrive; refused frames vanish at once, so this only bounds the test.
const SHORT: Duration = Duration::from_millis(400);

const HOSTS: [(&str, &str); 4] =
    [("a1", "10.20.0.11"), ("a2", "10.20.0.12"), ("b1", "10.20.0.21"), ("b2", "10.20.0.22")];

#[tokio::test(flavor = "multi_thread")]
async fn zones_are_walls() {
    if cannot_run() {
        return;
    }
    let site = TestSite::start().await;
    site.cable_up(&HOSTS).await;
    let [a1, a2, b1, b2] = ["a1", "a2", "b1", "b2"].map(|host| site.namespace(host));

    // No zone, no packet; not even on one switch.
    let before = received(&a2);
    assert!(!tcp_reaches(&a1, &a2, "10.20.0.12", SHORT), "without a zone nothing passes");
    assert_eq!(received(&a2), before);

    // From here on b1 and b2 say nothing, so that whatever they receive has crossed the wall.
    site.zone_off().await;
    assert!(tcp_reaches(&a1, &a2, "10.20.0.12", PATIENCE), "one zone, across switches");
    let before = [received(&b1), received(&b2)];
    // Asking by broadcast, and by unicast with the address known.
    assert!(!tcp_reaches(&a1, &b1, "10.20.0.21", SHORT), "same switch, other zone");
    assert!(!tcp_reaches(&a1, &b2, "10.20.0.22", SHORT), "other switch, other zone");
    for (host, address) in [("b1", "10.20.0.21"), ("b2", "10.20.0.22")] {
        for from in [&a1, &a2] {
            ip(from, &format!("neigh replace {address} lladdr {} nud permanent dev eth0", mac(host)));
            send_datagrams(from, address);
        }
    }
    send_datagrams(&a1, "10.20.255.255");
    send_datagrams(&a1, "255.255.255.255");
    // In the guise of a member of the other zone, to that zone and to its own.
    count_frames_from(&a2, &mac("b2"));
    ip(&a1, &format!("link set eth0 address {}", mac("b2")));
    ip(&a1, "neigh flush dev eth0 nud all");
    for (host, address) in [("b1", "10.20.0.21"), ("a2", "10.20.0.12")] {
        ip(&a1, &format!("neigh replace {address} lladdr {} nud permanent dev eth0", mac(host)));
        send_datagrams(&a1, address);
    }
    send_datagrams(&a1, "10.20.255.255");
    assert_eq!([received(&b1), received(&b2)], before, "not a single frame crossed");
    assert_eq!(counted_frames(&a2), 0, "a forged source is not even heard in its own zone");

    // And nobody was confused by the attempt.
    ip(&a1, &format!("link set eth0 address {}", mac("a1")));
    ip(&a1, "neigh flush dev eth0 nud all");
    assert!(tcp_reaches(&b1, &b2, "10.20.0.22", PATIENCE), "the other zone");
    assert!(tcp_reaches(&a2, &a1, "10.20.0.11", PATIENCE));

    // Taking the zones away takes the packets away at once.
    site.backend.program_switch("eth-a", &ForwardingZones::new()).await.unwrap();
    count_frames_from(&a2, &mac("a1"));
    assert!(!tcp_reaches(&a1, &a2, "10.20.0.12", SHORT));
    send_datagrams(&a1, "10.20.255.255");
    assert_eq!(counted_frames(&a2), 0);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_go_down_and_up() {
    if cannot_run() {
        return;
    }
    let site = TestSite::start().await;
    site.cable_up(&HOSTS[..2]).await;
    site.zone_off().await;
    let [a1, a2] = ["a1", "a2"].map(|host| site.namespace(host));
    assert!(tcp_reaches(&a1, &a2, "10.20.0.12", PATIENCE));

    site.backend.set_port("eth-b", "p1", false).await.unwrap();
    assert!(!tcp_reaches(&a1, &a2, "10.20.0.12", SHORT));
    // A port that is down stays down when its cable is plugged in again.
    site.backend.power_off(site.host("a2")).await.unwrap();
    site.cable_up(&HOSTS[1..2]).await;
    assert!(!tcp_reaches(&a1, &a2, "10.20.0.12", SHORT));
    site.backend.set_port("eth-b", "p1", true).await.unwrap();
    assert!(tcp_reaches(&a1, &a2, "10.20.0.12", PATIENCE));

    let error = site.backend.set_port("eth-b", "p77", true).await.unwrap_err().to_string();
    assert_eq!(error, "port p77 of switch eth-b: the switch has no such port");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_cable_between_switches_drops_frames() {
    if cannot_run() {
        return;
    }
    let site = TestSite::start().await;
    site.cable_up(&HOSTS[..2]).await;
    site.zone_off().await;
    let [a1, a2] = ["a1", "a2"].map(|host| site.namespace(host));
    assert!(tcp_reaches(&a1, &a2, "10.20.0.12", PATIENCE));
    for switch in ["eth-a", "eth-b"] {
        site.backend.set_port(switch, "isl0", false).await.unwrap();
    }
    assert!(!tcp_reaches(&a1, &a2, "10.20.0.12", SHORT));
    for switch in ["eth-a", "eth-b"] {
        site.backend.set_port(switch, "isl0", true).await.unwrap();
    }
    assert!(tcp_reaches(&a1, &a2, "10.20.0.12", PATIENCE));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_with_peers_talk_to_these_only() {
    if cannot_run() {
        return;
    }
    let site = TestSite::start().await;
    site.cable_up(&HOSTS).await;
    let [a1, a2, b1, b2] = ["a1", "a2", "b1", "b2"].map(|host| site.namespace(host));
    // One zone of all, in which a1 and a2 have only each other. Each list stands on the switch of its member.
    let table = |ports: [&str; 4], restricted: &str, peer: &str, edge: &str| {
        let member = |host: &str, port: &str| {
            let peers = (host == restricted).then(|| std::collections::BTreeSet::from([mac(peer)]));
            (mac(host), ForwardingMember { port: port.to_owned(), shared: false, peers })
        };
        let members = ["a1", "b1", "a2", "b2"].iter().zip(ports).map(|(host, port)| member(host, port));
        let flood_ports = ["p1", "p2", edge].map(str::to_owned).into();
        ForwardingZones::from([(
            "all".to_owned(),
            ForwardingZone { tag: 7, members: members.collect(), flood_ports },
        )])
    };
    let on_a = table(["p1", "p2", "isl0", "isl0"], "a1", "a2", "isl0");
    let on_b = table(["isl0", "isl0", "p1", "p2"], "a2", "a1", "isl0");
    site.backend.program_switch("eth-a", &on_a).await.unwrap();
    site.backend.program_switch("eth-b", &on_b).await.unwrap();
    assert!(tcp_reaches(&a1, &a2, "10.20.0.12", PATIENCE), "peers");
    assert!(tcp_reaches(&b1, &b2, "10.20.0.22", PATIENCE), "neither has a list");
    assert!(!tcp_reaches(&a1, &b1, "10.20.0.21", SHORT), "on the same switch");
    assert!(!tcp_reaches(&b1, &a2, "10.20.0.12", SHORT), "refused at the far edge");
    assert!(!tcp_reaches(&a2, &b1, "10.20.0.21", SHORT), "and the other way");
    for namespace in [&a1, &a2, &b2] {
        count_frames_from(namespace, &mac("b1"));
    }
    send_datagrams(&b1, "10.20.255.255");
    assert!(counted_frames(&b2) > 0, "a broadcast is heard by whom it is for");
    assert_eq!((counted_frames(&a1), counted_frames(&a2)), (0, 0), "and not by those who may not answer");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_cables_carry_different_ways() {
    if cannot_run() {
        return;
    }
    let text = SITE.replace("speedGbps: 100}]", "speedGbps: 100, count: 2}]");
    assert_ne!(text, SITE);
    let site = TestSite::start_with(&text, &[]).await;
    site.cable_up(&HOSTS[..2]).await;
    let [a1, a2] = ["a1", "a2"].map(|host| site.namespace(host));
    // Broadcasts cross by isl0, frames to a2 by isl1, frames to a1 by isl0; then the other way round.
    for (there, back) in [("isl1", "isl0"), ("isl0", "isl1"), ("isl1", "isl1")] {
        let zones = |ports: [&str; 2]| {
            let member = |host: &str, port: &str| {
                (mac(host), ForwardingMember { port: port.to_owned(), shared: false, peers: None })
            };
            let members = [member("a1", ports[0]), member("a2", ports[1])].into();
            let flood_ports = ["p1", "isl0"].map(str::to_owned).into();
            ForwardingZones::from([("red".to_owned(), ForwardingZone { tag: 1, members, flood_ports })])
        };
        site.backend.program_switch("eth-a", &zones(["p1", there])).await.unwrap();
        site.backend.program_switch("eth-b", &zones([back, "p1"])).await.unwrap();
        assert!(tcp_reaches(&a1, &a2, "10.20.0.12", PATIENCE), "{there} and {back}");
        assert!(tcp_reaches(&a2, &a1, "10.20.0.11", PATIENCE), "{there} and {back}");
    }
    site.stop().await;
}
