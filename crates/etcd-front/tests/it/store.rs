//! The store's client of etcd over the front of a store: both ends are to mean the same.

use std::{sync::Arc, time::Duration};

use drystone_store::{
    Compare, CompareTarget, EventKind, KeyRange, Operation, RangeRequest, Store, StoreError, Txn,
    WatchRequest,
    etcd::{EtcdOptions, EtcdStore},
};
use futures::StreamExt as _;
use tokio::time::timeout;

use crate::server::{Everybody, start};

fn put(key: &str, value: &str, expected: u64) -> Txn {
    Txn {
        compare: vec![Compare { key: key.to_owned().into(), target: CompareTarget::ModRevision(expected) }],
        success: vec![Operation::Put {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            lease: 0,
        }],
        failure: vec![Operation::Range(RangeRequest::new(KeyRange::single(key.to_owned())))],
    }
}

#[tokio::test]
async fn a_store_through_the_front_is_that_store() {
    let server = start(Arc::new(Everybody)).await;
    let through = EtcdStore::new(&EtcdOptions::new([server.url.clone()])).unwrap();
    let watch = WatchRequest { range: KeyRange::prefix("/k/"), start_revision: Some(2) };
    let mut changes = through.watch(watch).await.unwrap();
    let first = through.txn(put("/k/a", "1", 0)).await.unwrap();
    assert!(first.succeeded && first.revision == 2, "{first:?}");
    let refused = through.txn(put("/k/a", "2", 0)).await.unwrap();
    assert!(!refused.succeeded, "{refused:?}");
    server.store.txn(put("/k/b", "3", 0)).await.unwrap();
    let read = RangeRequest::new(KeyRange::prefix("/k/"));
    let (here, there) = (server.store.range(read.clone()).await.unwrap(), through.range(read).await.unwrap());
    assert_eq!((&here.kvs, here.revision, here.count), (&there.kvs, there.revision, there.count));
    let gone = Txn { success: vec![Operation::Delete(KeyRange::prefix("/k/"))], ..Txn::default() };
    through.txn(gone).await.unwrap();
    let mut kinds = Vec::new();
    while kinds.len() < 4 {
        let batch = timeout(Duration::from_secs(60), changes.next()).await.unwrap().unwrap().unwrap();
        kinds.extend(batch.events.iter().map(|event| event.kind));
    }
    assert_eq!(kinds, [EventKind::Put, EventKind::Put, EventKind::Delete, EventKind::Delete]);
    server.store.compact(4).await.unwrap();
    let old = WatchRequest { range: KeyRange::prefix("/"), start_revision: Some(2) };
    assert!(matches!(through.watch(old).await.err(), Some(StoreError::Compacted { .. })));
}

#[tokio::test]
async fn leases_are_kept_and_end() {
    let server = start(Arc::new(Everybody)).await;
    let through = EtcdStore::new(&EtcdOptions::new([server.url.clone()])).unwrap();
    // This client gives its leases numbers of its own.
    let lease = through.lease_grant(600).await.unwrap();
    through.lease_keep_alive(lease).await.unwrap();
    assert_eq!(through.lease_time_to_live(lease).await.unwrap().granted, 600);
    through.lease_revoke(lease).await.unwrap();
    assert!(matches!(through.lease_keep_alive(lease).await, Err(StoreError::LeaseNotFound(_))));
    assert!(matches!(through.lease_time_to_live(lease).await, Err(StoreError::LeaseNotFound(_))));
}

#[tokio::test]
async fn a_lease_exists_once() {
    let server = start(Arc::new(Everybody)).await;
    let through = EtcdStore::new(&EtcdOptions::new([server.url.clone()])).unwrap();
    server.store.lease_grant_as(7, 600).await.unwrap();
    assert!(matches!(through.lease_grant_as(7, 600).await, Err(StoreError::LeaseExists(7))));
}
