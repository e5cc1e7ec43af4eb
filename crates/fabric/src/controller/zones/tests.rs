//! Zones resolved: what becomes of members, gateways, containers, connections and locks.

use std::collections::BTreeSet;

use drystone_api::{
    BareMetalHost, BareMetalHostSpec, BareMetalHostStatus, Connection, ConnectionSpec, EndpointGroup,
    EndpointGroupSpec, EndpointRole, HardwareDetails, Nic, ObjectReference, Switch, SwitchEndpoint,
    SwitchSpec, SwitchStatus, Zone, ZoneMember, ZoneSpec, ZoneType,
};

use super::{
    reason::{Problem, Reason},
    resolve::{Holder, Resolution, Surroundings, resolve, zone_id, zone_key},
};
use crate::model::{Fabric, FabricKey, merge};

fn fabric(id: &str, endpoints: &[(&str, EndpointRole)]) -> (FabricKey, Fabric) {
    let spec = SwitchSpec { id: "s".into(), fabric: id.into(), agent: "agent".into(), ..Default::default() };
    let mut switch = Switch::new("s", spec);
    let endpoint = |(name, role): &(&str, EndpointRole)| SwitchEndpoint {
        id: (*name).into(),
        mac: format!("02:00:00:00:00:{name}"),
        port: format!("p{name}"),
        role: *role,
        ..Default::default()
    };
    let endpoints = endpoints.iter().map(endpoint).collect();
    switch.status = Some(SwitchStatus { endpoints, ..Default::default() });
    (FabricKey { id: id.into(), uuid: String::new() }, merge(&[&switch]))
}

fn both() -> Vec<(FabricKey, Fabric)> {
    let (plain, target) = (EndpointRole::Both, EndpointRole::Target);
    vec![
        fabric("E", &[("01", plain), ("02", plain), ("03", plain), ("09", target), ("04", plain)]),
        fabric("H", &[("01", plain), ("11", plain)]),
    ]
}

fn host(_: &str, name: &str) -> Option<BareMetalHost> {
    let mut host = BareMetalHost::new(name, BareMetalHostSpec::default());
    let nic = |mac: &str| Nic { mac: format!("02:00:00:00:00:{mac}"), ..Default::default() };
    let nics = name.strip_prefix('h')?.split('-').map(nic).collect();
    let hardware = HardwareDetails { nics, ..Default::default() };
    host.status = Some(BareMetalHostStatus { hardware: Some(hardware), ..Default::default() });
    Some(host)
}

fn named(name: &str, spec: ZoneSpec) -> Zone {
    let mut zone = Zone::new(name, spec);
    zone.metadata.namespace = Some("ns".into());
    zone
}

fn hosts(names: &[&str]) -> ZoneSpec {
    let member = |name: &&str| ZoneMember { host: Some((*name).to_owned()), ..Default::default() };
    ZoneSpec { members: names.iter().map(member).collect(), ..Default::default() }
}

fn endpoints(ids: &[&str]) -> ZoneSpec {
    let member = |id: &&str| ZoneMember { endpoint: Some((*id).to_owned()), ..Default::default() };
    ZoneSpec { fabric: Some("E".into()), members: ids.iter().map(member).collect(), ..Default::default() }
}

/// Resolves with what is beside the zone; host `h03` is locked by Composition ns/other.
fn run(
    zone: &Zone,
    zones: &[Zone],
    connections: &[Connection],
    groups: &[EndpointGroup],
) -> Result<Resolution, Problem> {
    let fabrics = both();
    let holder = |mac: &str| {
        mac.ends_with(":03").then(|| Holder {
            host: "h03".into(),
            consumer: ObjectReference {
                kind: "Composition".into(),
                namespace: "ns".into(),
                name: "other".into(),
                ..Default::default()
            },
        })
    };
    let around = Surroundings {
        fabrics: fabrics.iter().map(|(key, fabric)| (key, fabric)).collect(),
        host: &host,
        holder: &holder,
        excludes: &|_, endpoint| if endpoint == "02" { vec!["01".into()] } else { Vec::new() },
        zones,
        connections,
        groups,
    };
    resolve(zone, 7, &around)
}

fn problem(spec: ZoneSpec) -> (Reason, String) {
    let problem = run(&named("z", spec), &[], &[], &[]).map(drop).expect_err("wrong");
    (problem.reason, problem.message)
}

#[test]
fn hosts_become_endpoints_of_every_fabric_and_gateways_join() {
    let resolution = run(&named("z", hosts(&["h01-11"])), &[], &[], &[]).expect("resolved");
    let of = |at: usize| (resolution.requests[at].0.id.as_str(), resolution.requests[at].1.members.clone());
    assert_eq!(of(0), ("E", BTreeSet::from([0, 3])));
    assert_eq!(of(1), ("H", BTreeSet::from([0, 1])));
    assert_eq!(resolution.requests[0].1.gateways, BTreeSet::from([3]));
    assert_eq!(resolution.members.iter().filter(|member| member.gateway).count(), 1);
}

#[test]
fn a_zone_that_is_confined_has_endpoints_of_its_fabric_only() {
    let spec = ZoneSpec { fabric: Some("H".into()), ..hosts(&["h01-11"]) };
    let resolution = run(&named("z", spec), &[], &[], &[]).expect("resolved");
    assert_eq!(resolution.requests.len(), 1);
    assert_eq!(resolution.requests[0].0.id, "H");
}

#[test]
fn mistakes_have_a_reason_and_a_path() {
    let (reason, message) = problem(hosts(&["h01", "h01"]));
    assert_eq!(reason, Reason::DuplicateMember);
    assert!(message.starts_with("spec.members[1]: endpoint 01 is spec.members[0] already"), "{message}");
    assert_eq!(problem(hosts(&["h77"])).0, Reason::Waiting);
    assert_eq!(problem(hosts(&["x"])).1, "spec.members[0]: host x does not exist");
    assert_eq!(problem(endpoints(&["01", "77"])).0, Reason::UnknownEndpoint);
    assert!(problem(endpoints(&["01", "77"])).1.starts_with("spec.members[1].endpoint:"));
    let mut foreign = endpoints(&["01"]);
    foreign.members[0].fabric = Some("H".into());
    assert_eq!(problem(foreign).0, Reason::ForeignEndpoint);
    let ambiguous = ZoneSpec { fabric: None, ..endpoints(&["01"]) };
    assert!(problem(ambiguous).1.contains("several fabrics have an endpoint 01"));
    assert_eq!(
        problem(ZoneSpec { members: vec![ZoneMember::default()], ..Default::default() }).0,
        Reason::Invalid
    );
    let involved = ZoneSpec { involved_switches: vec!["s".into(), "t".into()], ..endpoints(&["01"]) };
    assert!(problem(involved).1.starts_with("spec.involvedSwitches[1]:"));
}

#[test]
fn endpoints_that_exclude_each_other_are_not_in_one_zone() {
    let (reason, message) = problem(endpoints(&["01", "02"]));
    assert_eq!(reason, Reason::MembershipConflict);
    assert!(message.starts_with("spec.members[1]: endpoint 02 may not be in a zone with 01"), "{message}");
}

#[test]
fn a_locked_host_is_only_for_whoever_locked_it() {
    let (reason, message) = problem(endpoints(&["03"]));
    assert_eq!(reason, Reason::Locked);
    assert!(message.contains("host h03, which is locked by Composition/ns/other"), "{message}");
    let ours = ZoneSpec { composition: Some("other".into()), ..endpoints(&["03"]) };
    assert!(run(&named("z", ours), &[], &[], &[]).is_ok());
}

#[test]
fn containers_join_what_they_contain() {
    let container =
        named("c", ZoneSpec { kind: ZoneType::ZoneOfZones, gateways: false, ..Default::default() });
    let inside = |name: &str, id: &str| {
        named(name, ZoneSpec { contained_by: vec!["c".into()], gateways: false, ..endpoints(&[id]) })
    };
    let zones = [container.clone(), inside("a", "01"), inside("b", "02")];
    let resolution = run(&container, &zones, &[], &[]).expect("resolved");
    assert_eq!(resolution.requests[0].1.members, BTreeSet::from([0, 1]));
    let child = run(&zones[1], &zones, &[], &[]).expect("resolved");
    assert!(child.requests.is_empty());
    assert_eq!((child.members.len(), child.carried_by), (1, vec!["c".to_owned()]));
    let only_groups = ZoneSpec { default_routing: false, ..container.spec.clone() };
    let zones = [named("c", only_groups), inside("a", "01"), inside("b", "02")];
    assert!(run(&zones[0], &zones, &[], &[]).expect("resolved").requests.is_empty());
    assert_eq!(run(&zones[1], &zones, &[], &[]).expect("resolved").requests.len(), 1);
}

#[test]
fn containment_is_two_deep_and_has_no_circle() {
    let inside =
        |kind, name: &str| ZoneSpec { kind, contained_by: vec![name.to_owned()], ..Default::default() };
    assert_eq!(problem(inside(ZoneType::ZoneOfEndpoints, "z")).0, Reason::Cycle);
    let outer = [named("c", ZoneSpec { kind: ZoneType::ZoneOfZones, ..Default::default() })];
    let deep = named("z", inside(ZoneType::ZoneOfZones, "c"));
    assert_eq!(run(&deep, &outer, &[], &[]).map(drop).expect_err("wrong").reason, Reason::Cycle);
    assert_eq!(problem(inside(ZoneType::ZoneOfEndpoints, "c")).0, Reason::Waiting);
    let plain = [named("c", ZoneSpec::default())];
    let child = named("z", inside(ZoneType::ZoneOfEndpoints, "c"));
    assert_eq!(run(&child, &plain, &[], &[]).map(drop).expect_err("wrong").reason, Reason::Invalid);
}

#[test]
fn a_default_zone_has_what_nobody_lists() {
    let mut other = named("a", endpoints(&["01"]));
    let resolved = run(&other, &[], &[], &[]).expect("resolved");
    other.status = Some(drystone_api::ZoneStatus { members: resolved.members, ..Default::default() });
    let spec = ZoneSpec { kind: ZoneType::Default, fabric: Some("E".into()), ..Default::default() };
    let resolution = run(&named("d", spec), &[other], &[], &[]).expect("resolved");
    assert_eq!(resolution.requests[0].1.members, BTreeSet::from([1, 2, 3, 4]));
    assert_eq!(problem(ZoneSpec { kind: ZoneType::Default, ..Default::default() }).0, Reason::Invalid);
}

#[test]
fn without_default_routing_connections_say_who_may_talk() {
    let connection = |name: &str, groups: &[&str], targets: &[&str]| {
        let own = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        let spec = ConnectionSpec {
            fabric: "E".into(),
            initiator_groups: own(groups),
            targets: own(targets),
            ..Default::default()
        };
        Connection::new(name, spec)
    };
    let spec = EndpointGroupSpec { fabric: "E".into(), endpoints: vec!["01".into()], ..Default::default() };
    let group = EndpointGroup::new("g", spec);
    let connections = [
        connection("in", &["g"], &["04"]),
        connection("out", &["g"], &["03"]),
        connection("no", &["x"], &["02"]),
    ];
    let spec = ZoneSpec { default_routing: false, gateways: false, ..endpoints(&["01", "04"]) };
    let groups = [group];
    let resolution = run(&named("z", spec.clone()), &[], &connections, &groups).expect("resolved");
    let counted: Vec<&str> = resolution.connections.iter().map(|known| known.name.as_str()).collect();
    assert_eq!(counted, ["in"]);
    let request = &resolution.requests[0].1;
    assert!(request.joins(0, 4) && request.connections.as_ref().is_some_and(|list| list.len() == 1));
    let mesh = ZoneSpec { symmetric_connections: true, ..spec.clone() };
    assert!(
        run(&named("z", mesh), &[], &connections, &groups).expect("resolved").requests[0]
            .1
            .connections
            .is_none()
    );
    let shut = run(&named("z", spec), &[], &[], &[]).expect("resolved");
    assert!(!shut.requests[0].1.joins(0, 4));
}

#[test]
fn ids_lead_back_to_their_zones() {
    for (namespace, name, id) in [
        ("drystone-system", "a", "a"),
        ("drystone-system", "a.b", "drystone-system.a.b"),
        ("research", "a", "research.a"),
        ("research", "a.b", "research.a.b"),
    ] {
        let mut zone = Zone::new(name, ZoneSpec::default());
        zone.metadata.namespace = Some(namespace.into());
        assert_eq!(zone_id(&zone), id);
        assert_eq!(zone_key(id), drystone_engine::reference::ObjectKey::new(namespace, name));
    }
}
