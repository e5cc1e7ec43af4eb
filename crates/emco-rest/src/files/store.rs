//! Application files in a directory, encrypted piece by piece.
//!
//! A file is at `AA/SHA256`, with `AA` its first two digits: `DAF1`, 16 random bytes, and pieces of [`PIECE`] bytes each sealed for its place: the
//! random bytes, its number, and whether it is the last. So pieces neither change places nor get lost unnoticed.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use drystone_sealing::{
    SealingKey,
    cipher::{Cipher, OVERHEAD},
};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{Files, FilesError, PIECE, Received, Upload, hexadecimal};

const MAGIC: &[u8; 4] = b"DAF1";
const HEADER: usize = MAGIC.len() + 16;
/// What files are encrypted for.
const PURPOSE: &str = "application-files";
/// Directory of what is on its way in.
const INCOMING: &str = "incoming";

/// Application files in a directory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FileStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    cipher: Cipher,
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> FilesError + '_ {
    |error| FilesError::Failed(format!("{}: {error}", path.display()))
}

impl FileStore {
    /// Opens a directory, or makes it. What was on its way in at the last end is removed.
    ///
    /// # Errors
    /// [`FilesError::Failed`] if that does not work.
    pub fn open(directory: &Path, key: &SealingKey) -> Result<Self, FilesError> {
        let incoming = directory.join(INCOMING);
        match fs::remove_dir_all(&incoming) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(&incoming)(error)),
            _ => {}
        }
        fs::create_dir_all(&incoming).map_err(failed(&incoming))?;
        let cipher = key.cipher(PURPOSE).map_err(|error| FilesError::Failed(error.to_string()))?;
        Ok(Self(Arc::new(Inner { directory: directory.to_owned(), cipher })))
    }

    /// Works with the store where waiting for the disk keeps nobody from working.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, FilesError> + Send + 'static,
    ) -> Result<T, FilesError> {
        let inner = self.0.clone();
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.map_err(|error| FilesError::Failed(error.to_string()))?
    }
}

/// The place that a piece is sealed for.
fn place_of(id: &[u8], number: u64, is_last: bool) -> Vec<u8> {
    let mut place = id.to_vec();
    place.extend_from_slice(&number.to_be_bytes());
    place.push(u8::from(is_last));
    place
}

impl Inner {
    fn path(&self, sha256: &str) -> Result<PathBuf, FilesError> {
        // Whatever is no digest names no file.
        let is_digest = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
        match sha256.get(..2).filter(|_| is_digest) {
            Some(first) => Ok(self.directory.join(first).join(sha256)),
            None => Err(FilesError::Missing(sha256.chars().take(64).collect())),
        }
    }

    fn read(&self, sha256: &str, number: u64) -> Result<Bytes, FilesError> {
        let path = self.path(sha256)?;
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(FilesError::Missing(sha256.to_owned()));
            }
            opened => opened.map_err(failed(&path))?,
        };
        let damaged = |what: &str| FilesError::Damaged(sha256.to_owned(), what.to_owned());
        let length = file.metadata().map_err(failed(&path))?.len();
        let mut header = [0; HEADER];
        file.read_exact(&mut header).map_err(|_| damaged("it is cut short"))?;
        let id = header.strip_prefix(MAGIC).ok_or_else(|| damaged("it has another header"))?;
        let sealed = (PIECE + OVERHEAD) as u64;
        let start = number.checked_mul(sealed).and_then(|start| start.checked_add(HEADER as u64));
        let Some(start) = start.filter(|start| *start < length) else { return Ok(Bytes::new()) };
        let is_last = start.saturating_add(sealed) >= length;
        file.seek(SeekFrom::Start(start)).map_err(failed(&path))?;
        let mut piece = Vec::new();
        file.take(sealed).read_to_end(&mut piece).map_err(failed(&path))?;
        let opened = self.cipher.open(&piece, &place_of(id, number, is_last));
        let opened = opened.ok_or_else(|| damaged("it does not open under the sealing key"))?;
        Ok(Bytes::copy_from_slice(&opened))
    }

    fn begin(&self) -> Result<Incoming, FilesError> {
        let id = Uuid::new_v4();
        let path = self.directory.join(INCOMING).join(id.to_string());
        let mut file = File::create_new(&path).map_err(failed(&path))?;
        file.write_all(MAGIC).and_then(|()| file.write_all(id.as_bytes())).map_err(failed(&path))?;
        Ok(Incoming { path, file, id: *id.as_bytes(), number: 0, is_kept: false })
    }

    fn append(&self, incoming: &mut Incoming, piece: &[u8], is_last: bool) -> Result<(), FilesError> {
        let place = place_of(&incoming.id, incoming.number, is_last);
        let sealed = self.cipher.seal(b"", piece, &place);
        let sealed = sealed.map_err(|error| FilesError::Failed(error.to_string()))?;
        incoming.file.write_all(&sealed).map_err(failed(&incoming.path))?;
        incoming.number += 1;
        Ok(())
    }

    fn keep(&self, mut incoming: Incoming, sha256: &str) -> Result<(), FilesError> {
        let path = self.path(sha256)?;
        let directory = path.parent().unwrap_or(&self.directory);
        fs::create_dir_all(directory).map_err(failed(directory))?;
        incoming.file.sync_all().map_err(failed(&incoming.path))?;
        // The new one replaces one of the same digest: it is as good, and young again for whoever sweeps.
        fs::rename(&incoming.path, &path).map_err(failed(&path))?;
        incoming.is_kept = true;
        let synced = File::open(directory).and_then(|directory| directory.sync_all());
        synced.map_err(failed(directory))
    }

    fn sweep(&self, in_use: &HashSet<String>, older_than: Duration) -> Result<usize, FilesError> {
        let now = SystemTime::now();
        let mut swept = 0;
        for directory in fs::read_dir(&self.directory).map_err(failed(&self.directory))?.flatten() {
            if directory.file_name() == INCOMING || !directory.path().is_dir() {
                continue;
            }
            let path = directory.path();
            for file in fs::read_dir(&path).map_err(failed(&path))?.flatten() {
                let is_used = file.file_name().to_str().is_some_and(|name| in_use.contains(name));
                let modified = file.metadata().and_then(|metadata| metadata.modified());
                let age = modified.ok().and_then(|modified| now.duration_since(modified).ok());
                if !is_used && age.is_some_and(|age| age >= older_than) {
                    fs::remove_file(file.path()).map_err(failed(&file.path()))?;
                    swept += 1;
                }
            }
        }
        Ok(swept)
    }
}

/// A file on its way in; what is not kept is removed.
#[derive(Debug)]
struct Incoming {
    path: PathBuf,
    file: File,
    id: [u8; 16],
    number: u64,
    is_kept: bool,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.is_kept
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), "removing what was not uploaded to its end: {error}");
        }
    }
}

/// A file on its way in, with what is not written yet.
struct Arriving {
    store: FileStore,
    /// Away while a piece is written.
    incoming: Option<Incoming>,
    piece: Vec<u8>,
    digest: Sha256,
    length: u64,
}

impl Arriving {
    async fn flush(&mut self, is_last: bool) -> Result<(), FilesError> {
        let rest = self.piece.split_off(self.piece.len().min(PIECE));
        let piece = std::mem::replace(&mut self.piece, rest);
        let lost = || FilesError::Failed("a piece could not be written before".to_owned());
        let mut incoming = self.incoming.take().ok_or_else(lost)?;
        let appended = self.store.with(move |store| {
            store.append(&mut incoming, &piece, is_last)?;
            Ok(incoming)
        });
        self.incoming = Some(appended.await?);
        Ok(())
    }
}

#[async_trait]
impl Upload for Arriving {
    async fn write(&mut self, bytes: Bytes) -> Result<(), FilesError> {
        self.digest.update(&bytes);
        self.length += bytes.len() as u64;
        self.piece.extend_from_slice(&bytes);
        // One piece stays here: the last one is marked as such.
        while self.piece.len() > PIECE {
            self.flush(false).await?;
        }
        Ok(())
    }

    fn received(&self) -> Received {
        Received { sha256: hexadecimal(&self.digest.clone().finalize()), length: self.length }
    }

    async fn finish(mut self: Box<Self>) -> Result<Received, FilesError> {
        self.flush(true).await?;
        let received = self.received();
        let lost = || FilesError::Failed("a piece could not be written before".to_owned());
        let incoming = self.incoming.take().ok_or_else(lost)?;
        let sha256 = received.sha256.clone();
        self.store.with(move |store| store.keep(incoming, &sha256)).await?;
        Ok(received)
    }
}

#[async_trait]
impl Files for FileStore {
    async fn begin(&self) -> Result<Box<dyn Upload>, FilesError> {
        let incoming = self.with(Inner::begin).await?;
        Ok(Box::new(Arriving {
            store: self.clone(),
            incoming: Some(incoming),
            piece: Vec::new(),
            digest: Sha256::new(),
            length: 0,
        }))
    }

    async fn read(&self, sha256: &str, number: u64) -> Result<Bytes, FilesError> {
        let sha256 = sha256.to_owned();
        self.with(move |store| store.read(&sha256, number)).await
    }

    async fn sweep(&self, in_use: &HashSet<String>, older_than: Duration) -> Result<usize, FilesError> {
        let in_use = in_use.clone();
        self.with(move |store| store.sweep(&in_use, older_than)).await
    }
}

#[cfg(test)]
mod tests {
    use drystone_api::emco::FileReference;

    use super::*;
    use crate::files::whole;

    async fn upload(store: &FileStore, bytes: &[u8]) -> Received {
        let mut upload = store.begin().await.unwrap();
        for piece in bytes.chunks(700_001) {
            upload.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        upload.finish().await.unwrap()
    }

    fn reference(received: &Received) -> FileReference {
        FileReference { sha256: received.sha256.clone(), length: received.length, name: String::new() }
    }

    #[tokio::test]
    async fn files_come_back_as_they_were_and_are_not_in_clear() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::open(directory.path(), &SealingKey::generate().unwrap()).unwrap();
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE + 5] {
            let bytes = b"a secret value! ".repeat(length / 16 + 1)[..length].to_vec();
            let received = upload(&store, &bytes).await;
            assert_eq!(received.length, length as u64);
            let path = store.0.path(&received.sha256).unwrap();
            assert!(!fs::read(path).unwrap().windows(8).any(|part| part == b"a secret"));
            assert_eq!(whole(&store, &reference(&received), u64::MAX).await.unwrap(), bytes, "{length}");
            if length > 10 {
                let refused = whole(&store, &reference(&received), 10).await;
                assert!(matches!(refused, Err(FilesError::TooLarge(..))));
            }
        }
    }

    #[tokio::test]
    async fn damage_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::open(directory.path(), &SealingKey::generate().unwrap()).unwrap();
        let received = upload(&store, &vec![7; 2 * PIECE]).await;
        let path = store.0.path(&received.sha256).unwrap();
        let good = fs::read(&path).unwrap();
        let is_damaged = async |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            matches!(whole(&store, &reference(&received), u64::MAX).await, Err(FilesError::Damaged(..)))
        };
        let mut changed = good.clone();
        changed[HEADER + 100] ^= 1;
        assert!(is_damaged(&changed).await);
        // The last piece is gone: the one before was not sealed as the last.
        assert!(is_damaged(&good[..HEADER + PIECE + OVERHEAD]).await);
        assert!(is_damaged(&good[..3]).await);
        assert!(is_damaged(b"").await);
        fs::write(&path, &good).unwrap();
        assert!(whole(&store, &reference(&received), u64::MAX).await.is_ok());
        let other = FileStore::open(directory.path(), &SealingKey::generate().unwrap()).unwrap();
        assert!(whole(&other, &reference(&received), u64::MAX).await.is_err());
    }

    #[tokio::test]
    async fn what_nobody_has_is_swept_and_what_was_not_finished_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::open(directory.path(), &SealingKey::generate().unwrap()).unwrap();
        let kept = upload(&store, b"kept").await;
        let lost = upload(&store, b"lost").await;
        let mut cut = store.begin().await.unwrap();
        cut.write(Bytes::from_static(b"cut")).await.unwrap();
        drop(cut);
        assert_eq!(fs::read_dir(directory.path().join(INCOMING)).unwrap().count(), 0);
        let in_use = HashSet::from([kept.sha256.clone()]);
        assert_eq!(store.sweep(&in_use, Duration::from_secs(3600)).await.unwrap(), 0);
        assert_eq!(store.sweep(&in_use, Duration::ZERO).await.unwrap(), 1);
        assert!(matches!(store.read(&lost.sha256, 0).await, Err(FilesError::Missing(_))));
        assert!(store.read(&kept.sha256, 0).await.is_ok());
        for odd in ["", "..", "../../etc/passwd", "é"] {
            assert!(matches!(store.read(odd, 0).await, Err(FilesError::Missing(_))), "{odd}");
        }
    }
}
