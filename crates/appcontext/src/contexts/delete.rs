//! Deleting contexts, and what was left half done.

use std::collections::BTreeMap;

use bytes::Bytes;
use drystone_store::{Compare, KeyRange, Operation, RangeRequest, Revision};

use super::{AppContextError, AppContexts, OWN, edit_key, put, remove, unchanged, unfinished_key};
use crate::{codec, names::ContextId};

/// Keys that are deleted at a time: etcd returns what they were.
const SWEPT: usize = 512;

impl AppContexts {
    /// Deletes a context, whatever others wrote into it, and that it is active. One that is not there is deleted already.
    ///
    /// # Errors
    /// [`AppContextError::Overtaken`] if somebody makes it anew meanwhile; [`AppContextError::Store`] if the store fails: what is left
    /// is not seen as a context, and goes when it is deleted again.
    pub async fn delete(&self, id: ContextId) -> Result<(), AppContextError> {
        let prefix = codec::prefix(id);
        self.forget(id);
        let begin = vec![
            put(unfinished_key(id), "being deleted"),
            remove(prefix.clone()),
            remove(codec::active_key(id)),
            remove(edit_key(id)),
        ];
        let begun = self.txn(Vec::new(), begin).await?;
        let claim = unchanged(unfinished_key(id), begun.revision);
        if !self.sweep(&prefix, &claim).await? {
            return Err(AppContextError::Overtaken(id));
        }
        // Whoever has begun anew needs the key.
        self.txn(vec![claim], vec![remove(unfinished_key(id))]).await?;
        Ok(())
    }

    /// Deletes everything below a prefix, a part at a time, as long as the claim holds; says whether it held.
    pub(super) async fn sweep(&self, prefix: &str, claim: &Compare) -> Result<bool, AppContextError> {
        let everything = KeyRange::prefix(prefix.to_owned());
        loop {
            let request =
                RangeRequest { limit: SWEPT, keys_only: true, ..RangeRequest::new(everything.clone()) };
            let found = self.store.range(request).await?;
            let Some(last) = found.kvs.last() else { return Ok(true) };
            let end =
                if found.more { Some([&last.key[..], &[0]].concat().into()) } else { everything.end.clone() };
            let range = KeyRange { start: everything.start.clone(), end };
            if !self.txn(vec![claim.clone()], vec![Operation::Delete(range)]).await?.succeeded {
                return Ok(false);
            }
        }
    }

    /// Contexts whose making or deletion has begun and not ended: because it is going on, or because who did it was killed.
    ///
    /// # Errors
    /// [`AppContextError::Store`] if the store fails.
    pub async fn unfinished(&self) -> Result<Vec<ContextId>, AppContextError> {
        Ok(self.claims().await?.into_keys().collect())
    }

    /// When it was begun, of each.
    async fn claims(&self) -> Result<BTreeMap<ContextId, Revision>, AppContextError> {
        let below = Bytes::from(format!("{OWN}unfinished/"));
        let request = RangeRequest { keys_only: true, ..RangeRequest::new(KeyRange::prefix(below.clone())) };
        let found = self.store.range(request).await?;
        let claims = found.kvs.iter().filter_map(|pair| {
            let id = std::str::from_utf8(pair.key.strip_prefix(&below[..])?).ok()?.parse().ok()?;
            Some((id, pair.mod_revision))
        });
        Ok(claims.collect())
    }

    /// Removes what is left of contexts whose making or deletion had begun when this was called last, and has not ended since; `seen` is what
    /// this remembers from one time to the next. Returns which ones. To be called seldom: a context that is really still being made has to
    /// be made again by who makes it.
    ///
    /// # Errors
    /// [`AppContextError::Store`] if the store fails.
    pub async fn remove_remains(
        &self,
        seen: &mut BTreeMap<ContextId, Revision>,
    ) -> Result<Vec<ContextId>, AppContextError> {
        let claims = self.claims().await?;
        let stale = claims.iter().filter(|(id, begun)| seen.get(id) == Some(begun)).map(|(id, _)| *id);
        let stale: Vec<ContextId> = stale.collect();
        *seen = claims;
        let mut removed = Vec::new();
        for id in stale {
            let begun = seen.remove(&id).unwrap_or(0);
            // Still as it was: otherwise somebody has begun anew.
            let took = put(unfinished_key(id), "being removed");
            let taken = self.txn(vec![unchanged(unfinished_key(id), begun)], vec![took]).await?;
            if !taken.succeeded {
                continue;
            }
            let claim = unchanged(unfinished_key(id), taken.revision);
            if self.sweep(&codec::prefix(id), &claim).await? {
                self.txn(vec![claim], vec![remove(unfinished_key(id))]).await?;
                removed.push(id);
            }
        }
        Ok(removed)
    }
}
