//! The long-running parts that the program can play, and what they share.

pub(crate) mod agent;
mod api_address;
pub(crate) mod control_plane;
pub(crate) mod emulator;
pub(crate) mod etcd;
mod joining;
mod members;
pub(crate) mod nfs_mount;
pub(crate) mod node;

use std::{future::Future, io::IsTerminal as _};

use tokio_util::sync::CancellationToken;

use crate::command::Failure;

/// Logs go to standard error; `RUST_LOG` overrides the level.
pub(crate) fn start_logging(level: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
    if let Err(error) = started {
        eprintln!("drystone: logging could not be started: {error}");
    }
}

/// Keeps the memory of this process, which has secrets in it, out of core dumps, and from other processes of the same user.
pub(crate) fn protect_memory() {
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        tracing::warn!(%error, "core dumps of this process would have its secrets");
    }
}

/// Makes aws-lc-rs the process's one crypto provider.
pub(crate) fn install_crypto() -> Result<(), Failure> {
    drystone_identity::tls::install_crypto_provider();
    Ok(())
}

/// Runs a command to its end.
pub(crate) fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(Box::pin(command))
}

/// A token that is cancelled at the first SIGINT or SIGTERM.
pub(crate) fn shutdown_on_signal() -> Result<CancellationToken, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let token = CancellationToken::new();
    let trigger = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        trigger.cancel();
    });
    Ok(token)
}
