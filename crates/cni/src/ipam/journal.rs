//! The journal: one line of JSON per change, appended and synced before the change is answered.
//!
//! A crash can tear the last line only, because a line is written after the one before it is on disk. Opening cuts a torn
//! line off. A write that fails is cut off too, so that what follows it stays readable. When the journal is mostly
//! history, it is written anew beside the old one and renamed over it.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions, TryLockError},
    io::{BufRead, BufReader, Seek, SeekFrom, Write},
    net::Ipv4Addr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::Holding;
use crate::protocol::Attachment;

/// Lines that are always tolerated before a journal is written anew.
const MIN_LINES_TO_COMPACT: usize = 512;

/// A journal that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Reading or writing failed.
    #[error("the address journal {} cannot be {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Another agent is running.
    #[error("the address journal {} is in use by another process; is the node agent running twice?", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// A line in the middle makes no sense, which no crash explains.
    #[error("line {line} of the address journal {} cannot be decoded: {problem}; the disk may be damaged", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// An earlier write failed and could not be undone.
    #[error("the address journal {} is not usable since a write failed; restart the node agent", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "camelCase")]
enum Change {
    Allocated {
        address: Ipv4Addr,
        #[serde(flatten)]
        attachment: Attachment,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        netns: Option<PathBuf>,
    },
    Released {
        #[serde(flatten)]
        attachment: Attachment,
    },
    /// The address given last, for a journal that was written anew.
    Last { address: Ipv4Addr },
}

/// What a journal says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Replayed {
    pub(super) holdings: BTreeMap<Attachment, Holding>,
    pub(super) last: Option<Ipv4Addr>,
}

impl Replayed {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Allocated { address, attachment, netns } => {
                self.last = Some(address);
                self.holdings.insert(attachment, Holding { address, network_namespace: netns });
            }
            Change::Released { attachment } => {
                self.holdings.remove(&attachment);
            }
            Change::Last { address } => self.last = Some(address),
        }
    }
}

/// An open journal, positioned at its end.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// Length of what is known to be good, in bytes.
    length: u64,
    lines: usize,
    broken: bool,
}

impl Journal {
    /// Opens or makes a journal, cuts a torn line off, and reads it.
    pub(super) fn open(path: &Path) -> Result<(Self, Replayed), JournalError> {
        let file = open_locked(path)?;
        let mut journal = Self { path: path.to_owned(), file, length: 0, lines: 0, broken: false };
        let replayed = journal.replay()?;
        journal.file.set_len(journal.length).map_err(|source| journal.io("truncated", source))?;
        journal.file.seek(SeekFrom::End(0)).map_err(|source| journal.io("read", source))?;
        journal.sync_directory()?;
        Ok((journal, replayed))
    }

    fn replay(&mut self) -> Result<Replayed, JournalError> {
        let mut replayed = Replayed::default();
        let reader = self.file.try_clone().map_err(|source| self.io("read", source))?;
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = reader.read_until(b'\n', &mut line).map_err(|source| self.io("read", source))?;
            if line.last() != Some(&b'\n') {
                return Ok(replayed);
            }
            match serde_json::from_slice(&line) {
                Ok(change) => replayed.apply(change),
                // The last line may be torn in the middle although its end was written.
                Err(_) if reader.fill_buf().is_ok_and(<[u8]>::is_empty) => return Ok(replayed),
                Err(error) => {
                    return Err(JournalError::Corrupt {
                        path: self.path.clone(),
                        line: self.lines + 1,
                        problem: error.to_string(),
                    });
                }
            }
            self.lines += 1;
            self.length += length as u64;
        }
    }

    pub(super) fn allocated(
        &mut self,
        attachment: &Attachment,
        holding: &Holding,
    ) -> Result<(), JournalError> {
        self.append(&allocated(attachment, holding))
    }

    pub(super) fn released(&mut self, attachment: &Attachment) -> Result<(), JournalError> {
        self.append(&Change::Released { attachment: attachment.clone() })
    }

    fn append(&mut self, change: &Change) -> Result<(), JournalError> {
        if self.broken {
            return Err(JournalError::Broken { path: self.path.clone() });
        }
        let line = encode(change).map_err(|source| self.io("written", source))?;
        match self.file.write_all(&line).and_then(|()| self.file.sync_data()) {
            Ok(()) => {
                self.length += line.len() as u64;
                self.lines += 1;
                Ok(())
            }
            Err(source) => {
                // Half a line may be there. If it cannot be cut off, nothing may be written behind it.
                let undone = self.file.set_len(self.length).and_then(|()| self.file.seek(SeekFrom::End(0)));
                self.broken = undone.is_err();
                Err(self.io("written", source))
            }
        }
    }

    /// Writes the journal anew if most of it is history.
    pub(super) fn compact_if_worthwhile(
        &mut self,
        holdings: &BTreeMap<Attachment, Holding>,
        last: Option<Ipv4Addr>,
    ) -> Result<(), JournalError> {
        if self.broken || self.lines < MIN_LINES_TO_COMPACT.max(holdings.len() * 4) {
            return Ok(());
        }
        let mut text = Vec::new();
        let changes = holdings.iter().map(|(attachment, holding)| allocated(attachment, holding));
        for change in changes.chain(last.map(|address| Change::Last { address })) {
            text.extend(encode(&change).map_err(|source| self.io("written", source))?);
        }
        let temporary = self.path.with_extension("new");
        // A leftover of a crash, perhaps.
        let _ = fs::remove_file(&temporary);
        let mut file = open_locked(&temporary)?;
        let written = file.write_all(&text).and_then(|()| file.sync_data());
        written
            .and_then(|()| fs::rename(&temporary, &self.path))
            .map_err(|source| self.io("written anew", source))?;
        self.file = file;
        self.length = text.len() as u64;
        self.lines = holdings.len() + 1;
        self.sync_directory()
    }

    fn sync_directory(&self) -> Result<(), JournalError> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let synced = File::open(directory).and_then(|directory| directory.sync_all());
        synced.map_err(|source| self.io("synced", source))
    }

    fn io(&self, action: &'static str, source: std::io::Error) -> JournalError {
        JournalError::Io { path: self.path.clone(), action, source }
    }
}

fn allocated(attachment: &Attachment, holding: &Holding) -> Change {
    Change::Allocated {
        address: holding.address,
        attachment: attachment.clone(),
        netns: holding.network_namespace.clone(),
    }
}

fn encode(change: &Change) -> std::io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(change)?;
    line.push(b'\n');
    Ok(line)
}

fn open_locked(path: &Path) -> Result<File, JournalError> {
    let io = |source| JournalError::Io { path: path.to_owned(), action: "opened", source };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}
