//! Who asks, and whether they may. A client proves itself with a certificate of the cluster's authority or with a token that the
//! API vouches for; the API's policy on `nodes/…` decides.

mod cache;

use std::{sync::Arc, time::Duration};

use drystone_identity::{
    UserInfo, tls,
    user::{AUTHENTICATED, MASTERS},
};
use http::{HeaderMap, StatusCode, header::AUTHORIZATION};
use k8s_openapi::{
    api::{
        authentication::v1::{TokenReview, TokenReviewSpec},
        authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
    },
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use self::cache::Cache;
use super::refusal::Refusal;

/// How long the API's word on a token or a permission counts.
const YES_LIFE: Duration = Duration::from_secs(30);
/// How long its refusal counts.
const NO_LIFE: Duration = Duration::from_secs(5);

/// Name of a verb.
pub(super) type Verb = &'static str;

/// The verified certificates that a client showed.
#[derive(Debug, Clone)]
pub(super) struct Peer(Arc<[CertificateDer<'static>]>);

impl Peer {
    pub(super) fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        Self(chain.into())
    }
}

/// A question to the API's policy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Question {
    user: UserInfo,
    verb: Verb,
    subresource: &'static str,
}

/// Decides on requests.
pub(super) struct Access {
    reviewer: Client,
    node: String,
    /// By the digest of the token: tokens themselves are not kept.
    tokens: Cache<[u8; 32], Option<UserInfo>>,
    permissions: Cache<Question, bool>,
}

impl Access {
    pub(super) fn new(reviewer: Client, node: String) -> Self {
        Self { reviewer, node, tokens: Cache::default(), permissions: Cache::default() }
    }

    /// The user who makes a request.
    pub(super) async fn authenticate(
        &self,
        peer: Option<&Peer>,
        headers: &HeaderMap,
    ) -> Result<UserInfo, Refusal> {
        let chain = peer.map(|peer| &*peer.0).unwrap_or_default();
        match tls::peer_user(chain, Timestamp::now()) {
            Ok(mut user) => {
                user.add_group(AUTHENTICATED);
                return Ok(user);
            }
            Err(tls::PeerError::None) => {}
            Err(error) => tracing::debug!(%error, "a client certificate names no user"),
        }
        let token = bearer(headers).ok_or_else(unauthorized)?;
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let user = match self.tokens.get(&digest) {
            Some(known) => known,
            None => {
                let user = self.review(token).await?;
                let life = if user.is_some() { YES_LIFE } else { NO_LIFE };
                self.tokens.insert(digest, user.clone(), life);
                user
            }
        };
        user.ok_or_else(unauthorized)
    }

    /// Whether a user may do `verb` with one of these subresources of this node.
    pub(super) async fn authorize(
        &self,
        user: &UserInfo,
        verb: Verb,
        subresources: &[&'static str],
    ) -> Result<(), Refusal> {
        if user.is_in(MASTERS) {
            return Ok(());
        }
        for subresource in subresources {
            if self.may(Question { user: user.clone(), verb, subresource }).await? {
                return Ok(());
            }
        }
        let subresource = subresources.last().copied().unwrap_or_default();
        Err(Refusal::new(
            StatusCode::FORBIDDEN,
            format!("Forbidden (user={}, verb={verb}, resource=nodes, subresource={subresource})", user.name),
        ))
    }

    async fn may(&self, question: Question) -> Result<bool, Refusal> {
        if let Some(known) = self.permissions.get(&question) {
            return Ok(known);
        }
        let user = question.user.clone();
        let spec = SubjectAccessReviewSpec {
            user: Some(user.name),
            groups: Some(user.groups),
            uid: user.uid,
            extra: Some(user.extra),
            resource_attributes: Some(ResourceAttributes {
                group: Some(String::new()),
                version: Some("v1".into()),
                resource: Some("nodes".into()),
                subresource: Some(question.subresource.into()),
                name: Some(self.node.clone()),
                verb: Some(question.verb.into()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let api: Api<SubjectAccessReview> = Api::all(self.reviewer.clone());
        let answer = api.create(&PostParams::default(), &review).await.map_err(|error| {
            tracing::warn!(%error, "the API cannot be asked whether a client may use the kubelet API");
            Refusal::internal("the API cannot be asked whether you may do this; try again")
        })?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        self.permissions.insert(question, allowed, if allowed { YES_LIFE } else { NO_LIFE });
        Ok(allowed)
    }

    /// Whom the API says that a token is.
    async fn review(&self, token: &str) -> Result<Option<UserInfo>, Refusal> {
        let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: None };
        let review = TokenReview { spec, ..TokenReview::default() };
        let api: Api<TokenReview> = Api::all(self.reviewer.clone());
        // A client whose token cannot be checked has not proved who it is. That is not remembered.
        let answer = api.create(&PostParams::default(), &review).await.map_err(|error| {
            tracing::warn!(%error, "the API cannot be asked whose token a client of the kubelet API shows");
            unauthorized()
        })?;
        let status = answer.status.unwrap_or_default();
        if status.authenticated != Some(true) {
            return Ok(None);
        }
        let reviewed = status.user.unwrap_or_default();
        let Some(name) = reviewed.username.filter(|name| !name.is_empty()) else { return Ok(None) };
        let mut user = UserInfo::new(name, reviewed.groups.unwrap_or_default());
        user.uid = reviewed.uid;
        user.extra = reviewed.extra.unwrap_or_default();
        Ok(Some(user))
    }
}

fn unauthorized() -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized")
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
