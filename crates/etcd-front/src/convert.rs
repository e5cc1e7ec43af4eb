//! The store's data model from etcd's messages and back. Pure.

use bytes::Bytes;
use drystone_store::{
    Event, EventKind, KeyRange, KeyValue, Operation, OperationResult, RangeRequest, RangeResponse, StoreError,
};
use tonic::Status;

use crate::{kv, messages as etcd};

/// As a range's end, "to the end of the key space".
const ZERO: &[u8] = &[0];

pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A revision that a client asks for; `None` for the present.
pub(crate) fn revision(number: i64) -> Option<u64> {
    u64::try_from(number).ok().filter(|number| *number > 0)
}

/// What the client is told of a failure, in the words that etcd's clients look for.
pub(crate) fn status(error: &StoreError) -> Status {
    match error {
        StoreError::Compacted { .. } => {
            Status::out_of_range("etcdserver: mvcc: required revision has been compacted")
        }
        StoreError::FutureRevision { .. } => {
            Status::out_of_range("etcdserver: mvcc: required revision is a future revision")
        }
        StoreError::LeaseNotFound(_) => Status::not_found("etcdserver: requested lease not found"),
        StoreError::LeaseExists(_) => Status::failed_precondition("etcdserver: lease already exists"),
        StoreError::NoSpace(_) => Status::resource_exhausted("etcdserver: mvcc: database space exceeded"),
        StoreError::InvalidRequest(why) => Status::invalid_argument(why.clone()),
        StoreError::WatcherTooSlow { .. } => Status::resource_exhausted(error.to_string()),
        StoreError::Backend(_) | StoreError::Closed => Status::unavailable(error.to_string()),
    }
}

/// The range that a key and an end stand for; `None` if no key can be in it.
pub(crate) fn range(key: &Bytes, end: &Bytes) -> Result<Option<KeyRange>, Status> {
    if key.is_empty() {
        return Err(Status::invalid_argument("etcdserver: key is not provided"));
    }
    if end.is_empty() {
        return Ok(Some(KeyRange::single(key.clone())));
    }
    if end.as_ref() == ZERO {
        return Ok(Some(KeyRange { start: key.clone(), end: Some(Bytes::new()) }));
    }
    Ok((key < end).then(|| KeyRange { start: key.clone(), end: Some(end.clone()) }))
}

/// Whether what is found has to be put in another order, or sieved.
fn is_arranged(request: &etcd::RangeRequest) -> bool {
    let by_key = request.sort_target() == etcd::SortTarget::Key;
    let sorted = match request.sort_order() {
        etcd::SortOrder::None => false,
        etcd::SortOrder::Ascend => !by_key,
        etcd::SortOrder::Descend => true,
    };
    sorted
        || [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ]
        .iter()
        .any(|bound| *bound != 0)
}

/// What is asked of the store; `None` if nothing can be found.
pub(crate) fn range_request(request: &etcd::RangeRequest) -> Result<Option<RangeRequest>, Status> {
    let Some(range) = range(&request.key, &request.range_end)? else { return Ok(None) };
    let arranged = is_arranged(request);
    Ok(Some(RangeRequest {
        range,
        limit: if arranged { 0 } else { usize::try_from(request.limit).unwrap_or(0) },
        revision: revision(request.revision),
        keys_only: request.keys_only && !arranged,
        count_only: request.count_only,
    }))
}

pub(crate) fn pair(found: &KeyValue) -> etcd::Pair {
    etcd::Pair {
        key: found.key.clone(),
        create_revision: signed(found.create_revision),
        mod_revision: signed(found.mod_revision),
        version: signed(found.version),
        value: found.value.clone(),
        lease: found.lease,
    }
}

/// What was found, as the request wants it: sieved, in order, cut.
pub(crate) fn range_response(request: &etcd::RangeRequest, found: &RangeResponse) -> etcd::RangeResponse {
    let mut pairs: Vec<etcd::Pair> = found.kvs.iter().map(pair).collect();
    let mut more = found.more;
    if is_arranged(request) {
        pairs.retain(|pair| {
            within(pair.mod_revision, request.min_mod_revision, request.max_mod_revision)
                && within(pair.create_revision, request.min_create_revision, request.max_create_revision)
        });
        arrange(&mut pairs, request.sort_target(), request.sort_order());
        let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);
        if let Some(limit) = limit.filter(|limit| *limit < pairs.len()) {
            pairs.truncate(limit);
            more = true;
        }
        if request.keys_only {
            pairs.iter_mut().for_each(|pair| pair.value = Bytes::new());
        }
    }
    etcd::RangeResponse {
        header: Some(kv::header_at(found.revision)),
        kvs: pairs,
        more,
        count: signed(found.count),
    }
}

/// Bounds of 0 do not bound.
fn within(number: i64, least: i64, most: i64) -> bool {
    number >= least && (most == 0 || number <= most)
}

fn arrange(pairs: &mut [etcd::Pair], target: etcd::SortTarget, order: etcd::SortOrder) {
    match target {
        etcd::SortTarget::Key => {}
        etcd::SortTarget::Version => pairs.sort_by_key(|pair| pair.version),
        etcd::SortTarget::Create => pairs.sort_by_key(|pair| pair.create_revision),
        etcd::SortTarget::Mod => pairs.sort_by_key(|pair| pair.mod_revision),
        etcd::SortTarget::Value => pairs.sort_by(|left, right| left.value.cmp(&right.value)),
    }
    if order == etcd::SortOrder::Descend {
        pairs.reverse();
    }
}

/// An operation of a transaction that is no transaction itself, nor keeps what is there: `None` if no key could be concerned by it.
pub(crate) fn operation(operation: &etcd::RequestOp) -> Result<Option<Operation>, Status> {
    match &operation.request {
        Some(etcd::Request::Put(put)) => {
            Ok(Some(Operation::Put { key: put.key.clone(), value: put.value.clone(), lease: put.lease }))
        }
        Some(etcd::Request::DeleteRange(delete)) => {
            Ok(range(&delete.key, &delete.range_end)?.map(Operation::Delete))
        }
        Some(etcd::Request::Range(request)) => Ok(range_request(request)?.map(Operation::Range)),
        Some(etcd::Request::Txn(_)) | None => {
            Err(Status::invalid_argument("an operation of the transaction is empty"))
        }
    }
}

/// Result of an operation; `None` stands for one that no key could be concerned by.
pub(crate) fn result(
    asked: &etcd::RequestOp,
    result: Option<OperationResult>,
    revision: u64,
) -> etcd::ResponseOp {
    let header = Some(kv::header_at(revision));
    let response = match (&asked.request, result) {
        (Some(etcd::Request::Put(put)), Some(OperationResult::Put(previous))) => {
            let prev_kv = previous.as_ref().filter(|_| put.prev_kv).map(pair);
            etcd::Response::Put(etcd::PutResponse { header, prev_kv })
        }
        (Some(etcd::Request::DeleteRange(delete)), Some(OperationResult::Delete(gone))) => {
            etcd::Response::DeleteRange(deleted(delete, &gone, revision))
        }
        (Some(etcd::Request::Range(request)), Some(OperationResult::Range(found))) => {
            etcd::Response::Range(range_response(request, &found))
        }
        (Some(etcd::Request::DeleteRange(delete)), _) => {
            etcd::Response::DeleteRange(deleted(delete, &[], revision))
        }
        _ => etcd::Response::Range(etcd::RangeResponse { header, ..etcd::RangeResponse::default() }),
    };
    etcd::ResponseOp { response: Some(response) }
}

pub(crate) fn deleted(
    asked: &etcd::DeleteRangeRequest,
    gone: &[KeyValue],
    revision: u64,
) -> etcd::DeleteRangeResponse {
    etcd::DeleteRangeResponse {
        header: Some(kv::header_at(revision)),
        deleted: i64::try_from(gone.len()).unwrap_or(i64::MAX),
        prev_kvs: if asked.prev_kv { gone.iter().map(pair).collect() } else { Vec::new() },
    }
}

/// A change, as a watch tells it.
pub(crate) fn change(event: &Event, with_previous: bool) -> etcd::Change {
    let (kind, kv) = match event.kind {
        EventKind::Put => (0, pair(&event.kv)),
        EventKind::Delete => {
            let gone = etcd::Pair {
                key: event.kv.key.clone(),
                mod_revision: signed(event.kv.mod_revision),
                ..etcd::Pair::default()
            };
            (1, gone)
        }
    };
    let prev_kv = event.previous.as_ref().filter(|_| with_previous).map(pair);
    etcd::Change { kind, kv: Some(kv), prev_kv }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(keys: &[(&str, u64)]) -> RangeResponse {
        let kvs = keys.iter().map(|(key, revision)| KeyValue {
            key: (*key).to_owned().into(),
            value: (*key).to_owned().into(),
            create_revision: 2,
            mod_revision: *revision,
            version: 1,
            lease: 0,
        });
        RangeResponse { revision: 9, kvs: kvs.collect(), count: keys.len() as u64, more: false }
    }

    fn keys(response: &etcd::RangeResponse) -> Vec<&[u8]> {
        response.kvs.iter().map(|pair| pair.key.as_ref()).collect()
    }

    #[test]
    fn the_newest_key_is_found_by_order_and_limit() {
        let mut request = etcd::RangeRequest { key: "a".into(), limit: 1, ..etcd::RangeRequest::default() };
        request.set_sort_order(etcd::SortOrder::Descend);
        request.set_sort_target(etcd::SortTarget::Mod);
        request.keys_only = true;
        let asked = range_request(&request).unwrap().unwrap();
        assert!(asked.limit == 0 && !asked.keys_only, "cut only after it has been put in order");
        let response = range_response(&request, &found(&[("a", 3), ("b", 8), ("c", 5)]));
        assert_eq!(keys(&response), [b"b"]);
        assert!(response.more && response.count == 3 && response.kvs[0].value.is_empty());
    }

    #[test]
    fn revisions_bound_what_is_found() {
        let request = etcd::RangeRequest {
            key: "a".into(),
            min_mod_revision: 4,
            max_mod_revision: 5,
            ..etcd::RangeRequest::default()
        };
        assert_eq!(keys(&range_response(&request, &found(&[("a", 3), ("b", 8), ("c", 5)]))), [b"c"]);
    }

    #[test]
    fn ranges_are_read_as_etcd_does() {
        let single = range(&"k".into(), &Bytes::new()).unwrap().unwrap();
        assert!(single.contains(b"k") && !single.contains(b"k0"));
        let rest = range(&"k".into(), &ZERO.into()).unwrap().unwrap();
        assert!(rest.contains(b"z") && !rest.contains(b"a"));
        assert_eq!(range(&"k".into(), &"a".into()).unwrap(), None);
        assert!(range(&Bytes::new(), &Bytes::new()).is_err());
    }

    proptest! {
        #[test]
        fn what_is_in_a_range_is_between_its_ends(key in "[a-d]{1,3}", end in "[a-d]{1,3}", looked in "[a-d]{1,3}") {
            let range = range(&key.clone().into(), &end.clone().into()).unwrap();
            let inside = range.is_some_and(|range| range.contains(looked.as_bytes()));
            prop_assert_eq!(inside, key <= looked && looked < end);
        }
    }
}
