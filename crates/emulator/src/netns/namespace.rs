//! Named network namespaces: made, marked with their owner, found again, removed.
//!
//! The mark is the alias of the namespace's `lo`: it is set when the namespace is complete and holds the state directory
//! of the emulator that made it. A restarted emulator thus learns from the kernel itself what is its own, what was left
//! half made, and what belongs to an emulator that runs from another directory.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::command::{Tool, ToolError};

/// Where iproute2 keeps namespaces by name.
const DIRECTORY: &str = "/run/netns";
/// What every owner's mark starts with.
const MARK: &str = "drystone:";

/// Path of a named network namespace.
pub(super) fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Whether the namespace exists: its name may be left over as an empty file after an unclean end.
pub(super) fn exists(name: &str) -> bool {
    inode(name).is_some()
}

/// The namespace's number in the kernel, as `/proc/PID/ns/net` shows it; `None` if there is no such namespace.
pub(super) fn inode(name: &str) -> Option<u64> {
    let named = std::fs::metadata(path(name)).ok()?;
    // A mere file lies on the tmpfs of /run, a namespace on nsfs: the same device as our own.
    let nsfs = std::fs::metadata("/proc/self/ns/net").ok()?.dev();
    (named.dev() == nsfs).then(|| named.ino())
}

/// Names of all namespaces (and leftover names) on this machine.
pub(super) fn list() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(DIRECTORY) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Makes a namespace anew, with `lo` up.
pub(super) async fn create(name: &str) -> Result<(), ToolError> {
    delete(name).await?;
    Tool::new("ip").arguments(["netns", "add", name]).run().await?;
    Tool::ip_in(name, ["link", "set", "lo", "up"]).run().await?;
    Ok(())
}

/// Removes a namespace, and with it the interfaces in it; nothing happens if there is none.
pub(super) async fn delete(name: &str) -> Result<(), ToolError> {
    if path(name).exists() {
        Tool::new("ip").arguments(["netns", "delete", name]).run().await?;
    }
    Ok(())
}

/// Marks a namespace as complete and owned.
pub(super) async fn mark(name: &str, owner: &str) -> Result<(), ToolError> {
    Tool::ip_in(name, ["link", "set", "lo", "alias", &format!("{MARK}{owner}")]).run().await?;
    Ok(())
}

/// Whom a namespace belongs to; `None` if it is missing, unmarked (half made) or not ours to judge.
pub(super) async fn owner(name: &str) -> Option<String> {
    if !exists(name) {
        return None;
    }
    let links = links(name).await.ok()?;
    let lo = links.into_iter().find(|link| link.name == "lo")?;
    Some(lo.alias?.strip_prefix(MARK)?.to_owned())
}

/// An interface as `ip -json link` shows it.
#[derive(Debug, Deserialize)]
pub(super) struct Link {
    /// Its name.
    #[serde(rename = "ifname")]
    pub(super) name: String,
    /// Free text that the administrator gave it.
    #[serde(rename = "ifalias")]
    pub(super) alias: Option<String>,
}

/// The interfaces in a namespace.
pub(super) async fn links(name: &str) -> Result<Vec<Link>, ToolError> {
    let text = Tool::ip_in(name, ["-json", "link", "show"]).run().await?;
    serde_json::from_str(&text)
        .map_err(|error| ToolError::Output { command: format!("ip -n {name} -json link show"), error })
}
