//! `drystone up`: the whole product in one process: API server, controllers of all domains, boot listener; emulated sites
//! in processes of their own.

mod agents;
mod appcontext;
mod archives;
mod charts;
mod controllers;
mod emco;
mod emco_grpc;
mod images;
pub(crate) mod join;
mod metal;
mod mount;
mod nfv;
pub(crate) mod pki;
mod redfish;
pub(crate) mod seal;
mod server;
mod serving;
mod site_controllers;
pub(crate) use site_controllers::registration_line;
pub(crate) mod sites;
mod software;
mod storage;
mod vim;
mod vnfm;

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{
    cli::DEFAULT_LISTEN,
    command::Failure,
    personality::{emulator::Backend, protect_memory, shutdown_on_signal},
};

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Where everything is kept
    #[arg(long, default_value = "drystone-data")]
    data: PathBuf,
    /// Where objects are kept: `embedded` (in the data directory), or `etcd=URL,URL…` (several Drystones may share one etcd)
    #[arg(long, default_value = "embedded", value_parser = storage::parse)]
    store: storage::Storage,
    /// Certificate authority of etcd (PEM file), for URLs that are `https://`
    #[arg(long, value_name = "FILE")]
    etcd_ca: Option<PathBuf>,
    /// Certificate to show to etcd (PEM file)
    #[arg(long, value_name = "FILE", requires = "etcd_key")]
    etcd_cert: Option<PathBuf>,
    /// Key of that certificate (PEM file)
    #[arg(long, value_name = "FILE", requires = "etcd_cert")]
    etcd_key: Option<PathBuf>,
    /// Name to tell etcd, if it asks for a password
    #[arg(long, value_name = "NAME", requires = "etcd_password_file")]
    etcd_user: Option<String>,
    /// File with the password that goes with it
    #[arg(long, value_name = "FILE", requires = "etcd_user")]
    etcd_password_file: Option<PathBuf>,
    #[command(flatten)]
    contexts: appcontext::AppContextArgs,
    #[command(flatten)]
    charts: charts::ChartArgs,
    #[command(flatten)]
    seal: seal::SealArgs,
    /// Where the HTTPS port listens
    #[arg(long, default_value_t = DEFAULT_LISTEN)]
    listen: SocketAddr,
    /// Also serve in plain text, on this loopback address, to clients that speak no TLS
    #[arg(long, value_name = "LOOPBACK:PORT", value_parser = loopback)]
    http: Option<SocketAddr>,
    /// Requests on the plain-text port need no credentials and act as admin (for development)
    #[arg(long, requires = "http")]
    http_trust_loopback: bool,
    /// Emulate this site (repeatable); real ones are declared as resources
    #[arg(long)]
    site: Vec<PathBuf>,
    /// What gives emulated hosts a body, instead of what the site file says
    #[arg(long)]
    backend: Option<Backend>,
    /// Image archive (OCI layout) that every node imports when it starts (repeatable)
    #[arg(long)]
    image_archive: Vec<PathBuf>,
    /// Become another replica of the Drystone at this URL, over the same etcd: its keys are fetched once, with a token of `drystone
    /// join-token`
    #[arg(long, value_name = "URL", requires = "token")]
    join: Option<Url>,
    /// The token for that
    #[arg(long, env = "DRYSTONE_JOIN_TOKEN", hide_env_values = true, requires = "join")]
    token: Option<join::Token>,
    /// Where the boot listener serves media to management controllers; loopback unless they are elsewhere
    #[arg(long, default_value = "127.0.0.1:0")]
    boot_listen: SocketAddr,
    #[command(flatten)]
    agents: agents::AgentOptions,
    /// VNF packages may be fetched from this machine itself, and from its links: whoever may name a URL reaches through it what only
    /// this machine reaches
    #[arg(long)]
    vnf_packages_from_loopback: bool,
    /// How hosts are provisioned
    #[command(flatten)]
    metal: metal::MetalArgs,
}

/// An address that only this machine reaches.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr =
        text.parse().map_err(|_| "expected ADDRESS:PORT, such as 127.0.0.1:8080".to_owned())?;
    if address.ip().is_loopback() {
        return Ok(address);
    }
    Err("plain text is only served on a loopback address, such as 127.0.0.1; others have the HTTPS port"
        .to_owned())
}

impl UpArgs {
    /// Where everything is kept.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }
}

/// Runs until a signal.
pub(crate) async fn run(args: UpArgs) -> Result<(), Failure> {
    run_for(args, None).await
}

/// Runs until a signal; as the local controller of a site, if one is named.
pub(crate) async fn run_for(args: UpArgs, site: Option<String>) -> Result<(), Failure> {
    let shutdown = shutdown_on_signal()?;
    check_files(&args)?;
    protect_memory();
    let data = std::path::absolute(&args.data)?;
    let addresses: Vec<_> =
        [args.listen.ip(), DEFAULT_LISTEN.ip()].into_iter().chain(args.agents.address()).collect();
    join::fetch_keys(&args, &data).await?;
    let sealing = seal::open(&args.seal, &data)?;
    let keys = pki::load_or_make(&data, &addresses, &sealing)?;
    let ports =
        server::Ports { secure: args.listen, plain: args.http, trust_plain: args.http_trust_loopback };
    let store = storage::open(&args, &data, &sealing).await?;
    let contexts = appcontext::open(&args, &data, &sealing, &store).await?;
    let server = server::start(&keys, Arc::clone(&store), contexts.sealed(), &data, ports, &args).await?;
    pki::write_admin_kubeconfig(&keys, &data, &format!("https://{}", server.address))?;
    let client = server.client();
    server::install_definitions(&client).await?;
    let redfish = server.redfish.start(&server.api, &client, &keys)?;
    let stop_controllers = CancellationToken::new();
    let etcd = contexts.start(&args.contexts, &keys, &stop_controllers).await?;
    let stop_sealing = stop_controllers.clone();
    tokio::spawn(async move { store.maintain(stop_sealing).await });
    let serving = serving::Serving {
        authority: Arc::clone(&keys.authority),
        identity: Arc::clone(&server.identity),
        addresses,
    };
    tokio::spawn(serving.run(client.clone(), stop_controllers.clone()));
    let boot =
        controllers::start_boot_listener(&keys, args.boot_listen, &server.images, &stop_controllers).await?;
    // Not only while this Drystone leads: the bytes are its own.
    let images = tokio::spawn(server.images.clone().run(stop_controllers.clone()));
    let packages = vnfm::library(&data)?;
    let domains = controllers::start(
        &server,
        &keys,
        boot,
        &args,
        (&redfish, &packages),
        (contexts.contexts.clone(), &data, &sealing),
        stop_controllers.clone(),
    )?;
    let mut emulated = Vec::new();
    let mut started = start_sites(&args, &data, &server, &mut emulated).await;
    if let (Ok(()), Some(site)) = (&started, &site) {
        started = site_controllers::declare_own(&client, site).await;
    }
    match &started {
        Ok(()) if shutdown.is_cancelled() => {}
        Ok(()) => {
            let registration = site.as_deref().map(|site| site_controllers::registration_line(site, &data));
            let more = etcd.iter().map(appcontext::Front::line).chain(registration);
            tell(std::iter::once(ready_line(&server, &data)).chain(more));
        }
        Err(_) => shutdown.cancel(),
    }
    shutdown.cancelled().await;
    tracing::info!("stopping");
    stop_controllers.cancel();
    all_ended([domains, images]).await;
    all_stopped(&emulated).await;
    if let Some(etcd) = etcd {
        etcd.stop().await;
    }
    server.stop().await;
    started
}

async fn all_stopped(emulated: &[sites::EmulatedSite]) {
    for site in emulated {
        site.stop().await;
    }
}

/// Waits until controllers have come to their end.
async fn all_ended(tasks: [tokio::task::JoinHandle<()>; 2]) {
    for task in tasks {
        if let Err(error) = task.await {
            tracing::warn!("a controller ended badly: {error}");
        }
    }
}

/// Says on standard output what whoever started this wants to know. It may have stopped reading; that is no reason to end.
fn tell(lines: impl Iterator<Item = String>) {
    let mut output = std::io::stdout();
    for line in lines {
        if let Err(error) = writeln!(output, "{line}") {
            tracing::warn!("standard output is closed ({error}); it was to say: {line}");
        }
    }
}

/// The line that says that everything answers.
fn ready_line(server: &server::Server, data: &Path) -> String {
    let plain = server.plain_address.map(|address| format!(" and http://{address}")).unwrap_or_default();
    format!(
        "drystone is ready at https://{}{plain} (kubeconfig: {}/kubeconfig)",
        server.address,
        data.display()
    )
}

/// Finds what is wrong with the files that were named, before anything is started.
fn check_files(args: &UpArgs) -> Result<(), Failure> {
    let mut sites: BTreeMap<String, &Path> = BTreeMap::new();
    for file in &args.site {
        let name = drystone_emulator::site::load(file)?.name;
        if let Some(other) = sites.insert(name.clone(), file) {
            let (file, other) = (file.display(), other.display());
            return Err(format!(
                "{file}: the site is named {name}, as that of {other}; give one of them another name"
            )
            .into());
        }
    }
    if let Some(medium) = &args.agents.agent_medium {
        let mut file = std::fs::File::open(medium)
            .map_err(|error| format!("--agent-medium {}: cannot be read: {error}", medium.display()))?;
        drystone_agent::medium::place(&mut file)
            .map_err(|error| format!("--agent-medium {}: {error}", medium.display()))?;
    }
    for archive in &args.image_archive {
        std::fs::File::open(archive)
            .map_err(|error| format!("image archive {}: cannot be read: {error}", archive.display()))?;
    }
    Ok(())
}

/// Starts and declares the emulated sites; those that were started are in `emulated` even if a later one fails.
async fn start_sites(
    args: &UpArgs,
    data: &Path,
    server: &server::Server,
    emulated: &mut Vec<sites::EmulatedSite>,
) -> Result<(), Failure> {
    for file in &args.site {
        let (site, endpoints) = sites::start(file, data, server, args.backend, &args.image_archive).await?;
        emulated.push(site);
        if let Some(site) = emulated.last() {
            sites::declare(&server.client(), site, &endpoints).await?;
        }
    }
    Ok(())
}
