//! Keeping containers' logs short: a log that grew too long is set aside, and the oldest set aside is removed.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;

use super::worker::PodContext;
use crate::cri::messages::ContainerState;

/// How often logs are looked at.
const INTERVAL: Duration = Duration::from_secs(10);
/// A log longer than this is set aside, in bytes.
const MAX_SIZE: u64 = 10 << 20;
/// How many there are of a container, the current one included.
const MAX_FILES: usize = 5;

/// Goes on for ever.
pub(super) async fn run(context: Arc<PodContext>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        if let Err(problem) = rotate_all(&context).await {
            tracing::warn!(problem, "rotating logs");
        }
    }
}

async fn rotate_all(context: &PodContext) -> Result<(), String> {
    let containers = context
        .runtime
        .list_containers(std::collections::HashMap::new())
        .await
        .map_err(|error| error.to_string())?;
    for container in containers {
        if container.state != ContainerState::Running as i32 {
            continue;
        }
        let Ok(Some(status)) = context.runtime.container_status(&container.id).await else { continue };
        let path = PathBuf::from(&status.log_path);
        let length = tokio::fs::metadata(&path).await.map_or(0, |found| found.len());
        if length <= MAX_SIZE {
            continue;
        }
        let aside = set_aside(&path, Timestamp::now());
        tokio::fs::rename(&path, &aside).await.map_err(|error| format!("{}: {error}", path.display()))?;
        if let Err(error) = context.runtime.reopen_container_log(&container.id).await {
            // The container writes to the old file: give it back its name, and try again later.
            let _ = tokio::fs::rename(&aside, &path).await;
            return Err(error.to_string());
        }
        for old in superfluous(&path) {
            tokio::fs::remove_file(&old).await.map_err(|error| format!("{}: {error}", old.display()))?;
        }
    }
    Ok(())
}

/// The name under which a log is set aside: `0.log.20260102-030405`, as kubelets have it.
fn set_aside(path: &Path, now: Timestamp) -> PathBuf {
    let time = now.strftime("%Y%m%d-%H%M%S");
    PathBuf::from(format!("{}.{time}", path.display()))
}

/// Logs set aside that are too many, the oldest ones.
fn superfluous(path: &Path) -> Vec<PathBuf> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
    let prefix = format!("{}.", name.to_string_lossy());
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut aside: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect();
    aside.sort();
    let kept = aside.len().min(MAX_FILES - 1);
    aside.truncate(aside.len() - kept);
    aside
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        for second in 0..7 {
            let time = Timestamp::from_second(1_800_000_000 + second).unwrap();
            std::fs::write(set_aside(&path, time), "").unwrap();
        }
        std::fs::write(directory.path().join("1.log.20260101-000000"), "").unwrap();
        let gone = superfluous(&path);
        let oldest: Vec<PathBuf> = (0..3)
            .map(|second| set_aside(&path, Timestamp::from_second(1_800_000_000 + second).unwrap()))
            .collect();
        assert_eq!(gone, oldest);
    }
}
