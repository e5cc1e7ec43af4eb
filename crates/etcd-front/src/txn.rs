//! Transactions, also such as have others in them.
//!
//! In etcd every comparison of a transaction, also of those inside of it, is about how things were before it. So which way all of them
//! go is known when the keys compared have been read; what is to be done is then one list of operations, which the store carries out if
//! those keys have not changed meanwhile.

use std::collections::BTreeSet;

use bytes::Bytes;
use drystone_store::{KeyRange, Operation, OperationResult, Revision, Store, Txn, TxnResponse};
use tonic::Status;

use crate::{
    EtcdFront,
    choice::{Place, Seen, TRIES, as_equal},
    convert, kv, messages as etcd,
};

/// Most operations of a transaction, as many as an etcd could be told to take.
const OPERATIONS: usize = 4096;

/// `KV.Txn`.
pub(crate) async fn txn(front: EtcdFront, question: etcd::TxnRequest) -> Result<etcd::TxnResponse, Status> {
    check(&question)?;
    let store = front.store.as_ref();
    if let Some(answer) = at_once(store, &question).await? {
        return Ok(answer);
    }
    let mut keys = BTreeSet::new();
    keys_read(&question, &mut keys);
    for _ in 0..TRIES {
        let seen = Seen::look(store, &keys).await?;
        let mut operations = Vec::new();
        let taken = Taken::choose(&question, &seen, &mut operations)?;
        let txn = Txn { compare: seen.unchanged(), success: operations, failure: Vec::new() };
        let done = store.txn(txn).await.map_err(|error| convert::status(&error))?;
        if done.succeeded {
            return Ok(taken.answer(&mut done.results.into_iter(), done.revision));
        }
    }
    Err(Status::unavailable("the keys compared change all the time; try again"))
}

/// Carries out a transaction that the store understands as it is.
async fn at_once(
    store: &dyn Store,
    question: &etcd::TxnRequest,
) -> Result<Option<etcd::TxnResponse>, Status> {
    let plain = |operation: &etcd::RequestOp| match &operation.request {
        Some(etcd::Request::Txn(_)) => false,
        Some(etcd::Request::Put(put)) => !put.ignore_value && !put.ignore_lease,
        _ => true,
    };
    if !question.success.iter().chain(&question.failure).all(plain) {
        return Ok(None);
    }
    let Some(compare) = question.compare.iter().map(as_equal).collect() else { return Ok(None) };
    let (mut success, mut failure) = (Vec::new(), Vec::new());
    let succeeded = Taken::of(true, &question.success, None, &mut success)?;
    let failed = Taken::of(false, &question.failure, None, &mut failure)?;
    let done = store.txn(Txn { compare, success, failure }).await.map_err(|error| convert::status(&error))?;
    let TxnResponse { revision, results, .. } = done;
    let taken = if done.succeeded { succeeded } else { failed };
    Ok(Some(taken.answer(&mut results.into_iter(), revision)))
}

/// Every key, and range of keys, on which it depends what is done.
fn keys_read(question: &etcd::TxnRequest, keys: &mut BTreeSet<Place>) {
    keys.extend(question.compare.iter().map(|compare| (compare.key.clone(), compare.range_end.clone())));
    for operation in question.success.iter().chain(&question.failure) {
        match &operation.request {
            Some(etcd::Request::Txn(inside)) => keys_read(inside, keys),
            Some(etcd::Request::Put(put)) if put.ignore_value || put.ignore_lease => {
                keys.insert((put.key.clone(), Bytes::new()));
            }
            _ => {}
        }
    }
}

/// The way that a transaction goes.
struct Taken<'a> {
    succeeded: bool,
    steps: Vec<Step<'a>>,
}

enum Step<'a> {
    /// An operation, and whether the store is asked for it: one on an empty range is not.
    Operation(&'a etcd::RequestOp, bool),
    Inside(Taken<'a>),
}

impl<'a> Taken<'a> {
    fn choose(
        question: &'a etcd::TxnRequest,
        seen: &Seen,
        operations: &mut Vec<Operation>,
    ) -> Result<Self, Status> {
        let succeeded = question.compare.iter().all(|compare| seen.holds(compare));
        let asked = if succeeded { &question.success } else { &question.failure };
        Self::of(succeeded, asked, Some(seen), operations)
    }

    fn of(
        succeeded: bool,
        asked: &'a [etcd::RequestOp],
        seen: Option<&Seen>,
        operations: &mut Vec<Operation>,
    ) -> Result<Self, Status> {
        let mut steps = Vec::new();
        for operation in asked {
            let step = match (&operation.request, seen) {
                (Some(etcd::Request::Txn(inside)), Some(seen)) => {
                    Step::Inside(Self::choose(inside, seen, operations)?)
                }
                (Some(etcd::Request::Put(put)), Some(seen)) => {
                    operations.push(put_over(put, seen)?);
                    Step::Operation(operation, true)
                }
                _ => {
                    let converted = convert::operation(operation)?;
                    let is_done = converted.is_some();
                    operations.extend(converted);
                    Step::Operation(operation, is_done)
                }
            };
            steps.push(step);
        }
        Ok(Self { succeeded, steps })
    }

    /// The answer, of the results of all operations in their order.
    fn answer(
        self,
        results: &mut impl Iterator<Item = OperationResult>,
        revision: Revision,
    ) -> etcd::TxnResponse {
        let mut responses = Vec::new();
        for step in self.steps {
            responses.push(match step {
                Step::Operation(asked, is_done) => {
                    let result = if is_done { results.next() } else { None };
                    convert::result(asked, result, revision)
                }
                Step::Inside(taken) => {
                    // A generic function that calls itself needs an end to the types of its iterators.
                    let results: &mut dyn Iterator<Item = OperationResult> = results;
                    let inside = taken.answer_inside(results, revision);
                    etcd::ResponseOp { response: Some(etcd::Response::Txn(Box::new(inside))) }
                }
            });
        }
        etcd::TxnResponse { header: Some(kv::header_at(revision)), succeeded: self.succeeded, responses }
    }

    fn answer_inside(
        self,
        mut results: &mut dyn Iterator<Item = OperationResult>,
        revision: Revision,
    ) -> etcd::TxnResponse {
        self.answer(&mut results, revision)
    }
}

/// A write that may keep the value or the lease that there is.
fn put_over(put: &etcd::PutRequest, seen: &Seen) -> Result<Operation, Status> {
    let (mut value, mut lease) = (put.value.clone(), put.lease);
    if put.ignore_value || put.ignore_lease {
        let present =
            seen.of(&put.key).ok_or_else(|| Status::invalid_argument("etcdserver: key not found"))?;
        if put.ignore_value {
            value = present.value.clone();
        }
        if put.ignore_lease {
            lease = present.lease;
        }
    }
    Ok(Operation::Put { key: put.key.clone(), value, lease })
}

/// Refuses what etcd refuses.
fn check(question: &etcd::TxnRequest) -> Result<(), Status> {
    let mut left = OPERATIONS;
    Writes::of(&question.success, &mut left)?;
    Writes::of(&question.failure, &mut left)?;
    check_comparisons(question)
}

fn check_comparisons(question: &etcd::TxnRequest) -> Result<(), Status> {
    for compare in &question.compare {
        if compare.key.is_empty() {
            return Err(Status::invalid_argument("etcdserver: key is not provided"));
        }
    }
    for operation in question.success.iter().chain(&question.failure) {
        if let Some(etcd::Request::Txn(inside)) = &operation.request {
            check_comparisons(inside)?;
        }
    }
    Ok(())
}

/// What a branch writes and deletes. A key may be written once in a transaction, for its events would have one revision.
#[derive(Default)]
struct Writes {
    written: BTreeSet<Bytes>,
    deleted: Vec<KeyRange>,
}

impl Writes {
    fn of(asked: &[etcd::RequestOp], left: &mut usize) -> Result<Self, Status> {
        *left = left
            .checked_sub(asked.len())
            .ok_or_else(|| Status::invalid_argument("etcdserver: too many operations in txn request"))?;
        let mut writes = Self::default();
        for operation in asked {
            match &operation.request {
                Some(etcd::Request::Put(put)) => {
                    check_put(put)?;
                    writes.add(Self { written: [put.key.clone()].into(), deleted: Vec::new() })?;
                }
                Some(etcd::Request::DeleteRange(delete)) => {
                    let range = convert::range(&delete.key, &delete.range_end)?;
                    writes.add(Self { written: BTreeSet::new(), deleted: range.into_iter().collect() })?;
                }
                Some(etcd::Request::Txn(inside)) => {
                    let (success, failure) =
                        (Self::of(&inside.success, left)?, Self::of(&inside.failure, left)?);
                    // One of the two branches: they may write the same.
                    let mut either = success;
                    either.written.extend(failure.written);
                    either.deleted.extend(failure.deleted);
                    writes.add(either)?;
                }
                Some(etcd::Request::Range(_)) | None => {}
            }
        }
        Ok(writes)
    }

    fn add(&mut self, other: Self) -> Result<(), Status> {
        let twice = other.written.iter().any(|key| self.written.contains(key));
        let in_range = |keys: &BTreeSet<Bytes>, ranges: &[KeyRange]| {
            ranges.iter().any(|range| keys.iter().any(|key| range.contains(key)))
        };
        if twice || in_range(&other.written, &self.deleted) || in_range(&self.written, &other.deleted) {
            return Err(Status::invalid_argument("etcdserver: duplicate key given in txn request"));
        }
        self.written.extend(other.written);
        self.deleted.extend(other.deleted);
        Ok(())
    }
}

/// Refuses a write that etcd refuses.
pub(crate) fn check_put(put: &etcd::PutRequest) -> Result<(), Status> {
    if put.key.is_empty() {
        return Err(Status::invalid_argument("etcdserver: key is not provided"));
    }
    if put.ignore_value && !put.value.is_empty() {
        return Err(Status::invalid_argument("etcdserver: value is provided"));
    }
    if put.ignore_lease && put.lease != 0 {
        return Err(Status::invalid_argument("etcdserver: lease is provided"));
    }
    Ok(())
}
