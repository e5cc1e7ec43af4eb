//! Values for what was read.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use drystone_store::{
    Event, KeyRange, KeyValue, RangeRequest, RangeResponse, Revision, StoreError, WatchBatch,
};

use super::{
    Shared,
    layout::{self, Digest, Place},
};

/// Values that were read lately: two generations, of which the older one goes when the younger one is full.
#[derive(Debug)]
pub(super) struct Cache {
    young: HashMap<Digest, Bytes>,
    old: HashMap<Digest, Bytes>,
    bytes: usize,
    most: usize,
}

impl Cache {
    pub(super) fn of(bytes: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), bytes: 0, most: bytes / 2 }
    }

    fn get(&mut self, digest: &Digest) -> Option<Bytes> {
        if let Some(value) = self.young.get(digest) {
            return Some(value.clone());
        }
        let value = self.old.remove(digest)?;
        self.put(*digest, value.clone());
        Some(value)
    }

    pub(super) fn put(&mut self, digest: Digest, value: Bytes) {
        if value.len() > self.most {
            return;
        }
        if self.bytes + value.len() > self.most {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        self.bytes += value.len();
        self.young.insert(digest, value);
    }
}

impl Shared {
    pub(super) async fn range(&self, mut request: RangeRequest) -> Result<RangeResponse, StoreError> {
        request.range = layout::range(&request.range);
        let has_values = !request.keys_only && !request.count_only;
        let mut found = self.below.range(request).await?;
        self.pairs(&mut found.kvs, found.revision, has_values).await?;
        Ok(found)
    }

    /// Turns pairs of the store below, as they were at `revision`, into what they stand for.
    pub(super) async fn pairs(
        &self,
        pairs: &mut [KeyValue],
        revision: Revision,
        has_values: bool,
    ) -> Result<(), StoreError> {
        for pair in pairs {
            pair.key = layout::key_of(&pair.key);
            if has_values {
                // A pair has been as it is since its last change, so that its value was there then.
                let since = pair.mod_revision.min(revision);
                pair.value = self.value(&pair.key, &pair.value, &[revision, since]).await?;
            }
        }
        Ok(())
    }

    /// The value of a key: if it is gone, for the key has another one by now, as it was at one of the revisions.
    async fn value(&self, key: &Bytes, below: &Bytes, revisions: &[Revision]) -> Result<Bytes, StoreError> {
        let digest = match layout::place(below) {
            Some(Place::Here(value)) => return Ok(value),
            Some(Place::Elsewhere(digest, _)) => digest,
            None => return Err(damaged(key)),
        };
        if let Some(value) = self.cache().get(&digest) {
            return Ok(value);
        }
        let mut problem = None;
        for revision in std::iter::once(None).chain(revisions.iter().copied().map(Some)) {
            let request =
                RangeRequest { revision, ..RangeRequest::new(KeyRange::single(layout::value_key(&digest))) };
            match self.below.range(request).await {
                Ok(found) => {
                    if let Some(pair) = found.kvs.into_iter().next() {
                        self.cache().put(digest, pair.value.clone());
                        return Ok(pair.value);
                    }
                }
                Err(error @ (StoreError::Compacted { .. } | StoreError::FutureRevision { .. })) => {
                    problem = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(problem.unwrap_or_else(|| damaged(key)))
    }

    /// Changes of the store below as what they stand for.
    pub(super) async fn batch(&self, mut batch: WatchBatch) -> Result<WatchBatch, StoreError> {
        let revision = batch.revision;
        for event in &mut batch.events {
            let mut told = Event::clone(event);
            told.kv.key = layout::key_of(&told.kv.key);
            // The value of a deletion's pair is empty.
            if !told.kv.value.is_empty() {
                told.kv.value = self.value(&told.kv.key, &told.kv.value, &[revision]).await?;
            }
            if let Some(previous) = &mut told.previous {
                previous.key = layout::key_of(&previous.key);
                let before = [revision, revision.saturating_sub(1)];
                previous.value = self.value(&previous.key, &previous.value, &before).await?;
            }
            *event = Arc::new(told);
        }
        Ok(batch)
    }
}

fn damaged(key: &[u8]) -> StoreError {
    let key = String::from_utf8_lossy(key);
    StoreError::Backend(format!(
        "the value of {key} is damaged: what it refers to is not in the store; restore it from a backup, or delete it and make it again"
    ))
}
