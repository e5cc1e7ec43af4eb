//! SHA-256 digests: how images are named, and how they are told apart.

use std::{fmt, io::Read, str::FromStr};

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

/// Bytes that are hashed at a time.
const PIECE: usize = 256 * 1024;

/// A SHA-256 digest, written `sha256:` and 64 lower-case hexadecimal digits (OCI image-spec, "Digests").
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// What is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no digest: expected `sha256:` and 64 hexadecimal digits")]
pub struct DigestError(String);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.digest()
    }

    /// The digits alone: what its file is called.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let wrong = || DigestError(text.chars().take(100).collect());
        let digits = text.strip_prefix("sha256:").ok_or_else(wrong)?.as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return Err(wrong());
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = match pair {
                [high, low] => 16 * digit(*high).ok_or_else(wrong)? + digit(*low).ok_or_else(wrong)?,
                _ => return Err(wrong()),
            };
        }
        Ok(Self(bytes))
    }
}

const fn digit(letter: u8) -> Option<u8> {
    match letter {
        b'0'..=b'9' => Some(letter - b'0'),
        b'a'..=b'f' => Some(letter - b'a' + 10),
        b'A'..=b'F' => Some(letter - b'A' + 10),
        _ => None,
    }
}

/// Hashes what comes piece by piece. A clone goes on from the same place.
#[derive(Clone)]
pub struct Hasher(Context);

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

impl Hasher {
    /// Of nothing yet.
    pub fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    /// Takes more.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Takes the next `length` bytes of a reader.
    ///
    /// # Errors
    /// If reading fails or ends before.
    pub fn read(&mut self, reader: &mut impl Read, length: u64) -> std::io::Result<()> {
        let mut buffer = vec![0; PIECE];
        let mut left = length;
        while left > 0 {
            let piece = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            reader.read_exact(&mut buffer[..piece])?;
            self.update(&buffer[..piece]);
            left -= piece as u64;
        }
        Ok(())
    }

    /// The digest of what came so far.
    pub fn digest(&self) -> Digest {
        let finished = self.0.clone().finish();
        let mut bytes = [0; 32];
        bytes.copy_from_slice(finished.as_ref());
        Digest(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OF_ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn digests_are_those_of_the_standard() {
        assert_eq!(Digest::of(b"abc").to_string(), OF_ABC);
        assert_eq!(OF_ABC.to_uppercase().replace("SHA256", "sha256").parse(), Ok(Digest::of(b"abc")));
        for wrong in
            ["", "sha256:", &OF_ABC[7..], &OF_ABC[..70], &format!("{OF_ABC}0"), &OF_ABC.replace('a', "g")]
        {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn pieces_make_the_same_digest(bytes in drystone_hostile::bytes(300), cut in 0_usize..300) {
            let cut = cut.min(bytes.len());
            let mut hasher = Hasher::new();
            hasher.update(&bytes[..cut]);
            prop_assert_eq!(hasher.digest(), Digest::of(&bytes[..cut]));
            let mut rest = &bytes[cut..];
            let length = rest.len() as u64;
            hasher.read(&mut rest, length).unwrap();
            prop_assert_eq!(hasher.digest(), Digest::of(&bytes));
            prop_assert_eq!(hasher.digest().to_string().parse(), Ok(hasher.digest()));
        }

        #[test]
        fn any_text_is_answered(text in drystone_hostile::damaged_text([OF_ABC])) {
            if let Ok(digest) = text.parse::<Digest>() { prop_assert_eq!(digest.to_string(), text.to_ascii_lowercase()); }
        }
    }
}
