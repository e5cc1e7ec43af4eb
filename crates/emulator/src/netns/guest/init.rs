//! PID 1 of a host that has its root: applies the boot medium and serves units until it is told to end.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use drystone_agent::network::NetworkConfig;
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
};

use super::{
    BootFailure, Prepared, System, apply,
    cloud_config::CloudConfig,
    control,
    manager::{Manager, Request},
    root::RUNTIME_DIRECTORY,
    seed::Seed,
    service::Ending,
};
use crate::netns::{
    boot_spec::BootSpec,
    progress::{ProgressWriter, Stage},
};

/// Where cloud-init keeps what it knows, and so do we.
const CLOUD_DIRECTORY: &str = "/var/lib/cloud";
/// Output of `runcmd`, where cloud-init has it.
const RUNCMD_LOG: &str = "/var/log/cloud-init-output.log";
/// Output of what PID 1 runs for itself.
const INIT_LOG: &str = "/var/log/init.log";

/// Boots and serves; returns when the host has shut down.
pub(super) fn run(prepared: Prepared) -> Result<(), BootFailure> {
    let Prepared { spec, system, mut progress } = prepared;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime
        .map_err(|error| format!("starting PID 1: {error}"))
        .and_then(|runtime| runtime.block_on(boot_and_serve(&spec, &system, &mut progress)));
    outcome.map_err(|reason| BootFailure { reason, progress: Some(progress) })
}

async fn boot_and_serve(
    spec: &BootSpec,
    system: &System,
    progress: &mut ProgressWriter,
) -> Result<(), String> {
    let plan = BootPlan::new(spec, system)?;
    // The UTS namespace is our own, and /proc shows it.
    fs::write("/proc/sys/kernel/hostname", &plan.hostname)
        .map_err(|error| format!("hostname {:?}: {error}", plan.hostname))?;
    // Before the first process is started: no ending may be missed.
    let children = signal(SignalKind::child()).map_err(|error| format!("SIGCHLD: {error}"))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| format!("SIGTERM: {error}"))?;
    let (requests, receiver) = mpsc::channel(64);
    let socket = control::socket();
    let listener = UnixListener::bind(&socket).map_err(|error| format!("{}: {error}", socket.display()))?;
    tokio::spawn(control::serve(listener, requests.clone()));
    let end = async {
        terminate.recv().await;
    };
    let manager = Manager::new(Path::new("/"), &plan.hostname).run(receiver, children, end);
    tokio::pin!(manager);
    tokio::select! {
        () = &mut manager => return Ok(()),
        booted = boot(spec, &plan, &requests) => {
            let detail = booted?;
            progress.report(Stage::OsRunning, detail).map_err(|error| format!("progress file: {error}"))?;
        }
    }
    manager.await;
    Ok(())
}

/// What this boot has to do, decided before anything is done.
struct BootPlan<'a> {
    hostname: String,
    network: Option<String>,
    /// Present if user data are to be applied.
    first: Option<(&'a Seed, CloudConfig)>,
}

impl<'a> BootPlan<'a> {
    fn new(spec: &BootSpec, system: &'a System) -> Result<Self, String> {
        let kept = |name: &str| fs::read_to_string(Path::new(CLOUD_DIRECTORY).join(name)).ok();
        let plan = match system {
            System::New(seed) => {
                let config = CloudConfig::parse(&seed.user_data).map_err(|error| error.to_string())?;
                let named = config.hostname.clone().or_else(|| seed.meta_data.local_hostname.clone());
                let hostname = named.unwrap_or_else(|| spec.host.clone());
                Self { hostname, network: seed.network_config.clone(), first: Some((seed, config)) }
            }
            System::Installed => Self {
                hostname: kept("hostname").unwrap_or_else(|| spec.host.clone()),
                network: kept("network-config"),
                first: None,
            },
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        if plan.hostname.is_empty() || plan.hostname.len() > 63 || !plan.hostname.chars().all(allowed) {
            return Err(format!(
                "hostname {:?} must be 1 to 63 letters, digits, dashes and dots",
                plan.hostname
            ));
        }
        Ok(plan)
    }
}

/// The boot sequence; returns what there is to say about it.
async fn boot(
    spec: &BootSpec,
    plan: &BootPlan<'_>,
    manager: &mpsc::Sender<Request>,
) -> Result<String, String> {
    let root = Path::new("/");
    let identity = apply::Identity { site: &spec.site, host: &spec.host, hostname: &plan.hostname };
    apply::write_identity(root, &identity).map_err(|error| error.to_string())?;
    configure_network(plan.network.as_deref(), manager).await?;
    let Some((seed, config)) = &plan.first else {
        start_enabled(manager).await;
        let detail = "booted from disk";
        println!("{detail}");
        return Ok(detail.to_owned());
    };
    apply_user_data(config, manager).await?;
    // An image may come with units of its own; a disk that was empty has none.
    start_enabled(manager).await;
    let failures = run_commands(config, manager).await;
    remember(plan, seed).map_err(|error| format!("{CLOUD_DIRECTORY}: {error}"))?;
    let mut detail = format!("applied instance {}", seed.meta_data.instance_id);
    if !failures.is_empty() {
        detail.push_str(&format!("; runcmd: {}", failures.join("; ")));
    }
    println!("{detail}");
    Ok(detail)
}

/// Starts what is enabled, and waits until it has been started.
async fn start_enabled(manager: &mpsc::Sender<Request>) {
    let (done, started) = oneshot::channel();
    // If the manager is gone the host is shutting down, and nobody reads the answer.
    let _ = manager.send(Request::StartEnabled { done }).await;
    let _ = started.await;
}

async fn configure_network(text: Option<&str>, manager: &mpsc::Sender<Request>) -> Result<(), String> {
    let Some(text) = text else { return Ok(()) };
    let config = NetworkConfig::parse(text).map_err(|error| error.to_string())?;
    let lines = config.commands(&nics()).map_err(|error| error.to_string())?;
    apply::write_resolver(Path::new("/"), &config.resolv_conf()).map_err(|error| error.to_string())?;
    if lines.is_empty() {
        return Ok(());
    }
    let batch = PathBuf::from(RUNTIME_DIRECTORY).join("network.ip");
    fs::write(&batch, lines.join("\n") + "\n").map_err(|error| format!("{}: {error}", batch.display()))?;
    let arguments = ["ip", "-batch", &batch.display().to_string()].map(str::to_owned);
    match execute(manager, arguments.into(), INIT_LOG).await {
        Ok(Ending::Code(0)) => {}
        Ok(ending) => {
            return Err(format!(
                "network-config: ip -batch ended with {ending}: {}",
                fs::read_to_string(INIT_LOG).unwrap_or_default().lines().last().unwrap_or_default()
            ));
        }
        Err(reason) => return Err(format!("network-config: {reason}")),
    }
    tell_neighbours(manager).await;
    Ok(())
}

/// Tells the neighbours whose addresses these are now, as the network services of an installed system do: a machine that had one of them
/// before has another MAC, under which neighbours would go on looking for it for half a minute. The kernel sends gratuitous ARP when the MAC
/// of an interface is set, be it to what it was, and `arp_notify` is on.
async fn tell_neighbours(manager: &mpsc::Sender<Request>) {
    let mut lines = String::new();
    for (mac, name) in nics() {
        let setting = format!("/proc/sys/net/ipv4/conf/{name}/arp_notify");
        if let Err(error) = fs::write(&setting, "1") {
            println!("{setting}: {error}");
        }
        lines.push_str(&format!("link set dev {name} address {mac}\n"));
    }
    let batch = PathBuf::from(RUNTIME_DIRECTORY).join("announce.ip");
    if let Err(error) = fs::write(&batch, lines) {
        println!("{}: {error}", batch.display());
        return;
    }
    let arguments = ["ip", "-batch", &batch.display().to_string()].map(str::to_owned);
    let told = execute(manager, arguments.into(), INIT_LOG).await;
    if told != Ok(Ending::Code(0)) {
        println!("telling the neighbours of this host's addresses: {told:?}; see {INIT_LOG}");
    }
}

/// The host's network interfaces: MAC address → name.
fn nics() -> BTreeMap<String, String> {
    let Ok(entries) = fs::read_dir("/sys/class/net") else { return BTreeMap::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let address = fs::read_to_string(entry.path().join("address")).ok()?;
            Some((address.trim().to_owned(), entry.file_name().into_string().ok()?))
        })
        .filter(|(_, name)| name != "lo")
        .collect()
}

async fn apply_user_data(config: &CloudConfig, manager: &mpsc::Sender<Request>) -> Result<(), String> {
    let root = Path::new("/");
    let ignored = config.ignored_keys();
    if !ignored.is_empty() {
        println!("user-data: not honoured on an emulated host: {}", ignored.join(", "));
    }
    for file in config.files().map_err(|error| error.to_string())? {
        apply::write_file(root, &file).map_err(|error| error.to_string())?;
    }
    apply::authorize_keys(root, &config.ssh_authorized_keys).map_err(|error| error.to_string())?;
    if !config.ssh_authorized_keys.is_empty() && Path::new("/usr/bin/ssh-keygen").exists() {
        apply::forget_host_keys(root);
        let made = execute(manager, ["ssh-keygen", "-A"].map(str::to_owned).into(), INIT_LOG).await;
        if made != Ok(Ending::Code(0)) {
            println!("ssh-keygen -A: {made:?}; see {INIT_LOG}");
        }
    }
    Ok(())
}

/// Runs `runcmd` in order; like cloud-init, goes on after a failure. Returns what failed.
async fn run_commands(config: &CloudConfig, manager: &mpsc::Sender<Request>) -> Vec<String> {
    let mut failures = Vec::new();
    for (index, command) in config.runcmd.iter().enumerate() {
        let outcome = execute(manager, command.arguments(), RUNCMD_LOG).await;
        let failure = match outcome {
            Ok(Ending::Code(0)) => continue,
            Ok(ending) => ending.to_string(),
            Err(reason) => reason,
        };
        failures.push(format!("command {index}: {failure}"));
    }
    failures
}

async fn execute(
    manager: &mpsc::Sender<Request>,
    arguments: Vec<String>,
    log: &str,
) -> Result<Ending, String> {
    let (reply, ended) = oneshot::channel();
    let gone = || "the host is shutting down".to_owned();
    manager.send(Request::Run { arguments, log: log.into(), reply }).await.map_err(|_| gone())?;
    ended.await.map_err(|_| gone())?
}

/// Keeps on disk what the next boot needs; the instance id last, since it says that everything before was done.
fn remember(plan: &BootPlan<'_>, seed: &Seed) -> std::io::Result<()> {
    let directory = Path::new(CLOUD_DIRECTORY);
    fs::write(directory.join("hostname"), &plan.hostname)?;
    if let Some(network) = &plan.network {
        fs::write(directory.join("network-config"), network)?;
    }
    let new = directory.join("instance-id.new");
    fs::write(&new, &seed.meta_data.instance_id)?;
    fs::rename(new, directory.join("instance-id"))
}
