//! kubeconfig files: where a cluster is, whom to trust there, and as whom to speak.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::certificate::Identity;
use crate::secret::Secret;

/// As whom to speak.
#[derive(Debug, Clone)]
pub enum Credential {
    /// With a client certificate.
    Certificate(Identity),
    /// With a bearer token.
    Token(Secret),
}

/// A kubeconfig with one cluster, one user and one context.
#[derive(Debug, Clone)]
pub struct Kubeconfig {
    /// Name of the cluster and of the context.
    pub cluster: String,
    /// Name of the user entry.
    pub user: String,
    /// URL of the API server.
    pub server: String,
    /// Certificates of the authorities that vouch for it, in PEM.
    pub certificate_authority_pem: String,
    /// As whom to speak.
    pub credential: Credential,
    /// Name to verify the server's certificate against, when it is not the URL's host.
    pub tls_server_name: Option<String>,
    /// URL of an HTTP CONNECT proxy on the way there; may carry a name and a password.
    pub proxy_url: Option<Secret>,
    /// Namespace of the context; `default` if none is given.
    pub namespace: Option<String>,
}

/// A kubeconfig that cannot be written down.
#[derive(Debug, thiserror::Error)]
#[error("the kubeconfig cannot be written as YAML: {0}")]
pub struct KubeconfigError(String);

impl Kubeconfig {
    /// A kubeconfig for a user of a cluster.
    pub fn new(
        cluster: impl Into<String>,
        user: impl Into<String>,
        server: impl Into<String>,
        certificate_authority_pem: impl Into<String>,
        credential: Credential,
    ) -> Self {
        Self {
            cluster: cluster.into(),
            user: user.into(),
            server: server.into(),
            certificate_authority_pem: certificate_authority_pem.into(),
            credential,
            tls_server_name: None,
            proxy_url: None,
            namespace: None,
        }
    }

    /// The file's text. It is a secret, since it carries the credential.
    ///
    /// # Errors
    /// [`KubeconfigError`] if a name cannot be written as YAML.
    pub fn to_yaml(&self) -> Result<Secret, KubeconfigError> {
        serde_saphyr::to_string(&self.file())
            .map(Secret::new)
            .map_err(|error| KubeconfigError(error.to_string()))
    }

    fn file(&self) -> File<'_> {
        let user = match &self.credential {
            Credential::Certificate(identity) => UserEntry {
                client_certificate_data: Some(STANDARD.encode(&identity.certificate_pem)),
                client_key_data: Some(STANDARD.encode(identity.key_pem.expose())),
                token: None,
            },
            Credential::Token(token) => UserEntry {
                client_certificate_data: None,
                client_key_data: None,
                token: Some(token.expose()),
            },
        };
        File {
            api_version: "v1",
            kind: "Config",
            clusters: [Named {
                name: &self.cluster,
                body: ClusterBody {
                    cluster: ClusterEntry {
                        server: &self.server,
                        certificate_authority_data: STANDARD.encode(&self.certificate_authority_pem),
                        tls_server_name: self.tls_server_name.as_deref(),
                        proxy_url: self.proxy_url.as_ref().map(Secret::expose),
                    },
                },
            }],
            users: [Named { name: &self.user, body: UserBody { user } }],
            contexts: [Named {
                name: &self.cluster,
                body: ContextBody {
                    context: ContextEntry {
                        cluster: &self.cluster,
                        user: &self.user,
                        namespace: self.namespace.as_deref(),
                    },
                },
            }],
            current_context: &self.cluster,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct File<'a> {
    #[serde(rename = "apiVersion")]
    api_version: &'a str,
    kind: &'a str,
    clusters: [Named<'a, ClusterBody<'a>>; 1],
    users: [Named<'a, UserBody<'a>>; 1],
    contexts: [Named<'a, ContextBody<'a>>; 1],
    current_context: &'a str,
}

#[derive(Serialize)]
struct Named<'a, B> {
    name: &'a str,
    #[serde(flatten)]
    body: B,
}

#[derive(Serialize)]
struct ClusterBody<'a> {
    cluster: ClusterEntry<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct ClusterEntry<'a> {
    server: &'a str,
    certificate_authority_data: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_server_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy_url: Option<&'a str>,
}

#[derive(Serialize)]
struct UserBody<'a> {
    user: UserEntry<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct UserEntry<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    client_certificate_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_key_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
}

#[derive(Serialize)]
struct ContextBody<'a> {
    context: ContextEntry<'a>,
}

#[derive(Serialize)]
struct ContextEntry<'a> {
    cluster: &'a str,
    user: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
}
