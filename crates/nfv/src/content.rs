//! Where the content of packages lies: the package library, as the service needs it.

use async_trait::async_trait;
use bytes::Bytes;

/// Why content is not taken in or found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// There is none of that name.
    #[error("{0}")]
    NotFound(String),
    /// It is larger than the library takes.
    #[error("{0}")]
    TooLarge(String),
    /// It is not what it should be.
    #[error("{0}")]
    Invalid(String),
    /// The library failed.
    #[error("{0}")]
    Failed(String),
}

/// What has been taken in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Received {
    /// SHA-256 of the bytes, hexadecimal.
    pub sha256: String,
    /// How many bytes.
    pub length: u64,
}

/// The files of a VNFD.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vnfd {
    /// Its only file, if it has no more.
    pub single: Option<Bytes>,
    /// All of them, as a zip archive.
    pub archive: Bytes,
}

/// The package library. Packages are named by the uid of their `VnfPackage`.
#[async_trait]
pub trait Content: Send + Sync + 'static {
    /// Begins to take content in, of this length if that is known. What is dropped before it is finished leaves nothing.
    async fn begin(&self, uid: &str, length: Option<u64>) -> Result<Box<dyn Upload>, ContentError>;

    /// How many bytes the content of a package has.
    async fn length(&self, uid: &str) -> Result<u64, ContentError>;

    /// Up to `most` bytes of the content from `start` on; fewer only at the end.
    async fn read(&self, uid: &str, start: u64, most: usize) -> Result<Bytes, ContentError>;

    /// The VNFD of a package.
    async fn vnfd(&self, uid: &str) -> Result<Vnfd, ContentError>;

    /// A file of a package, by its path inside.
    async fn artifact(&self, uid: &str, path: &str) -> Result<Bytes, ContentError>;
}

/// Content on its way in.
#[async_trait]
pub trait Upload: Send {
    /// Appends bytes.
    async fn write(&mut self, bytes: Bytes) -> Result<(), ContentError>;

    /// All bytes are there: keeps them, durably, in the place of what was there before.
    async fn finish(self: Box<Self>) -> Result<Received, ContentError>;
}
