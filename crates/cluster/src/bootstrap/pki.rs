//! Keys of a cluster: its own certificate authority, the key that signs ServiceAccount tokens, the token nodes join with.

use std::{collections::BTreeMap, time::Duration};

use drystone_identity::{
    CertificateProfile, PrivateKey, Secret,
    authn::BootstrapToken,
    ca::{CaError, CertificateAuthority},
    kubeconfig::{Credential, Kubeconfig},
};
use drystone_sealing::SealingKey;
use k8s_openapi::{ByteString, jiff::Timestamp};

/// How long a cluster's certificate authority is valid.
const AUTHORITY_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Keys that cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A certificate could not be made or read.
    #[error("the cluster's certificate authority: {0}")]
    Authority(#[from] CaError),
    /// A key could not be made.
    #[error("a key of the cluster: {0}")]
    Key(#[from] drystone_identity::KeyError),
    /// The Secret lacks something.
    #[error(
        "the cluster's keys lack `{0}`; the Secret was changed by hand, delete the cluster and create it again"
    )]
    Missing(&'static str),
    /// A sealing key could not be made.
    #[error("the key for the cluster's Secrets: {0}")]
    Sealing(#[from] drystone_sealing::cipher::CryptoError),
    /// A kubeconfig could not be written.
    #[error(transparent)]
    Kubeconfig(#[from] drystone_identity::kubeconfig::KubeconfigError),
}

/// The keys of a cluster. `Debug` shows none of them.
#[derive(Debug)]
pub struct ClusterPki {
    /// The certificate authority.
    pub authority: CertificateAuthority,
    /// The certificate authority of etcd, apart from the cluster's: whoever it vouches for reads and writes everything. A cluster that
    /// was made before there was one has none.
    pub etcd_authority: Option<CertificateAuthority>,
    /// Signs the tokens of ServiceAccounts (PEM).
    pub service_account_key: Secret,
    /// Under which the cluster's control plane keeps its Secrets. A cluster that was made before there was one has none.
    pub sealing_key: Option<SealingKey>,
    /// From which the tokens are made that nodes join with, one for each; no host has it.
    pub bootstrap_token: Secret,
}

impl ClusterPki {
    /// Makes new keys.
    ///
    /// # Errors
    /// [`PkiError`] if there is no randomness.
    pub fn generate(cluster: &str, now: Timestamp) -> Result<Self, PkiError> {
        Ok(Self {
            authority: CertificateAuthority::generate(
                &format!("drystone-{cluster}"),
                AUTHORITY_VALIDITY,
                now,
            )?,
            etcd_authority: Some(CertificateAuthority::generate(
                &format!("drystone-{cluster}-etcd"),
                AUTHORITY_VALIDITY,
                now,
            )?),
            service_account_key: PrivateKey::generate()?.to_pem(),
            sealing_key: Some(SealingKey::generate()?),
            bootstrap_token: BootstrapToken::generate(None, Vec::new()).token(),
        })
    }

    /// As data of a Secret.
    pub fn to_secret_data(&self) -> BTreeMap<String, ByteString> {
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        let mut data = BTreeMap::from([
            ("ca.crt".to_owned(), bytes(&self.authority.certificate_pem())),
            ("ca.key".to_owned(), bytes(self.authority.key_pem().expose())),
            ("service-account.key".to_owned(), bytes(self.service_account_key.expose())),
            ("bootstrap-token".to_owned(), bytes(self.bootstrap_token.expose())),
        ]);
        if let Some(key) = &self.sealing_key {
            data.insert("sealing-key".to_owned(), ByteString(key.expose().to_vec()));
        }
        if let Some(authority) = &self.etcd_authority {
            data.insert("etcd-ca.crt".to_owned(), bytes(&authority.certificate_pem()));
            data.insert("etcd-ca.key".to_owned(), bytes(authority.key_pem().expose()));
        }
        data
    }

    /// Reads the data of a Secret.
    ///
    /// # Errors
    /// [`PkiError`] if a key is missing or cannot be read.
    pub fn from_secret_data(data: &BTreeMap<String, ByteString>) -> Result<Self, PkiError> {
        let text = |key: &'static str| {
            let bytes = data.get(key).ok_or(PkiError::Missing(key))?;
            std::str::from_utf8(&bytes.0).map(str::to_owned).map_err(|_| PkiError::Missing(key))
        };
        let etcd_authority = if data.contains_key("etcd-ca.crt") {
            let key = Secret::new(text("etcd-ca.key")?);
            Some(CertificateAuthority::from_pem(&text("etcd-ca.crt")?, &key)?)
        } else {
            None
        };
        let sealing_key = match data.get("sealing-key") {
            Some(bytes) => {
                Some(SealingKey::from_bytes(&bytes.0).map_err(|_| PkiError::Missing("sealing-key"))?)
            }
            None => None,
        };
        Ok(Self {
            etcd_authority,
            sealing_key,
            authority: CertificateAuthority::from_pem(&text("ca.crt")?, &Secret::new(text("ca.key")?))?,
            service_account_key: Secret::new(text("service-account.key")?),
            bootstrap_token: Secret::new(text("bootstrap-token")?),
        })
    }

    /// The administrator's kubeconfig.
    ///
    /// # Errors
    /// [`PkiError`] if no certificate can be issued.
    pub fn admin_kubeconfig(
        &self,
        cluster: &str,
        server: &str,
        proxy_url: Option<Secret>,
        now: Timestamp,
    ) -> Result<Secret, PkiError> {
        let identity =
            self.authority.issue(&CertificateProfile::client("kubernetes-admin", ["system:masters"]), now)?;
        let authority = self.authority.certificate_pem();
        let mut config = Kubeconfig::new(
            cluster,
            "kubernetes-admin",
            server,
            authority,
            Credential::Certificate(identity),
        );
        config.proxy_url = proxy_url;
        Ok(config.to_yaml()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_a_secret() {
        let now = Timestamp::from_second(1_800_000_000).expect("valid");
        let keys = ClusterPki::generate("mlops", now).expect("randomness");
        let data = keys.to_secret_data();
        let read = ClusterPki::from_secret_data(&data).expect("complete");
        assert_eq!(read.to_secret_data(), data);
        assert!(!format!("{keys:?}").contains("PRIVATE"), "keys must not be shown");
        let mut lacking = data;
        lacking.remove("ca.key");
        let error = ClusterPki::from_secret_data(&lacking).expect_err("lacks the key");
        assert!(error.to_string().contains("`ca.key`"), "{error}");
    }
}
