//! Packages on disk, by the uid of the VnfPackage that has each.
//!
//! `incoming/UID.NUMBER` is what is arriving; `UID.zip` is what has arrived as a whole. A package takes its place by one rename, so that a kill at
//! any instant leaves what was there before, or the new one.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use sha2::{Digest, Sha256};

use crate::{archive::Limits, meta::hexadecimal, package::Package, problem::Problems};

/// Packages that are kept in memory at most.
const CACHED: usize = 64;

/// Why the library does not do what it is asked for.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// The uid cannot be the name of a file.
    #[error("`{0}` is not the uid of a package")]
    Uid(String),
    /// There is nothing of that uid.
    #[error("the package `{0}` has no content; upload it")]
    Missing(String),
    /// Another process uses the directory.
    #[error("{0} is in use by another process; stop that one, or use another directory")]
    InUse(PathBuf),
    /// More comes than is allowed.
    #[error("the package is larger than {0} bytes; leave out images, or raise the limit")]
    TooLarge(u64),
    /// Other than the declared number of bytes came.
    #[error("{received} bytes came of {declared} that were declared; upload it again")]
    Length {
        /// What was said.
        declared: u64,
        /// What came.
        received: u64,
    },
    /// A file cannot be read or written.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The package is not good.
    #[error(transparent)]
    Problems(#[from] Problems),
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LibraryError {
    let path = path.to_owned();
    move |source| LibraryError::Io { action, path, source }
}

/// A package that has arrived as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// SHA-256 of it, hexadecimal.
    pub digest: String,
    /// Its bytes.
    pub length: u64,
}

/// The packages of a directory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Library {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    limits: Limits,
    /// Bytes of a package at most.
    largest: u64,
    next: AtomicU64,
    cache: Mutex<Cache>,
    /// Locked, so that no other process works on the same files.
    _lock: File,
}

/// Packages that were read, and when each was last used.
#[derive(Debug, Default)]
struct Cache {
    clock: u64,
    packages: HashMap<String, (u64, Arc<Package>)>,
    /// How often a uid got another content, or lost it: what is read meanwhile is not kept.
    changes: BTreeMap<String, u64>,
}

impl Library {
    /// Opens, or makes, a library. What was arriving when the process was killed is removed. `largest` is how many bytes a package may have.
    ///
    /// # Errors
    /// [`LibraryError::InUse`] if another process has it; others if its files cannot be used.
    pub fn open(root: &Path, limits: Limits, largest: u64) -> Result<Self, LibraryError> {
        let incoming = root.join("incoming");
        fs::create_dir_all(&incoming).map_err(failed("making", &incoming))?;
        let lock_path = root.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock_path);
        let lock = lock.map_err(failed("opening", &lock_path))?;
        lock.try_lock().map_err(|_| LibraryError::InUse(root.to_owned()))?;
        for entry in fs::read_dir(&incoming).map_err(failed("reading", &incoming))? {
            let path = entry.map_err(failed("reading", &incoming))?.path();
            fs::remove_file(&path).map_err(failed("removing", &path))?;
        }
        let (next, cache) = (AtomicU64::new(0), Mutex::default());
        let inner = Inner { root: root.to_owned(), limits, largest, next, cache, _lock: lock };
        Ok(Self { inner: Arc::new(inner) })
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.inner.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Path of a package's content; it need not be there.
    ///
    /// # Errors
    /// If the uid is not one.
    pub fn path(&self, uid: &str) -> Result<PathBuf, LibraryError> {
        let plain = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'-';
        if uid.is_empty() || uid.len() > 64 || !uid.bytes().all(plain) {
            return Err(LibraryError::Uid(uid.to_owned()));
        }
        Ok(self.inner.root.join(format!("{uid}.zip")))
    }

    /// Whether the content of a package is there.
    pub fn has(&self, uid: &str) -> bool {
        self.path(uid).is_ok_and(|path| path.exists())
    }

    /// Uids of all packages that are there, in order.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn list(&self) -> Result<Vec<String>, LibraryError> {
        let root = &self.inner.root;
        let mut uids = Vec::new();
        for entry in fs::read_dir(root).map_err(failed("reading", root))? {
            let name = entry.map_err(failed("reading", root))?.file_name();
            uids.extend(name.to_str().and_then(|name| name.strip_suffix(".zip")).map(str::to_owned));
        }
        uids.sort();
        Ok(uids)
    }

    /// Begins to take in the content of a package. `declared` is how many bytes will come, if that is known.
    ///
    /// # Errors
    /// If more is declared than is allowed, or the file cannot be made.
    pub fn incoming(&self, uid: &str, declared: Option<u64>) -> Result<Incoming, LibraryError> {
        self.path(uid)?;
        let limit = self.inner.largest;
        if declared.is_some_and(|declared| declared > limit) {
            return Err(LibraryError::TooLarge(limit));
        }
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let path = self.inner.root.join("incoming").join(format!("{uid}.{number}"));
        let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path);
        let file = file.map_err(failed("making", &path))?;
        let (library, uid) = (self.clone(), uid.to_owned());
        Ok(Incoming { library, uid, path, file, declared, received: 0, hash: Sha256::new(), finished: false })
    }

    /// A package, read. The same object is given to all who ask, as long as it is in use or was so lately.
    ///
    /// # Errors
    /// [`LibraryError::Missing`] without content; [`LibraryError::Problems`] if it is not good.
    pub fn package(&self, uid: &str) -> Result<Arc<Package>, LibraryError> {
        let path = self.path(uid)?;
        let before = {
            let mut cache = self.cache();
            cache.clock += 1;
            let clock = cache.clock;
            if let Some((used, package)) = cache.packages.get_mut(uid) {
                *used = clock;
                return Ok(Arc::clone(package));
            }
            cache.changes.get(uid).copied()
        };
        if !path.exists() {
            return Err(LibraryError::Missing(uid.to_owned()));
        }
        let package = Arc::new(Package::open(&path, &self.inner.limits)?);
        let mut cache = self.cache();
        if cache.changes.get(uid).copied() == before {
            cache.keep(uid, &package);
        }
        Ok(package)
    }

    /// Opens the content of a package, with its bytes.
    ///
    /// # Errors
    /// [`LibraryError::Missing`] without content.
    pub fn read(&self, uid: &str) -> Result<(File, u64), LibraryError> {
        let path = self.path(uid)?;
        let file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => LibraryError::Missing(uid.to_owned()),
            _ => failed("opening", &path)(error),
        })?;
        let length = file.metadata().map_err(failed("reading", &path))?.len();
        Ok((file, length))
    }

    /// SHA-256 and length of the content of a package.
    ///
    /// # Errors
    /// [`LibraryError::Missing`] without content.
    pub fn digest(&self, uid: &str) -> Result<Committed, LibraryError> {
        let (mut file, _) = self.read(uid)?;
        let mut hash = Sha256::new();
        let length = io::copy(&mut file, &mut hash).map_err(failed("reading", &self.path(uid)?))?;
        Ok(Committed { digest: hexadecimal(&hash.finalize()), length })
    }

    /// Removes a package; one that is not there is removed already.
    ///
    /// # Errors
    /// If its file cannot be removed.
    pub fn remove(&self, uid: &str) -> Result<(), LibraryError> {
        let path = self.path(uid)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("removing", &path)(error));
            }
            _ => {}
        }
        self.cache().changed(uid);
        self.settle(&self.inner.root)
    }

    /// Makes the names of a directory durable.
    fn settle(&self, directory: &Path) -> Result<(), LibraryError> {
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("syncing", directory))
    }
}

impl Cache {
    fn changed(&mut self, uid: &str) {
        self.packages.remove(uid);
        *self.changes.entry(uid.to_owned()).or_default() += 1;
    }

    fn keep(&mut self, uid: &str, package: &Arc<Package>) {
        if self.packages.len() >= CACHED
            && let Some(oldest) =
                self.packages.iter().min_by_key(|(_, (used, _))| *used).map(|(uid, _)| uid.clone())
        {
            self.packages.remove(&oldest);
        }
        self.packages.insert(uid.to_owned(), (self.clock, Arc::clone(package)));
    }
}

/// The content of a package that is arriving. Dropped before [`Incoming::commit`], it leaves nothing.
#[derive(Debug)]
pub struct Incoming {
    library: Library,
    uid: String,
    path: PathBuf,
    file: File,
    declared: Option<u64>,
    received: u64,
    hash: Sha256,
    finished: bool,
}

impl Incoming {
    /// Takes in the next bytes. Blocks while they are written.
    ///
    /// # Errors
    /// If there are more than was declared, or is allowed, or the disk refuses them.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), LibraryError> {
        let received = self.received.saturating_add(bytes.len() as u64);
        if let Some(declared) = self.declared.filter(|declared| received > *declared) {
            return Err(LibraryError::Length { declared, received });
        }
        if received > self.library.inner.largest {
            return Err(LibraryError::TooLarge(self.library.inner.largest));
        }
        self.file.write_all(bytes).map_err(failed("writing", &self.path))?;
        self.hash.update(bytes);
        self.received = received;
        Ok(())
    }

    /// Bytes that came so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// What has come is the content of the package, durably; it takes the place of what was there. Blocks until it is on disk.
    ///
    /// # Errors
    /// If less came than was declared, or the disk refuses; then what was there before stays.
    pub fn commit(mut self) -> Result<Committed, LibraryError> {
        if let Some(declared) = self.declared.filter(|declared| *declared != self.received) {
            return Err(LibraryError::Length { declared, received: self.received });
        }
        let target = self.library.path(&self.uid)?;
        self.file.sync_all().map_err(failed("syncing", &self.path))?;
        fs::rename(&self.path, &target).map_err(failed("renaming", &self.path))?;
        self.finished = true;
        self.library.cache().changed(&self.uid);
        self.library.settle(&self.library.inner.root)?;
        Ok(Committed { digest: hexadecimal(&self.hash.finalize_reset()), length: self.received })
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.finished {
            // What is left over is removed when the library is opened again.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(root: &Path) -> Library {
        Library::open(root, Limits::default(), 1000).unwrap()
    }

    #[test]
    fn content_comes_and_goes() {
        let root = tempfile::tempdir().unwrap();
        let library = library(root.path());
        let mut incoming = library.incoming("a-1", Some(5)).unwrap();
        incoming.append(b"he").unwrap();
        assert!(!library.has("a-1"));
        incoming.append(b"llo").unwrap();
        let committed = incoming.commit().unwrap();
        assert_eq!(committed.digest, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
        assert_eq!(library.digest("a-1").unwrap(), committed);
        assert_eq!(library.list().unwrap(), ["a-1"]);
        assert!(matches!(library.package("a-1"), Err(LibraryError::Problems(_))));
        library.remove("a-1").unwrap();
        library.remove("a-1").unwrap();
        assert!(matches!(library.package("a-1"), Err(LibraryError::Missing(_))));
    }

    #[test]
    fn lengths_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let library = library(root.path());
        assert!(matches!(library.incoming("a", Some(1001)), Err(LibraryError::TooLarge(1000))));
        let mut more = library.incoming("a", Some(3)).unwrap();
        assert!(matches!(more.append(b"four"), Err(LibraryError::Length { declared: 3, received: 4 })));
        let mut fewer = library.incoming("a", Some(3)).unwrap();
        fewer.append(b"12").unwrap();
        assert!(matches!(fewer.commit(), Err(LibraryError::Length { declared: 3, received: 2 })));
        let mut unknown = library.incoming("a", None).unwrap();
        assert!(matches!(unknown.append(&[0; 1001]), Err(LibraryError::TooLarge(1000))));
        drop((more, unknown));
        assert!(!library.has("a"));
        assert_eq!(fs::read_dir(root.path().join("incoming")).unwrap().count(), 0);
    }

    #[test]
    fn a_kill_leaves_the_old_or_the_new() {
        let root = tempfile::tempdir().unwrap();
        let library = library(root.path());
        let put = |library: &Library, content: &[u8]| {
            let mut incoming = library.incoming("p", None).unwrap();
            incoming.append(content).unwrap();
            incoming
        };
        put(&library, b"old").commit().unwrap();
        let mut half = put(&library, b"ne");
        assert!(matches!(Library::open(root.path(), Limits::default(), 10), Err(LibraryError::InUse(_))));
        // As a kill would leave it: nothing is tidied up.
        half.finished = true;
        drop((half, library));
        assert_eq!(fs::read_dir(root.path().join("incoming")).unwrap().count(), 1);
        let library = self::library(root.path());
        assert_eq!(fs::read_dir(root.path().join("incoming")).unwrap().count(), 0);
        assert_eq!(library.digest("p").unwrap().length, 3);
        put(&library, b"newer").commit().unwrap();
        assert_eq!(library.digest("p").unwrap().length, 5);
    }

    #[test]
    fn uids_are_names_of_files() {
        let root = tempfile::tempdir().unwrap();
        let library = library(root.path());
        for wrong in ["", "../x", "a/b", "a.b", &"x".repeat(65)] {
            assert!(matches!(library.path(wrong), Err(LibraryError::Uid(_))), "{wrong}");
        }
    }
}
