//! The state directory of an emulated site: one emulator at a time, every file whole, secrets for the owner only.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rand::{Rng as _, distr::Alphanumeric};
use serde::{Serialize, de::DeserializeOwned};

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another emulator has it.
    #[error(
        "{directory}: another emulator is running with this state directory; stop it, or choose another directory"
    )]
    Locked {
        /// The directory.
        directory: PathBuf,
    },
    /// The file system refuses.
    #[error("{path}: {source}")]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file holds something else than it should.
    #[error("{path}: not what an emulator writes: {reason}; restore it, or remove it to begin anew")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// A state directory that this process has for itself. Cheap to share; the lock ends with the process.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    _lock: File,
}

impl StateDirectory {
    /// Makes the directory if needed, for the owner only, and locks it.
    ///
    /// # Errors
    /// Another emulator has it, or the file system refuses.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let failed = |at: &Path| {
            let at = at.to_owned();
            move |source| StateError::File { path: at, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed(path))?;
        let path = path.canonicalize().map_err(failed(path))?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(failed(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StateError::Locked { directory: path }),
            Err(TryLockError::Error(source)) => Err(StateError::File { path: lock_path, source }),
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a directory inside, for the owner only.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn directory(&self, name: &str) -> Result<PathBuf, StateError> {
        let path = self.path.join(name);
        match fs::DirBuilder::new().recursive(true).mode(0o700).create(&path) {
            Ok(()) => Ok(path),
            Err(source) => Err(StateError::File { path, source }),
        }
    }

    /// A password kept in the directory under a name; made the first time.
    ///
    /// # Errors
    /// The file system refuses, or the file is empty.
    pub fn password(&self, name: &str) -> Result<String, StateError> {
        let path = self.path.join(name);
        match fs::read_to_string(&path) {
            Ok(text) if text.trim().is_empty() => {
                Err(StateError::Content { path, reason: "it is empty".to_owned() })
            }
            Ok(text) => Ok(text.trim().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let password: String =
                    rand::rng().sample_iter(Alphanumeric).take(24).map(char::from).collect();
                write_file(&path, format!("{password}\n").as_bytes())?;
                Ok(password)
            }
            Err(source) => Err(StateError::File { path, source }),
        }
    }
}

/// Reads a file of JSON; `None` if there is none.
///
/// # Errors
/// The file system refuses, or the file holds something else.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| StateError::Content { path: path.to_owned(), reason: error.to_string() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateError::File { path: path.to_owned(), source }),
    }
}

/// Writes a file of JSON so that it is whole and durable when this returns; mode 0600.
///
/// # Errors
/// The file system refuses; the old file is then still there.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), StateError> {
    let text = serde_json::to_vec(value)
        .map_err(|error| StateError::Content { path: path.to_owned(), reason: error.to_string() })?;
    write_file(path, &text)
}

/// The same, off the threads that serve requests; returns how many bytes were written.
pub(crate) async fn write_json_soon<T: Serialize>(path: &Path, value: &T) -> Result<usize, StateError> {
    let text = serde_json::to_vec(value)
        .map_err(|error| StateError::Content { path: path.to_owned(), reason: error.to_string() })?;
    let (target, size) = (path.to_owned(), text.len());
    let written = tokio::task::spawn_blocking(move || write_file(&target, &text).map(|()| size)).await;
    written.unwrap_or_else(|error| {
        Err(StateError::File { path: path.to_owned(), source: io::Error::other(error) })
    })
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    replace(path, bytes).map_err(|source| StateError::File { path: path.to_owned(), source })
}

/// Writes beside, syncs, renames, syncs the directory: whoever reads sees the old file or the new one.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = directory.join(name);
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn one_emulator_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = StateDirectory::open(directory.path()).unwrap();
        assert!(matches!(StateDirectory::open(directory.path()), Err(StateError::Locked { .. })));
        drop(first);
        StateDirectory::open(directory.path()).unwrap();
    }

    #[test]
    fn secrets_are_kept_for_the_owner_and_stay_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(&directory.path().join("a/b")).unwrap();
        let password = state.password("password").unwrap();
        assert_eq!((password.len(), state.password("password").unwrap()), (24, password));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(state.path()), mode(&state.path().join("password"))), (0o700, 0o600));
    }

    #[test]
    fn a_damaged_file_is_told_by_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.json");
        assert!(read_json::<u32>(&path).unwrap().is_none());
        write_json(&path, &7_u32).unwrap();
        assert_eq!(read_json::<u32>(&path).unwrap(), Some(7));
        fs::write(&path, "{").unwrap();
        assert!(read_json::<u32>(&path).unwrap_err().to_string().contains("x.json"));
    }
}
