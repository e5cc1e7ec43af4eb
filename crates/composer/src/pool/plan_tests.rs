//! Tables of the pools' power policy.

use drystone_api::{
    BareMetalHostSpec, BlockPool, BmcDetails, ResourceBlockSpec, ResourceBlockStatus, quantity::TimeSpan,
};
use k8s_openapi::jiff::SignedDuration;
use proptest::prelude::*;

use super::*;

/// A host as a table gives it: name, wanted on, claimed, idle watts, chassis, what is special about it.
type Row<'a> = (&'a str, bool, bool, u32, &'a str, &'a str);

fn pair(row: &Row<'_>) -> (BareMetalHost, ResourceBlock) {
    let (name, online, claimed, idle, chassis, special) = *row;
    let spec = BareMetalHostSpec {
        bmc: Some(BmcDetails::default()),
        online,
        consumer_ref: claimed.then(drystone_api::ObjectReference::default),
        externally_provisioned: special == "external",
        disable_power_off: special == "never off",
        ..Default::default()
    };
    let mut host = BareMetalHost::new(name, spec);
    let status = host.status.get_or_insert_default();
    status.provisioning.state = ProvisioningState::Available;
    status.powered_on = online;
    let annotation = match special {
        "paused" => Some((PAUSED.to_owned(), String::new())),
        "detached" => Some((DETACHED.to_owned(), String::new())),
        "overruled" => {
            Some((POWERED_BY_ANNOTATION.to_owned(), format!("ns/pool={}", if online { "off" } else { "on" })))
        }
        _ => None,
    };
    host.metadata.annotations = Some(annotation.into_iter().collect());
    let spec = ResourceBlockSpec { maintenance: special == "maintenance", ..Default::default() };
    let mut block = ResourceBlock::new(name, spec);
    block.status = Some(ResourceBlockStatus {
        pool: match (special, online) {
            ("failed", _) => BlockPool::Failed,
            (_, true) => BlockPool::Online,
            (_, false) => BlockPool::Free,
        },
        cores: 8,
        idle_watts: Some(idle),
        busy_watts: Some(idle * 3),
        chassis: chassis.to_owned(),
        ..Default::default()
    });
    (host, block)
}

fn decide(spec: ResourcePoolSpec, before: Vec<IdleHost>, rows: &[Row<'_>], now: i64) -> PowerPlan {
    let mut pool = ResourcePool::new("pool", spec);
    pool.metadata.namespace = Some("ns".to_owned());
    pool.status = Some(ResourcePoolStatus { idle: before, ..Default::default() });
    let pairs: Vec<_> = rows.iter().map(pair).collect();
    let members: Vec<Member<'_>> =
        pairs.iter().map(|(host, block)| Member { host, block: Some(block) }).collect();
    plan(&pool, &members, Timestamp::UNIX_EPOCH + SignedDuration::from_secs(now))
}

fn switched(plan: &PowerPlan) -> Vec<(&str, bool)> {
    plan.switchings.iter().map(|switching| (switching.host.as_str(), switching.online)).collect()
}

#[test]
fn spares_are_those_that_draw_least_and_may_be_switched() {
    let rows: [Row<'_>; 9] = [
        ("a", false, false, 300, "c1", ""),
        ("b", false, false, 100, "c1", ""),
        ("c", false, true, 10, "c1", ""),
        ("d", false, false, 10, "c1", "maintenance"),
        ("e", false, false, 10, "c1", "paused"),
        ("f", false, false, 10, "c1", "detached"),
        ("g", false, false, 10, "c1", "external"),
        ("h", false, false, 10, "c1", "failed"),
        ("i", false, false, 10, "c1", "overruled"),
    ];
    let plan = decide(ResourcePoolSpec { warm_spares: 3, ..Default::default() }, Vec::new(), &rows, 0);
    assert_eq!(switched(&plan), [("b", true), ("a", true)]);
    assert_eq!(plan.status.message, "1 warm spares are missing: no more hosts can be powered on");
    let counts = plan.status.counts;
    assert_eq!(
        (counts.hosts, counts.free, counts.reserved, counts.failed, counts.unassigned),
        (9, 3, 1, 1, 4)
    );
    assert_eq!((plan.status.watts, plan.status.resources[0].total), (30, 72));
}

#[test]
fn a_chassis_gets_no_more_than_its_budget() {
    let rows: [Row<'_>; 4] = [
        ("a", true, true, 100, "c1", ""),
        ("b", false, false, 110, "c1", ""),
        ("c", false, false, 120, "c2", ""),
        ("d", false, false, 120, "c2", ""),
    ];
    let spec =
        ResourcePoolSpec { warm_spares: 3, chassis_power_budget_watts: Some(400), ..Default::default() };
    let plan = decide(spec, Vec::new(), &rows, 0);
    assert_eq!(switched(&plan), [("c", true), ("d", true)], "a in service is charged with 300 W");
    assert_eq!(
        plan.status.message,
        "1 warm spares are missing: 1 hosts would exceed the power budget of their chassis"
    );
}

#[test]
fn idle_hosts_go_off_after_their_time_but_for_the_spares() {
    let rows: [Row<'_>; 5] = [
        ("a", true, false, 100, "", ""),
        ("b", true, false, 300, "", ""),
        ("c", true, false, 200, "", ""),
        ("d", true, false, 900, "", "never off"),
        ("e", true, false, 900, "", "overruled"),
    ];
    let spec =
        || ResourcePoolSpec { warm_spares: 3, idle_power_down: Some(TimeSpan(60)), ..Default::default() };
    let first = decide(spec(), Vec::new(), &rows, 1000);
    assert_eq!((switched(&first), first.status.idle.len()), (Vec::new(), 5));
    let due = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1060);
    assert_eq!(first.next, Some(due));
    let then = decide(spec(), first.status.idle, &rows, 1060);
    assert_eq!(switched(&then), [("b", false), ("c", false)], "those that draw most, three stay");
    let without = ResourcePoolSpec { warm_spares: 3, ..Default::default() };
    assert_eq!(switched(&decide(without, then.status.idle, &rows, 9999)), Vec::new());
}

proptest! {
    /// Carried out again and again, a plan comes to rest, and never touches what it must not.
    #[test]
    fn power_comes_to_rest(
        mut hosts in prop::collection::vec((any::<bool>(), any::<bool>(), 0_u32..500, 0_u8..3, 0_usize..8), 0..30),
        spares in 0_u32..12,
        budget in prop::option::of(0_u32..2_000),
    ) {
        let specials = ["", "", "", "maintenance", "paused", "failed", "never off", "external"];
        let names: Vec<String> = (0..hosts.len()).map(|at| format!("h{at:02}")).collect();
        let mut idle = Vec::new();
        let mut changes = 0;
        for round in 0..12 {
            let rows: Vec<Row<'_>> = hosts.iter().zip(&names).map(|((on, claimed, watts, chassis, special), name)| {
                (name.as_str(), *on, *claimed, *watts, ["a", "b", "c"][usize::from(*chassis)], specials[*special])
            }).collect();
            let spec = ResourcePoolSpec {
                warm_spares: spares,
                idle_power_down: Some(TimeSpan(60)),
                chassis_power_budget_watts: budget,
                ..Default::default()
            };
            let plan = decide(spec, idle, &rows, round * 61);
            changes = plan.switchings.len();
            for switching in &plan.switchings {
                let at = names.iter().position(|name| *name == switching.host).expect("known");
                let (on, claimed, _, _, special) = hosts[at];
                prop_assert!(!claimed && !matches!(specials[special], "maintenance" | "paused" | "failed" | "external"));
                prop_assert!(on != switching.online && (switching.online || specials[special] != "never off"));
                hosts[at].0 = switching.online;
            }
            idle = plan.status.idle;
        }
        prop_assert_eq!(changes, 0, "it flaps");
    }
}
