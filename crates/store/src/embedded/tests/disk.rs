//! A simulated disk with a volatile cache: what has not been flushed may be lost or torn when the power fails.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use redb::{BackendError, StorageBackend};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A disk that outlives the stores on it.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk(Arc<Mutex<Platter>>);

#[derive(Debug, Default)]
struct Platter {
    /// What programs read: everything written.
    cached: Vec<u8>,
    /// What survives a power failure for sure.
    durable: Vec<u8>,
    /// What has changed since the last flush, in order.
    pending: Vec<Change>,
    /// How many flushes will still work; then the power fails.
    flushes_left: Option<usize>,
    powered_off: bool,
    /// The most bytes the disk can hold.
    capacity: Option<usize>,
    /// The next flush does its work and reports this.
    flush_error: Option<io::ErrorKind>,
    /// The next flush does nothing and reports this.
    flush_failure: Option<io::ErrorKind>,
    flushes: usize,
    unreadable: bool,
}

#[derive(Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Resize(usize),
}

impl Disk {
    /// A disk with such contents.
    pub(super) fn of(contents: Vec<u8>) -> Self {
        let platter = Platter { cached: contents.clone(), durable: contents, ..Platter::default() };
        Self(Arc::new(Mutex::new(platter)))
    }

    /// What programs read.
    pub(super) fn contents(&self) -> Vec<u8> {
        self.platter().cached.clone()
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap()
    }

    /// A handle for the storage engine.
    pub(super) fn mount(&self) -> Mounted {
        Mounted(self.clone())
    }

    /// Lets the power fail at the flush after the next `flushes`.
    pub(super) fn fail_power_after(&self, flushes: usize) {
        self.platter().flushes_left = Some(flushes);
    }

    pub(super) fn has_power(&self) -> bool {
        !self.platter().powered_off
    }

    pub(super) fn limit(&self, capacity: Option<usize>) {
        self.platter().capacity = capacity;
    }

    pub(super) fn len(&self) -> usize {
        self.platter().cached.len()
    }

    pub(super) fn flushes(&self) -> usize {
        self.platter().flushes
    }

    /// The next flush makes everything durable, but reports an error.
    pub(super) fn report_failure_of_next_flush(&self, kind: io::ErrorKind) {
        self.platter().flush_error = Some(kind);
    }

    /// Whether reading fails.
    pub(super) fn set_unreadable(&self, unreadable: bool) {
        self.platter().unreadable = unreadable;
    }

    /// The next flush fails.
    pub(super) fn fail_next_flush(&self, kind: io::ErrorKind) {
        self.platter().flush_failure = Some(kind);
    }

    /// What is on the disk after the power has failed: the durable contents with some of the unflushed changes, in
    /// any order, some of them cut at a sector.
    pub(super) fn after_power_failure(&self, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut platter = self.platter();
        let mut survived = std::mem::take(&mut platter.durable);
        let mut pending = std::mem::take(&mut platter.pending);
        pending.shuffle(&mut rng);
        let share = rng.random_range(0.0..=1.0);
        for change in pending {
            if rng.random_bool(share) {
                continue;
            }
            match change {
                Change::Resize(length) => survived.resize(length.max(survived.len()), 0),
                Change::Write(offset, mut data) => {
                    if rng.random_bool(0.3) {
                        let sectors = data.len().div_ceil(SECTOR);
                        data.truncate(rng.random_range(0..=sectors) * SECTOR);
                    }
                    place(&mut survived, offset, &data);
                }
            }
        }
        Self::of(survived)
    }
}

fn place(contents: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if contents.len() < offset + data.len() {
        contents.resize(offset + data.len(), 0);
    }
    contents[offset..offset + data.len()].copy_from_slice(data);
}

impl Platter {
    fn powered(&mut self) -> io::Result<&mut Self> {
        if self.powered_off { Err(io::Error::other("the power is off")) } else { Ok(self) }
    }
}

/// A disk as the storage engine sees it.
#[derive(Debug)]
pub(super) struct Mounted(Disk);

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

impl StorageBackend for Mounted {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.platter().powered()?.cached.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut platter = self.0.platter();
        let platter = platter.powered()?;
        if platter.unreadable {
            return Err(io::Error::other("a bad sector"));
        }
        let contents = &platter.cached;
        let found = contents.get(index(offset)..index(offset) + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut platter = self.0.platter();
        let platter = platter.powered()?;
        // Like a sparse file: growing takes no room.
        platter.cached.resize(index(length), 0);
        platter.pending.push(Change::Resize(index(length)));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.0.platter();
        let platter = platter.powered()?;
        if platter.flushes_left == Some(0) {
            platter.powered_off = true;
            return Err(io::Error::other("the power fails"));
        }
        if let Some(kind) = platter.flush_failure.take() {
            return Err(kind.into());
        }
        platter.flushes_left = platter.flushes_left.map(|left| left - 1);
        platter.durable = platter.cached.clone();
        platter.pending.clear();
        platter.flushes += 1;
        platter.flush_error.take().map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.0.platter();
        let platter = platter.powered()?;
        let end = index(offset) + data.len();
        if platter.capacity.is_some_and(|capacity| end > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        place(&mut platter.cached, index(offset), data);
        platter.pending.push(Change::Write(index(offset), data.to_vec()));
        Ok(())
    }

    fn try_lock_range(
        &self,
        _start: std::ops::Bound<u64>,
        _end: std::ops::Bound<u64>,
    ) -> Result<bool, BackendError> {
        Err(BackendError::Unsupported)
    }
}
