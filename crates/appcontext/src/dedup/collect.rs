//! Counting the keys of values, and removing values that no key has.

use std::time::Duration;

use bytes::Bytes;
use drystone_store::{Compare, CompareTarget, KeyRange, Operation, RangeRequest, Store, StoreError, Txn};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Deduplicated, Shared,
    index::Index,
    layout::{self, Place},
};

/// Keys that are read at a time.
const PAGE: usize = 2000;

/// Values that are removed at a time, while nobody writes.
const REMOVED: usize = 64;

/// How often values are looked for that no key has.
const PERIOD: Duration = Duration::from_secs(60);

/// The store's secret; of a new store, it is made.
pub(super) async fn secret(below: &dyn Store) -> Result<[u8; 32], StoreError> {
    let key = Bytes::from_static(layout::SECRET);
    let made: [u8; 32] = rand::random();
    let txn = Txn {
        compare: vec![Compare { key: key.clone(), target: CompareTarget::ModRevision(0) }],
        success: vec![Operation::Put { key: key.clone(), value: Bytes::copy_from_slice(&made), lease: 0 }],
        failure: Vec::new(),
    };
    if below.txn(txn).await?.succeeded {
        return Ok(made);
    }
    let found = below.range(RangeRequest::new(KeyRange::single(key))).await?;
    let kept = found.kvs.first().and_then(|pair| pair.value[..].try_into().ok());
    kept.ok_or_else(|| {
        StoreError::Backend(
            "the secret of the store of AppContexts is damaged; restore it from a backup".into(),
        )
    })
}

impl Shared {
    /// Counts which values there are and how many keys have each.
    pub(super) async fn count(&self) -> Result<(), StoreError> {
        let mut index = Index::default();
        let values = KeyRange::prefix(Bytes::from_static(&[layout::VALUES]));
        let request = RangeRequest { keys_only: true, ..RangeRequest::new(values) };
        for pair in self.below.range(request).await?.kvs {
            layout::digest_of(&pair.key).into_iter().for_each(|digest| index.add(digest));
        }
        let mut range = KeyRange::prefix(Bytes::from_static(&[layout::KEYS]));
        loop {
            let request = RangeRequest { limit: PAGE, ..RangeRequest::new(range.clone()) };
            let found = self.below.range(request).await?;
            for pair in &found.kvs {
                if let Some(Place::Elsewhere(digest, length)) = layout::place(&pair.value) {
                    index.count(digest, 1, length);
                }
            }
            match found.kvs.last().filter(|_| found.more) {
                Some(last) => range.start = [&last.key[..], &[0]].concat().into(),
                None => break,
            }
        }
        if index.missing() > 0 {
            tracing::error!(
                missing = index.missing(),
                "AppContexts refer to values that are not in the store"
            );
        }
        *self.index() = index;
        Ok(())
    }
}

impl Deduplicated {
    /// Removes values that no key has had for that long; returns how many.
    ///
    /// # Errors
    /// [`StoreError`] if the store below fails: values that could not be removed are removed later.
    pub async fn collect(&self, idle_for: Duration) -> Result<usize, StoreError> {
        let shared = &self.shared;
        let mut removed = 0;
        loop {
            // Nobody writes: whoever wants a value again finds it, or finds that it is gone.
            let _alone = shared.gate.write().await;
            if shared.index().is_in_doubt {
                shared.count().await?;
            }
            let Some(since) = Instant::now().checked_sub(idle_for) else { return Ok(removed) };
            let idle = shared.index().take_idle(since, REMOVED);
            if idle.is_empty() {
                return Ok(removed);
            }
            let gone =
                idle.iter().map(|digest| Operation::Delete(KeyRange::single(layout::value_key(digest))));
            let txn = Txn { success: gone.collect(), ..Txn::default() };
            if let Err(error) = shared.below.txn(txn).await {
                shared.index().is_in_doubt = true;
                return Err(error);
            }
            removed += idle.len();
        }
    }

    /// Removes values that no key has any more, as the options say, until it is told to stop.
    pub async fn maintain(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
            match self.collect(self.shared.options.grace).await {
                Ok(0) => {}
                Ok(removed) => tracing::debug!(removed, "values that no AppContext has any more are gone"),
                Err(error) => {
                    tracing::warn!(%error, "values that no AppContext has any more could not be removed");
                }
            }
        }
    }
}
