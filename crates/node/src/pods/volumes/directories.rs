//! Directories and mounts that volumes are made of. Everything here waits for the file system.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::{FileTypeExt, PermissionsExt, chown},
    path::Path,
};

use drystone_quantity::Quantity;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::statfs::{TMPFS_MAGIC, statfs},
};

use super::{
    VolumeError, io,
    mount_table::{self, MountPoint},
};

/// Where a directory's contents are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Medium {
    /// With everything else.
    Disk,
    /// In memory, at most so many bytes.
    Memory { limit: Option<i64> },
}

impl Medium {
    pub(super) fn of_empty_dir(source: &EmptyDirVolumeSource) -> Self {
        if source.medium.as_deref() != Some("Memory") {
            return Self::Disk;
        }
        let limit = source.size_limit.as_ref().and_then(|limit| limit.0.parse().ok());
        Self::Memory { limit: limit.map(Quantity::value) }
    }
}

/// A directory that belongs to the pod, whoever its containers run as.
pub(super) fn empty_directory(path: &Path, medium: Medium, group: Option<u32>) -> Result<(), VolumeError> {
    fs::create_dir_all(path).map_err(io(path))?;
    mount_if_memory(path, medium)?;
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    if group.is_some() {
        chown(path, None, group).map_err(io(path))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(io(path))
}

/// A directory that the agent writes.
pub(super) fn payload_directory(path: &Path, medium: Medium) -> Result<(), VolumeError> {
    fs::create_dir_all(path).map_err(io(path))?;
    mount_if_memory(path, medium)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(io(path))
}

fn mount_if_memory(path: &Path, medium: Medium) -> Result<(), VolumeError> {
    let Medium::Memory { limit } = medium else { return Ok(()) };
    let kind = statfs(path).map_err(|error| io(path)(error.into()))?.filesystem_type();
    if kind == TMPFS_MAGIC && is_mount_point(path)? {
        return Ok(());
    }
    let options = limit.map(|limit| format!("size={limit}"));
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, options.as_deref())
        .map_err(|error| io(path)(error.into()))
}

fn is_mount_point(path: &Path) -> Result<bool, VolumeError> {
    let path = fs::canonicalize(path).map_err(io(path))?;
    Ok(mount_table::at(&path)?.is_some())
}

/// Checks, and perhaps makes, what a `hostPath` leads to.
pub(super) fn host_path(volume: &str, source: &HostPathVolumeSource) -> Result<(), VolumeError> {
    let path = Path::new(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    match kind {
        "" => return Ok(()),
        "DirectoryOrCreate" => {
            fs::create_dir_all(path).map_err(io(path))?;
        }
        "FileOrCreate" if !path.exists() => {
            fs::File::create_new(path).map_err(io(path))?;
        }
        _ => {}
    }
    let found = fs::metadata(path).ok().map(|found| found.file_type());
    let fits = found.is_some_and(|found| match kind {
        "Directory" | "DirectoryOrCreate" => found.is_dir(),
        "File" | "FileOrCreate" => found.is_file(),
        "Socket" => found.is_socket(),
        "CharDevice" => found.is_char_device(),
        "BlockDevice" => found.is_block_device(),
        _ => false,
    });
    if fits {
        return Ok(());
    }
    let (volume, kind) = (volume.to_owned(), kind.to_owned());
    Err(VolumeError::HostPath { volume, path: path.to_owned(), kind })
}

/// Unmounts everything under a directory, then removes it. Stops before removing anything if something stays mounted: behind
/// the mount may be what is not the pod's.
pub(super) fn remove(directory: &Path) -> Result<(), VolumeError> {
    let directory = match fs::canonicalize(directory) {
        Ok(directory) => directory,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(directory)(error)),
    };
    let mut mounts = mount_table::under(&directory)?;
    // The deepest first, and of several in one place the last.
    mounts.sort_by_key(|mount| std::cmp::Reverse(mount.place.components().count()));
    for MountPoint { place, .. } in &mounts {
        umount2(place, MntFlags::UMOUNT_NOFOLLOW).map_err(|error| io(place)(error.into()))?;
    }
    if let Some(mount) = mount_table::under(&directory)?.first() {
        return Err(io(&mount.place)(ErrorKind::ResourceBusy.into()));
    }
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io(&directory)(error)),
        _ => Ok(()),
    }
}
