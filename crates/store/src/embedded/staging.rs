//! Staging: what a batch of requests would change, worked out against the latest state plus the batch's earlier
//! requests. Pure: nothing is written here, and a request that fails leaves the batch as it was.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::options::Options;
use super::record::{Position, Record};
use super::state::State;
use crate::{
    Compare, CompareTarget, Event, EventKind, KeyRange, LeaseId, Operation, OperationResult, RangeRequest,
    RangeResponse, Revision, StoreError, Txn, TxnResponse,
};

/// The changes of one transaction, as watchers will see them.
#[derive(Debug)]
pub(super) struct Committed {
    pub(super) revision: Revision,
    pub(super) events: Vec<Arc<Event>>,
}

/// The changes that one commit will make.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// In order of their positions.
    pub(super) records: Vec<Arc<Record>>,
    pub(super) transactions: Vec<Committed>,
    /// Leases granted (with their time to live) or ended.
    pub(super) leases: BTreeMap<LeaseId, Option<Duration>>,
    /// The new compaction revision, if it moves.
    pub(super) compacted: Option<Revision>,
    /// Size of the records, in bytes.
    pub(super) bytes: usize,
}

impl Changes {
    /// Whether there is nothing to commit.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.leases.is_empty() && self.compacted.is_none()
    }
}

/// A batch being staged on top of a state.
#[derive(Debug)]
pub(super) struct Staging<'a> {
    state: &'a State,
    options: &'a Options,
    revision: Revision,
    /// The latest record of each key the batch has changed.
    overlay: BTreeMap<Bytes, Arc<Record>>,
    changes: Changes,
}

impl<'a> Staging<'a> {
    pub(super) fn new(state: &'a State, options: &'a Options) -> Self {
        Self {
            state,
            options,
            revision: state.revision,
            overlay: BTreeMap::new(),
            changes: Changes::default(),
        }
    }

    /// Size of the records staged so far, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.changes.bytes
    }

    pub(super) fn finish(self) -> Changes {
        self.changes
    }

    /// Stages a transaction.
    pub(super) fn txn(&mut self, txn: &Txn) -> Result<TxnResponse, StoreError> {
        validate(txn, self.options)?;
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        let operations = if succeeded { &txn.success } else { &txn.failure };
        for operation in operations {
            if let Operation::Put { lease, .. } = operation
                && *lease != 0
                && !self.lease_exists(*lease)
            {
                return Err(StoreError::LeaseNotFound(*lease));
            }
        }
        let mut writes = Writes::new(self.revision + 1);
        let results = operations.iter().map(|operation| self.operation(operation, &mut writes)).collect();
        let revision = self.seal(writes);
        Ok(TxnResponse { succeeded, revision, results })
    }

    /// Stages a new lease.
    pub(super) fn grant(&mut self, lease: LeaseId, time_to_live: Duration) -> Result<(), StoreError> {
        if self.lease_exists(lease) {
            return Err(StoreError::LeaseExists(lease));
        }
        self.changes.leases.insert(lease, Some(time_to_live));
        Ok(())
    }

    /// Stages the end of a lease and the deletion of its keys.
    pub(super) fn revoke(&mut self, lease: LeaseId) -> Result<(), StoreError> {
        if !self.lease_exists(lease) {
            return Err(StoreError::LeaseNotFound(lease));
        }
        let mut keys: Vec<Bytes> = self.state.keys_of(lease).cloned().collect();
        keys.extend(
            self.overlay
                .values()
                .filter(|record| record.kv.lease == lease)
                .map(|record| record.kv.key.clone()),
        );
        keys.sort_unstable();
        keys.dedup();
        let mut writes = Writes::new(self.revision + 1);
        for key in keys {
            if let Some(record) = self.get(&key).filter(|record| record.kv.lease == lease).cloned() {
                self.delete(&record, &mut writes);
            }
        }
        self.seal(writes);
        self.changes.leases.insert(lease, None);
        Ok(())
    }

    /// Stages forgetting the history before `revision`. Doing it again is no error.
    pub(super) fn compact(&mut self, revision: Revision) -> Result<(), StoreError> {
        if revision > self.revision {
            return Err(StoreError::FutureRevision { requested: revision, current: self.revision });
        }
        let compacted = self.changes.compacted.unwrap_or(self.state.compacted);
        if revision > compacted {
            self.changes.compacted = Some(revision);
        }
        Ok(())
    }

    fn lease_exists(&self, lease: LeaseId) -> bool {
        self.time_to_live(lease).is_some()
    }

    /// The time to live of a lease, counting what the batch has granted and ended; `None` if it does not exist.
    pub(super) fn time_to_live(&self, lease: LeaseId) -> Option<Duration> {
        match self.changes.leases.get(&lease) {
            Some(change) => *change,
            None => self.state.leases.get(&lease).copied(),
        }
    }

    /// The revision the store will have with what is staged.
    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    fn get(&self, key: &[u8]) -> Option<&Arc<Record>> {
        match self.overlay.get(key) {
            Some(record) => (!record.tombstone).then_some(record),
            None => self.state.map.get(key),
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let kv = self.get(&compare.key).map(|record| &record.kv);
        match &compare.target {
            CompareTarget::ModRevision(expected) => kv.map_or(0, |kv| kv.mod_revision) == *expected,
            CompareTarget::CreateRevision(expected) => kv.map_or(0, |kv| kv.create_revision) == *expected,
            CompareTarget::Version(expected) => kv.map_or(0, |kv| kv.version) == *expected,
            CompareTarget::Value(expected) => kv.is_some_and(|kv| kv.value == *expected),
            CompareTarget::NotChangedSince { end, revision } => {
                let range = KeyRange { start: compare.key.clone(), end: Some(end.clone()) };
                self.select(&range).all(|record| record.kv.mod_revision <= *revision)
            }
        }
    }

    fn operation(&mut self, operation: &Operation, writes: &mut Writes) -> OperationResult {
        match operation {
            Operation::Put { key, value, lease } => {
                let previous = self.get(key).cloned();
                let record = Record::put(writes.next(), key, value, *lease, previous.as_deref());
                let before = previous.as_ref().map(|record| record.kv.clone());
                self.stage(record, previous.as_deref(), writes);
                OperationResult::Put(before)
            }
            Operation::Delete(range) => {
                let doomed: Vec<_> = self.select(range).cloned().collect();
                for record in &doomed {
                    self.delete(record, writes);
                }
                OperationResult::Delete(doomed.into_iter().map(|record| record.kv.clone()).collect())
            }
            Operation::Range(request) => OperationResult::Range(self.range(request, writes)),
        }
    }

    fn delete(&mut self, record: &Arc<Record>, writes: &mut Writes) {
        let tombstone = Record::delete(writes.next(), record);
        self.stage(tombstone, Some(record), writes);
    }

    fn stage(&mut self, record: Record, previous: Option<&Record>, writes: &mut Writes) {
        let record = Arc::new(record);
        self.changes.bytes += record.encoded().len();
        self.overlay.insert(record.kv.key.clone(), Arc::clone(&record));
        writes.events.push(Arc::new(event(&record, previous)));
        writes.records.push(record);
    }

    /// Ends a transaction: if it wrote, it takes the next revision.
    fn seal(&mut self, writes: Writes) -> Revision {
        if !writes.records.is_empty() {
            self.revision = writes.revision;
            self.changes.records.extend(writes.records);
            self.changes.transactions.push(Committed { revision: writes.revision, events: writes.events });
        }
        self.revision
    }

    /// The live records of a range, in key order, as the batch has left them so far.
    fn select(&self, range: &KeyRange) -> impl Iterator<Item = &Arc<Record>> {
        let mut merged: BTreeMap<&[u8], &Arc<Record>> =
            self.state.map.range(range).map(|record| (&record.kv.key[..], record)).collect();
        let changed = self.overlay.range::<[u8], _>((Bound::Included(&range.start[..]), Bound::Unbounded));
        merged.extend(
            changed.take_while(|(key, _)| range.contains(key)).map(|(key, record)| (&key[..], record)),
        );
        merged.into_values().filter(|record| !record.tombstone)
    }

    fn range(&self, request: &RangeRequest, writes: &Writes) -> RangeResponse {
        let selected: Vec<_> = self.select(&request.range).collect();
        let revision = if writes.records.is_empty() { self.revision } else { writes.revision };
        respond(request, revision, selected.len(), selected.into_iter())
    }
}

/// The writes of one transaction.
#[derive(Debug)]
struct Writes {
    revision: Revision,
    records: Vec<Arc<Record>>,
    events: Vec<Arc<Event>>,
}

impl Writes {
    fn new(revision: Revision) -> Self {
        Self { revision, records: Vec::new(), events: Vec::new() }
    }

    fn next(&self) -> Position {
        // The number of operations is limited far below this.
        Position { revision: self.revision, index: u32::try_from(self.records.len()).unwrap_or(u32::MAX) }
    }
}

/// The event that a record stands for.
pub(super) fn event(record: &Record, previous: Option<&Record>) -> Event {
    Event {
        kind: if record.tombstone { EventKind::Delete } else { EventKind::Put },
        kv: record.kv.clone(),
        previous: previous.map(|record| record.kv.clone()),
    }
}

/// Answers a read out of the records of its range.
pub(super) fn respond<'r>(
    request: &RangeRequest,
    revision: Revision,
    count: usize,
    records: impl Iterator<Item = &'r Arc<Record>>,
) -> RangeResponse {
    let limit = if request.limit == 0 { usize::MAX } else { request.limit };
    if request.count_only {
        return RangeResponse { revision, kvs: Vec::new(), count: count as u64, more: false };
    }
    let mut kvs = Vec::with_capacity(count.min(limit));
    kvs.extend(records.take(limit).map(|record| {
        let mut kv = record.kv.clone();
        if request.keys_only {
            kv.value = Bytes::new();
        }
        kv
    }));
    RangeResponse { revision, more: kvs.len() < count, kvs, count: count as u64 }
}

/// Refuses what no state could make valid.
fn validate(txn: &Txn, options: &Options) -> Result<(), StoreError> {
    let operations = txn.success.len().max(txn.failure.len());
    if txn.compare.len().max(operations) > options.max_request_operations {
        return Err(StoreError::InvalidRequest(format!(
            "a transaction has at most {} comparisons and as many operations",
            options.max_request_operations
        )));
    }
    for compare in &txn.compare {
        non_empty(&compare.key, "compare")?;
    }
    validate_branch(&txn.success, "success", options)?;
    validate_branch(&txn.failure, "failure", options)
}

fn validate_branch(operations: &[Operation], branch: &str, options: &Options) -> Result<(), StoreError> {
    let mut bytes = 0;
    let mut puts: Vec<&Bytes> = Vec::new();
    for operation in operations {
        match operation {
            Operation::Put { key, value, .. } => {
                non_empty(key, branch)?;
                bytes += key.len() + value.len();
                puts.push(key);
            }
            Operation::Delete(_) => {}
            Operation::Range(request) => {
                if request.revision.is_some() {
                    return Err(StoreError::InvalidRequest(format!(
                        "{branch}: a range inside a transaction reads the latest revision only, leave `revision` out"
                    )));
                }
            }
        }
    }
    if bytes > options.max_request_bytes {
        return Err(StoreError::InvalidRequest(format!(
            "{branch}: {bytes} bytes of keys and values, the limit is {}",
            options.max_request_bytes
        )));
    }
    puts.sort_unstable();
    if puts.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(StoreError::InvalidRequest(format!("{branch}: a key is written twice")));
    }
    for operation in operations {
        let Operation::Delete(range) = operation else { continue };
        let first = puts.partition_point(|key| key[..] < range.start[..]);
        if puts.get(first).is_some_and(|key| range.contains(key)) {
            return Err(StoreError::InvalidRequest(format!("{branch}: a key is both written and deleted")));
        }
    }
    Ok(())
}

fn non_empty(key: &[u8], place: &str) -> Result<(), StoreError> {
    if key.is_empty() {
        return Err(StoreError::InvalidRequest(format!("{place}: a key is empty")));
    }
    Ok(())
}
