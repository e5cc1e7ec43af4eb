//! Tests on a simulated disk: crashes, full disks, failing flushes.

mod crash;
mod damage;
mod disk;
mod faults;

use bytes::Bytes;

use super::EmbeddedStore;
use super::observer::{Faults, Observed};
use super::options::{CompactionPolicy, Options};
use crate::{KeyRange, KeyValue, Operation, RangeRequest, Revision, Store, StoreError, Txn, TxnResponse};
use disk::Disk;

/// A small cache makes the engine read from the disk, and tests quick.
fn options() -> Options {
    Options { cache_bytes: 256 * 1024, compaction: CompactionPolicy::MANUAL, ..Options::default() }
}

/// Opens a store on a simulated disk.
fn open(disk: &Disk, options: Options) -> Result<EmbeddedStore, StoreError> {
    let (disk, cache_bytes) = (disk.clone(), options.cache_bytes);
    let faults = Faults::default();
    let noted = faults.clone();
    let opener = move || super::open_database(Observed::new(disk.mount(), noted.clone()), cache_bytes);
    EmbeddedStore::start(Box::new(opener), faults, options)
}

fn put(key: &str, value: &[u8]) -> Operation {
    Operation::Put { key: Bytes::from(key.to_owned()), value: Bytes::copy_from_slice(value), lease: 0 }
}

async fn write(store: &EmbeddedStore, operations: Vec<Operation>) -> Result<TxnResponse, StoreError> {
    store.txn(Txn { success: operations, ..Txn::default() }).await
}

async fn everything(store: &EmbeddedStore, revision: Option<Revision>) -> Result<Vec<KeyValue>, StoreError> {
    let request = RangeRequest { revision, ..RangeRequest::new(KeyRange::prefix("/")) };
    Ok(store.range(request).await?.kvs)
}
