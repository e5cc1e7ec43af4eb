//! Keys of a Drystone: its certificate authority, its server certificate, the administrator's credentials. Made at the
//! first start, kept in the data directory with mode 0600; what only this program reads is encrypted under the sealing key besides.

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use drystone_identity::{
    CertificateProfile, Identity, PrivateKey, Secret, Usage,
    ca::CertificateAuthority,
    files::{private_directory, read_if_exists, write_private, write_public},
    kubeconfig::{Credential, Kubeconfig},
};
use drystone_sealing::{SealingKey, file as sealed};
use jiff::Timestamp;
use rand::{Rng as _, distr::Alphanumeric};

use crate::command::Failure;

/// How long the certificate authority is valid.
const AUTHORITY_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Key of the certificate authority.
const AUTHORITY_KEY: &str = "ca.key";

/// Characters of the administrator's password: 142 bits.
const PASSWORD_LENGTH: usize = 24;

/// The keys.
pub(crate) struct Keys {
    /// Signs every certificate of this Drystone.
    pub(crate) authority: Arc<CertificateAuthority>,
    /// Certificate and key of the HTTPS port.
    pub(crate) server: Identity,
    /// Signs tokens of service accounts (PEM).
    pub(crate) service_account_key: Secret,
    /// Password of the user `admin`.
    pub(crate) admin_password: Secret,
    /// Makes paths of boot media unguessable.
    pub(crate) boot_secret: Vec<u8>,
    /// What the files of keys, and the Secrets in the store, are encrypted under.
    pub(crate) sealing: SealingKey,
}

/// Reads the keys, or makes those that are missing.
pub(crate) fn load_or_make(data: &Path, addresses: &[IpAddr], sealing: &SealingKey) -> Result<Keys, Failure> {
    let now = Timestamp::now();
    private_directory(data)?;
    let directory = data.join("pki");
    private_directory(&directory)?;
    let authority = Arc::new(authority(&directory, sealing, now)?);
    write_public(&data.join("ca.crt"), authority.certificate_pem().as_bytes())?;
    // Issued anew at every start: the listening address may have changed, and it never grows old.
    let server = server_identity(&authority, addresses.iter().copied(), now)?;
    let key =
        sealed_once(&directory, "service-account.key", sealing, || Ok(PrivateKey::generate()?.to_pem()))?;
    let admin_password = text_once(&data.join("admin-password"), || {
        let letters = rand::rng().sample_iter(&Alphanumeric).take(PASSWORD_LENGTH).map(char::from);
        Ok(Secret::new(letters.collect::<String>()))
    })?;
    let boot_secret = sealed_once(&directory, "boot-secret", sealing, || {
        let letters = rand::rng().sample_iter(&Alphanumeric).take(64).map(char::from);
        Ok(Secret::new(letters.collect::<String>()))
    })?;
    Ok(Keys {
        authority,
        server,
        service_account_key: key,
        admin_password,
        boot_secret: boot_secret.expose().as_bytes().to_vec(),
        sealing: sealing.clone(),
    })
}

/// A certificate for the HTTPS port, which names these addresses.
pub(crate) fn server_identity(
    authority: &CertificateAuthority,
    addresses: impl IntoIterator<Item = IpAddr>,
    now: Timestamp,
) -> Result<Identity, Failure> {
    let names = ["localhost", "drystone", "kubernetes.default.svc"];
    let profile = CertificateProfile::server("drystone").dns(names).ip(addresses).usage(Usage::ClientAuth);
    Ok(authority.issue(&profile, now)?)
}

fn authority(
    directory: &Path,
    sealing: &SealingKey,
    now: Timestamp,
) -> Result<CertificateAuthority, Failure> {
    let (certificate, key) = (directory.join("ca.crt"), directory.join(AUTHORITY_KEY));
    let known = sealed::read(&key, &place(AUTHORITY_KEY), sealing)?;
    if let (Some(certificate), Some(key)) = (read_if_exists(&certificate)?, known) {
        return Ok(CertificateAuthority::from_pem(&String::from_utf8(certificate)?, &key)?);
    }
    let authority = CertificateAuthority::generate("drystone", AUTHORITY_VALIDITY, now)?;
    // The key first: a certificate without its key would be taken for a complete authority.
    sealed::write(&key, &place(AUTHORITY_KEY), sealing, &authority.key_pem())?;
    write_public(&certificate, authority.certificate_pem().as_bytes())?;
    Ok(authority)
}

/// Where an encrypted file belongs: it does not open elsewhere.
fn place(name: &str) -> String {
    format!("pki/{name}")
}

/// Reads an encrypted file, or makes it. The administrator's password is none of them: he reads it.
fn sealed_once(
    directory: &Path,
    name: &str,
    sealing: &SealingKey,
    make: impl FnOnce() -> Result<Secret, Failure>,
) -> Result<Secret, Failure> {
    let path = directory.join(name);
    if let Some(secret) = sealed::read(&path, &place(name), sealing)? {
        return Ok(Secret::new(secret.expose().trim_end()));
    }
    let secret = make()?;
    sealed::write(&path, &place(name), sealing, &secret)?;
    Ok(secret)
}

/// Reads a secret file, or makes it.
fn text_once(path: &Path, make: impl FnOnce() -> Result<Secret, Failure>) -> Result<Secret, Failure> {
    if let Some(bytes) = read_if_exists(path)? {
        return Ok(Secret::new(String::from_utf8(bytes)?.trim_end().to_owned()));
    }
    let secret = make()?;
    write_private(path, secret.expose().as_bytes())?;
    Ok(secret)
}

/// Writes the administrator's kubeconfig.
pub(crate) fn write_admin_kubeconfig(keys: &Keys, data: &Path, server: &str) -> Result<(), Failure> {
    let identity =
        keys.authority.issue(&CertificateProfile::client("admin", ["system:masters"]), Timestamp::now())?;
    let config = Kubeconfig::new(
        "drystone",
        "admin",
        server,
        keys.authority.certificate_pem(),
        Credential::Certificate(identity),
    );
    write_private(&data.join("kubeconfig"), config.to_yaml()?.expose().as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_are_made_once_and_kept_private() {
        let directory = tempfile::tempdir().expect("a directory");
        let sealing = SealingKey::generate().expect("randomness");
        let first = load_or_make(directory.path(), &[], &sealing).expect("made");
        let second = load_or_make(directory.path(), &[], &sealing).expect("read");
        assert_eq!(first.authority.certificate_pem(), second.authority.certificate_pem());
        assert_eq!(first.admin_password.expose(), second.admin_password.expose());
        assert_eq!(first.boot_secret, second.boot_secret);
        for secret in ["admin-password", "pki/ca.key", "pki/service-account.key", "pki/boot-secret"] {
            let mode = std::fs::metadata(directory.path().join(secret)).expect(secret).permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{secret}");
        }
        for secret in ["pki/ca.key", "pki/service-account.key", "pki/boot-secret"] {
            let text = std::fs::read_to_string(directory.path().join(secret)).expect(secret);
            assert!(text.contains("SEALED") && !text.contains("PRIVATE"), "{secret}: {text}");
        }
        let other = SealingKey::generate().expect("randomness");
        assert!(
            load_or_make(directory.path(), &[], &other).is_err(),
            "another key must not make another authority"
        );
    }
}
