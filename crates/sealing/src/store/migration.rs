//! Sealing what a store holds in clear, and making sure that everything opens, when it is opened.

use bytes::Bytes;
use drystone_store::{KeyRange, KeyValue, Operation, RangeRequest, Revision, Store, StoreError, Txn};

use super::{SealedStore, SealedStoreError, writing};
use crate::ring::{Unopened, sealed_by};

/// Says, in the store, that something was in clear and that its old revisions may still be on the disk.
const REMAINS: &str = "/drystone/clear-text-remains";

/// Values that are looked at in one read.
const PAGE: usize = 500;

/// See [`SealedStore::pages`].
pub(super) struct Pages<'a> {
    below: &'a dyn Store,
    /// What is left, the next one last.
    ranges: Vec<KeyRange>,
}

impl Pages<'_> {
    /// The next page; pages may be empty.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<KeyValue>>, StoreError> {
        let Some(mut range) = self.ranges.pop() else { return Ok(None) };
        let request = RangeRequest { limit: PAGE, ..RangeRequest::new(range.clone()) };
        let found = self.below.range(request).await?;
        if let Some(last) = found.kvs.last().filter(|_| found.more) {
            range.start = [&last.key[..], &[0]].concat().into();
            self.ranges.push(range);
        }
        Ok(Some(found.kvs))
    }
}

impl SealedStore {
    /// Seals what is in clear; checks first that everything that is sealed opens.
    pub(super) async fn migrate(&self) -> Result<(), SealedStoreError> {
        let mut damaged = Vec::new();
        let mut clear = false;
        let mut pages = self.pages();
        while let Some(page) = pages.next().await? {
            for pair in &page {
                match self.opens(pair).await {
                    Ok(()) => {}
                    Err(Unopened::Clear) => clear = true,
                    Err(_) => damaged.push(String::from_utf8_lossy(&pair.key).into_owned()),
                }
            }
        }
        if !damaged.is_empty() {
            return Err(SealedStoreError::Damaged(damaged));
        }
        if !clear {
            return Ok(());
        }
        self.note_remains("values are being sealed").await?;
        let mut sealed = 0_u64;
        let mut pages = self.pages();
        while let Some(page) = pages.next().await? {
            for pair in page.iter().filter(|pair| sealed_by(&pair.value) == Err(Unopened::Clear)) {
                self.seal_pair(pair).await?;
                sealed += 1;
            }
        }
        // A change after the last one that was sealed: compacting to it forgets that one's clear text too.
        self.note_remains("old revisions are in clear").await?;
        tracing::info!(sealed, "Secrets that were in clear are encrypted now");
        Ok(())
    }

    async fn opens(&self, pair: &KeyValue) -> Result<(), Unopened> {
        match self.shared.ring().open(&pair.key, &pair.value) {
            Err(Unopened::UnknownKey(id)) => match self.shared.reload().await {
                Ok(ring) => ring.open(&pair.key, &pair.value).map(drop),
                Err(_) => Err(Unopened::UnknownKey(id)),
            },
            opened => opened.map(drop),
        }
    }

    /// Writes a pair of the store below again, sealed with the active key. One that somebody else has changed meanwhile is left to them.
    pub(super) async fn seal_pair(&self, pair: &KeyValue) -> Result<bool, SealedStoreError> {
        let ring = self.shared.ring();
        let clear = match ring.open(&pair.key, &pair.value) {
            Ok(opened) => opened,
            Err(Unopened::Clear) => pair.value.clone(),
            Err(_) => return Err(SealedStoreError::Damaged(vec![String::from_utf8_lossy(&pair.key).into()])),
        };
        let write = writing::replace(pair.key.clone(), clear, pair.mod_revision, pair.lease);
        match self.shared.write(&write).await {
            Ok(done) => Ok(done.succeeded),
            Err(StoreError::LeaseNotFound(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Every sealed pair as it lies in the store below, a page at a time.
    pub(super) fn pages(&self) -> Pages<'_> {
        let mut ranges: Vec<KeyRange> =
            self.shared.prefixes.iter().map(|prefix| KeyRange::prefix(prefix.clone())).collect();
        ranges.reverse();
        Pages { below: self.shared.below.as_ref(), ranges }
    }

    async fn note_remains(&self, what: &'static str) -> Result<(), StoreError> {
        let put = Operation::Put {
            key: Bytes::from(REMAINS),
            value: Bytes::from_static(what.as_bytes()),
            lease: 0,
        };
        self.shared.below.txn(Txn { success: vec![put], ..Txn::default() }).await.map(drop)
    }

    /// Whether secrets were in clear and what is left of that has not been removed from the disk.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn has_remains(&self) -> Result<bool, StoreError> {
        let request =
            RangeRequest { count_only: true, ..RangeRequest::new(KeyRange::single(REMAINS.to_owned())) };
        Ok(self.shared.below.range(request).await?.count > 0)
    }

    /// Forgets all history, in which clear text is. Returns the revision from which on there is history.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn forget_history(&self) -> Result<Revision, StoreError> {
        let revision = self.shared.below.revision().await?;
        self.shared.below.compact(revision).await?;
        Ok(revision)
    }

    /// Notes that nothing in clear is left.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn remains_are_gone(&self) -> Result<(), StoreError> {
        let delete = Operation::Delete(KeyRange::single(REMAINS.to_owned()));
        self.shared.below.txn(Txn { success: vec![delete], ..Txn::default() }).await.map(drop)
    }

    /// Deletes every sealed value that does not open; returns their keys. What they held is lost.
    ///
    /// # Errors
    /// [`SealedStoreError`] if the sealing key is a wrong one, or the store fails; nothing is deleted for a key that is not at hand.
    pub async fn remove_damaged(
        below: std::sync::Arc<dyn Store>,
        sealing: &crate::SealingKey,
        prefixes: &[&str],
    ) -> Result<Vec<String>, SealedStoreError> {
        let Some(ring) = crate::ring::Ring::read(below.as_ref(), sealing).await? else {
            return Ok(Vec::new());
        };
        let mut removed = Vec::new();
        for prefix in prefixes {
            let found = below.range(RangeRequest::new(KeyRange::prefix((*prefix).to_owned()))).await?;
            for pair in &found.kvs {
                if matches!(ring.open(&pair.key, &pair.value), Ok(_) | Err(Unopened::Clear)) {
                    continue;
                }
                let mut write = writing::replace(pair.key.clone(), Bytes::new(), pair.mod_revision, 0);
                write.success = vec![Operation::Delete(KeyRange::single(pair.key.clone()))];
                if below.txn(write).await?.succeeded {
                    removed.push(String::from_utf8_lossy(&pair.key).into_owned());
                }
            }
        }
        Ok(removed)
    }
}
