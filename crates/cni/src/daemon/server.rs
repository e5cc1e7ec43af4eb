//! Serving the socket.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Answer, Handler, MAX_MESSAGE, Request};
use crate::protocol::{CniError, Command, ErrorCode, NetworkConfiguration};

/// How long a caller may take to send its request or to take the answer.
const TRANSFER_DEADLINE: Duration = Duration::from_secs(5);
/// How long a command may take; the plugin waits a little longer.
const COMMAND_DEADLINE: Duration = Duration::from_secs(50);
/// Commands at the same time; further ones wait.
const MAX_CALLS: usize = 64;

/// The socket cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the CNI socket {} cannot be opened: {source}", path.display())]
pub struct ServeError {
    path: PathBuf,
    source: std::io::Error,
}

/// A bound socket.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Binds the socket, with mode 0600; replaces one that an earlier agent left.
    ///
    /// # Errors
    /// [`ServeError`] if that fails.
    pub fn bind(path: &Path) -> Result<Self, ServeError> {
        let failed = |source| ServeError { path: path.to_owned(), source };
        if let Some(directory) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(failed)?;
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Answers until `shutdown`; commands that are under way are finished.
    pub async fn run(self, handler: Arc<dyn Handler>, shutdown: CancellationToken) {
        let calls = TaskTracker::new();
        let permits = Arc::new(Semaphore::new(MAX_CALLS));
        loop {
            let stream = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(%error, "accepting a CNI call");
                        // Out of file descriptors, most likely: others must finish first.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
            };
            let (handler, permits) = (Arc::clone(&handler), Arc::clone(&permits));
            calls.spawn(async move {
                let Ok(_permit) = permits.acquire_owned().await else { return };
                if let Err(error) = serve(stream, handler).await {
                    tracing::debug!(%error, "a CNI call was not finished");
                }
            });
        }
        calls.close();
        calls.wait().await;
        // Gone or not, the next agent replaces it.
        let _ = fs::remove_file(&self.path);
    }
}

async fn serve(stream: UnixStream, handler: Arc<dyn Handler>) -> std::io::Result<()> {
    let (input, mut output) = stream.into_split();
    let mut line = String::new();
    timeout(TRANSFER_DEADLINE, BufReader::new(input.take(MAX_MESSAGE)).read_line(&mut line)).await??;
    // A command that is begun goes on when its caller dies: half an attachment is worse than one too many.
    let done = tokio::spawn(async move { timeout(COMMAND_DEADLINE, dispatch(&line, &*handler)).await });
    let answer = match done.await {
        Ok(Ok(Ok(result))) => Answer::Result(result),
        Ok(Ok(Err(error))) => Answer::Error(error),
        Ok(Err(_)) => Answer::Error(CniError::new(
            ErrorCode::TryAgainLater,
            format!("the node agent gave up after {} s", COMMAND_DEADLINE.as_secs()),
        )),
        Err(error) => Answer::Error(CniError::new(ErrorCode::Other(999), format!("internal error: {error}"))),
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    timeout(TRANSFER_DEADLINE, output.write_all(&line)).await?
}

async fn dispatch(line: &str, handler: &dyn Handler) -> Result<Value, CniError> {
    let request: Request = serde_json::from_str(line).map_err(|error| {
        CniError::new(ErrorCode::Decode, format!("the request cannot be decoded: {error}"))
    })?;
    let environment = request.environment;
    environment.check()?;
    let configuration = NetworkConfiguration::from_json(request.configuration)?;
    match environment.command {
        Command::Add => {
            let own = handler.add(&environment, &configuration).await?;
            let mut result = configuration.previous.clone().unwrap_or_default();
            result.append(own);
            return Ok(result.to_json(configuration.version));
        }
        Command::Del => handler.del(&environment, &configuration).await?,
        Command::Check => handler.check(&environment, &configuration).await?,
        Command::Status => handler.status().await?,
        Command::Gc => handler.collect(&configuration).await?,
        Command::Version => return Ok(crate::protocol::SpecVersion::report()),
    }
    Ok(Value::Null)
}
