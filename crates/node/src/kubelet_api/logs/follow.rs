//! Sending a log: to its end, or for as long as the container lives. The file may be set aside and begun anew meanwhile.

use std::{io, os::unix::fs::MetadataExt, path::PathBuf, time::Duration};

use bytes::Bytes;
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
    sync::mpsc::Sender,
    time::{Instant, sleep},
};

use super::{
    lines::Lines,
    options::Options,
    tail::{self, Start},
};
use crate::cri::{Runtime, messages::ContainerState};

/// How often a file that is followed is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How often the runtime is asked whether the container lives.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// How much is read at a time, in bytes.
const CHUNK: usize = 64 << 10;

/// A log, and the container that writes it.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) runtime: Runtime,
    pub(super) container: String,
    pub(super) path: PathBuf,
    pub(super) file: File,
}

/// Where output goes; fails when nobody wants it any more.
type Output = Sender<io::Result<Bytes>>;

/// Sends what is wanted. Ends early, without an error, when the receiver is gone.
///
/// # Errors
/// If the file cannot be read.
pub(super) async fn send(mut source: Source, options: Options, output: &Output) -> io::Result<()> {
    let start = source.start(&options).await?;
    source.file.seek(io::SeekFrom::Start(start.offset)).await?;
    let mut lines = Lines::new(&options, start.skip);
    let mut ended = !options.follow;
    let mut asked = Instant::now();
    while source.drain(&mut lines, output).await? {
        if !options.follow {
            break;
        }
        if let Some(next) = source.rotated().await? {
            // Until the new file was there, the container wrote to the old one.
            if !source.drain(&mut lines, output).await? {
                return Ok(());
            }
            let mut rest = Vec::new();
            lines.end_file(&mut rest);
            source.file = next;
            if !pass_on(rest, output).await {
                return Ok(());
            }
            continue;
        }
        if ended {
            break;
        }
        tokio::select! {
            () = output.closed() => return Ok(()),
            () = sleep(LOOK_INTERVAL) => {}
        }
        if asked.elapsed() >= ASK_INTERVAL {
            // If it has, the file is read once more: all is in it now.
            ended = source.has_ended().await;
            asked = Instant::now();
        }
    }
    let mut rest = Vec::new();
    lines.finish(&mut rest);
    pass_on(rest, output).await;
    Ok(())
}

impl Source {
    async fn start(&self, options: &Options) -> io::Result<Start> {
        let Some(count) = options.tail else { return Ok(Start { offset: 0, skip: 0 }) };
        let file = self.file.try_clone().await?.into_std().await;
        let stream = options.stream;
        tokio::task::spawn_blocking(move || tail::start(file, count, stream))
            .await
            .map_err(io::Error::other)?
    }

    /// Reads to the end of what is there; returns whether there is any use in going on.
    async fn drain(&mut self, lines: &mut Lines, output: &Output) -> io::Result<bool> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = self.file.read(&mut chunk).await?;
            if read == 0 {
                return Ok(true);
            }
            let mut text = Vec::new();
            lines.push(&chunk[..read], &mut text);
            if !pass_on(text, output).await || lines.is_full() {
                return Ok(false);
            }
        }
    }

    /// The new file, if another one has the name now.
    async fn rotated(&self) -> io::Result<Option<File>> {
        let next = match File::open(&self.path).await {
            Ok(next) => next,
            // It has been renamed, and the new one has not been made.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let (old, new) = (self.file.metadata().await?, next.metadata().await?);
        let same = (old.dev(), old.ino()) == (new.dev(), new.ino());
        Ok((!same).then_some(next))
    }

    async fn has_ended(&self) -> bool {
        match self.runtime.container_status(&self.container).await {
            Ok(status) => status.is_none_or(|status| status.state == ContainerState::Exited as i32),
            // A runtime that does not answer says nothing about the container.
            Err(error) => error.is_not_found(),
        }
    }
}

/// Whether somebody still listens.
async fn pass_on(text: Vec<u8>, output: &Output) -> bool {
    text.is_empty() || output.send(Ok(text.into())).await.is_ok()
}

#[cfg(test)]
mod tests;
