//! One global controller over many sites, each with an API server of its own, all in this process: how long delivery takes.
//!
//! `cargo run --release -p drystone-sites --example delivery_scale -- SITES HOSTS`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code)]

#[path = "../tests/it/world.rs"]
mod world;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use drystone_api::DELIVER_TO_ANNOTATION;
use drystone_sites::global::GlobalConfig;
use futures::StreamExt as _;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::json;
use world::{Cable, Cables, Global, Server, declare, host};

/// Waits until the Secret `name` has `value` at a site: told by a watch, so that waiting costs nothing.
async fn arrives(site: &Server, name: &str, value: &str) {
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut changes =
        watcher::watcher(site.all::<Secret>(), only).default_backoff().applied_objects().boxed();
    while let Some(change) = changes.next().await {
        let Ok(secret) = change else { continue };
        if secret
            .data
            .as_ref()
            .and_then(|data| data.get("value"))
            .is_some_and(|found| found.0 == value.as_bytes())
        {
            return;
        }
    }
}

async fn all_arrive<'a>(
    sites: impl Iterator<Item = &'a Server>,
    name: &str,
    value: &str,
) -> (Duration, Duration) {
    let begun = Instant::now();
    let each = sites.map(|site| async move {
        arrives(site, name, value).await;
        begun.elapsed()
    });
    let mut times: Vec<Duration> = futures::future::join_all(each).await;
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() - 1])
}

/// A Secret for every site.
async fn put(global: &Server, name: &str, value: &str) {
    let mut secret =
        Secret { data: Some([("value".to_owned(), ByteString(value.into()))].into()), ..Secret::default() };
    secret.metadata.name = Some(name.to_owned());
    secret.metadata.annotations = Some([(DELIVER_TO_ANNOTATION.to_owned(), "*".to_owned())].into());
    let params = PatchParams::apply("scale").force();
    global.all::<Secret>().patch(name, &params, &Patch::Apply(&secret)).await.unwrap();
}

fn resident_mebibytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn say(what: &str, (half, all): (Duration, Duration)) {
    println!(
        "{what:<58} half {:>8.0} ms   all {:>8.0} ms",
        half.as_secs_f64() * 1e3,
        all.as_secs_f64() * 1e3
    );
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let number = |at: usize, default: usize| {
        std::env::args().nth(at).and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (count, hosts) = (number(1, 100), number(2, 10));
    let (global, cables) = (Server::start().await, Cables::default());
    let mut sites = Vec::new();
    for index in 0..count {
        let (name, server) = (format!("site-{index:04}"), Server::start().await);
        cables.plug(&name, &server);
        let list: Vec<String> = (0..hosts).map(|host| format!("s{index:04}-h{host:02}")).collect();
        for host in &list {
            global.secret(&format!("{host}-bmc"), "password", &[]).await;
        }
        declare(&global, &name, json!({"bmcs": list.iter().map(|name| host(name)).collect::<Vec<_>>()}))
            .await;
        sites.push((name, server));
    }
    println!(
        "{count} sites of {hosts} hosts, {} objects for each; {} MiB before",
        hosts + 2,
        resident_mebibytes()
    );
    put(&global, "fleet", "1").await;
    let config = || GlobalConfig { dial: Arc::new(cables.clone()), ..GlobalConfig::default() };
    let leader = Global::start_with(&global, config());
    let everybody = || sites.iter().map(|(_, server)| server);
    say("first delivery of everything", all_arrive(everybody(), "fleet", "1").await);
    let complete = Instant::now();
    for (index, (_, server)) in sites.iter().enumerate() {
        arrives(server, &format!("s{index:04}-h{:02}-bmc", hosts - 1), "password").await;
    }
    println!(
        "  the last object of the last site {:.0} ms later; {} MiB",
        complete.elapsed().as_secs_f64() * 1e3,
        resident_mebibytes()
    );
    tokio::time::sleep(Duration::from_secs(3)).await;
    put(&global, "fleet", "2").await;
    say("one change for all sites", all_arrive(everybody(), "fleet", "2").await);
    let mut single = Vec::new();
    for (index, (_, server)) in sites.iter().enumerate().take(100) {
        let name = format!("s{index:04}-h00-bmc");
        let begun = Instant::now();
        global.secret(&name, "rotated", &[]).await;
        arrives(server, &name, "rotated").await;
        single.push(begun.elapsed());
    }
    single.sort_unstable();
    say("a change for one site (p50, largest)", (single[single.len() / 2], single[single.len() - 1]));
    let silent = count / 10;
    for (name, _) in sites.iter().take(silent) {
        cables.set(name, Cable::Silent);
    }
    put(&global, "fleet", "3").await;
    say(
        &format!("the same with {silent} sites silent, the others"),
        all_arrive(everybody().skip(silent), "fleet", "3").await,
    );
    leader.kill().await;
    put(&global, "fleet", "4").await;
    for (name, _) in sites.iter().take(silent) {
        cables.set(name, Cable::Whole);
    }
    let _second = Global::start_with(&global, config());
    say("another replica takes over; all sites have the latest", all_arrive(everybody(), "fleet", "4").await);
    println!("{} MiB in all", resident_mebibytes());
}
