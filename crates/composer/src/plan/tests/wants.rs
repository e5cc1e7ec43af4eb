//! Tables of what can be asked for beyond hardware: limits, domains, distances between groups, budgets, isolation; and of
//! what is said when it cannot be had.

use drystone_api::{
    Drive, DriveRequirement, FailureDomain, HopLimit, Limits, SpreadRequirement, quantity::TimeSpan,
};
use k8s_openapi::jiff::Timestamp;

use super::*;
use crate::{
    model::{Quota, Tenant},
    plan::{Freed, kept_members, problem::Problem, relax, tally::Tally},
};

fn others() -> ObjectReference {
    ObjectReference {
        kind: "Composition".into(),
        namespace: "else".into(),
        name: "other".into(),
        ..Default::default()
    }
}

fn ask(spec: &CompositionSpec, snapshot: &Snapshot) -> Choice {
    compose(&Request::new(owner(), spec, &[]), snapshot)
}

fn snapshot(hosts: Vec<Host>) -> Snapshot {
    Snapshot::new(hosts, fabric())
}

fn hosts_of(choice: &Choice, snapshot: &Snapshot) -> Vec<Host> {
    let members = choice.members.as_ref().unwrap_or_else(|| panic!("not granted: {:?}", choice.explanation));
    let at =
        |member: &CompositionMember| snapshot.position(&member.host_namespace, &member.host).expect("known");
    members.iter().map(|member| snapshot.hosts[at(member)].clone()).collect()
}

#[test]
fn a_group_is_spread_over_chassis() {
    let snapshot = snapshot((0..9).map(|i| host(i, 32, 128, 0)).collect());
    let mut spread = group("w", 4, 8, 16);
    spread.spread = Some(SpreadRequirement { by: FailureDomain::Chassis, max_per_domain: 2 });
    let mut spec = CompositionSpec { groups: vec![spread], ..Default::default() };
    let chosen = hosts_of(&ask(&spec, &snapshot), &snapshot);
    for chassis in ["chassis-0", "chassis-1", "chassis-2"] {
        assert!(chosen.iter().filter(|host| host.chassis == chassis).count() <= 2);
    }
    spec.groups[0].spread = Some(SpreadRequirement { by: FailureDomain::Chassis, max_per_domain: 1 });
    let explanation = ask(&spec, &snapshot).explanation;
    assert!(
        explanation.attempts.iter().any(|attempt| attempt.contains("at most 1 per chassis")),
        "{explanation:?}"
    );
    assert_eq!(explanation.relaxation, "with 2 instead of 1 hosts per chassis in group w");
}

#[test]
fn unknown_domains_are_not_trusted() {
    let mut hosts: Vec<Host> = (0..4).map(|i| host(i, 32, 128, 0)).collect();
    hosts[1].rack = "r1".into();
    let snapshot = snapshot(hosts);
    let mut spread = group("w", 1, 8, 16);
    spread.spread = Some(SpreadRequirement { by: FailureDomain::Rack, max_per_domain: 1 });
    let choice = ask(&CompositionSpec { groups: vec![spread], ..Default::default() }, &snapshot);
    assert_eq!(hosts_of(&choice, &snapshot)[0].name, "h01");
    let stage =
        choice.explanation.funnel.iter().find(|stage| stage.constraint == "rack known").expect("applied");
    assert_eq!((stage.removed_count, stage.reasons[0].instead.as_str()), (3, "its rack is not known"));
}

#[test]
fn limits_decide_between_candidates_and_are_explained() {
    let mut hosts: Vec<Host> = (0..9).map(|i| host(i, 32, 128, 0)).collect();
    for (at, host) in hosts.iter_mut().enumerate() {
        host.watts = if at < 3 { 200 } else { 1000 };
    }
    let snapshot = snapshot(hosts);
    let mut spec = CompositionSpec {
        purpose: Purpose::HighPerformance,
        groups: vec![group("w", 3, 8, 16)],
        limits: Some(Limits { max_watts: Some(700), ..Default::default() }),
        ..Default::default()
    };
    let watts: u32 = hosts_of(&ask(&spec, &snapshot), &snapshot).iter().map(|host| host.watts).sum();
    assert!(watts <= 700, "{watts} W, though power does not count for this purpose");
    spec.limits = Some(Limits { max_watts: Some(500), ..Default::default() });
    let choice = ask(&spec, &snapshot);
    let limits = &choice.explanation.limits;
    assert_eq!(choice.members, None);
    assert_eq!((limits[0].limit.as_str(), limits[0].best_seen.as_str()), ("maxWatts 500 W", "600 W"));
    assert_eq!((limits[0].has.as_str(), limits[0].by.as_str()), ("600 W", "20 %"));
    assert_eq!(choice.explanation.relaxation, "with maxWatts 600 W instead of 500 W");
    assert!(
        choice.explanation.summary.contains("maxWatts 500 W is missed by 20 %"),
        "{}",
        choice.explanation.summary
    );
}

#[test]
fn every_limit_is_kept() {
    let mut hosts: Vec<Host> = (0..12).map(|i| host(i, 32, 128, 0)).collect();
    for (at, host) in hosts.iter_mut().enumerate() {
        host.powered_on = at % 2 == 0;
        host.bandwidth_gbps = if at % 4 == 0 { 25 } else { 100 };
    }
    let snapshot = snapshot(hosts);
    let limits = Limits {
        max_hops: Some(2),
        max_mean_hops: Some(2.0),
        max_time_to_ready: Some(TimeSpan(60)),
        min_bandwidth: Some(Bandwidth::from_gigabits(100)),
        min_spread_percent: Some(50),
        ..Default::default()
    };
    let spec =
        CompositionSpec { groups: vec![group("w", 2, 8, 16)], limits: Some(limits), ..Default::default() };
    let chosen = hosts_of(&ask(&spec, &snapshot), &snapshot);
    assert!(chosen.iter().all(|host| host.powered_on && host.bandwidth_gbps == 100), "{chosen:?}");
}

#[test]
fn groups_can_be_kept_near_each_other() {
    // Switches a - b - c: 0 and 2 are three switches apart.
    let mut hosts: Vec<Host> = (0..6).map(|i| host(i, 32, 128, u32::from(i % 3 == 0))).collect();
    hosts[1].watts = 5_000;
    hosts[4].watts = 5_000;
    let snapshot = snapshot(hosts);
    let mut gpus = group("gpus", 1, 8, 16);
    gpus.host.accelerators = vec![AcceleratorRequirement { count: 1, ..Default::default() }];
    let spec = CompositionSpec {
        purpose: Purpose::LowPower,
        groups: vec![gpus, group("store", 1, 8, 16)],
        hop_limits: vec![HopLimit { from: "store".into(), to: "gpus".into(), max_hops: 2 }],
        ..Default::default()
    };
    let chosen = hosts_of(&ask(&spec, &snapshot), &snapshot);
    assert_ne!(chosen[1].switches, [2], "three switches away: {chosen:?}");
}

#[test]
fn a_chassis_gets_no_more_power_than_its_pool_allows() {
    let hosts: Vec<Host> =
        (0..6).map(|i| Host { quota: Some(0), watts: 400, ..host(i, 32, 128, 0) }).collect();
    let budget = Quota { pool: "p".into(), chassis_watts: Some(500), ..Default::default() };
    let snapshot = snapshot(hosts).with_quotas(vec![budget]);
    let mut spec = CompositionSpec { groups: vec![group("w", 3, 8, 16)], ..Default::default() };
    let chosen = hosts_of(&ask(&spec, &snapshot), &snapshot);
    let chassis: BTreeSet<&str> = chosen.iter().map(|host| host.chassis.as_str()).collect();
    assert_eq!(chassis.len(), 3);
    spec.groups[0].count = 4;
    let explanation = ask(&spec, &snapshot).explanation;
    assert!(explanation.summary.contains("the power budget of their chassis"), "{}", explanation.summary);
    assert_eq!(explanation.relaxation, "with 1 host fewer in group w (3 instead of 4)");
}

#[test]
fn what_a_pool_keeps_is_for_repairs() {
    let hosts: Vec<Host> = (0..4).map(|i| Host { quota: Some(0), ..host(i, 32, 128, 0) }).collect();
    let quota = Quota { pool: "p".into(), min_free: 2, ..Default::default() };
    let mut snapshot = snapshot(hosts).with_quotas(vec![quota]);
    let spec = CompositionSpec { groups: vec![group("w", 3, 8, 16)], ..Default::default() };
    let choice = ask(&spec, &snapshot);
    assert!(choice.explanation.summary.contains("minFree of their pool"), "{}", choice.explanation.summary);
    snapshot.hosts[0].consumer = Some(owner());
    let member =
        CompositionMember { group: "w".into(), host: "h00".into(), host_namespace: "drystone-system".into() };
    let members = [member];
    assert!(compose(&Request::new(owner(), &spec, &members), &snapshot).members.is_some());
}

#[test]
fn isolation_holds_both_ways() {
    let mut hosts: Vec<Host> = (0..6).map(|i| host(i, 32, 128, 0)).collect();
    hosts[0].consumer = Some(others());
    let spec = CompositionSpec {
        groups: vec![group("w", 3, 8, 16)],
        isolated_by: Some(FailureDomain::Chassis),
        ..Default::default()
    };
    let alone = snapshot(hosts.clone());
    let choice = ask(&spec, &alone);
    assert!(hosts_of(&choice, &alone).iter().all(|host| host.chassis != "chassis-0"));
    let plain = CompositionSpec { isolated_by: None, ..spec };
    let tenant = Tenant { owner: others(), isolated_by: Some(FailureDomain::Chassis), until: None };
    let kept = snapshot(hosts).with_tenants(vec![tenant]);
    let choice = ask(&plain, &kept);
    assert!(hosts_of(&choice, &kept).iter().all(|host| host.chassis != "chassis-0"));
    let stage = choice
        .explanation
        .funnel
        .iter()
        .find(|stage| stage.constraint.starts_with("not kept"))
        .expect("told");
    assert_eq!(stage.removed, ["h03: Composition/else/other keeps the chassis chassis-0 to itself"]);
}

#[test]
fn drives_are_counted_by_capacity_and_media() {
    let drive = |media: &str, tebibytes: u64| Drive {
        name: "d".into(),
        capacity: Memory(tebibytes << 40),
        media: media.into(),
    };
    let mut hosts: Vec<Host> = (0..3).map(|i| host(i, 32, 128, 0)).collect();
    hosts[0].drives = vec![drive("HDD", 8), drive("HDD", 8)];
    hosts[1].drives = vec![drive("NVMe", 1), drive("NVMe", 4)];
    hosts[2].drives = vec![drive("NVMe", 4), drive("NVMe", 4)];
    let snapshot = snapshot(hosts);
    let mut store = group("store", 1, 8, 16);
    store.host.drives =
        vec![DriveRequirement { count: 2, min_capacity: Some(Memory(2 << 40)), media: Some("nvme".into()) }];
    let choice = ask(&CompositionSpec { groups: vec![store], ..Default::default() }, &snapshot);
    assert_eq!(hosts_of(&choice, &snapshot)[0].name, "h02");
    let stage = choice.explanation.funnel.last().expect("drives");
    assert_eq!(stage.constraint, "nvme of 2Ti >= 2");
    assert_eq!(stage.removed, ["h00: 0 of HDD 8Ti, HDD 8Ti", "h01: 1 of NVMe 1Ti, NVMe 4Ti"]);
}

#[test]
fn waiting_for_a_reservation_is_a_relaxation() {
    let mut hosts: Vec<Host> = (0..4).map(|i| host(i, 32, 128, 0)).collect();
    for host in &mut hosts[..3] {
        host.consumer = Some(others());
    }
    let until = Timestamp::from_second(1_800_000_000).ok();
    let snapshot = snapshot(hosts).with_tenants(vec![Tenant { owner: others(), isolated_by: None, until }]);
    let spec = CompositionSpec { groups: vec![group("w", 2, 32, 128)], ..Default::default() };
    let relaxation = ask(&spec, &snapshot).explanation.relaxation;
    assert_eq!(
        relaxation,
        "once Composition/else/other gives back its 3 hosts, at 2027-01-15T08:00:00Z at the latest"
    );
}

#[test]
fn two_changes_are_named_where_one_does_not_do() {
    let snapshot = snapshot((0..4).map(|i| host(i, 16, 48, 0)).collect());
    let spec = CompositionSpec { groups: vec![group("w", 2, 32, 64)], ..Default::default() };
    let relaxation = ask(&spec, &snapshot).explanation.relaxation;
    assert_eq!(
        relaxation,
        "with cores >= 16 instead of 32 in group w and with memory >= 48Gi instead of 64Gi in group w"
    );
}

#[test]
fn lists_are_capped_and_counted() {
    let mut hosts: Vec<Host> = (0..100).map(|i| host(i, if i % 4 == 0 { 4 } else { 8 }, 128, 0)).collect();
    hosts.push(host(100, 64, 128, 0));
    let spec = CompositionSpec { groups: vec![group("w", 1, 32, 64)], ..Default::default() };
    let explanation = ask(&spec, &snapshot(hosts)).explanation;
    let stage = explanation.funnel.iter().find(|stage| stage.constraint == "cores >= 32").expect("applied");
    assert_eq!((stage.removed_count, stage.removed.len()), (100, 41));
    assert_eq!(stage.removed[40], "and 60 more");
    let reasons: Vec<(&str, u32)> =
        stage.reasons.iter().map(|reason| (reason.instead.as_str(), reason.hosts)).collect();
    assert_eq!(reasons, [("8 cores", 75), ("4 cores", 25)]);
}

/// Hosts, a request and constraints of all kinds.
fn worlds() -> impl Strategy<Value = (Vec<Host>, CompositionSpec)> {
    let sizes =
        prop::collection::vec((1_u32..64, 1_u64..256, 0_u32..5, 0_u8..5, 0_u8..4, any::<bool>()), 1..24);
    let groups = prop::collection::vec(
        (1_u32..5, 0_u32..48, 1_u64..256, prop::option::of(1_u32..4), prop::option::of(1_u32..3)),
        1..3,
    );
    let limits = (prop::option::of(1_u32..4), prop::option::of(200_u32..3_000), any::<bool>());
    (sizes, groups, limits).prop_map(|(sizes, groups, (hops, watts, isolated))| {
        let hosts = sizes.iter().enumerate().map(|(i, (cores, memory, gpus, state, quota, on))| {
            let consumer = (*state == 0).then(others);
            let quota = (*quota == 0).then_some(0);
            Host { consumer, quota, powered_on: *on, rack: "r".into(), ..host(i, *cores, *memory, *gpus) }
        });
        let groups = groups.iter().enumerate().map(|(at, (count, cores, memory, max_hops, spread))| {
            let mut group = group(&format!("g{at}"), *count, *cores, *memory);
            group.host.network =
                max_hops.map(|hops| NetworkRequirement { max_hops: Some(hops), min_bandwidth: None });
            group.spread =
                spread.map(|most| SpreadRequirement { by: FailureDomain::Switch, max_per_domain: most });
            group
        });
        let spec = CompositionSpec {
            groups: groups.collect(),
            limits: Some(Limits { max_hops: hops, max_watts: watts, ..Default::default() }),
            isolated_by: isolated.then_some(FailureDomain::Chassis),
            ..Default::default()
        };
        (hosts.collect(), spec)
    })
}

fn world(hosts: Vec<Host>) -> Snapshot {
    let quota = Quota { pool: "p".into(), min_free: 1, chassis_watts: Some(900) };
    snapshot(hosts).with_quotas(vec![quota])
}

proptest! {
    #[test]
    fn what_is_granted_keeps_every_rule((hosts, spec) in worlds()) {
        let snapshot = world(hosts);
        let Some(members) = ask(&spec, &snapshot).members else { return Ok(()) };
        let at = |member: &CompositionMember| snapshot.position(&member.host_namespace, &member.host).expect("known");
        let limits = spec.limits.unwrap_or_default();
        let watts: u32 = members.iter().map(|member| snapshot.hosts[at(member)].watts).sum();
        prop_assert!(limits.max_watts.is_none_or(|most| watts <= most));
        for group in &spec.groups {
            let mine: Vec<usize> = members.iter().filter(|member| member.group == group.name).map(at).collect();
            let max_hops = group.host.network.as_ref().and_then(|network| network.max_hops);
            for (one, other) in mine.iter().flat_map(|one| mine.iter().map(move |other| (*one, *other))) {
                let hops = snapshot.between(snapshot.attachment(one), snapshot.attachment(other));
                prop_assert!(max_hops.is_none_or(|most| hops.is_some_and(|hops| u32::from(hops) <= most)));
            }
            for switch in 0..3 {
                let here = mine.iter().filter(|host| snapshot.hosts[**host].switches == [switch]).count();
                prop_assert!(group.spread.as_ref().is_none_or(|spread| here <= spread.max_per_domain as usize));
            }
        }
        if spec.isolated_by.is_some() {
            let foreign: BTreeSet<&str> = snapshot.hosts.iter().filter(|host| host.consumer.is_some()).map(|host| host.chassis.as_str()).collect();
            prop_assert!(members.iter().all(|member| !foreign.contains(snapshot.hosts[at(member)].chassis.as_str())));
        }
        let pooled = snapshot.hosts.iter().filter(|host| host.quota.is_some() && host.consumer.is_none()).count();
        let taken = members.iter().filter(|member| snapshot.hosts[at(member)].quota.is_some()).count();
        prop_assert!(taken == 0 || taken < pooled, "one stays");
    }

    /// A relaxation is no promise that was not tried.
    #[test]
    fn relaxations_work((hosts, spec) in worlds()) {
        let snapshot = world(hosts);
        let request = Request::new(owner(), &spec, &[]);
        if compose(&request, &snapshot).members.is_some() { return Ok(()) }
        let problem = Problem::new(&request, &snapshot, kept_members(&request, &snapshot));
        if let Some(relaxation) = relax::smallest(&problem) {
            let relaxed = Request { spec: &relaxation.spec, freed: relaxation.freed.clone(), ..request.clone() };
            prop_assert!(compose(&relaxed, &snapshot).members.is_some(), "{}", relaxation.words);
            prop_assert!(relaxation.changes > 0);
            prop_assert!(relaxation.freed != Freed::Everybody);
        }
    }

    /// Adding and removing leaves no trace.
    #[test]
    fn a_tally_is_what_its_members_make_it((hosts, spec) in worlds(), moves in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..40)) {
        let snapshot = world(hosts);
        let request = Request::new(owner(), &spec, &[]);
        let problem = Problem::new(&request, &snapshot, kept_members(&request, &snapshot));
        let mut tally = Tally::new(&problem);
        let mut placed: Vec<Option<usize>> = vec![None; snapshot.hosts.len()];
        for (host, group) in moves {
            let (host, group) = (host.index(placed.len()), group.index(spec.groups.len()));
            match placed[host].take() {
                Some(group) => tally.remove(group, host),
                None => {
                    tally.add(group, host);
                    placed[host] = Some(group);
                }
            }
        }
        let mut afresh = Tally::new(&problem);
        for (host, group) in placed.iter().enumerate() {
            if let Some(group) = group { afresh.add(*group, host); }
        }
        prop_assert_eq!(tally.attributes(), afresh.attributes());
        for host in 0..snapshot.hosts.len() {
            for group in 0..spec.groups.len() {
                prop_assert_eq!(tally.obstacle(group, host), afresh.obstacle(group, host));
            }
        }
    }
}
