//! The end of a containerd of the agent's own, with all that it runs: for a machine that leaves its cluster.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::{Instant, sleep};

use super::supervisor::CONFIGURATION;
use crate::cri::Runtime;

/// How long containerd may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(10);
/// How long it may take after it was killed.
const KILLED: Duration = Duration::from_secs(5);

/// What keeps containerd from being removed.
#[derive(Debug, thiserror::Error)]
pub enum RemovalError {
    /// Processes cannot be looked at.
    #[error("/proc cannot be read: {0}")]
    Processes(io::Error),
    /// It cannot be ended.
    #[error("containerd (process {process}) cannot be ended: {reason}; end it, and try again")]
    Ended {
        /// Its process.
        process: i32,
        /// Why not.
        reason: String,
    },
}

/// Removes all pods of the containerd that the agent runs from this directory, and ends it; its agent must have ended. One that was left by
/// an agent would be taken over by the next, but looks for networks in folders that are gone. Gives what could not be removed of pods, which
/// ends with the machine.
///
/// # Errors
/// [`RemovalError`] if it goes on.
pub async fn remove(socket: &Path, directory: &Path) -> Result<Vec<String>, RemovalError> {
    let configuration = directory.join(CONFIGURATION);
    let processes = processes_with(&configuration).map_err(RemovalError::Processes)?;
    if processes.is_empty() {
        return Ok(Vec::new());
    }
    let left = remove_pods(socket).await.unwrap_or_else(|error| vec![format!("pods: {error}")]);
    for process in processes {
        end(process).await?;
    }
    Ok(left)
}

async fn remove_pods(socket: &Path) -> Result<Vec<String>, Box<dyn std::error::Error + Send + Sync>> {
    let runtime = Runtime::new(socket)?;
    let mut left = Vec::new();
    for sandbox in runtime.list_pod_sandboxes(HashMap::new()).await? {
        let removed = async {
            runtime.stop_pod_sandbox(&sandbox.id).await?;
            runtime.remove_pod_sandbox(&sandbox.id).await
        };
        if let Err(error) = removed.await {
            left.push(format!("pod sandbox {}: {error}", sandbox.id));
        }
    }
    Ok(left)
}

/// Processes that were started with this configuration.
fn processes_with(configuration: &Path) -> io::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(number) = entry?.file_name().to_string_lossy().parse::<i32>() else { continue };
        // One that has ended meanwhile is none.
        let Ok(arguments) = fs::read(PathBuf::from("/proc").join(number.to_string()).join("cmdline")) else {
            continue;
        };
        let mut arguments = arguments.split(|byte| *byte == 0);
        let is_containerd = arguments.next().is_some_and(|program| program.ends_with(b"containerd"));
        let wanted = configuration.as_os_str().as_encoded_bytes();
        if is_containerd && arguments.any(|argument| argument == wanted) {
            found.push(Pid::from_raw(number));
        }
    }
    Ok(found)
}

async fn end(process: Pid) -> Result<(), RemovalError> {
    let failed = |reason: String| RemovalError::Ended { process: process.as_raw(), reason };
    for (signal, patience) in [(Signal::SIGTERM, GRACE), (Signal::SIGKILL, KILLED)] {
        match kill(process, signal) {
            Err(Errno::ESRCH) => return Ok(()),
            Err(error) => return Err(failed(error.to_string())),
            Ok(()) => {}
        }
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if is_over(process) {
                return Ok(());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
    Err(failed("it was killed and is still there".to_owned()))
}

/// Whether a process has ended, though its parent may not have looked yet.
fn is_over(process: Pid) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{process}/stat")) else { return true };
    // After the name, which is in brackets and may hold anything.
    status.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Something that is called containerd, and ignores the signal to end.
    fn stubborn(directory: &Path, configuration: &Path) -> std::process::Child {
        let program = directory.join("containerd");
        fs::write(&program, "#!/bin/sh\ntrap '' TERM\necho ready\nread line\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        // As the kernel shows a program: by an interpreter it would be its argument.
        let mut child = std::process::Command::new("/bin/sh");
        std::os::unix::process::CommandExt::arg0(&mut child, "/usr/bin/containerd");
        let mut child = child
            .args([program.as_os_str(), "--config".as_ref(), configuration.as_os_str()])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = child.stdout.as_mut().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).unwrap();
        assert_eq!(line, "ready\n");
        child
    }

    #[tokio::test]
    async fn only_ones_own_is_ended() {
        let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut gone = stubborn(own.path(), &own.path().join(CONFIGURATION));
        let mut stays = stubborn(other.path(), &other.path().join(CONFIGURATION));
        let left = remove(&own.path().join("nobody.sock"), own.path()).await.unwrap();
        // Nobody was there to be asked for pods, and that is said.
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(!gone.wait().unwrap().success());
        assert!(stays.try_wait().unwrap().is_none(), "another one's has ended");
        assert_eq!(remove(&own.path().join("nobody.sock"), own.path()).await.unwrap(), [""; 0]);
        stays.kill().unwrap();
        stays.wait().unwrap();
    }
}
