//! What the synchroniser keeps in contexts, and statuses: written often, so without reading the context.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use drystone_store::{KeyRange, KeyValue, Operation, OperationResult, RangeRequest, Revision};

use super::{
    AppContextError, AppContexts, Summary, TRIES,
    changes::{self, Change, Texts},
    pause, put, remove, same, unchanged,
};
use crate::{
    codec::{self, AFTER_APPS, Encoded, Key, PartKey, PartValue, ResourceKey},
    model::{Connectivity, ResourceStatus, SyncState},
    names::{ClusterName, ContextId, ResourceName},
};

/// Something that has become known of an app on a cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusUpdate {
    /// The app.
    pub app: String,
    /// The cluster.
    pub cluster: ClusterName,
    /// What.
    pub value: StatusValue,
}

/// What can become known.
#[derive(Debug, Clone, PartialEq)]
pub enum StatusValue {
    /// How far a resource has got.
    Resource(ResourceName, ResourceStatus),
    /// Whether a resource is ready.
    ResourceReady(ResourceName, bool),
    /// Whether a resource has succeeded.
    ResourceSuccess(ResourceName, bool),
    /// A resource as the cluster has it.
    Definition(ResourceName, Arc<str>),
    /// Whether the cluster answers.
    Connectivity(Connectivity),
    /// Whether all resources are ready.
    ResourcesReady(bool),
    /// What the cluster says of the resources: the status of a ResourceBundleState, as JSON.
    Status(Arc<str>),
}

impl StatusUpdate {
    fn entry(&self) -> (String, Encoded) {
        let resource = |name, of| PartKey::Resource(ResourceName::as_str(name), of);
        let (of, value) = match &self.value {
            StatusValue::Resource(name, status) => {
                (resource(name, ResourceKey::Status), PartValue::Status(status.as_str()))
            }
            StatusValue::ResourceReady(name, ready) => {
                (resource(name, ResourceKey::Ready), PartValue::Truth(*ready))
            }
            StatusValue::ResourceSuccess(name, success) => {
                (resource(name, ResourceKey::Success), PartValue::Truth(*success))
            }
            StatusValue::Definition(name, object) => {
                (resource(name, ResourceKey::Definition), PartValue::Text(Arc::clone(object)))
            }
            StatusValue::Connectivity(connectivity) => {
                (PartKey::Connectivity, PartValue::Word(connectivity.as_str()))
            }
            StatusValue::ResourcesReady(ready) => (PartKey::ResourcesReady, PartValue::Truth(*ready)),
            StatusValue::Status(status) => (PartKey::Status, PartValue::Text(Arc::clone(status))),
        };
        let key = Key::Part { app: &self.app, cluster: &self.cluster.to_string(), of }.to_string();
        (key, codec::encode_part_value(&value))
    }
}

impl AppContexts {
    /// Writes what has become known, in as few transactions as it fits into. Of several values for the same thing the last one counts.
    /// The parts and resources are not checked; what is told of one that is not there is passed over by who reads the context.
    ///
    /// # Errors
    /// [`AppContextError::NotFound`] if the context is not there (any more): nothing of it comes back to life.
    pub async fn statuses(&self, id: ContextId, updates: &[StatusUpdate]) -> Result<(), AppContextError> {
        let prefix = codec::prefix(id);
        let entries: BTreeMap<String, Encoded> = updates.iter().map(StatusUpdate::entry).collect();
        let changes = entries.into_iter().map(|(key, value)| Change::Put(key, value)).collect();
        let texts = Texts::default();
        for batch in changes::batches(&prefix, changes, self.limits)? {
            let operations = batch.iter().map(|change| change.operation(&prefix, &texts)).collect();
            if !self.while_there(id, Vec::new(), operations).await? {
                return Err(AppContextError::Contention(id));
            }
        }
        Ok(())
    }

    /// Carries out a transaction if the context is there; says whether the conditions held.
    async fn while_there(
        &self,
        id: ContextId,
        conditions: Vec<drystone_store::Compare>,
        operations: Vec<Operation>,
    ) -> Result<bool, AppContextError> {
        // Again once: that it was there since some revision may have been known from long ago.
        for _ in 0..2 {
            let created = self.created_at(id).await?;
            let mut compare = conditions.clone();
            compare.push(same(codec::prefix(id), created));
            if self.txn(compare, operations.clone()).await?.succeeded {
                return Ok(true);
            }
            self.forget(id);
            if self.created_at(id).await? == created {
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// Whose a context is and how far it has got, without its apps.
    ///
    /// # Errors
    /// [`AppContextError::NotFound`] if it is not there, or not finished.
    pub async fn summary(&self, id: ContextId) -> Result<Summary, AppContextError> {
        let (pairs, _) = self.head(id).await?;
        let skip = codec::prefix(id).len();
        let meta = pairs.iter().find(|pair| &pair.key[skip..] == Key::Meta.to_string().as_bytes());
        let meta = meta.and_then(|pair| codec::decode_meta(&pair.value)).unwrap_or_default();
        let sync = codec::decode_sync(pairs.iter().map(|pair| (&pair.key[skip..], &pair.value[..])));
        Ok(Summary { meta, sync })
    }

    /// What the synchroniser keeps in a context.
    ///
    /// # Errors
    /// [`AppContextError::NotFound`] if it is not there, or not finished.
    pub async fn sync_state(&self, id: ContextId) -> Result<SyncState, AppContextError> {
        Ok(self.summary(id).await?.sync)
    }

    /// Changes what the synchroniser keeps in a context, all of it in one transaction. `change` is called again if others were quicker, so
    /// it must not do anything else.
    ///
    /// # Errors
    /// What `change` returns; [`AppContextError`] if the context is not there, others change it all the time, or the store fails.
    pub async fn edit_sync<T, E, F>(&self, id: ContextId, mut change: F) -> Result<T, E>
    where
        F: FnMut(&mut SyncState) -> Result<T, E>,
        E: From<AppContextError>,
    {
        let prefix = codec::prefix(id);
        for attempt in 0..TRIES {
            let (pairs, created) = self.head(id).await?;
            let sync =
                codec::decode_sync(pairs.iter().map(|pair| (&pair.key[prefix.len()..], &pair.value[..])));
            let before = codec::encode_sync(&sync);
            let mut edited = sync;
            let outcome = change(&mut edited)?;
            let changes = changes::difference(&before, &codec::encode_sync(&edited));
            if changes.is_empty() {
                return Ok(outcome);
            }
            let mark = |key: &Bytes| {
                let found = pairs.iter().find(|pair| pair.key == *key);
                found.map_or(0, |pair| pair.mod_revision)
            };
            let keys = changes.iter().map(|change| changes::full(&prefix, change.key()));
            let mut compare: Vec<_> = keys
                .map(|key| {
                    let mark = mark(&key);
                    unchanged(key, mark)
                })
                .collect();
            compare.push(same(prefix.clone(), created));
            let texts = Texts::default();
            let operations = changes.iter().map(|change| change.operation(&prefix, &texts)).collect();
            if self.txn(compare, operations).await.map_err(E::from)?.succeeded {
                return Ok(outcome);
            }
            pause(attempt).await;
        }
        Err(AppContextError::Contention(id).into())
    }

    /// What is not of apps, and since when the context is there.
    async fn head(&self, id: ContextId) -> Result<(Vec<KeyValue>, Revision), AppContextError> {
        let prefix = codec::prefix(id);
        let mut behind = KeyRange::prefix(prefix.clone());
        behind.start = format!("{prefix}{AFTER_APPS}").into();
        let reads =
            [KeyRange::single(prefix), behind].map(|range| Operation::Range(RangeRequest::new(range)));
        let done = self.txn(Vec::new(), reads.into()).await?;
        let mut found = done.results.into_iter().map(|result| match result {
            OperationResult::Range(found) => found.kvs,
            _ => Vec::new(),
        });
        let root = found.next().unwrap_or_default();
        let created = root.first().ok_or(AppContextError::NotFound(id))?.create_revision;
        self.roots().insert(id, created);
        Ok((found.next().unwrap_or_default(), created))
    }

    /// Notes that the synchroniser works on a context; it is found by that after a restart.
    ///
    /// # Errors
    /// [`AppContextError::NotFound`] if the context is not there.
    pub async fn activate(&self, id: ContextId) -> Result<(), AppContextError> {
        let note = put(codec::active_key(id), codec::root_value(id));
        match self.while_there(id, Vec::new(), vec![note]).await? {
            true => Ok(()),
            false => Err(AppContextError::Contention(id)),
        }
    }

    /// Notes that the synchroniser does not work on a context any more.
    ///
    /// # Errors
    /// [`AppContextError::Store`] if the store fails.
    pub async fn deactivate(&self, id: ContextId) -> Result<(), AppContextError> {
        self.txn(Vec::new(), vec![remove(codec::active_key(id))]).await.map(drop)
    }
}
