//! The root file system of a host: an overlay of the machine's root, with what must be the host's own put over it.
//!
//! Mounted in the host's mount namespace only, so everything vanishes with its last process.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{
    super::boot_spec::{BootSpec, HostFiles, OWN_DIRECTORIES},
    devices,
};

/// Where the host's control socket and other files of its PID 1 lie.
pub(super) const RUNTIME_DIRECTORY: &str = "/run/emulated-host";
/// The running program inside the host.
pub(super) const PROGRAM: &str = "/usr/local/bin/drystone";
/// The same program as a CNI plugin.
const CNI_PLUGIN: &str = "/opt/cni/bin/drystone-cni";

/// Settings for the whole machine that software in a host likes to write (a kubelet does): the host gets copies.
const SHIELDED_SETTINGS: [&str; 7] = [
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/vm/panic_on_oom",
    "/proc/sys/kernel/panic",
    "/proc/sys/kernel/panic_on_oops",
    "/proc/sys/kernel/keys/root_maxkeys",
    "/proc/sys/kernel/keys/root_maxbytes",
    "/proc/sys/kernel/core_pattern",
];

/// A step of building the root that failed.
#[derive(Debug, thiserror::Error)]
#[error("{what} {path}: {source}")]
pub(super) struct RootError {
    what: &'static str,
    path: String,
    source: io::Error,
}

pub(super) fn failed<E: Into<io::Error>>(what: &'static str, path: &Path) -> impl FnOnce(E) -> RootError {
    let path = path.display().to_string();
    move |source| RootError { what, path, source: source.into() }
}

/// Builds the root and makes it this process's root; the machine's own is no longer reachable afterwards.
pub(super) fn build_and_enter(spec: &BootSpec, files: &HostFiles) -> Result<(), RootError> {
    let root = files.root();
    mount_overlay(files, &root)?;
    for directory in OWN_DIRECTORIES {
        let backing = files.own(directory);
        make_directory(&backing)?;
        bind(&backing, &within(&root, directory))?;
    }
    mount_temporary(&within(&root, "/run"), "mode=755,size=1g")?;
    mount_temporary(&within(&root, "/tmp"), "mode=1777,size=4g")?;
    for hidden in &spec.hidden {
        hide(&root, hidden)?;
    }
    for shown in &spec.shown {
        bind_read_only(shown, &within(&root, shown))?;
    }
    devices::populate(&within(&root, "/dev"), &spec.devices)?;
    mount_kernel(
        "sysfs",
        &within(&root, "/sys"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        "",
    )?;
    mount_cgroups(spec, &root)?;
    place_program(&spec.executable, &root)?;
    // Only a process inside the PID namespace can mount its /proc, and we are.
    mount_kernel(
        "proc",
        &within(&root, "/proc"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        "",
    )?;
    turn_to(&root)?;
    shield_settings()
}

fn mount_overlay(files: &HostFiles, root: &Path) -> Result<(), RootError> {
    for directory in [&files.upper(), &files.work(), &root.to_owned()] {
        make_directory(directory)?;
    }
    let options =
        format!("lowerdir=/,upperdir={},workdir={}", files.upper().display(), files.work().display());
    mount(Some("overlay"), root, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .map_err(failed("mounting the overlay root on", root))
}

/// `path` of the host, seen from outside before its root is entered.
fn within(root: &Path, path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    root.join(path.strip_prefix("/").unwrap_or(path))
}

pub(super) fn make_directory(path: &Path) -> Result<(), RootError> {
    fs::create_dir_all(path).map_err(failed("making", path))
}

/// Shows `source` (file or directory) at `target`, which is made if it is missing.
pub(super) fn bind(source: &Path, target: &Path) -> Result<(), RootError> {
    // A link of the machine's would lead out of the host's root.
    if target.is_symlink() {
        fs::remove_file(target).map_err(failed("removing the link", target))?;
    }
    if source.is_dir() {
        make_directory(target)?;
    } else if fs::symlink_metadata(target).is_err() {
        if let Some(parent) = target.parent() {
            make_directory(parent)?;
        }
        fs::write(target, "").map_err(failed("making", target))?;
    }
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .map_err(failed("binding to", target))
}

fn bind_read_only(source: &Path, target: &Path) -> Result<(), RootError> {
    bind(source, target)?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, target, None::<&str>, flags, None::<&str>).map_err(failed("making read-only", target))
}

pub(super) fn mount_temporary(target: &Path, options: &str) -> Result<(), RootError> {
    make_directory(target)?;
    mount(Some("tmpfs"), target, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options))
        .map_err(failed("mounting tmpfs on", target))
}

pub(super) fn mount_kernel(
    kind: &'static str,
    target: &Path,
    flags: MsFlags,
    options: &str,
) -> Result<(), RootError> {
    make_directory(target)?;
    let options = (!options.is_empty()).then_some(options);
    mount(Some(kind), target, Some(kind), flags, options)
        .map_err(failed("mounting a kernel file system on", target))
}

/// Covers a directory with an empty one; what the host does not have needs no cover.
fn hide(root: &Path, path: &Path) -> Result<(), RootError> {
    let target = within(root, path);
    if target.is_dir() { mount_temporary(&target, "mode=700,size=4k") } else { Ok(()) }
}

/// Gives the host every hierarchy with its own cgroup as the root, where a machine would have it.
fn mount_cgroups(spec: &BootSpec, root: &Path) -> Result<(), RootError> {
    let base = within(root, "/sys/fs/cgroup");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if spec.cgroups.v1.is_empty() {
        return if spec.cgroups.v2.is_some() { mount_cgroup_v2(&base, flags) } else { Ok(()) };
    }
    mount_temporary(&base, "mode=755,size=1m")?;
    for hierarchy in &spec.cgroups.v1 {
        let Some(name) = hierarchy.path.file_name() else { continue };
        mount_kernel("cgroup", &base.join(name), flags, &hierarchy.options)?;
        // "cpu,cpuacct" is also reached as "cpu" and "cpuacct".
        for alias in
            hierarchy.options.split(',').filter(|option| name != *option && !option.contains("name="))
        {
            if alias != "none" {
                symlink(name, base.join(alias)).map_err(failed("linking", &base.join(alias)))?;
            }
        }
    }
    Ok(())
}

/// In version 2 a group holds processes or children with controllers, not both: PID 1 moves aside into `init`.
fn mount_cgroup_v2(base: &Path, flags: MsFlags) -> Result<(), RootError> {
    mount_kernel("cgroup2", base, flags, "")?;
    let leaf = base.join("init");
    make_directory(&leaf)?;
    fs::write(leaf.join("cgroup.procs"), "0").map_err(failed("entering", &leaf))?;
    super::super::cgroup::delegate_controllers(base).map_err(failed("delegating controllers of", base))
}

/// Shows the running program inside, and a `systemctl` that calls it.
fn place_program(executable: &Path, root: &Path) -> Result<(), RootError> {
    bind_read_only(executable, &within(root, PROGRAM))?;
    bind_read_only(executable, &within(root, CNI_PLUGIN))?;
    let runtime = within(root, RUNTIME_DIRECTORY);
    make_directory(&runtime)?;
    let script = runtime.join("systemctl");
    fs::write(&script, format!("#!/bin/sh\nexec {PROGRAM} {} \"$@\"\n", super::SYSTEMCTL))
        .map_err(failed("writing", &script))?;
    make_executable(&script)?;
    bind(&script, &within(root, "/usr/bin/systemctl"))
}

pub(super) fn make_executable(path: &Path) -> Result<(), RootError> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(failed("making executable", path))
}

/// pivot_root(2) onto itself: the old root ends up on top of the new one and is then let go.
fn turn_to(root: &Path) -> Result<(), RootError> {
    std::env::set_current_dir(root).map_err(failed("entering", root))?;
    nix::unistd::pivot_root(".", ".").map_err(failed("turning to", root))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(failed("letting go the machine's root under", root))?;
    std::env::set_current_dir("/").map_err(failed("entering", Path::new("/")))
}

fn shield_settings() -> Result<(), RootError> {
    let copies = Path::new(RUNTIME_DIRECTORY).join("settings");
    make_directory(&copies)?;
    for setting in SHIELDED_SETTINGS.map(Path::new) {
        let Ok(value) = fs::read(setting) else { continue };
        let copy = copies
            .join(setting.strip_prefix("/proc/sys").unwrap_or(setting).to_string_lossy().replace('/', "."));
        fs::write(&copy, value).map_err(failed("writing", &copy))?;
        bind(&copy, setting)?;
    }
    Ok(())
}
