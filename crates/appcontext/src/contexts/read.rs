//! Reading contexts.

use std::collections::HashMap;

use bytes::Bytes;
use drystone_store::{KeyRange, KeyValue, Operation, OperationResult, RangeRequest, Revision, StoreError};
use tokio::time::Instant;

use super::{AppContextError, AppContexts, PATIENCE, edit_key, pause};
use crate::{
    codec::{self, Decoder, Key},
    model::{AppContext, Meta},
    names::ContextId,
};

/// Keys that are read at a time.
const PAGE: usize = 512;

/// A context that was read.
#[derive(Debug)]
pub struct Loaded {
    /// The context.
    pub context: AppContext,
    /// The revision at which it was so.
    pub revision: Revision,
    /// Keys that could not be read: what foreign controllers wrote, or something is broken. At most a hundred.
    pub unread: Vec<String>,
    /// When each key was changed last, if that was asked for; keys are what follows `/context/<id>/`.
    pub(super) marks: HashMap<Box<[u8]>, Revision>,
    /// Whether a large edit is under way.
    pub(super) is_being_edited: bool,
}

/// What of a context is known without reading its apps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Whose it is.
    pub meta: Meta,
    /// How far it has got.
    pub sync: crate::model::SyncState,
}

impl AppContexts {
    /// Reads a context.
    ///
    /// # Errors
    /// [`AppContextError::NotFound`] if it is not there, or not finished.
    pub async fn load(&self, id: ContextId) -> Result<AppContext, AppContextError> {
        Ok(self.load_all(id).await?.context)
    }

    /// Reads a context and says at which revision, and what of it could not be read.
    ///
    /// # Errors
    /// [`AppContextError::NotFound`] if it is not there, or not finished.
    pub async fn load_all(&self, id: ContextId) -> Result<Loaded, AppContextError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let is_late = Instant::now() >= deadline;
            match self.read(id, false).await {
                // Half of an edit is nothing to go by; its editor ends, or the lease of its lock.
                Ok(loaded) if loaded.is_being_edited && !is_late => self.until_edited(id, deadline).await?,
                // So many changes since the first page that the revision is forgotten.
                Err(AppContextError::Store(StoreError::Compacted { .. })) if !is_late => pause(3).await,
                other => return other,
            }
        }
    }

    /// Waits until nobody edits a context in several transactions any more.
    pub(super) async fn until_edited(&self, id: ContextId, deadline: Instant) -> Result<(), AppContextError> {
        loop {
            let lock = RangeRequest { count_only: true, ..RangeRequest::new(KeyRange::single(edit_key(id))) };
            if self.store.range(lock).await?.count == 0 || Instant::now() >= deadline {
                return Ok(());
            }
            pause(4).await;
        }
    }

    /// Reads a context, at one revision, as it is.
    pub(super) async fn read(&self, id: ContextId, with_marks: bool) -> Result<Loaded, AppContextError> {
        let prefix = codec::prefix(id);
        let (decoder, skip) = (Decoder::new(id), prefix.len());
        let mut reading = Reading { decoder, marks: HashMap::new(), with_marks, skip };
        let everything = KeyRange::prefix(prefix);
        let first = RangeRequest { limit: PAGE, ..RangeRequest::new(everything.clone()) };
        let mut page = self.store.range(first).await?;
        let revision = page.revision;
        let edits = RangeRequest {
            revision: Some(revision),
            count_only: true,
            ..RangeRequest::new(KeyRange::single(edit_key(id)))
        };
        let edits = self.store.range(edits).await?;
        while let Some(next) = reading.take(&page.kvs).filter(|_| page.more) {
            let range = KeyRange { start: next, end: everything.end.clone() };
            let request = RangeRequest { limit: PAGE, revision: Some(revision), ..RangeRequest::new(range) };
            page = self.store.range(request).await?;
        }
        let decoded = reading.decoder.finish();
        if !decoded.is_whole {
            return Err(AppContextError::NotFound(id));
        }
        if !decoded.unread.is_empty() {
            tracing::debug!(context = %id, unread = ?decoded.unread, "keys of an AppContext that say nothing");
        }
        Ok(Loaded {
            context: decoded.context,
            revision,
            unread: decoded.unread,
            marks: reading.marks,
            is_being_edited: edits.count > 0,
        })
    }

    /// Whether there is such a context.
    ///
    /// # Errors
    /// [`AppContextError::Store`] if the store fails.
    pub async fn exists(&self, id: ContextId) -> Result<bool, AppContextError> {
        let request =
            RangeRequest { count_only: true, ..RangeRequest::new(KeyRange::single(codec::prefix(id))) };
        Ok(self.store.range(request).await?.count > 0)
    }

    /// Whose a context is.
    ///
    /// # Errors
    /// [`AppContextError::NotFound`] if it is not there, or not finished.
    pub async fn meta(&self, id: ContextId) -> Result<Meta, AppContextError> {
        let ranges = [codec::full_key(id, Key::Context), codec::full_key(id, Key::Meta)];
        let reads = ranges.map(|key| Operation::Range(RangeRequest::new(KeyRange::single(key))));
        let done = self.txn(Vec::new(), reads.into()).await?;
        let mut found = done.results.into_iter().map(|result| match result {
            OperationResult::Range(found) => found.kvs.into_iter().next(),
            _ => None,
        });
        if found.next().flatten().is_none() {
            return Err(AppContextError::NotFound(id));
        }
        let meta = found.next().flatten();
        Ok(meta.and_then(|pair| codec::decode_meta(&pair.value)).unwrap_or_default())
    }

    /// Every context, in the order of their keys.
    ///
    /// # Errors
    /// [`AppContextError::Store`] if the store fails.
    pub async fn list(&self) -> Result<Vec<ContextId>, AppContextError> {
        let mut ids = Vec::new();
        let mut range = KeyRange::prefix(codec::CONTEXTS);
        loop {
            // A context has thousands of keys: one is looked at, the others are jumped over.
            let request = RangeRequest { limit: 1, keys_only: true, ..RangeRequest::new(range.clone()) };
            let found = self.store.range(request).await?;
            let Some(pair) = found.kvs.first() else { return Ok(ids) };
            let rest = &pair.key[codec::CONTEXTS.len()..];
            let length = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
            let id = std::str::from_utf8(&rest[..length]).ok().and_then(|text| text.parse().ok());
            // A context's own key is the first of its keys.
            if let Some(id) = id.filter(|_| length + 1 == rest.len()) {
                ids.push(id);
            }
            let name = &pair.key[..codec::CONTEXTS.len() + length];
            // `0` follows `/`.
            let next = if length == rest.len() { [name, b"\0"].concat() } else { [name, b"0"].concat() };
            range.start = next.into();
        }
    }

    /// The contexts that the synchroniser works on.
    ///
    /// # Errors
    /// [`AppContextError::Store`] if the store fails.
    pub async fn active(&self) -> Result<Vec<ContextId>, AppContextError> {
        let range = KeyRange::prefix(codec::ACTIVE);
        let found = self.store.range(RangeRequest { keys_only: true, ..RangeRequest::new(range) }).await?;
        Ok(found.kvs.iter().filter_map(|pair| active_id(&pair.key)).collect())
    }
}

/// The context that a key below `/activecontext/` names.
pub(super) fn active_id(key: &[u8]) -> Option<ContextId> {
    std::str::from_utf8(key).ok()?.strip_prefix(codec::ACTIVE)?.strip_suffix('/')?.parse().ok()
}

struct Reading {
    decoder: Decoder,
    marks: HashMap<Box<[u8]>, Revision>,
    with_marks: bool,
    /// Length of what is before the keys of the context.
    skip: usize,
}

impl Reading {
    /// Takes a page; returns where the next one begins.
    fn take(&mut self, page: &[KeyValue]) -> Option<Bytes> {
        for pair in page {
            let key = &pair.key[self.skip.min(pair.key.len())..];
            self.decoder.take(key, &pair.value);
            if self.with_marks {
                // Copied: what is read from etcd is part of a page, which had better go.
                self.marks.insert(key.into(), pair.mod_revision);
            }
        }
        Some([&page.last()?.key[..], &[0]].concat().into())
    }
}
