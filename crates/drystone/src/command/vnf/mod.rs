//! `drystone vnf`: VNF packages without a running Drystone (are they good, pack them, what would a request do), and the way into clusters that
//! are VNFs.

mod kubeconfig;
mod plan;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use drystone_csar::{BuildError, Limits, Package, Problems, build};

use super::Failure;

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct VnfArgs {
    #[command(subcommand)]
    command: VnfCommand,
}

#[derive(Debug, Subcommand)]
enum VnfCommand {
    /// Check a VNF package, and say all that is wrong with it
    Validate {
        /// A CSAR file, or a directory with its content
        path: PathBuf,
        /// Print JSON: a list of problems
        #[arg(long)]
        json: bool,
    },
    /// Pack a directory as a CSAR file, with the hashes of its files
    Package {
        /// The directory
        directory: PathBuf,
        /// Where the CSAR file is written
        #[arg(long, short)]
        output: PathBuf,
    },
    /// Show what a request would do: virtual machines, hooks, and what is asked of the VIM
    Plan(plan::PlanArgs),
    /// Print a kubeconfig for a cluster that is a VNF
    Kubeconfig(kubeconfig::KubeconfigArgs),
}

/// Does it.
pub(crate) async fn run(args: VnfArgs) -> Result<(), Failure> {
    match args.command {
        VnfCommand::Validate { path, json } => validate(&path, json),
        VnfCommand::Package { directory, output } => package(&directory, &output),
        VnfCommand::Plan(args) => plan::run(&args),
        VnfCommand::Kubeconfig(args) => kubeconfig::run(args).await,
    }
}

fn validate(path: &Path, json: bool) -> Result<(), Failure> {
    let opened = Package::open(path, &Limits::default());
    let (problems, good) = match &opened {
        Ok(package) => (package.warnings(), true),
        Err(problems) => (problems, false),
    };
    if json {
        println!("{}", serde_json::to_string_pretty(problems)?);
    } else {
        show(path, problems);
    }
    if !good {
        return Err(refusal(path, problems).into());
    }
    if let (Ok(package), false) = (&opened, json) {
        println!("{}", summary(path, package));
    }
    Ok(())
}

fn package(directory: &Path, output: &Path) -> Result<(), Failure> {
    match build(directory, output, &Limits::default()) {
        Ok(package) => {
            show(directory, package.warnings());
            println!("{}", summary(output, &package));
            Ok(())
        }
        Err(BuildError::Problems(problems)) => {
            show(directory, &problems);
            Err(refusal(directory, &problems).into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Opens a package for something else than to check it.
fn open(path: &Path) -> Result<Package, Failure> {
    Package::open(path, &Limits::default()).map_err(|problems| {
        show(path, &problems);
        refusal(path, &problems).into()
    })
}

/// Prints problems, one a line; in a directory with paths that can be opened from here.
fn show(path: &Path, problems: &Problems) {
    for problem in problems.list() {
        let mut problem = problem.clone();
        if path.is_dir() && !problem.file.is_empty() {
            problem.file = path.join(&problem.file).display().to_string();
        }
        println!("{problem}");
    }
}

fn refusal(path: &Path, problems: &Problems) -> String {
    let errors = problems.errors();
    let word = if errors == 1 { "error" } else { "errors" };
    format!("{}: {errors} {word}; the package would be refused", path.display())
}

fn summary(path: &Path, package: &Package) -> String {
    let vnfd = package.vnfd();
    let flavours: Vec<&str> = vnfd.flavours.keys().map(String::as_str).collect();
    format!(
        "{}: good: {} {} of {} (VNFD {}, version {}), flavours {}",
        path.display(),
        vnfd.product_name,
        vnfd.software_version,
        vnfd.provider,
        vnfd.id,
        vnfd.version,
        flavours.join(", ")
    )
}
