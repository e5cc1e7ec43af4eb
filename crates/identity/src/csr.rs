//! Certificate signing requests, PKCS#10 (RFC 2986).

use std::net::IpAddr;

use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, ParsedExtension};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::X509Name;

use crate::certificate::{Subject, names_extension, signed};
use crate::der;
use crate::key::{KeyError, PrivateKey};
use crate::pem::{self, PemError};

const EXTENSION_REQUEST: &[u64] = &[1, 2, 840, 113549, 1, 9, 14];

/// A request that cannot be read or trusted.
#[derive(Debug, thiserror::Error)]
pub enum CsrError {
    /// The text has no request in it.
    #[error("the certificate signing request cannot be read")]
    Pem(#[from] PemError),
    /// The request is malformed.
    #[error("the certificate signing request is malformed: {0}")]
    Malformed(String),
    /// Whoever made the request does not have the key.
    #[error("the signature of the certificate signing request is not valid")]
    Signature,
    /// The key is too weak.
    #[error("the key of the certificate signing request is too weak: {0}")]
    WeakKey(String),
}

/// A request whose signature has been verified.
#[derive(Debug, Clone)]
pub struct CertificateSigningRequest {
    /// Common name and organizations.
    pub subject: Subject,
    /// Host names asked for.
    pub dns_names: Vec<String>,
    /// Addresses asked for.
    pub ip_addresses: Vec<IpAddr>,
    /// What else is asked for: e-mail addresses, URIs, other subject attributes; as text.
    pub other_names: Vec<String>,
    public_key: Vec<u8>,
}

impl CertificateSigningRequest {
    /// Reads a request from PEM and verifies its signature.
    ///
    /// # Errors
    /// [`CsrError`] if it cannot be read, is not signed by its own key, or the key is too weak.
    pub fn from_pem(text: &str) -> Result<Self, CsrError> {
        let request = CertificateSigningRequestDer::from_pem_slice(text.as_bytes())
            .map_err(|error| PemError::new(pem::CERTIFICATE_REQUEST, &error))?;
        Self::from_der(&request)
    }

    /// Reads a request from DER and verifies its signature.
    ///
    /// # Errors
    /// As [`from_pem`](Self::from_pem).
    pub fn from_der(request: &[u8]) -> Result<Self, CsrError> {
        let (rest, parsed) = X509CertificationRequest::from_der(request)
            .map_err(|error| CsrError::Malformed(error.to_string()))?;
        if !rest.is_empty() {
            return Err(CsrError::Malformed("there is something behind it".into()));
        }
        let info = &parsed.certification_request_info;
        if let Ok(PublicKey::RSA(key)) = info.subject_pki.parsed()
            && key.key_size() < 2048
        {
            return Err(CsrError::WeakKey(format!("RSA with {} bits, 2048 are needed", key.key_size())));
        }
        parsed.verify_signature().map_err(|_| CsrError::Signature)?;
        let mut request = Self {
            subject: Subject::default(),
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            other_names: Vec::new(),
            public_key: info.subject_pki.raw.to_vec(),
        };
        request.read_subject(&info.subject)?;
        for extension in parsed.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                names.general_names.iter().try_for_each(|name| request.read_name(name))?;
            }
        }
        Ok(request)
    }

    fn read_subject(&mut self, subject: &X509Name<'_>) -> Result<(), CsrError> {
        let (parsed, others) = subject_of(subject).map_err(CsrError::Malformed)?;
        self.subject = parsed;
        self.other_names.extend(others);
        Ok(())
    }

    fn read_name(&mut self, name: &GeneralName<'_>) -> Result<(), CsrError> {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
            GeneralName::IPAddress(octets) => {
                let address = <[u8; 4]>::try_from(*octets)
                    .map(IpAddr::from)
                    .or_else(|_| <[u8; 16]>::try_from(*octets).map(IpAddr::from))
                    .map_err(|_| CsrError::Malformed("an IP address has neither 4 nor 16 bytes".into()))?;
                self.ip_addresses.push(address);
            }
            other => self.other_names.push(other.to_string()),
        }
        Ok(())
    }

    /// The public key, as DER `SubjectPublicKeyInfo`.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }
}

/// Common name and organizations of a distinguished name, and its other attributes as text.
pub(crate) fn subject_of(name: &X509Name<'_>) -> Result<(Subject, Vec<String>), String> {
    let mut subject = Subject::default();
    let mut others = Vec::new();
    let mut common_names = 0;
    for attribute in name.iter_attributes() {
        let text = attribute.as_str().map_err(|error| format!("the subject is not text: {error}"))?;
        match attribute.attr_type() {
            oid if *oid == x509_parser::oid_registry::OID_X509_COMMON_NAME => {
                common_names += 1;
                text.clone_into(&mut subject.common_name);
            }
            oid if *oid == x509_parser::oid_registry::OID_X509_ORGANIZATION_NAME => {
                subject.organizations.push(text.to_owned());
            }
            oid => others.push(format!("{oid}={text}")),
        }
    }
    if common_names > 1 {
        return Err("the subject has more than one common name".into());
    }
    Ok((subject, others))
}

/// Makes a request in PEM for a key that the caller holds.
///
/// # Errors
/// [`KeyError`] if the key cannot sign.
pub fn create(
    key: &PrivateKey,
    subject: &Subject,
    dns_names: &[String],
    ip_addresses: &[IpAddr],
) -> Result<String, KeyError> {
    let attributes: Vec<_> = names_extension(dns_names, ip_addresses)
        .map(|names| {
            let extensions = der::sequence(&[names]);
            der::sequence(&[der::oid(EXTENSION_REQUEST), der::constructed(der::SET, &[extensions])])
        })
        .into_iter()
        .collect();
    let body = der::sequence(&[
        der::unsigned(&[0]),
        subject.to_der(),
        key.public_key().to_vec(),
        der::constructed(der::context_constructed(0), &attributes),
    ]);
    Ok(pem::encode(pem::CERTIFICATE_REQUEST, &signed(body, key)?))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    fn der_of(pem: &str) -> Vec<u8> {
        let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        STANDARD.decode(base64).unwrap()
    }

    #[test]
    fn a_request_survives_its_encoding() {
        let key = PrivateKey::generate().unwrap();
        let subject = Subject::new("system:node:n1", ["system:nodes", "zwei", "три"]);
        let addresses: [IpAddr; 2] = ["10.0.0.7".parse().unwrap(), "::1".parse().unwrap()];
        let pem = create(&key, &subject, &["n1".into(), "n1.test".into()], &addresses).unwrap();
        let request = CertificateSigningRequest::from_pem(&pem).unwrap();
        assert_eq!(request.subject, subject);
        assert_eq!(request.dns_names, ["n1", "n1.test"]);
        assert_eq!(request.ip_addresses, addresses);
        assert_eq!(request.public_key(), key.public_key());
        assert!(request.other_names.is_empty());
    }

    #[test]
    fn other_texts_are_refused() {
        assert!(matches!(CertificateSigningRequest::from_pem("x"), Err(CsrError::Pem(_))));
        let garbage = pem::encode(pem::CERTIFICATE_REQUEST, b"garbage");
        assert!(matches!(CertificateSigningRequest::from_pem(&garbage), Err(CsrError::Malformed(_))));
    }

    proptest! {
        /// Whatever is changed in a request, it is refused, or says the same as before.
        #[test]
        fn a_changed_request_is_not_believed(at in any::<prop::sample::Index>(), bits in 1..=255_u8) {
            let key = PrivateKey::generate().unwrap();
            let subject = Subject::new("jane", ["dev"]);
            let mut request = der_of(&create(&key, &subject, &["n1".into()], &[]).unwrap());
            let at = at.index(request.len());
            request[at] ^= bits;
            if let Ok(request) = CertificateSigningRequest::from_der(&request) {
                prop_assert_eq!(&request.subject, &subject);
                prop_assert_eq!(&request.dns_names, &["n1"]);
                prop_assert_eq!(request.public_key(), key.public_key());
            }
        }
    }
}
