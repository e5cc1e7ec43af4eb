//! Digests of images, made while they stream.

use aws_lc_rs::digest::{Context, SHA256, SHA512};
use md5::{Digest as _, Md5};

use crate::protocol::ChecksumType;

/// What a digest must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    kind: Kind,
    hex: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Md5,
    Sha256,
    Sha512,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
            Self::Sha512 => "SHA-512",
        }
    }

    const fn letters(self) -> usize {
        match self {
            Self::Md5 => 32,
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// What is wrong with a checksum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChecksumError {
    /// It is no digest.
    #[error("image.checksum {text:?} is no {kind} digest: {wanted} hexadecimal digits are needed")]
    Malformed {
        /// As given.
        text: String,
        /// What it should be.
        kind: &'static str,
        /// How long that is.
        wanted: String,
    },
    /// The file of checksums does not name the image.
    #[error("the file of checksums has no line for {0:?}")]
    NotListed(
        /// File name of the image.
        String,
    ),
    /// The image is another.
    #[error("the {kind} digest of the image is {found}, but should be {expected}")]
    Differs {
        /// Kind of digest.
        kind: &'static str,
        /// What was fetched.
        found: String,
        /// What was expected.
        expected: String,
    },
}

impl Expected {
    /// Reads a hexadecimal digest.
    ///
    /// # Errors
    /// [`ChecksumError::Malformed`].
    pub fn parse(text: &str, kind: ChecksumType) -> Result<Self, ChecksumError> {
        let hex = text.trim().to_ascii_lowercase();
        let kinds: &[Kind] = match kind {
            ChecksumType::Auto => &[Kind::Md5, Kind::Sha256, Kind::Sha512],
            ChecksumType::Md5 => &[Kind::Md5],
            ChecksumType::Sha256 => &[Kind::Sha256],
            ChecksumType::Sha512 => &[Kind::Sha512],
        };
        let digits = hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        match kinds.iter().find(|kind| kind.letters() == hex.len()) {
            Some(kind) if digits => Ok(Self { kind: *kind, hex }),
            _ => Err(ChecksumError::Malformed {
                text: text.chars().take(140).collect(),
                kind: if kinds.len() == 1 { kinds[0].name() } else { "MD5, SHA-256 or SHA-512" },
                wanted: kinds.iter().map(|kind| kind.letters().to_string()).collect::<Vec<_>>().join(" or "),
            }),
        }
    }

    /// Finds the digest of a file in a list of them, as `sha256sum` or BSD's `sha256` write it, or that holds one digest only.
    ///
    /// # Errors
    /// The list does not name the file, or its digest is none.
    pub fn find(list: &str, file: &str, kind: ChecksumType) -> Result<Self, ChecksumError> {
        for line in list.lines().map(str::trim) {
            if let Some((digest, name)) = line.split_once(char::is_whitespace)
                && name.trim_start().trim_start_matches('*').rsplit('/').next() == Some(file)
            {
                return Self::parse(digest, kind);
            }
            if let Some((name, digest)) = line.split_once(" = ")
                && name.contains(&format!("({file})"))
            {
                return Self::parse(digest, kind);
            }
        }
        let mut words = list.split_whitespace();
        match (words.next(), words.next()) {
            (Some(only), None) => Self::parse(only, kind),
            _ => Err(ChecksumError::NotListed(file.to_owned())),
        }
    }

    /// Begins to make such a digest.
    pub fn start(&self) -> Running {
        match self.kind {
            Kind::Md5 => Running::Md5(Box::new(Md5::new())),
            Kind::Sha256 => Running::Sha(Context::new(&SHA256)),
            Kind::Sha512 => Running::Sha(Context::new(&SHA512)),
        }
    }

    /// Compares.
    ///
    /// # Errors
    /// [`ChecksumError::Differs`].
    pub fn check(&self, running: Running) -> Result<(), ChecksumError> {
        let found = running.finish();
        if found == self.hex {
            return Ok(());
        }
        Err(ChecksumError::Differs { kind: self.kind.name(), found, expected: self.hex.clone() })
    }
}

/// A digest that is being made.
pub enum Running {
    /// MD5.
    Md5(Box<Md5>),
    /// One of the SHA-2 family.
    Sha(Context),
}

impl Running {
    /// Takes in more.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Md5(digest) => digest.update(bytes),
            Self::Sha(digest) => digest.update(bytes),
        }
    }

    /// The digest in hexadecimal.
    pub fn finish(self) -> String {
        match self {
            Self::Md5(digest) => hex(&digest.finalize()),
            Self::Sha(digest) => hex(digest.finish().as_ref()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MD5: &str = "900150983cd24fb0d6963f7d28e17f72";
    const SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn digests_of_abc() {
        let sha512 = concat!(
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a",
            "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
        );
        for text in [MD5, SHA256, sha512, &SHA256.to_uppercase()] {
            let expected = Expected::parse(text, ChecksumType::Auto).unwrap();
            let mut running = expected.start();
            running.update(b"a");
            running.update(b"bc");
            expected.check(running).unwrap();
            let mut wrong = expected.start();
            wrong.update(b"abd");
            assert!(matches!(expected.check(wrong), Err(ChecksumError::Differs { .. })));
        }
    }

    #[test]
    fn lists() {
        let list = format!("{MD5}  other.img\n{SHA256} *dir/disk.img\nSHA256 (bsd.img) = {SHA256}\n");
        let wanted = Expected::parse(SHA256, ChecksumType::Sha256).unwrap();
        assert_eq!(Expected::find(&list, "disk.img", ChecksumType::Auto).unwrap(), wanted);
        assert_eq!(Expected::find(&list, "bsd.img", ChecksumType::Auto).unwrap(), wanted);
        assert_eq!(Expected::find(&format!("{SHA256}\n"), "x", ChecksumType::Auto).unwrap(), wanted);
        assert_eq!(
            Expected::find(&list, "none.img", ChecksumType::Auto),
            Err(ChecksumError::NotListed("none.img".into()))
        );
    }

    #[test]
    fn what_is_no_digest() {
        for (text, kind) in [("", ChecksumType::Auto), (MD5, ChecksumType::Sha256), ("zz", ChecksumType::Md5)]
        {
            assert!(Expected::parse(text, kind).is_err(), "{text}");
        }
        assert!(Expected::parse(&"g".repeat(64), ChecksumType::Sha256).is_err());
    }
}
