//! Tokens from issue to verdict.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::*;
use crate::authn::{AuthenticationError, Authenticator, Credential};
use crate::key::PrivateKey;
use crate::secret::Secret;

const ISSUER: &str = "https://kubernetes.default.svc";

fn now() -> Timestamp {
    "2026-11-01T12:00:00Z".parse().unwrap()
}

fn after(seconds: i64) -> Timestamp {
    now().checked_add(SignedDuration::from_secs(seconds)).unwrap()
}

fn issuer() -> ServiceAccountIssuer {
    ServiceAccountIssuer::new(ISSUER, vec!["api".into()], PrivateKey::generate().unwrap()).unwrap()
}

/// Vouches for tokens, or does not.
#[derive(Clone, Default)]
struct Objects(Arc<Mutex<Option<LivenessError>>>);

#[async_trait]
impl Liveness for Objects {
    async fn check(&self, claims: &Claims, _now: Timestamp) -> Result<(), LivenessError> {
        assert_eq!(claims.kubernetes.serviceaccount.uid, "account-uid");
        self.0.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}

fn verifier(issuer: &ServiceAccountIssuer, objects: Objects) -> ServiceAccountTokens {
    ServiceAccountTokens::new(ISSUER, vec!["api".into()], &[issuer.verification_key()], objects).unwrap()
}

fn request() -> TokenRequest {
    TokenRequest {
        namespace: "ns".into(),
        service_account: "builder".into(),
        uid: "account-uid".into(),
        audiences: Vec::new(),
        expiration_seconds: None,
        bound_object: None,
    }
}

fn object(name: &str) -> ObjectClaim {
    ObjectClaim { name: name.into(), uid: format!("{name}-uid") }
}

fn payload(token: &Secret) -> Value {
    let part = token.expose().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// A token with another header and payload but the signature of `token`.
fn forged(token: &Secret, header: &Value, payload: &Value) -> Secret {
    let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let signature = token.expose().rsplit('.').next().unwrap();
    Secret::new(format!("{}.{}.{signature}", encode(header), encode(payload)))
}

#[tokio::test]
async fn a_token_stands_for_its_account_and_pod() {
    let issuer = issuer();
    let bound = BoundObject::Pod { pod: object("pod"), node: Some(object("node")) };
    let (token, expires) =
        issuer.issue(&TokenRequest { bound_object: Some(bound.clone()), ..request() }, now()).unwrap();
    assert_eq!(expires, after(3600));
    let claims = payload(&token);
    assert_eq!(claims["sub"], "system:serviceaccount:ns:builder");
    assert_eq!(claims["aud"], json!(["api"]));
    assert_eq!(claims["kubernetes.io"]["pod"], json!({"name": "pod", "uid": "pod-uid"}));
    assert_eq!(claims["kubernetes.io"]["serviceaccount"]["name"], "builder");
    let verified = verifier(&issuer, Objects::default()).verify(&token, &[], now()).await.unwrap();
    assert_eq!(verified.claims.bound_object(), Some(bound));
    let user = verified.user;
    assert_eq!(
        (user.name.as_str(), user.uid.as_deref()),
        ("system:serviceaccount:ns:builder", Some("account-uid"))
    );
    assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:ns"]);
    assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["pod"]);
    assert_eq!(user.extra["authentication.kubernetes.io/node-uid"], ["node-uid"]);
    assert!(user.extra["authentication.kubernetes.io/credential-id"][0].starts_with("JTI="));
}

#[tokio::test]
async fn time_and_audience_are_checked() {
    let issuer = issuer();
    let verifier = verifier(&issuer, Objects::default());
    let spec = TokenRequest {
        audiences: vec!["vault".into(), "api".into()],
        expiration_seconds: Some(600),
        ..request()
    };
    let (token, _) = issuer.issue(&spec, now()).unwrap();
    assert!(verifier.verify(&token, &[], after(599)).await.is_ok());
    assert_eq!(verifier.verify(&token, &[], after(600)).await, Err(TokenError::NotValidNow));
    assert_eq!(verifier.verify(&token, &[], after(-1)).await, Err(TokenError::NotValidNow));
    let wanted = ["other".to_owned(), "vault".to_owned()];
    assert_eq!(verifier.verify(&token, &wanted, now()).await.unwrap().audiences, ["vault"]);
    let error = verifier.verify(&token, &wanted[..1], now()).await.unwrap_err();
    assert!(matches!(error, TokenError::Audience { .. }), "{error}");
}

#[tokio::test]
async fn forgeries_are_refused() {
    let issuer = issuer();
    let verifier = verifier(&issuer, Objects::default());
    let (token, _) = issuer.issue(&request(), now()).unwrap();
    let claims = payload(&token);
    let header: Value = {
        let part = token.expose().split('.').next().unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    let mut promoted = claims.clone();
    promoted["sub"] = json!("system:serviceaccount:kube-system:admin");
    let mut unsigned = header.clone();
    unsigned["alg"] = json!("none");
    let mut symmetric = header.clone();
    symmetric["alg"] = json!("HS256");
    let mut other_key = header.clone();
    other_key["kid"] = json!("other");
    for (case, forged) in [
        ("changed claims", forged(&token, &header, &promoted)),
        ("no algorithm", forged(&token, &unsigned, &claims)),
        ("a symmetric algorithm", forged(&token, &symmetric, &claims)),
        ("an unknown key", forged(&token, &other_key, &claims)),
        ("a cut signature", Secret::new(&token.expose()[..token.expose().len() - 4])),
    ] {
        let verdict = verifier.verify(&forged, &[], now()).await;
        assert!(matches!(verdict, Err(TokenError::Invalid(_))), "{case}: {verdict:?}");
    }
    let impostor =
        ServiceAccountIssuer::new(ISSUER, vec!["api".into()], PrivateKey::generate().unwrap()).unwrap();
    let (token, _) = impostor.issue(&request(), now()).unwrap();
    assert!(matches!(verifier.verify(&token, &[], now()).await, Err(TokenError::Invalid(_))));
}

#[tokio::test]
async fn what_is_gone_vouches_for_nothing() {
    let issuer = issuer();
    let objects = Objects::default();
    let verifier = verifier(&issuer, objects.clone());
    let (token, _) = issuer.issue(&request(), now()).unwrap();
    let credential = Credential::Bearer(token.clone());
    assert!(verifier.authenticate(&credential, now()).await.unwrap().is_some());
    *objects.0.lock().unwrap() = Some(LivenessError::Gone("the account has another UID".into()));
    let error = verifier.authenticate(&credential, now()).await.unwrap_err();
    assert!(matches!(error, AuthenticationError::Refused(_)), "{error}");
    *objects.0.lock().unwrap() = Some(LivenessError::Unavailable("the store is closed".into()));
    let error = verifier.authenticate(&credential, now()).await.unwrap_err();
    assert!(matches!(error, AuthenticationError::Unavailable(_)), "{error}");
}

#[tokio::test]
async fn tokens_of_others_are_left_to_others() {
    let issuer = issuer();
    let verifier = verifier(&issuer, Objects::default());
    let foreign =
        ServiceAccountIssuer::new("https://elsewhere", vec!["api".into()], PrivateKey::generate().unwrap());
    let (foreign, _) = foreign.unwrap().issue(&request(), now()).unwrap();
    for token in
        [foreign, Secret::new("abcdef.0123456789abcdef"), Secret::new("opaque"), Secret::new("a.b.c")]
    {
        assert_eq!(verifier.authenticate(&Credential::Bearer(token), now()).await, Ok(None));
    }
}

#[test]
fn expirations_out_of_bounds_are_refused_with_their_field() {
    for seconds in [0, 599, (1 << 32) + 1, -5] {
        let error = issuer().issue(&TokenRequest { expiration_seconds: Some(seconds), ..request() }, now());
        assert!(
            matches!(&error, Err(TokenError::Request { field: "spec.expirationSeconds", .. })),
            "{seconds}: {error:?}"
        );
    }
}

#[test]
fn the_discovery_documents_name_the_key() {
    let issuer = issuer();
    let jwks = issuer.jwks();
    let key = &jwks["keys"][0];
    assert_eq!(
        (&key["kty"], &key["crv"], &key["alg"], &key["use"]),
        (&json!("EC"), &json!("P-256"), &json!("ES256"), &json!("sig"))
    );
    let (token, _) = issuer.issue(&request(), now()).unwrap();
    let header = URL_SAFE_NO_PAD.decode(token.expose().split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    assert_eq!(header["kid"], key["kid"]);
    assert!(key.get("d").is_none(), "the private part is not published");
    let document = issuer.openid_configuration("https://api/openid/v1/jwks");
    assert_eq!(document["issuer"], ISSUER);
    assert_eq!(document["jwks_uri"], "https://api/openid/v1/jwks");
}
