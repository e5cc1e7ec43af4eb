//! Taking everything of a cluster off this machine.

use std::{io::ErrorKind, path::Path};

use super::files;
use crate::command::Failure;

/// Services, the last to start first.
const SERVICES: [&str; 3] =
    ["drystone-node.service", "drystone-control-plane.service", "drystone-etcd.service"];

/// Folders and files that are the cluster's.
const PATHS: [&str; 8] = [
    "/etc/drystone/pki",
    "/etc/drystone/node.yaml",
    "/etc/drystone/control-plane.yaml",
    "/etc/drystone/bootstrap-token",
    "/etc/kubernetes",
    "/var/lib/drystone/control-plane",
    "/var/lib/drystone/node",
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
    for path in PATHS.iter().chain(&[files::MARKER]).map(Path::new) {
        let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(format!("{}: {error}", path.display()).into());
            }
            _ => {}
        }
    }
    Ok(())
}
