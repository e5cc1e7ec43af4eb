//! The few things that the store does with files, each durable when it returns.
//!
//! Tests look at the directory between any two of them: that is what a crash would leave.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use super::StoreError;

/// Makes a directory, with its parents, that only its owner may enter.
pub(super) fn make_directory(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .and_then(|()| path.parent().map_or(Ok(()), sync_directory))
        .map_err(StoreError::io("make the directory", path))?;
    observed();
    Ok(())
}

/// Replaces a file as a whole.
pub(super) fn replace(path: &Path, contents: &[u8]) -> Result<(), StoreError> {
    let new = path.with_extension("new");
    let written = create(&new)
        .and_then(|mut file| {
            file.write_all(contents)?;
            observed();
            file.sync_all()
        })
        .and_then(|()| fs::rename(&new, path))
        .and_then(|()| path.parent().map_or(Ok(()), sync_directory));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&new);
    }
    written.map_err(StoreError::io("write", path))?;
    observed();
    Ok(())
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Opens a file for reading and writing; makes it if there is none.
pub(super) fn open_or_create(path: &Path) -> Result<File, StoreError> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(StoreError::io("open", path))?;
    observed();
    Ok(file)
}

/// Gives a file another name, in another directory.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to)
        .and_then(|()| to.parent().map_or(Ok(()), sync_directory))
        .map_err(StoreError::io("rename to", to))?;
    observed();
    Ok(())
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Ok(()) => path
            .parent()
            .map_or(Ok(()), sync_directory)
            .map_err(StoreError::io("make durable that there is no", path))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::io("remove", path)(error)),
    }
    observed();
    Ok(())
}

/// Makes names in a directory durable.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
thread_local! {
    /// Called between any two changes of files by this thread.
    pub(super) static OBSERVER: std::cell::RefCell<Option<Box<dyn FnMut()>>> = const { std::cell::RefCell::new(None) };
}

/// A crash could come now.
#[cfg(test)]
pub(super) fn observed() {
    OBSERVER.with_borrow_mut(|observer| {
        if let Some(observer) = observer {
            observer();
        }
    });
}

/// A crash could come now.
#[cfg(not(test))]
pub(super) const fn observed() {}
