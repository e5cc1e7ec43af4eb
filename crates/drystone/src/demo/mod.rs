//! `drystone demo`: the main job, driven as a user would: with the program itself and stock
//! `kubectl`.

mod phases;
mod report;
mod stage;

use std::path::PathBuf;

use clap::Args;

use crate::command::Failure;
use report::Report;
use stage::Stage;

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// From powered-off racks to running pods, and back
    Main,
    /// A composite application over two clusters
    App,
}

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// What is shown: the main job, or a composite application over two clusters
    #[arg(value_enum, default_value_t = Part::Main)]
    part: Part,
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

/// Runs all phases; what was started is stopped even when a phase fails.
pub(crate) async fn run(args: DemoArgs) -> Result<(), Failure> {
    let mut report = Report::start();
    let mut stage = Stage::prepare(&args)?;
    let outcome = match args.part {
        Part::Main => phases::all(&mut stage, &mut report).await,
        Part::App => phases::applications(&mut stage, &mut report).await,
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
