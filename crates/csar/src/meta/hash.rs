//! Hashes of files.

use std::{fmt, io::Write};

use serde::Serialize;
use sha2::{Sha224, Sha256, Sha384, Sha512};

use crate::archive::{Archive, FileError};

/// How a hash is made. Written as SOL003 writes it: `SHA-256`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Algorithm {
    /// SHA-224.
    #[serde(rename = "SHA-224")]
    Sha224,
    /// SHA-256.
    #[serde(rename = "SHA-256")]
    Sha256,
    /// SHA-384.
    #[serde(rename = "SHA-384")]
    Sha384,
    /// SHA-512.
    #[serde(rename = "SHA-512")]
    Sha512,
}

impl Algorithm {
    /// By its name: `SHA-256`, `sha256`, …
    pub fn from_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().replace(['-', '_'], "").as_str() {
            "sha224" => Some(Self::Sha224),
            "sha256" => Some(Self::Sha256),
            "sha384" => Some(Self::Sha384),
            "sha512" => Some(Self::Sha512),
            _ => None,
        }
    }

    /// Digits of a hash.
    fn digits(self) -> usize {
        match self {
            Self::Sha224 => 56,
            Self::Sha256 => 64,
            Self::Sha384 => 96,
            Self::Sha512 => 128,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Sha224 => "SHA-224",
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
            Self::Sha512 => "SHA-512",
        })
    }
}

/// A hash with its algorithm (SOL003's Checksum).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checksum {
    /// How it is made.
    pub algorithm: Algorithm,
    /// Hexadecimal, lower case.
    pub hash: String,
}

impl Checksum {
    /// Of what is written in metadata.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(algorithm: &str, hash: &str) -> Result<Self, String> {
        let known = Algorithm::from_name(algorithm)
            .ok_or_else(|| format!("the algorithm `{algorithm}` is not known"))?;
        if hash.len() != known.digits() || !hash.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(format!("a {known} has {} hexadecimal digits, which this is not", known.digits()));
        }
        Ok(Self { algorithm: known, hash: hash.to_ascii_lowercase() })
    }

    /// Of a file of a package.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of_file(archive: &Archive, name: &str, algorithm: Algorithm) -> Result<Self, FileError> {
        let hash = match algorithm {
            Algorithm::Sha224 => hash_file::<Sha224>(archive, name)?,
            Algorithm::Sha256 => hash_file::<Sha256>(archive, name)?,
            Algorithm::Sha384 => hash_file::<Sha384>(archive, name)?,
            Algorithm::Sha512 => hash_file::<Sha512>(archive, name)?,
        };
        Ok(Self { algorithm, hash })
    }
}

fn hash_file<D: sha2::Digest>(archive: &Archive, name: &str) -> Result<String, FileError> {
    let mut sink = Hasher(D::new());
    archive.copy(name, &mut sink)?;
    Ok(hexadecimal(&sink.0.finalize()))
}

/// Hashes what is written to it.
struct Hasher<D>(D);

impl<D: sha2::Digest> Write for Hasher<D> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
