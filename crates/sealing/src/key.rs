//! The sealing key: the one secret from which all others are unlocked.

use std::fmt;

use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use crate::cipher::{Cipher, CryptoError};

/// Separates keys that are derived here from those of any other program that is given the same bytes.
const SALT: &[u8] = b"drystone sealing v1";

/// Bytes that are no sealing key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a sealing key has 32 bytes, these are {0}")]
pub struct WrongLength(usize);

/// The sealing key. Its `Debug` shows nothing of it, and it is wiped when dropped.
#[derive(Clone)]
pub struct SealingKey(Zeroizing<Vec<u8>>);

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey([redacted])")
    }
}

impl SealingKey {
    /// Bytes of a sealing key.
    pub const LENGTH: usize = 32;

    /// Makes a new random one.
    ///
    /// # Errors
    /// [`CryptoError`] if the system has no randomness to give.
    pub fn generate() -> Result<Self, CryptoError> {
        let mut bytes = Zeroizing::new(vec![0; Self::LENGTH]);
        SystemRandom::new().fill(&mut bytes).map_err(|_| CryptoError("find randomness"))?;
        Ok(Self(bytes))
    }

    /// Takes the bytes of one.
    ///
    /// # Errors
    /// [`WrongLength`] unless they are [`LENGTH`](Self::LENGTH).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WrongLength> {
        if bytes.len() == Self::LENGTH {
            Ok(Self(Zeroizing::new(bytes.to_vec())))
        } else {
            Err(WrongLength(bytes.len()))
        }
    }

    /// The bytes themselves, for who keeps them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Tells one sealing key from another and gives nothing of it away: 16 hexadecimal digits.
    ///
    /// # Errors
    /// [`CryptoError`] if the cryptographic library fails.
    pub fn fingerprint(&self) -> Result<String, CryptoError> {
        let derived = self.derive("fingerprint")?;
        Ok(derived.iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }

    /// A cipher of its own for one purpose.
    ///
    /// # Errors
    /// [`CryptoError`] if the cryptographic library fails.
    pub fn cipher(&self, purpose: &str) -> Result<Cipher, CryptoError> {
        Ok(Cipher::new(self.derive(purpose)?.as_slice()))
    }

    fn derive(&self, purpose: &str) -> Result<Zeroizing<[u8; 32]>, CryptoError> {
        let failed = |_| CryptoError("derive a key");
        let mut derived = Zeroizing::new([0; 32]);
        let secret = Salt::new(HKDF_SHA256, SALT).extract(&self.0);
        secret
            .expand(&[purpose.as_bytes()], HKDF_SHA256)
            .map_err(failed)?
            .fill(derived.as_mut_slice())
            .map_err(failed)?;
        Ok(derived)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_not_shown_and_known_by_its_fingerprint() {
        let key = SealingKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), "SealingKey([redacted])");
        let same = SealingKey::from_bytes(key.expose()).unwrap();
        assert_eq!(same.fingerprint().unwrap(), key.fingerprint().unwrap());
        assert_ne!(SealingKey::generate().unwrap().fingerprint().unwrap(), key.fingerprint().unwrap());
        assert_eq!(key.fingerprint().unwrap().len(), 16);
    }

    #[test]
    fn purposes_do_not_open_each_others_values() {
        let key = SealingKey::generate().unwrap();
        let sealed = key.cipher("one").unwrap().seal(b"", b"x", b"place").unwrap();
        assert_eq!(key.cipher("one").unwrap().open(&sealed, b"place").unwrap().as_slice(), b"x");
        assert!(key.cipher("two").unwrap().open(&sealed, b"place").is_none());
    }

    #[test]
    fn other_lengths_are_refused() {
        for length in [0, 16, 31, 33] {
            assert_eq!(SealingKey::from_bytes(&vec![7; length]).unwrap_err(), WrongLength(length));
        }
    }
}
