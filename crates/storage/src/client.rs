//! What a node needs to mount NFS.

use drystone_ssh::{Host, Program};

use crate::{
    error::StorageError,
    packages::{self, Packages},
};

/// The NFS client.
pub const CLIENT: Packages = Packages {
    what: "the NFS client",
    present: "command -v mount.nfs >/dev/null && command -v mount.nfs4 >/dev/null",
    apt: "nfs-common",
    dnf: "nfs-utils",
};

/// Installs the NFS client. Returns whether the host's kernel can mount NFS; where it cannot, pods with volumes on NFS do not start there.
///
/// # Errors
/// When it cannot be installed.
pub async fn install(host: &Host<'_>) -> Result<bool, StorageError> {
    packages::install(host, &CLIENT).await?;
    let text = "grep -qw nfs4 /proc/filesystems || modprobe nfsv4 2>/dev/null || modprobe nfs 2>/dev/null || :\n\
                if grep -qw nfs4 /proc/filesystems; then echo yes; else echo no; fi\n";
    let answer = host.ask(Program::new("asking the kernel for NFS", text).answer(1024)).await?;
    let can = answer.trim() == "yes";
    if !can {
        host.tell("this host's kernel cannot mount NFS");
    }
    Ok(can)
}
