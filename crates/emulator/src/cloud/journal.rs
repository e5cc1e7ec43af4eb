//! Stacks on disk: a line for every change, many changes to one write.
//!
//! The last line of a stack is how it is; a line without a stack says that it is gone. Whoever writes something down waits until it is durable;
//! what waits at the same time is written together. When the file is several times as long as what it says, it is written anew.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::model::Record;
use crate::state::StateError;

/// Bytes that the file may always have.
const LEAST: u64 = 4 << 20;
/// How many times as long as what it says it may become.
const FACTOR: u64 = 4;
/// Changes that are written together at most.
const MOST_TOGETHER: usize = 512;

/// A line.
#[derive(Serialize, Deserialize)]
struct Line<R> {
    id: Uuid,
    stack: Option<R>,
}

/// A change that is to be written.
struct Change {
    id: Uuid,
    line: Arc<[u8]>,
    gone: bool,
    done: oneshot::Sender<Result<(), String>>,
}

/// Writes stacks down.
#[derive(Debug, Clone)]
pub(super) struct Journal {
    changes: mpsc::UnboundedSender<Change>,
}

/// Tells when something is durable.
pub(super) struct Written(oneshot::Receiver<Result<(), String>>);

impl Written {
    /// Waits until it is.
    ///
    /// # Errors
    /// It cannot be written; the text says why.
    pub(super) async fn wait(self) -> Result<(), String> {
        self.0.await.unwrap_or_else(|_| Err("the journal has ended".to_owned()))
    }
}

impl Journal {
    /// Reads what there is, and goes on from there.
    ///
    /// # Errors
    /// The file system refuses, or the file holds something else.
    pub(super) fn open(path: PathBuf) -> Result<(Self, Vec<Record>), StateError> {
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(StateError::File { path, source }),
        };
        let mut lines: HashMap<Uuid, Arc<[u8]>> = HashMap::new();
        // A line that was not written to its end was never acknowledged.
        for line in text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            let known: Line<serde::de::IgnoredAny> = parse(&path, line)?;
            match known.stack {
                Some(_) => lines.insert(known.id, line.into()),
                None => lines.remove(&known.id),
            };
        }
        let records = lines
            .values()
            .map(|line| parse::<Line<Record>>(&path, line))
            .filter_map(|line| line.map(|line| line.stack).transpose())
            .collect::<Result<Vec<_>, _>>()?;
        let mut writer = Writer { path: path.clone(), file: None, length: 0, lines };
        writer.rewrite().map_err(|source| StateError::File { path, source })?;
        let (changes, receiver) = mpsc::unbounded_channel();
        tokio::spawn(run(writer, receiver));
        Ok((Self { changes }, records))
    }

    /// Takes a change down; call it in the order of the changes. A record that is `None` is gone.
    pub(super) fn write(&self, id: Uuid, record: Option<&Record>) -> Written {
        let (done, written) = oneshot::channel();
        match serde_json::to_vec(&Line { id, stack: record }) {
            Ok(mut line) => {
                line.push(b'\n');
                let change = Change { id, line: line.into(), gone: record.is_none(), done };
                // If the writer is gone, whoever waits is told.
                let _ = self.changes.send(change);
            }
            Err(error) => drop(done.send(Err(error.to_string()))),
        }
        Written(written)
    }
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, line: &[u8]) -> Result<T, StateError> {
    serde_json::from_slice(line)
        .map_err(|error| StateError::Content { path: path.to_owned(), reason: error.to_string() })
}

async fn run(mut writer: Writer, mut changes: mpsc::UnboundedReceiver<Change>) {
    let mut together = Vec::new();
    while changes.recv_many(&mut together, MOST_TOGETHER).await > 0 {
        let batch = std::mem::take(&mut together);
        let written = tokio::task::spawn_blocking(move || {
            let outcome = writer.append(&batch).map_err(|error| error.to_string());
            for change in batch {
                // Whoever waited may have gone.
                let _ = change.done.send(outcome.clone());
            }
            writer
        });
        match written.await {
            Ok(back) => writer = back,
            Err(_) => return,
        }
    }
}

struct Writer {
    path: PathBuf,
    file: Option<File>,
    length: u64,
    lines: HashMap<Uuid, Arc<[u8]>>,
}

impl Writer {
    fn append(&mut self, batch: &[Change]) -> io::Result<()> {
        let mut text = Vec::new();
        for change in batch {
            text.extend_from_slice(&change.line);
        }
        if self.file.is_none() {
            self.rewrite()?;
        }
        let Some(file) = &mut self.file else { return Err(io::Error::other("the journal is not open")) };
        if let Err(error) = file.write_all(&text).and_then(|()| file.sync_data()) {
            // What was written in part is cut off, and the file opened anew.
            let _ = file.set_len(self.length);
            self.file = None;
            return Err(error);
        }
        self.length += text.len() as u64;
        for change in batch {
            if change.gone {
                self.lines.remove(&change.id);
            } else {
                self.lines.insert(change.id, Arc::clone(&change.line));
            }
        }
        let said: u64 = self.lines.values().map(|line| line.len() as u64).sum::<u64>() * FACTOR;
        if self.length > said.max(LEAST) {
            // The file is good as it is; that it is long costs nothing but room.
            if let Err(error) = self.rewrite() {
                tracing::warn!(path = %self.path.display(), %error, "the journal stays long");
            }
        }
        Ok(())
    }

    /// Writes what is said beside, and puts it in place of the file.
    fn rewrite(&mut self) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
        let mut length = 0;
        for line in self.lines.values() {
            file.write_all(line)?;
            length += line.len() as u64;
        }
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)?;
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        (self.file, self.length) = (Some(file), length);
        Ok(())
    }
}
