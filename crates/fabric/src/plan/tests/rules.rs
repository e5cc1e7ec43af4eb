//! Membership, containers and pools.

use crate::{
    model::Role,
    plan::{
        membership::{Isolation, MemberFacts, MembershipError, ZoneFacts, ZoneKind, carried, check},
        pools::{self, PoolFacts, Span, ZonePools},
    },
};

fn member(endpoint: &str) -> MemberFacts {
    MemberFacts { endpoint: endpoint.to_owned(), ..Default::default() }
}

fn service(endpoint: &str, gateway: bool) -> MemberFacts {
    MemberFacts { role: Role::Target, gateway, ..member(endpoint) }
}

fn zone(id: &str, isolation: Isolation, members: Vec<MemberFacts>) -> ZoneFacts {
    ZoneFacts { id: id.to_owned(), isolation, members, ..Default::default() }
}

#[test]
fn isolation_decides_who_may_be_in_two_zones() {
    use Isolation::{Exclusive, ServiceOnly, Shared};
    let host = || member("e");
    let plain = || service("e", false);
    let gateway = || service("e", true);
    let allowed = |a: Isolation, b: Isolation, e: &dyn Fn() -> MemberFacts| {
        let (one, other) = (zone("a", a, vec![member("x"), e()]), zone("b", b, vec![e()]));
        let result = check(&one, &[one.clone(), other.clone()]);
        assert_eq!(result.is_ok(), check(&other, &[one]).is_ok(), "the order does not matter");
        if let Err(error) = &result {
            assert!(
                matches!(error, MembershipError::InOtherZone { index: 1, other, .. } if other == "b"),
                "{error}"
            );
        }
        result.is_ok()
    };
    for (a, b, with_host, with_service, with_gateway) in [
        (Exclusive, Exclusive, false, false, true),
        (Exclusive, ServiceOnly, false, false, true),
        (Exclusive, Shared, false, false, true),
        (ServiceOnly, ServiceOnly, false, true, true),
        (ServiceOnly, Shared, false, true, true),
        (Shared, Shared, true, true, true),
    ] {
        let found = (allowed(a, b, &host), allowed(a, b, &plain), allowed(a, b, &gateway));
        assert_eq!(found, (with_host, with_service, with_gateway), "{a:?} and {b:?}");
    }
    // A host that claims to be a gateway is none.
    let claimed = MemberFacts { gateway: true, ..member("e") };
    let zones = [zone("a", Exclusive, vec![claimed.clone()]), zone("b", Exclusive, vec![claimed])];
    assert!(check(&zones[0], &zones).is_err());
}

#[test]
fn the_strict_zone_is_named() {
    let zones =
        [zone("a", Isolation::Shared, vec![member("e")]), zone("b", Isolation::Exclusive, vec![member("e")])];
    let text = check(&zones[0], &zones).expect_err("b is exclusive").to_string();
    assert!(text.starts_with("member 0: endpoint e is in zone b already, and b does not share it"), "{text}");
}

#[test]
fn default_zones_and_containers_never_count() {
    let everything = ZoneFacts { id: "default".into(), kind: ZoneKind::Default, ..Default::default() };
    let container = ZoneFacts { id: "c".into(), kind: ZoneKind::Zones, ..Default::default() };
    let own =
        ZoneFacts { contained_by: vec!["c".into()], ..zone("a", Isolation::Exclusive, vec![member("e")]) };
    assert_eq!(check(&own, &[everything, container]), Ok(()));
}

#[test]
fn repeated_and_exclusive_members_are_named_by_position() {
    let twice = zone("a", Isolation::Exclusive, vec![member("x"), member("y"), member("x")]);
    assert_eq!(check(&twice, &[]), Err(MembershipError::Twice { index: 2, first: 0, endpoint: "x".into() }));
    let unfriendly = MemberFacts { excludes: vec!["z".into(), "y".into()], ..member("x") };
    let text = check(&zone("a", Isolation::Shared, vec![unfriendly, member("y")]), &[])
        .expect_err("excluded")
        .to_string();
    assert_eq!(
        text,
        "member 1: endpoint y may not be in a zone with x, which is member 0; leave one of them out"
    );
}

fn container(id: &str, kind: ZoneKind, contained_by: &[&str]) -> ZoneFacts {
    let contained_by = contained_by.iter().map(|id| (*id).to_owned()).collect();
    ZoneFacts { id: id.to_owned(), kind, contained_by, ..Default::default() }
}

#[test]
fn containers_are_two_deep_and_without_circle() {
    use ZoneKind::{Endpoints, Zones};
    let fail = |zone: &ZoneFacts, others: &[ZoneFacts]| check(zone, others).expect_err("wrong");
    let outer = container("outer", Zones, &[]);
    assert_eq!(check(&container("a", Endpoints, &["outer"]), std::slice::from_ref(&outer)), Ok(()));
    let error = fail(&container("inner", Zones, &["outer"]), std::slice::from_ref(&outer));
    assert!(matches!(&error, MembershipError::TooDeep { index: 0, .. }), "{error}");
    let error = fail(&container("c", Zones, &["c"]), &[]);
    assert_eq!(error, MembershipError::Cycle { index: 0, circle: "c → c".into() });
    let error = fail(
        &container("one", Zones, &["two"]),
        &[container("two", Zones, &["three"]), container("three", Zones, &["one"])],
    );
    assert_eq!(error, MembershipError::Cycle { index: 0, circle: "one → two → three → one".into() });
    let error = fail(&container("a", Endpoints, &["outer", "b"]), &[outer, container("b", Endpoints, &[])]);
    assert!(matches!(&error, MembershipError::NotAContainer { index: 1, .. }), "{error}");
    let error = fail(&container("a", Endpoints, &["ghost"]), &[]);
    assert_eq!(error, MembershipError::NoContainer { index: 0, container: "ghost".into() });
    let error = fail(&ZoneFacts { members: vec![member("e")], ..container("c", Zones, &[]) }, &[]);
    assert!(matches!(&error, MembershipError::ListsEndpoints { .. }), "{error}");
}

#[test]
fn a_zone_of_zones_with_default_routing_joins_its_zones() {
    let joining = |routing| ZoneFacts { default_routing: routing, ..container("c", ZoneKind::Zones, &[]) };
    let inside = |id| ZoneFacts { default_routing: true, ..container(id, ZoneKind::Endpoints, &["c"]) };
    let alone = container("z", ZoneKind::Endpoints, &[]);
    let ids = |zones: &[ZoneFacts]| -> Vec<(String, Vec<String>, bool)> {
        carried(zones).into_iter().map(|zone| (zone.id, zone.zones, zone.default_routing)).collect()
    };
    let single = |id: &str, routing| (id.to_owned(), vec![id.to_owned()], routing);
    assert_eq!(
        ids(&[joining(true), inside("b"), inside("a"), alone.clone()]),
        [("c".to_owned(), vec!["b".to_owned(), "a".to_owned()], true), single("z", false)]
    );
    assert_eq!(
        ids(&[joining(false), inside("a"), inside("b"), alone]),
        [single("a", true), single("b", true), single("z", false)]
    );
    let everything =
        |routing| ZoneFacts { default_routing: routing, ..container("d", ZoneKind::Default, &[]) };
    assert_eq!((ids(&[everything(false)]).len(), ids(&[everything(true)]).len()), (0, 1));
}

fn pool(id: &str, range: &str, vlan: (u64, u64)) -> PoolFacts {
    PoolFacts {
        id: id.to_owned(),
        ranges: vec![range.parse().expect("valid")],
        vlans: vec![Span { lower: vlan.0, upper: vlan.1 }],
        ..Default::default()
    }
}

fn with_pools(zone: &str, pools: Vec<PoolFacts>) -> ZonePools {
    ZonePools { zone: zone.to_owned(), pools, ..Default::default() }
}

#[test]
fn pools_of_isolated_zones_must_not_overlap() {
    let a = with_pools("a", vec![pool("p", "10.0.0.0/24", (1, 5)), pool("q", "10.1.0.0/16", (10, 20))]);
    let text =
        |other: &ZonePools| pools::check(&a, std::slice::from_ref(other)).map_err(|error| error.to_string());
    assert_eq!(text(&with_pools("b", vec![pool("r", "10.2.0.0/16", (21, 30))])), Ok(()));
    let error = text(&with_pools("b", vec![pool("r", "10.1.7.0/24", (21, 30))])).expect_err("addresses");
    assert!(
        error.starts_with("pool 1: q and r of zone b overlap in addresses 10.1.0.0/16 and 10.1.7.0/24"),
        "{error}"
    );
    let error = text(&with_pools("b", vec![pool("r", "10.2.0.0/16", (20, 30))])).expect_err("VLAN");
    assert!(error.contains("overlap in VLAN 10-20 and 20-30"), "{error}");
    // One pool for both, VRFs of their own, or a container that joins them: nothing is wrong.
    assert_eq!(text(&with_pools("b", vec![pool("q", "10.1.0.0/16", (10, 20))])), Ok(()));
    let apart = PoolFacts { vrf: Some("red".into()), ..pool("r", "10.1.7.0/24", (21, 30)) };
    assert_eq!(text(&with_pools("b", vec![apart])), Ok(()));
    let mut joined = [a.clone(), with_pools("b", vec![pool("r", "10.1.7.0/24", (21, 30))])];
    joined.iter_mut().for_each(|zone| zone.joined_by = vec!["c".into()]);
    assert_eq!(pools::check(&joined[0], &joined[1..]), Ok(()));
    let within = with_pools("a", vec![pool("p", "10.0.0.0/24", (1, 5)), pool("q", "10.0.0.128/25", (7, 8))]);
    let error = pools::check(&within, &[]).expect_err("own pools");
    assert_eq!((error.index, error.other_zone.as_str()), (1, "a"));
}
