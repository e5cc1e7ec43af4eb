//! `drystone compose preview -f FILE`: what a Cluster or Composition would get, and why, without reserving anything.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use drystone_api::{Cluster, Composition, CompositionSpec};

use super::{Failure, client, explain::render};
use crate::cli::Access;

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct ComposeArgs {
    #[command(subcommand)]
    command: ComposeCommand,
    #[command(flatten)]
    access: Access,
}

#[derive(Debug, Subcommand)]
enum ComposeCommand {
    /// Show what a file's Cluster or Composition would get
    Preview {
        /// File with a Cluster or a Composition
        #[arg(short, long = "filename")]
        filename: PathBuf,
    },
}

/// Previews.
pub(crate) async fn run(args: ComposeArgs) -> Result<(), Failure> {
    let ComposeCommand::Preview { filename } = &args.command;
    let text = std::fs::read_to_string(filename)
        .map_err(|error| format!("reading {}: {error}", filename.display()))?;
    let requests = requests(&text).map_err(|error| format!("{}: {error}", filename.display()))?;
    if requests.is_empty() {
        return Err(format!("{}: has no Cluster and no Composition", filename.display()).into());
    }
    let client = client(&args.access).await?;
    for (name, spec) in requests {
        print!("{}", render(&drystone_composer::preview(&client, &name, &spec).await?));
    }
    Ok(())
}

/// Name and composition of every Cluster and Composition in a YAML stream.
fn requests(text: &str) -> Result<Vec<(String, CompositionSpec)>, String> {
    let mut requests = Vec::new();
    for (index, document) in super::destroy::documents(text).iter().enumerate() {
        let at = |error: &dyn std::fmt::Display| format!("document {}: {error}", index + 1);
        let value: serde_json::Value = serde_saphyr::from_str(document).map_err(|error| at(&error))?;
        match value.get("kind").and_then(serde_json::Value::as_str) {
            Some("Cluster") => {
                let cluster: Cluster = serde_json::from_value(value).map_err(|error| at(&error))?;
                drystone_cluster::model::validate(&cluster.spec, &[]).map_err(|error| at(&error))?;
                let spec = drystone_cluster::model::composition(
                    &cluster.spec,
                    &Default::default(),
                    &Default::default(),
                );
                requests.push((cluster.metadata.name.unwrap_or_default(), spec));
            }
            Some("Composition") => {
                let composition: Composition = serde_json::from_value(value).map_err(|error| at(&error))?;
                requests.push((composition.metadata.name.unwrap_or_default(), composition.spec));
            }
            _ => {}
        }
    }
    Ok(requests)
}

#[cfg(test)]
mod tests {
    use super::requests;

    #[test]
    fn the_example_is_understood() {
        let text = include_str!("../../../../examples/mlops/cluster.yaml");
        let found = requests(text).expect("valid");
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0.as_str(), found[0].1.groups.len()), ("mlops", 2));
    }

    #[test]
    fn mistakes_name_the_document() {
        let wrong = "kind: Cluster\nspec: {workers: [{name: a, host: {memory: 64Qi}}]}\n";
        let error = requests(wrong).expect_err("64Qi is no amount");
        assert!(error.starts_with("document 1:") && error.contains("64Qi"), "{error}");
    }
}
