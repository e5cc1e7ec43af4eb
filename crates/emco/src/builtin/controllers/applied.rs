//! What a controller is about to make of a context, written down in the context before it is done: whoever is killed in the middle and does
//! it again knows what is done. Other readers of contexts pass over keys that they do not know; it goes with the context.

use drystone_appcontext::{AppContexts, ContextId};
use drystone_store::{Compare, CompareTarget, KeyRange, Operation, RangeRequest, Txn};

use super::Failure;
use crate::{builtin::gac::Marks, model::Refusal};

/// The record of one intent of one controller in one context.
pub(super) struct Record<'a> {
    contexts: &'a AppContexts,
    key: String,
}

impl<'a> Record<'a> {
    pub(super) fn new(contexts: &'a AppContexts, id: ContextId, controller: &str, intent: &str) -> Self {
        let key =
            format!("{}drystone/applied/{controller}/{intent}/", drystone_appcontext::codec::prefix(id));
        Self { contexts, key }
    }

    /// What was written down; nothing before.
    ///
    /// # Errors
    /// It cannot be read: what was done already is not known, and doing it twice may be another thing.
    pub(super) async fn read(&self) -> Result<Option<Marks>, Failure> {
        let request = RangeRequest::new(KeyRange::single(self.key.clone()));
        let found = self.contexts.store().range(request).await?;
        let Some(found) = found.kvs.first() else { return Ok(None) };
        serde_json::from_slice(&found.value).map(Some).map_err(|error| {
            let text = format!(
                "the record of what was changed already, {}, cannot be read ({error}); instantiate or update anew, in another context",
                self.key
            );
            Refusal::failed(text).into()
        })
    }

    /// Writes it down, unless somebody else did.
    pub(super) async fn write(&self, marks: &Marks) -> Result<(), Failure> {
        let value = serde_json::Value::from_iter(marks.iter().cloned()).to_string();
        let put = Operation::Put { key: self.key.clone().into(), value: value.into(), lease: 0 };
        let new = Compare { key: self.key.clone().into(), target: CompareTarget::ModRevision(0) };
        let txn = Txn { compare: vec![new], success: vec![put], failure: Vec::new() };
        self.contexts.store().txn(txn).await?;
        Ok(())
    }
}
