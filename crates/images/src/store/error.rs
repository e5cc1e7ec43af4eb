//! What can go wrong with the store.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::digest::Digest;

/// Why the store did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no room. What was acknowledged before is still there.
    #[error(
        "the image store is full: cannot {action} {}; make room, then go on with the upload from its offset",
        path.display()
    )]
    Full {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
    },
    /// The file system failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process has the store.
    #[error("the image store {} is in use by another Drystone; give this one another --data", .0.display())]
    InUse(PathBuf),
    /// What was meant to be the name of an upload could lead elsewhere.
    #[error("{0:?} does not name an upload")]
    Name(String),
    /// The upload was deleted while it went on.
    #[error("the image was deleted meanwhile")]
    Gone,
    /// A newer upload of the same image took over.
    #[error(
        "another upload of the same image took over; ask for the offset and go on from there, if it stopped"
    )]
    Superseded,
    /// The one before did not stop in time.
    #[error("another upload of the same image does not come to its end; try again in a minute")]
    Busy,
    /// More bytes than the image has.
    #[error(
        "more bytes were sent than the image has ({length}); the upload is where it was before this request"
    )]
    TooLong {
        /// Bytes that the image was said to have.
        length: u64,
    },
    /// There is nothing to add to.
    #[error("the image is complete; PUT with `image_offset` 0 begins anew")]
    Complete,
    /// The image was said to be of another length when its upload began.
    #[error(
        "the upload was begun with a length of {was} bytes, not {is}; begin anew with PUT and `image_offset` 0"
    )]
    LengthChanged {
        /// Length that was said.
        was: u64,
        /// Length that is said now.
        is: u64,
    },
    /// Nobody can go on from where nothing is.
    #[error("the offset cannot be set to {to}: only {offset} bytes are here")]
    Beyond {
        /// Offset asked for.
        to: u64,
        /// Bytes that are here.
        offset: u64,
    },
    /// All is there, and it is something else.
    #[error(
        "the bytes that came have the digest {actual}, not {expected}; they were dropped, send the image again"
    )]
    Digest {
        /// What was said.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// All is there, and it is nothing of the kind.
    #[error("the image is refused: {0}; what came was dropped")]
    Refused(String),
    /// The worker thread did not come to its end.
    #[error("a worker of the image store ended early: {0}")]
    Worker(String),
}

impl StoreError {
    /// Makes an error out of one of the file system's.
    pub(crate) fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { action, path: path.to_owned() }
            }
            _ => Self::Io { action, path: path.to_owned(), source },
        }
    }
}
