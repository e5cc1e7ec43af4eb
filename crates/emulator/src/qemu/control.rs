//! QEMU's control socket (QMP): commands in JSON, one a line.

use std::{io, path::Path, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    time::timeout,
};

/// How long QEMU may take to answer.
const LIMIT: Duration = Duration::from_secs(20);

/// Gives one command and waits until it has been accepted.
pub(super) async fn command(socket: &Path, name: &str) -> io::Result<()> {
    match timeout(LIMIT, converse(socket, name)).await {
        Ok(done) => done,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "QEMU does not answer on its control socket")),
    }
}

async fn converse(socket: &Path, name: &str) -> io::Result<()> {
    let (reading, mut writing) = UnixStream::connect(socket).await?.into_split();
    let mut lines = BufReader::new(reading).lines();
    for command in ["qmp_capabilities", name] {
        writing.write_all(format!("{}\n", json!({"execute": command})).as_bytes()).await?;
        loop {
            let Some(line) = lines.next_line().await? else {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "QEMU closed its control socket"));
            };
            let answer: Value = serde_json::from_str(&line)?;
            if let Some(error) = answer.get("error") {
                return Err(io::Error::other(format!("QEMU refuses {command}: {error}")));
            }
            // Greeting and events come in between.
            if answer.get("return").is_some() {
                break;
            }
        }
    }
    Ok(())
}
