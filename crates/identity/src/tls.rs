//! TLS with aws-lc-rs: configurations for servers and clients, and the user in a client certificate.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::certificate::Identity;
use crate::csr::subject_of;
use crate::key::{KeyError, PrivateKey};
use crate::pem::{self, PemError};
use crate::user::UserInfo;

/// Key of [`UserInfo::extra`] that says which certificate or token somebody used, without giving it away.
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// A certificate, a key or a combination of them that TLS cannot be spoken with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate cannot be read.
    #[error("a TLS certificate cannot be read")]
    Pem(#[from] PemError),
    /// A private key cannot be read.
    #[error("a TLS private key cannot be read")]
    Key(#[from] KeyError),
    /// TLS does not accept a certificate or key.
    #[error("TLS does not accept the certificate or key: {0}")]
    Rustls(#[from] rustls::Error),
    /// The authorities that clients are verified against cannot be used.
    #[error("clients cannot be verified: {0}")]
    Verifier(String),
}

/// A verified client certificate that names no user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// There is no certificate.
    #[error("there is no client certificate")]
    None,
    /// It cannot be read.
    #[error("the client certificate cannot be read: {0}")]
    Malformed(String),
    /// It was valid when the connection began, and is no more.
    #[error("the client certificate has expired or is not yet valid")]
    NotValidNow,
    /// It has no common name.
    #[error("the client certificate has no common name, which would be the user")]
    NoCommonName,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Makes aws-lc-rs the cryptography of this process for libraries that ask for the default. Call it first thing in
/// `main`; calling it again does nothing.
pub fn install_crypto_provider() {
    if CryptoProvider::get_default().is_none() {
        // An error means that somebody was faster, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
}

/// A server's certificate and key, which can be replaced while it serves.
pub struct ServerIdentity {
    current: RwLock<Arc<CertifiedKey>>,
}

impl fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerIdentity").finish_non_exhaustive()
    }
}

impl ServerIdentity {
    /// Starts with a certificate and its key.
    ///
    /// # Errors
    /// [`TlsError`] if they cannot be read or do not belong together.
    pub fn new(identity: &Identity) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self { current: RwLock::new(certified(identity)?) }))
    }

    /// Uses another certificate and key for connections from now on.
    ///
    /// # Errors
    /// As [`new`](Self::new); the old ones then stay in use.
    pub fn replace(&self, identity: &Identity) -> Result<(), TlsError> {
        let certified = certified(identity)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = certified;
        Ok(())
    }
}

impl ResolvesServerCert for ServerIdentity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn certified(identity: &Identity) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = pem::certificates(&identity.certificate_pem)?;
    let key = PrivateKey::from_pem(identity.key_pem.expose())?;
    Ok(Arc::new(CertifiedKey::from_der(chain, key.to_rustls(), &provider())?))
}

/// A server's configuration, for HTTP/2 and HTTP/1.1. With `client_ca_pem` (one or more certificates), clients may
/// show a certificate; one that these authorities do not vouch for ends the handshake.
///
/// # Errors
/// [`TlsError`] if the authorities cannot be used.
pub fn server_config(
    identity: Arc<ServerIdentity>,
    client_ca_pem: Option<&str>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match client_ca_pem {
        None => builder.with_no_client_auth(),
        Some(client_ca) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots(client_ca)?, provider())
                .allow_unauthenticated()
                .build()
                .map_err(|error| TlsError::Verifier(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(identity);
    config.alpn_protocols = alpn();
    Ok(Arc::new(config))
}

/// A client's configuration, for HTTP/2 and HTTP/1.1: trusts servers that the given authorities vouch for, and shows
/// `identity` to those that ask.
///
/// # Errors
/// [`TlsError`] if a certificate or key cannot be used.
pub fn client_config(server_ca_pem: &str, identity: Option<&Identity>) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(server_ca_pem)?);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = pem::certificates(&identity.certificate_pem)?;
            let key = PrivateKey::from_pem(identity.key_pem.expose())?;
            builder.with_client_auth_cert(chain, key.to_rustls())?
        }
    };
    config.alpn_protocols = alpn();
    Ok(config)
}

fn alpn() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec(), b"http/1.1".to_vec()]
}

fn roots(ca_pem: &str) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in pem::certificates(ca_pem)? {
        store.add(certificate)?;
    }
    Ok(Arc::new(store))
}

/// The user in a client certificate chain that the TLS handshake has verified: the common name is the user, the
/// organizations are the groups. A connection may outlive the certificate, so its validity is looked at again.
///
/// # Errors
/// [`PeerError`] if the certificate names no user, or is not valid now.
pub fn peer_user(chain: &[CertificateDer<'_>], now: Timestamp) -> Result<UserInfo, PeerError> {
    let leaf = chain.first().ok_or(PeerError::None)?;
    let (_, certificate) =
        X509Certificate::from_der(leaf).map_err(|error| PeerError::Malformed(error.to_string()))?;
    let validity = certificate.validity();
    let seconds = now.as_second();
    if seconds < validity.not_before.timestamp() || seconds > validity.not_after.timestamp() {
        return Err(PeerError::NotValidNow);
    }
    let (subject, _) = subject_of(certificate.subject()).map_err(PeerError::Malformed)?;
    if subject.common_name.is_empty() {
        return Err(PeerError::NoCommonName);
    }
    let mut user = UserInfo::new(subject.common_name, subject.organizations);
    let fingerprint = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf);
    let fingerprint: String = fingerprint.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    user.extra.insert(CREDENTIAL_ID.into(), vec![format!("X509SHA256={fingerprint}")]);
    Ok(user)
}

/// SHA-256 of a certificate's public key (its `SubjectPublicKeyInfo` in DER), in hexadecimal: by which kubeadm pins a cluster's authority.
///
/// # Errors
/// [`PeerError`] if it cannot be read.
pub fn public_key_digest(certificate_pem: &str) -> Result<String, PeerError> {
    let malformed = |error: &dyn fmt::Display| PeerError::Malformed(error.to_string());
    let chain = pem::certificates(certificate_pem).map_err(|error| malformed(&error))?;
    let first = chain.first().ok_or(PeerError::None)?;
    let (_, certificate) = X509Certificate::from_der(first).map_err(|error| malformed(&error))?;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate.public_key().raw);
    Ok(digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// When a certificate in PEM ends; for renewing it in time.
///
/// # Errors
/// [`PeerError`] if it cannot be read.
pub fn not_after(certificate_pem: &str) -> Result<Timestamp, PeerError> {
    let malformed = |error: &dyn fmt::Display| PeerError::Malformed(error.to_string());
    let chain = pem::certificates(certificate_pem).map_err(|error| malformed(&error))?;
    let leaf = chain.first().ok_or(PeerError::None)?;
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|error| malformed(&error))?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).map_err(|error| malformed(&error))
}
