//! Plans as people see them, checked in. `DRYSTONE_BLESS=1` writes them anew.

use std::fmt::Write as _;

use drystone_api::{MemberRole, RolloutStrategy, RolloutWave};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::world::{control_planes, hello, host, made, member};
use crate::{
    plan::{PlanInput, RolloutPlan, Timing, forecast::forecast, plan},
    select::HostFacts,
};

fn told(plan: &RolloutPlan, hosts: &[HostFacts]) -> String {
    let mut text = String::new();
    let unreachable =
        hosts.iter().filter_map(|host| Some((host.name.clone(), host.unreachable.clone()?))).collect();
    let expected = forecast(plan, &control_planes(hosts), &unreachable);
    let _ = writeln!(text, "at most {} out of service, {:?}", plan.limits.in_all, plan.limits.per_site);
    for wave in &plan.waves {
        let after: Vec<&str> = wave.after.iter().map(|index| plan.waves[*index].name.as_str()).collect();
        let _ = writeln!(text, "wave {} after {after:?}", wave.name);
        for name in &wave.hosts {
            let host = &plan.hosts[name];
            let changes: Vec<String> = host.changes.changes.iter().map(ToString::to_string).collect();
            let flags = match (host.changes.drain, host.changes.reboot) {
                (true, true) => " (drain, reboot)",
                (true, false) => " (drain)",
                (false, true) => " (reboot)",
                (false, false) => "",
            };
            let start = expected.starts.get(name).map_or("later".to_owned(), |start| format!("at {start} s"));
            let _ = writeln!(
                text,
                "  {name} {start}, {} s: {}{flags}",
                host.estimate_seconds,
                changes.join(", ")
            );
        }
    }
    for (name, reason) in &plan.not_needed {
        let _ = writeln!(text, "not {name}: {reason}");
    }
    let _ = writeln!(text, "{} s by way of {}", expected.seconds, expected.critical_path.join(" → "));
    text
}

fn assert_golden(name: &str, text: &str) {
    let path = format!("{}/src/plan/golden/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("DRYSTONE_BLESS").is_some() {
        std::fs::write(&path, text).expect("written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{path}");
}

#[test]
fn a_site_of_ten() {
    let mut hosts: Vec<HostFacts> =
        (1..=10).map(|number| host(&format!("h{number:02}"), "edge", "1.0")).collect();
    hosts[3] = host("h04", "edge", "1.1");
    hosts[4] = host("h05", "edge", "1.2");
    hosts[5].provisioned = false;
    hosts[6].unreachable = Some("no route to host".to_owned());
    for (index, host) in hosts.iter_mut().enumerate() {
        let role = if index < 3 { MemberRole::ControlPlane } else { MemberRole::Worker };
        *host = member(host.clone(), "research/mlops", role);
    }
    let strategy = RolloutStrategy {
        max_unavailable_per_site: Some(IntOrString::Int(3)),
        max_unavailable: Some(IntOrString::Int(3)),
        ..RolloutStrategy::default()
    };
    assert_golden("a-site-of-ten", &told(&made(&hosts, &strategy), &hosts));
}

#[test]
fn declared_waves_over_sites() {
    let mut hosts = Vec::new();
    for site in ["north", "south", "west"] {
        hosts.extend((1..=4).map(|number| host(&format!("{site}-{number}"), site, "1.0")));
    }
    let of_site = |site: &str| drystone_api::HostSelector {
        sites: vec![site.to_owned()],
        ..drystone_api::HostSelector::default()
    };
    let wave =
        |name: &str, hosts: Option<IntOrString>, site: Option<&str>, after: Option<&[&str]>| RolloutWave {
            name: name.to_owned(),
            hosts,
            selector: site.map(of_site),
            after: after.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
            ..RolloutWave::default()
        };
    let strategy = RolloutStrategy {
        waves: vec![
            RolloutWave {
                soak_seconds: 60,
                ..wave("canary", Some(IntOrString::String("10%".to_owned())), None, None)
            },
            wave("north", None, Some("north"), None),
            wave("south", None, Some("south"), Some(&["canary"])),
        ],
        site_order: vec!["south".to_owned()],
        max_unavailable_per_site: Some(IntOrString::String("50%".to_owned())),
        ..RolloutStrategy::default()
    };
    assert_golden("declared-waves-over-sites", &told(&made(&hosts, &strategy), &hosts));
}

#[test]
fn a_kernel_and_an_image() {
    let mut set = hello();
    set.packages[0].name = "linux-image-amd64".to_owned();
    set.os_image = Some(drystone_api::OperatingSystemImage {
        url: "http://images.example.org/os-2.raw".to_owned(),
        ..drystone_api::OperatingSystemImage::default()
    });
    let hosts: Vec<HostFacts> = ["a", "b"]
        .map(|name| member(host(name, "edge", ""), "research/mlops", MemberRole::Worker))
        .into_iter()
        .collect();
    let strategy = RolloutStrategy::default();
    let input = PlanInput { sets: &[set], hosts: &hosts, strategy: &strategy, timing: Timing::default() };
    assert_golden("a-kernel-and-an-image", &told(&plan(&input).expect("a plan"), &hosts));
}

#[test]
fn a_hundred_sites_of_ten_are_patched_in_less_than_five_minutes() {
    let hosts: Vec<HostFacts> = (0..1_000)
        .map(|number| host(&format!("h{number:04}"), &format!("s{:02}", number / 10), "1.0"))
        .collect();
    let strategy = RolloutStrategy {
        max_unavailable: Some(IntOrString::String("10%".to_owned())),
        max_unavailable_per_site: Some(IntOrString::Int(1)),
        ..RolloutStrategy::default()
    };
    let began = std::time::Instant::now();
    let plan = made(&hosts, &strategy);
    let expected = forecast(&plan, &control_planes(&hosts), &std::collections::BTreeMap::new());
    println!("planned and forecast in {:?}", began.elapsed());
    // The canary, then ten after each other at every site.
    assert_eq!((expected.seconds, plan.hosts.len()), (275, 1_000));
}
