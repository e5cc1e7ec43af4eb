//! A certificate authority.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rand::Rng;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};

use crate::certificate::{
    self, CertificateProfile, Identity, Role, Subject, ToBeSigned, Usage, key_identifier,
};
use crate::csr::CertificateSigningRequest;
use crate::key::{KeyError, PrivateKey};
use crate::pem::{self, PemError};
use crate::secret::Secret;

/// Certificates are valid from a little in the past on, for clocks that are behind.
const BACKDATED: SignedDuration = SignedDuration::from_mins(5);

/// What can go wrong with an authority.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The authority's certificate cannot be read.
    #[error("the authority's certificate cannot be read")]
    Pem(#[from] PemError),
    /// The certificate is no authority's, or not this key's.
    #[error("the authority's certificate is not usable: {0}")]
    Certificate(String),
    /// A key cannot be read or used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The profile asks for what no certificate can say.
    #[error("the certificate cannot be issued: {0}")]
    Profile(String),
}

/// A certificate authority: a certificate that may sign others, and its key. `Debug` does not show the key.
#[derive(Debug)]
pub struct CertificateAuthority {
    certificate: CertificateDer<'static>,
    key: PrivateKey,
    subject: Vec<u8>,
    key_identifier: Vec<u8>,
    not_after: Timestamp,
}

impl CertificateAuthority {
    /// Makes a new authority with a key of its own, valid from about `now` on.
    ///
    /// # Errors
    /// [`CaError`] if the name is empty, the validity is beyond the calendar, or there is no randomness.
    pub fn generate(common_name: &str, validity: Duration, now: Timestamp) -> Result<Self, CaError> {
        let key = PrivateKey::generate()?;
        let subject = Subject::new(common_name, [""; 0]);
        check_subject(&subject)?;
        let subject = subject.to_der();
        let key_identifier = key_identifier(key.public_key());
        let (not_before, not_after) = period(now, validity)?;
        let certificate = ToBeSigned {
            serial: serial(),
            issuer: &subject,
            issuer_key_identifier: &key_identifier,
            subject: &subject,
            public_key: key.public_key(),
            not_before,
            not_after,
            role: Role::Authority,
            usages: &[],
            dns_names: &[],
            ip_addresses: &[],
        };
        let certificate = certificate.sign(&key)?.into();
        Ok(Self { certificate, key, subject, key_identifier, not_after })
    }

    /// Reads an authority from its certificate and key.
    ///
    /// # Errors
    /// [`CaError`] if either cannot be read, they do not belong together, or it is no authority's certificate.
    pub fn from_pem(certificate_pem: &str, key_pem: &Secret) -> Result<Self, CaError> {
        let certificate = pem::certificates(certificate_pem)?.swap_remove(0);
        let key = PrivateKey::from_pem(key_pem.expose())?;
        let unusable = |problem: &str| CaError::Certificate(problem.to_owned());
        let (subject, key_identifier, not_after) = {
            let (_, parsed) = X509Certificate::from_der(&certificate)
                .map_err(|error| CaError::Certificate(error.to_string()))?;
            if !parsed.is_ca() {
                return Err(unusable("it is not allowed to sign certificates (basic constraints)"));
            }
            if parsed.public_key().raw != key.public_key() {
                return Err(unusable("the private key belongs to another certificate"));
            }
            let own_identifier =
                parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
                    ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0.to_vec()),
                    _ => None,
                });
            let not_after = Timestamp::from_second(parsed.validity().not_after.timestamp())
                .map_err(|error| CaError::Certificate(error.to_string()))?;
            let identifier = own_identifier.unwrap_or_else(|| key_identifier(key.public_key()));
            (parsed.subject().as_raw().to_vec(), identifier, not_after)
        };
        Ok(Self { certificate, key, subject, key_identifier, not_after })
    }

    /// The authority's certificate in PEM: what those who trust it need.
    pub fn certificate_pem(&self) -> String {
        certificate::to_pem(&self.certificate)
    }

    /// The authority's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The authority's private key in PEM.
    pub fn key_pem(&self) -> Secret {
        self.key.to_pem()
    }

    /// When the authority's own certificate ends; nothing it issues is valid longer.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Issues a certificate with a new key.
    ///
    /// # Errors
    /// [`CaError`] if the profile is not one a certificate can have, or there is no randomness.
    pub fn issue(&self, profile: &CertificateProfile, now: Timestamp) -> Result<Identity, CaError> {
        let key = PrivateKey::generate()?;
        let certificate = self.certify(profile, key.public_key(), now)?;
        Ok(Identity { certificate_pem: certificate::to_pem(&certificate), key_pem: key.to_pem() })
    }

    /// Signs a request as it is, for the given usages; the certificate in PEM. Whether the request may be granted is
    /// the caller's question, see [`crate::signer`].
    ///
    /// # Errors
    /// [`CaError`] if the request asks for what no certificate can say.
    pub fn sign(
        &self,
        request: &CertificateSigningRequest,
        usages: &[Usage],
        validity: Duration,
        now: Timestamp,
    ) -> Result<String, CaError> {
        if let Some(name) = request.other_names.first() {
            return Err(CaError::Profile(format!("{name}: only DNS names and IP addresses are certified")));
        }
        let profile = CertificateProfile {
            subject: request.subject.clone(),
            dns_names: request.dns_names.clone(),
            ip_addresses: request.ip_addresses.clone(),
            usages: usages.to_vec(),
            validity,
        };
        let certificate = self.certify(&profile, request.public_key(), now)?;
        Ok(certificate::to_pem(&certificate))
    }

    fn certify(
        &self,
        profile: &CertificateProfile,
        public_key: &[u8],
        now: Timestamp,
    ) -> Result<Vec<u8>, CaError> {
        check(profile)?;
        let (not_before, not_after) = period(now, profile.validity)?;
        let certificate = ToBeSigned {
            serial: serial(),
            issuer: &self.subject,
            issuer_key_identifier: &self.key_identifier,
            subject: &profile.subject.to_der(),
            public_key,
            not_before,
            not_after: not_after.min(self.not_after),
            role: Role::Leaf,
            usages: &profile.usages,
            dns_names: &profile.dns_names,
            ip_addresses: &profile.ip_addresses,
        };
        Ok(certificate.sign(&self.key)?)
    }
}

fn check(profile: &CertificateProfile) -> Result<(), CaError> {
    check_subject(&profile.subject)?;
    for name in &profile.dns_names {
        if !is_dns_name(name) {
            return Err(CaError::Profile(format!("{name:?} is not a DNS name")));
        }
    }
    Ok(())
}

fn check_subject(subject: &Subject) -> Result<(), CaError> {
    // The upper bounds of RFC 5280 appendix A are 64; Kubernetes user and group names are longer, and nobody minds.
    let names = subject.organizations.iter().chain(std::iter::once(&subject.common_name));
    for name in names {
        if name.is_empty() || name.len() > 1024 || name.chars().any(char::is_control) {
            return Err(CaError::Profile(format!(
                "{name:?} is no name for a subject: 1 to 1024 bytes without control characters"
            )));
        }
    }
    Ok(())
}

fn is_dns_name(name: &str) -> bool {
    let labels = name.strip_prefix("*.").unwrap_or(name);
    name.len() <= 253
        && labels.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        })
}

/// The period of validity, in whole seconds as certificates have it.
fn period(now: Timestamp, validity: Duration) -> Result<(Timestamp, Timestamp), CaError> {
    let beyond = |error: jiff::Error| CaError::Profile(format!("its validity cannot be expressed: {error}"));
    let now = Timestamp::from_second(now.as_second()).map_err(beyond)?;
    let validity = Duration::from_secs(validity.as_secs());
    Ok((now.checked_sub(BACKDATED).map_err(beyond)?, now.checked_add(validity).map_err(beyond)?))
}

/// A random serial number; its first bits make it positive and never shorter.
fn serial() -> [u8; 16] {
    let mut serial: [u8; 16] = rand::rng().random();
    serial[0] = serial[0] & 0x7f | 0x40;
    serial
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-01T12:00:00Z".parse().unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn certificates_begin_a_little_in_the_past_and_end_with_their_authority() {
        let authority = CertificateAuthority::generate("ca", Duration::from_secs(7200), now()).unwrap();
        assert_eq!(authority.not_after(), at("2026-11-01T14:00:00Z"));
        let profile = CertificateProfile::client("jane", ["dev"]).valid_for(Duration::from_secs(3600));
        let issued = authority.issue(&profile, now()).unwrap();
        assert_eq!(crate::tls::not_after(&issued.certificate_pem), Ok(at("2026-11-01T13:00:00Z")));
        let issued = authority.issue(&CertificateProfile::client("jane", ["dev"]), now()).unwrap();
        assert_eq!(crate::tls::not_after(&issued.certificate_pem), Ok(authority.not_after()));
        let chain = pem::certificates(&issued.certificate_pem).unwrap();
        assert!(crate::tls::peer_user(&chain, at("2026-11-01T11:56:00Z")).is_ok());
        assert!(crate::tls::peer_user(&chain, at("2026-11-01T11:54:00Z")).is_err());
    }

    #[test]
    fn serial_numbers_are_random() {
        let authority = CertificateAuthority::generate("ca", Duration::from_secs(7200), now()).unwrap();
        let profile = CertificateProfile::client("jane", ["dev"]);
        let serials: std::collections::HashSet<Vec<u8>> = (0..20)
            .map(|_| {
                let pem = authority.issue(&profile, now()).unwrap().certificate_pem;
                let chain = pem::certificates(&pem).unwrap();
                let (_, certificate) = X509Certificate::from_der(&chain[0]).unwrap();
                certificate.raw_serial().to_vec()
            })
            .collect();
        assert_eq!(serials.len(), 20);
        assert!(serials.iter().all(|serial| serial.len() == 16));
    }

    #[test]
    fn what_no_certificate_can_say_is_refused() {
        let authority = CertificateAuthority::generate("ca", Duration::from_secs(7200), now()).unwrap();
        let long = "x".repeat(1025);
        for profile in [
            CertificateProfile::client("", ["dev"]),
            CertificateProfile::client("jane", [""]),
            CertificateProfile::client("jane\n", ["dev"]),
            CertificateProfile::client(long, ["dev"]),
            CertificateProfile::server("api").dns(["no host"]),
            CertificateProfile::server("api").dns(["-x.test"]),
            CertificateProfile::server("api").dns(["a..b"]),
            CertificateProfile::server("api").dns(["a.*.b"]),
            CertificateProfile::server("api").valid_for(Duration::MAX),
        ] {
            let error = authority.issue(&profile, now()).unwrap_err();
            assert!(matches!(error, CaError::Profile(_)), "{error}");
        }
    }

    #[test]
    fn the_key_is_not_printed() {
        let authority = CertificateAuthority::generate("ca", Duration::from_secs(7200), now()).unwrap();
        let key = authority.key_pem();
        let line = key.expose().lines().nth(1).unwrap();
        assert!(!format!("{authority:?}").contains(line));
        assert!(format!("{authority:?}").contains("[redacted]"));
    }
}
