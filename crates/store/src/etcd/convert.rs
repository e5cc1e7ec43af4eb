//! The store's data model in etcd's messages and back. Pure.

use bytes::Bytes;

use super::messages as etcd;
use crate::{
    Compare, CompareTarget, Event, EventKind, KeyRange, KeyValue, Operation, OperationResult, RangeRequest,
    RangeResponse, Revision, StoreError, Txn, TxnResponse,
};

/// The smallest key that etcd has; as a range's end, "to the end of the key space".
const ZERO: &[u8] = &[0];

/// Numbers of etcd are signed and never negative where the store has unsigned ones.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Key and end of a range as etcd wants them; `None` if no key can be in it.
pub(super) fn bounds(range: &KeyRange) -> Option<(Bytes, Bytes)> {
    let Some(end) = &range.end else { return Some((range.start.clone(), Bytes::new())) };
    // No key is empty, so that the first one there can be is a zero byte.
    let start = if range.start.is_empty() { Bytes::from_static(ZERO) } else { range.start.clone() };
    if end.is_empty() {
        return Some((start, Bytes::from_static(ZERO)));
    }
    (start < *end).then(|| (start, end.clone()))
}

pub(super) fn range_request(request: &RangeRequest) -> Option<etcd::RangeRequest> {
    let (key, range_end) = bounds(&request.range)?;
    Some(etcd::RangeRequest {
        key,
        range_end,
        limit: i64::try_from(request.limit).unwrap_or(i64::MAX),
        revision: request.revision.map_or(0, signed),
        keys_only: request.keys_only,
        count_only: request.count_only,
    })
}

/// Asks for nothing but a revision: what stands in for a range that can have no keys.
pub(super) fn look(revision: Option<Revision>) -> etcd::RangeRequest {
    etcd::RangeRequest {
        key: Bytes::from_static(ZERO),
        revision: revision.map_or(0, signed),
        count_only: true,
        ..etcd::RangeRequest::default()
    }
}

pub(super) fn key_value(pair: etcd::Pair) -> KeyValue {
    KeyValue {
        key: pair.key,
        value: pair.value,
        create_revision: unsigned(pair.create_revision),
        mod_revision: unsigned(pair.mod_revision),
        version: unsigned(pair.version),
        lease: pair.lease,
    }
}

pub(super) fn revision(header: Option<&etcd::ResponseHeader>) -> Revision {
    header.map_or(0, |header| unsigned(header.revision))
}

pub(super) fn range_response(response: etcd::RangeResponse, nothing: bool) -> RangeResponse {
    let revision = revision(response.header.as_ref());
    if nothing {
        return RangeResponse { revision, kvs: Vec::new(), count: 0, more: false };
    }
    RangeResponse {
        revision,
        kvs: response.kvs.into_iter().map(key_value).collect(),
        count: unsigned(response.count),
        more: response.more,
    }
}

fn compare(compare: &Compare) -> etcd::Compare {
    let (target, value) = match &compare.target {
        CompareTarget::ModRevision(revision) => {
            (etcd::Target::Mod, etcd::TargetValue::ModRevision(signed(*revision)))
        }
        CompareTarget::CreateRevision(revision) => {
            (etcd::Target::Create, etcd::TargetValue::CreateRevision(signed(*revision)))
        }
        CompareTarget::Version(version) => {
            (etcd::Target::Version, etcd::TargetValue::Version(signed(*version)))
        }
        CompareTarget::Value(value) => (etcd::Target::Value, etcd::TargetValue::Value(value.clone())),
        CompareTarget::NotChangedSince { end, revision } => {
            // Of a range without keys etcd compares 0, which is less too.
            let range = KeyRange { start: compare.key.clone(), end: Some(end.clone()) };
            let (key, range_end) = bounds(&range).unwrap_or_else(|| (compare.key.clone(), Bytes::new()));
            let before = etcd::TargetValue::ModRevision(signed(revision.saturating_add(1)));
            return etcd::Compare {
                result: etcd::LESS,
                target: etcd::Target::Mod.into(),
                // A range that can have no keys holds, as does a single key that no client can write.
                key: if range_end.is_empty() { Bytes::from_static(ZERO) } else { key },
                value: Some(before),
                range_end,
            };
        }
    };
    etcd::Compare {
        result: 0,
        target: target.into(),
        key: compare.key.clone(),
        value: Some(value),
        range_end: Bytes::new(),
    }
}

fn operation(operation: &Operation) -> etcd::RequestOp {
    let request = match operation {
        Operation::Put { key, value, lease } => etcd::Request::Put(etcd::PutRequest {
            key: key.clone(),
            value: value.clone(),
            lease: *lease,
            prev_kv: true,
        }),
        Operation::Delete(range) => match bounds(range) {
            Some((key, range_end)) => {
                etcd::Request::DeleteRange(etcd::DeleteRangeRequest { key, range_end, prev_kv: true })
            }
            None => etcd::Request::Range(look(None)),
        },
        Operation::Range(request) => {
            etcd::Request::Range(range_request(request).unwrap_or_else(|| look(request.revision)))
        }
    };
    etcd::RequestOp { request: Some(request) }
}

/// A transaction as etcd wants it. What it must not do is refused here already: older versions of etcd do not see that a deletion to
/// the end of the key space has a key that is written in it.
pub(super) fn txn_request(txn: &Txn) -> Result<etcd::TxnRequest, StoreError> {
    check(&txn.success)?;
    check(&txn.failure)?;
    Ok(etcd::TxnRequest {
        compare: txn.compare.iter().map(compare).collect(),
        success: txn.success.iter().map(operation).collect(),
        failure: txn.failure.iter().map(operation).collect(),
    })
}

/// A key is written at most once in a transaction, and not deleted in it too.
fn check(operations: &[Operation]) -> Result<(), StoreError> {
    let mut written = std::collections::BTreeSet::new();
    for operation in operations {
        if let Operation::Put { key, .. } = operation
            && !written.insert(key.clone())
        {
            return Err(StoreError::InvalidRequest(format!("{key:?} is written twice in a transaction")));
        }
    }
    for operation in operations {
        if let Operation::Delete(range) = operation
            && let Some(key) = written.iter().find(|key| range.contains(key))
        {
            let problem = format!("{key:?} is written and deleted in a transaction");
            return Err(StoreError::InvalidRequest(problem));
        }
    }
    Ok(())
}

fn result(operation: &Operation, response: etcd::ResponseOp) -> Result<OperationResult, StoreError> {
    match (operation, response.response) {
        (Operation::Put { .. }, Some(etcd::Response::Put(put))) => {
            Ok(OperationResult::Put(put.prev_kv.map(key_value)))
        }
        (Operation::Delete(_), Some(etcd::Response::DeleteRange(deleted))) => {
            Ok(OperationResult::Delete(deleted.prev_kvs.into_iter().map(key_value).collect()))
        }
        (Operation::Delete(_), Some(etcd::Response::Range(_))) => Ok(OperationResult::Delete(Vec::new())),
        (Operation::Range(request), Some(etcd::Response::Range(range))) => {
            Ok(OperationResult::Range(range_response(range, bounds(&request.range).is_none())))
        }
        _ => Err(StoreError::Backend("etcd answered an operation with another one's result".into())),
    }
}

pub(super) fn txn_response(txn: &Txn, response: etcd::TxnResponse) -> Result<TxnResponse, StoreError> {
    let operations = if response.succeeded { &txn.success } else { &txn.failure };
    if operations.len() != response.responses.len() {
        return Err(StoreError::Backend(format!(
            "etcd answered {} of {} operations",
            response.responses.len(),
            operations.len()
        )));
    }
    let revision = revision(response.header.as_ref());
    let results = operations.iter().zip(response.responses).map(|(operation, one)| result(operation, one));
    Ok(TxnResponse { succeeded: response.succeeded, revision, results: results.collect::<Result<_, _>>()? })
}

/// A change as watchers are told it.
pub(super) fn event(change: etcd::Change) -> Result<Event, StoreError> {
    let Some(pair) = change.kv else {
        return Err(StoreError::Backend("etcd told a change without its key".into()));
    };
    let kind = if change.kind == 1 { EventKind::Delete } else { EventKind::Put };
    Ok(Event { kind, kv: key_value(pair), previous: change.prev_kv.map(key_value) })
}

/// Whether there was a pair before a change that is not told with it. etcd leaves it out without a word when it has been
/// compacted, and sometimes when the watch has just begun.
pub(super) fn lacks_previous(event: &Event) -> bool {
    event.previous.is_none() && (event.kind == EventKind::Delete || event.kv.version > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_etcds_ranges() {
        let bounds = |start: &'static str, end: Option<&'static str>| {
            bounds(&KeyRange { start: Bytes::from(start), end: end.map(Bytes::from) })
        };
        let pair = |start: &'static [u8], end: &'static [u8]| Some((Bytes::from(start), Bytes::from(end)));
        assert_eq!(bounds("/a", None), pair(b"/a", b""));
        assert_eq!(bounds("/a", Some("/b")), pair(b"/a", b"/b"));
        assert_eq!(bounds("/a", Some("")), pair(b"/a", b"\0"));
        assert_eq!(bounds("", Some("")), pair(b"\0", b"\0"));
        assert_eq!(bounds("", Some("/b")), pair(b"\0", b"/b"));
        assert_eq!(bounds("/b", Some("/b")), None);
        assert_eq!(bounds("/b", Some("/a")), None);
    }

    #[test]
    fn a_change_without_its_past_is_noticed() {
        let lacks = |kind, version| {
            let pair = etcd::Pair { key: "/a".into(), mod_revision: 9, version, ..etcd::Pair::default() };
            lacks_previous(&event(etcd::Change { kind, kv: Some(pair), prev_kv: None }).expect("a change"))
        };
        assert!(lacks(0, 2));
        assert!(!lacks(0, 1));
        assert!(lacks(1, 0));
        assert!(event(etcd::Change::default()).is_err());
    }

    #[test]
    fn an_answer_that_does_not_fit_is_refused() {
        let txn = Txn { success: vec![Operation::Delete(KeyRange::single("/a"))], ..Txn::default() };
        let short = etcd::TxnResponse { succeeded: true, ..etcd::TxnResponse::default() };
        assert!(txn_response(&txn, short).is_err());
        let put = etcd::ResponseOp { response: Some(etcd::Response::Put(etcd::PutResponse::default())) };
        let other =
            etcd::TxnResponse { succeeded: true, responses: vec![put], ..etcd::TxnResponse::default() };
        assert!(txn_response(&txn, other).is_err());
    }
}
