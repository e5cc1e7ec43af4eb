//! `drystone kubernetes`: makes the machine that it runs on a control plane or a node of a Kubernetes of Drystone's own, as kubeadm does of
//! another: without a site, a composer or an address daemon. Installers run it on servers that somebody else made.
//!
//! The first control plane keeps, in the ConfigMap `kube-public/cluster-info` that anybody may read, the cluster's authority and networks and
//! which node has which block of pod addresses. Whoever joins knows the digest of the authority's public key, and so whether what it reads is
//! the cluster's. It joins with a token that is for this node alone.

mod cluster_info;
mod files;
mod init;
mod invite;
mod join;
mod reset;

use std::net::IpAddr;

use clap::{Args, Subcommand};

use super::Failure;

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct KubernetesArgs {
    #[command(subcommand)]
    command: KubernetesCommand,
}

#[derive(Debug, Subcommand)]
enum KubernetesCommand {
    /// Make this machine the first control plane of a new cluster
    Init(init::InitArgs),
    /// Let a node join: prints a token that is for it alone (on a control plane)
    Invite(invite::InviteArgs),
    /// Join a cluster; the token is in DRYSTONE_JOIN_TOKEN
    Join(join::JoinArgs),
    /// Take everything of the cluster off this machine
    Reset,
}

/// This machine.
#[derive(Debug, Clone, Args)]
struct Machine {
    /// Name of the node
    #[arg(long)]
    node: String,
    /// Address by which other nodes know it
    #[arg(long)]
    address: IpAddr,
    /// Address of the cluster's API
    #[arg(long)]
    endpoint: IpAddr,
}

/// Runs it.
pub(crate) async fn run(args: KubernetesArgs) -> Result<(), Failure> {
    match args.command {
        KubernetesCommand::Init(args) => init::run(&args).await,
        KubernetesCommand::Invite(args) => invite::run(&args).await,
        KubernetesCommand::Join(args) => join::run(&args).await,
        KubernetesCommand::Reset => reset::run().await,
    }
}
