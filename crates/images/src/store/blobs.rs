//! What is complete: files called by their digests, each there once however many images are the same, for as long as one of them is.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{StoreError, UploadId, files};
use crate::digest::Digest;

/// The files, and whose they are.
#[derive(Debug)]
pub(super) struct Blobs {
    directory: PathBuf,
    /// Held while files come and go: nothing is removed that somebody is about to use.
    users: Mutex<HashMap<Digest, HashSet<UploadId>>>,
}

impl Blobs {
    /// Those in a directory, used by `users`. What nobody uses is removed: a crash came between a record and its file.
    pub(super) fn open(
        directory: PathBuf,
        users: HashMap<Digest, HashSet<UploadId>>,
    ) -> Result<Self, StoreError> {
        files::make_directory(&directory)?;
        let failed = StoreError::io("read", &directory);
        let entries =
            fs::read_dir(&directory).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(failed)?;
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            let digest = format!("sha256:{name}").parse::<Digest>().ok();
            let file = entry.file_type().is_ok_and(|kind| kind.is_file());
            let Some(digest) = digest.filter(|_| file) else {
                tracing::warn!("{}: not of the image store, and left alone", entry.path().display());
                continue;
            };
            if !users.contains_key(&digest) {
                tracing::info!(name, "a file that belongs to no image is removed");
                files::remove(&entry.path())?;
            }
        }
        Ok(Self { directory, users: Mutex::new(users) })
    }

    fn users(&self) -> MutexGuard<'_, HashMap<Digest, HashSet<UploadId>>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.hex())
    }

    /// Takes in the bytes in `data`, which have this digest, after `note` has written down that they belong to `id`.
    pub(super) fn take(
        &self,
        digest: Digest,
        id: &UploadId,
        data: &Path,
        note: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut users = self.users();
        note()?;
        self.move_in(&digest, data)?;
        users.entry(digest).or_default().insert(id.clone());
        Ok(())
    }

    /// Gives bytes their name. Should they be there already, these take their place: those may have been damaged since.
    pub(super) fn move_in(&self, digest: &Digest, data: &Path) -> Result<(), StoreError> {
        files::rename(data, &self.path(digest))
    }

    /// Whether the bytes are there.
    pub(super) fn has(&self, digest: &Digest, length: u64) -> bool {
        fs::metadata(self.path(digest)).is_ok_and(|metadata| metadata.is_file() && metadata.len() == length)
    }

    /// The bytes do not belong to `id` any more, which `note` writes down. They go when nobody has them.
    pub(super) fn release(
        &self,
        digest: &Digest,
        id: &UploadId,
        note: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut users = self.users();
        note()?;
        let Some(left) = users.get_mut(digest) else { return Ok(()) };
        left.remove(id);
        if left.is_empty() {
            users.remove(digest);
            return files::remove(&self.path(digest));
        }
        Ok(())
    }

    /// Opens the bytes for reading; they can be read to their end even if they are removed meanwhile.
    pub(super) fn read(&self, digest: &Digest) -> std::io::Result<(File, u64)> {
        let file = File::open(self.path(digest))?;
        let length = file.metadata()?.len();
        Ok((file, length))
    }
}
