//! Compaction: what goes, what stays, and doing it unasked.

use std::time::{Duration, Instant};

use drystone_store::embedded::{CompactionPolicy, EmbeddedStore, Options};
use drystone_store::{KeyRange, RangeRequest, Store, StoreError, WatchRequest};
use futures::StreamExt;

use crate::basics::{delete, put, values};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_file_stops_growing_when_history_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let policy = CompactionPolicy { keep_duration: None, keep_revisions: Some(50) };
    let store = EmbeddedStore::open(&path, Options { compaction: policy, ..Options::default() }).unwrap();
    let value = "x".repeat(4096);
    let mut sizes = Vec::new();
    for _ in 0..4 {
        for number in 0..250 {
            store.txn(put(&format!("/k/{}", number % 10), &value)).await.unwrap();
        }
        sizes.push(std::fs::metadata(&path).unwrap().len());
    }
    assert_eq!(sizes[1], sizes[3], "{sizes:?}");
    let old = RangeRequest { revision: Some(30), ..RangeRequest::new(KeyRange::prefix("/")) };
    assert!(matches!(store.range(old).await, Err(StoreError::Compacted { .. })));
    let revision = store.revision().await.unwrap();
    assert_eq!(values(&store, "/", Some(revision - 40)).await.len(), 10);
    drop(store);
    let store = EmbeddedStore::open(&path, Options::default()).unwrap();
    assert_eq!(store.revision().await.unwrap(), revision);
    assert_eq!(values(&store, "/", None).await.len(), 10);
}

#[tokio::test]
async fn an_idle_store_finishes_what_compaction_has_begun() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let manual = || Options { compaction: CompactionPolicy::MANUAL, ..Options::default() };
    let store = EmbeddedStore::open(&path, manual()).unwrap();
    let writes = (0..3000).map(|number| store.txn(put(&format!("/k/{}", number % 7), "v")));
    futures::future::join_all(writes).await;
    store.txn(delete("/k/0")).await.unwrap();
    let revision = store.revision().await.unwrap();
    store.compact(revision).await.unwrap();
    store.compact(2).await.unwrap();
    drop(store);
    // Whatever was left to remove is removed after opening.
    let begun = Instant::now();
    while records(&path) > 8 {
        assert!(begun.elapsed() < PATIENCE, "{} records are left", records(&path));
        let store = EmbeddedStore::open(&path, manual()).unwrap();
        assert_eq!(store.revision().await.unwrap(), revision);
        assert_eq!(values(&store, "/", None).await.len(), 6);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// How many records the history has on disk.
fn records(path: &std::path::Path) -> u64 {
    use redb::{ReadableDatabase, ReadableTableMetadata};
    let table: redb::TableDefinition<'_, (u64, u32), &[u8]> = redb::TableDefinition::new("history");
    let database = redb::Database::open(path).unwrap();
    database.begin_read().unwrap().open_table(table).unwrap().len().unwrap()
}

#[tokio::test]
async fn a_watch_from_the_compacted_revision_still_works_and_below_fails() {
    let store = EmbeddedStore::in_memory(Options::default()).unwrap();
    for number in 0..10 {
        store.txn(put("/k", &number.to_string())).await.unwrap();
    }
    store.compact(8).await.unwrap();
    let from = |start| WatchRequest { range: KeyRange::prefix("/"), start_revision: Some(start) };
    let error = store.watch(from(7)).await.err();
    assert!(matches!(error, Some(StoreError::Compacted { requested: 7, compacted: 8 })), "{error:?}");
    let mut watch = store.watch(from(8)).await.unwrap();
    let first = watch.next().await.unwrap().unwrap();
    assert_eq!((first.revision, &first.events[0].kv.value[..]), (8, &b"6"[..]));
    assert_eq!(first.events[0].previous.as_ref().unwrap().value, "5");
    let error = store.compact(100).await.unwrap_err();
    assert!(matches!(error, StoreError::FutureRevision { requested: 100, current: 11 }), "{error}");
}
