//! Sees what the operating system says when the storage fails.
//!
//! The engine reports the first failing call as one kind of error and every later one as another; to tell a full disk
//! from a dying one, whatever the engine was doing, the calls themselves are observed.

use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use redb::{BackendError, StorageBackend};

/// The first failure of the storage since the last look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// No room: writing works again once there is some.
    NoSpace(String),
    /// The device failed to make written data durable. What it has lost it may not tell again, so nothing more may be
    /// written until the data has been read back by a new process.
    NotDurable(String),
    /// Anything else.
    Other(String),
}

/// Remembers the first fault; shared by all backends that are opened one after the other.
#[derive(Debug, Clone, Default)]
pub(super) struct Faults(Arc<Mutex<Option<Fault>>>);

impl Faults {
    /// The first fault since the last call, if any.
    pub(super) fn take(&self) -> Option<Fault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note<T>(&self, result: io::Result<T>, syncing: bool) -> io::Result<T> {
        if let Err(error) = &result {
            let fault = match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                    Fault::NoSpace(error.to_string())
                }
                _ if syncing => Fault::NotDurable(error.to_string()),
                _ => Fault::Other(error.to_string()),
            };
            self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
        }
        result
    }
}

/// A storage backend whose failures are noted.
#[derive(Debug)]
pub(super) struct Observed<B> {
    inner: B,
    faults: Faults,
}

impl<B> Observed<B> {
    pub(super) fn new(inner: B, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

impl<B: StorageBackend> StorageBackend for Observed<B> {
    fn len(&self) -> io::Result<u64> {
        self.faults.note(self.inner.len(), false)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.faults.note(self.inner.read(offset, out), false)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.faults.note(self.inner.set_len(len), false)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.faults.note(self.inner.sync_data(), true)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.faults.note(self.inner.write(offset, data), false)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
