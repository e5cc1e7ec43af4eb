//! Opening the embedded store, and removing from its file what was in clear: the storage engine leaves old pages as they are.

use std::path::Path;
use std::sync::Arc;

use drystone_store::embedded::{EmbeddedStore, Options, rewrite};

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
