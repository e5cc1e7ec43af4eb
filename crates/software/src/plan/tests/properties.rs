//! What every plan and every decision must keep, whatever the hosts, the strategy and the course of things.

use std::collections::BTreeSet;

use drystone_api::{
    HostRolloutPhase as Phase, MemberRole, RollBack, RollBackScope, RolloutPhase, RolloutStrategy,
    RolloutWave,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::prelude::*;

use super::world::{Run, hello, host, made, member};
use crate::{
    plan::{PlanInput, RolloutPlan, Timing, plan},
    select::HostFacts,
};

fn amount() -> impl Strategy<Value = IntOrString> {
    prop_oneof![
        (1..6_i32).prop_map(IntOrString::Int),
        (1..100_u32).prop_map(|percent| IntOrString::String(format!("{percent}%"))),
    ]
}

fn hosts() -> impl Strategy<Value = Vec<HostFacts>> {
    let one = (0..4_u8, prop::sample::select(vec!["", "1.0", "1.1", "2.0"]), 0..4_u8, 0..10_u8, 0..12_u8);
    prop::collection::vec(one, 1..24).prop_map(|hosts| {
        hosts
            .into_iter()
            .enumerate()
            .map(|(index, (site, version, cluster, odd, provisioned))| {
                let host = host(&format!("h{index:02}"), &format!("s{site}"), version);
                let host = HostFacts {
                    unreachable: (odd == 0).then(|| "cut off".to_owned()),
                    provisioned: provisioned != 0,
                    ..host
                };
                match cluster {
                    0 => host,
                    1 => member(host, "c/one", MemberRole::ControlPlane),
                    _ => member(host, "c/one", MemberRole::Worker),
                }
            })
            .collect()
    })
}

fn strategy() -> impl Strategy<Value = RolloutStrategy> {
    let wave = (prop::option::of(amount()), 0..3_u32, any::<bool>());
    let waves = prop::collection::vec(wave, 0..4).prop_map(|waves| {
        let wave = |(index, (hosts, soak, free)): (usize, (Option<IntOrString>, u32, bool))| RolloutWave {
            name: format!("w{index}"),
            hosts,
            soak_seconds: soak * 30,
            after: free.then(Vec::new),
            ..RolloutWave::default()
        };
        waves.into_iter().enumerate().map(wave).collect()
    });
    (waves, prop::option::of(amount()), prop::option::of(amount()), 0..3_i32, any::<bool>()).prop_map(
        |(waves, max_unavailable, max_unavailable_per_site, tolerated, everything)| RolloutStrategy {
            waves,
            max_unavailable,
            max_unavailable_per_site,
            roll_back: RollBack {
                scope: if everything { RollBackScope::Everything } else { RollBackScope::FailedHosts },
                tolerated_failures: Some(IntOrString::Int(tolerated)),
            },
            ..RolloutStrategy::default()
        },
    )
}

/// Every selected host is in the plan once: in one wave, or among those that need nothing.
fn everyone_once(plan: &RolloutPlan, hosts: &[HostFacts]) -> Result<(), TestCaseError> {
    let in_waves: Vec<&String> = plan.waves.iter().flat_map(|wave| &wave.hosts).collect();
    let distinct: BTreeSet<&String> = in_waves.iter().copied().collect();
    prop_assert_eq!(in_waves.len(), distinct.len());
    prop_assert_eq!(distinct, plan.hosts.keys().collect());
    for host in hosts {
        let needed = plan.hosts.contains_key(&host.name);
        prop_assert!(needed != plan.not_needed.contains_key(&host.name), "{}", host.name);
        let version = host.inventory.as_ref().and_then(|inventory| inventory.packages.get("hello"));
        let lacks = version.is_none_or(|version| version == "1.0");
        prop_assert_eq!(needed, host.provisioned && lacks, "{}", host.name);
    }
    for (index, wave) in plan.waves.iter().enumerate() {
        prop_assert!(!wave.hosts.is_empty());
        prop_assert!(wave.after.iter().all(|before| *before < index));
    }
    Ok(())
}

/// No limit is broken, no control plane loses its majority, no wave begins before those that it waits for.
fn limits_kept(run: &Run<'_>) -> Result<(), TestCaseError> {
    let plan = run.plan;
    let out: Vec<String> = run.under_way();
    prop_assert!(out.len() <= plan.limits.in_all, "{} of {}", out.len(), plan.limits.in_all);
    let sites: BTreeSet<&str> = out.iter().map(|host| plan.hosts[host].site.as_str()).collect();
    for site in sites {
        let here = out.iter().filter(|host| plan.hosts[*host].site == site).count();
        prop_assert!(here <= plan.limits.of_site(site), "{here} in {site}");
    }
    for planes in run.observed.control_planes.values() {
        let here = out.iter().filter(|host| planes.members.contains(*host)).count();
        let down = planes.down.len();
        prop_assert!(
            here <= 1 || 2 * (here + down) < planes.members.len(),
            "{here} + {down} of {}",
            planes.members.len()
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn every_rollout_keeps_what_it_must(
        hosts in hosts(),
        strategy in strategy(),
        failing in prop::collection::btree_set(0..24_usize, 0..4),
        order in prop::collection::vec(any::<prop::sample::Index>(), 200),
    ) {
        let plan = made(&hosts, &strategy);
        prop_assert_eq!(&plan, &made(&hosts, &strategy));
        everyone_once(&plan, &hosts)?;
        let mut run = Run::new(&plan, &hosts);
        run.observed.wishes.scope = strategy.roll_back.scope;
        run.failing = failing.into_iter().map(|index| format!("h{index:02}")).collect();
        let mut finished: BTreeSet<usize> = BTreeSet::new();
        for chosen in order {
            let decision = run.decide();
            prop_assert_eq!(&decision.start.iter().collect::<BTreeSet<_>>().len(), &decision.start.len());
            for host in &decision.start {
                let wave = &plan.waves[plan.hosts[host].wave];
                prop_assert!(wave.after.iter().all(|before| finished.contains(before)
                    || run.observed.finished_waves.contains_key(&plan.waves[*before].name)), "{} came too early", host);
            }
            limits_kept(&run)?;
            for (index, wave) in plan.waves.iter().enumerate() {
                if run.observed.finished_waves.contains_key(&wave.name) {
                    finished.insert(index);
                }
            }
            let under_way = run.under_way();
            if under_way.is_empty() {
                match decision.again_in {
                    Some(seconds) => run.observed.now += i64::from(seconds),
                    None => break,
                }
            } else {
                run.end(&under_way[chosen.index(under_way.len())].clone());
            }
        }
        let last = run.decide();
        let phases = |wanted: Phase| run.observed.phases.values().filter(|phase| **phase == wanted).count();
        prop_assert!(phases(Phase::Running) == 0 && phases(Phase::RollingBack) == 0, "{:?}", last);
        let failures = phases(Phase::FailedRolledBack);
        let cut_off = plan.hosts.keys().any(|host| run.observed.unreachable.contains_key(host));
        match last.phase {
            RolloutPhase::Succeeded => prop_assert_eq!(phases(Phase::Updated) + failures, plan.hosts.len()),
            RolloutPhase::AwaitingHosts => prop_assert!(cut_off),
            RolloutPhase::Failed => prop_assert!(failures > plan.tolerated_failures),
            RolloutPhase::RolledBack => {
                prop_assert!(failures > plan.tolerated_failures);
                prop_assert_eq!(phases(Phase::Updated), 0);
            }
            other => prop_assert!(false, "{:?}: {:?}", other, last),
        }
    }

    #[test]
    fn the_canary_comes_first_and_alone(hosts in hosts()) {
        let plan = made(&hosts, &RolloutStrategy::default());
        let mut run = Run::new(&plan, &hosts);
        let first = run.decide();
        prop_assert!(first.start.len() <= 1);
        if plan.hosts.len() > 1 {
            prop_assert_eq!(plan.waves[0].hosts.len(), 1);
            prop_assert!(first.start.iter().all(|host| plan.hosts[host].wave == 0));
            prop_assert!(run.decide().start.is_empty());
        }
    }

    #[test]
    fn control_planes_that_are_down_count(hosts in hosts(), down in any::<prop::sample::Index>()) {
        let strategy = RolloutStrategy {
            max_unavailable: Some(IntOrString::String("100%".to_owned())),
            max_unavailable_per_site: Some(IntOrString::String("100%".to_owned())),
            waves: vec![RolloutWave { name: "all".to_owned(), ..RolloutWave::default() }],
            ..RolloutStrategy::default()
        };
        let plan = made(&hosts, &strategy);
        let mut run = Run::new(&plan, &hosts);
        for planes in run.observed.control_planes.values_mut() {
            let lost = down.get(&planes.members.iter().cloned().collect::<Vec<_>>()).clone();
            planes.down.insert(lost);
        }
        run.decide();
        for planes in run.observed.control_planes.values() {
            let out: BTreeSet<String> = run.under_way().into_iter().filter(|host| planes.members.contains(host)).collect();
            let gone = out.union(&planes.down).count();
            prop_assert!(gone <= 1 || 2 * gone < planes.members.len(), "{gone} of {}", planes.members.len());
        }
    }

    #[test]
    fn more_time_is_not_forecast_than_one_after_the_other(hosts in hosts(), strategy in strategy()) {
        let plan = made(&hosts, &strategy);
        let unreachable = hosts.iter().filter_map(|host| Some((host.name.clone(), host.unreachable.clone()?))).collect();
        let expected = crate::plan::forecast::forecast(&plan, &super::world::control_planes(&hosts), &unreachable);
        let each: u32 = plan.hosts.values().map(|host| host.estimate_seconds).sum();
        let soak: u32 = plan.waves.iter().map(|wave| wave.soak_seconds).sum();
        prop_assert!(expected.seconds <= each + soak);
        let path: u32 = expected.critical_path.iter().map(|host| plan.hosts[host].estimate_seconds).sum();
        prop_assert!(path <= expected.seconds && expected.seconds <= path + soak);
    }
}

#[test]
fn what_is_asked_for_is_done() {
    let hosts: Vec<HostFacts> = (0..6).map(|number| host(&format!("h{number}"), "edge", "1.0")).collect();
    let strategy = RolloutStrategy {
        max_unavailable_per_site: Some(IntOrString::Int(2)),
        max_unavailable: Some(IntOrString::Int(2)),
        ..RolloutStrategy::default()
    };
    let plan = made(&hosts, &strategy);
    let mut run = Run::new(&plan, &hosts);
    run.observed.wishes.approved = false;
    assert_eq!(run.decide().phase, RolloutPhase::AwaitingApproval);
    run.observed.wishes.approved = true;
    assert_eq!(run.decide().start, ["h0"]);
    run.observed.wishes.paused = true;
    run.end("h0");
    let paused = run.decide();
    assert_eq!((paused.phase, paused.start.len()), (RolloutPhase::Paused, 0));
    run.observed.wishes.paused = false;
    assert_eq!(run.decide().start, ["h1", "h2"]);
    run.end("h1");
    run.observed.wishes.roll_back = true;
    // h2 is still under way, so that one place is left.
    assert_eq!(run.decide().roll_back, ["h1"]);
    run.end("h2");
    assert_eq!(run.decide().roll_back, ["h2"]);
    run.end("h1");
    assert_eq!(run.decide().roll_back, ["h0"]);
    for host in ["h2", "h0"] {
        run.end(host);
    }
    assert_eq!(run.decide().phase, RolloutPhase::RolledBack);
}

#[test]
fn hosts_that_were_cut_off_come_later() {
    let mut hosts: Vec<HostFacts> = (0..3).map(|number| host(&format!("h{number}"), "edge", "1.0")).collect();
    hosts[1].unreachable = Some("cut off".to_owned());
    let plan = made(&hosts, &RolloutStrategy::default());
    let mut run = Run::new(&plan, &hosts);
    for expected in ["h0", "h2"] {
        assert_eq!(run.decide().start, [expected]);
        run.end(expected);
    }
    let waits = run.decide();
    assert_eq!(waits.phase, RolloutPhase::AwaitingHosts, "{waits:?}");
    run.observed.unreachable.clear();
    assert_eq!(run.decide().start, ["h1"]);
    run.end("h1");
    assert_eq!(run.decide().phase, RolloutPhase::Succeeded);
}

#[test]
fn a_wave_can_wait_for_somebody() {
    let hosts: Vec<HostFacts> = (0..3).map(|number| host(&format!("h{number}"), "edge", "1.0")).collect();
    let wave = |name: &str, hosts, pause| RolloutWave {
        name: name.to_owned(),
        hosts,
        pause,
        ..RolloutWave::default()
    };
    let strategy = RolloutStrategy {
        waves: vec![wave("first", Some(IntOrString::Int(1)), false), wave("second", None, true)],
        ..RolloutStrategy::default()
    };
    let plan = made(&hosts, &strategy);
    let mut run = Run::new(&plan, &hosts);
    run.decide();
    run.end("h0");
    let held = run.decide();
    assert_eq!(held.phase, RolloutPhase::Paused);
    assert!(held.message.contains("second"), "{}", held.message);
    run.observed.wishes.approved_waves.insert("second".to_owned());
    assert_eq!(run.decide().start, ["h1"]);
}

#[test]
fn a_busy_host_waits() {
    let hosts = [host("h0", "edge", "1.0")];
    let sets = [hello()];
    let strategy = RolloutStrategy::default();
    let input = PlanInput { sets: &sets, hosts: &hosts, strategy: &strategy, timing: Timing::default() };
    let plan = plan(&input).expect("a plan");
    let mut run = Run::new(&plan, &hosts);
    run.observed.busy.insert("h0".to_owned(), "Rollout other".to_owned());
    let decision = run.decide();
    assert!(decision.start.is_empty());
    assert_eq!(decision.waiting["h0"], "Rollout other works on it");
}
