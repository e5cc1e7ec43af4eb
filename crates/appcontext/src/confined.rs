//! A store of which only some prefixes are seen: for foreign controllers, which have no business with the rest.

use std::sync::Arc;

use bytes::Bytes;
use drystone_store::{
    CompareTarget, KeyRange, LeaseId, LeaseTime, Operation, RangeRequest, RangeResponse, Revision, Store,
    StoreError, Txn, TxnResponse, WatchRequest, WatchStream,
};

/// The store. Keys outside of its prefixes are not there when they are read, and cannot be written, deleted, compared or watched; history
/// cannot be forgotten. A range must not have keys inside and outside.
pub struct Confined {
    below: Arc<dyn Store>,
    prefixes: Vec<KeyRange>,
}

impl std::fmt::Debug for Confined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Confined").field("prefixes", &self.prefixes).finish_non_exhaustive()
    }
}

/// How a range lies to the prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lies {
    Inside,
    Outside,
    Across,
}

impl Confined {
    /// What of a store is below these prefixes.
    pub fn new(below: Arc<dyn Store>, prefixes: &[&'static str]) -> Arc<Self> {
        let prefixes = prefixes.iter().map(|prefix| KeyRange::prefix(*prefix)).collect();
        Arc::new(Self { below, prefixes })
    }

    fn lies(&self, range: &KeyRange) -> Lies {
        let Some(end) = &range.end else {
            let is_inside = self.prefixes.iter().any(|prefix| prefix.contains(&range.start));
            return if is_inside { Lies::Inside } else { Lies::Outside };
        };
        for prefix in &self.prefixes {
            let last = prefix.end.clone().unwrap_or_default();
            let ends_inside = !end.is_empty() && *end <= last;
            if prefix.contains(&range.start) && ends_inside {
                return Lies::Inside;
            }
            let is_before = !end.is_empty() && *end <= prefix.start;
            let is_behind = range.start >= last;
            if !is_before && !is_behind {
                return Lies::Across;
            }
        }
        Lies::Outside
    }

    fn inside(&self, range: &KeyRange) -> Result<(), StoreError> {
        match self.lies(range) {
            Lies::Inside => Ok(()),
            Lies::Outside | Lies::Across => Err(self.refusal(&range.start)),
        }
    }

    fn refusal(&self, key: &Bytes) -> StoreError {
        let prefixes: Vec<_> =
            self.prefixes.iter().map(|prefix| String::from_utf8_lossy(&prefix.start).into_owned()).collect();
        StoreError::InvalidRequest(format!(
            "there are only keys below {} here, and {key:?} is none, or begins a range that has others",
            prefixes.join(" and ")
        ))
    }
}

#[async_trait::async_trait]
impl Store for Confined {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        match self.lies(&request.range) {
            Lies::Inside => self.below.range(request).await,
            // Clients look for some key or other to see whether anybody answers.
            Lies::Outside => {
                let revision = self.below.revision().await?;
                Ok(RangeResponse { revision, kvs: Vec::new(), count: 0, more: false })
            }
            Lies::Across => Err(self.refusal(&request.range.start)),
        }
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse, StoreError> {
        for compare in &txn.compare {
            let mut range = KeyRange::single(compare.key.clone());
            if let CompareTarget::NotChangedSince { end, .. } = &compare.target {
                range.end = Some(end.clone());
            }
            self.inside(&range)?;
        }
        for operation in txn.success.iter().chain(&txn.failure) {
            match operation {
                Operation::Put { key, .. } => self.inside(&KeyRange::single(key.clone()))?,
                Operation::Delete(range) => self.inside(range)?,
                Operation::Range(request) => self.inside(&request.range)?,
            }
        }
        self.below.txn(txn).await
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, StoreError> {
        self.inside(&request.range)?;
        self.below.watch(request).await
    }

    async fn lease_grant(&self, ttl_seconds: u64) -> Result<LeaseId, StoreError> {
        self.below.lease_grant(ttl_seconds).await
    }

    async fn lease_grant_as(&self, lease: LeaseId, ttl_seconds: u64) -> Result<(), StoreError> {
        self.below.lease_grant_as(lease, ttl_seconds).await
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.below.lease_keep_alive(lease).await
    }

    async fn lease_time_to_live(&self, lease: LeaseId) -> Result<LeaseTime, StoreError> {
        self.below.lease_time_to_live(lease).await
    }

    async fn lease_keys(&self, lease: LeaseId) -> Result<Vec<Bytes>, StoreError> {
        let mut keys = self.below.lease_keys(lease).await?;
        keys.retain(|key| self.prefixes.iter().any(|prefix| prefix.contains(key)));
        Ok(keys)
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.below.lease_revoke(lease).await
    }

    async fn compact(&self, _: Revision) -> Result<(), StoreError> {
        Err(StoreError::InvalidRequest(
            "history is forgotten by the store itself; it need not be compacted".into(),
        ))
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        self.below.revision().await
    }
}

#[cfg(test)]
mod tests {
    use drystone_store::embedded::{EmbeddedStore, Options};

    use super::*;

    fn range(start: &'static str, end: &'static str) -> KeyRange {
        KeyRange { start: start.into(), end: Some(end.into()) }
    }

    #[test]
    fn ranges_lie_inside_outside_or_across() {
        let store = Arc::new(EmbeddedStore::in_memory(Options::default()).unwrap());
        let confined = Confined::new(store, &["/activecontext/", "/context/"]);
        for (range, expected) in [
            (KeyRange::single("/context/7/"), Lies::Inside),
            (KeyRange::prefix("/context/7/"), Lies::Inside),
            (KeyRange::prefix("/context/"), Lies::Inside),
            (KeyRange::single("/context"), Lies::Outside),
            (KeyRange::single("/context0"), Lies::Outside),
            (KeyRange::prefix("/registry/"), Lies::Outside),
            (KeyRange::prefix("/context"), Lies::Across),
            (range("/context/7/", "/context0x"), Lies::Across),
            (range("/context/7/", ""), Lies::Across),
            (range("", ""), Lies::Across),
            (range("/activecontext/", "/context/1"), Lies::Across),
            (range("/b", "/context/"), Lies::Outside),
            (range("/context0", ""), Lies::Outside),
        ] {
            assert_eq!(confined.lies(&range), expected, "{range:?}");
        }
    }

    #[tokio::test]
    async fn nothing_is_read_or_written_outside() {
        let below = Arc::new(EmbeddedStore::in_memory(Options::default()).unwrap());
        let put = |key: &'static str| Operation::Put { key: key.into(), value: "x".into(), lease: 0 };
        below.txn(Txn { success: vec![put("/registry/secret")], ..Txn::default() }).await.unwrap();
        let confined = Confined::new(Arc::clone(&below) as _, &["/context/"]);
        let found = confined.range(RangeRequest::new(KeyRange::prefix("/registry/"))).await.unwrap();
        assert!(found.kvs.is_empty() && found.count == 0 && found.revision == 2);
        let refused = [
            Txn { success: vec![put("/registry/x")], ..Txn::default() },
            Txn { failure: vec![Operation::Delete(range("/context/", ""))], ..Txn::default() },
            Txn {
                success: vec![Operation::Range(RangeRequest::new(KeyRange::prefix("/registry/")))],
                ..Txn::default()
            },
        ];
        for txn in refused {
            assert!(matches!(confined.txn(txn).await, Err(StoreError::InvalidRequest(_))));
        }
        let watch = WatchRequest { range: KeyRange::prefix("/"), start_revision: None };
        assert!(confined.watch(watch).await.is_err() && confined.compact(2).await.is_err());
        confined.txn(Txn { success: vec![put("/context/7/")], ..Txn::default() }).await.unwrap();
        assert_eq!(below.revision().await.unwrap(), 3);
    }
}
