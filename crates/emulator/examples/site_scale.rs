//! How much a large simulated site takes: `cargo run --release -p drystone-emulator --example site_scale -- 10000`.
//!
//! Starts that many hosts, crawls some BMCs, switches all hosts on and off, and prints times and memory.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use drystone_emulator::{Emulator, EmulatorConfig, endpoints::Service};
use drystone_redfish::{
    client::{AuthenticationMode, Client, CrawlOptions, Options},
    types::{ComputerSystem, PowerState},
};
use futures::{StreamExt as _, stream};
use serde_json::json;

/// Requests under way at once.
const CONCURRENCY: usize = 64;
/// BMCs that are crawled.
const CRAWLED: usize = 100;
const SYSTEM: &str = "/redfish/v1/Systems/1";

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let hosts: usize = std::env::args().nth(1).map_or(Ok(1000), |text| text.parse())?;
    let directory = std::env::temp_dir().join(format!("drystone-scale-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let result = measure(hosts, &directory).await;
    std::fs::remove_dir_all(&directory)?;
    result
}

async fn measure(hosts: usize, directory: &std::path::Path) -> Result<(), Failure> {
    let file = directory.join("site.yaml");
    std::fs::write(&file, site(hosts))?;
    let before = resident_mib()?;
    let start = Instant::now();
    let config =
        EmulatorConfig::new(&file, directory.join("state"), SocketAddr::from(([127, 0, 0, 1], 6443)));
    let emulator = Emulator::start(config).await?;
    println!(
        "{hosts} hosts started in {:.2?}, {} MiB more than before",
        start.elapsed(),
        resident_mib()? - before
    );

    let bmcs = &emulator.endpoints().bmcs;
    let start = Instant::now();
    let crawls = bmcs.iter().take(CRAWLED).map(|bmc| async move {
        let options = CrawlOptions::new(["/redfish/v1"]).concurrency(8);
        client(bmc)?.crawl(&options).await.map(|crawl| crawl.resources.len())
    });
    let found: Vec<_> = stream::iter(crawls).buffer_unordered(16).collect().await;
    let resources: usize = found.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().sum();
    println!(
        "{resources} resources of {} BMCs crawled: {:.0} per s",
        bmcs.len().min(CRAWLED),
        per_second(resources, start)
    );

    for (reset, state) in [("On", PowerState::On), ("ForceOff", PowerState::Off)] {
        let start = Instant::now();
        let resets = bmcs.iter().map(|bmc| async move {
            let client = client(bmc)?;
            client
                .action(&format!("{SYSTEM}/Actions/ComputerSystem.Reset"), &json!({"ResetType": reset}))
                .await?;
            while client.get_as::<ComputerSystem>(SYSTEM).await?.value.power_state != Some(state) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok::<(), drystone_redfish::client::RedfishError>(())
        });
        let done: Vec<_> = stream::iter(resets).buffer_unordered(CONCURRENCY).collect().await;
        done.into_iter().collect::<Result<Vec<()>, _>>()?;
        println!("{reset}: {:.0} hosts per s, {} MiB", per_second(hosts, start), resident_mib()?);
    }
    emulator.stop().await?;
    Ok(())
}

fn site(hosts: usize) -> String {
    format!(
        "name: scale\ntiming: {{scale: 0}}\nhosts:\n- {{name: 'h{{nnnnn}}', count: {hosts}, processor: {{cores: 64, sockets: 2}}, \
         memoryMiB: 524288, gpus: [{{model: A100, memoryMiB: 81920, count: 4}}], drives: [{{capacityGiB: 1920, count: 2}}]}}\n"
    )
}

fn client(bmc: &Service) -> Result<Client, drystone_redfish::client::RedfishError> {
    Client::new(
        Options::new(&bmc.url)
            .credentials(&bmc.user, &bmc.password)
            .authentication(AuthenticationMode::Basic),
    )
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn per_second(count: usize, start: Instant) -> f64 {
    count as f64 / start.elapsed().as_secs_f64()
}

fn resident_mib() -> Result<i64, Failure> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: i64 = text.split_whitespace().nth(1).ok_or("no resident size")?.parse()?;
    Ok(pages * 4096 / (1 << 20))
}
