//! VNFs from outside, by SOL003 over HTTP: Drystone and, where it is installed, Tacker beside it, on one cloud.
//!
//! The cloud is Drystone's emulated one, whose machines have no body: it answers at once, so that what is measured is the manager. With
//! `--real` it is a Keystone and a Heat, whose own time is measured as well.

mod client;
mod driver;
mod flood;
mod installation;
mod peers;
mod real;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;

use crate::{
    Failure, Setting,
    drystone::Drystone,
    report::{Report, Row},
    statistics::{Sorted, milliseconds},
};
use client::{Cloud, Manager, Operation};
use peers::Tacker;

/// What of it is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Clients at once
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 32])]
    clients: Vec<usize>,
    /// Seconds of each measurement of throughput
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// VNFs that go through their life one after the other
    #[arg(long, default_value_t = 10)]
    lives: usize,
    /// VNF instances that a list is filtered out of
    #[arg(long, default_value_t = 10_000)]
    instances: usize,
    /// Also measure against a real Keystone and Heat
    #[arg(long)]
    real: bool,
    /// Also install Kubernetes on three control planes and so many workers: machines that are namespaces (root)
    #[arg(long, value_name = "WORKERS", num_args = 0..=1, default_missing_value = "10")]
    installation: Option<usize>,
    /// Leave Tacker out
    #[arg(long)]
    alone: bool,
    /// Measure the driver of OpenStack only, not the whole of Drystone
    #[arg(long)]
    driver: bool,
}

/// A site with nothing but a cloud, whose machines have no body.
const SITE: &str = "\
name: vnf
backend: sim
timing: {scale: 0}
cloud:
  listen: 127.0.0.1:PORT
  users: [{name: nfv_user, password: PASSWORD, project: nfv}]
  networks: [{name: net0, cidr: 10.10.0.0/16}]
  images: [{name: measured-image}]
  flavors: [{name: m1.tiny, cores: 1, memoryMiB: 512, diskGiB: 1}]
";

/// Measures all that is asked for.
pub(crate) async fn measure(
    setting: &Setting,
    options: &Options,
    report: &mut Report,
) -> Result<(), Failure> {
    let scratch = setting.scratch()?;
    let port = peers::free_port()?;
    let password = "measured-secret";
    let site = SITE.replace("PORT", &port.to_string()).replace("PASSWORD", password);
    let file = scratch.path().join("site.yaml");
    std::fs::write(&file, site)?;
    let file = file.to_str().ok_or("the directory's name is not UTF-8")?;
    let drystone = Drystone::start(setting, scratch.path(), &["--backend", "sim", "--site", file]).await?;
    let auth_url = format!("http://127.0.0.1:{port}/identity/v3");
    let cloud = Cloud::new(&auth_url, password);
    let tacker = match peers::tacker_environment().filter(|_| !options.alone) {
        Some(environment) => Some(Tacker::start(&environment, scratch.path(), options.instances).await?),
        None => {
            report.say("Tacker is left out; `./dev bench vnf` installs it");
            None
        }
    };
    let measuring = async {
        driver::measure(&auth_url, password, options.lives, report).await?;
        let managers = managers(options, &drystone, tacker.as_ref(), scratch.path()).await?;
        all(options, &managers, &cloud, report).await
    };
    let measured = measuring.await;
    if let Ok(memory) = drystone.memory() {
        report.add(Row { what: "memory".to_owned(), ours: format!("{memory} MiB"), ..Row::default() });
    }
    drystone.stop().await?;
    measured?;
    if let Some(workers) = options.installation {
        installation::measure(setting, workers, report).await?;
    }
    report.print();
    Ok(())
}

/// Those that are measured, with the package on board.
struct Managers {
    ours: Option<Manager>,
    peer: Option<Manager>,
}

async fn managers(
    options: &Options,
    drystone: &Drystone,
    tacker: Option<&Tacker>,
    scratch: &Path,
) -> Result<Managers, Failure> {
    let package = peers::package(scratch)?;
    let mut ours = None;
    if !options.driver {
        ours = Some(Manager::new("Drystone", drystone.client()?, drystone.url.clone()));
    }
    let mut peer = tacker.map(|tacker| Manager::new("Tacker", tacker.client.clone(), tacker.url.clone()));
    for manager in ours.iter_mut().chain(&mut peer) {
        manager.onboard(&package).await?;
    }
    Ok(Managers { ours, peer })
}

async fn all(
    options: &Options,
    managers: &Managers,
    cloud: &Cloud,
    report: &mut Report,
) -> Result<(), Failure> {
    lives(options, managers, cloud, report).await?;
    for clients in &options.clients {
        let rate = async |manager: &Option<Manager>| match manager {
            Some(manager) => flood::rate(manager, cloud, *clients, options.seconds).await,
            None => Ok(String::new()),
        };
        let (ours, peer) = (rate(&managers.ours).await?, rate(&managers.peer).await?);
        let earlier = match clients {
            1 => "1.24/s (Tacker 16)",
            8 => "2.0/s",
            32 => "1.86/s",
            _ => "",
        };
        let what = format!("create and instantiate, clients at once: {clients}");
        report.add(Row { what, ours, peer, earlier });
    }
    lists(options, managers, report).await?;
    if options.real {
        real::measure(managers, report).await?;
    }
    Ok(())
}

/// VNFs one after the other, each through its whole life.
async fn lives(
    options: &Options,
    managers: &Managers,
    cloud: &Cloud,
    report: &mut Report,
) -> Result<(), Failure> {
    let lived = async |manager: &Option<Manager>, count| match manager {
        Some(manager) => live(manager, cloud, count).await,
        None => Ok(Vec::new()),
    };
    let ours = lived(&managers.ours, options.lives).await?;
    let peer = lived(&managers.peer, options.lives.min(5)).await?;
    let earlier = [
        "0.89 to 0.96 s (Tacker 16)",
        "0.91 to 0.96 s",
        "0.95 to 1.03 s",
        "0.64 to 0.84 s",
        "0.34 to 0.58 s",
    ];
    for (number, (operation, earlier)) in Operation::ALL.into_iter().zip(earlier).enumerate() {
        let shown = |took: &[Sorted]| took.get(number).map(latency).unwrap_or_default();
        report.add(Row {
            what: format!("{operation}, from the request until COMPLETED is seen"),
            ours: shown(&ours),
            peer: shown(&peer),
            earlier,
        });
    }
    Ok(())
}

fn latency(took: &Sorted) -> String {
    let (median, p90) = (milliseconds(took.median()), milliseconds(took.percentile(90)));
    format!("p50 {median}, p90 {p90} of {}", took.len())
}

async fn live(manager: &Manager, cloud: &Cloud, count: usize) -> Result<Vec<Sorted>, Failure> {
    let mut took: [Vec<Duration>; 5] = Default::default();
    // The first one opens connections and fills caches.
    for number in 0..=count {
        let instance = manager.create(&format!("life-{number}")).await?;
        for (place, operation) in took.iter_mut().zip(Operation::ALL) {
            let duration = manager.carry_out(&instance, operation, cloud).await?;
            if number > 0 {
                place.push(duration);
            }
        }
        manager.delete(&instance).await?;
    }
    Ok(took.into_iter().map(Sorted::new).collect())
}

/// One instance out of many, by its name.
async fn lists(options: &Options, managers: &Managers, report: &mut Report) -> Result<(), Failure> {
    if let Some(ours) = &managers.ours {
        flood::fill(ours, options.instances).await?;
    }
    let name = format!("measured-{}", options.instances / 2);
    let asked = async |manager: &Option<Manager>| {
        let Some(manager) = manager else { return Ok(String::new()) };
        let mut took = Vec::new();
        for _ in 0..21 {
            took.push(manager.find(&name).await?);
        }
        Ok::<String, Failure>(latency(&Sorted::new(took)))
    };
    let (ours, peer) = (asked(&managers.ours).await?, asked(&managers.peer).await?);
    let what = format!("one of {} instances, by a filter of its name", options.instances);
    report.add(Row { what, ours, peer, earlier: "2.7 ms of 300" });
    Ok(())
}

/// A file below the benchmarks' own.
pub(crate) fn own(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
