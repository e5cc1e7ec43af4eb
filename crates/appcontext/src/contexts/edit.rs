//! Changing contexts.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use drystone_store::{Compare, LeaseId, Operation, Revision};
use tokio::time::Instant;

use super::{
    AppContextError, AppContexts, Limits, Loaded, PATIENCE, TRIES,
    changes::{self, Change, Texts},
    edit_key, pause, put, remove, same, unchanged, untouched,
};
use crate::{codec, model::AppContext, names::ContextId};

/// Seconds after which an edit of many transactions has ended, if its editor does not say so.
const LEASE_SECONDS: u64 = 60;

/// What came of an attempt.
enum Attempt {
    Done,
    /// Somebody else was quicker.
    Lost,
}

impl AppContexts {
    /// Changes a context. `change` is given the context as it is, and changes it; what is different then is written, if nothing of it, nor
    /// what it is in, has been changed by others meanwhile. Otherwise `change` is called again with what is there now, so it must not
    /// do anything else. Edits of one context happen one after the other; one that does not fit into a transaction is done under a lock
    /// that other edits and [`load`](Self::load) respect. If its editor is killed in the middle, the first transactions of it remain:
    /// who does the same edit again completes it. The context's number cannot be changed.
    ///
    /// # Errors
    /// What `change` returns; [`AppContextError`] if the context is not there, a name cannot be kept, others change it all the time, or
    /// the store fails.
    pub async fn edit<T, E, F>(&self, id: ContextId, mut change: F) -> Result<T, E>
    where
        F: FnMut(&mut AppContext) -> Result<T, E>,
        E: From<AppContextError>,
    {
        let deadline = Instant::now() + PATIENCE;
        let mut tries = 0;
        while tries < TRIES {
            let loaded = self.read(id, true).await?;
            if loaded.is_being_edited && Instant::now() < deadline {
                self.until_edited(id, deadline).await?;
                continue;
            }
            let before = codec::encode(&loaded.context).map_err(AppContextError::from)?;
            let mut edited = loaded.context.clone();
            let outcome = change(&mut edited)?;
            edited.id = id;
            let after = codec::encode(&edited).map_err(AppContextError::from)?;
            let changes = changes::difference(&before, &after);
            if changes.is_empty() {
                return Ok(outcome);
            }
            if let Attempt::Done = self.write(&loaded, changes).await? {
                return Ok(outcome);
            }
            pause(tries).await;
            tries += 1;
        }
        Err(AppContextError::Contention(id).into())
    }

    async fn write(&self, loaded: &Loaded, changes: Vec<Change>) -> Result<Attempt, AppContextError> {
        let id = loaded.context.id;
        let prefix = codec::prefix(id);
        let edit = Edit { contexts: self, loaded, prefix: &prefix, texts: Texts::default() };
        // Comparisons are counted like operations. Two of either are ours.
        let compared = edit.conditions(&changes).len();
        let bytes: usize = changes.iter().map(|change| prefix.len() + change.size()).sum();
        let fits = changes.len().max(compared) + 2 <= self.limits.operations && bytes <= self.limits.bytes;
        if fits { edit.at_once(&changes).await } else { edit.in_parts(changes).await }
    }
}

/// An edit that is being written.
struct Edit<'a> {
    contexts: &'a AppContexts,
    loaded: &'a Loaded,
    prefix: &'a str,
    texts: Texts,
}

impl Edit<'_> {
    /// When the context's own key was changed last: every edit writes it, so that the next one knows.
    fn root(&self) -> Revision {
        self.loaded.marks.get(&b""[..]).copied().unwrap_or(0)
    }

    fn touch(&self) -> Operation {
        put(self.prefix.to_owned(), codec::root_value(self.loaded.context.id))
    }

    /// What must not have changed.
    fn conditions(&self, changes: &[Change]) -> Vec<Compare> {
        let keys: BTreeSet<String> = changes.iter().flat_map(changes::conditions).collect();
        let condition = |key: &String| {
            let mark = self.loaded.marks.get(key.as_bytes()).copied().unwrap_or(0);
            unchanged(changes::full(self.prefix, key), mark)
        };
        let mut conditions: Vec<Compare> = keys.iter().map(condition).collect();
        // What others have put into something since is not removed with it.
        conditions.extend(changes.iter().filter_map(|change| match change {
            Change::RemoveTree(key) => Some(untouched(format!("{}{key}", self.prefix), self.loaded.revision)),
            Change::Put(..) | Change::Remove(_) => None,
        }));
        conditions
    }

    fn operations(&self, changes: &[Change]) -> Vec<Operation> {
        changes.iter().map(|change| change.operation(self.prefix, &self.texts)).collect()
    }

    async fn at_once(&self, changes: &[Change]) -> Result<Attempt, AppContextError> {
        let mut compare = self.conditions(changes);
        compare.push(unchanged(self.prefix.to_owned(), self.root()));
        compare.push(unchanged(edit_key(self.loaded.context.id), 0));
        let mut operations = self.operations(changes);
        operations.push(self.touch());
        let done = self.contexts.txn(compare, operations).await?;
        Ok(if done.succeeded { Attempt::Done } else { Attempt::Lost })
    }

    async fn in_parts(&self, changes: Vec<Change>) -> Result<Attempt, AppContextError> {
        let store = self.contexts.store();
        let key = edit_key(self.loaded.context.id);
        let lease = store.lease_grant(LEASE_SECONDS).await?;
        let lock = Operation::Put { key: key.clone(), value: Bytes::from_static(b"editing"), lease };
        let conditions = vec![unchanged(self.prefix.to_owned(), self.root()), unchanged(key.clone(), 0)];
        let outcome = match self.contexts.txn(conditions, vec![lock, self.touch()]).await {
            Ok(begun) if begun.succeeded => self.locked(changes, unchanged(key, begun.revision), lease).await,
            Ok(_) => Ok(Attempt::Lost),
            Err(error) => Err(error),
        };
        // Takes the lock with it. If it cannot be revoked now it ends by itself.
        if let Err(error) = store.lease_revoke(lease).await {
            tracing::debug!(%error, "the lease of an edit ends by itself");
        }
        outcome
    }

    async fn locked(
        &self,
        changes: Vec<Change>,
        lock: Compare,
        lease: LeaseId,
    ) -> Result<Attempt, AppContextError> {
        let limits = self.contexts.limits;
        // A change depends on up to three keys; a part's changes have two of them in common.
        let fewer = Limits { operations: (limits.operations - 2) / 3, ..limits };
        let id = self.loaded.context.id;
        let root = same(self.prefix.to_owned(), self.contexts.created_at(id).await?);
        let mut kept = Instant::now();
        // What one transaction has written, a later one must not take for a change by others.
        let mut written: BTreeSet<Bytes> = BTreeSet::new();
        for batch in changes::batches(self.prefix, changes, fewer)? {
            if kept.elapsed() > Duration::from_secs(LEASE_SECONDS / 4) {
                self.contexts.store().lease_keep_alive(lease).await?;
                kept = Instant::now();
            }
            let mut compare = self.conditions(&batch);
            compare.retain(|condition| !written.contains(&condition.key));
            compare.extend([lock.clone(), root.clone()]);
            written.extend(batch.iter().map(|change| changes::full(self.prefix, change.key())));
            if !self.contexts.txn(compare, self.operations(&batch)).await?.succeeded {
                return Ok(Attempt::Lost);
            }
        }
        // Who reads from here on sees all of it, and edits from before it fail.
        let done = self.contexts.txn(vec![lock.clone()], vec![self.touch(), remove(lock.key)]).await?;
        Ok(if done.succeeded { Attempt::Done } else { Attempt::Lost })
    }
}
