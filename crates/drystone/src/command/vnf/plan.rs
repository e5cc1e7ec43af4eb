//! `drystone vnf plan`.

use std::path::PathBuf;

use clap::Args;
use comfy_table::{Table, presets::NOTHING};
use drystone_csar::preview::{Before, Preview, preview};
use serde_json::Value;

use super::{Failure, open};

/// Arguments.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// A CSAR file, or a directory with its content
    path: PathBuf,
    /// The request: body of a POST to `instantiate` or `scale`
    #[arg(long)]
    request: PathBuf,
    /// To scale: the flavour of the instance
    #[arg(long)]
    flavour: Option<String>,
    /// To scale: the level at which the instance is; the default one unless given
    #[arg(long)]
    level: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &PlanArgs) -> Result<(), Failure> {
    let package = open(&args.path)?;
    let at = |error: &dyn std::fmt::Display| format!("{}: {error}", args.request.display());
    let text = std::fs::read_to_string(&args.request).map_err(|error| at(&error))?;
    let request: Value = serde_json::from_str(&text).map_err(|error| at(&error))?;
    let before = Before { flavour: args.flavour.clone(), level: args.level.clone() };
    let look = preview(&package, &request, &before).map_err(|error| at(&error))?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&look)?);
    } else {
        print!("{}", render(&look));
    }
    if look.unknown.is_empty() {
        return Ok(());
    }
    Err(format!("{}: {} of its names do not fit the package", args.request.display(), look.unknown.len())
        .into())
}

fn render(look: &Preview) -> String {
    let mut text = format!("{} of the flavour {}\n", look.operation, look.flavour);
    for (aspect, level) in &look.scale {
        text.push_str(&format!("aspect {aspect}: level {level}\n"));
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["VDU", "BEFORE", "AFTER", "FLAVOR", "IMAGE"]);
    for (vdu, machines) in &look.machines {
        let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "-".to_owned());
        let (before, after) = (machines.before.to_string(), machines.after.to_string());
        table.add_row([vdu.clone(), before, after, name(&machines.flavor), name(&machines.image)]);
    }
    text.push_str(&format!("\n{table}\n\n"));
    for hook in &look.hooks {
        text.push_str(&format!("hook {}: {}\n", hook.name, hook.hook.file));
    }
    text.push_str(&format!("user data: {}\n", look.user_data_class));
    match &look.stack_request {
        Some(request) => {
            let parameters = serde_json::to_string_pretty(&request.parameters).unwrap_or_default();
            let files: Vec<&str> = request.files.keys().map(String::as_str).collect();
            let template = match (&request.template, request.existing) {
                (None, _) => "as it is".to_owned(),
                (Some(change), true) => format!("changed by {change}"),
                (Some(template), false) => format!("{} bytes", template.len()),
            };
            let files = if files.is_empty() { "none".to_owned() } else { files.join(", ") };
            text.push_str(&format!(
                "stack parameters: {parameters}\nstack template: {template}\nstack files: {files}\n"
            ));
        }
        None => text.push_str("stack: none\n"),
    }
    for unknown in &look.unknown {
        text.push_str(&format!("does not fit: {unknown}\n"));
    }
    text
}
