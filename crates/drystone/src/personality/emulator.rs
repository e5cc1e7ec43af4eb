//! `drystone emulator`: an emulated site, a process of its own: hardware stays up when the control plane dies.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, ValueEnum};
use drystone_emulator::{EmulatorConfig, run_until_signal, site::BackendKind};

use crate::command::Failure;

/// What gives hosts a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// State only
    Sim,
    /// Network, mount and PID namespaces of this machine; needs root
    Netns,
    /// Virtual machines under software emulation, which really boot; needs qemu-system-x86
    Qemu,
}

impl Backend {
    /// As the command line has it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Sim => "sim",
            Self::Netns => "netns",
            Self::Qemu => "qemu",
        }
    }
}

impl From<Backend> for BackendKind {
    fn from(backend: Backend) -> Self {
        match backend {
            Backend::Sim => Self::Sim,
            Backend::Netns => Self::Netns,
            Backend::Qemu => Self::Qemu,
        }
    }
}

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct EmulatorArgs {
    /// The site file
    #[arg(long)]
    site: PathBuf,
    /// Where the site's state is kept
    #[arg(long)]
    state: PathBuf,
    /// Where Drystone listens; what hosts send to the gateway's controller address goes there
    #[arg(long)]
    controller: SocketAddr,
    /// File of this machine that hosts see at the same path (repeatable)
    #[arg(long)]
    show: Vec<PathBuf>,
    /// Instead of what the site file says
    #[arg(long)]
    backend: Option<Backend>,
    /// Where Sunfish agents announce themselves, unless the site file says
    #[arg(long)]
    core: Option<String>,
}

/// Runs until a signal, which takes the site down.
pub(crate) async fn run(args: EmulatorArgs) -> Result<(), Failure> {
    let mut config = EmulatorConfig::new(args.site, std::path::absolute(&args.state)?, args.controller);
    config.shown = args.show.iter().map(std::path::absolute).collect::<Result<_, _>>()?;
    config.backend = args.backend.map(Into::into);
    config.sunfish_core = args.core;
    Ok(run_until_signal(config).await?)
}
