//! A composite application on many clusters: applied, ready, followed, resumed, removed; beside a loop of `kubectl apply`.
//!
//! The clusters are simulated in a process of their own: real HTTP on the loopback interface, a delay before each answer, nothing behind it. So what
//! is measured is who carries the objects there. The application is of the size of kube-prometheus-stack: 144 objects, 3 MB. Synchroniser and store
//! run in a process of their own as well, whose memory and processor time are told.

mod carrier;
mod chart;
mod kubectl;
mod plot;

use std::{path::PathBuf, process::Stdio, time::Duration};

use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::{
    Failure, Setting,
    report::{Report, Row},
};

pub(crate) use carrier::inside as carry;

/// What of it is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Numbers of clusters
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100, 1000])]
    clusters: Vec<usize>,
    /// Milliseconds that each cluster takes to answer
    #[arg(long, default_value_t = 50)]
    delay: u64,
    /// Leave `kubectl` out above so many clusters
    #[arg(long, default_value_t = 10)]
    kubectl_up_to: usize,
    /// `kubectl` processes at a time
    #[arg(long, default_value_t = 8)]
    kubectl_at_once: usize,
    /// The `kubectl` to compare with
    #[arg(long, default_value = "kubectl")]
    kubectl: PathBuf,
    /// Also write a plot into this file
    #[arg(long)]
    plot: Option<PathBuf>,
}

/// Options of the process that carries.
#[derive(Debug, Args)]
pub(crate) struct CarryOptions {
    /// Where the clusters are: `http://127.0.0.1:PORT/c`, before their number
    #[arg(long)]
    base: String,
    /// How many
    #[arg(long)]
    clusters: usize,
    /// Where the store is
    #[arg(long)]
    directory: PathBuf,
}

/// Options of the process with the clusters.
#[derive(Debug, Args)]
pub(crate) struct SimulateOptions {
    /// How many
    #[arg(long)]
    clusters: usize,
    /// Milliseconds that each takes to answer
    #[arg(long)]
    delay: u64,
}

/// What was measured with a number of clusters; times in seconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) clusters: usize,
    pub(crate) resources: usize,
    /// Writing the context into the store.
    pub(crate) created: f64,
    /// From the order until everything is applied and that is durable.
    pub(crate) installed: f64,
    /// From the order until everything is known to be ready.
    pub(crate) ready: f64,
    /// Processor time of that.
    pub(crate) processor: f64,
    /// Calls of the store until then, from the order on.
    pub(crate) trips: u64,
    /// From a new start until everything is known to be ready again.
    pub(crate) resumed: f64,
    /// A picture of all parts, from memory.
    pub(crate) view: f64,
    /// The context, read from the store.
    pub(crate) load: f64,
    /// From the order until everything is gone.
    pub(crate) removed: f64,
    /// Resident memory before anything is done, when all is ready, and at most, in MiB.
    pub(crate) memory: [u64; 3],
}

/// Allows as many open files as may be had: each cluster is a connection.
pub(crate) fn many_files() -> Result<(), Failure> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most.min(1 << 20), most)?)
}

/// Runs simulated clusters until the standard input ends.
pub(crate) async fn simulate(options: &SimulateOptions) -> Result<(), Failure> {
    many_files()?;
    let delay = Duration::from_millis(options.delay);
    let settings = drystone_simulated_clusters::Options { delay, log: false };
    let simulation = drystone_simulated_clusters::Simulation::start(options.clusters, &settings).await?;
    println!("{}", simulation.url(0).trim_end_matches('0'));
    while tokio::task::spawn_blocking(|| std::io::stdin().lines().next()).await?.transpose()?.is_some() {
        let written: u64 = simulation.clusters().iter().map(|cluster| cluster.counts().writes).sum();
        println!("{written}");
    }
    Ok(())
}

/// The process with the clusters.
struct Clusters {
    child: Child,
    base: String,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Clusters {
    async fn start(count: usize, delay: u64) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["simulated-clusters", "--clusters", &count.to_string(), "--delay", &delay.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut answers = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let base = answers.next_line().await?.ok_or("the clusters did not start")?;
        Ok(Self { child, base, answers })
    }

    /// How many objects were applied or created so far, on all of them.
    async fn writes(&mut self) -> Result<u64, Failure> {
        let input = self.child.stdin.as_mut().ok_or("no input")?;
        input.write_all(b"\n").await?;
        Ok(self.answers.next_line().await?.ok_or("the clusters have ended")?.parse()?)
    }

    async fn stop(mut self) -> Result<(), Failure> {
        self.child.kill().await?;
        Ok(())
    }
}

/// Measures it.
pub(crate) async fn measure(
    setting: &Setting,
    options: &Options,
    report: &mut Report,
) -> Result<(), Failure> {
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for count in &options.clusters {
        let peer = if *count <= options.kubectl_up_to {
            let clusters = Clusters::start(*count, options.delay).await?;
            let took = kubectl::apply(setting, options, &clusters.base, *count).await;
            clusters.stop().await?;
            match took {
                Ok(took) => Some(took),
                Err(error) => {
                    report.say(&format!("kubectl is left out: {error}"));
                    None
                }
            }
        } else {
            None
        };
        let mut clusters = Clusters::start(*count, options.delay).await?;
        let measured = carried(setting, &clusters.base, *count).await;
        let writes = clusters.writes().await;
        clusters.stop().await?;
        let measured = measured?;
        tell(report, &measured, writes?, peer);
        theirs.extend(peer.map(|peer| (*count, peer.as_secs_f64())));
        ours.push(measured);
    }
    if let Some(file) = &options.plot {
        std::fs::write(file, plot::draw(&ours, &theirs, options.delay))?;
    }
    report.print();
    Ok(())
}

/// Measures the carrier in a process of its own.
async fn carried(setting: &Setting, base: &str, count: usize) -> Result<Measured, Failure> {
    let scratch = setting.scratch()?;
    let output = Command::new(std::env::current_exe()?)
        .args(["carry-application", "--base", base, "--clusters", &count.to_string(), "--directory"])
        .arg(scratch.path())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await?;
    if !output.status.success() {
        return Err(format!("the carrier ended with {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn tell(report: &mut Report, measured: &Measured, writes: u64, peer: Option<Duration>) {
    let Measured { clusters, resources, installed, ready, processor, trips, .. } = measured;
    let what = |of: &str| format!("application of 144 objects, 3 MB, on {clusters} clusters: {of}");
    let seconds = |value: f64| format!("{value:.2} s");
    let peer = peer.map(|took| format!("kubectl apply, in parallel: {}", seconds(took.as_secs_f64())));
    report.add(Row {
        what: what("applied"),
        ours: format!("{}; processor {}", seconds(*installed), seconds(*processor)),
        peer: peer.unwrap_or_default(),
        ..Row::default()
    });
    let per_resource = f64::from(u32::try_from(*trips).unwrap_or(u32::MAX))
        / f64::from(u32::try_from((*resources).max(1)).unwrap_or(u32::MAX));
    let again = writes.saturating_sub(*resources as u64);
    for (of, ours) in [
        ("known to be ready", seconds(*ready)),
        ("calls of the store per resource", format!("{per_resource:.4} ({trips})")),
        ("context written", seconds(measured.created)),
        (
            "ready again after a restart",
            format!("{}; {again} objects applied again", seconds(measured.resumed)),
        ),
        ("status of all, from memory", format!("{:.1} ms", measured.view * 1000.0)),
        ("context read", seconds(measured.load)),
        ("removed", seconds(measured.removed)),
        (
            "memory at the start, when ready, at most",
            format!("{} / {} / {} MiB", measured.memory[0], measured.memory[1], measured.memory[2]),
        ),
    ] {
        report.add(Row { what: what(of), ours, ..Row::default() });
    }
}
