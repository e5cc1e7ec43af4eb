//! `drystone-agent`: the agent alone, for the small system on its medium. `drystone agent` is the same.

use std::process::ExitCode;

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("drystone-agent: {error}");
            return ExitCode::FAILURE;
        }
    };
    let Err(error) = runtime.block_on(drystone_agent::linux::start());
    eprintln!("drystone-agent: {error}");
    ExitCode::FAILURE
}
