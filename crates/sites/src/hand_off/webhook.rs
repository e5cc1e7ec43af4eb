//! An orchestrator that is told over HTTP.
//!
//! Each document is posted whole, with the headers `Idempotency-Key: ID/GENERATION` and whatever shows who Drystone is. An answer of the class
//! 2xx says that it is taken; 409 with a `generation` says that a later one was; everything else that it was not.

use std::{net::IpAddr, time::Duration};

use aws_lc_rs::hmac;
use drystone_api::{HandOffAuthentication, HandOffAuthenticationType, HandOffWebhook};
use drystone_engine::reference::describe_kube_error;
use drystone_identity::Secret as Hidden;
use futures::{FutureExt as _, future::BoxFuture};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use reqwest::{Certificate, RequestBuilder, Response, StatusCode, redirect::Policy};
use serde::Deserialize;
use url::{Host, Url};

use super::{Answer, Handoff, HandoffError};
use crate::plan::hand_off::{Document, is_loopback, phase};

/// Header with the signature of the body.
const SIGNATURE_HEADER: &str = "x-drystone-signature";
/// Header that is the same for the same document.
const IDEMPOTENCY_HEADER: &str = "idempotency-key";

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer is waited for, unless the specification says.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of a document.
const MOST_TOLD: usize = 16 << 20;
/// The most bytes of an answer.
const MOST_ANSWERED: usize = 64 << 10;
/// The most characters of a phase, and of a message, that are shown.
const MOST_OF_PHASE: usize = 64;
const MOST_OF_MESSAGE: usize = 512;

/// Keys in Secrets and ConfigMaps.
const TOKEN: &str = "token";
const HMAC_KEY: &str = "hmac-key";
const AUTHORITIES: &str = "ca.crt";
/// Fewest bytes of a key that signs.
const LEAST_KEY: usize = 16;

/// An orchestrator behind a URL.
#[derive(Clone)]
pub struct Webhook {
    client: Client,
    namespace: String,
    settings: HandOffWebhook,
}

/// What shows who Drystone is.
enum Proof {
    Token(Hidden),
    Key(Hidden),
}

/// What an orchestrator answers.
#[derive(Default, Deserialize)]
struct Reply {
    #[serde(default)]
    phase: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    generation: Option<i64>,
}

impl Handoff for Webhook {
    fn hand_over<'a>(&'a self, document: &'a Document) -> BoxFuture<'a, Result<Answer, HandoffError>> {
        self.post(document).boxed()
    }

    /// A withdrawal is a document too: a DELETE has no body that every server and proxy passes on.
    fn withdraw<'a>(&'a self, document: &'a Document) -> BoxFuture<'a, Result<Answer, HandoffError>> {
        self.post(document).boxed()
    }
}

impl Webhook {
    /// Secrets and ConfigMaps that the settings name are read from `namespace` of this API, whenever something is told.
    pub fn new(client: Client, namespace: &str, settings: HandOffWebhook) -> Self {
        Self { client, namespace: namespace.to_owned(), settings }
    }

    async fn post(&self, document: &Document) -> Result<Answer, HandoffError> {
        let url =
            Url::parse(&self.settings.url).map_err(|error| wrong("url", format!("is no URL: {error}")))?;
        let place = place(&url);
        let no_answer = |reason: String| HandoffError::NoAnswer { place: place.clone(), reason };
        let body = serde_json::to_vec(document).map_err(|error| no_answer(error.to_string()))?;
        if body.len() > MOST_TOLD {
            return Err(no_answer(format!("the document has more than {MOST_TOLD} bytes")));
        }
        let proof = match &self.settings.authentication {
            Some(authentication) => Some(self.proof(authentication).await?),
            None => None,
        };
        let http = self.http(&url).await?;
        let request = http
            .post(url)
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .header(reqwest::header::ACCEPT, "application/json")
            .header(IDEMPOTENCY_HEADER, format!("{}/{}", document.id, document.generation));
        let request = sign(request, proof.as_ref(), &body);
        let answer = request.body(body).send().await;
        let answer = answer.map_err(|error| no_answer(self.in_words(&error)))?;
        let status = answer.status();
        let bytes = self.limited(answer).await.map_err(no_answer)?;
        judge(&place, status, &bytes, proof.as_ref())
    }

    fn timeout(&self) -> Duration {
        self.settings.timeout.map_or(TIMEOUT, |timeout| Duration::from_secs(timeout.0))
    }

    /// A client for one request. Redirections are not followed: what shows who Drystone is would go with them.
    async fn http(&self, url: &Url) -> Result<reqwest::Client, HandoffError> {
        drystone_identity::tls::install_crypto_provider();
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT)
            .timeout(self.timeout())
            .user_agent("drystone");
        // The name of this machine is not asked of others, who could say that it is another one.
        if let (true, Some(Host::Domain(name))) = (is_loopback(url), url.host()) {
            let port = url.port_or_known_default().unwrap_or(0);
            let addresses = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
            builder = builder.resolve_to_addrs(name, &addresses.map(|address| (address, port).into()));
        }
        if let Some((field, text)) = self.authorities().await? {
            let bad = |error: reqwest::Error| wrong(field, format!("{AUTHORITIES} is no PEM: {error}"));
            let authorities = Certificate::from_pem_bundle(&text).map_err(bad)?;
            if authorities.is_empty() {
                return Err(wrong(field, format!("{AUTHORITIES} has no certificate")));
            }
            builder = builder.tls_certs_only(authorities);
        }
        builder.build().map_err(|error| wrong("url", format!("cannot be called: {}", innermost(&error))))
    }

    /// The authorities of the orchestrator's certificate, and which field names them.
    async fn authorities(&self) -> Result<Option<(&'static str, Vec<u8>)>, HandoffError> {
        if !self.settings.ca_secret_name.is_empty() {
            let field = "caSecretName";
            let text = self.secret(field, &self.settings.ca_secret_name, AUTHORITIES).await?;
            return Ok(Some((field, text)));
        }
        let name = &self.settings.ca_config_map_name;
        if name.is_empty() {
            return Ok(None);
        }
        let field = "caConfigMapName";
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let map = maps.get(name).await;
        let map = map.map_err(|error| wrong(field, describe_kube_error(&error)))?;
        let text = map.data.and_then(|mut data| data.remove(AUTHORITIES));
        let text = text.ok_or_else(|| wrong(field, format!("ConfigMap {name} has no key {AUTHORITIES}")))?;
        Ok(Some((field, text.into_bytes())))
    }

    async fn proof(&self, how: &HandOffAuthentication) -> Result<Proof, HandoffError> {
        const FIELD: &str = "authentication.secretName";
        let key = match how.kind {
            HandOffAuthenticationType::Bearer => TOKEN,
            HandOffAuthenticationType::HMAC => HMAC_KEY,
        };
        let bytes = self.secret(FIELD, &how.secret_name, key).await?;
        let text = String::from_utf8(bytes)
            .map_err(|_| wrong(FIELD, format!("{key} of Secret {} is no text", how.secret_name)))?;
        let text = text.trim();
        let is_token = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        match how.kind {
            HandOffAuthenticationType::Bearer if is_token => Ok(Proof::Token(Hidden::new(text))),
            HandOffAuthenticationType::HMAC if text.len() >= LEAST_KEY => Ok(Proof::Key(Hidden::new(text))),
            HandOffAuthenticationType::Bearer => {
                Err(wrong(FIELD, format!("{key} of Secret {} is no bearer token", how.secret_name)))
            }
            HandOffAuthenticationType::HMAC => {
                let reason = format!("{key} of Secret {} is shorter than {LEAST_KEY} bytes", how.secret_name);
                Err(wrong(FIELD, reason))
            }
        }
    }

    async fn secret(&self, field: &str, name: &str, key: &str) -> Result<Vec<u8>, HandoffError> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let secret = secrets.get(name).await;
        let secret = secret.map_err(|error| wrong(field, describe_kube_error(&error)))?;
        let bytes = secret.data.and_then(|mut data| data.remove(key));
        let bytes = bytes.ok_or_else(|| wrong(field, format!("Secret {name} has no key {key}")))?;
        Ok(bytes.0)
    }

    /// The body of an answer, if it is not too long.
    async fn limited(&self, mut answer: Response) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.in_words(&error))? {
            if bytes.len() + chunk.len() > MOST_ANSWERED {
                return Err(format!("its answer has more than {MOST_ANSWERED} bytes"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    fn in_words(&self, error: &reqwest::Error) -> String {
        if error.is_timeout() {
            return format!("no answer within {} s", self.timeout().as_secs());
        }
        format!("no connection: {}", innermost(error))
    }
}

/// Shows who Drystone is.
fn sign(request: RequestBuilder, proof: Option<&Proof>, body: &[u8]) -> RequestBuilder {
    match proof {
        None => request,
        Some(Proof::Token(token)) => request.bearer_auth(token.expose()),
        Some(Proof::Key(key)) => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes());
            let tag = hmac::sign(&key, body);
            let digits: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            request.header(SIGNATURE_HEADER, format!("sha256={digits}"))
        }
    }
}

/// What an answer means. Without a body that can be read, its status says all.
fn judge(
    place: &str,
    status: StatusCode,
    body: &[u8],
    proof: Option<&Proof>,
) -> Result<Answer, HandoffError> {
    let reply: Reply = serde_json::from_slice(body).unwrap_or_default();
    let message = shown(&reply.message, MOST_OF_MESSAGE, proof);
    if let (StatusCode::CONFLICT, Some(theirs)) = (status, reply.generation) {
        return Err(HandoffError::Overtaken(theirs));
    }
    if !status.is_success() {
        return Err(HandoffError::Refused { place: place.to_owned(), status: status.as_u16(), message });
    }
    let said = shown(&reply.phase, MOST_OF_PHASE, proof);
    match said.as_str() {
        phase::FAILED => Err(HandoffError::NotDone { phase: said, message }),
        "" => Ok(Answer { phase: phase::ACCEPTED.to_owned(), message }),
        _ => Ok(Answer { phase: said, message }),
    }
}

/// Words of others, fit to be shown: not too many, in one line, and without what is secret.
fn shown(text: &str, most: usize, proof: Option<&Proof>) -> String {
    let text = match proof {
        Some(Proof::Token(secret) | Proof::Key(secret)) => text.replace(secret.expose(), "…"),
        None => text.to_owned(),
    };
    let printable = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    printable.take(most).collect::<String>().trim().to_owned()
}

/// A URL without its query, which may have in it what is secret.
fn place(url: &Url) -> String {
    let mut place = url.clone();
    place.set_query(None);
    place.to_string()
}

fn wrong(field: &str, reason: String) -> HandoffError {
    HandoffError::Settings { field: format!("spec.handOff.webhook.{field}"), reason }
}

/// What went wrong at the bottom, without the URL that `reqwest` puts around it.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause = std::error::Error::source(error);
    let mut text = "the request failed".to_owned();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judged(status: u16, body: impl AsRef<[u8]>) -> Result<Answer, HandoffError> {
        let token = Proof::Token(Hidden::new("s3cret"));
        judge("https://o/", StatusCode::from_u16(status).unwrap(), body.as_ref(), Some(&token))
    }

    proptest! {
        #[test]
        fn whatever_is_answered_is_fit_to_be_shown(
            body in prop_oneof![
                drystone_hostile::bytes(2048),
                drystone_hostile::damaged([
                    r#"{"phase":"InProgress","message":"s3cret and more","generation":3}"#,
                    r#"{"phase":"Failed","message":null,"generation":9223372036854775807}"#,
                ]),
            ],
            status in prop::sample::select(vec![200_u16, 202, 302, 401, 409, 500]),
        ) {
            let words = match judged(status, &body) {
                Ok(Answer { phase, message }) => {
                    prop_assert!((200..300).contains(&status) && !phase.is_empty());
                    prop_assert!(phase.chars().count() <= MOST_OF_PHASE);
                    format!("{phase} {message}")
                }
                Err(error) => error.to_string(),
            };
            prop_assert!(words.chars().count() <= MOST_OF_PHASE + MOST_OF_MESSAGE + 40, "{}", words);
            prop_assert!(!words.contains("s3cret") && !words.chars().any(char::is_control), "{}", words);
        }
    }

    #[test]
    fn an_answer_needs_no_body() {
        for (text, phase) in [("", "Accepted"), ("[]", "Accepted"), (r#"{"phase":"Ready"}"#, "Ready")] {
            assert_eq!(judged(202, text).unwrap().phase, phase, "{text}");
        }
        let error = judged(200, r#"{"phase":"Failed","message":"no room"}"#).unwrap_err();
        assert_eq!(error.to_string(), "Failed: no room");
    }

    #[test]
    fn refusals_are_told_in_one_line_and_without_secrets() {
        let error = judged(401, "{\"message\":\"bad token\\ns3cret\"}").unwrap_err();
        assert_eq!(error.to_string(), "https://o/ answered 401: bad token …");
        assert_eq!(judged(503, "<html>").unwrap_err().to_string(), "https://o/ answered 503");
        assert_eq!(judged(409, r#"{"generation":7}"#), Err(HandoffError::Overtaken(7)));
        let error = judged(409, "{}").unwrap_err();
        assert_eq!(error.to_string(), "https://o/ answered 409");
    }

    #[test]
    fn signatures_are_those_of_the_standard() {
        // RFC 4231, test case 2, with the key that it has; the least length is not of concern here.
        let key = Proof::Key(Hidden::new("Jefe"));
        drystone_identity::tls::install_crypto_provider();
        let request = reqwest::Client::new().post("http://127.0.0.1/");
        let request = sign(request, Some(&key), b"what do ya want for nothing?").build().unwrap();
        assert_eq!(
            request.headers()[SIGNATURE_HEADER],
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
