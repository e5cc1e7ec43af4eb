//! What is written down of an upload: how much of it is safe, and what became of it.

use std::{fmt, fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::{StoreError, files};
use crate::digest::Digest;

/// Largest file that is taken for a record, in bytes.
const MAX_RECORD: u64 = 1024 * 1024;
/// Longest name of an upload.
const MAX_NAME: usize = 64;

/// Name of an upload: the uid of its Artifact, so that an image which is deleted and made again never meets its old bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UploadId(String);

impl UploadId {
    /// Checks that it is a plain name, for it becomes one of a directory.
    ///
    /// # Errors
    /// [`StoreError::Name`] if it has other characters than letters, digits and `-`.
    pub fn new(name: &str) -> Result<Self, StoreError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(plain) {
            return Err(StoreError::Name(name.chars().take(100).collect()));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What was found out about an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// What it was recognised as; empty if nothing is known.
    #[serde(default)]
    pub format: String,
    /// Bytes of the disk that it unfolds to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<u64>,
    /// Names of the container images in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
}

/// What an upload became.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finished {
    /// Its digest, which is where its bytes are.
    pub digest: Digest,
    /// What it is.
    #[serde(default)]
    pub facts: Facts,
}

/// State of an upload that survives a crash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    /// Bytes of the whole.
    pub(super) length: u64,
    /// Bytes from the beginning that are safe.
    pub(super) offset: u64,
    /// Their digest: damage on disk is found before anything is added to it.
    pub(super) prefix: Digest,
    /// Once all has come and was found good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) finished: Option<Finished>,
}

impl Record {
    /// Of an upload that has not begun.
    pub(super) fn empty(length: u64) -> Self {
        Self { length, offset: 0, prefix: Digest::of(b""), finished: None }
    }

    /// Reads a record; `None` if there is none, or none that can be understood: nothing is known of such an upload.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, StoreError> {
        let failed = StoreError::io("read", path);
        let text = match fs::metadata(path) {
            Ok(metadata) if metadata.len() > MAX_RECORD => Vec::new(),
            Ok(_) => fs::read(path).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let record = Self::parse(&text);
        if record.is_none() {
            tracing::error!("{}: damaged; the upload begins anew", path.display());
        }
        Ok(record)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(text).ok().filter(|record| record.offset <= record.length)
    }

    /// Writes it down.
    pub(super) fn write(&self, path: &Path) -> Result<(), StoreError> {
        let text = serde_json::to_vec(self)
            .map_err(|error| StoreError::io("write", path)(io::Error::other(error)))?;
        files::replace(path, &text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        assert!(UploadId::new("0a1b-2c").is_ok());
        for wrong in ["", ".", "..", "a/b", "a\\b", "a\0", "a b", "é", &"a".repeat(65)] {
            assert!(UploadId::new(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_record_is_answered(text in drystone_hostile::damaged([
            serde_json::to_vec(&Record { finished: Some(Finished { digest: Digest::of(b"x"), facts: Facts::default() }),
                                         ..Record::empty(10) }).unwrap(),
        ])) {
            if let Some(record) = Record::parse(&text) { prop_assert!(record.offset <= record.length); }
        }
    }
}
