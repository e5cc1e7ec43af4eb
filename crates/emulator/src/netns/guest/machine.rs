//! The same first process on a machine that is not made of namespaces: a virtual one, or a real one. The small system of
//! `./dev image` boots with it.
//!
//! What a boot medium is to an emulated host, the configuration drive is here ([`drystone_agent::config_drive`]): a partition
//! or a disk with label `config-2`. One with another instance than the last one applied is applied, else the units that are
//! enabled start. The console tells how far it is ([`RUNNING`]).

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use drystone_agent::config_drive;
use nix::{
    mount::MsFlags,
    sys::reboot::{RebootMode, reboot},
};

use super::{BootFailure, Prepared, System, init, root, seed};
use crate::netns::{
    boot_spec::BootSpec,
    cgroup::Hierarchies,
    progress::{ProgressWriter, Stage},
};

/// What the console says when the user data have been applied and the units have been started; emulators look for it.
pub(crate) const RUNNING: &str = "drystone: operating system running";
/// What the console says when the boot failed.
pub(crate) const FAILED: &str = "drystone: boot failed";

/// Where the instance that was applied last is kept, as on every host.
const INSTANCE: &str = "/var/lib/cloud/instance-id";

/// Runs as the first process until the machine is shut down.
pub(super) fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("{} is the first process of a machine", super::MACHINE);
        return ExitCode::from(2);
    }
    let outcome =
        prepare().and_then(|prepared| init::run(prepared).map_err(|BootFailure { reason, .. }| reason));
    if let Err(reason) = &outcome {
        println!("{FAILED}: {reason}");
        super::idle();
    }
    // Units have ended, and with them whoever could complain.
    nix::unistd::sync();
    let _ = reboot(RebootMode::RB_POWER_OFF);
    ExitCode::FAILURE
}

/// Mounts what a running system has, and reads the configuration drive.
fn prepare() -> Result<Prepared, String> {
    let text = |error: root::RootError| error.to_string();
    let none = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    // The initial file system may have mounted the first three.
    for (kind, at) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        if !is_mounted(at) {
            root::mount_kernel(kind, Path::new(at), MsFlags::MS_NOSUID, "").map_err(text)?;
        }
    }
    remount_root()?;
    root::mount_kernel("devpts", Path::new("/dev/pts"), MsFlags::MS_NOSUID, "mode=620,ptmxmode=666")
        .map_err(text)?;
    root::mount_temporary(Path::new("/dev/shm"), "mode=1777").map_err(text)?;
    root::mount_temporary(Path::new("/run"), "mode=755").map_err(text)?;
    root::mount_temporary(Path::new("/tmp"), "mode=1777").map_err(text)?;
    root::mount_kernel("cgroup2", Path::new("/sys/fs/cgroup"), none, "").map_err(text)?;
    root::make_directory(Path::new(root::RUNTIME_DIRECTORY)).map_err(text)?;
    // The first process leaves the root group, which then can have children with controllers.
    let leaf = Path::new("/sys/fs/cgroup/init");
    root::make_directory(leaf).map_err(text)?;
    fs::write(leaf.join("cgroup.procs"), "1").map_err(|error| format!("{}: {error}", leaf.display()))?;
    crate::netns::cgroup::delegate_controllers(Path::new("/sys/fs/cgroup"))
        .map_err(|error| format!("delegating controllers: {error}"))?;
    for directory in ["/var/lib/cloud", "/var/log"] {
        root::make_directory(Path::new(directory)).map_err(text)?;
    }
    load_drivers();
    // Whoever presses the power button sends this process a SIGTERM.
    if let Err(error) = Command::new("acpid").status() {
        println!("the power button does nothing: acpid: {error}");
    }
    // Network data leave it out, and half of all programs listen there.
    let _ = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    let system = choose_system()?;
    let needs_address = match &system {
        System::New(seed) => seed.network_config.is_none(),
        System::Installed => !Path::new("/var/lib/cloud/network-config").exists(),
    };
    if needs_address {
        ask_for_addresses();
    }
    let progress = Path::new("/run/progress");
    let mut progress = ProgressWriter::open(progress, None)
        .map_err(|error| format!("{}: {error}", progress.display()))?
        .with_console(RUNNING);
    progress.report(Stage::OsBootStarted, "").map_err(|error| error.to_string())?;
    Ok(Prepared { spec: specification(), system, progress })
}

fn is_mounted(at: &str) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(1) == Some(at))
}

/// Boot loaders like to mount the root read-only.
fn remount_root() -> Result<(), String> {
    nix::mount::mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REMOUNT, None::<&str>)
        .map_err(|error| format!("making the root writable: {error}"))
}

/// Loads the drivers of whatever the hardware says that it is, and those that containers and services need. What a kernel has
/// built in or has not at all is no mistake.
fn load_drivers() {
    let mut aliases = Vec::new();
    collect_aliases(Path::new("/sys/devices"), 0, &mut aliases);
    aliases.sort();
    aliases.dedup();
    let always = [
        "overlay",
        "veth",
        "bridge",
        "br_netfilter",
        "nf_tables",
        "nft_chain_nat",
        "nft_masq",
        "nf_conntrack",
    ];
    // One process for all: there are hundreds of aliases, and starting a process takes a while where processors are emulated.
    let _ = Command::new("modprobe").args(["-a", "-q", "--"]).args(always).args(&aliases).status();
}

fn collect_aliases(directory: &Path, depth: u32, aliases: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_directory && depth < 16 {
            collect_aliases(&entry.path(), depth + 1, aliases);
        } else if entry.file_name() == "modalias"
            && let Ok(alias) = fs::read_to_string(entry.path())
        {
            aliases.push(alias.trim().to_owned());
        }
    }
}

/// Network interfaces ask for addresses where nobody gives them any.
fn ask_for_addresses() {
    let Ok(interfaces) = fs::read_dir("/sys/class/net") else { return };
    let names = interfaces.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    for name in names.filter(|name| name != "lo") {
        let _ = Command::new("ip").args(["link", "set", "dev", &name, "up"]).status();
        let asked = Command::new("udhcpc")
            .args(["-i", &name, "-n", "-q", "-t", "5", "-T", "2", "-s", "/etc/udhcpc/default.script"])
            .output();
        if !asked.is_ok_and(|asked| asked.status.success()) {
            println!("no DHCP server answers on {name}");
        }
    }
}

/// A drive with another instance than the last one is applied, else what is installed starts.
fn choose_system() -> Result<System, String> {
    let installed = fs::read_to_string(INSTANCE).ok();
    let Some((device, drive)) = find_drive() else {
        return if installed.is_some() {
            Ok(System::Installed)
        } else {
            println!("no configuration drive: nothing is applied");
            Ok(System::New(seed::Seed::named("i-none", None)))
        };
    };
    println!("configuration drive: {}", device.display());
    if installed.as_deref() == Some(drive.instance_id()) {
        return Ok(System::Installed);
    }
    let mut seed = seed::Seed::named(drive.instance_id(), drive.hostname());
    let user_data = drive.decoded_user_data().map_err(|error| error.to_string())?;
    seed.user_data = String::from_utf8(user_data).map_err(|_| "user_data is not UTF-8 text".to_owned())?;
    seed.network_config = Some(drive.network_data).filter(|text| !text.trim().is_empty());
    Ok(System::New(seed))
}

/// The first block device, disk or partition, that is a configuration drive.
fn find_drive() -> Option<(PathBuf, drystone_agent::protocol::ConfigDrive)> {
    let mut names: Vec<_> =
        fs::read_dir("/sys/class/block").ok()?.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    names.into_iter().find_map(|name| {
        let path = Path::new("/dev").join(name);
        let drive = config_drive::read(&mut fs::File::open(&path).ok()?).ok()?;
        Some((path, drive))
    })
}

/// There is no emulator that could say anything.
fn specification() -> BootSpec {
    BootSpec {
        site: "machine".to_owned(),
        host: fs::read_to_string("/sys/class/dmi/id/product_uuid")
            .map_or_else(|_| "machine".to_owned(), |uuid| format!("machine-{}", uuid.trim().to_lowercase())),
        directory: "/".into(),
        medium: None,
        executable: root::PROGRAM.into(),
        hidden: Vec::new(),
        shown: Vec::new(),
        devices: Vec::new(),
        cgroups: Hierarchies::default(),
    }
}
