//! What the emulator tells a host's PID 1 at power on: a JSON file in the host's state directory.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::cgroup::Hierarchies;

/// Directories that are the host's own from its first boot on, because what the machine has there is the machine's
/// business, or because an overlay cannot serve: containerd and its kind mount overlays on these, and an overlay's upper
/// directory cannot lie on an overlay. They live on the host's disk as plain directories.
pub(super) const OWN_DIRECTORIES: [&str; 15] = [
    "/etc/cni",
    "/etc/containerd",
    "/etc/drystone",
    "/etc/kubernetes",
    "/home",
    "/opt/cni",
    "/root",
    "/var/lib/cni",
    "/var/lib/cloud",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/docker",
    "/var/lib/drystone",
    "/var/lib/kubelet",
    "/var/log",
];

/// Everything PID 1 needs to know before it has read the boot medium.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct BootSpec {
    /// Name of the site.
    pub(super) site: String,
    /// Name of the host; its hostname too unless the boot medium gives another.
    pub(super) host: String,
    /// The host's files, see [`HostFiles`].
    pub(super) directory: PathBuf,
    /// The archive to boot; none to boot what is on the disk.
    pub(super) medium: Option<PathBuf>,
    /// The program to show as `/usr/local/bin/drystone`.
    pub(super) executable: PathBuf,
    /// Directories of the machine that the host must not see.
    pub(super) hidden: Vec<PathBuf>,
    /// Files of the machine that the host sees, wherever they are.
    #[serde(default)]
    pub(super) shown: Vec<PathBuf>,
    /// Devices of the machine that the host has under other names.
    #[serde(default)]
    pub(super) devices: Vec<Device>,
    /// The machine's cgroup hierarchies.
    pub(super) cgroups: Hierarchies,
}

/// A device of the machine that a host has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Device {
    /// Where the machine has it: `/dev/loop7`.
    pub(super) source: PathBuf,
    /// What the host calls it, below `/dev`: `vdb`.
    pub(super) name: String,
}

impl BootSpec {
    /// Reads it.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    }

    /// Writes it.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        fs::write(path, serde_json::to_vec_pretty(self)?)
    }
}

/// The files of a host in its state directory.
#[derive(Debug, Clone)]
pub(super) struct HostFiles {
    /// The directory.
    pub(super) directory: PathBuf,
}

impl HostFiles {
    /// What survives a power cycle.
    pub(super) fn disk(&self) -> PathBuf {
        self.directory.join("disk")
    }

    /// Upper directory of the root overlay: what the host changed.
    pub(super) fn upper(&self) -> PathBuf {
        self.disk().join("upper")
    }

    /// Scratch directory that overlayfs needs beside the upper one.
    pub(super) fn work(&self) -> PathBuf {
        self.disk().join("work")
    }

    /// Backing directory of one of [`OWN_DIRECTORIES`].
    pub(super) fn own(&self, directory: &str) -> PathBuf {
        self.disk().join("own").join(directory.trim_matches('/').replace('/', "-"))
    }

    /// What was written by the last boot medium that was applied; on the disk, for the next boot to compare.
    pub(super) fn instance_id(&self) -> PathBuf {
        self.own("/var/lib/cloud").join("instance-id")
    }

    /// Where the root is mounted, in the host's mount namespace only.
    pub(super) fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// The [`BootSpec`] of the running boot.
    pub(super) fn spec(&self) -> PathBuf {
        self.directory.join("boot.json")
    }

    /// How far the running boot is.
    pub(super) fn progress(&self) -> PathBuf {
        self.directory.join("progress")
    }

    /// What PID 1 says.
    pub(super) fn console(&self) -> PathBuf {
        self.directory.join("console.log")
    }

    /// Whether a boot medium was ever applied.
    pub(super) fn has_booted(&self) -> bool {
        self.instance_id().exists()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_directories_have_distinct_places() {
        let files = HostFiles { directory: "/state/h1".into() };
        let places: std::collections::BTreeSet<_> = OWN_DIRECTORIES.iter().map(|d| files.own(d)).collect();
        assert_eq!(places.len(), OWN_DIRECTORIES.len());
    }
}
