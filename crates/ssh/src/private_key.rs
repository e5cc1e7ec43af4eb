//! Keys that users log in with; only from memory, never from a file.

use std::{fmt, sync::Arc};

use drystone_identity::Secret;
use russh::keys::{self, Algorithm};

/// A text that is no private key. It says nothing of the key itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the private key cannot be used: {reason}")]
pub struct InvalidPrivateKey {
    reason: String,
}

/// A private key for logging in: Ed25519, ECDSA or RSA. `Debug` shows its kind and fingerprint only.
#[derive(Clone)]
pub struct PrivateKey(Arc<keys::PrivateKey>);

impl PrivateKey {
    /// Reads a key in OpenSSH's format, or in PKCS#8, PKCS#1 or SEC 1 as PEM.
    ///
    /// # Errors
    /// [`InvalidPrivateKey`] if it is none, is of an unsupported kind, or needs another passphrase.
    pub fn from_text(text: &Secret, passphrase: Option<&Secret>) -> Result<Self, InvalidPrivateKey> {
        let invalid = |reason: &str| InvalidPrivateKey { reason: reason.to_owned() };
        // A key that was pasted often lacks the last line break or has spaces around it.
        let trimmed = Secret::new(format!("{}\n", text.expose().trim()));
        let key =
            keys::decode_secret_key(trimmed.expose(), passphrase.map(Secret::expose)).map_err(|error| {
                match error {
                    keys::Error::KeyIsEncrypted => invalid("it is encrypted, give its passphrase"),
                    // Its text might quote the key.
                    _ if passphrase.is_some() => {
                        invalid("it is in no known format, or the passphrase is wrong")
                    }
                    _ => invalid("it is in no known format (OpenSSH, PKCS#8, PKCS#1 or SEC 1)"),
                }
            })?;
        match key.algorithm() {
            Algorithm::Ed25519 | Algorithm::Ecdsa { .. } | Algorithm::Rsa { .. } => Ok(Self(Arc::new(key))),
            other => Err(invalid(&format!("keys of kind {other} are not supported"))),
        }
    }

    /// Makes a new Ed25519 key.
    ///
    /// # Errors
    /// [`InvalidPrivateKey`] if there is no randomness.
    pub fn generate() -> Result<Self, InvalidPrivateKey> {
        let key = keys::PrivateKey::random(&mut keys::key::safe_rng(), Algorithm::Ed25519)
            .map_err(|error| InvalidPrivateKey { reason: format!("none could be made: {error}") })?;
        Ok(Self(Arc::new(key)))
    }

    /// The private key in OpenSSH's format.
    ///
    /// # Errors
    /// [`InvalidPrivateKey`] if it cannot be written.
    pub fn to_text(&self) -> Result<Secret, InvalidPrivateKey> {
        let text = self.0.to_openssh(keys::ssh_key::LineEnding::LF);
        let text =
            text.map_err(|error| InvalidPrivateKey { reason: format!("cannot be written: {error}") })?;
        Ok(Secret::new(text.as_str()))
    }

    /// The public key in OpenSSH's format, as a line of `authorized_keys`.
    pub fn public_key(&self) -> String {
        let mut public = self.0.public_key().clone();
        public.set_comment("");
        public.to_openssh().map(|text| text.trim().to_owned()).unwrap_or_default()
    }

    pub(crate) fn inner(&self) -> Arc<keys::PrivateKey> {
        Arc::clone(&self.0)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let public = self.0.public_key();
        write!(f, "PrivateKey({}, {})", public.algorithm(), crate::host_key::fingerprint(public))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_text_and_shows_nothing() {
        let key = PrivateKey::generate().expect("randomness");
        let text = key.to_text().expect("writable");
        let read = PrivateKey::from_text(&text, None).expect("just written");
        assert_eq!(read.public_key(), key.public_key());
        let secret_line = text.expose().lines().nth(2).expect("several lines").to_owned();
        assert!(!format!("{key:?}").contains(&secret_line));
        let pasted = Secret::new(format!("  {}  ", text.expose().trim_end()));
        assert!(PrivateKey::from_text(&pasted, None).is_ok());
    }

    #[test]
    fn errors_do_not_quote_the_key() {
        let text =
            "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0LXNlY3JldA==\n-----END OPENSSH PRIVATE KEY-----";
        for passphrase in [None, Some(Secret::new("p4ss"))] {
            let error = PrivateKey::from_text(&Secret::new(text), passphrase.as_ref()).expect_err("broken");
            assert!(!error.to_string().contains("c2VjcmV0"), "{error}");
            assert!(!error.to_string().contains("p4ss"), "{error}");
        }
        assert!(PrivateKey::from_text(&Secret::new(""), None).is_err());
    }
}
