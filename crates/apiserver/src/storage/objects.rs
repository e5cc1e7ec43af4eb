//! Reading and writing objects in the store.

use std::sync::Arc;

use bytes::Bytes;
use drystone_store::{
    Compare, CompareTarget, KeyRange, KeyValue, Operation, OperationResult, RangeRequest, Revision, Store,
    StoreError, Txn,
};

use super::encoded::{Encoded, Stored};

/// Why an object was not written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// There is one already, or another request changed it first; this is what is there now.
    #[error("the object is not as it was expected to be")]
    Conflict(Option<Stored>),
    /// One of the claims that go with the object is taken by another.
    #[error("{0} is taken")]
    ClaimTaken(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Keys of their own that an object holds exclusively for as long as it lives, such as its cluster address: taken and given
/// back in the object's own transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// Keys to take; the write fails if any exists.
    pub take: Vec<String>,
    /// Keys to give back.
    pub release: Vec<String>,
}

impl Claims {
    fn compares(&self) -> impl Iterator<Item = Compare> {
        self.take.iter().map(|key| absent(key))
    }

    fn operations(&self, owner: &str) -> impl Iterator<Item = Operation> {
        let owner = Bytes::copy_from_slice(owner.as_bytes());
        let take = self.take.iter().map(move |key| put(key, owner.clone(), 0));
        let release = self.release.iter().map(|key| delete(key));
        release.chain(take)
    }
}

/// The objects in a store.
#[derive(Clone)]
pub struct Objects {
    store: Arc<dyn Store>,
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Objects").finish_non_exhaustive()
    }
}

impl Objects {
    /// The objects in `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// The store itself, for ranges and watches.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The object of a key, if there is one.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn get(&self, key: &str) -> Result<Option<Stored>, StoreError> {
        let range = RangeRequest::new(KeyRange::single(key.to_owned()));
        Ok(self.store.range(range).await?.kvs.into_iter().next().map(Stored::from))
    }

    /// Whether there is an object of a key.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn exists(&self, key: &str) -> Result<bool, StoreError> {
        let range = RangeRequest { count_only: true, ..RangeRequest::new(KeyRange::single(key.to_owned())) };
        Ok(self.store.range(range).await?.count > 0)
    }

    /// Everything whose key starts with a prefix, now.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn all(&self, prefix: &str) -> Result<(Vec<Stored>, Revision), StoreError> {
        let found = self.store.range(RangeRequest::new(KeyRange::prefix(prefix.to_owned()))).await?;
        Ok((found.kvs.into_iter().map(Stored::from).collect(), found.revision))
    }

    /// Stores a new object under `lease` (0 for none).
    ///
    /// # Errors
    /// [`WriteError::Conflict`] if there is one already.
    pub async fn create(
        &self,
        key: &str,
        object: Encoded,
        claims: &Claims,
        lease: i64,
    ) -> Result<Stored, WriteError> {
        self.write(key, object, 0, claims, lease).await
    }

    /// Replaces the object that has the revision `expected`; from now on it lives under `lease` (0 for none).
    ///
    /// # Errors
    /// [`WriteError::Conflict`] if it has another, or is gone.
    pub async fn update(
        &self,
        key: &str,
        object: Encoded,
        expected: Revision,
        claims: &Claims,
        lease: i64,
    ) -> Result<Stored, WriteError> {
        self.write(key, object, expected, claims, lease).await
    }

    async fn write(
        &self,
        key: &str,
        object: Encoded,
        expected: Revision,
        claims: &Claims,
        lease: i64,
    ) -> Result<Stored, WriteError> {
        let bytes = object.into_bytes();
        let compare = std::iter::once(unchanged(key, expected)).chain(claims.compares()).collect();
        let success = std::iter::once(put(key, bytes.clone(), lease)).chain(claims.operations(key)).collect();
        let done = self.store.txn(Txn { compare, success, failure: reads(key, claims) }).await?;
        if done.succeeded {
            return Ok(Stored {
                key: Bytes::copy_from_slice(key.as_bytes()),
                bytes,
                revision: done.revision,
            });
        }
        Err(refusal(expected, claims, done.results))
    }

    /// Deletes the object that has the revision `expected`; returns the revision of the deletion.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] if it has another, or is gone.
    pub async fn delete(
        &self,
        key: &str,
        expected: Revision,
        claims: &Claims,
    ) -> Result<Revision, WriteError> {
        let success = std::iter::once(delete(key)).chain(claims.operations(key)).collect();
        let compare = std::iter::once(unchanged(key, expected)).chain(claims.compares()).collect();
        let done = self.store.txn(Txn { compare, success, failure: reads(key, claims) }).await?;
        if done.succeeded {
            return Ok(done.revision);
        }
        Err(refusal(expected, claims, done.results))
    }
}

fn unchanged(key: &str, revision: Revision) -> Compare {
    Compare { key: Bytes::copy_from_slice(key.as_bytes()), target: CompareTarget::ModRevision(revision) }
}

fn absent(key: &str) -> Compare {
    unchanged(key, 0)
}

fn put(key: &str, value: Bytes, lease: i64) -> Operation {
    Operation::Put { key: Bytes::copy_from_slice(key.as_bytes()), value, lease }
}

fn delete(key: &str) -> Operation {
    Operation::Delete(KeyRange::single(key.to_owned()))
}

/// Looks at what was in the way: the object first, then the claims.
fn reads(key: &str, claims: &Claims) -> Vec<Operation> {
    std::iter::once(key)
        .chain(claims.take.iter().map(String::as_str))
        .map(|key| Operation::Range(RangeRequest::new(KeyRange::single(key.to_owned()))))
        .collect()
}

fn refusal(expected: Revision, claims: &Claims, results: Vec<OperationResult>) -> WriteError {
    let mut found = results.into_iter().map(first);
    let current = found.next().flatten();
    if current.as_ref().map_or(0, |pair| pair.mod_revision) == expected
        && let Some((key, _)) = claims.take.iter().zip(found).find(|(_, holder)| holder.is_some())
    {
        return WriteError::ClaimTaken(key.clone());
    }
    WriteError::Conflict(current.map(Stored::from))
}

fn first(result: OperationResult) -> Option<KeyValue> {
    match result {
        OperationResult::Range(found) => found.kvs.into_iter().next(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drystone_store::embedded::{EmbeddedStore, Options};
    use serde_json::json;

    fn objects() -> Objects {
        Objects::new(Arc::new(EmbeddedStore::in_memory(Options::default()).unwrap()))
    }

    fn object(value: u32) -> Encoded {
        Encoded::new(&json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": "a"}, "value": value}))
            .unwrap()
    }

    #[tokio::test]
    async fn writes_are_conditional() {
        let objects = objects();
        let none = Claims::default();
        let made = objects.create("/a", object(1), &none, 0).await.unwrap();
        assert_eq!(objects.get("/a").await.unwrap().unwrap(), made);
        let again = objects.create("/a", object(2), &none, 0).await.unwrap_err();
        assert!(matches!(again, WriteError::Conflict(Some(current)) if current == made));
        let changed = objects.update("/a", object(2), made.revision, &none, 0).await.unwrap();
        assert!(objects.update("/a", object(3), made.revision, &none, 0).await.is_err());
        assert!(objects.delete("/a", made.revision, &none).await.is_err());
        objects.delete("/a", changed.revision, &none).await.unwrap();
        let gone = objects.update("/a", object(3), changed.revision, &none, 0).await.unwrap_err();
        assert!(matches!(gone, WriteError::Conflict(None)));
    }

    #[tokio::test]
    async fn claims_come_and_go_with_their_object() {
        let objects = objects();
        let take = Claims { take: vec!["/ip/1".into()], release: Vec::new() };
        let first = objects.create("/a", object(1), &take, 0).await.unwrap();
        let second = objects.create("/b", object(1), &take, 0).await.unwrap_err();
        assert!(matches!(second, WriteError::ClaimTaken(key) if key == "/ip/1"));
        assert!(objects.get("/b").await.unwrap().is_none());
        let release = Claims { take: Vec::new(), release: take.take.clone() };
        objects.delete("/a", first.revision, &release).await.unwrap();
        objects.create("/b", object(1), &take, 0).await.unwrap();
    }
}
