//! Measures Drystone, beside its peers where they are installed. Called by `./dev bench`.
//!
//! Everything is measured from outside, on the program as users run it: requests over HTTPS, a kubeconfig, a CNI plugin called
//! as a container runtime calls it. Figures of one run belong together; those of two machines, or of a machine that is
//! busy, do not compare.

mod api_server;
mod applications;
mod clusters;
mod cni;
mod drystone;
mod fabric;
mod fleet;
mod hosts;
mod plot;
mod pods;
mod report;
mod sites;
mod statistics;
mod vnf;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand, ValueEnum};

use report::Report;

/// Why something could not be measured.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The API server: creates, a long list, memory
    Api,
    /// A site from its list of hosts to installed hosts
    Sites,
    /// A hundred sites of ten servers: enrolled, installed, patched; only if it is asked for
    Fleet,
    /// A cluster from declaration to ready nodes (needs root)
    Clusters,
    /// Pods from creation to readiness (needs root)
    Pods,
    /// The CNI plugin beside Debian's bridge and host-local (needs root)
    Cni,
}

/// Measures Drystone.
#[derive(Debug, Parser)]
#[command(name = "drystone-bench", version, max_term_width = 110)]
struct Cli {
    /// Measure these only (repeatable)
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Less of everything: to see that it works
    #[arg(long)]
    quick: bool,
    /// Also write the table into this Markdown file, between the marks `<!-- results -->` and `<!-- end of results -->` if it has them
    #[arg(long)]
    record: Option<PathBuf>,
    /// The program to measure; the one beside this program unless given
    #[arg(long)]
    program: Option<PathBuf>,
    /// Where data are kept meanwhile: on a disk, for a file system in memory makes durability free
    #[arg(long, default_value = "target")]
    directory: PathBuf,
    #[command(subcommand)]
    inside: Option<Inside>,
}

/// What has a command of its own; and what this program does when it calls itself.
#[derive(Debug, Subcommand)]
enum Inside {
    /// Measure the fabric manager: loading a fabric, reads, zones
    Fabric(fabric::Options),
    /// Measure VNF life cycle management by SOL003, beside Tacker
    Vnf(vnf::Options),
    /// Measure composite applications on many clusters, beside `kubectl apply`
    Applications(applications::Options),
    /// Draw figures that were kept in a table
    Plot(plot::Options),
    /// Carry an application to clusters, and say how long it took
    #[command(hide = true)]
    CarryApplication(applications::CarryOptions),
    /// Be many clusters
    #[command(hide = true)]
    SimulatedClusters(applications::SimulateOptions),
    /// Call CNI plugins in this network namespace
    #[command(hide = true)]
    CniNode {
        /// The program to measure
        #[arg(long)]
        program: PathBuf,
        /// How often
        #[arg(long)]
        count: usize,
    },
}

/// What all measurements need to know.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The program to measure.
    pub(crate) program: PathBuf,
    /// Where data are kept.
    pub(crate) directory: PathBuf,
    /// Less of everything.
    pub(crate) quick: bool,
}

impl Setting {
    /// The usual number, or the small one if it is to be quick.
    pub(crate) fn usually(&self, usual: usize, quick: usize) -> usize {
        if self.quick { quick } else { usual }
    }

    /// A directory for one measurement.
    pub(crate) fn scratch(&self) -> Result<tempfile::TempDir, Failure> {
        std::fs::create_dir_all(&self.directory)?;
        Ok(tempfile::Builder::new().prefix("bench-").tempdir_in(&self.directory)?)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    drystone_identity::tls::install_crypto_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(Box::pin(run(cli))),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("drystone-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    if let Some(Inside::CniNode { program, count }) = &cli.inside {
        return cni::inside(program, *count).await;
    }
    match &cli.inside {
        Some(Inside::Plot(options)) => return plot::from_table(options),
        Some(Inside::CarryApplication(options)) => return applications::carry(options).await,
        Some(Inside::SimulatedClusters(options)) => return applications::simulate(options).await,
        _ => {}
    }
    if let Some(Inside::Applications(options)) = &cli.inside {
        // It measures parts of the program, not the program: that need not be there.
        let directory = std::path::absolute(&cli.directory)?;
        let setting = Setting { program: PathBuf::new(), directory, quick: cli.quick };
        let mut report = Report::start(&setting.directory)?;
        applications::measure(&setting, options, &mut report).await?;
        return cli.record.as_deref().map_or(Ok(()), |file| report.record(file));
    }
    let beside = std::env::current_exe()?.with_file_name("drystone");
    let program = std::path::absolute(cli.program.unwrap_or(beside))?;
    if !program.is_file() {
        return Err(format!("there is no {}; `./dev bench` builds it", program.display()).into());
    }
    let setting = Setting { program, directory: std::path::absolute(&cli.directory)?, quick: cli.quick };
    let mut report = Report::start(&setting.directory)?;
    if let Some(Inside::Fabric(options)) = &cli.inside {
        return fabric::measure(&setting, options).await;
    }
    if let Some(Inside::Vnf(options)) = &cli.inside {
        return vnf::measure(&setting, options, &mut report).await;
    }
    let wanted = |part: Part| cli.only.is_empty() || cli.only.contains(&part);
    if wanted(Part::Api) {
        api_server::measure(&setting, &mut report).await?;
    }
    if wanted(Part::Sites) {
        sites::measure(&setting, &mut report).await?;
    }
    if cli.only.contains(&Part::Fleet) {
        fleet::measure(&setting, &mut report).await?;
    }
    let missing = why_no_hosts();
    match &missing {
        None => {
            if wanted(Part::Cni) {
                cni::measure(&setting, &mut report).await?;
            }
            if wanted(Part::Clusters) {
                clusters::measure(&setting, &mut report).await?;
            }
            if wanted(Part::Pods) {
                pods::measure(&setting, &mut report).await?;
            }
        }
        Some(reason) => report.say(&format!("clusters, pods and CNI are left out: {reason}")),
    }
    report.print();
    if let Some(file) = &cli.record {
        report.record(file)?;
    }
    Ok(())
}

/// Why hosts cannot be namespaces of this machine.
fn why_no_hosts() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("they need root".to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has = |program: &str| std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    let missing =
        ["containerd", "ip", "nft", "conntrack", "unshare"].into_iter().find(|program| !has(program));
    if let Some(program) = missing {
        return Some(format!("{program} is not installed"));
    }
    let image = Path::new(drystone::IMAGES);
    (!image.is_file()).then(|| format!("there is no {}; `./dev bench` makes it", image.display()))
}
