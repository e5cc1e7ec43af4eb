//! An upload that is being added to: bytes first, then the record of them, so that no offset is told that a crash could take back.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::OwnedMutexGuard;

use super::{StoreError, Upload, files, record::Record};
use crate::digest::{Digest, Hasher};

/// While more is coming, what was written is made safe when it is much and a little time has passed, or when much time has.
const MUCH: u64 = 64 * 1024 * 1024;
const LITTLE_TIME: Duration = Duration::from_secs(2);
const MUCH_TIME: Duration = Duration::from_secs(10);

/// What is kept in memory between two requests, so that nothing is hashed twice.
#[derive(Debug)]
pub(super) struct Warm {
    offset: u64,
    hasher: Hasher,
}

/// Where an upload was.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    pub(super) offset: u64,
    hasher: Hasher,
}

/// An upload that is being added to, by one at a time. All of it blocks.
#[derive(Debug)]
pub(super) struct Session {
    upload: Arc<Upload>,
    /// Held as long as files may be changed, by whatever thread.
    place: OwnedMutexGuard<Option<Warm>>,
    file: File,
    offset: u64,
    hasher: Hasher,
    /// Since when what is not safe is not.
    safe: Instant,
}

impl Session {
    /// Goes on where the record says. What is on disk and not in the record is dropped; what is in the record and not on disk as it was
    /// makes the upload begin anew.
    pub(super) fn resume(
        upload: Arc<Upload>,
        mut place: OwnedMutexGuard<Option<Warm>>,
    ) -> Result<Self, StoreError> {
        let record = upload.record();
        files::make_directory(&upload.directory)?;
        let path = upload.data();
        let file = files::open_or_create(&path)?;
        let failed = |error| StoreError::io("read", &path)(error);
        let size = file.metadata().map_err(failed)?.len();
        let hasher = match place.take() {
            _ if size < record.offset => None,
            Some(warm) if warm.offset == record.offset => Some(warm.hasher),
            _ => {
                let mut hasher = Hasher::new();
                let read = hasher.read(&mut &file, record.offset);
                read.map_err(failed)?;
                Some(hasher).filter(|hasher| hasher.digest() == record.prefix)
            }
        };
        let mut session =
            Self { upload, place, file, offset: record.offset, hasher: Hasher::new(), safe: Instant::now() };
        if let Some(hasher) = hasher {
            session.hasher = hasher;
            session.truncate(record.offset)?;
        } else {
            tracing::error!("{}: damaged; the upload begins anew", path.display());
            session.restart(record.length)?;
        }
        Ok(session)
    }

    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether what was added should be made safe before more is. The last bytes are made safe when it is known what they make.
    pub(super) fn is_due(&self) -> bool {
        let added = self.offset.saturating_sub(self.upload.record().offset);
        let time = self.safe.elapsed();
        let due = (added >= MUCH && time >= LITTLE_TIME) || (added > 0 && time >= MUCH_TIME);
        due && !self.is_whole()
    }

    fn length(&self) -> u64 {
        self.upload.record().length
    }

    fn path(&self) -> PathBuf {
        self.upload.data()
    }

    fn truncate(&self, to: u64) -> Result<(), StoreError> {
        self.file.set_len(to).map_err(StoreError::io("truncate", &self.path()))?;
        files::observed();
        Ok(())
    }

    /// Writes a record, and lets it be seen.
    fn note(&self, record: Record) -> Result<(), StoreError> {
        record.write(&self.upload.record_path())?;
        self.upload.set(record);
        Ok(())
    }

    /// Adds bytes, which are not safe yet. If that fails, nothing is left of what is not safe.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let length = self.length();
        let end = self.offset.saturating_add(bytes.len() as u64);
        if end > length {
            return Err(StoreError::TooLong { length });
        }
        if let Err(error) = self.file.write_all_at(bytes, self.offset) {
            self.give_up();
            return Err(StoreError::io("write", &self.path())(error));
        }
        files::observed();
        self.hasher.update(bytes);
        self.offset = end;
        Ok(())
    }

    /// Drops what is not safe, so that a full disk has room again.
    fn give_up(&self) {
        if let Err(error) = self.truncate(self.upload.record().offset) {
            tracing::warn!("{error}");
        }
    }

    /// Makes all safe that was added.
    pub(super) fn checkpoint(&mut self) -> Result<(), StoreError> {
        let record = self.upload.record();
        if record.offset == self.offset {
            return Ok(());
        }
        self.safe = Instant::now();
        self.sync()?;
        let safe = self.note(Record { offset: self.offset, prefix: self.hasher.digest(), ..record });
        if safe.is_err() {
            self.give_up();
        }
        safe
    }

    /// Makes all durable that was added, without saying so.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let synced = self.file.sync_data().map_err(StoreError::io("write", &self.path()));
        if synced.is_err() {
            self.give_up();
        }
        synced
    }

    /// Where the upload is.
    pub(super) fn mark(&self) -> Mark {
        Mark { offset: self.offset, hasher: self.hasher.clone() }
    }

    /// Goes back.
    pub(super) fn rewind(&mut self, mark: Mark) -> Result<(), StoreError> {
        let record = self.upload.record();
        if record.offset > mark.offset {
            self.note(Record { offset: mark.offset, prefix: mark.hasher.digest(), ..record })?;
        }
        self.truncate(mark.offset)?;
        (self.offset, self.hasher) = (mark.offset, mark.hasher);
        Ok(())
    }

    /// Goes back to what the first `to` bytes are, of an image that is said to be of this length.
    pub(super) fn shorten(&mut self, to: u64, length: u64) -> Result<(), StoreError> {
        if to > self.offset || to > length {
            return Err(StoreError::Beyond { to, offset: self.offset });
        }
        let mut hasher = Hasher::new();
        let mut start = File::open(self.path()).map_err(StoreError::io("read", &self.path()))?;
        hasher.read(&mut start, to).map_err(StoreError::io("read", &self.path()))?;
        self.note(Record { length, offset: to, prefix: hasher.digest(), finished: None })?;
        self.truncate(to)?;
        (self.offset, self.hasher) = (to, hasher);
        Ok(())
    }

    /// Begins anew.
    pub(super) fn restart(&mut self, length: u64) -> Result<(), StoreError> {
        self.note(Record::empty(length))?;
        self.truncate(0)?;
        (self.offset, self.hasher) = (0, Hasher::new());
        Ok(())
    }

    /// Whether all is here.
    pub(super) fn is_whole(&self) -> bool {
        self.offset == self.length()
    }

    /// Digest of what is here.
    pub(super) fn digest(&self) -> Digest {
        self.hasher.digest()
    }

    /// The bytes, and the upload that they are of.
    pub(super) const fn parts(&self) -> (&File, &Arc<Upload>) {
        (&self.file, &self.upload)
    }

    /// Ends for now; the next one goes on without hashing anew.
    pub(super) fn rest(mut self) {
        let record = self.upload.record();
        if record.offset == self.offset && record.finished.is_none() {
            *self.place = Some(Warm { offset: self.offset, hasher: self.hasher });
        }
    }
}
