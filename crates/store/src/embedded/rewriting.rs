//! Writing the database's file anew: only what counts, in a file of its own, and the old one overwritten. The storage engine leaves what
//! was removed in free pages, and does not clear them when it compacts.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use redb::{Database, ReadableDatabase as _, ReadableTable as _};

use super::commit::{Scrub, persist};
use super::engine::{HISTORY, LEASES, META, META_COMPACTED, META_SCRUBBED, backend, initialize, meta_value};
use super::file;
use super::staging::Changes;
use crate::StoreError;

/// Records that are copied in one transaction.
const BATCH: usize = 4096;

/// Writes the file of a store anew that nobody has open: superseded records of the compacted history go, and of what was ever
/// removed nothing is left in it. The old file is overwritten. After a crash there is the old file or the new one.
///
/// # Errors
/// [`StoreError::Backend`] if the file is open elsewhere or damaged, [`StoreError::NoSpace`] if there is no room for a second one; the
/// old file is then as it was.
pub fn rewrite(path: impl AsRef<Path>) -> Result<(), StoreError> {
    let path = path.as_ref();
    let failed = |error: io::Error| StoreError::Backend(format!("rewriting {}: {error}", path.display()));
    let old = file::open(path).map_err(failed)?;
    let database = redb::Builder::new().create_file(old).map_err(backend)?;
    initialize(&database)?;
    scrub(&database)?;
    let unfinished = file::begin(path)?;
    let copy = redb::Builder::new().create_file(unfinished).map_err(backend)?;
    initialize(&copy)?;
    copy_tables(&database, &copy)?;
    drop((copy, database));
    let old = OpenOptions::new().write(true).open(path).map_err(failed)?;
    file::put_in_place(path).map_err(failed)?;
    overwrite(&old).map_err(failed)
}

/// Removes everything that compaction has forgotten.
fn scrub(database: &Database) -> Result<(), StoreError> {
    let read = database.begin_read().map_err(backend)?;
    let value = |name| meta_value(&read, name).map(|value| value.unwrap_or(0));
    let mut left = Scrub::new(value(META_SCRUBBED)?, value(META_COMPACTED)?);
    drop(read);
    while left.is_pending() {
        let transaction = database.begin_write().map_err(backend)?;
        left = persist(&transaction, &Changes::default(), left)?;
        transaction.commit().map_err(backend)?;
    }
    Ok(())
}

fn copy_tables(from: &Database, to: &Database) -> Result<(), StoreError> {
    let read = from.begin_read().map_err(backend)?;
    let write = to.begin_write().map_err(backend)?;
    {
        let (source, mut target) =
            (read.open_table(META).map_err(backend)?, write.open_table(META).map_err(backend)?);
        for entry in source.iter().map_err(backend)? {
            let (name, value) = entry.map_err(backend)?;
            target.insert(name.value(), value.value()).map_err(backend)?;
        }
        let (source, mut target) =
            (read.open_table(LEASES).map_err(backend)?, write.open_table(LEASES).map_err(backend)?);
        for entry in source.iter().map_err(backend)? {
            let (lease, seconds) = entry.map_err(backend)?;
            target.insert(lease.value(), seconds.value()).map_err(backend)?;
        }
    }
    write.commit().map_err(backend)?;
    let history = read.open_table(HISTORY).map_err(backend)?;
    let mut entries = history.iter().map_err(backend)?.peekable();
    while entries.peek().is_some() {
        let write = to.begin_write().map_err(backend)?;
        {
            let mut target = write.open_table(HISTORY).map_err(backend)?;
            for entry in entries.by_ref().take(BATCH) {
                let (key, record) = entry.map_err(backend)?;
                target.insert(key.value(), record.value()).map_err(backend)?;
            }
        }
        write.commit().map_err(backend)?;
    }
    Ok(())
}

fn overwrite(mut old: &File) -> io::Result<()> {
    let mut left = old.metadata()?.len();
    let zeros = vec![0; 1 << 20];
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(zeros.len()).min(zeros.len());
        old.write_all(&zeros[..piece])?;
        left -= piece as u64;
    }
    old.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bytes::Bytes;

    use super::*;
    use crate::embedded::{CompactionPolicy, EmbeddedStore, Options};
    use crate::{KeyRange, Operation, RangeRequest, Store as _, Txn};

    fn options() -> Options {
        Options { compaction: CompactionPolicy::MANUAL, ..Options::default() }
    }

    async fn put(store: &EmbeddedStore, key: &str, value: &str) {
        let put = Operation::Put {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
            lease: 0,
        };
        store.txn(Txn { success: vec![put], ..Txn::default() }).await.unwrap();
    }

    fn holds(path: &Path, text: &str) -> bool {
        fs::read(path).unwrap().windows(text.len()).any(|window| window == text.as_bytes())
    }

    #[tokio::test]
    async fn what_was_removed_is_gone_from_the_file_and_the_rest_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.redb");
        let store = EmbeddedStore::open(&path, options()).unwrap();
        for index in 0..5000 {
            put(&store, &format!("/a/{index:04}"), "kept").await;
        }
        put(&store, "/secret", "marked-as-clear-text").await;
        put(&store, "/secret", "replaced").await;
        put(&store, "/other", "x").await;
        let revision = store.revision().await.unwrap();
        store.compact(revision).await.unwrap();
        store.close().await;
        drop(store);
        assert!(holds(&path, "marked-as-clear-text"), "or this test shows nothing");
        let old = directory.path().join("old");
        fs::hard_link(&path, &old).unwrap();
        rewrite(&path).unwrap();
        assert!(!holds(&path, "marked-as-clear-text"));
        assert!(fs::read(&old).unwrap().iter().all(|byte| *byte == 0), "the old file is overwritten");
        let store = EmbeddedStore::open(&path, options()).unwrap();
        let found = store.range(RangeRequest::new(KeyRange::prefix("/"))).await.unwrap();
        assert_eq!((found.count, found.revision), (5002, revision));
        assert!(found.kvs.iter().any(|pair| pair.value == "replaced"));
        put(&store, "/more", "y").await;
    }

    #[tokio::test]
    async fn a_file_in_use_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.redb");
        let store = EmbeddedStore::open(&path, options()).unwrap();
        put(&store, "/a", "1").await;
        assert!(rewrite(&path).is_err());
        put(&store, "/a", "2").await;
    }
}
