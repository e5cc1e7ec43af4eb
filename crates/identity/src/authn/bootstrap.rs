//! Bootstrap tokens: how a new node introduces itself. They are Secrets of type `bootstrap.kubernetes.io/token` in
//! `kube-system`, named `bootstrap-token-ID`; the token is `ID.SECRET`.

use std::collections::BTreeMap;

use async_trait::async_trait;
use aws_lc_rs::hmac;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use rand::Rng;

use super::{AuthenticationError, Authenticator, Credential};
use crate::secret::Secret;
use crate::user::{BOOTSTRAP_NODE, BOOTSTRAPPERS, UserInfo};

const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;
/// Key of a token's Secret that names the only node which it is for; Drystone's own, other Kubernetes ignore it.
const NODE: &str = "drystone-node-name";
const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// Type of the Secrets that hold bootstrap tokens.
pub const BOOTSTRAP_TOKEN_SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";

/// A bootstrap token.
#[derive(Debug, Clone)]
pub struct BootstrapToken {
    /// Public part, 6 characters.
    pub id: String,
    /// Secret part, 16 characters.
    pub secret: Secret,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// Groups besides `system:bootstrappers`; each starts with `system:bootstrappers:`.
    pub groups: Vec<String>,
    /// Whether it may be used to authenticate at all.
    pub authenticates: bool,
    /// The only node that gets a certificate for it; `None` for any.
    pub node: Option<String>,
}

/// A Secret that is no bootstrap token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the bootstrap token Secret is not valid: data.{key}: {problem}")]
pub struct BootstrapTokenError {
    key: &'static str,
    problem: String,
}

fn invalid(key: &'static str, problem: impl Into<String>) -> BootstrapTokenError {
    BootstrapTokenError { key, problem: problem.into() }
}

impl BootstrapToken {
    /// A new random token for authentication.
    pub fn generate(expires: Option<Timestamp>, groups: Vec<String>) -> Self {
        let secret = Secret::new(random_text(SECRET_LENGTH));
        Self { id: random_text(ID_LENGTH), secret, expires, groups, authenticates: true, node: None }
    }

    /// The token of one node, made of a secret that only those who hand tokens out have: always the same for the same node, and
    /// no way from one to another.
    pub fn for_node(secret: &Secret, node: &str, expires: Option<Timestamp>) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
        let part = |what: &str, length: usize| {
            // Two bytes for each character leave no noticeable preference for some.
            let first = hmac::sign(&key, format!("drystone node token v1 {what} 0 {node}").as_bytes());
            let second = hmac::sign(&key, format!("drystone node token v1 {what} 1 {node}").as_bytes());
            let bytes = [first.as_ref(), second.as_ref()].concat();
            let character = |pair: &[u8]| {
                let number = usize::from(pair[0]) << 8 | usize::from(pair[1]);
                char::from(ALPHABET[number % ALPHABET.len()])
            };
            bytes.chunks_exact(2).take(length).map(character).collect::<String>()
        };
        Self {
            id: part("id", ID_LENGTH),
            secret: Secret::new(part("secret", SECRET_LENGTH)),
            expires,
            groups: Vec::new(),
            authenticates: true,
            node: Some(node.to_owned()),
        }
    }

    /// What a node presents.
    pub fn token(&self) -> Secret {
        Secret::new(format!("{}.{}", self.id, self.secret.expose()))
    }

    /// Name of the Secret of a token.
    pub fn secret_name(id: &str) -> String {
        format!("bootstrap-token-{id}")
    }

    /// Reads the data of a Secret.
    ///
    /// # Errors
    /// [`BootstrapTokenError`] if a key is missing or malformed.
    pub fn from_secret_data(data: &BTreeMap<String, ByteString>) -> Result<Self, BootstrapTokenError> {
        let text = |key: &'static str| match data.get(key) {
            None => Ok(None),
            Some(bytes) => {
                std::str::from_utf8(&bytes.0).map(Some).map_err(|_| invalid(key, "it is not UTF-8"))
            }
        };
        let part = |key: &'static str, length: usize| match text(key)? {
            Some(part) if is_part(part, length) => Ok(part.to_owned()),
            Some(_) => Err(invalid(key, format!("it must be {length} characters a-z0-9"))),
            None => Err(invalid(key, "it is missing")),
        };
        let expires = text("expiration")?
            .map(|text| text.parse().map_err(|_| invalid("expiration", "it is no RFC 3339 time")))
            .transpose()?;
        let groups: Vec<String> = text("auth-extra-groups")?
            .unwrap_or_default()
            .split(',')
            .filter(|group| !group.is_empty())
            .map(str::to_owned)
            .collect();
        if let Some(group) = groups.iter().find(|group| !is_group(group)) {
            return Err(invalid("auth-extra-groups", format!("{group:?} is no group of {BOOTSTRAPPERS}:")));
        }
        Ok(Self {
            id: part("token-id", ID_LENGTH)?,
            secret: part("token-secret", SECRET_LENGTH)?.into(),
            expires,
            groups,
            authenticates: text("usage-bootstrap-authentication")? == Some("true"),
            node: text(NODE)?.map(str::to_owned),
        })
    }

    /// The data of the Secret that holds the token.
    pub fn to_secret_data(&self) -> BTreeMap<String, ByteString> {
        let mut data = BTreeMap::new();
        let mut set =
            |key: &str, value: &str| data.insert(key.to_owned(), ByteString(value.as_bytes().to_vec()));
        set("token-id", &self.id);
        set("token-secret", self.secret.expose());
        set("usage-bootstrap-authentication", if self.authenticates { "true" } else { "false" });
        if let Some(expires) = self.expires {
            set("expiration", &expires.to_string());
        }
        if let Some(node) = &self.node {
            set(NODE, node);
        }
        if !self.groups.is_empty() {
            set("auth-extra-groups", &self.groups.join(","));
        }
        data
    }
}

fn random_text(length: usize) -> String {
    let mut rng = rand::rng();
    (0..length).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect()
}

fn is_part(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| ALPHABET.contains(&byte))
}

/// `system:bootstrappers:` and up to 256 of a-z, 0-9, `:`, `-`, the last a letter or digit.
fn is_group(group: &str) -> bool {
    let Some(rest) = group.strip_prefix(BOOTSTRAPPERS).and_then(|rest| rest.strip_prefix(':')) else {
        return false;
    };
    (1..=256).contains(&rest.len())
        && rest.bytes().all(|byte| ALPHABET.contains(&byte) || byte == b':' || byte == b'-')
        && rest.bytes().last().is_some_and(|byte| ALPHABET.contains(&byte))
}

/// Where bootstrap tokens are found.
#[async_trait]
pub trait BootstrapTokenSource: Send + Sync {
    /// The token with this identifier, read live; `None` if there is none.
    ///
    /// # Errors
    /// [`AuthenticationError::Unavailable`] if it cannot be read now.
    async fn find(&self, id: &str) -> Result<Option<BootstrapToken>, AuthenticationError>;
}

/// Accepts bootstrap tokens: user `system:bootstrap:ID` in group `system:bootstrappers`.
#[derive(Debug)]
pub struct BootstrapTokens<S>(S);

impl<S: BootstrapTokenSource> BootstrapTokens<S> {
    /// Accepts the tokens of a source.
    pub fn new(source: S) -> Self {
        Self(source)
    }
}

#[async_trait]
impl<S: BootstrapTokenSource> Authenticator for BootstrapTokens<S> {
    async fn authenticate(
        &self,
        credential: &Credential,
        now: Timestamp,
    ) -> Result<Option<UserInfo>, AuthenticationError> {
        let Credential::Bearer(token) = credential else { return Ok(None) };
        let Some((id, secret)) = token.expose().split_once('.') else { return Ok(None) };
        if !is_part(id, ID_LENGTH) || !is_part(secret, SECRET_LENGTH) {
            return Ok(None);
        }
        let refused = |why: &str| Err(AuthenticationError::Refused(format!("bootstrap token {id}: {why}")));
        let Some(known) = self.0.find(id).await? else { return refused("there is none of this name") };
        if known.id != id || known.secret != Secret::new(secret) {
            return refused("its secret is wrong");
        }
        if known.expires.is_some_and(|expires| expires <= now) {
            return refused("it has expired");
        }
        if !known.authenticates {
            return refused("it is not meant for authentication");
        }
        let groups = std::iter::once(BOOTSTRAPPERS.to_owned()).chain(known.groups);
        let mut user = UserInfo::new(format!("system:bootstrap:{id}"), groups);
        if let Some(node) = known.node {
            user.extra.insert(BOOTSTRAP_NODE.to_owned(), vec![node]);
        }
        Ok(Some(user))
    }
}
