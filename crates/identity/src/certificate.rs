//! What goes into a certificate, and writing it, RFC 5280.

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use jiff::Timestamp;

use crate::der;
use crate::key::{KeyError, PrivateKey};
use crate::pem;
use crate::secret::Secret;

const COMMON_NAME: &[u64] = &[2, 5, 4, 3];
const ORGANIZATION: &[u64] = &[2, 5, 4, 10];
const SUBJECT_KEY_IDENTIFIER: &[u64] = &[2, 5, 29, 14];
const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const SUBJECT_ALTERNATIVE_NAME: &[u64] = &[2, 5, 29, 17];
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const AUTHORITY_KEY_IDENTIFIER: &[u64] = &[2, 5, 29, 35];
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];
const ECDSA_WITH_SHA256: &[u64] = &[1, 2, 840, 10045, 4, 3, 2];

const FLAG_DIGITAL_SIGNATURE: u8 = 0;
const FLAG_CERTIFICATE_SIGN: u8 = 5;
const FLAG_CRL_SIGN: u8 = 6;

/// A certificate's subject: Kubernetes takes the user from the common name and the groups from the organizations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// CN.
    pub common_name: String,
    /// O, any number.
    pub organizations: Vec<String>,
}

impl Subject {
    /// A subject with a common name and organizations.
    pub fn new<O: Into<String>>(
        common_name: impl Into<String>,
        organizations: impl IntoIterator<Item = O>,
    ) -> Self {
        let organizations = organizations.into_iter().map(Into::into).collect();
        Self { common_name: common_name.into(), organizations }
    }

    pub(crate) fn to_der(&self) -> Vec<u8> {
        let attribute = |kind: &[u64], text: &str| {
            der::constructed(der::SET, &[der::sequence(&[der::oid(kind), der::utf8(text)])])
        };
        let mut names: Vec<_> =
            self.organizations.iter().map(|organization| attribute(ORGANIZATION, organization)).collect();
        if !self.common_name.is_empty() {
            names.push(attribute(COMMON_NAME, &self.common_name));
        }
        der::sequence(&names)
    }
}

/// What a certificate's key may be used for, beyond signing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// TLS servers.
    ServerAuth,
    /// TLS clients.
    ClientAuth,
}

impl Usage {
    fn oid(self) -> Vec<u8> {
        match self {
            Self::ServerAuth => der::oid(&[1, 3, 6, 1, 5, 5, 7, 3, 1]),
            Self::ClientAuth => der::oid(&[1, 3, 6, 1, 5, 5, 7, 3, 2]),
        }
    }
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateProfile {
    /// Whose it is.
    pub subject: Subject,
    /// Host names it is for; a leading `*.` is a wildcard.
    pub dns_names: Vec<String>,
    /// Addresses it is for.
    pub ip_addresses: Vec<IpAddr>,
    /// What it is for.
    pub usages: Vec<Usage>,
    /// How long it is valid, from now.
    pub validity: Duration,
}

/// A year, the usual validity of a certificate in a cluster.
pub const ONE_YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

impl CertificateProfile {
    /// A server's certificate, for host names and addresses yet to be added, valid for a year.
    pub fn server(common_name: impl Into<String>) -> Self {
        Self {
            subject: Subject::new(common_name, [""; 0]),
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            usages: vec![Usage::ServerAuth],
            validity: ONE_YEAR,
        }
    }

    /// A client's certificate for a user and its groups, valid for a year.
    pub fn client<G: Into<String>>(user: impl Into<String>, groups: impl IntoIterator<Item = G>) -> Self {
        Self {
            subject: Subject::new(user, groups),
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            usages: vec![Usage::ClientAuth],
            validity: ONE_YEAR,
        }
    }

    /// Adds host names.
    #[must_use]
    pub fn dns<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.dns_names.extend(names.into_iter().map(Into::into));
        self
    }

    /// Adds addresses.
    #[must_use]
    pub fn ip(mut self, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        self.ip_addresses.extend(addresses);
        self
    }

    /// Adds a usage.
    #[must_use]
    pub fn usage(mut self, usage: Usage) -> Self {
        if !self.usages.contains(&usage) {
            self.usages.push(usage);
        }
        self
    }

    /// Changes how long it is valid.
    #[must_use]
    pub fn valid_for(mut self, validity: Duration) -> Self {
        self.validity = validity;
        self
    }
}

/// A certificate with its private key, both in PEM; the certificate may be followed by its issuers.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate, then the authorities that vouch for it, if they are not roots.
    pub certificate_pem: String,
    /// The private key.
    pub key_pem: Secret,
}

/// Whether a certificate is an authority's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Authority,
    Leaf,
}

/// Everything of a certificate except its signature.
pub(crate) struct ToBeSigned<'a> {
    pub(crate) serial: [u8; 16],
    /// The issuer's subject, in DER.
    pub(crate) issuer: &'a [u8],
    /// The issuer's public key (`SubjectPublicKeyInfo`), or the identifier its certificate gives it.
    pub(crate) issuer_key_identifier: &'a [u8],
    /// The subject, in DER.
    pub(crate) subject: &'a [u8],
    pub(crate) public_key: &'a [u8],
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    pub(crate) role: Role,
    pub(crate) usages: &'a [Usage],
    pub(crate) dns_names: &'a [String],
    pub(crate) ip_addresses: &'a [IpAddr],
}

impl ToBeSigned<'_> {
    /// Signs; the result is the certificate in DER.
    pub(crate) fn sign(&self, key: &PrivateKey) -> Result<Vec<u8>, KeyError> {
        let version_3 = der::constructed(der::context_constructed(0), &[der::unsigned(&[2])]);
        let validity = der::sequence(&[der::time(self.not_before), der::time(self.not_after)]);
        let extensions = der::constructed(der::context_constructed(3), &[der::sequence(&self.extensions())]);
        let body = der::sequence(&[
            version_3,
            der::unsigned(&self.serial),
            signature_algorithm(),
            self.issuer.to_vec(),
            validity,
            self.subject.to_vec(),
            self.public_key.to_vec(),
            extensions,
        ]);
        signed(body, key)
    }

    fn extensions(&self) -> Vec<Vec<u8>> {
        let key_usages: &[u8] = match self.role {
            Role::Authority => &[FLAG_DIGITAL_SIGNATURE, FLAG_CERTIFICATE_SIGN, FLAG_CRL_SIGN],
            Role::Leaf => &[FLAG_DIGITAL_SIGNATURE],
        };
        let constraints = match self.role {
            Role::Authority => der::sequence(&[der::boolean(true)]),
            Role::Leaf => der::sequence(&[]),
        };
        let own_identifier = der::value(der::OCTET_STRING, &key_identifier(self.public_key));
        let issuer_identifier = der::sequence(&[der::value(der::context(0), self.issuer_key_identifier)]);
        let mut extensions = vec![
            critical_extension(KEY_USAGE, &der::flags(key_usages)),
            critical_extension(BASIC_CONSTRAINTS, &constraints),
            extension(SUBJECT_KEY_IDENTIFIER, &own_identifier),
            extension(AUTHORITY_KEY_IDENTIFIER, &issuer_identifier),
        ];
        extensions.extend(usage_extension(self.usages));
        extensions.extend(names_extension(self.dns_names, self.ip_addresses));
        extensions
    }
}

/// Signs a body: the body, the algorithm, the signature, as certificates and requests have it.
pub(crate) fn signed(body: Vec<u8>, key: &PrivateKey) -> Result<Vec<u8>, KeyError> {
    let signature = key.sign(&body)?;
    Ok(der::sequence(&[body, signature_algorithm(), der::bit_string(&signature)]))
}

fn signature_algorithm() -> Vec<u8> {
    der::sequence(&[der::oid(ECDSA_WITH_SHA256)])
}

/// The usual identifier of a public key, RFC 5280 section 4.2.1.2; SHA-1 is no secret's guard here, only a name.
pub(crate) fn key_identifier(public_key: &[u8]) -> Vec<u8> {
    digest(&SHA1_FOR_LEGACY_USE_ONLY, public_key).as_ref().to_vec()
}

fn extension(kind: &[u64], content: &[u8]) -> Vec<u8> {
    der::sequence(&[der::oid(kind), der::value(der::OCTET_STRING, content)])
}

fn critical_extension(kind: &[u64], content: &[u8]) -> Vec<u8> {
    der::sequence(&[der::oid(kind), der::boolean(true), der::value(der::OCTET_STRING, content)])
}

pub(crate) fn usage_extension(usages: &[Usage]) -> Option<Vec<u8>> {
    let purposes: Vec<_> = usages.iter().map(|usage| usage.oid()).collect();
    (!purposes.is_empty()).then(|| extension(EXTENDED_KEY_USAGE, &der::sequence(&purposes)))
}

pub(crate) fn names_extension(dns_names: &[String], ip_addresses: &[IpAddr]) -> Option<Vec<u8>> {
    let mut names: Vec<_> =
        dns_names.iter().map(|name| der::value(der::context(2), name.as_bytes())).collect();
    names.extend(ip_addresses.iter().map(|address| match address {
        IpAddr::V4(address) => der::value(der::context(7), &address.octets()),
        IpAddr::V6(address) => der::value(der::context(7), &address.octets()),
    }));
    (!names.is_empty()).then(|| extension(SUBJECT_ALTERNATIVE_NAME, &der::sequence(&names)))
}

/// Encodes a certificate.
pub(crate) fn to_pem(certificate: &[u8]) -> String {
    pem::encode(pem::CERTIFICATE, certificate)
}
