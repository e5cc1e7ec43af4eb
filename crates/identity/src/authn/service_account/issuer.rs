//! Issuing tokens, and publishing the key that verifies them (OIDC discovery).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::jwk::{CommonParameters, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rand::Rng;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::TokenError;
use super::claims::{BoundObject, Claims, KubernetesClaims, ObjectClaim};
use crate::key::PrivateKey;
use crate::secret::Secret;
use crate::user::SERVICE_ACCOUNT_PREFIX;

const SHORTEST: i64 = 600;
const LONGEST: i64 = 1 << 32;
const DEFAULT: i64 = 3600;

/// What a token is to say; `authentication.k8s.io/v1` `TokenRequest` and the account it is for.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// Namespace of the account.
    pub namespace: String,
    /// Name of the account.
    pub service_account: String,
    /// UID of the account.
    pub uid: String,
    /// Whom the token is for; empty for the issuer's default.
    pub audiences: Vec<String>,
    /// `spec.expirationSeconds`; an hour if not given.
    pub expiration_seconds: Option<i64>,
    /// What the token ends with.
    pub bound_object: Option<BoundObject>,
}

/// Issues tokens. `Debug` does not show the key.
pub struct ServiceAccountIssuer {
    issuer: String,
    audiences: Vec<String>,
    key: PrivateKey,
    jwk: Jwk,
    key_id: String,
}

impl fmt::Debug for ServiceAccountIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAccountIssuer")
            .field("issuer", &self.issuer)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

impl ServiceAccountIssuer {
    /// An issuer with its URL, the audiences of tokens that ask for none, and the key it signs with.
    ///
    /// # Errors
    /// [`TokenError::Invalid`] if the key cannot be used.
    pub fn new(
        issuer: impl Into<String>,
        audiences: Vec<String>,
        key: PrivateKey,
    ) -> Result<Self, TokenError> {
        let key_id = URL_SAFE_NO_PAD.encode(Sha256::digest(key.public_key()));
        let encoding = EncodingKey::from_ec_der(key.pkcs8());
        let jwk = Jwk::from_encoding_key(&encoding, Algorithm::ES256)
            .map_err(|error| TokenError::Invalid(error.to_string()))?;
        let common = CommonParameters {
            public_key_use: Some(PublicKeyUse::Signature),
            key_algorithm: Some(KeyAlgorithm::ES256),
            key_id: Some(key_id.clone()),
            ..CommonParameters::default()
        };
        let jwk = Jwk { common, ..jwk };
        Ok(Self { issuer: issuer.into(), audiences, key, jwk, key_id })
    }

    /// The issuer's URL.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The audiences of tokens that ask for none: those of the API server itself.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The public key that verifies the tokens.
    pub fn verification_key(&self) -> Jwk {
        self.jwk.clone()
    }

    /// The document served at `/openid/v1/jwks`.
    pub fn jwks(&self) -> Value {
        let set = JwkSet { keys: vec![self.jwk.clone()] };
        serde_json::to_value(set).unwrap_or_else(|_| json!({ "keys": [] }))
    }

    /// The document served at `/.well-known/openid-configuration`.
    pub fn openid_configuration(&self, jwks_uri: &str) -> Value {
        json!({
            "issuer": self.issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// Issues a token; also returns when it ends.
    ///
    /// # Errors
    /// [`TokenError::Request`] if the expiration is out of bounds.
    pub fn issue(&self, request: &TokenRequest, now: Timestamp) -> Result<(Secret, Timestamp), TokenError> {
        let seconds = request.expiration_seconds.unwrap_or(DEFAULT);
        if !(SHORTEST..=LONGEST).contains(&seconds) {
            let problem =
                format!("may not be less than 10 minutes or more than 2^32 seconds, it is {seconds}");
            return Err(TokenError::Request { field: "spec.expirationSeconds", problem });
        }
        let expires = now
            .checked_add(SignedDuration::from_secs(seconds))
            .map_err(|error| TokenError::Invalid(error.to_string()))?;
        let claims = self.claims(request, now, expires);
        let header = Header { kid: Some(self.key_id.clone()), typ: None, ..Header::new(Algorithm::ES256) };
        let token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ec_der(self.key.pkcs8()))
            .map_err(|error| TokenError::Invalid(error.to_string()))?;
        Ok((Secret::new(token), expires))
    }

    fn claims(&self, request: &TokenRequest, now: Timestamp, expires: Timestamp) -> Claims {
        let (mut pod, mut node, mut secret) = (None, None, None);
        match request.bound_object.clone() {
            Some(BoundObject::Pod { pod: bound, node: its_node }) => (pod, node) = (Some(bound), its_node),
            Some(BoundObject::Secret(bound)) => secret = Some(bound),
            Some(BoundObject::Node(bound)) => node = Some(bound),
            None => {}
        }
        let audiences = if request.audiences.is_empty() { &self.audiences } else { &request.audiences };
        Claims {
            aud: audiences.clone(),
            exp: expires.as_second(),
            iat: now.as_second(),
            iss: self.issuer.clone(),
            jti: Some(random_uuid()),
            kubernetes: KubernetesClaims {
                namespace: request.namespace.clone(),
                node,
                pod,
                secret,
                serviceaccount: ObjectClaim {
                    name: request.service_account.clone(),
                    uid: request.uid.clone(),
                },
            },
            nbf: now.as_second(),
            sub: format!("{SERVICE_ACCOUNT_PREFIX}{}:{}", request.namespace, request.service_account),
        }
    }
}

fn random_uuid() -> String {
    uuid::Builder::from_random_bytes(rand::rng().random()).into_uuid().to_string()
}
