//! Private keys: ECDSA on P-256, in PKCS#8.

use std::fmt;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::pem::{self, PemError};
use crate::secret::Secret;

/// A key that cannot be read, made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The text has no private key in it.
    #[error("the private key cannot be read")]
    Pem(#[from] PemError),
    /// It is a private key, but of another kind.
    #[error("the private key is not an ECDSA P-256 key in PKCS#8 (\"BEGIN PRIVATE KEY\"): {0}")]
    NotP256(String),
    /// The cryptographic library failed.
    #[error("the cryptographic library failed to {0}")]
    Crypto(&'static str),
}

/// A private key: ECDSA on P-256. Its `Debug` shows nothing of it.
pub struct PrivateKey {
    pair: EcdsaKeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
    spki: Vec<u8>,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey([redacted])")
    }
}

impl PrivateKey {
    /// Makes a new random key.
    ///
    /// # Errors
    /// [`KeyError::Crypto`] if the system has no randomness to give.
    pub fn generate() -> Result<Self, KeyError> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .map_err(|_| KeyError::Crypto("generate a key"))?;
        Self::from_pkcs8(document.as_ref())
    }

    /// Reads a key from PEM.
    ///
    /// # Errors
    /// [`KeyError`] if the text has no P-256 key in it.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes())
            .map_err(|error| PemError::new(pem::PRIVATE_KEY, &error))?;
        Self::from_pkcs8(key.secret_pkcs8_der())
    }

    fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8)
            .map_err(|rejected| KeyError::NotP256(rejected.to_string()))?;
        let spki = pair.public_key().as_der().map_err(|_| KeyError::Crypto("encode a public key"))?;
        let spki = spki.as_ref().to_vec();
        Ok(Self { pair, pkcs8: Zeroizing::new(pkcs8.to_vec()), spki })
    }

    /// The key in PEM (PKCS#8).
    pub fn to_pem(&self) -> Secret {
        Secret::new(pem::encode(pem::PRIVATE_KEY, &self.pkcs8))
    }

    /// The key in PKCS#8 DER.
    pub(crate) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The key as rustls takes it.
    pub(crate) fn to_rustls(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pkcs8.to_vec()))
    }

    /// The public key as a DER `SubjectPublicKeyInfo`.
    pub fn public_key(&self) -> &[u8] {
        &self.spki
    }

    /// Signs with ECDSA and SHA-256; the signature is in ASN.1 form.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signature =
            self.pair.sign(&SystemRandom::new(), message).map_err(|_| KeyError::Crypto("sign"))?;
        Ok(signature.as_ref().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_pem_and_is_not_printed() {
        let key = PrivateKey::generate().unwrap();
        let pem = key.to_pem();
        let back = PrivateKey::from_pem(pem.expose()).unwrap();
        assert_eq!(back.public_key(), key.public_key());
        assert_eq!(format!("{key:?}"), "PrivateKey([redacted])");
    }

    #[test]
    fn other_texts_are_refused() {
        assert!(matches!(PrivateKey::from_pem("x"), Err(KeyError::Pem(_))));
        let wrong = pem::encode(pem::PRIVATE_KEY, b"not a key");
        assert!(matches!(PrivateKey::from_pem(&wrong), Err(KeyError::NotP256(_))));
    }
}
