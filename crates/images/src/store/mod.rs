//! The bytes: `uploads/{id}/` holds what has arrived of an image with a record of how much of it is safe, `blobs/sha256/{digest}` what is
//! complete. Records are the truth; what the API shows is a copy.
//!
//! A crash at any instant leaves no record of more than is on disk. What it leaves half done is finished, or undone, when the
//! store is opened.

mod blobs;
mod error;
mod files;
mod record;
mod session;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::{Rng as _, distr::Alphanumeric};
use tokio_util::sync::CancellationToken;

pub use error::StoreError;
pub use record::{Facts, Finished, UploadId};
pub use writer::Writer;

use crate::digest::Digest;
use blobs::Blobs;
use record::Record;
use session::{Session, Warm};

/// How long a new upload waits for the one before it to stop.
const TAKEOVER: Duration = Duration::from_secs(30);

/// Looks at an image before it is taken in: what it is, or why it is refused. Gets the bytes and how many there are; may block.
pub type Inspect = Box<dyn FnOnce(&File, u64) -> Result<Facts, String> + Send>;

/// An image store in a directory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    identity: String,
    uploads: Mutex<HashMap<UploadId, Arc<Upload>>>,
    blobs: Blobs,
    /// Locked, so that no other process works on the same files.
    _lock: File,
}

/// What is known of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Bytes of the whole.
    pub length: u64,
    /// Bytes from the beginning that are safe.
    pub offset: u64,
    /// What it became.
    pub finished: Option<Finished>,
    /// It was complete, and its bytes are gone.
    pub lost: bool,
}

/// An upload in memory.
#[derive(Debug)]
struct Upload {
    id: UploadId,
    directory: PathBuf,
    record: RwLock<Record>,
    place: Arc<tokio::sync::Mutex<Option<Warm>>>,
    /// Tells whoever adds to it to stop.
    interrupt: Mutex<CancellationToken>,
    gone: AtomicBool,
}

impl Upload {
    fn new(id: UploadId, directory: PathBuf, record: Record) -> Self {
        let (place, interrupt, gone) = Default::default();
        Self { id, directory, record: RwLock::new(record), place, interrupt, gone }
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn record_path(&self) -> PathBuf {
        self.directory.join("record.json")
    }

    fn record(&self) -> Record {
        self.record.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, record: Record) {
        *self.record.write().unwrap_or_else(PoisonError::into_inner) = record;
    }

    /// Stops whoever adds to it; what comes now is stopped by the returned token.
    fn take_over(&self) -> CancellationToken {
        let mut current = self.interrupt.lock().unwrap_or_else(PoisonError::into_inner);
        current.cancel();
        *current = CancellationToken::new();
        current.clone()
    }
}

impl Store {
    /// Opens, or makes, a store; brings what a crash left half done to an end.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process has it; others if its files cannot be read.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let uploads_directory = root.join("uploads");
        files::make_directory(root)?;
        files::make_directory(&uploads_directory)?;
        let lock = files::open_or_create(&root.join("lock"))?;
        lock.try_lock().map_err(|_| StoreError::InUse(root.to_owned()))?;
        let identity = identity(&root.join("id"))?;
        let mut uploads = HashMap::new();
        let mut users: HashMap<Digest, HashSet<UploadId>> = HashMap::new();
        let entries = fs::read_dir(&uploads_directory).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        for entry in entries.map_err(StoreError::io("read", &uploads_directory))? {
            let directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let id = UploadId::new(&entry.file_name().to_string_lossy()).ok().filter(|_| directory);
            let Some(id) = id else {
                tracing::warn!("{}: not of the image store, and left alone", entry.path().display());
                continue;
            };
            let record = Record::read(&entry.path().join("record.json"))?;
            let upload = Upload::new(id.clone(), entry.path(), record.unwrap_or_else(|| Record::empty(0)));
            if let Some(finished) = upload.record().finished {
                users.entry(finished.digest).or_default().insert(id.clone());
            }
            uploads.insert(id, Arc::new(upload));
        }
        let blobs = Blobs::open(root.join("blobs/sha256"), users)?;
        for upload in uploads.values() {
            settle(upload, &blobs)?;
        }
        // What has no record is as if it had never begun.
        uploads.retain(|_, upload| upload.record_path().exists());
        let inner =
            Inner { root: root.to_owned(), identity, uploads: Mutex::new(uploads), blobs, _lock: lock };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Tells this store from those of other Drystones on the same API.
    pub fn identity(&self) -> &str {
        &self.inner.identity
    }

    fn uploads(&self) -> MutexGuard<'_, HashMap<UploadId, Arc<Upload>>> {
        self.inner.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every upload that the store knows, finished or not.
    pub fn list(&self) -> Vec<UploadId> {
        let mut list: Vec<UploadId> = self.uploads().keys().cloned().collect();
        list.sort();
        list
    }

    /// State of an upload; `None` if nothing of it has come.
    pub fn look(&self, id: &UploadId) -> Option<Snapshot> {
        let record = self.uploads().get(id)?.record();
        let lost = record
            .finished
            .as_ref()
            .is_some_and(|finished| !self.inner.blobs.has(&finished.digest, record.length));
        let offset = if lost { 0 } else { record.offset };
        Some(Snapshot { length: record.length, offset, finished: record.finished.filter(|_| !lost), lost })
    }

    /// Opens what is complete for reading, with its length.
    ///
    /// # Errors
    /// If it is not there.
    pub fn read(&self, digest: &Digest) -> std::io::Result<(File, u64)> {
        self.inner.blobs.read(digest)
    }

    /// Bytes that can still be stored.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the file system does not say.
    pub fn room(&self) -> Result<u64, StoreError> {
        let root = &self.inner.root;
        let figures = nix::sys::statvfs::statvfs(root)
            .map_err(|error| StoreError::io("ask for the room of", root)(error.into()))?;
        Ok(figures.blocks_available().saturating_mul(figures.fragment_size()))
    }

    /// Begins, or goes on with, an upload. Whoever was adding to it is stopped first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin(&self, id: &UploadId, length: u64) -> Result<Writer, StoreError> {
        let upload = {
            let mut uploads = self.uploads();
            let directory = self.inner.root.join("uploads").join(id.as_str());
            let new = || Arc::new(Upload::new(id.clone(), directory, Record::empty(length)));
            Arc::clone(uploads.entry(id.clone()).or_insert_with(new))
        };
        let interrupted = upload.take_over();
        let place = self.wait_for(&upload, &interrupted).await?;
        let store = self.clone();
        let session = blocking(move || {
            let record = upload.record();
            if record.length != length && record.offset > 0 && record.finished.is_none() {
                return Err(StoreError::LengthChanged { was: record.length, is: length });
            }
            let snapshot = store.look(&upload.id);
            if snapshot.as_ref().is_some_and(|snapshot| snapshot.finished.is_some()) {
                return Err(StoreError::Complete);
            }
            if snapshot.is_some_and(|snapshot| snapshot.lost) {
                store.forget_blob(&upload, length)?;
            } else if record.length != length {
                upload.set(Record::empty(length));
            }
            Session::resume(upload, place)
        });
        Ok(Writer::new(self.clone(), session.await?, interrupted))
    }

    /// Waits until nobody else adds to the upload.
    async fn wait_for(
        &self,
        upload: &Arc<Upload>,
        interrupted: &CancellationToken,
    ) -> Result<tokio::sync::OwnedMutexGuard<Option<Warm>>, StoreError> {
        let place = tokio::select! {
            place = tokio::time::timeout(TAKEOVER, Arc::clone(&upload.place).lock_owned()) => {
                place.map_err(|_| StoreError::Busy)?
            }
            () = interrupted.cancelled() => return Err(StoreError::Superseded),
        };
        if upload.gone.load(Ordering::Acquire) { Err(StoreError::Gone) } else { Ok(place) }
    }

    /// What was complete is not any more: writes that down, and removes the bytes unless others have the same.
    fn forget_blob(&self, upload: &Upload, length: u64) -> Result<(), StoreError> {
        let Some(finished) = upload.record().finished else { return Ok(()) };
        self.inner.blobs.release(&finished.digest, &upload.id, || {
            let record = Record::empty(length);
            record.write(&upload.record_path())?;
            upload.set(record);
            Ok(())
        })
    }

    /// Takes an upload back to `offset`, for an image of this length; 0 begins anew, also with what is complete.
    ///
    /// # Errors
    /// [`StoreError::Beyond`] if fewer bytes are here, or the upload is complete and `offset` is not 0.
    pub async fn rewind(&self, id: &UploadId, offset: u64, length: u64) -> Result<(), StoreError> {
        let Some(upload) = self.uploads().get(id).cloned() else {
            return if offset == 0 { Ok(()) } else { Err(StoreError::Beyond { to: offset, offset: 0 }) };
        };
        let place = self.wait_for(&upload, &upload.take_over()).await?;
        let store = self.clone();
        blocking(move || {
            if upload.record().finished.is_some() {
                if offset > 0 {
                    return Err(StoreError::Beyond { to: offset, offset: 0 });
                }
                store.forget_blob(&upload, length)?;
            }
            let mut session = Session::resume(upload, place)?;
            session.shorten(offset, length)?;
            session.rest();
            Ok(())
        })
        .await
    }

    /// Forgets an upload: stops whoever adds to it, removes what is there, and the bytes if no other image has the same.
    ///
    /// # Errors
    /// [`StoreError`]; calling it again goes on.
    pub async fn remove(&self, id: &UploadId) -> Result<(), StoreError> {
        let Some(upload) = self.uploads().get(id).cloned() else { return Ok(()) };
        upload.take_over();
        // Whoever comes now waits, and finds it gone: a deletion gives way to nobody.
        let place = match self.wait_for(&upload, &CancellationToken::new()).await {
            Err(StoreError::Gone) => return Ok(()),
            place => place?,
        };
        let store = self.clone();
        blocking(move || {
            let record = upload.record();
            let erase = || files::remove(&upload.record_path());
            match &record.finished {
                Some(finished) => store.inner.blobs.release(&finished.digest, &upload.id, erase)?,
                None => erase()?,
            }
            files::remove(&upload.data())?;
            if upload.directory.exists() {
                fs::remove_dir(&upload.directory).map_err(StoreError::io("remove", &upload.directory))?;
            }
            upload.gone.store(true, Ordering::Release);
            store.uploads().remove(&upload.id);
            drop(place);
            Ok(())
        })
        .await
    }

    /// Takes in what is whole. Everything that is wrong with it is found before; it is dropped then.
    fn commit(
        &self,
        mut session: Session,
        expected: &[Digest],
        inspect: Inspect,
    ) -> Result<Finished, StoreError> {
        // The record of all bytes is written with what they are found to be, at once.
        session.sync()?;
        let digest = session.digest();
        let (file, upload) = session.parts();
        let upload = Arc::clone(upload);
        let record = upload.record();
        let wrong = expected.iter().find(|expected| **expected != digest);
        let facts = match wrong {
            Some(expected) => Err(StoreError::Digest { expected: *expected, actual: digest }),
            None => inspect(file, record.length).map_err(StoreError::Refused),
        };
        let facts = match facts {
            Ok(facts) => facts,
            Err(error) => {
                session.restart(record.length)?;
                return Err(error);
            }
        };
        let finished = Finished { digest, facts };
        let offset = record.length;
        let whole = Record { offset, prefix: digest, finished: Some(finished.clone()), ..record.clone() };
        let note = || whole.write(&upload.record_path());
        let taken = self.inner.blobs.take(digest, &upload.id, &upload.data(), note);
        if let Err(error) = taken {
            // The record may say that it is complete. If this cannot be taken back either, opening the store makes it so.
            record.write(&upload.record_path())?;
            return Err(error);
        }
        upload.set(whole);
        session.rest();
        Ok(finished)
    }
}

/// Brings an upload to the state that its record says.
fn settle(upload: &Upload, blobs: &Blobs) -> Result<(), StoreError> {
    files::remove(&upload.record_path().with_extension("new"))?;
    let record = upload.record();
    if !upload.record_path().exists() {
        files::remove(&upload.data())?;
        return fs::remove_dir(&upload.directory).map_err(StoreError::io("remove", &upload.directory));
    }
    if record.length == 0 {
        // The record was damaged.
        files::remove(&upload.data())?;
        return files::remove(&upload.record_path());
    }
    match &record.finished {
        Some(finished) if upload.data().exists() => blobs.move_in(&finished.digest, &upload.data()),
        _ => Ok(()),
    }
}

/// Reads the store's identity, or makes one.
fn identity(path: &Path) -> Result<String, StoreError> {
    match fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(StoreError::io("read", path)(error)),
    }
    let letters = rand::rng().sample_iter(&Alphanumeric).take(20).map(char::from);
    let identity = letters.collect::<String>().to_lowercase();
    files::replace(path, identity.as_bytes())?;
    Ok(identity)
}

/// Runs what blocks on a thread for such things.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Worker(error.to_string()))?
}
