//! Taking everything of a cluster off this machine.

use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
};

use drystone_node::{
    config::{ContainerRuntimeConfig, NodeConfig},
    containerd,
};

use super::files;
use crate::command::Failure;

/// Services, the last to start first.
const SERVICES: [&str; 3] =
    ["drystone-node.service", "drystone-control-plane.service", "drystone-etcd.service"];

/// What the node is told.
const NODE: &str = "/etc/drystone/node.yaml";

/// Where it keeps what is its own, unless it is told otherwise.
const NODE_DATA: &str = "/var/lib/drystone/node";

/// Folders and files that are the cluster's.
const PATHS: [&str; 8] = [
    "/etc/drystone/pki",
    NODE,
    "/etc/drystone/control-plane.yaml",
    "/etc/drystone/bootstrap-token",
    "/etc/kubernetes",
    "/var/lib/drystone/control-plane",
    NODE_DATA,
    "/var/lib/drystone/etcd",
];

/// Does so. What is not there is no failure.
pub(super) async fn run() -> Result<(), Failure> {
    for service in SERVICES {
        let unit = Path::new("/etc/systemd/system").join(service);
        if unit.exists() {
            files::systemctl(&["disable", "--now", service]).await?;
            std::fs::remove_file(unit)?;
        }
    }
    // Before its folders go: it would outlive them, and the next agent would take it for one that works.
    remove_pods().await?;
    for path in PATHS.iter().chain(&[files::MARKER]).map(Path::new) {
        remove(path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// Removes all pods, and containerd, where the agent runs it.
async fn remove_pods() -> Result<(), Failure> {
    let (runtime, data) = match NodeConfig::read(Path::new(NODE)) {
        Ok(config) => (config.container_runtime, config.data_dir),
        // An installation, or a reset, that was cut short may have left none, or half of one.
        Err(error) => {
            if Path::new(NODE).exists() {
                eprintln!("{error}; containerd is looked for where installers have it");
            }
            (ContainerRuntimeConfig::default(), NODE_DATA.into())
        }
    };
    if !runtime.manage {
        return Ok(());
    }
    for left in containerd::remove(runtime.socket(), &data.join("containerd")).await? {
        eprintln!("left until this machine is started again: {left}");
    }
    Ok(())
}

/// Removes a file, or a folder with what is in it. A folder that is a mount point stays, empty.
fn remove(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.is_dir() {
        return fs::remove_file(path);
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() { remove(&entry.path())? } else { fs::remove_file(entry.path())? }
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() == ErrorKind::ResourceBusy => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_go_with_their_content_and_links_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (gone, kept) = (directory.path().join("gone"), directory.path().join("kept"));
        for folder in [&gone.join("a/b"), &kept] {
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join("file"), "x").unwrap();
        }
        std::os::unix::fs::symlink(&kept, gone.join("a/link")).unwrap();
        remove(&gone).unwrap();
        assert!(!gone.exists() && kept.join("file").exists());
        remove(&gone).unwrap();
        remove(&kept.join("file")).unwrap();
        assert!(!kept.join("file").exists());
    }
}
