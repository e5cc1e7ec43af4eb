//! AES-256-GCM. What is sealed is bound to its place: moved elsewhere, it does not open.
//!
//! Each value is encrypted by a key of its own, derived from the cipher's secret and 16 random bytes, with a random nonce of 12 bytes.
//! So nonces need no counting, however many values a key encrypts: NIST SP 800-38D's limit of 2³² holds for each derived key.
//!
//! ```text
//! salt (16) | nonce (12) | ciphertext | tag (16)
//! ```

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

/// Random bytes from which the key of one value is derived.
const SALT_LENGTH: usize = 16;
const TAG_LENGTH: usize = 16;
/// What a sealed value has more than its text.
pub const OVERHEAD: usize = SALT_LENGTH + NONCE_LEN + TAG_LENGTH;

/// The cryptographic library failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cryptographic library failed to {0}")]
pub struct CryptoError(pub(crate) &'static str);

/// Seals and opens with one secret.
pub struct Cipher(Prk);

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher([redacted])")
    }
}

impl Cipher {
    /// A cipher with this secret, of at least 256 random bits.
    pub fn new(secret: &[u8]) -> Self {
        Self(Salt::new(HKDF_SHA256, b"drystone cipher v1").extract(secret))
    }

    fn key(&self, salt: &[u8]) -> Result<LessSafeKey, CryptoError> {
        let failed = |_| CryptoError("derive a key");
        let mut bytes = Zeroizing::new([0; 32]);
        let derived = self.0.expand(std::slice::from_ref(&salt), HKDF_SHA256).map_err(failed)?;
        derived.fill(bytes.as_mut_slice()).map_err(failed)?;
        let key = UnboundKey::new(&AES_256_GCM, bytes.as_slice()).map_err(failed)?;
        Ok(LessSafeKey::new(key))
    }

    /// Encrypts `text` for the place `place`; the result is put behind `header`.
    ///
    /// # Errors
    /// [`CryptoError`] if the system has no randomness to give.
    pub fn seal(&self, header: &[u8], text: &[u8], place: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let mut out = Vec::with_capacity(header.len() + OVERHEAD + text.len());
        out.extend_from_slice(header);
        let begin = out.len() + SALT_LENGTH + NONCE_LEN;
        out.resize(begin, 0);
        SystemRandom::new().fill(&mut out[header.len()..]).map_err(|_| CryptoError("find randomness"))?;
        let key = self.key(&out[header.len()..header.len() + SALT_LENGTH])?;
        let nonce = Nonce::try_assume_unique_for_key(&out[header.len() + SALT_LENGTH..begin])
            .map_err(|_| CryptoError("make a nonce"))?;
        out.extend_from_slice(text);
        let tag = key
            .seal_in_place_separate_tag(nonce, Aad::from(place), &mut out[begin..])
            .map_err(|_| CryptoError("encrypt"))?;
        out.extend_from_slice(tag.as_ref());
        Ok(out)
    }

    /// Decrypts what was sealed, without its header, for the same place; `None` if it is damaged, was sealed for another place, or by
    /// another key: these cannot be told apart.
    pub fn open(&self, sealed: &[u8], place: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (salt, rest) = sealed.split_at_checked(SALT_LENGTH)?;
        let (nonce, text) = rest.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = Zeroizing::new(text.to_vec());
        let length = self.key(salt).ok()?.open_in_place(nonce, Aad::from(place), &mut text).ok()?.len();
        text.truncate(length);
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_sealed_opens_at_its_place_only(text: Vec<u8>, place: Vec<u8>, other: Vec<u8>, secret: [u8; 32]) {
            let cipher = Cipher::new(&secret);
            let sealed = cipher.seal(b"head", &text, &place).unwrap();
            prop_assert_eq!(sealed.len(), 4 + OVERHEAD + text.len());
            let opened = cipher.open(&sealed[4..], &place);
            prop_assert_eq!(opened.as_deref(), Some(&text));
            if other != place {
                prop_assert!(cipher.open(&sealed[4..], &other).is_none());
            }
        }

        #[test]
        fn a_changed_bit_is_seen(text: Vec<u8>, at: prop::sample::Index, bit in 0..8u8) {
            let cipher = Cipher::new(&[7; 32]);
            let mut sealed = cipher.seal(b"", &text, b"place").unwrap();
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert!(cipher.open(&sealed, b"place").is_none());
        }

        #[test]
        fn any_bytes_are_looked_at(bytes in drystone_hostile::bytes(300)) {
            prop_assert!(Cipher::new(&[7; 32]).open(&bytes, b"place").is_none());
        }
    }

    #[test]
    fn the_same_text_is_never_sealed_the_same_way() {
        let cipher = Cipher::new(&[7; 32]);
        let seal = || cipher.seal(b"", b"text", b"place").unwrap();
        let (one, two) = (seal(), seal());
        assert_ne!(one, two);
        assert!(!one.windows(4).any(|window| window == b"text"));
    }

    #[test]
    fn another_key_does_not_open() {
        let sealed = Cipher::new(&[7; 32]).seal(b"", b"text", b"place").unwrap();
        assert!(Cipher::new(&[8; 32]).open(&sealed, b"place").is_none());
    }
}
