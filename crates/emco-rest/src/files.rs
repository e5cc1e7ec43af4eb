//! Files of documents: charts, profiles, and what generic actions add. They are kept by digest, encrypted, beside the resources.

mod store;

use std::{collections::HashSet, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use drystone_api::emco::FileReference;
use sha2::{Digest as _, Sha256};

pub use store::FileStore;

/// Bytes that are read at once.
pub const PIECE: usize = 1 << 20;

/// Why a file cannot be kept or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilesError {
    /// It is not there.
    #[error("file {0} is not among the application files of this Drystone; upload it again")]
    Missing(String),
    /// It is not what was written.
    #[error("file {0} among the application files is damaged: {1}; upload it again")]
    Damaged(String, String),
    /// It is larger than whoever reads it wants.
    #[error("file {0} has {1} bytes, at most {2} are read")]
    TooLarge(String, u64, u64),
    /// The disk does not work.
    #[error("application files: {0}")]
    Failed(String),
}

/// What came in of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Received {
    /// SHA-256 of the bytes, hexadecimal.
    pub sha256: String,
    /// How many bytes.
    pub length: u64,
}

/// Files by their digests.
#[async_trait]
pub trait Files: Send + Sync + 'static {
    /// Begins to take a file in. What is dropped before it is finished leaves nothing.
    async fn begin(&self) -> Result<Box<dyn Upload>, FilesError>;

    /// Up to [`PIECE`] bytes of a file from piece `number` on, counted from 0; fewer only at the end, none behind it.
    async fn read(&self, sha256: &str, number: u64) -> Result<Bytes, FilesError>;

    /// Removes files that nobody has and that were uploaded longer ago than that; how many they were.
    async fn sweep(&self, in_use: &HashSet<String>, older_than: Duration) -> Result<usize, FilesError>;
}

/// A file on its way in.
#[async_trait]
pub trait Upload: Send {
    /// Appends bytes.
    async fn write(&mut self, bytes: Bytes) -> Result<(), FilesError>;

    /// What came in so far.
    fn received(&self) -> Received;

    /// All bytes are there: keeps them, durably.
    async fn finish(self: Box<Self>) -> Result<Received, FilesError>;
}

/// A whole file, checked against its digest; at most `most` bytes.
///
/// # Errors
/// [`FilesError`] if it is not there, damaged or larger.
pub async fn whole(files: &dyn Files, file: &FileReference, most: u64) -> Result<Vec<u8>, FilesError> {
    if file.length > most {
        return Err(FilesError::TooLarge(file.sha256.clone(), file.length, most));
    }
    let mut bytes = Vec::new();
    for number in 0.. {
        let piece = files.read(&file.sha256, number).await?;
        bytes.extend_from_slice(&piece);
        if piece.len() < PIECE {
            break;
        }
        if bytes.len() as u64 > most {
            return Err(FilesError::TooLarge(file.sha256.clone(), bytes.len() as u64, most));
        }
    }
    if hexadecimal(&Sha256::digest(&bytes)) != file.sha256 {
        return Err(FilesError::Damaged(file.sha256.clone(), "its digest is another one".to_owned()));
    }
    Ok(bytes)
}

/// Bytes as hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
