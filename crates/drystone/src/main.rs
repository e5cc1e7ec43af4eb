//! `drystone`: one program for all of it. The first argument, or the name it is called by, says which part it plays.

mod cli;
mod command;
mod demo;
mod personality;
mod up;

use std::process::ExitCode;

fn main() -> ExitCode {
    let called_as = std::env::args_os().next().map(std::path::PathBuf::from);
    let name = called_as.as_deref().and_then(std::path::Path::file_name).and_then(std::ffi::OsStr::to_str);
    match name {
        // Called by the container runtime: no logging, no runtime, as little as possible.
        Some("drystone-cni") => drystone_cni::plugin::plugin_main(),
        Some("kubectl-destroy") => cli::run(cli::Cli::destroy()),
        _ => cli::run(cli::Cli::from_arguments()),
    }
}
