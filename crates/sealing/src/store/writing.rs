//! Sealing what a transaction writes.

use std::sync::Arc;

use bytes::Bytes;
use drystone_store::{
    Compare, CompareTarget, KeyRange, LeaseId, Operation, OperationResult, RangeRequest, Revision,
    StoreError, Txn, TxnResponse,
};

use super::Shared;
use crate::ring::{self, DataKey, Ring};

/// A transaction is made again this often if the data key that it sealed with has been replaced meanwhile.
const ATTEMPTS: u32 = 8;

/// Writes a key unless there is one.
pub(super) fn create(key: String, value: Bytes) -> Txn {
    replace(key, value, 0, 0)
}

/// Writes a key that has the revision `expected`.
pub(super) fn replace(key: impl Into<Bytes>, value: Bytes, expected: Revision, lease: LeaseId) -> Txn {
    let key = key.into();
    Txn {
        compare: vec![Compare { key: key.clone(), target: CompareTarget::ModRevision(expected) }],
        success: vec![Operation::Put { key, value, lease }],
        failure: Vec::new(),
    }
}

impl Shared {
    /// Whether a transaction has anything to do with sealed values.
    pub(super) fn concerns(&self, txn: &Txn) -> bool {
        let by_value = |compare: &Compare| {
            matches!(compare.target, CompareTarget::Value(_)) && self.is_sealed(&compare.key)
        };
        txn.compare.iter().any(by_value)
            || txn.success.iter().chain(&txn.failure).any(|operation| match operation {
                Operation::Put { key, .. } => self.is_sealed(key),
                Operation::Delete(range) => self.touches(range),
                Operation::Range(request) => self.touches(&request.range),
            })
    }

    /// Carries out a transaction that does.
    pub(super) async fn sealed_txn(&self, txn: Txn) -> Result<TxnResponse, StoreError> {
        self.check(&txn)?;
        let seals = txn.success.iter().any(|operation| self.seals(operation));
        let mut done = if seals { self.write(&txn).await? } else { self.below.txn(txn).await? };
        self.open_results(&mut done).await?;
        Ok(done)
    }

    /// Carries out a transaction that writes sealed values; what it found is not opened yet.
    pub(super) async fn write(&self, txn: &Txn) -> Result<TxnResponse, StoreError> {
        let mut ring = self.ring();
        for _ in 0..ATTEMPTS {
            let active = active(&ring)?.clone();
            let mut done = self.below.txn(self.guarded(txn, &ring, &active)?).await?;
            // What the guard found comes last.
            if !done.succeeded && guard_broke(done.results.pop(), &active) {
                ring = self.reload().await?;
                continue;
            }
            return Ok(done);
        }
        Err(StoreError::Backend("the data keys change all the time; try again".into()))
    }

    fn seals(&self, operation: &Operation) -> bool {
        matches!(operation, Operation::Put { key, .. } if self.is_sealed(key))
    }

    /// Refuses what cannot be done.
    fn check(&self, txn: &Txn) -> Result<(), StoreError> {
        for compare in &txn.compare {
            if matches!(compare.target, CompareTarget::Value(_)) && self.is_sealed(&compare.key) {
                return Err(StoreError::InvalidRequest(format!(
                    "the value of {} is encrypted and cannot be compared; compare its revision",
                    String::from_utf8_lossy(&compare.key)
                )));
            }
        }
        let seals = txn.success.iter().chain(&txn.failure).any(|operation| self.seals(operation));
        let writes = txn.failure.iter().any(|operation| !matches!(operation, Operation::Range(_)));
        if seals && writes {
            return Err(StoreError::InvalidRequest(
                "a transaction that writes encrypted values must not write when its comparisons do not hold"
                    .into(),
            ));
        }
        Ok(())
    }

    /// The transaction with sealed values, which only succeeds while the data key is what it is.
    fn guarded(&self, txn: &Txn, ring: &Ring, active: &DataKey) -> Result<Txn, StoreError> {
        let mut sealed = txn.clone();
        for operation in &mut sealed.success {
            if let Operation::Put { key, value, .. } = operation
                && self.is_sealed(key)
            {
                let text = ring.seal(key, value);
                *value = text.map_err(|error| StoreError::Backend(error.to_string()))?;
            }
        }
        let place = Bytes::from(ring::place(active.id));
        sealed
            .compare
            .push(Compare { key: place.clone(), target: CompareTarget::ModRevision(active.revision) });
        let look = RangeRequest { keys_only: true, ..RangeRequest::new(KeyRange::single(place)) };
        sealed.failure.push(Operation::Range(look));
        Ok(sealed)
    }

    async fn open_results(&self, done: &mut TxnResponse) -> Result<(), StoreError> {
        for result in &mut done.results {
            match result {
                OperationResult::Put(pair) => self.open_replaced(pair.as_mut_slice()).await,
                OperationResult::Delete(pairs) => self.open_replaced(pairs).await,
                OperationResult::Range(found) => self.open_pairs(&mut found.kvs).await?,
            }
        }
        Ok(())
    }

    /// What was replaced or deleted is gone, whether it opens or not: so damaged values can be got rid of.
    async fn open_replaced(&self, pairs: &mut [drystone_store::KeyValue]) {
        for pair in pairs {
            if let Err(error) = self.open_pairs(std::slice::from_mut(pair)).await {
                tracing::warn!(%error, "what was replaced or deleted could not be opened");
            }
        }
    }
}

fn active(ring: &Arc<Ring>) -> Result<&DataKey, StoreError> {
    ring.active().ok_or_else(|| StoreError::Backend("there is no data key to encrypt with".into()))
}

/// Whether the data key is not what it was.
fn guard_broke(found: Option<OperationResult>, active: &DataKey) -> bool {
    match found {
        Some(OperationResult::Range(found)) => {
            found.kvs.first().is_none_or(|pair| pair.mod_revision != active.revision)
        }
        _ => false,
    }
}
