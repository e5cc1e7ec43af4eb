//! How fast large emulated fabrics are crawled: `cargo run --release -p drystone-emulator --example crawl -- [1k] [10k] [200k]`.
//!
//! The emulator runs in a process of its own, as it does behind Drystone. For every size: how long it takes to start and its
//! memory; a crawl by pages, a crawl one by one (not of the largest), a crawl again of what is known; single reads. The last
//! line of every size is JSON.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    process::{Child, Command},
    time::{Duration, Instant},
};

use drystone_emulator::{
    EmulatorConfig,
    endpoints::{self, Service},
};
use drystone_redfish::client::{AuthenticationMode, Client, CrawlOptions, Found, Options, RawResource};
use serde_json::json;

type Failure = Box<dyn std::error::Error>;

/// Name, groups, switches of a group, ports and endpoints of a switch.
const SIZES: [(&str, u32, u32, u32, u32); 3] =
    [("1k", 6, 6, 24, 6), ("10k", 16, 16, 36, 8), ("200k", 74, 32, 64, 16)];
const FABRIC: &str = "/redfish/v1/Fabrics/HSN";
/// Objects that are read one after the other.
const SINGLE: usize = 2000;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new()?;
    if let [word, directory] = arguments.as_slice()
        && word == "serve"
    {
        let directory = Path::new(directory);
        let controller = SocketAddr::from(([127, 0, 0, 1], 6443));
        let config = EmulatorConfig::new(directory.join("site.yaml"), directory.join("state"), controller);
        return Ok(runtime.block_on(drystone_emulator::run_until_signal(config))?);
    }
    for size in SIZES {
        if arguments.is_empty() || arguments.iter().any(|name| name == size.0) {
            let directory =
                std::env::temp_dir().join(format!("drystone-crawl-{}-{}", std::process::id(), size.0));
            std::fs::create_dir_all(&directory)?;
            let measured = measure(&runtime, size, &directory);
            std::fs::remove_dir_all(&directory)?;
            measured?;
        }
    }
    Ok(())
}

fn measure(
    runtime: &tokio::runtime::Runtime,
    size: (&str, u32, u32, u32, u32),
    directory: &Path,
) -> Result<(), Failure> {
    let (name, groups, switches, ports, endpoints) = size;
    let site = format!(
        "name: crawl\nfabrics:\n- id: HSN\n  services: agent\n  bareEndpoints: all\n  topology: {{kind: dragonfly, groups: {groups}, \
         switchesPerGroup: {switches}, portsPerSwitch: {ports}, endpointsPerSwitch: {endpoints}, speedGbps: 200}}\n"
    );
    std::fs::write(directory.join("site.yaml"), site)?;
    let start = Instant::now();
    let mut child = Command::new(std::env::current_exe()?).arg("serve").arg(directory).spawn()?;
    let result = wait_for(&mut child, directory).and_then(|service| {
        let started = start.elapsed();
        println!("{name}: started in {started:.2?}, {} MiB", resident_mib(child.id())?);
        runtime.block_on(crawls(name, &service, child.id(), started))
    });
    child.kill()?;
    child.wait()?;
    result
}

fn wait_for(child: &mut Child, directory: &Path) -> Result<Service, Failure> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Err(format!("the emulator ended: {status}").into());
        }
        if let Some(found) =
            endpoints::read(&directory.join("state"))?.filter(|found| found.pid == child.id())
        {
            return found.fabric_services.into_iter().next().ok_or_else(|| "no fabric service".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

async fn crawls(name: &str, service: &Service, pid: u32, started: Duration) -> Result<(), Failure> {
    let options = Options::new(&service.url)
        .credentials(&service.user, &service.password)
        .authentication(AuthenticationMode::Basic);
    let client = Client::new(options)?;
    let crawl = CrawlOptions::new([FABRIC]).within(FABRIC);
    let (objects, paged) = by_pages(&client, &crawl, pid).await?;
    let mut known: BTreeMap<String, RawResource> = BTreeMap::new();
    let mut keep = |found| {
        if let Found::Read(resource) = found {
            known.insert(resource.uri.clone(), resource);
        }
    };
    client.crawl_raw(&crawl, &(), &mut keep).await?;
    let start = Instant::now();
    let again = client.recrawl(&crawl, &known).await?;
    let recrawled = start.elapsed();
    println!(
        "  again: {} unchanged, {} changed in {recrawled:.2?}: {:.0} per s",
        again.report.unchanged,
        again.changed.len(),
        per_second(again.report.unchanged, recrawled)
    );
    let mut single = None;
    if objects < 50_000 {
        let start = Instant::now();
        let report = client.crawl_raw(&crawl.clone().expand(false), &(), &mut |_| {}).await?;
        let rate = per_second(report.read, start.elapsed());
        single = Some(rate.round());
        println!("  one by one: {} objects in {:.2?}: {rate:.0} per s", report.read, start.elapsed());
    }
    let (latency, service_each) = single_reads(&client, &known, pid).await?;
    let zones = zones(&client, &known).await?;
    let line = json!({"size": name, "objects": objects, "startSeconds": started.as_secs_f64(), "residentMiB": resident_mib(pid)?,
        "pagedPerSecond": per_second(objects, paged).round(), "singlePerSecond": single,
        "recrawlSeconds": recrawled.as_secs_f64(), "getMicroseconds": latency.as_secs_f64() * 1e6,
        "getServiceMicroseconds": service_each, "zonePostP50Ms": zones.0, "zonePostP99Ms": zones.1});
    println!("{line}");
    Ok(())
}

/// A crawl by pages: objects, and how long it took.
async fn by_pages(client: &Client, crawl: &CrawlOptions, pid: u32) -> Result<(usize, Duration), Failure> {
    let (mut bytes, mut objects) = (0, 0);
    let mut count = |found| {
        if let Found::Read(resource) = found {
            bytes += resource.body.len();
            objects += 1;
        }
    };
    let (start, before) = (Instant::now(), cpu_seconds(pid)?);
    let report = client.crawl_raw(crawl, &(), &mut count).await?;
    let (took, service) = (start.elapsed(), cpu_seconds(pid)? - before);
    if let Some((uri, error)) = report.failed.first_key_value() {
        return Err(format!("{} links failed, {uri}: {error}", report.failed.len()).into());
    }
    println!(
        "  by pages: {objects} objects, {} MiB in {took:.2?} with {} requests: {:.0} per s; {:.1} µs of the service each",
        bytes >> 20,
        report.requests,
        per_second(objects, took),
        service * 1e6 / to_f64(objects)
    );
    Ok((objects, took))
}

/// Reads of ports and endpoints one after the other: how long one takes, and how much of it is processor time of the service.
async fn single_reads(
    client: &Client,
    known: &BTreeMap<String, RawResource>,
    pid: u32,
) -> Result<(Duration, f64), Failure> {
    let step = (known.len() / SINGLE).max(1);
    let wanted = |uri: &&String| uri.contains("/Ports/") || uri.contains("/Endpoints/");
    let uris: Vec<&String> = known.keys().filter(wanted).step_by(step).collect();
    let (start, before) = (Instant::now(), cpu_seconds(pid)?);
    for uri in &uris {
        client.get(uri).await?;
    }
    let latency = start.elapsed() / u32::try_from(uris.len())?;
    let service = (cpu_seconds(pid)? - before) * 1e6 / to_f64(uris.len());
    println!("  a GET of an object: {latency:.1?}, of which {service:.0} µs of the service's processor time");
    Ok((latency, service))
}

/// Puts all endpoints into zones of 64, one POST each: median and 99th percentile in milliseconds.
async fn zones(client: &Client, known: &BTreeMap<String, RawResource>) -> Result<(f64, f64), Failure> {
    let endpoints: Vec<_> =
        known.keys().filter(|uri| uri.contains("/Endpoints/")).map(|uri| json!({"@odata.id": uri})).collect();
    let mut took = Vec::new();
    for (number, members) in endpoints.chunks(64).enumerate() {
        let zone = json!({"Id": format!("z{number}"), "Name": "measured", "Links": {"Endpoints": members}});
        let start = Instant::now();
        client.create(&format!("{FABRIC}/Zones"), &zone).await?;
        took.push(start.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    let at =
        |percent: usize| took.get(took.len() * percent / 100).or(took.last()).copied().unwrap_or_default();
    println!("  {} zones of 64 endpoints: p50 {:.1} ms, p99 {:.1} ms a POST", took.len(), at(50), at(99));
    Ok((at(50), at(99)))
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
const fn to_f64(count: usize) -> f64 {
    count as f64
}

fn per_second(count: usize, took: Duration) -> f64 {
    to_f64(count) / took.as_secs_f64()
}

fn resident_mib(pid: u32) -> Result<u64, Failure> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages: u64 = text.split_whitespace().nth(1).ok_or("no resident size")?.parse()?;
    Ok(pages * 4096 / (1 << 20))
}

/// Processor time of a process, user and system.
fn cpu_seconds(pid: u32) -> Result<f64, Failure> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks =
        |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok()).ok_or("no processor time");
    // Clock ticks of a hundredth of a second, as on all Linux machines.
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}
