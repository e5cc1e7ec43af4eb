//! Credentials and files that mean no good: they are read or refused, and never make anybody somebody else.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use drystone_hostile::{bytes, damaged, damaged_text, distorted, text};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use proptest::prelude::*;
use rustls_pki_types::CertificateDer;
use serde_json::Value;

use crate::authn::{AuthenticationError, BootstrapTokenSource};
use crate::authn::{
    Authenticator, BootstrapToken, BootstrapTokens, Claims, Credential, Liveness, LivenessError,
    PasswordHash, ServiceAccountIssuer, ServiceAccountTokens, StaticTokens, TokenError, TokenRequest,
    VerifiedToken, credentials,
};
use crate::ca::CertificateAuthority;
use crate::certificate::Subject;
use crate::csr::{self, CertificateSigningRequest};
use crate::kubeconfig::{Credential as KubeCredential, Kubeconfig};
use crate::signer::Signer;
use crate::{CertificateProfile, Identity, ONE_YEAR, PrivateKey, Secret, UserInfo, pem, tls};

/// Good papers: an authority, a client's certificate with its key, and a request for one.
struct Papers {
    ca: CertificateAuthority,
    identity: Identity,
    request: String,
    issuer: ServiceAccountIssuer,
    token: Secret,
}

const ISSUER: &str = "https://kubernetes.default.svc";

static PAPERS: LazyLock<Papers> = LazyLock::new(|| {
    let ca = CertificateAuthority::generate("test-ca", ONE_YEAR, now()).unwrap();
    let identity = ca.issue(&CertificateProfile::client("jane", ["dev"]), now()).unwrap();
    let key = PrivateKey::generate().unwrap();
    let subject = Subject::new("system:node:n1", ["system:nodes"]);
    let request = csr::create(&key, &subject, &["n1".into()], &["10.0.0.7".parse().unwrap()]).unwrap();
    let issuer =
        ServiceAccountIssuer::new(ISSUER, vec!["api".into()], PrivateKey::generate().unwrap()).unwrap();
    let wanted = TokenRequest {
        namespace: "ns".into(),
        service_account: "builder".into(),
        uid: "uid".into(),
        audiences: Vec::new(),
        expiration_seconds: None,
        bound_object: None,
    };
    let (token, _) = issuer.issue(&wanted, now()).unwrap();
    Papers { ca, identity, request, issuer, token }
});

fn now() -> Timestamp {
    "2026-11-01T12:00:00Z".parse().unwrap()
}

fn der_of(pem: &str) -> Vec<u8> {
    STANDARD.decode(pem.lines().filter(|line| !line.starts_with('-')).collect::<String>()).unwrap()
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Everything that is named lives.
struct Everything;

#[async_trait]
impl Liveness for Everything {
    async fn check(&self, _claims: &Claims, _now: Timestamp) -> Result<(), LivenessError> {
        Ok(())
    }
}

/// There is one bootstrap token.
struct OneToken;

#[async_trait]
impl BootstrapTokenSource for OneToken {
    async fn find(&self, id: &str) -> Result<Option<BootstrapToken>, AuthenticationError> {
        let secret = Secret::new("0123456789abcdef");
        let known = || BootstrapToken {
            id: id.into(),
            secret,
            expires: None,
            groups: Vec::new(),
            node: None,
            authenticates: true,
        };
        Ok((id == "abcdef").then(known))
    }
}

fn verify(token: &Secret) -> Result<VerifiedToken, TokenError> {
    let keys = [PAPERS.issuer.verification_key()];
    let tokens = ServiceAccountTokens::new(ISSUER, vec!["api".into()], &keys, Everything).unwrap();
    wait(tokens.verify(token, &[], now()))
}

proptest! {
    #[test]
    fn any_pem_is_papers_or_refused(text in prop_oneof![
        4 => damaged_text([
            PAPERS.ca.certificate_pem(),
            PAPERS.identity.certificate_pem.clone(),
            PAPERS.identity.key_pem.expose().to_owned(),
            PAPERS.request.clone(),
            format!("{}garbage\n{}", PAPERS.ca.certificate_pem(), PAPERS.identity.certificate_pem),
        ]),
        1 => text(),
        1 => "(-----BEGIN [A-Z ]{0,20}-----\n)?[A-Za-z0-9+/=\n]{0,80}(-----END [A-Z ]{0,20}-----)?",
    ]) {
        let _ = (pem::certificates(&text), tls::not_after(&text), tls::client_config(&text, None));
        let _ = (PrivateKey::from_pem(&text), CertificateSigningRequest::from_pem(&text));
        let secret = Secret::new(text.as_str());
        let _ = CertificateAuthority::from_pem(&text, &secret);
        let _ = CertificateAuthority::from_pem(&PAPERS.ca.certificate_pem(), &secret);
        let identity = Identity { certificate_pem: text, key_pem: PAPERS.identity.key_pem.clone() };
        let _ = tls::client_config(&PAPERS.ca.certificate_pem(), Some(&identity));
        let _ = tls::ServerIdentity::new(&identity);
    }

    #[test]
    fn any_certificate_is_somebodys_or_refused(der in prop_oneof![
        3 => damaged([der_of(&PAPERS.identity.certificate_pem), der_of(&PAPERS.ca.certificate_pem())]),
        1 => bytes(200),
    ]) {
        if let Ok(user) = tls::peer_user(&[CertificateDer::from(der)], now()) {
            prop_assert!(!user.name.is_empty());
        }
    }

    #[test]
    fn any_request_for_a_certificate_is_true_or_refused(der in prop_oneof![
        3 => damaged([der_of(&PAPERS.request)]),
        1 => bytes(200),
    ]) {
        if let Ok(request) = CertificateSigningRequest::from_der(&der) {
            // Its signature holds, so nothing that counts was changed.
            prop_assert_eq!(&request.subject.common_name, "system:node:n1");
            let node = UserInfo::node("n1");
            for signer in [Signer::ApiServerClient, Signer::ApiServerClientKubelet, Signer::KubeletServing] {
                let _ = signer.check(&request, &["client auth".to_owned()], &node);
            }
        }
    }

    #[test]
    fn no_damaged_token_is_anybody_else(token in damaged_text([PAPERS.token.expose()])) {
        if let Ok(verified) = verify(&Secret::new(token)) {
            prop_assert_eq!(verified.user.name, "system:serviceaccount:ns:builder");
        }
    }

    #[test]
    fn no_token_with_other_claims_is_believed(
        header in distorted(
            serde_json::json!({"alg": "ES256", "kid": PAPERS.issuer.verification_key().common.key_id, "typ": "JWT"}),
            &["alg", "kid", "jwk", "jku", "none", "HS256", "ES256", "typ"]),
        claims in distorted(part(&PAPERS.token, 1), &["iss", "sub", "aud", "exp", "nbf", "kubernetes.io"]),
        signed in any::<bool>(),
    ) {
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signature = if signed { PAPERS.token.expose().rsplit('.').next().unwrap() } else { "" };
        let token = format!("{}.{}.{signature}", encode(&header), encode(&claims));
        let same = token == PAPERS.token.expose();
        prop_assert!(verify(&Secret::new(token)).is_err() || same);
    }

    #[test]
    fn any_authorization_header_is_credentials_or_none(header in prop_oneof![
        damaged_text([
            "Basic YWRtaW46c2VjcmV0OjE=",
            "Bearer abcdef.0123456789abcdef",
            "bearer eyJhbGciOiJFUzI1NiJ9.e30.c2ln",
            "Negotiate YWJj, Basic YWJj",
        ]),
        text(),
    ]) {
        let Ok(found) = credentials(None, Some(&header)) else { return Ok(()) };
        prop_assert!(found.len() <= 1);
        for credential in &found {
            if let Credential::Basic { name, .. } = credential {
                prop_assert!(!name.contains(':'));
            }
            let one = wait(BootstrapTokens::new(OneToken).authenticate(credential, now()));
            let known = matches!(credential, Credential::Bearer(token) if token.expose() == "abcdef.0123456789abcdef");
            prop_assert_eq!(one.is_ok_and(|user| user.is_some()), known);
            let none = wait(StaticTokens::new().authenticate(credential, now()));
            prop_assert!(none.is_ok_and(|user| user.is_none()));
        }
    }

    #[test]
    fn any_secret_is_a_bootstrap_token_or_refused(values in prop::collection::vec(prop_oneof![
        damaged(["abcdef", "0123456789abcdef", "2026-12-01T00:00:00Z", "system:bootstrappers:worker,system:bootstrappers:a", "true"]),
        bytes(20),
    ], 5)) {
        let keys = ["token-id", "token-secret", "expiration", "auth-extra-groups", "usage-bootstrap-authentication"];
        let data: BTreeMap<String, ByteString> =
            keys.into_iter().map(str::to_owned).zip(values.into_iter().map(ByteString)).collect();
        if let Ok(token) = BootstrapToken::from_secret_data(&data) {
            prop_assert!(token.groups.iter().all(|group| group.starts_with("system:bootstrappers:")));
            prop_assert_eq!(token.token().expose().len(), 23);
        }
    }

    #[test]
    fn any_text_is_a_hash_or_refused(text in prop_oneof![
        damaged_text(["$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b4dWRWJTmaaJObG"]),
        text(),
    ]) {
        let _ = PasswordHash::parse(&text);
        let _ = Signer::from_name(&text);
    }

    #[test]
    fn a_kubeconfig_says_what_it_was_told(cluster in text(), user in text(), server in text(), namespace in text(), token in text()) {
        let credential = KubeCredential::Token(Secret::new(token.as_str()));
        let mut config = Kubeconfig::new(cluster.as_str(), user.as_str(), server.as_str(), "pem", credential);
        config.namespace = Some(namespace.clone());
        let Ok(yaml) = config.to_yaml() else { return Ok(()) };
        let read: Value = serde_saphyr::from_str(yaml.expose()).expect("what is written is read");
        prop_assert_eq!(&read["clusters"][0]["cluster"]["server"], &server);
        prop_assert_eq!(&read["users"][0]["name"], &user);
        prop_assert_eq!(&read["users"][0]["user"]["token"], &token);
        prop_assert_eq!(&read["contexts"][0]["context"]["namespace"], &namespace);
        prop_assert_eq!(&read["current-context"], &cluster);
    }
}

/// A part of a token, decoded.
fn part(token: &Secret, position: usize) -> Value {
    let part = token.expose().split('.').nth(position).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}
