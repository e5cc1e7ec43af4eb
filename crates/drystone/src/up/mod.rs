//! `drystone up`: the whole product in one process: API server, controllers of all domains, boot listener; emulated sites
//! in processes of their own.

mod controllers;
pub(crate) mod pki;
mod server;

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::{cli::DEFAULT_LISTEN, command::Failure, personality::shutdown_on_signal};

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Where everything is kept
    #[arg(long, default_value = "drystone-data")]
    data: PathBuf,
    /// Where the HTTPS port listens
    #[arg(long, default_value_t = DEFAULT_LISTEN)]
    listen: SocketAddr,
    /// Image archive (OCI layout) that every node imports when it starts (repeatable)
    #[arg(long)]
    image_archive: Vec<PathBuf>,
    /// Where the boot listener serves media to management controllers; loopback unless they are elsewhere
    #[arg(long, default_value = "127.0.0.1:0")]
    boot_listen: SocketAddr,
}

/// Runs until a signal.
pub(crate) async fn run(args: UpArgs) -> Result<(), Failure> {
    let shutdown = shutdown_on_signal()?;
    let data = std::path::absolute(&args.data)?;
    let keys = pki::load_or_make(&data, &[args.listen.ip(), DEFAULT_LISTEN.ip()])?;
    let server = server::start(&keys, &data, args.listen).await?;
    pki::write_admin_kubeconfig(&keys, &data, &format!("https://{}", server.address))?;
    let client = server.client();
    server::install_definitions(&client).await?;
    let stop_controllers = CancellationToken::new();
    let boot = controllers::start_boot_listener(&keys, args.boot_listen, &stop_controllers).await?;
    let domains = controllers::start(&server, &keys, boot, &args, stop_controllers.clone())?;
    println!("drystone is ready at https://{} (kubeconfig: {}/kubeconfig)", server.address, data.display());
    shutdown.cancelled().await;
    tracing::info!("stopping");
    stop_controllers.cancel();
    if let Err(error) = domains.await {
        tracing::warn!("a controller ended badly: {error}");
    }
    server.stop().await;
    Ok(())
}
