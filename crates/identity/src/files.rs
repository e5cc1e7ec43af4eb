//! Keeping secrets in files: written whole or not at all, readable by their owner alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rand::Rng;

/// Mode of a file that only its owner may read.
pub const PRIVATE: u32 = 0o600;
/// Mode of a file that everybody may read.
pub const PUBLIC: u32 = 0o644;

/// A file that could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl FileError {
    /// For files that are not written here; `action` is a verb, such as `remove`.
    pub fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self { action, path: path.to_owned(), source }
    }

    /// Why.
    pub fn io(&self) -> &io::Error {
        &self.source
    }
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> FileError + 'a {
    move |source| FileError::new(action, path, source)
}

/// Writes a file with mode 0600, atomically and durably: after a crash it has the old contents or the new.
///
/// # Errors
/// [`FileError`] if it cannot be written; the old file is then untouched.
pub fn write_private(path: &Path, contents: &[u8]) -> Result<(), FileError> {
    write(path, contents, PRIVATE)
}

/// Writes a file with mode 0644, atomically and durably.
///
/// # Errors
/// [`FileError`] if it cannot be written; the old file is then untouched.
pub fn write_public(path: &Path, contents: &[u8]) -> Result<(), FileError> {
    write(path, contents, PUBLIC)
}

fn write(path: &Path, contents: &[u8], mode: u32) -> Result<(), FileError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let temporary = temporary_beside(path);
    let result = write_new(&temporary, contents, mode)
        .and_then(|()| fs::rename(&temporary, path))
        // The new name is durable only when its directory is.
        .and_then(|()| File::open(directory)?.sync_all());
    if result.is_err() {
        // It may not even exist; the first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    result.map_err(failed("write", path))
}

fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{:016x}", rand::rng().random::<u64>()));
    path.with_file_name(name)
}

fn write_new(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // The mode at creation is cut down by the umask; what is wanted is exact.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(contents)?;
    file.sync_all()
}

/// Makes a directory, with its parents, that only its owner may enter; one that exists gets that mode.
///
/// # Errors
/// [`FileError`] if it cannot be made, or is not a directory.
pub fn private_directory(path: &Path) -> Result<(), FileError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("make the directory", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
        .map_err(failed("protect the directory", path))
}

/// Reads a file; `None` if there is none.
///
/// # Errors
/// [`FileError`] if it exists and cannot be read.
pub fn read_if_exists(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs::read(path) {
        Ok(contents) => Ok(Some(contents)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn secrets_are_private_and_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let private = directory.path().join("a/b");
        private_directory(&private).unwrap();
        assert_eq!(mode(&private), 0o700);
        let path = private.join("key");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(&private).unwrap().count(), 1, "no temporary file is left");
        write_public(&path, b"three").unwrap();
        assert_eq!(mode(&path), 0o644);
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("taken");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("file"), b"").unwrap();
        let error = write_private(&path, b"x").unwrap_err();
        assert!(error.to_string().contains("taken"), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_file_is_none() {
        let directory = tempfile::tempdir().unwrap();
        assert!(read_if_exists(&directory.path().join("none")).unwrap().is_none());
    }
}
