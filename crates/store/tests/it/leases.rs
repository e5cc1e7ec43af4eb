//! Leases: expiry, keeping alive, ending, and surviving a restart.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use drystone_store::embedded::{EmbeddedStore, Options};
use drystone_store::{EventKind, KeyRange, LeaseId, Operation, Store, StoreError, Txn, WatchRequest};
use futures::StreamExt;

use crate::basics::{put, values};
use crate::stores::on_every_store;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Seconds that a lease lives which is to expire: long enough to write under it first, however slow the disk is.
const BRIEF: u64 = 5;

fn leased(key: &str, lease: LeaseId) -> Txn {
    let operation =
        Operation::Put { key: Bytes::copy_from_slice(key.as_bytes()), value: Bytes::from("v"), lease };
    Txn { success: vec![operation], ..Txn::default() }
}

async fn keys(store: &dyn Store) -> Vec<String> {
    values(store, "/", None).await.into_iter().map(|(key, _)| key).collect()
}

async fn until_gone(store: &dyn Store, key: &str) {
    let begun = Instant::now();
    while keys(store).await.iter().any(|other| other == key) {
        assert!(begun.elapsed() < PATIENCE, "{key} does not expire");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn keys_go_with_their_lease_in_one_transaction(store: Arc<dyn Store>) {
    let request = WatchRequest { range: KeyRange::prefix("/"), start_revision: None };
    let mut watch = store.watch(request).await.unwrap();
    let lease = store.lease_grant(BRIEF).await.unwrap();
    let mut txn = leased("/a", lease);
    txn.success.extend(leased("/b", lease).success);
    store.txn(txn).await.unwrap();
    store.txn(put("/c", "stays")).await.unwrap();
    assert_eq!(store.lease_keys(lease).await.unwrap(), ["/a", "/b"]);
    until_gone(store.as_ref(), "/a").await;
    assert_eq!(keys(store.as_ref()).await, ["/c"]);
    assert!(matches!(store.lease_keep_alive(lease).await, Err(StoreError::LeaseNotFound(id)) if id == lease));
    assert!(store.lease_keys(lease).await.unwrap().is_empty());
    assert!(matches!(store.txn(leased("/d", lease)).await, Err(StoreError::LeaseNotFound(_))));
    let mut last = None;
    while last.as_ref().is_none_or(|batch: &drystone_store::WatchBatch| batch.revision < 4) {
        last = Some(watch.next().await.unwrap().unwrap());
    }
    let events = last.unwrap().events;
    assert!(events.len() == 2 && events.iter().all(|event| event.kind == EventKind::Delete), "{events:?}");
}

async fn a_lease_that_is_kept_alive_lives(store: Arc<dyn Store>) {
    let lease = store.lease_grant(60).await.unwrap();
    let brief = store.lease_grant(BRIEF).await.unwrap();
    store.txn(leased("/kept", lease)).await.unwrap();
    store.txn(leased("/brief", brief)).await.unwrap();
    store.lease_keep_alive(lease).await.unwrap();
    let time = store.lease_time_to_live(lease).await.unwrap();
    assert!(time.granted == 60 && time.remaining <= 60 && time.remaining > 0, "{time:?}");
    until_gone(store.as_ref(), "/brief").await;
    assert!(
        matches!(store.lease_time_to_live(brief).await, Err(StoreError::LeaseNotFound(id)) if id == brief)
    );
    assert_eq!(keys(store.as_ref()).await, ["/kept"]);
    store.lease_revoke(lease).await.unwrap();
    assert_eq!(keys(store.as_ref()).await, [""; 0]);
    assert!(matches!(store.lease_revoke(lease).await, Err(StoreError::LeaseNotFound(_))));
}

async fn a_lease_may_have_a_number_that_the_caller_chose(store: Arc<dyn Store>) {
    store.lease_grant_as(4711, 60).await.unwrap();
    assert!(matches!(store.lease_grant_as(4711, 60).await, Err(StoreError::LeaseExists(4711))));
    store.txn(leased("/mine", 4711)).await.unwrap();
    store.lease_revoke(4711).await.unwrap();
    assert_eq!(keys(store.as_ref()).await, [""; 0]);
    assert!(matches!(store.lease_grant_as(0, 60).await, Err(StoreError::InvalidRequest(_))));
}

async fn a_key_belongs_to_its_last_lease(store: Arc<dyn Store>) {
    let (first, second) = (store.lease_grant(60).await.unwrap(), store.lease_grant(60).await.unwrap());
    store.txn(leased("/moved", first)).await.unwrap();
    store.txn(leased("/freed", first)).await.unwrap();
    store.txn(leased("/moved", second)).await.unwrap();
    store.txn(put("/freed", "v")).await.unwrap();
    store.lease_revoke(first).await.unwrap();
    assert_eq!(keys(store.as_ref()).await, ["/freed", "/moved"]);
    store.lease_revoke(second).await.unwrap();
    assert_eq!(keys(store.as_ref()).await, ["/freed"]);
}

#[tokio::test]
async fn leases_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let (long, brief, ended) = {
        let store = EmbeddedStore::open(&path, Options::default()).unwrap();
        let long = store.lease_grant(3600).await.unwrap();
        let ended = store.lease_grant(3600).await.unwrap();
        store.txn(leased("/long", long)).await.unwrap();
        let brief = store.lease_grant(BRIEF).await.unwrap();
        store.txn(leased("/brief", brief)).await.unwrap();
        store.lease_revoke(ended).await.unwrap();
        (long, brief, ended)
    };
    let store = EmbeddedStore::open(&path, Options::default()).unwrap();
    store.lease_keep_alive(long).await.unwrap();
    assert!(store.lease_keep_alive(ended).await.is_err());
    until_gone(&store, "/brief").await;
    assert!(store.lease_keep_alive(brief).await.is_err());
    assert_eq!(keys(&store).await, ["/long"]);
    store.lease_revoke(long).await.unwrap();
    assert_eq!(keys(&store).await, [""; 0]);
}

async fn a_time_to_live_of_nothing_is_refused(store: Arc<dyn Store>) {
    for seconds in [0, u64::MAX] {
        assert!(matches!(store.lease_grant(seconds).await, Err(StoreError::InvalidRequest(_))));
    }
}

on_every_store! {
    keys_go_with_their_lease_in_one_transaction,
    a_lease_that_is_kept_alive_lives,
    a_lease_may_have_a_number_that_the_caller_chose,
    a_key_belongs_to_its_last_lease,
    a_time_to_live_of_nothing_is_refused,
}
