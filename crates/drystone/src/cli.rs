//! The command line.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{command, demo, personality, up};

/// From powered-off racks to running applications.
#[derive(Debug, Parser)]
#[command(name = "drystone", version, about, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run Drystone: the API, all controllers, and emulated sites if asked for
    Up(Box<up::UpArgs>),
    /// Show the main job on an emulated site
    Demo(demo::DemoArgs),
    /// Show operations and their progress
    Ops(command::ops::OpsArgs),
    /// Say why hosts were chosen for a Cluster or Composition, and others not
    Explain(command::explain::ExplainArgs),
    /// Compose without reserving anything
    Compose(command::compose::ComposeArgs),
    /// Print a token with which another Drystone becomes a replica of this one
    JoinToken(command::join_token::JoinTokenArgs),
    /// Sites: start a local controller, register it, see how they are
    Site(command::site::SiteArgs),
    /// Sign software: keys, signatures, bundles
    Software(command::software::SoftwareArgs),
    /// VNF packages: check them, pack them, see what a request would do
    Vnf(command::vnf::VnfArgs),
    /// Composite applications over many clusters, in files as EMCO's command line takes them
    App(command::app::AppArgs),
    /// Show and change how secrets are encrypted
    Secrets(command::secrets::SecretsArgs),
    /// Print the administrator's kubeconfig of a cluster
    Kubeconfig(command::kubeconfig::KubeconfigArgs),
    /// Delete what files declare (also as `kubectl destroy`)
    #[command(name = "kubectl-destroy")]
    Destroy(command::destroy::DestroyArgs),
    /// Emulate a site
    Emulator(personality::emulator::EmulatorArgs),
    /// Run the control plane of a cluster (on a control-plane host)
    ControlPlane(ConfigArgs),
    /// Run the member of etcd of a control plane of several hosts
    Etcd(ConfigArgs),
    /// Run the agent that inspects a host and writes its disk (on the host's own boot medium)
    Agent,
    /// Run the node agent (on every host of a cluster)
    Node(ConfigArgs),
    /// Make this machine part of a Kubernetes of Drystone's own
    Kubernetes(command::kubernetes::KubernetesArgs),
    /// Mount a directory of an NFS server, on a host whose kernel has no NFS client, and serve it until it is unmounted
    NfsMount(personality::nfs_mount::NfsMountArgs),
    /// Make an image archive out of one static program; upload images to the site's store, and list them
    Image(command::image::ImageArgs),
}

/// A configuration file.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Configuration file (YAML)
    #[arg(long)]
    pub(crate) config: PathBuf,
}

/// How commands reach Drystone.
#[derive(Debug, Clone, Args)]
pub(crate) struct Access {
    /// kubeconfig of Drystone's API (written by `drystone up` into its data directory)
    #[arg(long, env = "KUBECONFIG", global = true)]
    pub(crate) kubeconfig: Option<PathBuf>,
}

/// Default of `--listen`.
pub(crate) const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 6443);

impl Cli {
    /// From the process's arguments; prints help or an error and ends the process if that is what they ask for.
    pub(crate) fn from_arguments() -> Self {
        Self::parse()
    }

    /// As `kubectl-destroy`: the arguments are those of the subcommand.
    pub(crate) fn destroy() -> Self {
        let rest = std::env::args_os().skip(1);
        Self::parse_from(["drystone".into(), "kubectl-destroy".into()].into_iter().chain(rest))
    }
}

/// Runs a command and turns its outcome into an exit code: 0 done, 1 failed, 2 wrongly called.
pub(crate) fn run(cli: Cli) -> ExitCode {
    let long_running = matches!(
        cli.command,
        Command::Up(_)
            | Command::Emulator(_)
            | Command::ControlPlane(_)
            | Command::Etcd(_)
            | Command::Agent
            | Command::Node(_)
            | Command::NfsMount(_)
    ) || matches!(&cli.command, Command::Site(site) if site.is_long_running());
    personality::start_logging(if long_running {
        "info,audit=warn,kube_client::client::builder=off"
    } else {
        // Whoever waits for an API server says so itself.
        "warn,kube_client::client=off"
    });
    if let Err(error) = personality::install_crypto() {
        eprintln!("drystone: {error}");
        return ExitCode::FAILURE;
    }
    let outcome = match cli.command {
        Command::Up(args) => personality::block_on(up::run(*args)),
        Command::Demo(args) => personality::block_on(demo::run(args)),
        Command::Ops(args) => personality::block_on(command::ops::run(args)),
        Command::Explain(args) => personality::block_on(command::explain::run(args)),
        Command::Compose(args) => personality::block_on(command::compose::run(args)),
        Command::JoinToken(args) => personality::block_on(command::join_token::run(args)),
        Command::Site(args) => personality::block_on(command::site::run(args)),
        Command::Vnf(args) => personality::block_on(command::vnf::run(args)),
        Command::App(args) => personality::block_on(command::app::run(args)),
        Command::Secrets(args) => personality::block_on(command::secrets::run(args)),
        Command::Kubeconfig(args) => personality::block_on(command::kubeconfig::run(args)),
        Command::Destroy(args) => personality::block_on(command::destroy::run(args)),
        Command::Emulator(args) => personality::block_on(personality::emulator::run(args)),
        Command::ControlPlane(args) => personality::block_on(personality::control_plane::run(args)),
        Command::Etcd(args) => personality::block_on(personality::etcd::run(args)),
        Command::Agent => personality::block_on(personality::agent::run()),
        Command::Node(args) => personality::block_on(personality::node::run(args)),
        Command::NfsMount(args) => personality::nfs_mount::run(&args),
        Command::Software(args) => personality::block_on(command::software::run(args)),
        Command::Kubernetes(args) => personality::block_on(command::kubernetes::run(args)),
        Command::Image(args) => personality::block_on(command::image::run(args)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("drystone: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                eprintln!("  because {cause}");
                source = cause.source();
            }
            ExitCode::FAILURE
        }
    }
}
