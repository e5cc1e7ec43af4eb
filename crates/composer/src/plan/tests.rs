//! Tables and properties of the composing manager's planner.

use std::collections::BTreeSet;

use drystone_api::{
    Accelerator, AcceleratorRequirement, AcceleratorType, BlockPool, CompositionGroup, CompositionMember,
    CompositionSpec, HostRequirement, NetworkRequirement, ObjectReference, Purpose,
    quantity::{Bandwidth, Memory},
};
use proptest::prelude::*;

use super::{Choice, Request, compose};
use crate::{
    model::{Distances, Host, Snapshot},
    topology::SwitchNode,
};

fn fabric() -> Distances {
    let switch = |id: &str, peers: &[&str]| SwitchNode {
        fabric: "HSN".to_owned(),
        id: id.to_owned(),
        peers: peers.iter().map(|peer| (*peer).to_owned()).collect(),
        macs: Vec::new(),
    };
    Distances::new(vec![switch("a", &["b"]), switch("b", &["a", "c"]), switch("c", &["b"])])
}

fn host(index: usize, cores: u32, gibibytes: u64, gpus: u32) -> Host {
    let accelerators = match gpus {
        0 => Vec::new(),
        count => vec![Accelerator {
            kind: AcceleratorType::GPU,
            model: "A100".to_owned(),
            memory: Some(Memory(80 << 30)),
            count,
        }],
    };
    Host {
        name: format!("h{index:02}"),
        namespace: "drystone-system".to_owned(),
        site: "rack".to_owned(),
        pool: BlockPool::Free,
        cores,
        memory: Memory(gibibytes << 30),
        accelerators,
        bandwidth_gbps: 100,
        chassis: format!("chassis-{}", index % 3),
        watts: 300 + cores,
        switches: vec![u32::try_from(index % 3).expect("small")],
        ..Default::default()
    }
}

fn group(name: &str, count: u32, cores: u32, gibibytes: u64) -> CompositionGroup {
    let host = HostRequirement { cores, memory: Some(Memory(gibibytes << 30)), ..Default::default() };
    CompositionGroup { name: name.to_owned(), count, host, ..Default::default() }
}

fn owner() -> ObjectReference {
    ObjectReference {
        kind: "Composition".into(),
        namespace: "research".into(),
        name: "mlops".into(),
        ..Default::default()
    }
}

fn run(spec: &CompositionSpec, members: &[CompositionMember], hosts: &[Host]) -> Choice {
    compose(&Request::new(owner(), spec, members), &Snapshot::new(hosts.to_vec(), fabric()))
}

fn chosen(choice: &Choice, group: &str) -> Vec<String> {
    let members = choice.members.as_ref().expect("granted");
    members.iter().filter(|member| member.group == group).map(|member| member.host.clone()).collect()
}

#[test]
fn the_smallest_hosts_that_fit_are_taken() {
    let hosts: Vec<Host> =
        (0..6).map(|i| host(i, if i < 3 { 4 } else { 32 }, if i < 3 { 16 } else { 256 }, 0)).collect();
    let spec = CompositionSpec { groups: vec![group("cp", 1, 4, 16)], ..Default::default() };
    let choice = run(&spec, &[], &hosts);
    assert!(
        ["h00", "h01", "h02"].contains(&chosen(&choice, "cp")[0].as_str()),
        "{:?}",
        choice.explanation.summary
    );
}

#[test]
fn machine_learning_prefers_one_switch() {
    let hosts: Vec<Host> = (0..9).map(|i| host(i, 32, 128, 4)).collect();
    let spec = CompositionSpec {
        purpose: Purpose::MLOps,
        groups: vec![group("train", 3, 16, 64)],
        ..Default::default()
    };
    let hosts_chosen = chosen(&run(&spec, &[], &hosts), "train");
    let switches: BTreeSet<usize> =
        hosts_chosen.iter().map(|name| name[1..].parse::<usize>().expect("number") % 3).collect();
    assert_eq!(switches.len(), 1, "{hosts_chosen:?}");
}

#[test]
fn a_control_plane_takes_no_accelerators_for_the_sake_of_bandwidth() {
    // Not on the high-speed fabric at all.
    let small = |i| Host { bandwidth_gbps: 25, switches: Vec::new(), ..host(i, 16, 64, 0) };
    let hosts: Vec<Host> = (0..9).map(|i| if i < 3 { small(i) } else { host(i, 64, 512, 4) }).collect();
    let mut train = group("train", 2, 16, 64);
    train.host.accelerators =
        vec![AcceleratorRequirement { kind: AcceleratorType::GPU, count: 2, ..Default::default() }];
    train.host.network =
        Some(NetworkRequirement { min_bandwidth: Some(Bandwidth(100_000_000_000)), ..Default::default() });
    let spec = CompositionSpec {
        purpose: Purpose::MLOps,
        groups: vec![group("cp", 1, 4, 16), train],
        ..Default::default()
    };
    let choice = run(&spec, &[], &hosts);
    let control_plane = &chosen(&choice, "cp")[0];
    assert!(["h00", "h01", "h02"].contains(&control_plane.as_str()), "{:?}", choice.explanation.summary);
}

#[test]
fn hop_limits_are_kept() {
    let hosts: Vec<Host> = (0..9).map(|i| host(i, 32, 128, 0)).collect();
    let mut near = group("near", 4, 16, 64);
    near.host.network =
        Some(NetworkRequirement { max_hops: Some(2), min_bandwidth: Some(Bandwidth::from_gigabits(100)) });
    let spec = CompositionSpec { groups: vec![near], ..Default::default() };
    let names = chosen(&run(&spec, &[], &hosts), "near");
    let ends: BTreeSet<usize> =
        names.iter().map(|name| name[1..].parse::<usize>().expect("number") % 3).collect();
    assert!(!(ends.contains(&0) && ends.contains(&2)), "a and c are three switches apart: {names:?}");
}

#[test]
fn an_impossible_request_says_what_removed_how_many() {
    let mut hosts: Vec<Host> = (0..4).map(|i| host(i, 16, 48, 2)).collect();
    hosts[3].consumer =
        Some(ObjectReference { kind: "Composition".into(), name: "other".into(), ..Default::default() });
    let mut train = group("train", 2, 16, 64);
    train.host.accelerators = vec![AcceleratorRequirement { count: 2, ..Default::default() }];
    let choice = run(&CompositionSpec { groups: vec![train], ..Default::default() }, &[], &hosts);
    assert_eq!(choice.members, None);
    let explanation = choice.explanation;
    assert!(
        explanation.summary.contains("group train needs 2 hosts and 0 of 4 fit"),
        "{}",
        explanation.summary
    );
    assert!(explanation.summary.contains("`memory >= 64Gi` removed 3"), "{}", explanation.summary);
    assert_eq!(explanation.relaxation, "with memory >= 48Gi instead of 64Gi in group train");
    let claimed = &explanation.funnel[0];
    assert_eq!(claimed.removed, ["h03: claimed by Composition/other"]);
}

#[test]
fn members_stay_when_a_group_grows() {
    let mut hosts: Vec<Host> = (0..9).map(|i| host(i, 32, 128, 0)).collect();
    let members: Vec<CompositionMember> = [4, 7]
        .map(|i: usize| CompositionMember {
            group: "w".into(),
            host: format!("h{i:02}"),
            host_namespace: "drystone-system".into(),
        })
        .into();
    for member in &members {
        let host = hosts.iter_mut().find(|host| host.name == member.host).expect("known");
        host.consumer = Some(owner());
        host.pool = BlockPool::Active;
    }
    let spec = CompositionSpec { groups: vec![group("w", 3, 16, 64)], ..Default::default() };
    let names = chosen(&run(&spec, &members, &hosts), "w");
    assert_eq!(names.len(), 3);
    assert!(names.contains(&"h04".to_owned()) && names.contains(&"h07".to_owned()), "{names:?}");
    let without = CompositionSpec { exclude_hosts: vec!["h04".into()], ..spec };
    let names = chosen(&run(&without, &members, &hosts), "w");
    assert!(!names.contains(&"h04".to_owned()) && names.contains(&"h07".to_owned()), "{names:?}");
}

#[test]
fn a_list_decides_who_is_chosen_and_who_is_given_back() {
    let mut hosts: Vec<Host> = (0..6).map(|i| host(i, 32, 256, 0)).collect();
    for listed in [1, 2, 3] {
        hosts[listed].dedicated = true;
    }
    let mut listed = group("w", 2, 16, 64);
    listed.only_hosts = vec!["h01".into(), "h02".into()];
    let spec = CompositionSpec { groups: vec![listed], ..Default::default() };
    assert_eq!(chosen(&run(&spec, &[], &hosts), "w"), ["h01", "h02"]);
    // The list changes: h02 leaves although it is healthy, h03 comes.
    let members: Vec<CompositionMember> = ["h01", "h02"]
        .map(|name| CompositionMember {
            group: "w".into(),
            host: name.into(),
            host_namespace: "drystone-system".into(),
        })
        .into();
    for member in &members {
        let host = hosts.iter_mut().find(|host| host.name == member.host).expect("known");
        host.consumer = Some(owner());
        host.pool = BlockPool::Active;
    }
    let mut relisted = spec.clone();
    relisted.groups[0].only_hosts = vec!["h01".into(), "h03".into()];
    assert_eq!(chosen(&run(&relisted, &members, &hosts), "w"), ["h01", "h03"]);
    // Who has no list gets no host that is kept for a site's cluster.
    let anybody = CompositionSpec { groups: vec![group("w", 3, 16, 64)], ..Default::default() };
    assert_eq!(chosen(&run(&anybody, &[], &hosts), "w"), ["h00", "h04", "h05"]);
    let too_many = CompositionSpec { groups: vec![group("w", 4, 16, 64)], ..Default::default() };
    let refused = run(&too_many, &[], &hosts);
    assert_eq!(refused.members, None);
    let funnel = &refused.explanation.funnel;
    assert!(funnel.iter().any(|stage| stage.constraint == "not kept for a site's own cluster"), "{funnel:?}");
}

proptest! {
    #[test]
    fn choices_are_sound(
        sizes in prop::collection::vec((1_u32..64, 1_u64..512, 0_u32..8, 0_u8..6), 0..40),
        wanted in prop::collection::vec((0_u32..5, 0_u32..48, 1_u64..256, 0_u32..4), 1..4),
        rotation in any::<prop::sample::Index>(),
    ) {
        let hosts: Vec<Host> = sizes.iter().enumerate().map(|(i, (cores, memory, gpus, pool))| {
            let pools = [BlockPool::Free, BlockPool::Online, BlockPool::Free, BlockPool::Failed, BlockPool::Unassigned, BlockPool::Active];
            Host { pool: pools[usize::from(*pool)], ..host(i, *cores, *memory, *gpus) }
        }).collect();
        let groups: Vec<CompositionGroup> = wanted.iter().enumerate().map(|(i, (count, cores, memory, gpus))| {
            let mut group = group(&format!("g{i}"), *count, *cores, *memory);
            if *gpus > 0 { group.host.accelerators = vec![AcceleratorRequirement { count: *gpus, ..Default::default() }]; }
            group
        }).collect();
        let spec = CompositionSpec { groups, ..Default::default() };
        let choice = run(&spec, &[], &hosts);
        if let Some(members) = &choice.members {
            let unique: BTreeSet<&String> = members.iter().map(|member| &member.host).collect();
            prop_assert_eq!(unique.len(), members.len(), "no host twice");
            for group in &spec.groups {
                let mine: Vec<&Host> = members.iter().filter(|m| m.group == group.name)
                    .map(|m| hosts.iter().find(|h| h.name == m.host).expect("known")).collect();
                prop_assert_eq!(mine.len(), group.count as usize);
                for host in mine {
                    prop_assert!(host.cores >= group.host.cores && Some(host.memory) >= group.host.memory);
                    prop_assert!(matches!(host.pool, BlockPool::Free | BlockPool::Online));
                }
            }
        } else {
            prop_assert!(!choice.explanation.summary.is_empty());
        }
        for funnel in choice.explanation.funnel.chunk_by(|a, b| a.group == b.group) {
            let mut left = hosts.len();
            for stage in funnel {
                prop_assert_eq!(stage.remaining as usize + stage.removed_count as usize, left);
                left = stage.remaining as usize;
            }
        }
        let mut rotated = hosts.clone();
        if !rotated.is_empty() { let by = rotation.index(rotated.len()); rotated.rotate_left(by); }
        prop_assert_eq!(run(&spec, &[], &rotated), choice, "the order of observation must not matter");
    }
}

mod golden;
mod wants;
