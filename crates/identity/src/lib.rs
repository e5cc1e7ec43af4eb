//! Who somebody is and what they may do: certificates, tokens, authentication, authorization.
//!
//! | module | what it does |
//! |---|---|
//! | [`ca`], [`csr`], [`signer`] | a certificate authority, signing requests, Kubernetes' rules for signing them |
//! | [`tls`] | rustls configurations, and the user in a verified client certificate |
//! | [`user`] | who made a request |
//! | [`authn`] | finding that out: certificates, tokens, passwords |
//! | [`rbac`] | Kubernetes' role-based access control, and its default policy |
//! | [`kubeconfig`] | credentials as clients read them |
//! | [`files`] | keeping secrets in files |
//!
//! Nothing here reads the clock or the network: the time is an argument, live data comes through small traits.
//! Cryptography is aws-lc-rs throughout.

pub mod authn;
pub mod ca;
mod certificate;
pub mod csr;
mod der;
pub mod files;
#[cfg(test)]
mod hostile;
mod key;
pub mod kubeconfig;
mod pem;
pub mod rbac;
pub mod secret;
pub mod signer;
pub mod tls;
pub mod user;

pub use certificate::{CertificateProfile, Identity, ONE_YEAR, Subject, Usage};
pub use key::{KeyError, PrivateKey};
pub use secret::Secret;
pub use user::UserInfo;
