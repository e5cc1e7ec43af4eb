//! How another replica gets the keys: all replicas over one etcd are one Drystone, with one certificate authority.
//!
//! `drystone join-token` makes a token: an id, a secret, and the digest of the authority's certificate. The new replica asks for the
//! certificate, which is public, and checks it by the digest; then it asks for the keys over TLS that this certificate vouches for. A
//! token is good once, and for a short time: whoever gets the keys by it has deleted it first.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use drystone_api::SYSTEM_NAMESPACE;
use drystone_identity::{
    Secret as Hidden,
    files::{private_directory, write_private, write_public},
};
use drystone_sealing::SealingKey;
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, PostParams, Preconditions},
};
use rand::{Rng as _, distr::Alphanumeric};
use reqwest::Certificate;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use url::Url;

use super::{UpArgs, pki, storage::Storage};
use crate::command::Failure;

const CA_PATH: &str = "/join/v1/ca";
const KEYS_PATH: &str = "/join/v1/keys";

/// Type of the Secrets that tokens are kept in; their names begin alike.
const TOKEN_TYPE: &str = "drystone.dev/join-token";
const TOKEN_PREFIX: &str = "join-token-";

/// Largest file of keys, and largest answer.
const FILE_LIMIT: u64 = 64 * 1024;
const ANSWER_LIMIT: usize = 1024 * 1024;

/// How long a request may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// A token: `ID.SECRET.DIGEST`.
#[derive(Clone)]
pub(crate) struct Token {
    id: String,
    secret: Hidden,
    /// SHA-256 of the authority's certificate (DER), in hexadecimal digits.
    authority: String,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("id", &self.id).finish_non_exhaustive()
    }
}

impl FromStr for Token {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_plain =
            |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        match text.trim().split('.').collect::<Vec<_>>().as_slice() {
            [id, secret, authority] if [id, secret, authority].into_iter().all(is_plain) => Ok(Self {
                id: (*id).to_owned(),
                secret: Hidden::new(*secret),
                authority: authority.to_ascii_lowercase(),
            }),
            _ => {
                Err("expected a token as `drystone join-token` prints it: three parts with dots between them"
                    .to_owned())
            }
        }
    }
}

impl Token {
    fn new(authority_pem: &str) -> Result<Self, Failure> {
        let random =
            |length| rand::rng().sample_iter(&Alphanumeric).take(length).map(char::from).collect::<String>();
        Ok(Self {
            id: random(8).to_ascii_lowercase(),
            secret: Hidden::new(random(32)),
            authority: fingerprint(authority_pem)?,
        })
    }

    /// The text, to be shown once.
    fn reveal(&self) -> String {
        format!("{}.{}.{}", self.id, self.secret.expose(), self.authority)
    }
}

/// SHA-256 of the certificate in a PEM text, in hexadecimal digits.
fn fingerprint(pem: &str) -> Result<String, Failure> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    let der = STANDARD
        .decode(body)
        .map_err(|error| format!("the authority's certificate is no PEM text: {error}"))?;
    Ok(hexadecimal(&Sha256::digest(der)))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes a token that is good for a while, and returns its text.
pub(crate) async fn make_token(
    client: &Client,
    authority_pem: &str,
    ttl: Duration,
) -> Result<String, Failure> {
    let token = Token::new(authority_pem)?;
    let expires = Timestamp::now() + jiff::SignedDuration::try_from(ttl)?;
    let hash = hexadecimal(&Sha256::digest(token.secret.expose()));
    let secret = Secret {
        metadata: ObjectMeta { name: Some(format!("{TOKEN_PREFIX}{}", token.id)), ..ObjectMeta::default() },
        type_: Some(TOKEN_TYPE.to_owned()),
        data: Some(
            [("hash", hash), ("expires", expires.to_string())]
                .map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())))
                .into(),
        ),
        ..Secret::default()
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    secrets.create(&PostParams::default(), &secret).await?;
    Ok(token.reveal())
}

/// What is asked for.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    id: String,
    secret: String,
}

/// The keys: file names below the data directory, with contents in base64.
#[derive(Serialize, Deserialize)]
struct Keys {
    files: BTreeMap<String, String>,
}

#[derive(Clone)]
struct Door {
    client: Client,
    authority_pem: String,
    sealing: SealingKey,
    data: PathBuf,
}

/// Routes of the HTTPS port by which replicas join.
pub(super) fn router(client: Client, keys: &pki::Keys, data: &Path) -> Router {
    let door = Door {
        client,
        authority_pem: keys.authority.certificate_pem(),
        sealing: keys.sealing.clone(),
        data: data.to_owned(),
    };
    Router::new()
        .route(CA_PATH, get(|State(door): State<Door>| async move { door.authority_pem }))
        .route(KEYS_PATH, post(give))
        .layer(axum::extract::DefaultBodyLimit::max(4096))
        .with_state(door)
}

async fn give(State(door): State<Door>, Json(ask): Json<Ask>) -> Response {
    match door.redeem(&ask).await {
        Ok(true) => {}
        Ok(false) => {
            tracing::warn!(id = ask.id, "a join token that is not good");
            return (StatusCode::FORBIDDEN, "the token is not known, was used, or has expired")
                .into_response();
        }
        Err(error) => {
            tracing::warn!("checking a join token: {error}");
            return (StatusCode::SERVICE_UNAVAILABLE, "the token cannot be checked at the moment")
                .into_response();
        }
    }
    match read_keys(&door.data, &door.sealing) {
        Ok(keys) => {
            tracing::info!(id = ask.id, "keys were given to another replica");
            Json(keys).into_response()
        }
        Err(error) => {
            tracing::error!("reading the keys for another replica: {error}");
            (StatusCode::INTERNAL_SERVER_ERROR, "the keys cannot be read").into_response()
        }
    }
}

impl Door {
    /// Whether a token is good. It is not good a second time.
    async fn redeem(&self, ask: &Ask) -> Result<bool, kube::Error> {
        let is_plain = |text: &str| {
            !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        if !is_plain(&ask.id) || !is_plain(&ask.secret) {
            return Ok(false);
        }
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let name = format!("{TOKEN_PREFIX}{}", ask.id.to_ascii_lowercase());
        let Some(secret) = secrets.get_opt(&name).await? else { return Ok(false) };
        let data = secret.data.unwrap_or_default();
        let text = |key: &str| data.get(key).map(|bytes| bytes.0.as_slice()).unwrap_or_default();
        let hash = hexadecimal(&Sha256::digest(&ask.secret));
        let is_right =
            secret.type_.as_deref() == Some(TOKEN_TYPE) && bool::from(hash.as_bytes().ct_eq(text("hash")));
        let expires =
            std::str::from_utf8(text("expires")).ok().and_then(|text| text.parse::<Timestamp>().ok());
        if !is_right || expires.is_none_or(|expires| expires < Timestamp::now()) {
            return Ok(false);
        }
        // Of several that show it at the same time, one deletes it.
        let this =
            Preconditions { uid: secret.metadata.uid, resource_version: secret.metadata.resource_version };
        let params = DeleteParams { preconditions: Some(this), ..DeleteParams::default() };
        match secrets.delete(&name, &params).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// All files of `pki/`, the administrator's password, and the key that the files are sealed under, wherever it is kept here: the new
/// replica finds it in the file, and moves it into its TPM if it has one.
fn read_keys(data: &Path, sealing: &SealingKey) -> Result<Keys, Failure> {
    let mut files = BTreeMap::new();
    let mut take = |name: String, path: &Path| -> Result<(), Failure> {
        if std::fs::metadata(path)?.len() > FILE_LIMIT {
            return Err(format!("{}: larger than any key", path.display()).into());
        }
        files.insert(name, STANDARD.encode(std::fs::read(path)?));
        Ok(())
    };
    for entry in std::fs::read_dir(data.join("pki"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_file() && is_file_name(&name) {
            take(format!("pki/{name}"), &entry.path())?;
        }
    }
    take("admin-password".to_owned(), &data.join("admin-password"))?;
    files.insert("pki/sealing-key".to_owned(), STANDARD.encode(sealing.expose()));
    Ok(Keys { files })
}

/// A name that stays in its directory, and is no hidden or unfinished file.
fn is_file_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Fetches the keys of the Drystone that `--join` names, unless this one has keys.
pub(super) async fn fetch_keys(args: &UpArgs, data: &Path) -> Result<(), Failure> {
    let (Some(url), Some(token)) = (&args.join, &args.token) else { return Ok(()) };
    if args.store == Storage::Embedded {
        return Err("--join makes a replica, which needs the others' store: give --store etcd=URL".into());
    }
    let authority = data.join("pki").join("ca.crt");
    if authority.exists() {
        let pem = std::fs::read_to_string(&authority)?;
        if fingerprint(&pem)? != token.authority {
            return Err(format!(
                "{} has keys of another Drystone; give another --data directory to join {url}",
                data.display()
            )
            .into());
        }
        tracing::info!("has joined before; the token is not used");
        return Ok(());
    }
    let keys = ask(url, token).await.map_err(|error| format!("joining {url}: {error}"))?;
    store(&keys, data)
}

async fn ask(url: &Url, token: &Token) -> Result<Keys, Failure> {
    // Nothing is said to a server that is not known yet, and what it says is checked by the token.
    let stranger = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .no_proxy()
        .timeout(DEADLINE)
        .build()?;
    let answer = stranger.get(url.join(CA_PATH)?).send().await?.error_for_status()?;
    let pem = String::from_utf8(limited(answer).await?)?;
    if fingerprint(&pem)? != token.authority {
        return Err("its certificate authority is not the one that the token is for: somebody is in between, or the URL is wrong".into());
    }
    let trusting = reqwest::Client::builder()
        .tls_certs_only([Certificate::from_pem(pem.as_bytes())?])
        .no_proxy()
        .timeout(DEADLINE)
        .build()?;
    let ask = Ask { id: token.id.clone(), secret: token.secret.expose().to_owned() };
    let answer = trusting.post(url.join(KEYS_PATH)?).json(&ask).send().await?;
    let status = answer.status();
    let body = limited(answer).await?;
    if !status.is_success() {
        return Err(format!("{status}: {}", String::from_utf8_lossy(&body)).into());
    }
    Ok(serde_json::from_slice(&body)?)
}

/// The body of an answer that is not too long.
async fn limited(mut answer: reqwest::Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await? {
        if body.len() + piece.len() > ANSWER_LIMIT {
            return Err("the answer is too long".into());
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// Writes the keys; the authority's certificate last, for it says that all is there.
fn store(keys: &Keys, data: &Path) -> Result<(), Failure> {
    private_directory(data)?;
    private_directory(&data.join("pki"))?;
    let mut last = None;
    for (name, content) in &keys.files {
        let inside = name.strip_prefix("pki/").unwrap_or(name);
        if !(is_file_name(inside) && (inside != name || name == "admin-password")) {
            return Err(format!("the other Drystone sends a file of the name {name:?}").into());
        }
        let content = STANDARD.decode(content)?;
        if name == "pki/ca.crt" {
            last = Some(content);
        } else {
            write_private(&data.join(name), &content)?;
        }
    }
    let certificate = last.ok_or("the other Drystone sends no certificate authority")?;
    write_public(&data.join("pki").join("ca.crt"), &certificate)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_as_they_are_written_and_not_shown() {
        let pem = "-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n";
        let token = Token::new(pem).expect("made");
        let read: Token = token.reveal().parse().expect("read");
        assert_eq!(read.reveal(), token.reveal());
        assert_eq!(read.authority, hexadecimal(&Sha256::digest("abc")));
        assert!(!format!("{read:?}").contains(token.secret.expose()));
        for wrong in ["", "a.b", "a.b.c.d", "a..c", "a.b/../c.d", "a.b.c d"] {
            assert!(wrong.parse::<Token>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn keys_come_out_as_they_went_in_and_stay_in_their_directory() {
        let (from, to) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let sealing = SealingKey::generate().expect("randomness");
        pki::load_or_make(from.path(), &[], &sealing).expect("made");
        let mut keys = read_keys(from.path(), &sealing).expect("read");
        store(&keys, to.path()).expect("stored");
        assert_eq!(std::fs::read(to.path().join("pki/sealing-key")).expect("a key"), sealing.expose());
        pki::load_or_make(to.path(), &[], &sealing).expect("the copied keys open");
        keys.files.remove("pki/sealing-key");
        for name in keys.files.keys() {
            let content = |place: &Path| std::fs::read(place.join(name)).expect("a file");
            assert_eq!(content(from.path()), content(to.path()), "{name}");
        }
        for wrong in ["pki/../x", "/etc/x", "pki/a/b", "x", "pki/.hidden", "../admin-password"] {
            keys.files.insert(wrong.to_owned(), String::new());
            assert!(store(&keys, to.path()).is_err(), "{wrong}");
            keys.files.remove(wrong);
        }
    }
}
