//! A file system that is really full.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use drystone_store::embedded::{EmbeddedStore, Options};
use drystone_store::{Store, StoreError};

use crate::basics::{put, values};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A small file system in memory, unmounted when dropped.
struct Small(PathBuf);

impl Small {
    fn mount(path: &Path) -> Option<Self> {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=6m", "drystone-store-test"]).arg(path);
        let mounted = command.output().is_ok_and(|output| output.status.success());
        mounted.then(|| Self(path.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[tokio::test]
async fn writes_are_refused_while_a_file_system_is_full() {
    let directory = tempfile::tempdir().unwrap();
    let Some(small) = Small::mount(directory.path()) else {
        println!("skipped: mounting a tmpfs needs root");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        return;
    };
    let ballast = small.0.join("ballast");
    std::fs::write(&ballast, vec![1; 2 * 1024 * 1024]).unwrap();
    let path = small.0.join("store");
    let store = EmbeddedStore::open(&path, Options::default()).unwrap();
    let value = "x".repeat(8000);
    let mut stored = 0;
    let error = loop {
        match store.txn(put(&format!("/k/{stored:05}"), &value)).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::NoSpace(_)), "{error}");
    assert!(stored > 10, "{stored}");
    let revision = store.revision().await.unwrap();
    assert_eq!(values(&store, "/k/", None).await.len(), stored);
    assert_eq!(values(&store, "/k/", Some(revision - 5)).await.len(), stored - 5);

    std::fs::remove_file(&ballast).unwrap();
    let begun = Instant::now();
    while let Err(error) = store.txn(put("/after", "x")).await {
        assert!(matches!(error, StoreError::NoSpace(_)), "{error}");
        assert!(begun.elapsed() < PATIENCE, "it does not recover: {error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    store.close().await;
    let store = EmbeddedStore::open(&path, Options::default()).unwrap();
    assert_eq!(values(&store, "/k/", None).await.len(), stored);
    assert_eq!(store.revision().await.unwrap(), revision + 1);
    store.close().await;
}
