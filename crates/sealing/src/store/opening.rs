//! Opening the stores, and removing from their files what was in clear: storage engines leave old pages as they are.

use std::path::Path;
use std::sync::Arc;

use drystone_store::embedded::{EmbeddedStore, Options, rewrite};
use drystone_store::etcd::EtcdStore;

use super::{SealedStore, SealedStoreError};
use crate::key::SealingKey;

/// Opens the embedded store in the file `path`, sealed below `prefixes`. If it held secrets in clear, these are sealed, its history is
/// forgotten, and its file is written anew, without them, and the old one overwritten.
///
/// # Errors
/// [`SealedStoreError`] if the store cannot be opened; see [`SealedStore::open`].
pub async fn open_embedded(
    path: &Path,
    options: Options,
    sealing: &SealingKey,
    prefixes: &[&str],
) -> Result<Arc<SealedStore>, SealedStoreError> {
    let embedded = Arc::new(EmbeddedStore::open(path, options.clone())?);
    let sealed = SealedStore::open(Arc::clone(&embedded) as _, sealing.clone(), prefixes).await?;
    if !sealed.has_remains().await? {
        return Ok(sealed);
    }
    sealed.forget_history().await?;
    embedded.close().await;
    drop((sealed, embedded));
    let file = path.to_path_buf();
    let rewritten = tokio::task::spawn_blocking(move || rewrite(&file)).await;
    rewritten.map_err(|_| drystone_store::StoreError::Closed)??;
    let sealed =
        SealedStore::open(Arc::new(EmbeddedStore::open(path, options)?), sealing.clone(), prefixes).await?;
    sealed.remains_are_gone().await?;
    tracing::info!(file = %path.display(), "the store was written anew; nothing in clear is left in its file");
    Ok(sealed)
}

/// Opens a store on etcd, sealed below `prefixes`. If it held secrets in clear, these are sealed, its history is forgotten, and etcd's servers
/// write their databases anew. Their write-ahead logs and snapshots still have the old values, until etcd itself removes them.
///
/// # Errors
/// [`SealedStoreError`] if the store cannot be opened; see [`SealedStore::open`].
pub async fn open_etcd(
    etcd: &Arc<EtcdStore>,
    sealing: &SealingKey,
    prefixes: &[&str],
) -> Result<Arc<SealedStore>, SealedStoreError> {
    let sealed = SealedStore::open(Arc::clone(etcd) as _, sealing.clone(), prefixes).await?;
    if sealed.has_remains().await? {
        sealed.forget_history().await?;
        etcd.defragment().await?;
        sealed.remains_are_gone().await?;
        tracing::warn!(
            "secrets were in clear in etcd and are encrypted now; the write-ahead logs and snapshots of its members have them until etcd \
             removes these files: replace passwords and keys that must not be read there"
        );
    }
    Ok(sealed)
}
