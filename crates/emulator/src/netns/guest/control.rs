//! How `systemctl` inside a host asks its PID 1: one JSON request and one JSON reply per connection, over a Unix socket.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{manager::Request, root::RUNTIME_DIRECTORY};

/// Longest request that is read.
const REQUEST_MAX: u64 = 64 << 10;
/// How long a client may take to send its request.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// Where the socket lies.
pub(super) fn socket() -> PathBuf {
    PathBuf::from(RUNTIME_DIRECTORY).join("control.sock")
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verb {
    Start,
    Stop,
    Restart,
    /// Restart what runs.
    TryRestart,
    Enable,
    Disable,
    IsActive,
    IsEnabled,
    IsFailed,
    Status,
    ResetFailed,
    /// Units are read anew at every start; there is nothing to do.
    DaemonReload,
    ListUnits,
}

/// A call of `systemctl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Call {
    pub(super) verb: Verb,
    pub(super) units: Vec<String>,
    /// Start what is enabled, stop what is disabled.
    #[serde(default)]
    pub(super) now: bool,
    /// Do not wait for the end of what was begun.
    #[serde(default)]
    pub(super) no_block: bool,
}

/// What `systemctl` prints and returns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reply {
    /// Exit code.
    pub(super) code: u8,
    /// For standard output.
    pub(super) output: String,
    /// For standard error.
    pub(super) error: String,
}

/// Serves the socket until the manager is gone.
pub(super) async fn serve(listener: UnixListener, manager: mpsc::Sender<Request>) {
    loop {
        match listener.accept().await {
            Ok((connection, _)) => {
                tokio::spawn(answer(connection, manager.clone()));
            }
            Err(error) => {
                eprintln!("control socket: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(mut connection: UnixStream, manager: mpsc::Sender<Request>) {
    let mut bytes = Vec::new();
    let mut limited = (&mut connection).take(REQUEST_MAX);
    // A client that went away, or never spoke, gets no answer.
    let Ok(Ok(_)) = timeout(REQUEST_DEADLINE, limited.read_to_end(&mut bytes)).await else { return };
    let reply = match serde_json::from_slice(&bytes) {
        Ok(call) => ask(&manager, call).await,
        Err(error) => Reply { code: 1, error: format!("malformed request: {error}\n"), ..Reply::default() },
    };
    if let Ok(text) = serde_json::to_vec(&reply) {
        let _ = connection.write_all(&text).await;
    }
}

/// Has the manager do a call.
pub(super) async fn ask(manager: &mpsc::Sender<Request>, call: Call) -> Reply {
    let (reply, answer) = oneshot::channel();
    let gone = || Reply { code: 1, error: "the host is shutting down\n".to_owned(), ..Reply::default() };
    if manager.send(Request::Call { call, reply }).await.is_err() {
        return gone();
    }
    answer.await.unwrap_or_else(|_| gone())
}
