//! Signatures: Ed25519 (RFC 8032) over short texts, such as digests.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use drystone_identity::Secret;

/// A signature or key that does not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// There is no signature where one is asked for.
    #[error("{0} is not signed")]
    Unsigned(String),
    /// The signature is by none of the keys, or of something else.
    #[error("the signature of {0} is by none of the keys that are trusted, or of something else")]
    Untrusted(String),
    /// The signature is no base64.
    #[error("the signature of {0} cannot be read: it is no base64")]
    Unreadable(String),
    /// A private key that is none.
    #[error("the signing key is no Ed25519 key in PKCS#8: {0}")]
    Key(String),
}

/// Checks that one of the keys (base64 of 32 bytes) has signed a text.
///
/// # Errors
/// [`TrustError`].
pub fn verify(what: &str, text: &[u8], signature: &str, keys: &[String]) -> Result<(), TrustError> {
    if signature.trim().is_empty() {
        return Err(TrustError::Unsigned(what.to_owned()));
    }
    let signature = STANDARD.decode(signature.trim()).map_err(|_| TrustError::Unreadable(what.to_owned()))?;
    let signed = |key: &String| {
        let key = STANDARD.decode(key.trim()).unwrap_or_default();
        UnparsedPublicKey::new(&ED25519, key).verify(text, &signature).is_ok()
    };
    if keys.iter().any(signed) { Ok(()) } else { Err(TrustError::Untrusted(what.to_owned())) }
}

/// A key that signs.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// A new one, and its text: PKCS#8 in PEM.
    ///
    /// # Errors
    /// [`TrustError::Key`] when the system has no random numbers.
    pub fn generate() -> Result<(Self, Secret), TrustError> {
        let failed = |_| TrustError::Key("it cannot be made".to_owned());
        let random = aws_lc_rs::rand::SystemRandom::new();
        let document = Ed25519KeyPair::generate_pkcs8(&random).map_err(failed)?;
        let body = STANDARD.encode(document.as_ref());
        let lines: Vec<&str> =
            body.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        let text = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
        let text = Secret::new(text);
        Ok((Self::from_pem(&text)?, text))
    }

    /// From PKCS#8 in PEM, as `openssl genpkey -algorithm ed25519` writes it.
    ///
    /// # Errors
    /// [`TrustError::Key`].
    pub fn from_pem(text: &Secret) -> Result<Self, TrustError> {
        let body: String =
            text.expose().lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
        let document = STANDARD.decode(body).map_err(|_| TrustError::Key("it is no PEM".to_owned()))?;
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(&document)
            .map(Self)
            .map_err(|error| TrustError::Key(error.to_string()))
    }

    /// Public key: 32 bytes in base64.
    pub fn public_key(&self) -> String {
        STANDARD.encode(self.0.public_key().as_ref())
    }

    /// Signature of a text, in base64.
    pub fn sign(&self, text: &[u8]) -> String {
        STANDARD.encode(self.0.sign(text).as_ref())
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("public_key", &self.public_key()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_trusted_key_has_signed_is_accepted() {
        let (ours, text) = SigningKey::generate().expect("made");
        let (theirs, _) = SigningKey::generate().expect("made");
        let again = SigningKey::from_pem(&text).expect("read");
        assert_eq!(again.public_key(), ours.public_key());
        let keys = [theirs.public_key(), ours.public_key()];
        let signature = again.sign(b"sha256:abc");
        assert_eq!(verify("it", b"sha256:abc", &signature, &keys), Ok(()));
        let untrusted = Err(TrustError::Untrusted("it".to_owned()));
        assert_eq!(verify("it", b"sha256:abd", &signature, &keys), untrusted);
        assert_eq!(verify("it", b"sha256:abc", &signature, &keys[..1]), untrusted);
        assert_eq!(verify("it", b"sha256:abc", &signature, &[]), untrusted);
        assert_eq!(verify("it", b"sha256:abc", "", &keys), Err(TrustError::Unsigned("it".to_owned())));
        assert_eq!(verify("it", b"x", "$$$", &keys), Err(TrustError::Unreadable("it".to_owned())));
        assert!(!format!("{ours:?}").contains(text.expose().lines().nth(1).expect("a line")));
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        for text in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "%%%"] {
            assert!(SigningKey::from_pem(&Secret::new(text)).is_err(), "{text}");
        }
    }
}
