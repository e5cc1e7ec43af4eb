//! The fabric manager from outside: loading a large fabric, reading its tree, and zones through Drystone's Redfish service and
//! an emulated agent into the switches' tables.

mod load;

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::{
    Failure, Setting,
    drystone::{Drystone, get, is_ready, wait_until},
    statistics::Sorted,
};

/// Name, groups, switches of a group, ports and endpoints of a switch.
const SIZES: [(&str, u32, u32, u32, u32); 3] =
    [("1k", 8, 8, 32, 16), ("10k", 20, 32, 64, 16), ("40k", 79, 32, 64, 16)];
const FABRIC: &str = "/redfish/v1/Fabrics/HSN";
/// Members of a small zone, and of the one that is changed.
const SMALL: usize = 8;
const LARGE: usize = 64;
/// Zones that are made before any is measured: connections are open then, and tables known.
const WARM: usize = 20;

/// What of it is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Sizes of the fabric: 1k, 10k, 40k endpoints
    #[arg(default_values = ["1k", "10k"])]
    sizes: Vec<String>,
    /// Zones that are made one after the other, and as many again 8 at a time
    #[arg(long, default_value_t = 200)]
    zones: usize,
    /// Seconds of each measurement of reads
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Also append the lines of JSON to this file
    #[arg(long)]
    lines: Option<PathBuf>,
}

/// Measures all sizes that are asked for.
pub(crate) async fn measure(setting: &Setting, options: &Options) -> Result<(), Failure> {
    let mut lines: Vec<BTreeMap<&'static str, Value>> = Vec::new();
    for name in &options.sizes {
        let size = SIZES.into_iter().find(|size| size.0 == name).ok_or_else(|| {
            format!("there is no size {name}; sizes are {}", SIZES.map(|size| size.0).join(", "))
        })?;
        let line = one_size(setting, options, size).await?;
        let text = serde_json::to_string(&line)?;
        println!("{text}");
        if let Some(file) = &options.lines {
            use std::io::Write as _;
            writeln!(std::fs::File::options().create(true).append(true).open(file)?, "{text}")?;
        }
        lines.push(line);
    }
    let mut table = Table::new();
    let mut head = vec![String::new()];
    head.extend(options.sizes.iter().cloned());
    table.load_style(UTF8_FULL_CONDENSED).set_header(head);
    for key in lines.first().into_iter().flat_map(BTreeMap::keys) {
        let mut row = vec![(*key).to_owned()];
        row.extend(lines.iter().map(|line| line.get(key).map(ToString::to_string).unwrap_or_default()));
        table.add_row(row);
    }
    println!("{table}");
    Ok(())
}

/// A Drystone with one fabric, and how to ask it.
struct Site {
    drystone: Drystone,
    http: SocketAddr,
    token: String,
    client: Client,
    endpoints: Vec<String>,
}

async fn one_size(
    setting: &Setting,
    options: &Options,
    size: (&'static str, u32, u32, u32, u32),
) -> Result<BTreeMap<&'static str, Value>, Failure> {
    let (name, groups, switches, ports, endpoints) = size;
    let scratch = setting.scratch()?;
    let data = scratch.path();
    let text = format!(
        "name: bench\ntiming: {{scale: 0}}\nfabrics:\n- id: HSN\n  services: agent\n  bareEndpoints: all\n  topology: {{kind: dragonfly, \
         groups: {groups}, switchesPerGroup: {switches}, portsPerSwitch: {ports}, endpointsPerSwitch: {endpoints}, speedGbps: 200}}\n"
    );
    let mut line = BTreeMap::from([
        ("size", json!(name)),
        ("switches", json!(groups * switches)),
        ("load", json!(std::fs::read_to_string("/proc/loadavg")?.split(' ').next())),
        ("program", json!(setting.program.to_string_lossy())),
    ]);
    let expected = (groups * switches * endpoints) as usize;
    let site = load_site(setting, data, &text, expected, &mut line).await?;
    let measured = figures(&site, options, data, &mut line).await;
    if measured.is_err() {
        let log = std::fs::read_to_string(data.join("drystone.log")).unwrap_or_default();
        eprintln!("{}", log.lines().rev().take(20).collect::<Vec<_>>().join("\n"));
    }
    site.drystone.stop().await?;
    measured?;
    Ok(line)
}

/// Starts everything and waits until the tree shows the whole fabric.
async fn load_site(
    setting: &Setting,
    data: &Path,
    text: &str,
    expected: usize,
    line: &mut BTreeMap<&'static str, Value>,
) -> Result<Site, Failure> {
    let file = data.join("site.yaml");
    std::fs::write(&file, text)?;
    let http = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let (file, port) = (file.to_string_lossy().into_owned(), http.to_string());
    let began = Instant::now();
    let arguments = ["--backend", "sim", "--site", &file, "--http", &port, "--http-trust-loopback"];
    let drystone = Drystone::start(setting, data, &arguments).await?;
    line.insert("startSeconds", seconds(began.elapsed()));
    let api = drystone.client()?;
    let agents = format!("{}/apis/drystone.dev/v1alpha1/fabricagents", drystone.url);
    let find = async |ready: bool| {
        let list = get(&api, &agents).await?.unwrap_or_default();
        let agent = list["items"].as_array().and_then(|items| items.first().cloned());
        Ok(agent.filter(|agent| !ready || is_ready(agent)))
    };
    wait_until("the fabric agent", async || find(false).await).await?;
    let began = Instant::now();
    let agent = wait_until("the crawl", async || find(true).await).await?;
    let took = began.elapsed();
    let objects = agent["status"]["resourceCount"].as_f64().unwrap_or_default();
    line.insert("objects", json!(objects));
    line.insert("crawlSeconds", seconds(took));
    line.insert("objectsPerSecond", json!((objects / took.as_secs_f64()).round()));
    let client = Client::builder().no_proxy().build()?;
    let password = std::fs::read_to_string(data.join("admin-password"))?;
    let login = json!({"UserName": "admin", "Password": password.trim()});
    let url = format!("http://{http}/redfish/v1/SessionService/Sessions");
    let answer = client.post(url).json(&login).send().await?.error_for_status()?;
    let token = answer.headers().get("X-Auth-Token").ok_or("no token")?.to_str()?.to_owned();
    let mut site = Site { drystone, http, token, client, endpoints: Vec::new() };
    let shown = async || {
        let list = site.ask("GET", &format!("{FABRIC}/Endpoints"), None).await?.1;
        Ok((list["Members@odata.count"].as_u64() == u64::try_from(expected).ok()).then_some(()))
    };
    wait_until("the tree", shown).await?;
    line.insert("shownSeconds", seconds(began.elapsed()));
    site.endpoints = site.all_endpoints().await?;
    line.insert("endpoints", json!(site.endpoints.len()));
    Ok(site)
}

async fn figures(
    site: &Site,
    options: &Options,
    data: &Path,
    line: &mut BTreeMap<&'static str, Value>,
) -> Result<(), Failure> {
    tokio::time::sleep(Duration::from_secs(2)).await;
    line.insert("residentMiB", json!(site.drystone.memory()?));
    line.insert("emulatorMiB", json!(emulator_memory(data)?));
    let endpoint = site.endpoints.first().ok_or("no endpoints")?.clone();
    let length = Duration::from_secs(options.seconds);
    for (key, uri) in [("getsPerSecond", endpoint), ("pagesPerSecond", format!("{FABRIC}/Endpoints?$top=50"))]
    {
        let (address, token) = (site.http, site.token.clone());
        let rate = tokio::task::spawn_blocking(move || load::gets(address, &token, &uri, length)).await??;
        line.insert(key, json!(rate.round()));
    }
    zones(site, options, line).await?;
    line.insert("residentAfterMiB", json!(site.drystone.memory()?));
    Ok(())
}

/// Zones made one after the other and 8 at a time, one changed, and all deleted.
async fn zones(
    site: &Site,
    options: &Options,
    line: &mut BTreeMap<&'static str, Value>,
) -> Result<(), Failure> {
    let mut free = site.endpoints.chunks(SMALL).filter(|chunk| chunk.len() == SMALL);
    let fit = (site.endpoints.len() - 2 * LARGE) / SMALL;
    let count = options.zones.min(fit.saturating_sub(WARM) / 2);
    let mut made = 0;
    let mut next = |number: usize| -> Vec<(String, Vec<String>)> {
        let chunks = free.by_ref().take(number);
        let zones = chunks.map(|members| {
            made += 1;
            (format!("z{made}"), members.to_vec())
        });
        zones.collect()
    };
    for (id, members) in next(WARM) {
        site.create(&id, &members).await?;
    }
    let mut took = Vec::new();
    let alone = next(count);
    for (id, members) in &alone {
        took.push(site.create(id, members).await?);
    }
    put(line, ["postP50Ms", "postP99Ms", "postMaxMs"], took);
    let together = next(count);
    let mut took = Vec::new();
    let began = Instant::now();
    for batch in together.chunks(8) {
        let all = batch.iter().map(|(id, members)| site.create(id, members));
        took.extend(futures::future::try_join_all(all).await?);
    }
    let rate = f64::from(u32::try_from(together.len())?) / began.elapsed().as_secs_f64();
    line.insert("postsPerSecond8", json!(rate.round()));
    put(line, ["post8P50Ms", "post8P99Ms", "post8MaxMs"], took);
    let last: Vec<String> = site.endpoints.iter().rev().take(LARGE + 1).cloned().collect();
    site.create("large", &last[..LARGE]).await?;
    let mut took = Vec::new();
    for turn in 0..40 {
        // One member goes and another comes.
        let members = if turn % 2 == 0 { &last[1..] } else { &last[..LARGE] };
        took.push(site.change("large", members).await?);
    }
    put(line, ["patch64P50Ms", "patch64P99Ms", "patch64MaxMs"], took);
    let mut took = Vec::new();
    for (id, _) in alone.iter().chain(&together) {
        let began = Instant::now();
        let (status, body) = site.ask("DELETE", &format!("{FABRIC}/Zones/{id}"), None).await?;
        if status != StatusCode::NO_CONTENT {
            return Err(format!("DELETE of {id}: {status}: {body}").into());
        }
        took.push(began.elapsed());
    }
    put(line, ["deleteP50Ms", "deleteP99Ms", "deleteMaxMs"], took);
    Ok(())
}

impl Site {
    /// Asks the Redfish service.
    async fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), Failure> {
        let url = format!("http://{}{path}", self.http);
        let mut request = self.client.request(method.parse()?, url).header("X-Auth-Token", &self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let (status, bytes) = (answer.status(), answer.bytes().await?);
        Ok((status, serde_json::from_slice(&bytes).unwrap_or_default()))
    }

    async fn all_endpoints(&self) -> Result<Vec<String>, Failure> {
        let mut uris = Vec::new();
        let mut next = Some(format!("{FABRIC}/Endpoints"));
        while let Some(page) = next {
            let (_, body) = self.ask("GET", &page, None).await?;
            let members = body["Members"].as_array().into_iter().flatten();
            uris.extend(members.filter_map(|link| Some(link["@odata.id"].as_str()?.to_owned())));
            next = body["Members@odata.nextLink"].as_str().map(str::to_owned);
        }
        Ok(uris)
    }

    /// Makes a zone; how long that took.
    async fn create(&self, id: &str, members: &[String]) -> Result<Duration, Failure> {
        let body = json!({"Id": id, "Name": "measured", "Links": {"Endpoints": links(members)}});
        let began = Instant::now();
        let (status, answer) = self.ask("POST", &format!("{FABRIC}/Zones"), Some(&body)).await?;
        if status == StatusCode::CREATED {
            Ok(began.elapsed())
        } else {
            Err(format!("POST of {id}: {status}: {answer}").into())
        }
    }

    /// Gives a zone other members; how long that took.
    async fn change(&self, id: &str, members: &[String]) -> Result<Duration, Failure> {
        let body = json!({"Links": {"Endpoints": links(members)}});
        let began = Instant::now();
        let (status, answer) = self.ask("PATCH", &format!("{FABRIC}/Zones/{id}"), Some(&body)).await?;
        if status == StatusCode::OK {
            Ok(began.elapsed())
        } else {
            Err(format!("PATCH of {id}: {status}: {answer}").into())
        }
    }
}

fn links(members: &[String]) -> Vec<Value> {
    members.iter().map(|uri| json!({"@odata.id": uri})).collect()
}

fn put(line: &mut BTreeMap<&'static str, Value>, keys: [&'static str; 3], took: Vec<Duration>) {
    let sorted = Sorted::new(took);
    for (key, percent) in keys.into_iter().zip([50, 99, 100]) {
        let milliseconds = sorted.percentile(percent).as_secs_f64() * 1e3;
        line.insert(key, json!((milliseconds * 100.0).round() / 100.0));
    }
}

fn seconds(duration: Duration) -> Value {
    json!((duration.as_secs_f64() * 1000.0).round() / 1000.0)
}

/// Memory of the emulator of the only site, in MiB.
fn emulator_memory(data: &Path) -> Result<u64, Failure> {
    let text = std::fs::read_to_string(data.join("sites/bench/endpoints.json"))?;
    let pid = serde_json::from_str::<Value>(&text)?["pid"].as_u64().ok_or("the emulator has no pid")?;
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages: u64 = text.split_whitespace().nth(1).ok_or("no resident size")?.parse()?;
    Ok(pages * 4096 / (1 << 20))
}
