//! Which values are sealed, and opening what was read.

use std::sync::Arc;

use bytes::Bytes;
use drystone_store::{Event, KeyRange, KeyValue, StoreError, WatchBatch};

use super::Shared;
use crate::ring::{Ring, Unopened};

impl Shared {
    /// Whether the value of a key is sealed.
    pub(super) fn is_sealed(&self, key: &[u8]) -> bool {
        self.prefixes.iter().any(|prefix| key.starts_with(prefix))
    }

    /// Whether a range can contain such a key.
    pub(super) fn touches(&self, range: &KeyRange) -> bool {
        let Some(end) = &range.end else { return self.is_sealed(&range.start) };
        self.prefixes.iter().any(|prefix| {
            let begins_in_time = end.is_empty() || prefix[..] < end[..];
            // The last key of the prefix is after the range's first one.
            begins_in_time && (range.start.starts_with(prefix) || range.start[..] <= prefix[..])
        })
    }

    /// Opens the sealed ones among pairs that were read.
    pub(super) async fn open_pairs(&self, pairs: &mut [KeyValue]) -> Result<(), StoreError> {
        let mut ring = self.ring();
        for pair in pairs.iter_mut().filter(|pair| self.is_sealed(&pair.key)) {
            let opened = self.open_value(&mut ring, &pair.key, &pair.value).await?;
            pair.value = opened;
        }
        Ok(())
    }

    /// Opens the sealed values in a batch of changes; changes of other keys are handed on as they are.
    pub(super) async fn open_batch(&self, mut batch: WatchBatch) -> Result<WatchBatch, StoreError> {
        let mut ring = self.ring();
        for event in &mut batch.events {
            if !self.is_sealed(&event.kv.key) {
                continue;
            }
            let mut opened = Event::clone(event);
            // The value of a deletion's pair is empty.
            if !opened.kv.value.is_empty() {
                opened.kv.value = self.open_value(&mut ring, &opened.kv.key, &opened.kv.value).await?;
            }
            if let Some(previous) = &mut opened.previous {
                previous.value = self.open_value(&mut ring, &previous.key, &previous.value).await?;
            }
            *event = Arc::new(opened);
        }
        Ok(batch)
    }

    /// Opens one value; a data key that is not known may be a new one of another server.
    async fn open_value(
        &self,
        ring: &mut Arc<Ring>,
        key: &Bytes,
        value: &Bytes,
    ) -> Result<Bytes, StoreError> {
        let mut opened = ring.open(key, value);
        if matches!(opened, Err(Unopened::UnknownKey(_))) {
            *ring = self.reload().await?;
            opened = ring.open(key, value);
        }
        opened.map_err(|unopened| refusal(key, &unopened))
    }
}

/// Why a value cannot be had.
pub(super) fn refusal(key: &[u8], unopened: &Unopened) -> StoreError {
    let key = String::from_utf8_lossy(key);
    StoreError::Backend(match unopened {
        Unopened::Clear => format!(
            "the value of {key} is in clear although it must be encrypted: something else than Drystone wrote it; remove it and write \
             it through the API"
        ),
        Unopened::UnknownKey(id) => {
            format!(
                "the value of {key} is sealed with data key {id}, which is gone; restore the store from a backup"
            )
        }
        Unopened::Damaged => format!(
            "the value of {key} does not open: it is damaged, or was moved there from another key; restore it from a backup, or \
             delete it and make it again"
        ),
    })
}
