//! Whole answers, as they are: a change of the planner shows in them.

use drystone_api::Limits;

use super::*;

/// Twelve hosts of three kinds on three switches in a row.
fn rack() -> Snapshot {
    let hosts = (0..12).map(|at| match at {
        0..3 => Host { bandwidth_gbps: 25, switches: Vec::new(), ..host(at, 16, 64, 0) },
        3..9 => Host { watts: 1_900, powered_on: at == 4, ..host(at, 64, 512, 4) },
        _ => Host { watts: 520, ..host(at, 32, 256, 0) },
    });
    Snapshot::new(hosts.collect(), fabric())
}

fn learning(count: u32) -> CompositionSpec {
    let mut train = group("train", count, 32, 256);
    train.host.accelerators =
        vec![AcceleratorRequirement { model: Some("a100".into()), count: 4, ..Default::default() }];
    train.host.network =
        Some(NetworkRequirement { min_bandwidth: Some(Bandwidth::from_gigabits(100)), max_hops: Some(2) });
    CompositionSpec {
        purpose: Purpose::MLOps,
        groups: vec![group("control-plane", 1, 4, 16), train],
        ..Default::default()
    }
}

fn answer(spec: &CompositionSpec) -> Choice {
    compose(&Request::new(owner(), spec, &[]), &rack())
}

#[test]
fn a_choice() {
    insta::assert_yaml_snapshot!(answer(&learning(2)).explanation);
}

#[test]
fn not_enough_hosts() {
    insta::assert_yaml_snapshot!(answer(&learning(7)).explanation);
}

#[test]
fn too_far_apart() {
    insta::assert_yaml_snapshot!(answer(&learning(6)).explanation);
}

#[test]
fn not_acceptable() {
    let limits = Limits { max_watts: Some(4_000), ..Default::default() };
    let spec = CompositionSpec { limits: Some(limits), ..learning(3) };
    insta::assert_yaml_snapshot!(answer(&spec).explanation);
}
