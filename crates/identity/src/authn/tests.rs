//! Credentials, and the authenticators together.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::ByteString;

use super::*;
use crate::user::{ANONYMOUS, UNAUTHENTICATED};

fn now() -> Timestamp {
    "2026-11-01T12:00:00Z".parse().unwrap()
}

fn bearer(token: &Secret) -> Credential {
    Credential::Bearer(token.clone())
}

fn basic_credential(name: &str, password: &str) -> Credential {
    Credential::Basic { name: name.into(), password: password.into() }
}

#[test]
fn headers_are_read_whatever_their_case() {
    let read = |header: &str| credentials(None, Some(header));
    assert!(
        matches!(&read("Bearer abc").unwrap()[..], [Credential::Bearer(token)] if token.expose() == "abc")
    );
    assert!(
        matches!(&read("bearer  abc ").unwrap()[..], [Credential::Bearer(token)] if token.expose() == "abc")
    );
    // "admin:p:w"
    let Credential::Basic { name, password } = &read("BASIC YWRtaW46cDp3").unwrap()[0] else { panic!() };
    assert_eq!((name.as_str(), password.expose()), ("admin", "p:w"));
    for none in ["", "Bearer", "Bearer ", "Negotiate abc"] {
        assert!(read(none).unwrap().is_empty(), "{none:?}");
    }
    for malformed in ["Basic !", "Basic YWRtaW4=", "Basic /w=="] {
        assert!(matches!(read(malformed), Err(AuthenticationError::Malformed(_))), "{malformed}");
    }
    assert!(!format!("{:?}", read("Bearer abc")).contains("abc"));
}

#[tokio::test]
async fn no_credential_is_anonymous_and_an_unknown_one_is_refused() {
    let token = StaticTokens::generate();
    let tokens = StaticTokens::new();
    tokens.insert(TokenDigest::of(&token), UserInfo::new("node-7", ["hosts"]));
    let authentication = Authentication::new().with(ClientCertificates).with(tokens);
    let anonymous = authentication.authenticate(&[], now()).await.unwrap();
    assert_eq!(
        (anonymous.name.as_str(), &anonymous.groups[..]),
        (ANONYMOUS, &[UNAUTHENTICATED.to_owned()][..])
    );
    let user = authentication.authenticate(&[bearer(&token)], now()).await.unwrap();
    assert_eq!((user.name.as_str(), user.groups.join(" ")), ("node-7", "hosts system:authenticated".into()));
    let wrong = bearer(&StaticTokens::generate());
    let error = authentication.authenticate(std::slice::from_ref(&wrong), now()).await.unwrap_err();
    assert_eq!(error, AuthenticationError::Unknown);
    // A second credential may still be good.
    assert!(authentication.authenticate(&[wrong, bearer(&token)], now()).await.is_ok());
}

#[tokio::test]
async fn static_tokens_can_be_taken_back() {
    let tokens = std::sync::Arc::new(StaticTokens::new());
    let authentication = Authentication::new().with(std::sync::Arc::clone(&tokens));
    let token = StaticTokens::generate();
    tokens.insert(TokenDigest::of(&token), UserInfo::new("x", [""; 0]));
    assert!(authentication.authenticate(&[bearer(&token)], now()).await.is_ok());
    tokens.remove(&TokenDigest::of(&token));
    assert!(authentication.authenticate(&[bearer(&token)], now()).await.is_err());
    assert_ne!(StaticTokens::generate(), StaticTokens::generate());
}

#[tokio::test]
async fn passwords_are_checked_again_and_again() {
    let hash = PasswordHash::of(&"correct horse".into()).unwrap();
    let kept = PasswordHash::parse(hash.as_str()).unwrap();
    assert!(hash.as_str().starts_with("$argon2id$"));
    assert!(!format!("{hash:?}").contains("argon2id"));
    let passwords = Passwords::new().with("admin", kept, UserInfo::new("admin", ["system:masters"]));
    let check = async |name: &str, password: &str| {
        passwords.authenticate(&basic_credential(name, password), now()).await
    };
    assert!(matches!(check("admin", "wrong").await, Err(AuthenticationError::Refused(_))));
    for _ in 0..2 {
        assert_eq!(check("admin", "correct horse").await.unwrap().unwrap().name, "admin");
    }
    assert!(matches!(check("admin", "wrong").await, Err(AuthenticationError::Refused(_))));
    assert!(matches!(check("nobody", "correct horse").await, Err(AuthenticationError::Refused(_))));
    assert_eq!(passwords.authenticate(&bearer(&"x".into()), now()).await, Ok(None));
    assert!(PasswordHash::parse("plain").is_err());
}

struct Tokens(Vec<BootstrapToken>);

#[async_trait]
impl BootstrapTokenSource for Tokens {
    async fn find(&self, id: &str) -> Result<Option<BootstrapToken>, AuthenticationError> {
        Ok(self.0.iter().find(|token| token.id == id).cloned())
    }
}

#[tokio::test]
async fn bootstrap_tokens_end_and_may_be_of_no_use() {
    let later = now().checked_add(jiff::SignedDuration::from_hours(1)).unwrap();
    let good = BootstrapToken::generate(Some(later), vec!["system:bootstrappers:workers".into()]);
    let expired = BootstrapToken::generate(Some(now()), Vec::new());
    let signing_only = BootstrapToken { authenticates: false, ..BootstrapToken::generate(None, Vec::new()) };
    let authenticator =
        BootstrapTokens::new(Tokens(vec![good.clone(), expired.clone(), signing_only.clone()]));
    let user = authenticator.authenticate(&bearer(&good.token()), now()).await.unwrap().unwrap();
    assert_eq!(user.name, format!("system:bootstrap:{}", good.id));
    assert_eq!(user.groups, ["system:bootstrappers", "system:bootstrappers:workers"]);
    let wrong_secret = Secret::new(format!("{}.{}", good.id, expired.secret.expose()));
    let unknown = BootstrapToken::generate(None, Vec::new()).token();
    for (token, why) in [
        (expired.token(), "expired"),
        (signing_only.token(), "not meant"),
        (wrong_secret, "secret is wrong"),
        (unknown, "none of this name"),
    ] {
        let error = authenticator.authenticate(&bearer(&token), now()).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert!(!error.to_string().contains(token.expose()), "{error}");
    }
    for other in ["abcdef", "abcdef.0123", "ABCDEF.0123456789abcdef", "a.b.c"] {
        assert_eq!(authenticator.authenticate(&bearer(&other.into()), now()).await, Ok(None), "{other}");
    }
}

#[test]
fn bootstrap_tokens_survive_their_secrets() {
    let expires = now();
    let token = BootstrapToken::generate(Some(expires), vec!["system:bootstrappers:a:b-1".into()]);
    let back = BootstrapToken::from_secret_data(&token.to_secret_data()).unwrap();
    assert_eq!(back.token(), token.token());
    assert_eq!((back.expires, back.groups, back.authenticates), (Some(expires), token.groups.clone(), true));
    let with = |key: &str, value: &str| -> BTreeMap<String, ByteString> {
        let mut data = token.to_secret_data();
        data.insert(key.into(), ByteString(value.as_bytes().to_vec()));
        data
    };
    for (key, value) in [
        ("token-id", "short"),
        ("token-secret", "0123456789ABCDEF"),
        ("expiration", "tomorrow"),
        ("auth-extra-groups", "system:masters"),
        ("auth-extra-groups", "system:bootstrappers:"),
        ("auth-extra-groups", "system:bootstrappers:a:"),
    ] {
        let error = BootstrapToken::from_secret_data(&with(key, value)).unwrap_err();
        assert!(error.to_string().contains(key), "{error}");
    }
    let mut missing = token.to_secret_data();
    missing.remove("token-secret");
    assert!(BootstrapToken::from_secret_data(&missing).is_err());
}

#[tokio::test]
async fn a_nodes_token_says_which_node_it_is_for() {
    let base = Secret::new("abcdef.0123456789abcdef");
    let [one, same, two] = ["n1", "n1", "n2"].map(|node| BootstrapToken::for_node(&base, node, None));
    assert_eq!(one.token(), same.token());
    assert_ne!(one.id, two.id);
    assert_ne!(one.secret, two.secret);
    let other = BootstrapToken::for_node(&Secret::new("abcdef.0123456789abcdeg"), "n1", None);
    assert_ne!(one.token(), other.token());
    let read = BootstrapToken::from_secret_data(&one.to_secret_data()).unwrap();
    assert_eq!((read.token(), read.node.as_deref()), (one.token(), Some("n1")));
    let tokens = BootstrapTokens::new(Tokens(vec![one.clone(), two]));
    let user = tokens.authenticate(&Credential::Bearer(one.token()), now()).await.unwrap().unwrap();
    assert_eq!(user.bootstrap_node(), Some("n1"));
    assert!(user.is_in("system:bootstrappers"));
}
