//! Making a context.

use drystone_store::{KeyRange, OperationResult, RangeRequest};
use futures::{StreamExt as _, TryStreamExt as _};

use super::{
    AppContextError, AppContexts, changes,
    changes::{Change, Texts},
    put, remove, unchanged, unfinished_key,
};
use crate::{codec, model::AppContext, names::ContextId};

/// Transactions that are under way at a time.
const CONCURRENT: usize = 4;

/// What came of making a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// It has been made.
    Created,
    /// It was there already, and was left as it is.
    Existed,
}

impl AppContexts {
    /// Makes a context. It is seen as a whole or not at all; what is left of an attempt that ended in the middle is removed first. One that
    /// is there already is left as it is, so that the same thing may be done twice.
    ///
    /// # Errors
    /// [`AppContextError::Overtaken`] if somebody else began to make the same one meanwhile; others if a name cannot be kept, or the
    /// store fails.
    pub async fn create(&self, context: &AppContext) -> Result<Creation, AppContextError> {
        let id = context.id;
        let prefix = codec::prefix(id);
        let mut entries = codec::encode(context)?;
        let Some(root) = entries.remove("") else { return Err(AppContextError::NotFound(id)) };
        let entries = entries.into_iter().map(|(key, value)| Change::Put(key, value)).collect();
        // Room is left for the last one's two operations more.
        let limits = super::Limits { operations: self.limits.operations - 2, ..self.limits };
        let mut batches = changes::batches(&prefix, entries, limits)?;

        let everything = KeyRange::prefix(prefix.clone());
        let count = RangeRequest { count_only: true, ..RangeRequest::new(everything.clone()) };
        let begin = vec![put(unfinished_key(id), "being made"), drystone_store::Operation::Range(count)];
        let begun = self.txn(vec![unchanged(prefix.clone(), 0)], begin).await?;
        if !begun.succeeded {
            return Ok(Creation::Existed);
        }
        let claim = unchanged(unfinished_key(id), begun.revision);
        let leftovers = begun.results.iter().any(|result| match result {
            OperationResult::Range(found) => found.count > 0,
            _ => false,
        });
        if leftovers && !self.sweep(&prefix, &claim).await? {
            return self.lost(id).await;
        }

        let last = batches.pop().unwrap_or_default();
        let (texts, held) = (Texts::default(), &claim);
        let held = futures::stream::iter(batches)
            .map(|batch| {
                let operations = batch.iter().map(|change| change.operation(&prefix, &texts)).collect();
                self.txn(vec![held.clone()], operations)
            })
            .buffer_unordered(CONCURRENT)
            .try_all(|done| async move { done.succeeded })
            .await?;
        if !held {
            return self.lost(id).await;
        }
        let mut operations: Vec<_> = last.iter().map(|change| change.operation(&prefix, &texts)).collect();
        operations.push(put(prefix, root.to_bytes()));
        operations.push(remove(unfinished_key(id)));
        let done = self.txn(vec![claim], operations).await?;
        if !done.succeeded {
            return self.lost(id).await;
        }
        self.roots().insert(id, done.revision);
        Ok(Creation::Created)
    }

    /// Somebody else makes the context, or has made it.
    async fn lost(&self, id: ContextId) -> Result<Creation, AppContextError> {
        match self.exists(id).await? {
            true => Ok(Creation::Existed),
            false => Err(AppContextError::Overtaken(id)),
        }
    }
}
