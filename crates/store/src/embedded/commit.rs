//! Writing a batch to disk: its records and leases, and a bounded piece of the removal of compacted history.

use redb::{ReadableTable, WriteTransaction};

use super::engine::{HISTORY, LEASES, META, META_COMPACTED, META_SCRUBBED, backend};
use super::record::{Header, Position};
use super::staging::Changes;
use crate::{Revision, StoreError};

/// At most about this many records are looked at for removal in one commit.
const SCRUB_RECORDS: usize = 512;

/// How far the physical removal of compacted history has come, and where it is to end (both inclusive).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scrub {
    pub(super) done: Revision,
    pub(super) target: Revision,
}

impl Scrub {
    /// The history below `compacted` can go; `done` of it already has.
    pub(super) fn new(done: Revision, compacted: Revision) -> Self {
        Self { done, target: done.max(compacted.saturating_sub(1)) }
    }

    pub(super) fn is_pending(self) -> bool {
        self.done < self.target
    }
}

/// Writes `changes` and continues `scrub`; the result counts once the transaction is committed.
pub(super) fn persist(
    transaction: &WriteTransaction,
    changes: &Changes,
    mut scrub: Scrub,
) -> Result<Scrub, StoreError> {
    if !changes.records.is_empty() {
        let mut history = transaction.open_table(HISTORY).map_err(backend)?;
        for record in &changes.records {
            history.insert(record.position().key(), record.encoded()).map_err(backend)?;
        }
    }
    if !changes.leases.is_empty() {
        let mut leases = transaction.open_table(LEASES).map_err(backend)?;
        for (lease, change) in &changes.leases {
            match change {
                Some(time_to_live) => leases.insert(lease, time_to_live.as_secs()),
                None => leases.remove(lease),
            }
            .map_err(backend)?;
        }
    }
    if let Some(compacted) = changes.compacted {
        let mut meta = transaction.open_table(META).map_err(backend)?;
        meta.insert(META_COMPACTED, compacted).map_err(backend)?;
        scrub = Scrub::new(scrub.done, compacted);
    }
    if scrub.is_pending() {
        scrub.done = remove_superseded(transaction, scrub)?;
        let mut meta = transaction.open_table(META).map_err(backend)?;
        meta.insert(META_SCRUBBED, scrub.done).map_err(backend)?;
    }
    Ok(scrub)
}

/// Removes what the next records after `scrub.done` superseded, and those of them that are deletions. The last record
/// of a key that lives at `scrub.target` is never touched: nothing up to there supersedes it.
fn remove_superseded(transaction: &WriteTransaction, scrub: Scrub) -> Result<Revision, StoreError> {
    let mut history = transaction.open_table(HISTORY).map_err(backend)?;
    let mut doomed: Vec<Position> = Vec::new();
    let mut reached = scrub.done;
    let mut finished = true;
    for (looked_at, entry) in
        history.range((scrub.done + 1, 0)..=(scrub.target, u32::MAX)).map_err(backend)?.enumerate()
    {
        let (key, stored) = entry.map_err(backend)?;
        let (revision, index) = key.value();
        if revision > reached {
            if looked_at >= SCRUB_RECORDS {
                finished = false;
                break;
            }
            reached = revision;
        }
        let header = Header::parse(stored.value())
            .ok_or_else(|| StoreError::Backend(format!("the record at revision {revision} is damaged")))?;
        doomed.extend(header.previous);
        if header.tombstone {
            doomed.push(Position { revision, index });
        }
    }
    for position in doomed {
        history.remove(position.key()).map_err(backend)?;
    }
    Ok(if finished { scrub.target } else { reached })
}
