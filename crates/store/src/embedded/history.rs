//! Reads of the past: the state at an old revision, and the events since one.
//!
//! Every record says which record it replaced. So a range at an old revision is the latest state with the changes
//! since then taken back: the cost is in the number of changes since, not in the number of keys, and no index over
//! all versions of all keys is needed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable};

use super::engine::{HISTORY, LEASES, META_COMPACTED, META_SCRUBBED, backend, meta_value};
use super::keymap::KeyMap;
use super::record::{Header, Position, Record};
use super::staging::{event, respond};
use super::state::{EMPTY_REVISION, State};
use crate::{KeyRange, LeaseId, RangeRequest, RangeResponse, Revision, StoreError, WatchBatch};

type History = ReadOnlyTable<(u64, u32), &'static [u8]>;

/// At most this many events are read for a watcher in one go.
const EVENTS_PER_READ: usize = 512;
/// At most this many records are looked at in one go, so that a watch of a quiet range does not hold a snapshot long.
const RECORDS_PER_READ: usize = 16_384;

/// Answers a read at `revision`, given the state at `latest` (`map`), which is not older.
pub(super) fn range_at(
    transaction: &ReadTransaction,
    map: &KeyMap,
    latest: Revision,
    revision: Revision,
    request: &RangeRequest,
) -> Result<RangeResponse, StoreError> {
    refuse_compacted(transaction, revision)?;
    let history = transaction.open_table(HISTORY).map_err(backend)?;
    let mut selected: BTreeMap<Bytes, Arc<Record>> =
        map.range(&request.range).map(|record| (record.kv.key.clone(), Arc::clone(record))).collect();
    for (key, previous) in first_changes(&history, &request.range, revision, latest)? {
        match previous {
            Some(position) => {
                selected.insert(key, Arc::new(fetch(&history, position)?));
            }
            None => {
                selected.remove(&key);
            }
        }
    }
    Ok(respond(request, latest, selected.len(), selected.values()))
}

/// For each key of the range that changed after `revision`: where its pair at `revision` was written, if it existed.
fn first_changes(
    history: &History,
    range: &KeyRange,
    revision: Revision,
    latest: Revision,
) -> Result<BTreeMap<Bytes, Option<Position>>, StoreError> {
    let mut first = BTreeMap::new();
    for entry in history.range((revision + 1, 0)..=(latest, u32::MAX)).map_err(backend)? {
        let (_, stored) = entry.map_err(backend)?;
        let stored = stored.value();
        let (header, key) = header_and_key(stored)?;
        if range.contains(key) && !first.contains_key(key) {
            first.insert(Bytes::copy_from_slice(key), header.previous);
        }
    }
    Ok(first)
}

/// Events of a range out of history.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) batches: Vec<WatchBatch>,
    /// Everything up to this revision has been looked at.
    pub(super) reached: Revision,
}

/// Reads the events of `range` from revision `from` up to `to` or until enough are found.
pub(super) fn replay(
    transaction: &ReadTransaction,
    range: &KeyRange,
    from: Revision,
    to: Revision,
) -> Result<Replay, StoreError> {
    refuse_compacted(transaction, from)?;
    let history = transaction.open_table(HISTORY).map_err(backend)?;
    let mut batches: Vec<WatchBatch> = Vec::new();
    let mut events = 0;
    let mut reached = from - 1;
    for (looked_at, entry) in history.range((from, 0)..=(to, u32::MAX)).map_err(backend)?.enumerate() {
        let (key, stored) = entry.map_err(backend)?;
        let (revision, index) = key.value();
        // Stop only between transactions: their events belong into one batch.
        if revision > reached {
            if events >= EVENTS_PER_READ || looked_at >= RECORDS_PER_READ {
                return Ok(Replay { batches, reached });
            }
            reached = revision;
        }
        let stored = stored.value();
        let (header, key) = header_and_key(stored)?;
        if !range.contains(key) {
            continue;
        }
        let record = Record::decode(Position { revision, index }, stored).map_err(backend)?;
        let previous = header.previous.map(|position| fetch(&history, position)).transpose()?;
        let event = Arc::new(event(&record, previous.as_ref()));
        events += 1;
        match batches.last_mut() {
            Some(batch) if batch.revision == revision => batch.events.push(event),
            _ => batches.push(WatchBatch { revision, events: vec![event] }),
        }
    }
    Ok(Replay { batches, reached: to })
}

/// All records after `revision`, in order.
pub(super) fn records_after(
    transaction: &ReadTransaction,
    revision: Revision,
) -> Result<Vec<(Record, Option<Record>)>, StoreError> {
    let history = transaction.open_table(HISTORY).map_err(backend)?;
    let mut records = Vec::new();
    for entry in history.range((revision + 1, 0)..).map_err(backend)? {
        let (key, stored) = entry.map_err(backend)?;
        let (revision, index) = key.value();
        let record = Record::decode(Position { revision, index }, stored.value()).map_err(backend)?;
        let previous = record.previous.map(|position| fetch(&history, position)).transpose()?;
        records.push((record, previous));
    }
    Ok(records)
}

/// What the disk holds besides the pairs.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// The revision of the last record, which compaction never removes.
    pub(super) revision: Revision,
    pub(super) compacted: Revision,
    /// Superseded records up to this revision have been removed.
    pub(super) scrubbed: Revision,
    pub(super) leases: Vec<(LeaseId, Duration)>,
}

/// Reads the [`Facts`].
pub(super) fn facts(transaction: &ReadTransaction) -> Result<Facts, StoreError> {
    let history = transaction.open_table(HISTORY).map_err(backend)?;
    let last = history.last().map_err(backend)?.map(|(key, _)| key.value().0);
    let mut leases = Vec::new();
    for entry in transaction.open_table(LEASES).map_err(backend)?.iter().map_err(backend)? {
        let (lease, seconds) = entry.map_err(backend)?;
        leases.push((lease.value(), Duration::from_secs(seconds.value())));
    }
    Ok(Facts {
        revision: last.unwrap_or(EMPTY_REVISION),
        compacted: meta_value(transaction, META_COMPACTED)?.unwrap_or(0),
        scrubbed: meta_value(transaction, META_SCRUBBED)?.unwrap_or(0),
        leases,
    })
}

/// Rebuilds the latest state by replaying the whole history.
pub(super) fn load(transaction: &ReadTransaction) -> Result<(State, Facts), StoreError> {
    let facts = facts(transaction)?;
    let mut state = State::default();
    state.compacted = facts.compacted;
    state.leases.extend(facts.leases.iter().copied());
    let history = transaction.open_table(HISTORY).map_err(backend)?;
    for entry in history.iter().map_err(backend)? {
        let (key, stored) = entry.map_err(backend)?;
        let (revision, index) = key.value();
        let record = Record::decode(Position { revision, index }, stored.value()).map_err(backend)?;
        state.apply(&Arc::new(record));
    }
    Ok((state, facts))
}

/// The compacted revision is read in the same snapshot as the history, so that a compaction meanwhile does no harm.
fn refuse_compacted(transaction: &ReadTransaction, requested: Revision) -> Result<(), StoreError> {
    let compacted = meta_value(transaction, META_COMPACTED)?.unwrap_or(0);
    if requested < compacted {
        return Err(StoreError::Compacted { requested, compacted });
    }
    Ok(())
}

fn fetch(history: &History, position: Position) -> Result<Record, StoreError> {
    let stored = history.get(position.key()).map_err(backend)?.ok_or_else(|| {
        StoreError::Backend(format!("the history lacks the record at revision {}", position.revision))
    })?;
    Record::decode(position, stored.value()).map_err(backend)
}

fn header_and_key(stored: &[u8]) -> Result<(Header, &[u8]), StoreError> {
    let header = Header::parse(stored);
    let key = header.as_ref().and_then(|header| header.key(stored));
    match (header, key) {
        (Some(header), Some(key)) => Ok((header, key)),
        _ => Err(StoreError::Backend("a record of the history is cut short".into())),
    }
}
