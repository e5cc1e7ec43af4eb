//! Transactions.

use std::collections::BTreeMap;

use bytes::Bytes;
use drystone_store::{
    Compare, CompareTarget, KeyRange, KeyValue, Operation, OperationResult, RangeRequest, StoreError, Txn,
    TxnResponse,
};

use super::{
    Shared,
    layout::{self, Digest, Place},
};

/// How often a transaction is tried whose keys change all the time.
const TRIES: u32 = 64;

impl Shared {
    pub(super) async fn txn(&self, txn: Txn) -> Result<TxnResponse, StoreError> {
        let by_value = txn.compare.iter().any(|compare| matches!(compare.target, CompareTarget::Value(_)));
        let writes = txn.failure.iter().any(|operation| !matches!(operation, Operation::Range(_)));
        if by_value || writes {
            return self.decide(txn).await;
        }
        self.carry_out(&txn.compare, &txn.success, &txn.failure).await
    }

    /// What a store below cannot decide, because it does not have the values as they are told, or cannot know which branch's values to
    /// encrypt, is decided here on what was read; and carried out if that has not changed meanwhile.
    async fn decide(&self, txn: Txn) -> Result<TxnResponse, StoreError> {
        for _ in 0..TRIES {
            let mut unchanged = Vec::new();
            let mut succeeded = true;
            for compare in &txn.compare {
                let seen = self.seen(compare).await?;
                let holds = holds(compare, seen.as_ref());
                // What holds of a range goes on being required; of what does not, the key that is why.
                match (&compare.target, &seen) {
                    (CompareTarget::NotChangedSince { .. }, _) if holds => unchanged.push(compare.clone()),
                    (_, Some(pair)) => unchanged.push(same(&pair.key, pair.mod_revision)),
                    (_, None) => unchanged.push(same(&compare.key, 0)),
                }
                succeeded &= holds;
            }
            let branch = if succeeded { &txn.success } else { &txn.failure };
            let done = self.carry_out(&unchanged, branch, &[]).await?;
            if done.succeeded {
                return Ok(TxnResponse { succeeded, ..done });
            }
        }
        Err(StoreError::Backend("the keys compared change all the time; try again".into()))
    }

    /// The pair that a comparison is about; of a range, the one that was changed last.
    async fn seen(&self, compare: &Compare) -> Result<Option<KeyValue>, StoreError> {
        let mut request = RangeRequest::new(KeyRange::single(compare.key.clone()));
        if let CompareTarget::NotChangedSince { end, .. } = &compare.target {
            request.range.end = Some(end.clone());
            request.keys_only = true;
        }
        let found = self.range(request).await?;
        Ok(found.kvs.into_iter().max_by_key(|pair| pair.mod_revision))
    }

    async fn carry_out(
        &self,
        compare: &[Compare],
        success: &[Operation],
        failure: &[Operation],
    ) -> Result<TxnResponse, StoreError> {
        let _in = self.gate.read().await;
        let mut written = Written::default();
        let (asked, asked_else) = (success, failure);
        let mut success: Vec<Operation> =
            success.iter().map(|operation| self.operation(operation, &mut written)).collect();
        // What is not there yet is written together with the first key that has it.
        success.extend(written.new.iter().map(|(digest, value)| Operation::Put {
            key: layout::value_key(digest),
            value: value.clone(),
            lease: 0,
        }));
        let below = Txn {
            compare: compare.iter().map(condition).collect(),
            success,
            failure: failure
                .iter()
                .map(|operation| self.operation(operation, &mut Written::default()))
                .collect(),
        };
        let mut done = match self.below.txn(below).await {
            Ok(done) => done,
            Err(error) => {
                // Refused requests have written nothing; what failed may have.
                if !matches!(error, StoreError::InvalidRequest(_) | StoreError::LeaseNotFound(_)) {
                    self.index().is_in_doubt = true;
                }
                return Err(error);
            }
        };
        if done.succeeded {
            done.results.truncate(asked.len());
            self.count_written(&written, &done.results);
        }
        let branch = if done.succeeded { asked } else { asked_else };
        for (result, asked) in done.results.iter_mut().zip(branch) {
            match result {
                OperationResult::Put(pair) => self.replaced(pair.as_mut_slice(), done.revision).await,
                OperationResult::Delete(pairs) => self.replaced(pairs, done.revision).await,
                OperationResult::Range(found) => {
                    let has_values = matches!(asked, Operation::Range(request) if !request.keys_only);
                    self.pairs(&mut found.kvs, found.revision, has_values).await?;
                }
            }
        }
        Ok(done)
    }

    /// An operation as the store below is asked for it.
    fn operation(&self, operation: &Operation, written: &mut Written) -> Operation {
        match operation {
            Operation::Put { key, value, lease } => {
                let digest = if *lease == 0 { self.digest(key, value) } else { None };
                let below = match digest {
                    None => layout::here(value),
                    Some(digest) => {
                        written.references.push((digest, value.len() as u64));
                        if !self.index().is_there(&digest) {
                            written.new.insert(digest, value.clone());
                        }
                        layout::elsewhere(&digest, value.len())
                    }
                };
                Operation::Put { key: layout::key(key), value: below, lease: *lease }
            }
            Operation::Delete(range) => Operation::Delete(layout::range(range)),
            Operation::Range(request) => {
                let mut request = request.clone();
                request.range = layout::range(&request.range);
                Operation::Range(request)
            }
        }
    }

    fn count_written(&self, written: &Written, results: &[OperationResult]) {
        let mut index = self.index();
        written.references.iter().for_each(|(digest, length)| index.count(*digest, 1, *length));
        written.new.keys().for_each(|digest| index.add(*digest));
        for result in results {
            let before = match result {
                OperationResult::Put(pair) => pair.as_slice(),
                OperationResult::Delete(pairs) => pairs.as_slice(),
                OperationResult::Range(_) => &[],
            };
            for pair in before {
                if let Some(Place::Elsewhere(digest, length)) = layout::place(&pair.value) {
                    index.count(digest, -1, length);
                }
            }
        }
    }

    /// What was replaced or deleted is gone, whether it can be read or not: so damaged values can be got rid of.
    async fn replaced(&self, pairs: &mut [KeyValue], revision: u64) {
        for pair in pairs {
            if let Err(error) = self.pairs(std::slice::from_mut(pair), revision, true).await {
                tracing::warn!(%error, "what was replaced or deleted could not be read");
                pair.value = Bytes::new();
            }
        }
    }
}

/// What a transaction writes by digest.
#[derive(Default)]
struct Written {
    /// For each key that is written, its value's digest and length.
    references: Vec<(Digest, u64)>,
    /// Values that are not there yet.
    new: BTreeMap<Digest, Bytes>,
}

fn same(key: &Bytes, revision: u64) -> Compare {
    Compare { key: key.clone(), target: CompareTarget::ModRevision(revision) }
}

fn condition(compare: &Compare) -> Compare {
    let mut target = compare.target.clone();
    if let CompareTarget::NotChangedSince { end, .. } = &mut target {
        let range = KeyRange { start: compare.key.clone(), end: Some(end.clone()) };
        *end = layout::range(&range).end.unwrap_or_default();
    }
    Compare { key: layout::key(&compare.key), target }
}

fn holds(compare: &Compare, pair: Option<&KeyValue>) -> bool {
    match &compare.target {
        CompareTarget::ModRevision(expected) => pair.map_or(0, |pair| pair.mod_revision) == *expected,
        CompareTarget::CreateRevision(expected) => pair.map_or(0, |pair| pair.create_revision) == *expected,
        CompareTarget::Version(expected) => pair.map_or(0, |pair| pair.version) == *expected,
        CompareTarget::Value(expected) => pair.is_some_and(|pair| pair.value == *expected),
        // The pair is that of the range that was changed last.
        CompareTarget::NotChangedSince { revision, .. } => {
            pair.is_none_or(|pair| pair.mod_revision <= *revision)
        }
    }
}
