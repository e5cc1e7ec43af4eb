//! The database's file: made whole under another name first, so that a crash while it is made leaves none by half.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::engine::{backend, initialize};
use crate::StoreError;

/// Opens an existing file.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Makes an empty database (mode 0600) at `path` unless there is one.
pub(super) fn ensure(path: &Path) -> Result<(), StoreError> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0) {
        return Ok(());
    }
    let database = redb::Builder::new().create_file(begin(path)?).map_err(backend)?;
    initialize(&database)?;
    drop(database);
    put_in_place(path).map_err(|error| cannot_make(path, &error))
}

/// An empty file (mode 0600) that is to take the place of `path`.
pub(super) fn begin(path: &Path) -> Result<File, StoreError> {
    let unfinished = unfinished(path);
    // One that an interrupted attempt has left is of no use.
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(cannot_make(path, &error)),
        _ => {}
    }
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .map_err(|error| cannot_make(path, &error))
}

/// Gives the file that was [begun](begin) its name, durably.
pub(super) fn put_in_place(path: &Path) -> io::Result<()> {
    let unfinished = unfinished(path);
    open(&unfinished)?.sync_all()?;
    fs::rename(&unfinished, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(".unfinished");
    path.with_file_name(name)
}

fn cannot_make(path: &Path, error: &io::Error) -> StoreError {
    let text = format!("cannot make the database file {}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::NoSpace(text),
        _ => StoreError::Backend(text),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_interrupted_attempt_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        fs::write(unfinished(&path), b"half of a database").unwrap();
        fs::write(&path, b"").unwrap();
        ensure(&path).unwrap();
        assert!(redb::Database::open(&path).is_ok());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_directory_is_told() {
        let error = ensure(Path::new("/nonexistent/store")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/store"), "{error}");
    }
}
