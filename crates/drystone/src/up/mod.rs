//! `drystone up`: the whole product in one process: API server, controllers of all domains, boot listener; emulated sites
//! in processes of their own.

mod controllers;
pub(crate) mod pki;
mod server;
mod serving;
pub(crate) mod sites;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::{
    cli::DEFAULT_LISTEN,
    command::Failure,
    personality::{emulator::Backend, shutdown_on_signal},
};

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Where everything is kept
    #[arg(long, default_value = "drystone-data")]
    data: PathBuf,
    /// Where the HTTPS port listens
    #[arg(long, default_value_t = DEFAULT_LISTEN)]
    listen: SocketAddr,
    /// Emulate this site (repeatable); real ones are declared as resources
    #[arg(long)]
    site: Vec<PathBuf>,
    /// What gives emulated hosts a body, instead of what the site file says
    #[arg(long)]
    backend: Option<Backend>,
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
    let addresses = vec![args.listen.ip(), DEFAULT_LISTEN.ip()];
    let keys = pki::load_or_make(&data, &addresses)?;
    let server = server::start(&keys, &data, args.listen).await?;
    pki::write_admin_kubeconfig(&keys, &data, &format!("https://{}", server.address))?;
    let client = server.client();
    server::install_definitions(&client).await?;
    let stop_controllers = CancellationToken::new();
    let serving = serving::Serving {
        authority: Arc::clone(&keys.authority),
        identity: Arc::clone(&server.identity),
        addresses,
    };
    tokio::spawn(serving.run(client.clone(), stop_controllers.clone()));
    let boot = controllers::start_boot_listener(&keys, args.boot_listen, &stop_controllers).await?;
    let domains = controllers::start(&server, &keys, boot, &args, stop_controllers.clone())?;
    let mut emulated = Vec::new();
    let started = start_sites(&args, &data, &server, &mut emulated).await;
    if started.is_ok() {
        println!(
            "drystone is ready at https://{} (kubeconfig: {}/kubeconfig)",
            server.address,
            data.display()
        );
    } else {
        shutdown.cancel();
    }
    shutdown.cancelled().await;
    tracing::info!("stopping");
    stop_controllers.cancel();
    if let Err(error) = domains.await {
        tracing::warn!("a controller ended badly: {error}");
    }
    for site in &emulated {
        site.stop().await;
    }
    server.stop().await;
    started
}

/// Starts and declares the emulated sites; those that were started are in `emulated` even if a later one fails.
async fn start_sites(
    args: &UpArgs,
    data: &Path,
    server: &server::Server,
    emulated: &mut Vec<sites::EmulatedSite>,
) -> Result<(), Failure> {
    for file in &args.site {
        let (site, endpoints) = sites::start(file, data, server.address, args.backend).await?;
        emulated.push(site);
        if let Some(site) = emulated.last() {
            sites::declare(&server.client(), site, &endpoints).await?;
        }
    }
    Ok(())
}
