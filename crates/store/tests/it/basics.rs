//! Transactions, ranges, watches and reopening, one behaviour per test.

use std::sync::Arc;

use bytes::Bytes;
use drystone_store::embedded::{EmbeddedStore, Options};
use drystone_store::{
    Compare, CompareTarget, EventKind, KeyRange, Operation, OperationResult, RangeRequest, Store, StoreError,
    Txn, WatchRequest,
};
use futures::StreamExt;

use crate::stores::on_every_store;

pub(crate) fn put(key: &str, value: &str) -> Txn {
    let operation = Operation::Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        lease: 0,
    };
    Txn { success: vec![operation], ..Txn::default() }
}

pub(crate) fn delete(key: &str) -> Txn {
    Txn { success: vec![Operation::Delete(KeyRange::single(key.to_owned()))], ..Txn::default() }
}

pub(crate) fn guarded(mut txn: Txn, key: &str, target: CompareTarget) -> Txn {
    txn.compare.push(Compare { key: Bytes::copy_from_slice(key.as_bytes()), target });
    txn
}

pub(crate) async fn values(store: &dyn Store, prefix: &str, revision: Option<u64>) -> Vec<(String, String)> {
    let request = RangeRequest { revision, ..RangeRequest::new(KeyRange::prefix(prefix.to_owned())) };
    let response = store.range(request).await.expect("the range is readable");
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).expect("text");
    response.kvs.iter().map(|kv| (text(&kv.key), text(&kv.value))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

async fn the_first_write_has_revision_two(store: Arc<dyn Store>) {
    assert_eq!(store.revision().await.unwrap(), 1);
    assert_eq!(store.txn(put("/a", "1")).await.unwrap().revision, 2);
    assert_eq!(store.revision().await.unwrap(), 2);
}

async fn a_transaction_that_changes_nothing_takes_no_revision(store: Arc<dyn Store>) {
    assert_eq!(store.txn(delete("/absent")).await.unwrap().revision, 1);
    let guarded = guarded(put("/a", "1"), "/a", CompareTarget::Version(3));
    let response = store.txn(guarded).await.unwrap();
    assert!(!response.succeeded);
    assert_eq!(response.revision, 1);
}

async fn create_update_and_delete_follow_etcds_marks(store: Arc<dyn Store>) {
    store.txn(guarded(put("/a", "1"), "/a", CompareTarget::ModRevision(0))).await.unwrap();
    let again = store.txn(guarded(put("/a", "x"), "/a", CompareTarget::ModRevision(0))).await.unwrap();
    assert!(!again.succeeded, "a key is created once");
    let update = store.txn(guarded(put("/a", "2"), "/a", CompareTarget::ModRevision(2))).await.unwrap();
    let OperationResult::Put(Some(before)) = &update.results[0] else { panic!("{update:?}") };
    assert_eq!((&before.value[..], before.version), (&b"1"[..], 1));
    let now = store.range(RangeRequest::new(KeyRange::single("/a"))).await.unwrap();
    let kv = &now.kvs[0];
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 3, 2));
    store.txn(delete("/a")).await.unwrap();
    store.txn(put("/a", "3")).await.unwrap();
    let now = store.range(RangeRequest::new(KeyRange::single("/a"))).await.unwrap();
    assert_eq!((now.kvs[0].create_revision, now.kvs[0].version), (5, 1));
}

async fn one_transaction_has_one_revision_and_sees_its_own_writes(store: Arc<dyn Store>) {
    let mut txn = put("/a", "1");
    txn.success.extend(put("/b", "2").success);
    txn.success.push(Operation::Range(RangeRequest::new(KeyRange::prefix("/"))));
    let response = store.txn(txn).await.unwrap();
    assert_eq!(response.revision, 2);
    let OperationResult::Range(range) = &response.results[2] else { panic!("{response:?}") };
    assert_eq!(range.kvs.len(), 2);
    assert!(range.kvs.iter().all(|kv| kv.mod_revision == 2));
}

async fn invalid_transactions_are_refused_and_change_nothing(store: Arc<dyn Store>) {
    let twice = Txn { success: [put("/a", "1").success, put("/a", "2").success].concat(), ..Txn::default() };
    let both = Txn { success: [put("/a", "1").success, delete("/a").success].concat(), ..Txn::default() };
    let mut leased = put("/a", "1");
    leased.success = vec![Operation::Put { key: "/a".into(), value: "1".into(), lease: 99 }];
    for txn in [twice, both, put("", "1")] {
        let error = store.txn(txn).await.unwrap_err();
        assert!(matches!(error, StoreError::InvalidRequest(_)), "{error}");
    }
    assert!(matches!(store.txn(leased).await.unwrap_err(), StoreError::LeaseNotFound(99)));
    assert_eq!(store.revision().await.unwrap(), 1);
}

async fn old_revisions_stay_readable_until_compacted(store: Arc<dyn Store>) {
    store.txn(put("/a", "1")).await.unwrap();
    store.txn(put("/b", "1")).await.unwrap();
    store.txn(put("/a", "2")).await.unwrap();
    store.txn(delete("/b")).await.unwrap();
    assert_eq!(values(store.as_ref(), "/", Some(2)).await, pairs(&[("/a", "1")]));
    assert_eq!(values(store.as_ref(), "/", Some(3)).await, pairs(&[("/a", "1"), ("/b", "1")]));
    assert_eq!(values(store.as_ref(), "/", Some(4)).await, pairs(&[("/a", "2"), ("/b", "1")]));
    assert_eq!(values(store.as_ref(), "/", None).await, pairs(&[("/a", "2")]));
    store.compact(4).await.unwrap();
    assert_eq!(values(store.as_ref(), "/", Some(4)).await, pairs(&[("/a", "2"), ("/b", "1")]));
    let old = RangeRequest { revision: Some(3), ..RangeRequest::new(KeyRange::prefix("/")) };
    let error = store.range(old).await.unwrap_err();
    assert!(matches!(error, StoreError::Compacted { requested: 3, compacted: 4 }), "{error}");
    let future = RangeRequest { revision: Some(6), ..RangeRequest::new(KeyRange::prefix("/")) };
    let error = store.range(future).await.unwrap_err();
    assert!(matches!(error, StoreError::FutureRevision { requested: 6, current: 5 }), "{error}");
}

async fn limits_counts_and_keys_only(store: Arc<dyn Store>) {
    for number in 0..10 {
        store.txn(put(&format!("/k/{number}"), "v")).await.unwrap();
    }
    let range = KeyRange::prefix("/k/");
    let limited = store.range(RangeRequest { limit: 3, ..RangeRequest::new(range.clone()) }).await.unwrap();
    assert_eq!((limited.kvs.len(), limited.count, limited.more), (3, 10, true));
    let exact = store.range(RangeRequest { limit: 10, ..RangeRequest::new(range.clone()) }).await.unwrap();
    assert!(!exact.more);
    let count =
        store.range(RangeRequest { count_only: true, ..RangeRequest::new(range.clone()) }).await.unwrap();
    assert_eq!((count.kvs.len(), count.count), (0, 10));
    let keys = store.range(RangeRequest { keys_only: true, ..RangeRequest::new(range) }).await.unwrap();
    assert!(keys.kvs.iter().all(|kv| kv.value.is_empty()));
}

async fn a_watch_tells_the_past_and_then_the_present(store: Arc<dyn Store>) {
    store.txn(put("/w/a", "1")).await.unwrap();
    store.txn(put("/other", "1")).await.unwrap();
    store.txn(delete("/w/a")).await.unwrap();
    let request = WatchRequest { range: KeyRange::prefix("/w/"), start_revision: Some(2) };
    let mut watch = store.watch(request).await.unwrap();
    let mut events = Vec::new();
    store.txn(put("/w/b", "2")).await.unwrap();
    while events.len() < 3 {
        events.extend(watch.next().await.unwrap().unwrap().events);
    }
    let told: Vec<_> = events.iter().map(|event| (event.kind, event.kv.mod_revision)).collect();
    assert_eq!(told, vec![(EventKind::Put, 2), (EventKind::Delete, 4), (EventKind::Put, 5)]);
    assert_eq!(events[1].previous.as_ref().unwrap().value, Bytes::from("1"));
}

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    {
        let store = EmbeddedStore::open(&path, Options::default()).unwrap();
        store.txn(put("/a", "1")).await.unwrap();
        store.txn(put("/b", "1")).await.unwrap();
        store.txn(put("/a", "2")).await.unwrap();
        store.compact(3).await.unwrap();
        store.txn(delete("/b")).await.unwrap();
    }
    let store = EmbeddedStore::open(&path, Options::default()).unwrap();
    assert_eq!(store.revision().await.unwrap(), 5);
    assert_eq!(values(&store, "/", None).await, pairs(&[("/a", "2")]));
    assert_eq!(values(&store, "/", Some(3)).await, pairs(&[("/a", "1"), ("/b", "1")]));
    assert_eq!(store.txn(put("/c", "1")).await.unwrap().revision, 6);
    let request = WatchRequest { range: KeyRange::prefix("/"), start_revision: Some(2) };
    assert!(matches!(store.watch(request).await.err(), Some(StoreError::Compacted { .. })));
}

on_every_store! {
    the_first_write_has_revision_two,
    a_transaction_that_changes_nothing_takes_no_revision,
    create_update_and_delete_follow_etcds_marks,
    one_transaction_has_one_revision_and_sees_its_own_writes,
    invalid_transactions_are_refused_and_change_nothing,
    old_revisions_stay_readable_until_compacted,
    limits_counts_and_keys_only,
    a_watch_tells_the_past_and_then_the_present,
}
