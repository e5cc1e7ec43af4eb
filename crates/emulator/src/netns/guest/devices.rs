//! `/dev` of a host: the harmless devices of the machine, its own terminals and shared memory. The machine's disks and
//! consoles are not there.

use std::{
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink},
    path::Path,
};

use nix::{
    mount::MsFlags,
    sys::stat::{Mode, SFlag, mknod},
};

use super::{
    super::boot_spec::Device,
    root::{RootError, bind, failed, make_directory, mount_kernel, mount_temporary},
};

/// Devices taken over from the machine, where it has them.
const DEVICES: [&str; 9] = ["null", "zero", "full", "random", "urandom", "tty", "fuse", "net/tun", "kmsg"];

/// Symbolic links that programs expect.
const LINKS: [(&str, &str); 5] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Mounts and fills `/dev` at `target`.
pub(super) fn populate(target: &Path, more: &[Device]) -> Result<(), RootError> {
    mount_kernel("tmpfs", target, MsFlags::MS_NOSUID, "mode=755,size=1m")?;
    for device in DEVICES {
        let source = Path::new("/dev").join(device);
        if source.exists() {
            bind(&source, &target.join(device))?;
        }
    }
    for Device { source, name } in more {
        own(source, &target.join(name))?;
    }
    let terminals = target.join("pts");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount_kernel("devpts", &terminals, flags, "newinstance,ptmxmode=0666,mode=620,gid=5")?;
    mount_temporary(&target.join("shm"), "mode=1777,size=1g")?;
    make_directory(&target.join("mqueue"))?;
    mount_kernel("mqueue", &target.join("mqueue"), flags | MsFlags::MS_NODEV, "")?;
    for (name, destination) in LINKS {
        let link = target.join(name);
        symlink(destination, &link).map_err(failed("linking", &link))?;
    }
    Ok(())
}

/// Makes a device of the machine's a device of the host's, under another name.
fn own(source: &Path, target: &Path) -> Result<(), RootError> {
    let found = std::fs::metadata(source).map_err(failed("looking at", source))?;
    let kind = if found.file_type().is_block_device() { SFlag::S_IFBLK } else { SFlag::S_IFCHR };
    let mode = Mode::from_bits_truncate(0o660);
    mknod(target, kind, mode, found.rdev()).map_err(failed("making", target))
}
