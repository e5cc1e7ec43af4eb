//! Measures the fabric manager's planner over dragonflies of growing size: full routes, routes after a failed link, a change
//! of a 64-endpoint zone, the proof of everything, and memory.
//!
//!     cargo run --release -p drystone-fabric --example fabric_scale -- [--threads 2] [--csv FILE] [--json FILE]
//!
//! Two placements of zones: *near*, as the composer places (hosts one after the other, so that a zone lies in one group), and
//! *far* (dealt at random over the whole fabric; the worst there is). Every zone has two gateways besides its 64 endpoints.

use std::{
    collections::BTreeSet,
    error::Error,
    fmt::Write as _,
    time::{Duration, Instant},
};

use drystone_fabric::{
    model::{EndpointIndex, EndpointSpec, Fabric, FabricBuilder, LinkEnd, Role},
    plan::{
        entry::ReadTables,
        planner::{FabricChange, Planner},
        proof::{Tables, prove_all, prove_zone},
        routes::{Routes, lanes::Lanes, switch_tables::SwitchTables, tree::SpanningTree},
        zone::{ZoneRequest, plan, render},
    },
};
use serde::Serialize;

/// Endpoints of a zone, gateways not counted.
const ZONE: usize = 64;
/// Switches of a group, and endpoints of a switch, as Frontier has them.
const GROUP: u32 = 32;
const ENDPOINTS: u32 = 16;

/// One line of the result; times in milliseconds.
#[derive(Debug, Clone, Default, Serialize)]
struct Line {
    placement: &'static str,
    endpoints: usize,
    switches: u32,
    links: usize,
    zones: usize,
    build: f64,
    distances: f64,
    full_routes: f64,
    lanes: f64,
    lanes_needed: u8,
    reroute_link: f64,
    reroute_switch: f64,
    zone_create: f64,
    zone_create_alone: f64,
    zone_grow: f64,
    zone_shrink: f64,
    zone_render: f64,
    zone_proof: f64,
    link_failure_all_zones: f64,
    zones_moved: usize,
    whole_proof: f64,
    whole_read: f64,
    entries: usize,
    listed: usize,
    fabric_and_routes_mib: f64,
    peak_mib: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let threads = value("--threads").map_or(Ok(2), |text| text.parse())?;
    let sizes = value("--sizes").unwrap_or_else(|| "1000,10000,40000".to_owned());
    let mut lines = Vec::new();
    for size in sizes.split(',') {
        for placement in ["near", "far"] {
            let line = measure(size.parse()?, placement, threads)?;
            println!("{}", show(&line));
            lines.push(line);
        }
    }
    if let Some(file) = value("--json") {
        std::fs::write(file, serde_json::to_vec_pretty(&lines)?)?;
    }
    if let Some(file) = value("--csv") {
        std::fs::write(file, csv(&lines)?)?;
    }
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Runs three times and takes the median.
fn timed<T>(mut work: impl FnMut() -> T) -> (f64, T) {
    let mut times = Vec::new();
    let mut last = None;
    for _ in 0..3 {
        let start = Instant::now();
        let result = work();
        times.push(milliseconds(start.elapsed()));
        last = Some(result);
    }
    times.sort_by(f64::total_cmp);
    let Some(result) = last else { unreachable!("three runs") };
    (times[1], result)
}

/// A dragonfly: groups of fully meshed switches, every pair of groups joined by about as many cables as ports allow.
fn dragonfly(endpoints: u32) -> Fabric {
    let groups = endpoints.div_ceil(GROUP * ENDPOINTS).max(2);
    let mut builder = FabricBuilder::new("hsn", "Ethernet");
    for switch in 0..groups * GROUP {
        builder.switch(&format!("x{:03}s{:02}", switch / GROUP, switch % GROUP), "agent");
    }
    for group in 0..groups {
        for (a, b) in (0..GROUP).flat_map(|a| (a + 1..GROUP).map(move |b| (a, b))) {
            let (pa, pb) = (format!("l{b}"), format!("l{a}"));
            let end = |switch, port| LinkEnd { switch: group * GROUP + switch, port };
            builder.link(end(a, &pa), end(b, &pb), 200, true);
        }
    }
    // 17 ports of each switch lead to other groups, dealt evenly.
    let per_pair = (GROUP * 17 / (groups - 1)).clamp(1, GROUP);
    let mut used = vec![0_u32; groups as usize];
    for (a, b) in (0..groups).flat_map(|a| (a + 1..groups).map(move |b| (a, b))) {
        for _ in 0..per_pair {
            let place = |group: u32, used: &mut Vec<u32>| {
                let number = used[group as usize];
                used[group as usize] += 1;
                (group * GROUP + number % GROUP, format!("g{}", number / GROUP))
            };
            let ((switch_a, port_a), (switch_b, port_b)) = (place(a, &mut used), place(b, &mut used));
            let ends =
                [LinkEnd { switch: switch_a, port: &port_a }, LinkEnd { switch: switch_b, port: &port_b }];
            builder.link(ends[0], ends[1], 200, true);
        }
    }
    for number in 0..endpoints {
        let switch = number / ENDPOINTS;
        builder.endpoint(EndpointSpec {
            id: format!("e{number:05}"),
            mac: format!("02:00:00:{:02x}:{:02x}:{:02x}", number >> 16, number >> 8 & 0xff, number & 0xff),
            switch,
            port: format!("p{}", number % ENDPOINTS),
            // The first of the first and of the last switch are gateways.
            role: if is_gateway(number, endpoints) { Role::Target } else { Role::Both },
            speed_gbps: 200,
        });
    }
    builder.build().0
}

fn is_gateway(number: u32, endpoints: u32) -> bool {
    number == 0 || number == (endpoints - 1) / ENDPOINTS * ENDPOINTS
}

/// All endpoints in zones of 64, each with both gateways.
fn zones(fabric: &Fabric, placement: &str) -> Vec<ZoneRequest> {
    let gateways: BTreeSet<EndpointIndex> =
        fabric.endpoints().filter(|(_, endpoint)| endpoint.is_service()).map(|(index, _)| index).collect();
    let mut hosts: Vec<EndpointIndex> =
        fabric.endpoints().map(|(index, _)| index).filter(|index| !gateways.contains(index)).collect();
    if placement == "far" {
        // The same shuffle every time.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for at in (1..hosts.len()).rev() {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            hosts.swap(at, usize::try_from(state % (at as u64 + 1)).unwrap_or(0));
        }
    }
    (1..)
        .zip(hosts.chunks(ZONE))
        .map(|(tag, members)| ZoneRequest {
            id: format!("ns.z{tag:04}"),
            tag,
            members: members.iter().copied().chain(gateways.iter().copied()).collect(),
            gateways: gateways.clone(),
            ..Default::default()
        })
        .collect()
}

fn measure(endpoints: u32, placement: &'static str, threads: usize) -> Result<Line, Box<dyn Error>> {
    let before = resident_mib("VmRSS")?;
    let (build, fabric) = timed(|| dragonfly(endpoints));
    let (distances, routes) = timed(|| Routes::full(&fabric, threads));
    let (next_hops, tables) = timed(|| SwitchTables::new(&fabric, &routes, threads));
    let mut line = Line {
        placement,
        endpoints: fabric.endpoints().count(),
        switches: fabric.switch_count(),
        links: fabric.link_count() / 2,
        build,
        distances,
        full_routes: distances + next_hops,
        fabric_and_routes_mib: resident_mib("VmRSS")? - before,
        ..Default::default()
    };
    let lanes = Lanes::new(&fabric);
    (line.lanes, line.lanes_needed) = timed(|| lanes.needed(&fabric, &routes));
    reroute(&mut line, &fabric, &routes, &tables);
    drop(tables);
    let requests = zones(&fabric, placement);
    line.zones = requests.len();
    one_zone(&mut line, &fabric, &routes, &requests)?;
    whole(&mut line, fabric, &requests, threads)?;
    line.peak_mib = resident_mib("VmHWM")?;
    Ok(line)
}

/// A link fails, a switch fails: routes and per-switch tables are brought up to date.
fn reroute(line: &mut Line, fabric: &Fabric, routes: &Routes, tables: &SwitchTables) {
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..5 {
        for (kind, times) in times.iter_mut().enumerate() {
            let (mut fabric, mut routes, mut tables) = (fabric.clone(), routes.clone(), tables.clone());
            let switch = (round * 7 + 3) % fabric.switch_count();
            let start = Instant::now();
            let changed = if kind == 0 {
                let link = fabric.link_range(switch).end - 1;
                if fabric.set_link(link, false) { vec![link] } else { Vec::new() }
            } else {
                fabric.set_switch(switch, false)
            };
            let differences = routes.update(&fabric, &changed);
            tables.update(&fabric, &routes, &differences, &changed);
            times.push(milliseconds(start.elapsed()));
        }
    }
    [line.reroute_link, line.reroute_switch] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
}

fn one_zone(
    line: &mut Line,
    fabric: &Fabric,
    routes: &Routes,
    requests: &[ZoneRequest],
) -> Result<(), Box<dyn Error>> {
    let tree = SpanningTree::new(fabric, None);
    let request = &requests[requests.len() / 2];
    let (time, created) = timed(|| plan(fabric, request, Some(routes), &tree));
    let created = created?;
    line.zone_create = time;
    line.zone_create_alone =
        timed(|| plan(fabric, request, None, &SpanningTree::new(fabric, None)).map(drop)).0;
    let mut smaller = request.clone();
    let last = smaller.members.iter().copied().rfind(|index| !smaller.gateways.contains(index));
    last.map(|last| smaller.members.remove(&last));
    let (time, shrunk) = timed(|| {
        let plan = plan(fabric, &smaller, Some(routes), &tree)?;
        let changes = created.difference(&plan).len();
        Ok::<_, drystone_fabric::plan::zone::ZoneError>((plan, changes))
    });
    let (shrunk, _) = shrunk?;
    line.zone_shrink = time;
    line.zone_grow =
        timed(|| plan(fabric, request, Some(routes), &tree).map(|plan| shrunk.difference(&plan).len())).0;
    let (time, tables) = timed(|| {
        let mut tables = Tables::new();
        for entry in &created.entries {
            let table = tables.entry(entry.switch).or_default();
            table.zones.insert(request.id.clone(), render(fabric, request, entry));
        }
        tables
    });
    line.zone_render = time;
    let (time, holds) = timed(|| {
        let mut read = ReadTables::default();
        for (switch, table) in &tables {
            read.add(fabric, *switch, table);
        }
        prove_zone(fabric, request, requests, &read)
    });
    line.zone_proof = time;
    holds.counter_example.map_or(Ok(()), |example| Err(example.into()))
}

fn whole(
    line: &mut Line,
    fabric: Fabric,
    requests: &[ZoneRequest],
    threads: usize,
) -> Result<(), Box<dyn Error>> {
    let mut planner = Planner::new(fabric, threads);
    for request in requests {
        planner.set_zone(request.clone())?;
    }
    let mut read = ReadTables::default();
    for (id, zone) in planner.zones() {
        let plan = zone.plan.as_ref().map_err(Clone::clone)?;
        line.entries += plan.entries.len();
        line.listed += plan.entries.iter().map(|entry| entry.members.len()).sum::<usize>();
        read.zones.insert(id.clone(), plan.entries.clone());
    }
    let (time, proof) = timed(|| prove_all(planner.fabric(), requests, &read, threads));
    line.whole_proof = time;
    proof.counter_example.map_or(Ok(()), |example| Err(Box::<dyn Error>::from(example)))?;
    line.whole_read = read_back(&planner, requests)?;
    let link = planner.fabric().link_range(planner.fabric().switch_count() / 2).end - 1;
    let start = Instant::now();
    line.zones_moved = planner.apply(FabricChange::Link { link, up: false })?.len();
    line.link_failure_all_zones = milliseconds(start.elapsed());
    Ok(())
}

/// Taking in tables by name as switches show them, for a hundredth of the fabric, extrapolated: the tables of a fabric as text
/// would take more memory than everything else.
fn read_back(planner: &Planner, requests: &[ZoneRequest]) -> Result<f64, Box<dyn Error>> {
    let few = requests.len().min(10);
    let mut tables = Tables::new();
    for request in &requests[..few] {
        let plan = planner.zones()[&request.id].plan.as_ref().map_err(Clone::clone)?;
        for entry in &plan.entries {
            let table = tables.entry(entry.switch).or_default();
            table.zones.insert(request.id.clone(), render(planner.fabric(), request, entry));
        }
    }
    let (time, _) = timed(|| {
        let mut read = ReadTables::default();
        for (switch, table) in &tables {
            read.add(planner.fabric(), *switch, table);
        }
        read
    });
    Ok(time / few as f64 * requests.len() as f64)
}

/// A figure of the kernel's about this process, in MiB.
fn resident_mib(what: &str) -> Result<f64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(what)).ok_or("no such figure")?;
    let kib: f64 = line.split_whitespace().nth(1).ok_or("no figure")?.parse()?;
    Ok(kib / 1024.0)
}

fn fields(line: &Line) -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let value = serde_json::to_value(line)?;
    let object = value.as_object().ok_or("a line is an object")?;
    let text = |value: &serde_json::Value| match value.as_f64() {
        Some(number) if value.is_f64() => format!("{number:.2}"),
        _ => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
    };
    Ok(object.iter().map(|(name, value)| (name.clone(), text(value))).collect())
}

fn show(line: &Line) -> String {
    let mut text = String::new();
    for (name, value) in fields(line).unwrap_or_default() {
        let _ = writeln!(text, "{name:>26}  {value}");
    }
    text
}

fn csv(lines: &[Line]) -> Result<String, Box<dyn Error>> {
    let mut text = String::new();
    for line in lines {
        let fields = fields(line)?;
        if text.is_empty() {
            let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
            let _ = writeln!(text, "{}", names.join(","));
        }
        let values: Vec<&str> = fields.iter().map(|(_, value)| value.as_str()).collect();
        let _ = writeln!(text, "{}", values.join(","));
    }
    Ok(text)
}
