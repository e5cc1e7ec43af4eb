//! Importing image archives: what a node has without a registry.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{process::Command, time::timeout};

use super::configuration::find_program;

/// How long an import may take.
const DEADLINE: Duration = Duration::from_secs(300);

/// An archive that cannot be imported.
#[derive(Debug, thiserror::Error)]
#[error("the image archive {} cannot be imported: {problem}", archive.display())]
pub struct ImportError {
    archive: PathBuf,
    problem: String,
}

/// Imports the images of an archive (OCI layout or Docker, tar) into containerd, where CRI sees them.
///
/// # Errors
/// [`ImportError`] if the archive is missing or broken, or containerd's client `ctr` is not installed.
pub async fn import(socket: &Path, archive: &Path) -> Result<(), ImportError> {
    let failed = |problem: String| ImportError { archive: archive.to_owned(), problem };
    if !archive.is_file() {
        return Err(failed("there is no such file; check `images` in the node configuration".into()));
    }
    let ctr = find_program("ctr")
        .ok_or_else(|| failed("`ctr` is not installed; it comes with containerd".into()))?;
    let mut command = Command::new(ctr);
    command.arg("--address").arg(socket).args(["--namespace", "k8s.io", "images", "import"]).arg(archive);
    command.kill_on_drop(true);
    match timeout(DEADLINE, command.output()).await {
        Err(_) => Err(failed(format!("it did not end within {} s", DEADLINE.as_secs()))),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}
