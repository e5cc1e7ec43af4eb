//! The part of `drystone` that runs inside emulated hosts, alone: what this crate's tests boot their hosts with.
//!
//! Beside the hidden subcommands it serves as a tiny workload: `emulated-host serve PORT TEXT` answers every connection
//! with TEXT.

use std::{ffi::OsString, io::Write, net::TcpListener, process::ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(code) = drystone_emulator::netns::guest::dispatch(&arguments) {
        return code;
    }
    let words: Vec<&str> = arguments.iter().filter_map(|argument| argument.to_str()).collect();
    match words.as_slice() {
        ["serve", port, text] => match serve(port, text) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("serve {port}: {error}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("usage: emulated-host serve PORT TEXT");
            ExitCode::from(2)
        }
    }
}

fn serve(port: &str, text: &str) -> std::io::Result<()> {
    let port = port.parse().map_err(std::io::Error::other)?;
    for connection in TcpListener::bind(("0.0.0.0", port))?.incoming() {
        // A client that goes away early misses its answer.
        let _ = connection?.write_all(text.as_bytes());
    }
    Ok(())
}
