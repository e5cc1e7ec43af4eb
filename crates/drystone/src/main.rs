//! `drystone`: one program for all of it. The first argument, or the name it is called by, says which part it plays.

mod admission;
mod cli;
mod command;
mod demo;
mod personality;
mod up;

use std::{ffi::OsString, process::ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // Inside an emulated host, before any thread is started.
    if let Some(code) = drystone_emulator::netns::guest::dispatch(arguments.get(1..).unwrap_or_default()) {
        return code;
    }
    let called_as = arguments.first().map(std::path::Path::new).and_then(std::path::Path::file_name);
    match called_as.and_then(std::ffi::OsStr::to_str) {
        // Called by the container runtime for each pod: no logging, no runtime, as little as possible.
        Some("drystone-cni" | "loopback") => drystone_cni::plugin::plugin_main(),
        Some("kubectl-destroy") => cli::run(cli::Cli::destroy()),
        _ => cli::run(cli::Cli::from_arguments()),
    }
}
