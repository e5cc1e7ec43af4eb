//! Which key a host is known by.

use std::fmt;

use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PublicKey};

/// How a host is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostKeys {
    /// By one of these keys; anything else is refused.
    Pinned(Vec<PinnedKey>),
    /// Not yet: whatever key it shows is accepted and told to the caller ([`crate::Session::host_key`]), who pins it from then on.
    LearnFirst,
}

/// A text that names no host key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` names no host key; write a fingerprint as `ssh-keygen -lf` shows it (SHA256:...) or a public key \
     (ssh-ed25519 AAAA...)"
)]
pub struct InvalidPinnedKey {
    text: String,
}

/// A host key that is known beforehand, by its fingerprint or in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedKey {
    /// `SHA256:` and 43 characters of base64.
    fingerprint: String,
    /// Known if the key was given in full.
    algorithm: Option<Algorithm>,
}

impl PinnedKey {
    /// Reads a fingerprint (`SHA256:` and base64 without padding, as OpenSSH shows it) or a public key in OpenSSH's format, of which
    /// a comment, or a host name before it as in `known_hosts`, is left aside.
    ///
    /// # Errors
    /// [`InvalidPinnedKey`] if it is neither.
    pub fn parse(text: &str) -> Result<Self, InvalidPinnedKey> {
        let text = text.trim();
        let invalid = || InvalidPinnedKey { text: text.chars().take(100).collect() };
        if let Some(digest) = text.strip_prefix("SHA256:") {
            use base64::Engine as _;
            let bytes = base64::engine::general_purpose::STANDARD_NO_PAD
                .decode(digest.trim_end_matches('='))
                .map_err(|_| invalid())?;
            if bytes.len() != 32 {
                return Err(invalid());
            }
            let digest = digest.trim_end_matches('=');
            return Ok(Self { fingerprint: format!("SHA256:{digest}"), algorithm: None });
        }
        let key = parse_public_key(text).ok_or_else(invalid)?;
        Ok(Self { fingerprint: fingerprint(&key), algorithm: Some(key.algorithm()) })
    }

    /// The fingerprint: `SHA256:` and 43 characters of base64.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    pub(crate) fn algorithm(&self) -> Option<&Algorithm> {
        self.algorithm.as_ref()
    }
}

/// Reads `ssh-ed25519 AAAA... comment`, or the same after a host name.
fn parse_public_key(text: &str) -> Option<PublicKey> {
    let words: Vec<&str> = text.split_whitespace().take(3).collect();
    let read = |kind: &str, body: &str| PublicKey::from_openssh(&format!("{kind} {body}")).ok();
    match words.as_slice() {
        [kind, body] => read(kind, body),
        [first, second, third] => read(first, second).or_else(|| read(second, third)),
        _ => None,
    }
}

pub(crate) fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// The key that a host has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey {
    /// `SHA256:` and 43 characters of base64.
    pub fingerprint: String,
    /// In OpenSSH's format: `ssh-ed25519 AAAA...`.
    pub public_key: String,
}

impl HostKey {
    pub(crate) fn of(key: &PublicKey) -> Self {
        let mut plain = key.clone();
        plain.set_comment("");
        let public_key = plain.to_openssh().map(|text| text.trim().to_owned()).unwrap_or_default();
        Self { fingerprint: fingerprint(key), public_key }
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint)
    }
}

/// Host key algorithms that are accepted, best first; RSA only with SHA-2 (RFC 8332).
pub(crate) fn accepted_algorithms() -> Vec<Algorithm> {
    vec![
        Algorithm::Ed25519,
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
        Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
        Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
    ]
}

/// Whether two names stand for keys of one kind: an RSA key is one whatever it signs with.
pub(crate) fn same_kind(a: &Algorithm, b: &Algorithm) -> bool {
    matches!((a, b), (Algorithm::Rsa { .. }, Algorithm::Rsa { .. })) || a == b
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    #[test]
    fn a_key_and_its_fingerprint_are_the_same_pin() {
        let key = PinnedKey::parse(KEY).expect("a public key");
        assert!(key.fingerprint().starts_with("SHA256:"));
        assert_eq!(key.algorithm(), Some(&Algorithm::Ed25519));
        let digest = PinnedKey::parse(key.fingerprint()).expect("a fingerprint");
        assert_eq!(digest.fingerprint(), key.fingerprint());
        for text in [format!("{KEY} root@rack-01"), format!("10.0.0.7 {KEY}"), format!("  {KEY}\n")] {
            assert_eq!(PinnedKey::parse(&text).expect("valid").fingerprint(), key.fingerprint(), "{text}");
        }
        let shown = HostKey::of(&PublicKey::from_openssh(KEY).expect("valid"));
        assert_eq!((shown.public_key.as_str(), shown.fingerprint.as_str()), (KEY, key.fingerprint()));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "SHA256:", "SHA256:abc", "MD5:00:11", "ssh-ed25519", "ssh-ed25519 AAAA", "a b c d"] {
            assert!(PinnedKey::parse(text).is_err(), "{text}");
        }
    }
}
