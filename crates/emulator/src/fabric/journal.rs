//! Changes since a file was written, one a line: a change costs what it is big, not what everything is that is kept.
//!
//! What is kept is the file with the journal's lines applied to it in their order. Every line says how something is then, so
//! that lines which are in the file already do no harm. A line that was not written to its end was never acknowledged.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::state::StateError;

/// Bytes that a journal may always have.
const LEAST: u64 = 64 << 10;

/// A journal. Its owner writes the whole and clears it when it is long.
#[derive(Debug, Default)]
pub(super) struct Journal {
    path: PathBuf,
    /// Bytes of the lines that were acknowledged.
    length: u64,
    limit: u64,
}

impl Journal {
    /// Reads a journal; one that is not there is empty.
    ///
    /// # Errors
    /// The file system refuses, or a whole line makes no sense.
    pub(super) fn open<T: DeserializeOwned>(path: PathBuf) -> Result<(Self, Vec<T>), StateError> {
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(StateError::File { path, source }),
        };
        let mut lines = Vec::new();
        let mut length = 0;
        for line in text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            length += line.len();
            match serde_json::from_slice(line) {
                Ok(line) => lines.push(line),
                Err(error) => return Err(StateError::Content { path, reason: error.to_string() }),
            }
        }
        Ok((Self { path, length: length as u64, limit: 0 }, lines))
    }

    /// An empty journal at a path.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, length: 0, limit: 0 }
    }

    /// Whether there is nothing in it.
    pub(super) const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether it is time to write the whole.
    pub(super) fn is_long(&self) -> bool {
        self.length > self.limit.max(LEAST)
    }

    /// Sets how long it may become: as long as the whole, so that writing the whole costs no more than the lines did.
    pub(super) const fn set_limit(&mut self, whole: usize) {
        self.limit = whole as u64;
    }

    /// Adds lines; they are durable when this returns.
    ///
    /// # Errors
    /// The file system refuses; then none of them is kept.
    pub(super) async fn append<T: Serialize>(&mut self, lines: &[T]) -> Result<(), StateError> {
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, line).map_err(|error| StateError::Content {
                path: self.path.clone(),
                reason: error.to_string(),
            })?;
            text.push(b'\n');
        }
        let (path, length, added) = (self.path.clone(), self.length, text.len() as u64);
        self.run(move || append(&path, length, &text)).await?;
        self.length += added;
        Ok(())
    }

    /// Forgets all lines.
    ///
    /// # Errors
    /// The file system refuses.
    pub(super) async fn clear(&mut self) -> Result<(), StateError> {
        let path = self.path.clone();
        self.run(move || match OpenOptions::new().write(true).open(&path) {
            Ok(file) => file.set_len(0).and_then(|()| file.sync_data()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        })
        .await?;
        self.length = 0;
        Ok(())
    }

    /// Runs off the threads that serve requests.
    async fn run(&self, work: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<(), StateError> {
        let done =
            tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)));
        done.map_err(|source| StateError::File { path: self.path.clone(), source })
    }
}

/// Writes text at the end of what was acknowledged, over what was not, and syncs.
fn append(path: &Path, length: u64, text: &[u8]) -> io::Result<()> {
    let fresh = !path.exists();
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    if file.metadata()?.len() != length {
        file.set_len(length)?;
    }
    let written = file.write_all(text).and_then(|()| file.sync_data());
    if written.is_err() {
        // Whether this works or not: the next lines are written over it.
        let _ = file.set_len(length);
        return written;
    }
    if fresh {
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_kept_and_an_unfinished_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.log");
        let (mut journal, lines) = Journal::open::<u32>(path.clone()).unwrap();
        assert!(lines.is_empty() && journal.is_empty());
        journal.append(&[1_u32, 2]).await.unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"[unfinished").unwrap();
        let (mut journal, lines) = Journal::open::<u32>(path.clone()).unwrap();
        assert_eq!(lines, [1, 2]);
        journal.append(&[3_u32]).await.unwrap();
        assert_eq!(Journal::open::<u32>(path.clone()).unwrap().1, [1, 2, 3]);
        journal.clear().await.unwrap();
        assert!(Journal::open::<u32>(path).unwrap().1.is_empty());
    }

    #[tokio::test]
    async fn a_damaged_line_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.log");
        std::fs::write(&path, "1\nx\n2\n").unwrap();
        assert!(Journal::open::<u32>(path).unwrap_err().to_string().contains("x.log"));
    }

    #[tokio::test]
    async fn it_is_long_when_it_is_longer_than_the_whole() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(directory.path().join("x.log"));
        journal.append(&["x".repeat(70 << 10)]).await.unwrap();
        assert!(journal.is_long());
        journal.set_limit(80 << 10);
        assert!(!journal.is_long());
    }
}
