//! Many clients at once.

use std::sync::Arc;

use drystone_store::embedded::{EmbeddedStore, Options};
use drystone_store::{CompareTarget, KeyRange, RangeRequest, Store};

use crate::basics::{guarded, put};
use crate::stores::on_every_store;

async fn compare_and_swap_loses_no_increment(store: Arc<dyn Store>) {
    store.txn(put("/counter", "0")).await.unwrap();
    let clients = (0..10).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for _ in 0..30 {
                increment(store.as_ref()).await;
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let response = store.range(RangeRequest::new(KeyRange::single("/counter"))).await.unwrap();
    assert_eq!(response.kvs[0].value, "300");
    assert_eq!(response.kvs[0].version, 301);
}

async fn increment(store: &dyn Store) {
    loop {
        let response = store.range(RangeRequest::new(KeyRange::single("/counter"))).await.unwrap();
        let kv = &response.kvs[0];
        let count: u32 = std::str::from_utf8(&kv.value).unwrap().parse().unwrap();
        let next = put("/counter", &(count + 1).to_string());
        if store
            .txn(guarded(next, "/counter", CompareTarget::ModRevision(kv.mod_revision)))
            .await
            .unwrap()
            .succeeded
        {
            return;
        }
    }
}

async fn lists_are_consistent_while_others_write(store: Arc<dyn Store>) {
    // The two keys are always written together with the same value.
    let pair = |value: &str| {
        let mut txn = put("/pair/a", value);
        txn.success.extend(put("/pair/b", value).success);
        txn
    };
    store.txn(pair("0")).await.unwrap();
    let writer = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for number in 0..500 {
                store.txn(pair(&number.to_string())).await.unwrap();
            }
        })
    };
    while !writer.is_finished() {
        let response = store.range(RangeRequest::new(KeyRange::prefix("/pair/"))).await.unwrap();
        assert_eq!(response.kvs[0].value, response.kvs[1].value);
        assert_eq!(response.kvs[0].mod_revision, response.revision);
        let revision = Some(response.revision.saturating_sub(3).max(2));
        let old = RangeRequest { revision, ..RangeRequest::new(KeyRange::prefix("/pair/")) };
        let old = store.range(old).await.unwrap();
        assert_eq!(old.kvs[0].value, old.kvs[1].value);
        assert_eq!(Some(old.kvs[0].mod_revision), revision);
    }
    writer.await.unwrap();
}

#[tokio::test]
async fn a_file_is_open_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let _store = EmbeddedStore::open(&path, Options::default()).unwrap();
    let error = EmbeddedStore::open(&path, Options::default()).unwrap_err();
    assert!(error.to_string().contains("open in another process"), "{error}");
}

on_every_store! {
    compare_and_swap_loses_no_increment,
    lists_are_consistent_while_others_write,
}
