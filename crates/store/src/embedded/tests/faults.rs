//! Disks that are full, lie, or fail.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use futures::StreamExt;

use super::disk::Disk;
use super::{everything, open, options, put, write};
use crate::{KeyRange, Store, StoreError, WatchRequest};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_full_disk_refuses_writes_keeps_reading_and_recovers() {
    let disk = Disk::default();
    let store = open(&disk, options()).unwrap();
    write(&store, vec![put("/first", b"kept")]).await.unwrap();
    disk.limit(Some(disk.len()));
    let mut stored = 1;
    let error = loop {
        match write(&store, vec![put(&format!("/fill/{stored:04}"), &[7; 4000])]).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::NoSpace(_)), "{error}");
    let revision = store.revision().await.unwrap();
    assert_eq!(everything(&store, None).await.unwrap().len(), stored);
    assert_eq!(everything(&store, Some(2)).await.unwrap().len(), 1, "history stays readable too");
    let error = write(&store, vec![put("/fill/more", &[7; 4000])]).await.unwrap_err();
    assert!(matches!(error, StoreError::NoSpace(_)), "{error}");
    assert_eq!(store.revision().await.unwrap(), revision, "a refused write takes no revision");

    disk.limit(None);
    let begun = Instant::now();
    while let Err(error) = write(&store, vec![put("/after", b"x")]).await {
        assert!(matches!(error, StoreError::NoSpace(_)), "{error}");
        assert!(begun.elapsed() < PATIENCE, "it does not recover");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(store);
    let store = open(&disk, options()).unwrap();
    assert_eq!(everything(&store, None).await.unwrap().len(), stored + 1);
}

#[tokio::test]
async fn a_commit_that_landed_in_spite_of_its_error_is_told_to_watchers() {
    landed_commit(true).await;
}

#[tokio::test]
async fn a_landed_commit_that_is_found_late_is_told_too() {
    landed_commit(false).await;
}

async fn landed_commit(opens_at_once: bool) {
    let disk = Disk::default();
    let store = open(&disk, options()).unwrap();
    write(&store, vec![put("/a", b"1")]).await.unwrap();
    let request = WatchRequest { range: KeyRange::prefix("/"), start_revision: None };
    let mut watch = store.watch(request).await.unwrap();
    disk.report_failure_of_next_flush(ErrorKind::StorageFull);
    disk.set_unreadable(!opens_at_once);
    let error = write(&store, vec![put("/a", b"2")]).await.unwrap_err();
    assert!(matches!(error, StoreError::NoSpace(_)), "{error}");
    tokio::time::sleep(Duration::from_millis(150)).await;
    disk.set_unreadable(false);
    let begun = Instant::now();
    while write(&store, vec![put("/b", b"3")]).await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "it does not recover");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut told = Vec::new();
    while told.len() < 2 {
        let batch = watch.next().await.unwrap().unwrap();
        told.extend(batch.events.iter().map(|event| {
            let previous = event.previous.as_ref().map(|kv| kv.value.to_vec());
            (batch.revision, event.kv.value.to_vec(), previous)
        }));
    }
    let expected = vec![(3, b"2".to_vec(), Some(b"1".to_vec())), (4, b"3".to_vec(), None)];
    assert_eq!(told, expected);
    let kvs = everything(&store, None).await.unwrap();
    assert_eq!(kvs[0].value, "2");
}

#[tokio::test]
async fn a_failed_flush_ends_writing_until_the_store_is_opened_again() {
    let disk = Disk::default();
    let store = open(&disk, options()).unwrap();
    write(&store, vec![put("/a", b"1")]).await.unwrap();
    disk.fail_next_flush(ErrorKind::Other);
    for _ in 0..3 {
        let error = write(&store, vec![put("/a", b"2")]).await.unwrap_err();
        assert!(matches!(&error, StoreError::Backend(text) if text.contains("restart")), "{error}");
    }
    assert_eq!(everything(&store, None).await.unwrap()[0].value, "1");
    drop(store);
    let store = open(&disk.after_power_failure(1), options()).unwrap();
    write(&store, vec![put("/a", b"3")]).await.unwrap();
}

#[tokio::test]
async fn a_transient_failure_costs_one_write() {
    let disk = Disk::default();
    let store = open(&disk, options()).unwrap();
    write(&store, vec![put("/a", b"1")]).await.unwrap();
    disk.limit(Some(0));
    write(&store, vec![put("/a", b"2")]).await.unwrap_err();
    disk.limit(None);
    let begun = Instant::now();
    while write(&store, vec![put("/a", b"3")]).await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "it does not recover");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(everything(&store, None).await.unwrap()[0].value, "3");
}

#[tokio::test]
async fn one_commit_is_one_flush() {
    let disk = Disk::default();
    let store = open(&disk, options()).unwrap();
    let before = disk.flushes();
    for number in 0..10 {
        write(&store, vec![put(&format!("/{number}"), b"x")]).await.unwrap();
    }
    assert_eq!(disk.flushes() - before, 10);
    let together: Vec<_> = (0..64).map(|number| vec![put(&format!("/together/{number}"), b"x")]).collect();
    let before = disk.flushes();
    let writes = together.into_iter().map(|operations| write(&store, operations));
    let results = futures::future::join_all(writes).await;
    assert!(results.iter().all(Result::is_ok));
    assert!(disk.flushes() - before < 64, "requests that wait together are flushed together");
}
