//! The node's client certificate: on disk, or signed by the cluster for a bootstrap token.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use drystone_identity::{
    Identity, KeyError, PrivateKey, Secret, Subject,
    files::{FileError, private_directory, read_if_exists, write_private},
    tls,
};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioExecutor};
use k8s_openapi::jiff::Timestamp;
use kube::{Client, Config, client::ConfigExt as _, config::AuthInfo};

use super::request::{RequestError, Wanted, certificate};
use crate::config::NodeConfig;

const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";
const PRIVATE_KEY: &str = "-----BEGIN PRIVATE KEY-----";

/// After how long a silent connection to the API server is tried.
const KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(4);

/// A node that cannot join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no certificate, and nothing to get one with.
    #[error("the node has no certificate and no bootstrap token: set `bootstrapTokenFile`")]
    NoToken,
    /// The token file cannot be read.
    #[error("the bootstrap token {} cannot be read: {source}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A key cannot be made or read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The cluster did not sign.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The API server's address or certificates cannot be used.
    #[error("no client for the API server can be made: {0}")]
    Client(Box<kube::Error>),
    /// The API server's URL makes no sense.
    #[error("field `apiServer` of the node configuration: {0}")]
    Url(String),
}

/// Where keys and certificates are.
pub(super) struct Files {
    directory: PathBuf,
}

impl Files {
    pub(super) fn of(config: &NodeConfig) -> Result<Self, JoinError> {
        let directory = config.data_dir.join("pki");
        private_directory(&directory)?;
        Ok(Self { directory })
    }

    fn identity_path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.pem"))
    }

    /// Certificate and key are in one file, so that they are replaced together.
    pub(super) fn read(&self, name: &str) -> Result<Option<Identity>, JoinError> {
        let Some(bytes) = read_if_exists(&self.identity_path(name))? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some(position) = text.find(PRIVATE_KEY) else { return Ok(None) };
        let (certificate, key) = text.split_at(position);
        Ok(Some(Identity { certificate_pem: certificate.to_owned(), key_pem: Secret::new(key) }))
    }

    pub(super) fn write(&self, name: &str, identity: &Identity) -> Result<(), JoinError> {
        let text = format!("{}\n{}", identity.certificate_pem.trim_end(), identity.key_pem.expose());
        write_private(&self.identity_path(name), text.as_bytes())?;
        // The key is in use now; the next certificate gets another.
        let _ = fs::remove_file(self.pending_path(name));
        Ok(())
    }

    fn pending_path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.pending.key"))
    }

    /// The key of a request that is under way, perhaps since before a restart.
    fn pending_key(&self, name: &str) -> Result<PrivateKey, JoinError> {
        let path = self.pending_path(name);
        if let Some(bytes) = read_if_exists(&path)?
            && let Ok(key) = PrivateKey::from_pem(&String::from_utf8_lossy(&bytes))
        {
            return Ok(key);
        }
        let key = PrivateKey::generate()?;
        write_private(&path, key.to_pem().expose().as_bytes())?;
        Ok(key)
    }

    /// When a certificate was obtained.
    pub(super) fn obtained(&self, name: &str) -> Option<Timestamp> {
        let modified = fs::metadata(self.identity_path(name)).ok()?.modified().ok()?;
        Timestamp::try_from(modified).ok()
    }

    /// Has a certificate signed and keeps it.
    async fn request(&self, name: &str, client: &Client, wanted: &Wanted) -> Result<Identity, JoinError> {
        let key = self.pending_key(name)?;
        let signed = match certificate(client, &key, wanted).await {
            Err(error @ RequestError::Refused { .. }) => {
                // The same key would find the same refusal.
                let _ = fs::remove_file(self.pending_path(name));
                return Err(error.into());
            }
            other => other?,
        };
        let identity = Identity { certificate_pem: signed, key_pem: key.to_pem() };
        self.write(name, &identity)?;
        Ok(identity)
    }
}

/// Name of the node's client certificate among its files.
pub(super) const CLIENT: &str = "client";
/// Name of the certificate of the kubelet API.
pub(super) const SERVING: &str = "serving";

fn node_subject(config: &NodeConfig) -> Subject {
    Subject::new(format!("system:node:{}", config.node_name), ["system:nodes"])
}

/// A client that proves itself with a certificate.
///
/// # Errors
/// [`JoinError`] if certificate or configuration cannot be used.
pub fn client_with(config: &NodeConfig, identity: &Identity) -> Result<Client, JoinError> {
    let auth_info = AuthInfo {
        client_certificate_data: Some(STANDARD.encode(&identity.certificate_pem)),
        client_key_data: Some(STANDARD.encode(identity.key_pem.expose()).into()),
        ..AuthInfo::default()
    };
    client(config, auth_info)
}

fn client(config: &NodeConfig, auth_info: AuthInfo) -> Result<Client, JoinError> {
    let url = config.api_server.parse().map_err(|error| JoinError::Url(format!("{error}")))?;
    let mut api = Config::new(url);
    api.root_cert_file = Some(config.ca_file.clone());
    api.connect_timeout = Some(std::time::Duration::from_secs(10));
    api.auth_info = auth_info;
    connect(api).map_err(|error| JoinError::Client(Box::new(error)))
}

/// As `Client::try_from`, with connections that are tried while they are silent, and given up when nobody acknowledges what was sent: when
/// another host of the control plane has taken over the address, neither watches nor requests on the one that is gone must wait for ever.
/// (While something is on its way no keep-alive is sent; the kernel would repeat it less and less often, for a quarter of an hour.)
fn connect(api: Config) -> Result<Client, kube::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(api.connect_timeout);
    tcp.set_keepalive(Some(KEEP_ALIVE));
    tcp.set_keepalive_interval(Some(KEEP_ALIVE / 2));
    tcp.set_keepalive_retries(Some(3));
    tcp.set_tcp_user_timeout(Some(KEEP_ALIVE * 5 / 2));
    let https = api.rustls_https_connector_with_connector(tcp)?;
    let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(https);
    let service = tower::ServiceBuilder::new()
        .layer(api.base_uri_layer())
        .option_layer(api.auth_layer()?)
        .map_err(tower::BoxError::from)
        .service(client);
    Ok(kube::client::ClientBuilder::new(service, api.default_namespace).build())
}

/// The node's client certificate: the one on disk while it is valid, else a new one.
///
/// # Errors
/// [`JoinError`] if there is none to be had now.
pub async fn join(config: &NodeConfig, now: Timestamp) -> Result<Identity, JoinError> {
    let files = Files::of(config)?;
    if let Some(identity) = files.read(CLIENT)?
        && tls::not_after(&identity.certificate_pem).is_ok_and(|end| end > now)
    {
        return Ok(identity);
    }
    let path = config.bootstrap_token_file.as_deref().ok_or(JoinError::NoToken)?;
    let token = read_token(path)?;
    let bootstrap = client(config, AuthInfo { token: Some(token.expose().into()), ..AuthInfo::default() })?;
    renew_client(config, &bootstrap).await
}

fn read_token(path: &Path) -> Result<Secret, JoinError> {
    let text =
        fs::read_to_string(path).map_err(|source| JoinError::Token { path: path.to_owned(), source })?;
    Ok(Secret::new(text.trim()))
}

/// Has a new client certificate signed.
pub(super) async fn renew_client(config: &NodeConfig, client: &Client) -> Result<Identity, JoinError> {
    let wanted = Wanted {
        signer: CLIENT_SIGNER,
        subject: node_subject(config),
        dns_names: Vec::new(),
        addresses: Vec::new(),
        usages: vec!["digital signature", "client auth"],
    };
    Files::of(config)?.request(CLIENT, client, &wanted).await
}

/// Has a new certificate for the kubelet API signed.
pub(super) async fn renew_serving(config: &NodeConfig, client: &Client) -> Result<Identity, JoinError> {
    let wanted = Wanted {
        signer: SERVING_SIGNER,
        subject: node_subject(config),
        dns_names: vec![config.node_name.clone()],
        addresses: vec![config.node_address.into()],
        usages: vec!["digital signature", "server auth"],
    };
    Files::of(config)?.request(SERVING, client, &wanted).await
}
