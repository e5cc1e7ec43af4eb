//! `drystone demo`: the main job, driven as a user would: with the program itself and stock
//! `kubectl`; `drystone demo vnf`: a Kubernetes cluster that is a VNF, over the SOL003 service; `drystone demo app`: a composite
//! application over two clusters, over EMCO's REST service.

mod phases;
mod report;
mod sol003;
mod stage;

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::command::Failure;
use report::Report;
use stage::Stage;

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// What is shown
    #[arg(value_enum, default_value = "rack")]
    play: Play,
    /// Leave everything running at the end
    #[arg(long)]
    keep: bool,
    /// Where to keep data; a temporary directory unless given
    #[arg(long)]
    data: Option<PathBuf>,
    /// Directory with the examples
    #[arg(long, default_value = "examples")]
    examples: PathBuf,
    /// Image archive for the pods (made by `drystone image`)
    #[arg(long, default_value = "target/images/hello.tar")]
    images: PathBuf,
    /// Simulate hosts although real ones are possible
    #[arg(long)]
    simulate: bool,
}

/// What can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Play {
    /// From powered-off racks to running pods
    Rack,
    /// A Kubernetes cluster with persistent storage as a VNF, healed without loss
    Vnf,
    /// A composite application over two clusters, with an update and a roll-back
    App,
}

impl Play {
    /// The example site on which it plays.
    fn site(self) -> &'static str {
        match self {
            Self::Rack | Self::App => "sites/rack.yaml",
            Self::Vnf => "sites/cloud.yaml",
        }
    }
}

/// Runs all phases; what was started is stopped even when a phase fails.
pub(crate) async fn run(args: DemoArgs) -> Result<(), Failure> {
    let mut report = Report::start();
    let mut stage = Stage::prepare(&args)?;
    let outcome = match args.play {
        Play::Rack => phases::all(&mut stage, &mut report).await,
        Play::Vnf => phases::vnf::all(&mut stage, &mut report).await,
        Play::App => phases::applications(&mut stage, &mut report).await,
    };
    if args.keep && outcome.is_ok() {
        report.print();
        println!("\n{}", stage.how_to_go_on());
        stage.leave_running();
        return Ok(());
    }
    if outcome.is_err() {
        stage.show_logs();
    }
    let left = stage.tear_down().await;
    report.note("Nothing left", &left);
    report.print();
    outcome?;
    if left.is_empty() { Ok(()) } else { Err(format!("left behind: {}", left.join(", ")).into()) }
}
