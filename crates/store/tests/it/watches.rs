//! Watches under load: nothing is skipped, nothing told twice, the slow are told so.

use std::sync::Arc;
use std::time::Duration;

use drystone_store::embedded::{EmbeddedStore, Options};
use drystone_store::{KeyRange, Store, StoreError, WatchRequest, WatchStream};
use futures::StreamExt;

use crate::basics::put;
use crate::stores::on_every_store;

pub(crate) async fn watch(store: &dyn Store, prefix: &str, start: Option<u64>) -> WatchStream {
    let range = KeyRange::prefix(prefix.to_owned());
    store.watch(WatchRequest { range, start_revision: start }).await.unwrap()
}

/// Reads a watch until it has told the revision `last`; the revisions told.
pub(crate) async fn revisions(mut watch: WatchStream, last: u64) -> Vec<u64> {
    let mut revisions = Vec::new();
    loop {
        let batch = watch.next().await.unwrap().unwrap();
        if !batch.events.is_empty() {
            revisions.push(batch.revision);
        }
        if batch.revision >= last {
            return revisions;
        }
    }
}

async fn watches_that_start_anywhere_during_writes_tell_every_change_once(store: Arc<dyn Store>) {
    const WRITERS: u64 = 8;
    const WRITES: u64 = 300;
    let last = 1 + WRITERS * WRITES;
    let writers = (0..WRITERS).map(|writer| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for number in 0..WRITES {
                store.txn(put(&format!("/w/{writer}"), &number.to_string())).await.unwrap();
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut watchers = Vec::new();
    for number in 0..60 {
        let current = store.revision().await.unwrap();
        // In the far and near past, just now, and in the future.
        let start = match number % 4 {
            0 => 2,
            1 => current.saturating_sub(20).max(2),
            2 => current + 1,
            _ => (current + 50).min(last),
        };
        let watch = watch(store.as_ref(), "/w/", Some(start)).await;
        watchers.push((start, tokio::spawn(revisions(watch, last))));
        tokio::task::yield_now().await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    for (start, watcher) in watchers {
        let told = watcher.await.unwrap();
        assert_eq!(told, (start..=last).collect::<Vec<_>>(), "from {start}");
    }
}

#[tokio::test]
async fn a_slow_watcher_gets_what_was_buffered_and_then_an_error() {
    let store = EmbeddedStore::in_memory(Options { watch_buffer: 10, ..Options::default() }).unwrap();
    let mut slow = watch(&store, "/", None).await;
    let mut elsewhere = watch(&store, "/elsewhere", None).await;
    for number in 0..20 {
        store.txn(put("/k", &number.to_string())).await.unwrap();
    }
    for expected in 2..12 {
        assert_eq!(slow.next().await.unwrap().unwrap().revision, expected);
    }
    let error = slow.next().await.unwrap().unwrap_err();
    assert!(matches!(error, StoreError::WatcherTooSlow { missed: 12 }), "{error}");
    assert!(slow.next().await.is_none());
    // It can go on from where it was.
    assert_eq!(revisions(watch(&store, "/", Some(12)).await, 21).await, (12..=21).collect::<Vec<_>>());
    // What does not concern a watcher fills no buffer; it is told how far the store has come.
    let mark = elsewhere.next().await.unwrap().unwrap();
    assert_eq!((mark.revision, mark.events.len()), (21, 0));
}

async fn a_watch_from_the_latest_revision_tells_it_again(store: Arc<dyn Store>) {
    store.txn(put("/k", "1")).await.unwrap();
    store.txn(put("/k", "2")).await.unwrap();
    let mut latest = watch(store.as_ref(), "/", Some(3)).await;
    let first = tokio::time::timeout(Duration::from_secs(60), latest.next()).await.unwrap();
    assert_eq!(first.unwrap().unwrap().events[0].kv.value, "2");
}

async fn a_quiet_watcher_is_not_woken_for_others_changes(store: Arc<dyn Store>) {
    let mut quiet = watch(store.as_ref(), "/quiet", None).await;
    // It waits before anything is written: what it is told first would be how far the store has come.
    assert!(futures::poll!(quiet.next()).is_pending());
    let next = tokio::spawn(async move { quiet.next().await });
    for _ in 0..50 {
        store.txn(put("/loud", "x")).await.unwrap();
    }
    assert!(!next.is_finished());
    store.txn(put("/quiet", "x")).await.unwrap();
    let batch = next.await.unwrap().unwrap().unwrap();
    assert_eq!((batch.revision, batch.events.len()), (52, 1));
}

#[tokio::test]
async fn watches_end_with_the_store() {
    let store = EmbeddedStore::in_memory(Options::default()).unwrap();
    let mut open = watch(&store, "/", None).await;
    store.txn(put("/k", "v")).await.unwrap();
    store.close().await;
    assert_eq!(open.next().await.unwrap().unwrap().revision, 2, "what was written is told");
    assert!(matches!(open.next().await, Some(Err(StoreError::Closed))));
    assert!(open.next().await.is_none());
    assert!(matches!(store.txn(put("/k", "v")).await, Err(StoreError::Closed)));
    let request = WatchRequest { range: KeyRange::prefix("/"), start_revision: None };
    assert!(matches!(store.watch(request).await.err(), Some(StoreError::Closed)));
}

on_every_store! {
    watches_that_start_anywhere_during_writes_tell_every_change_once,
    a_watch_from_the_latest_revision_tells_it_again,
    a_quiet_watcher_is_not_woken_for_others_changes,
}
