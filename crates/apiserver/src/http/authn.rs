//! Who made a request: its credentials, and whom it impersonates.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use drystone_identity::UserInfo;
use drystone_identity::authn::{AuthenticationError, credentials};
use drystone_identity::rbac::{Attributes, ResourceAttributes};
use drystone_identity::user::{AUTHENTICATED, SERVICE_ACCOUNT_PREFIX, SERVICE_ACCOUNTS, UNAUTHENTICATED};
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::CertificateDer;

use crate::machinery::group::GroupResource;
use crate::machinery::status::ApiError;
use crate::request::query::percent_decode;
use crate::server::state::State;

/// How long a connection's certificate is taken for verified.
const CERTIFICATE_TRUSTED: SignedDuration = SignedDuration::from_secs(10);

/// The other end of a TLS connection; an extension of every request that came over it.
#[derive(Debug, Clone)]
pub struct Peer(Arc<PeerState>);

#[derive(Debug)]
struct PeerState {
    certificates: Vec<CertificateDer<'static>>,
    /// The user, and when that was found out: reading a certificate for each request would be most of the work.
    user: Mutex<Option<(Arc<UserInfo>, Timestamp)>>,
}

impl Peer {
    /// A peer that showed these certificates in the handshake, which verified them.
    pub fn new(certificates: Vec<CertificateDer<'static>>) -> Self {
        Self(Arc::new(PeerState { certificates, user: Mutex::default() }))
    }

    fn known_user(&self, now: Timestamp) -> Option<Arc<UserInfo>> {
        let user = self.0.user.lock().unwrap_or_else(PoisonError::into_inner);
        let (user, since) = user.as_ref()?;
        (now.duration_since(*since) < CERTIFICATE_TRUSTED).then(|| Arc::clone(user))
    }

    fn remember(&self, user: &Arc<UserInfo>, now: Timestamp) {
        *self.0.user.lock().unwrap_or_else(PoisonError::into_inner) = Some((Arc::clone(user), now));
    }
}

/// A request that is made in somebody's name without credentials: by a part of this process, or over a port whose clients
/// are trusted. An extension of the request.
#[derive(Debug, Clone)]
pub struct ActingAs(pub Arc<UserInfo>);

/// Who made a request; anonymous if it carries no credentials.
///
/// # Errors
/// [`ApiError::Unauthorized`] if its credentials are not accepted.
pub(crate) async fn authenticate(state: &State, parts: &Parts) -> Result<Arc<UserInfo>, ApiError> {
    let authorization = parts.headers.get(AUTHORIZATION);
    if let (Some(acting), None) = (parts.extensions.get::<ActingAs>(), authorization) {
        return Ok(Arc::clone(&acting.0));
    }
    let now = Timestamp::now();
    let peer = parts.extensions.get::<Peer>().filter(|peer| !peer.0.certificates.is_empty());
    if let Some(user) = peer.and_then(|peer| peer.known_user(now)) {
        return Ok(user);
    }
    let authorization = match authorization.map(http::HeaderValue::to_str) {
        None => None,
        Some(Ok(text)) => Some(text),
        Some(Err(_)) => return Err(ApiError::Unauthorized),
    };
    let chain = peer.map(|peer| peer.0.certificates.as_slice());
    let authenticated = match credentials(chain, authorization) {
        Ok(found) => state.authentication.authenticate(&found, now).await,
        Err(error) => Err(error),
    };
    match authenticated {
        Ok(user) => {
            let user = Arc::new(user);
            if let Some(peer) = peer.filter(|_| authorization.is_none()) {
                peer.remember(&user, now);
            }
            Ok(user)
        }
        Err(AuthenticationError::Unavailable(why)) => {
            tracing::warn!(%why, "a credential cannot be checked");
            Err(ApiError::Unauthorized)
        }
        Err(error) => {
            tracing::debug!(%error, "a credential is not accepted");
            Err(ApiError::Unauthorized)
        }
    }
}

const IMPERSONATE_USER: HeaderName = HeaderName::from_static("impersonate-user");
const IMPERSONATE_UID: HeaderName = HeaderName::from_static("impersonate-uid");
const IMPERSONATE_GROUP: HeaderName = HeaderName::from_static("impersonate-group");
const IMPERSONATE_EXTRA: &str = "impersonate-extra-";

/// The user that a request is to be made as: the one who makes it, or whom its `Impersonate-*` headers name.
///
/// # Errors
/// [`ApiError`] if the user may not impersonate that one, or the headers are malformed.
pub(crate) fn impersonate(
    state: &State,
    user: Arc<UserInfo>,
    headers: &HeaderMap,
) -> Result<Arc<UserInfo>, ApiError> {
    let Some(wanted) = wanted(headers)? else { return Ok(user) };
    for (group, resource, subresource, namespace, name) in wanted.rights() {
        let attributes = ResourceAttributes {
            group,
            version: "v1",
            resource,
            subresource,
            namespace: &namespace,
            name: &name,
        };
        let attributes = Attributes::resource(&user, "impersonate", attributes);
        if !state.authorize(&attributes).allowed {
            let reason = attributes.to_string();
            return Err(ApiError::Forbidden { resource: GroupResource::new(group, resource), name, reason });
        }
    }
    Ok(Arc::new(wanted.user()))
}

/// Whom a request wants to impersonate.
struct Wanted {
    name: String,
    uid: Option<String>,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

fn wanted(headers: &HeaderMap) -> Result<Option<Wanted>, ApiError> {
    let all = |name: &HeaderName| -> Result<Vec<String>, ApiError> {
        let values = headers.get_all(name).iter().map(|value| value.to_str().map(str::to_owned));
        values.collect::<Result<_, _>>().map_err(|_| ApiError::bad_request(format!("{name}: must be ASCII")))
    };
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        if let Some(key) = name.as_str().strip_prefix(IMPERSONATE_EXTRA) {
            let value =
                value.to_str().map_err(|_| ApiError::bad_request(format!("{name}: must be ASCII")))?;
            extra.entry(percent_decode(key)).or_default().push(value.to_owned());
        }
    }
    let groups = all(&IMPERSONATE_GROUP)?;
    let uid = all(&IMPERSONATE_UID)?.into_iter().next();
    match all(&IMPERSONATE_USER)?.into_iter().next().filter(|name| !name.is_empty()) {
        Some(name) => Ok(Some(Wanted { name, uid, groups, extra })),
        None if groups.is_empty() && uid.is_none() && extra.is_empty() => Ok(None),
        None => Err(ApiError::bad_request("Impersonate-User must be set when other Impersonate headers are")),
    }
}

impl Wanted {
    /// Group, resource, subresource, namespace and name of everything that the verb `impersonate` is needed on.
    fn rights(&self) -> Vec<(&'static str, &'static str, &str, String, String)> {
        const AUTHENTICATION: &str = "authentication.k8s.io";
        let mut rights = Vec::new();
        match self.service_account() {
            Some((namespace, name)) => {
                rights.push(("", "serviceaccounts", "", namespace.to_owned(), name.to_owned()));
            }
            None => rights.push(("", "users", "", String::new(), self.name.clone())),
        }
        rights.extend(self.uid.iter().map(|uid| (AUTHENTICATION, "uids", "", String::new(), uid.clone())));
        rights.extend(self.groups.iter().map(|group| ("", "groups", "", String::new(), group.clone())));
        for (key, values) in &self.extra {
            rights.extend(
                values
                    .iter()
                    .map(|value| (AUTHENTICATION, "userextras", key.as_str(), String::new(), value.clone())),
            );
        }
        rights
    }

    fn service_account(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':')
    }

    fn user(self) -> UserInfo {
        let mut user = UserInfo::new(self.name.clone(), self.groups.clone());
        if let Some((namespace, _)) = self.service_account().filter(|_| self.groups.is_empty()) {
            user.add_group(SERVICE_ACCOUNTS);
            user.add_group(format!("{SERVICE_ACCOUNTS}:{namespace}"));
        }
        if !user.is_in(UNAUTHENTICATED) && user.name != drystone_identity::user::ANONYMOUS {
            user.add_group(AUTHENTICATED);
        }
        user.uid = self.uid;
        user.extra = self.extra;
        user
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn impersonation_headers() {
        assert!(wanted(&headers(&[])).unwrap().is_none());
        assert!(wanted(&headers(&[("impersonate-group", "g")])).is_err());
        let wanted = wanted(&headers(&[
            ("impersonate-user", "jane"),
            ("impersonate-group", "a"),
            ("impersonate-group", "b"),
            ("impersonate-extra-example.com%2fscope", "view"),
        ]));
        let wanted = wanted.unwrap().unwrap();
        assert_eq!(wanted.rights().len(), 4);
        let user = wanted.user();
        assert_eq!(user.groups, ["a", "b", AUTHENTICATED]);
        assert_eq!(user.extra["example.com/scope"], ["view"]);
    }

    #[test]
    fn service_accounts_get_their_groups() {
        let wanted =
            wanted(&headers(&[("impersonate-user", "system:serviceaccount:ns:a")])).unwrap().unwrap();
        assert_eq!(wanted.rights()[0], ("", "serviceaccounts", "", "ns".into(), "a".into()));
        assert!(wanted.user().is_in("system:serviceaccounts:ns"));
    }
}
