//! `drystone node`: the node agent of a host: containerd, pods, kubelet API, network.

use drystone_node::config::NodeConfig;

use super::shutdown_on_signal;
use crate::{cli::ConfigArgs, command::Failure};

/// Runs until a signal; pods go on.
pub(crate) async fn run(args: ConfigArgs) -> Result<(), Failure> {
    let config = NodeConfig::read(&args.config)?;
    let shutdown = shutdown_on_signal()?;
    Ok(Box::pin(drystone_node::agent::run(config, shutdown)).await?)
}
