//! Another data key, and everything rewritten with it.
//!
//! The new key and the retirement of the old ones are one transaction. From then on nothing is sealed with an old one; what still is, is
//! rewritten in the background. An old key goes when no value uses it and the history in which values did is forgotten. Every step may
//! be broken off at any moment, and is taken up again by the next server that is started.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use drystone_store::{Compare, CompareTarget, KeyRange, Operation, RangeRequest, StoreError, Txn};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{SealedStore, SealedStoreError};
use crate::ring::{self, DataKey, KeyId, Record, RingError, sealed_by};

/// How often retired keys are looked after without anybody rotating here: another server may have.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How often while one is retired and not gone.
const WORK_EVERY: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 8;

/// How a store is sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Fingerprint of the sealing key.
    pub sealing_key: String,
    /// Number of the data key that new values are sealed with.
    pub active: KeyId,
    /// All data keys, oldest first.
    pub keys: Vec<KeyStatus>,
}

/// A data key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyStatus {
    /// Its number.
    pub id: KeyId,
    /// When it was made.
    pub created: Timestamp,
    /// Whether nothing new is sealed with it.
    pub retired: bool,
    /// Values that are sealed with it now.
    pub values: u64,
}

impl SealedStore {
    /// Makes a new data key and retires the others; returns its number. [`maintain`](Self::maintain) rewrites the values.
    ///
    /// # Errors
    /// [`SealedStoreError`] if the store fails.
    pub async fn rotate(&self) -> Result<KeyId, SealedStoreError> {
        for _ in 0..ATTEMPTS {
            let ring = self.shared.reload().await?;
            let newest = ring.keys().last().map_or(0, |key| key.id.0);
            let id = KeyId(newest + 1);
            let record = Record::generate(id, &self.shared.sealing, Timestamp::now())?;
            let mut txn = super::writing::create(ring::place(id), record.to_bytes(id)?);
            for key in ring.keys() {
                txn.compare.push(unchanged(key));
                if !key.record.retired {
                    let retired = Record { retired: true, ..key.record.clone() };
                    txn.success.push(put(key, &retired)?);
                }
            }
            let done = self.shared.below.txn(txn).await?;
            self.shared.reload().await?;
            if done.succeeded {
                self.rotated.notify_one();
                return Ok(id);
            }
        }
        Err(SealedStoreError::Contention)
    }

    /// How the store is sealed. Looks at every value.
    ///
    /// # Errors
    /// [`SealedStoreError`] if the store fails.
    pub async fn status(&self) -> Result<Status, SealedStoreError> {
        let ring = self.shared.reload().await?;
        let mut used: BTreeMap<KeyId, u64> = BTreeMap::new();
        let mut pages = self.pages();
        while let Some(page) = pages.next().await? {
            for id in page.iter().filter_map(|pair| sealed_by(&pair.value).ok()) {
                *used.entry(id).or_default() += 1;
            }
        }
        let active = ring.active().map(|key| key.id).ok_or(SealedStoreError::Contention)?;
        let keys = ring.keys().map(|key| KeyStatus {
            id: key.id,
            created: key.record.created,
            retired: key.record.retired,
            values: used.get(&key.id).copied().unwrap_or(0),
        });
        Ok(Status { sealing_key: self.shared.sealing.fingerprint()?, active, keys: keys.collect() })
    }

    /// Rewrites what retired keys seal and removes those that nothing needs, until `stop`. Several servers may do that at a time.
    pub async fn maintain(&self, stop: CancellationToken) {
        loop {
            let pause = match self.work().await {
                Ok(true) => WORK_EVERY,
                Ok(false) => LOOK_EVERY,
                Err(error) => {
                    tracing::warn!(%error, "values are not sealed with the new data key yet");
                    WORK_EVERY
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.rotated.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One round; whether there is anything left to do.
    pub(super) async fn work(&self) -> Result<bool, SealedStoreError> {
        let ring = self.shared.reload().await?;
        let retired: Vec<DataKey> = ring.keys().filter(|key| key.record.retired).cloned().collect();
        if retired.is_empty() {
            return Ok(false);
        }
        if retired.iter().any(|key| key.record.unused_since.is_none()) {
            self.rewrite(&retired).await?;
            return Ok(true);
        }
        for key in &retired {
            self.remove_if_forgotten(key).await?;
        }
        Ok(true)
    }

    /// Seals again what retired keys have sealed, and notes when nothing is left.
    async fn rewrite(&self, retired: &[DataKey]) -> Result<(), SealedStoreError> {
        let old: Vec<KeyId> = retired.iter().map(|key| key.id).collect();
        let (mut rewritten, mut left) = (0_u64, 0_u64);
        let mut pages = self.pages();
        while let Some(page) = pages.next().await? {
            for pair in &page {
                if !sealed_by(&pair.value).is_ok_and(|id| old.contains(&id)) {
                    continue;
                }
                // Whoever changed it meanwhile sealed it with the active key; the next round looks.
                if self.seal_pair(pair).await? {
                    rewritten += 1;
                } else {
                    left += 1;
                }
            }
        }
        if rewritten > 0 {
            tracing::info!(rewritten, "values are sealed with the new data key");
        }
        if left > 0 {
            return Ok(());
        }
        let revision = self.shared.below.revision().await?;
        for key in retired.iter().filter(|key| key.record.unused_since.is_none()) {
            let record = Record { unused_since: Some(revision), ..key.record.clone() };
            let txn =
                Txn { compare: vec![unchanged(key)], success: vec![put(key, &record)?], failure: Vec::new() };
            self.shared.below.txn(txn).await?;
        }
        self.shared.reload().await?;
        Ok(())
    }

    /// Removes a key that no value uses when the history in which values did is forgotten.
    async fn remove_if_forgotten(&self, key: &DataKey) -> Result<(), SealedStoreError> {
        let Some(since) = key.record.unused_since else { return Ok(()) };
        // The state just before is the last one that can have a value of it.
        let before = RangeRequest {
            revision: Some(since.saturating_sub(1).max(1)),
            count_only: true,
            ..RangeRequest::new(KeyRange::single(ring::place(key.id)))
        };
        match self.shared.below.range(before).await {
            Err(StoreError::Compacted { .. }) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let gone = Operation::Delete(KeyRange::single(ring::place(key.id)));
        let txn = Txn { compare: vec![unchanged(key)], success: vec![gone], failure: Vec::new() };
        if self.shared.below.txn(txn).await?.succeeded {
            tracing::info!(key = %key.id, "a data key that nothing uses any more is gone");
        }
        self.shared.reload().await?;
        Ok(())
    }
}

fn unchanged(key: &DataKey) -> Compare {
    Compare { key: Bytes::from(ring::place(key.id)), target: CompareTarget::ModRevision(key.revision) }
}

fn put(key: &DataKey, record: &Record) -> Result<Operation, RingError> {
    Ok(Operation::Put { key: ring::place(key.id).into(), value: record.to_bytes(key.id)?, lease: 0 })
}
