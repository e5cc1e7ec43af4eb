//! Changes of contexts as they happen.

use std::pin::Pin;

use bytes::Bytes;
use drystone_store::{EventKind, KeyRange, Revision, StoreError, WatchRequest};
use futures::{Stream, StreamExt as _};

use super::{AppContextError, AppContexts, read::active_id};
use crate::{
    codec::{self, Key},
    names::ContextId,
};

/// A change of one key of a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextChange {
    key: String,
    /// The value, as it is stored; `None` if the key was deleted.
    pub value: Option<Bytes>,
    /// The revision of the change.
    pub revision: Revision,
}

impl ContextChange {
    /// What was changed; `None` if it is nothing of EMCO's layout.
    pub fn key(&self) -> Option<Key<'_>> {
        Key::parse(&self.key)
    }

    /// What follows `/context/<id>/` in the key.
    pub fn path(&self) -> &str {
        &self.key
    }
}

/// Changes of a context, those of one transaction at a time. Ends with an error if they were not taken quickly enough, or if they were
/// forgotten: read the context and watch from the revision after that.
pub type ContextChanges = Pin<Box<dyn Stream<Item = Result<Vec<ContextChange>, StoreError>> + Send>>;

impl AppContexts {
    /// Watches a context, from a revision on, or from now on.
    ///
    /// # Errors
    /// [`AppContextError::Store`] if the revision is forgotten, or the store fails.
    pub async fn watch(
        &self,
        id: ContextId,
        from: Option<Revision>,
    ) -> Result<ContextChanges, AppContextError> {
        let prefix = codec::prefix(id);
        let skip = prefix.len();
        let request = WatchRequest { range: KeyRange::prefix(prefix), start_revision: from };
        let changes = self.store.watch(request).await?;
        Ok(Box::pin(changes.map(move |batch| {
            let events = batch?.events;
            let changes = events.iter().map(|event| ContextChange {
                key: String::from_utf8_lossy(&event.kv.key[skip.min(event.kv.key.len())..]).into_owned(),
                value: (event.kind == EventKind::Put).then(|| event.kv.value.clone()),
                revision: event.kv.mod_revision,
            });
            Ok(changes.collect())
        })))
    }

    /// Watches which contexts the synchroniser is to work on, from a revision on, or from now on: which ones came (`true`) or went.
    ///
    /// # Errors
    /// [`AppContextError::Store`] if the revision is forgotten, or the store fails.
    pub async fn watch_active(
        &self,
        from: Option<Revision>,
    ) -> Result<Pin<Box<dyn Stream<Item = Result<Vec<(ContextId, bool)>, StoreError>> + Send>>, AppContextError>
    {
        let request = WatchRequest { range: KeyRange::prefix(codec::ACTIVE), start_revision: from };
        let changes = self.store.watch(request).await?;
        Ok(Box::pin(changes.map(|batch| {
            let events = batch?.events;
            let changes = events
                .iter()
                .filter_map(|event| Some((active_id(&event.kv.key)?, event.kind == EventKind::Put)));
            Ok(changes.collect())
        })))
    }
}
