//! The inside of an emulated host: its PID 1, from the empty namespaces to running units.
//!
//! The emulator starts `drystone guest-init SPEC` in new network, mount, PID, UTS and IPC namespaces. It
//! 1. notes its own process number as the machine sees it, for the emulator to find it again ([`super::progress`]);
//! 2. reads the boot medium ([`seed`]); a medium with an instance id other than the disk's installs a new system, as an
//!    image would: the disk starts empty;
//! 3. enters the host's cgroups and a cgroup namespace;
//! 4. builds the root file system and turns to it ([`root`], [`devices`]);
//! 5. applies the medium ([`cloud_config`], [`network`], [`apply`]), or starts the units enabled earlier;
//! 6. stays as a small service manager ([`manager`]), which `systemctl` ([`systemctl`]) talks to, until it is told to end.
//!
//! It has no threads until step 5, since namespaces are entered by thread.
//!
//! [`machine`] is the same on a machine that is none of ours: the small system of `./dev image` starts with it.
//!
//! ## containerd inside a host
//! Runs as on any machine, by `ctr` and by CRI, with runc and with crun. What its configuration has to say:
//!
//! ```toml
//! version = 2
//! [plugins."io.containerd.grpc.v1.cri"]
//!   restrict_oom_score_adj = true   # the host may lack CAP_SYS_RESOURCE; runc fails without this
//!   disable_apparmor = true
//!   [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun]
//!     runtime_type = "io.containerd.runc.v2"
//!     [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun.options]
//!       BinaryName = "/usr/bin/crun"
//!       SystemdCgroup = false
//! ```
//!
//! - Its root and state directory stay at their defaults: `/var/lib/containerd` is not on the overlay, `/run` is a tmpfs.
//! - The host's own cgroup is `/` inside, so pod cgroups are absolute (`/kubepods/pod…`) and go with the host. A machine
//!   with the hybrid layout shows the host version 1 only, which is what crun needs.
//! - A pod on the host's network must come without `PodSandboxConfig.hostname`: runc and crun refuse to set it.
//! - CNI plugins: `/opt/cni/bin/drystone-cni` is this binary; Debian's are in `/usr/lib/cni`. `/etc/cni` and
//!   `/etc/containerd` start empty, whatever the machine has there.

use std::{ffi::OsString, path::Path, process::ExitCode};

use nix::sched::CloneFlags;

use super::{
    boot_spec::{BootSpec, HostFiles},
    process::ProcessId,
    progress::{ProgressWriter, Stage},
};
use seed::Seed;

mod apply;
mod cloud_config;
mod command_line;
mod control;
mod devices;
mod enabled;
#[cfg(test)]
mod hostile;
mod init;
pub(crate) mod machine;
mod manager;
mod reaper;
mod root;
mod seed;
mod service;
mod spawn;
mod systemctl;
mod unit_file;

/// First argument that makes the binary the PID 1 of an emulated host.
pub(super) const INIT: &str = "guest-init";
/// First argument that makes the binary the `systemctl` of an emulated host.
pub(super) const SYSTEMCTL: &str = "guest-systemctl";

/// First argument that makes the binary the first process of a machine that is not emulated by namespaces.
pub(super) const MACHINE: &str = "guest-machine";

/// Does the work of the hidden subcommands that run inside emulated hosts; `None` if `arguments` (without the program's
/// name) do not start with one of them.
///
/// Call this first thing in `main`, before any thread or runtime is started.
#[must_use]
pub fn dispatch(arguments: &[OsString]) -> Option<ExitCode> {
    let (first, rest) = arguments.split_first()?;
    match first.to_str()? {
        INIT => Some(rest.first().map_or_else(usage, |spec| guest_init(Path::new(spec)))),
        SYSTEMCTL => Some(systemctl::main(rest)),
        MACHINE => Some(machine::main()),
        _ => None,
    }
}

fn usage() -> ExitCode {
    eprintln!("{INIT} is what an emulated host boots with; it takes the path of a boot specification");
    ExitCode::from(2)
}

/// Runs as PID 1 of an emulated host until the host is shut down.
fn guest_init(spec: &Path) -> ExitCode {
    let booted = prepare(spec);
    let outcome = match booted {
        Ok(prepared) => init::run(prepared),
        Err(failure) => Err(failure),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("boot failed: {}", failure.reason);
            if let Some(mut progress) = failure.progress {
                // Nobody is left to tell if even this fails.
                let _ = progress.report(Stage::NoBoot, failure.reason);
                idle();
            }
            ExitCode::FAILURE
        }
    }
}

/// A host that cannot boot stays on and does nothing until it is switched off.
fn idle() -> ! {
    loop {
        nix::unistd::pause();
    }
}

/// A host that has its root and has not done anything with it yet.
struct Prepared {
    spec: BootSpec,
    system: System,
    progress: ProgressWriter,
}

/// What to boot.
enum System {
    /// A new instance: its user data are to be applied to a fresh disk.
    New(Seed),
    /// What an earlier boot left on the disk.
    Installed,
}

/// A boot that cannot go on.
struct BootFailure {
    reason: String,
    progress: Option<ProgressWriter>,
}

/// Everything that needs the machine's own view: numbers, cgroups, files outside, the root.
fn prepare(spec_path: &Path) -> Result<Prepared, BootFailure> {
    let early = |reason: String| BootFailure { reason, progress: None };
    let spec =
        BootSpec::read(spec_path).map_err(|error| early(format!("{}: {error}", spec_path.display())))?;
    let files = HostFiles { directory: spec.directory.clone() };
    let me = ProcessId::of_self_through_proc().map_err(|error| early(format!("/proc/self/stat: {error}")))?;
    let at_progress = |error| early(format!("{}: {error}", files.progress().display()));
    let mut progress = ProgressWriter::open(&files.progress(), Some(me)).map_err(at_progress)?;
    // The medium may be taken away as soon as the host says that it has started.
    let medium = match spec.medium.as_deref().map(read_medium).transpose() {
        Ok(medium) => medium,
        Err(reason) => return Err(BootFailure { reason, progress: Some(progress) }),
    };
    progress.report(Stage::OsBootStarted, "").map_err(at_progress)?;
    match enter(&spec, &files, medium.as_deref()) {
        Ok(system) => Ok(Prepared { spec, system, progress }),
        Err(reason) => Err(BootFailure { reason, progress: Some(progress) }),
    }
}

fn enter(spec: &BootSpec, files: &HostFiles, medium: Option<&[u8]>) -> Result<System, String> {
    let system = choose_system(files, medium)?;
    spec.cgroups
        .enter(&super::names::cgroup(&spec.site), &spec.host)
        .map_err(|error| format!("entering the host's cgroups: {error}"))?;
    nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP)
        .map_err(|error| format!("new cgroup namespace: {error}"))?;
    root::build_and_enter(spec, files).map_err(|error| error.to_string())?;
    Ok(system)
}

/// A medium whose instance is not the one on the disk installs a new system; else the disk is booted.
fn choose_system(files: &HostFiles, medium: Option<&[u8]>) -> Result<System, String> {
    let Some(medium) = medium else { return Ok(System::Installed) };
    let seed = seed::read(medium).map_err(|error| error.to_string())?;
    let installed = std::fs::read_to_string(files.instance_id()).ok();
    if installed.as_ref() == Some(&seed.meta_data.instance_id) {
        return Ok(System::Installed);
    }
    match std::fs::remove_dir_all(files.disk()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("erasing the disk at {}: {error}", files.disk().display()))
        }
        _ => Ok(System::New(seed)),
    }
}

/// Largest boot medium that is read; user data are kilobytes.
const MEDIUM_MAX: u64 = 256 << 20;

fn read_medium(path: &Path) -> Result<Vec<u8>, String> {
    let at = |error: std::io::Error| format!("boot medium {}: {error}", path.display());
    let size = std::fs::metadata(path).map_err(at)?.len();
    if size > MEDIUM_MAX {
        return Err(format!(
            "boot medium {} has {size} bytes; at most {MEDIUM_MAX} are read",
            path.display()
        ));
    }
    std::fs::read(path).map_err(at)
}
