//! How long a choice takes: 64 hosts out of 1,000, 10,000 and 40,000 on a dragonfly of up to 2,400 switches, with its whole
//! explanation. Prints a table, and with `--csv FILE` writes the figures there.
//!
//! `cargo run --release -p drystone-composer --example composition_scale -- [--csv FILE] [--rounds N] [HOSTS …]`

use std::{fmt::Write as _, sync::Arc, time::Instant};

use drystone_api::{
    Accelerator, AcceleratorRequirement, AcceleratorType, BareMetalHost, BareMetalHostSpec, BlockNic,
    BlockPool, CompositionGroup, CompositionSpec, Drive, FailureDomain, HostRequirement, Limits,
    NetworkRequirement, ObjectReference, Purpose, ResourceBlock, ResourceBlockSpec, ResourceBlockStatus,
    SITE_LABEL, SpreadRequirement,
    quantity::{Bandwidth, Memory},
};
use drystone_composer::{
    model::{Distances, Host, Snapshot},
    plan::{Choice, Request, compose},
    snapshot::{Observed, assemble},
    topology::SwitchNode,
};

/// Switches of a group of the dragonfly.
const GROUP: usize = 32;

/// Links of each switch to other groups.
const GLOBAL: usize = 16;

/// Hosts of a switch.
const DOWN: usize = 16;

fn dragonfly(switches: usize) -> Vec<SwitchNode> {
    let groups = switches.div_ceil(GROUP);
    let peers = |at: usize| {
        let (group, place) = (at / GROUP, at % GROUP);
        let local = (0..GROUP).filter(move |other| *other != place).map(move |other| group * GROUP + other);
        let global = (0..GLOBAL).map(move |link| {
            let step = 1 + (place * GLOBAL + link) % groups.max(2).saturating_sub(1);
            ((group + step) % groups) * GROUP + place
        });
        local.chain(global).filter(move |peer| *peer < switches && *peer != at)
    };
    (0..switches)
        .map(|at| SwitchNode {
            fabric: "HSN".into(),
            id: format!("s{at:05}"),
            peers: peers(at).map(|peer| format!("s{peer:05}")).collect(),
            macs: Vec::new(),
        })
        .collect()
}

fn hosts(count: usize, switches: usize) -> Vec<Host> {
    let host = |at: usize| {
        // A cheap mixture that repeats only after a long time.
        let mix = (at * 2_654_435_761) >> 7;
        let switch = at / DOWN % switches;
        let gpus = [0, 4, 4, 8][mix % 4];
        let claimed = mix.is_multiple_of(7);
        let consumer = claimed.then(|| ObjectReference {
            kind: "Composition".into(),
            namespace: "other".into(),
            name: format!("c{}", mix % 23),
            ..Default::default()
        });
        let model = if mix.is_multiple_of(3) { "NVIDIA-H100" } else { "NVIDIA-A100-80GB-PCIe" };
        Host {
            name: format!("host-{at:05}"),
            namespace: "drystone-system".into(),
            site: "hall".into(),
            pool: match mix % 11 {
                _ if claimed => BlockPool::Active,
                0 => BlockPool::Failed,
                1 | 2 => BlockPool::Online,
                _ => BlockPool::Free,
            },
            maintenance: mix.is_multiple_of(97),
            consumer,
            cores: [32, 64, 64, 128][mix / 4 % 4],
            memory: Memory::from_mebibytes([256 << 10, 512 << 10, 1024 << 10][mix / 16 % 3]),
            accelerators: (gpus > 0)
                .then(|| Accelerator {
                    kind: AcceleratorType::GPU,
                    model: model.into(),
                    memory: None,
                    count: gpus,
                })
                .into_iter()
                .collect(),
            storage: Memory(4 << 40),
            drives: vec![Drive { name: "d0".into(), capacity: Memory(4 << 40), media: "NVMe".into() }],
            bandwidth_gbps: [100, 200][mix / 64 % 2],
            chassis: format!("chassis-{:04}", at / 8),
            rack: format!("rack-{:03}", at / 64),
            watts: 400 + 50 * u32::try_from(mix % 30).unwrap_or(0),
            idle_watts: 150,
            powered_on: matches!(mix % 11, 1 | 2),
            switches: vec![u32::try_from(switch).unwrap_or(0)],
            ..Default::default()
        }
    };
    (0..count).map(host).collect()
}

fn group(name: &str, count: u32, cores: u32) -> CompositionGroup {
    let host =
        HostRequirement { cores, memory: Some(Memory::from_mebibytes(256 << 10)), ..Default::default() };
    CompositionGroup { name: name.into(), count, host, ..Default::default() }
}

fn trainers(count: u32) -> CompositionGroup {
    let mut group = group("train", count, 64);
    group.host.accelerators = vec![AcceleratorRequirement {
        model: Some("A100".into()),
        count: 4,
        ..AcceleratorRequirement::default()
    }];
    group.host.network =
        Some(NetworkRequirement { min_bandwidth: Some(Bandwidth::from_gigabits(100)), max_hops: None });
    group
}

/// Requests by name.
fn requests() -> Vec<(&'static str, CompositionSpec)> {
    let ml = CompositionSpec {
        purpose: Purpose::MLOps,
        groups: vec![group("control-plane", 3, 16), trainers(61)],
        ..Default::default()
    };
    let mut spread = ml.clone();
    spread.groups[1].spread = Some(SpreadRequirement { by: FailureDomain::Chassis, max_per_domain: 1 });
    let mut near = ml.clone();
    near.groups[1].count = 61;
    near.groups[1].host.network.get_or_insert_default().max_hops = Some(2);
    let limited = CompositionSpec {
        limits: Some(Limits { max_watts: Some(50_000), max_hops: Some(4), ..Default::default() }),
        ..ml.clone()
    };
    let mut impossible = ml.clone();
    impossible.groups[1].host.memory = Some(Memory::from_mebibytes(3 << 20));
    vec![
        ("64 hosts for machine learning", ml),
        ("one host per chassis", spread),
        ("at most 2 switches apart", near),
        ("within 50 kW", limited),
        ("impossible, with relaxation", impossible),
    ]
}

/// The resources that hosts are read from.
fn observed(hosts: &[Host]) -> Observed {
    let pair = |host: &Host| {
        let mut object = BareMetalHost::new(&host.name, BareMetalHostSpec::default());
        object.metadata.namespace = Some(host.namespace.clone());
        object.metadata.labels = Some([(SITE_LABEL.to_owned(), host.site.clone())].into());
        object.spec.consumer_ref.clone_from(&host.consumer);
        let spec = ResourceBlockSpec { host: Some(host.name.clone()), ..Default::default() };
        let mut block = ResourceBlock::new(&host.name, spec);
        block.metadata.namespace = Some(host.namespace.clone());
        let nic = BlockNic { name: "hsn0".into(), mac: host.name.clone(), speed_gbps: host.bandwidth_gbps };
        block.status = Some(ResourceBlockStatus {
            pool: host.pool,
            cores: host.cores,
            memory: host.memory,
            accelerators: host.accelerators.clone(),
            drives: host.drives.clone(),
            nics: vec![nic],
            chassis: host.chassis.clone(),
            busy_watts: Some(host.watts),
            ..Default::default()
        });
        (Arc::new(object), Arc::new(block))
    };
    let (hosts, blocks) = hosts.iter().map(pair).unzip();
    Observed { hosts, blocks, ..Default::default() }
}

fn outcome(choice: &Choice) -> String {
    match &choice.members {
        Some(members) => format!("{} hosts, {} assignments", members.len(), choice.explanation.evaluated),
        None if choice.explanation.relaxation.is_empty() => "infeasible".to_owned(),
        None => format!("infeasible; {}", choice.explanation.relaxation),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut csv, mut rounds, mut sizes) = (None, 5_usize, Vec::<usize>::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--csv" => csv = arguments.next(),
            "--rounds" => rounds = arguments.next().unwrap_or_default().parse()?,
            hosts => sizes.push(hosts.parse()?),
        }
    }
    if sizes.is_empty() {
        sizes = vec![1_000, 10_000, 40_000];
    }
    let mut table = String::from("hosts,switches,request,first_ms,median_ms,worst_ms,outcome\n");
    println!(
        "{:>6} {:>8}  {:<30} {:>9} {:>9} {:>9}  outcome",
        "hosts", "switches", "request", "first ms", "median ms", "worst ms"
    );
    for count in sizes {
        let switches = count.div_ceil(DOWN).clamp(GROUP, 2_400);
        let nodes = dragonfly(switches);
        let distances = Arc::new(Distances::new(nodes.clone()));
        let snapshot = Snapshot::new(hosts(count, switches), distances);
        let resources = observed(&snapshot.hosts);
        let mut times: Vec<f64> = Vec::new();
        for _ in 0..rounds.max(1) {
            let begin = Instant::now();
            let assembled = assemble(&resources, snapshot.distances.clone());
            times.push(begin.elapsed().as_secs_f64() * 1000.0);
            assert_eq!(assembled.hosts.len(), count);
        }
        times.sort_by(f64::total_cmp);
        let (name, median, worst) =
            ("snapshot from resources", times[times.len() / 2], times[times.len() - 1]);
        println!("{count:>6} {switches:>8}  {name:<30} {:>9} {median:>9.1} {worst:>9.1}", "");
        writeln!(table, "{count},{switches},\"{name}\",,{median:.2},{worst:.2},")?;
        for (name, spec) in requests() {
            let owner =
                ObjectReference { kind: "Composition".into(), name: "ml".into(), ..Default::default() };
            let request = Request::new(owner, &spec, &[]);
            // The first time, no distance is known.
            let mut cold = snapshot.clone();
            cold.distances = Arc::new(Distances::new(nodes.clone()));
            let begin = Instant::now();
            let mut choice = compose(&request, &cold);
            let first = begin.elapsed().as_secs_f64() * 1000.0;
            let mut times: Vec<f64> = Vec::new();
            for _ in 0..rounds.max(1) {
                let begin = Instant::now();
                choice = compose(&request, &snapshot);
                times.push(begin.elapsed().as_secs_f64() * 1000.0);
            }
            times.sort_by(f64::total_cmp);
            let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
            let outcome = outcome(&choice);
            println!(
                "{count:>6} {switches:>8}  {name:<30} {first:>9.1} {median:>9.1} {worst:>9.1}  {outcome}"
            );
            writeln!(table, "{count},{switches},\"{name}\",{first:.2},{median:.2},{worst:.2},\"{outcome}\"")?;
        }
    }
    if let Some(path) = csv {
        std::fs::write(path, table)?;
    }
    Ok(())
}
