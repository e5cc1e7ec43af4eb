//! `drystone ops`: operations and their progress.

use std::{collections::HashMap, io::IsTerminal as _, pin::pin, time::Duration};

use clap::{Args, Subcommand};
use drystone_api::Operation;
use drystone_engine::{
    operations::{cancel, follow},
    reference::ObjectKey,
    view::{ProgressLine, duration, progress_lines, render_table},
};
use futures::StreamExt as _;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use jiff::Timestamp;
use kube::{Api, Client, ResourceExt as _, api::ListParams};

use super::{Failure, client, split_key};
use crate::cli::Access;

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct OpsArgs {
    #[command(subcommand)]
    command: Option<OpsCommand>,
    #[command(flatten)]
    access: Access,
}

#[derive(Debug, Subcommand)]
enum OpsCommand {
    /// Draw the progress of an operation, or of the latest one, until it ends
    Watch {
        /// NAMESPACE/NAME; the latest operation unless given
        operation: Option<String>,
    },
    /// Ask an operation to end early
    Cancel {
        /// NAMESPACE/NAME
        operation: String,
    },
}

/// Lists, watches or cancels.
pub(crate) async fn run(args: OpsArgs) -> Result<(), Failure> {
    let client = client(&args.access).await?;
    match args.command {
        None => {
            let all = Api::<Operation>::all(client).list(&ListParams::default()).await?;
            print!("{}", render_table(&all.items, Timestamp::now()));
            Ok(())
        }
        Some(OpsCommand::Cancel { operation }) => {
            let (namespace, name) = split_key(&operation, None);
            cancel(client, &ObjectKey::new(namespace, name)).await?;
            Ok(())
        }
        Some(OpsCommand::Watch { operation }) => {
            let key = match operation {
                Some(text) => {
                    let (namespace, name) = split_key(&text, None);
                    ObjectKey::new(namespace, name)
                }
                None => latest(&client).await?,
            };
            watch(client, &key).await
        }
    }
}

async fn latest(client: &Client) -> Result<ObjectKey, Failure> {
    let all = Api::<Operation>::all(client.clone()).list(&ListParams::default()).await?;
    let newest =
        all.items.into_iter().max_by_key(|operation| operation.creation_timestamp().map(|time| time.0));
    let newest = newest.ok_or("there are no operations")?;
    Ok(ObjectKey::of(&newest))
}

/// Draws until the operation ends: bars on a terminal, lines elsewhere.
async fn watch(client: Client, key: &ObjectKey) -> Result<(), Failure> {
    let mut drawing: Box<dyn Drawing> =
        if std::io::stderr().is_terminal() { Box::new(Bars::default()) } else { Box::new(Lines::default()) };
    let mut states = pin!(follow(client, key));
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    let mut current: Option<Operation> = None;
    loop {
        tokio::select! {
            state = states.next() => match state {
                Some(Some(operation)) => current = Some(operation),
                _ => return Err(format!("operation {key} does not exist").into()),
            },
            _ = tick.tick() => {}
        }
        let Some(operation) = &current else { continue };
        let lines = progress_lines(operation, Timestamp::now());
        drawing.draw(&lines);
        if let Some(whole) = lines.first().filter(|line| line.ended) {
            let succeeded = whole.state == "Succeeded";
            return if succeeded {
                Ok(())
            } else {
                Err(format!("{}: {}", whole.state, whole.message).into())
            };
        }
    }
}

/// Shows progress.
trait Drawing {
    fn draw(&mut self, lines: &[ProgressLine]);
}

/// One bar per step.
#[derive(Default)]
struct Bars {
    all: MultiProgress,
    bars: HashMap<String, ProgressBar>,
}

impl Drawing for Bars {
    fn draw(&mut self, lines: &[ProgressLine]) {
        for line in lines {
            let bar = self.bars.entry(line.id.clone()).or_insert_with(|| {
                let bar = self.all.add(ProgressBar::new(100));
                if let Ok(style) = ProgressStyle::with_template("{prefix:42!} {bar:24} {msg}") {
                    bar.set_style(style);
                }
                bar.set_prefix(line.title.clone());
                bar
            });
            bar.set_position(if line.ended { 100 } else { u64::from(line.percent) });
            let time = line.elapsed_seconds.map(duration).unwrap_or_default();
            let rest = line
                .remaining_seconds
                .map(|rest| format!(", about {} left", duration(rest)))
                .unwrap_or_default();
            bar.set_message(format!("{} {time}{rest} {}", line.state, line.message));
            if line.ended && !bar.is_finished() {
                bar.abandon();
            }
        }
    }
}

/// One line whenever a step changes its state.
#[derive(Default)]
struct Lines {
    states: HashMap<String, String>,
}

impl Drawing for Lines {
    fn draw(&mut self, lines: &[ProgressLine]) {
        for line in lines {
            let before = self.states.insert(line.id.clone(), line.state.clone());
            if before.as_ref() != Some(&line.state) && line.state != "Waiting" {
                let time = line.elapsed_seconds.map(duration).unwrap_or_default();
                eprintln!("{:<48} {:<10} {time} {}", line.title, line.state, line.message);
            }
        }
    }
}
