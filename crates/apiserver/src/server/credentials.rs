//! Credentials that live in the store: service accounts, whose tokens are only good while the objects they name live, and
//! bootstrap tokens, which are Secrets.

use async_trait::async_trait;
use drystone_identity::authn::{
    AuthenticationError, BOOTSTRAP_TOKEN_SECRET_TYPE, BootstrapToken, BootstrapTokenSource, Claims, Liveness,
    LivenessError, ObjectClaim,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;

use crate::registry::resource::key_prefix;
use crate::storage::Objects;

/// Looks up, in the store, what a token names.
#[derive(Debug, Clone)]
pub(crate) struct StoredObjects(pub(crate) Objects);

#[derive(Deserialize)]
struct Identified {
    metadata: IdentifiedMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IdentifiedMetadata {
    uid: String,
    deletion_timestamp: Option<Timestamp>,
}

impl StoredObjects {
    async fn check_one(
        &self,
        resource: &str,
        namespace: Option<&str>,
        claim: &ObjectClaim,
        now: Timestamp,
    ) -> Result<(), LivenessError> {
        let scope = namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default();
        let key = format!("{}{scope}{}", key_prefix("", resource), claim.name);
        let found = self.0.get(&key).await.map_err(|error| LivenessError::Unavailable(error.to_string()))?;
        let gone = |what: &str| LivenessError::Gone(format!("{resource} {:?} {what}", claim.name));
        let found = found.ok_or_else(|| gone("does not exist"))?;
        let found: Identified = serde_json::from_slice(&found.bytes).map_err(|_| gone("is damaged"))?;
        if found.metadata.uid != claim.uid {
            return Err(gone("is another one than the token was issued for"));
        }
        // Something that is being deleted may still speak for the grace that it was given.
        let ended = found.metadata.deletion_timestamp.is_some_and(|at| {
            at.checked_add(jiff::SignedDuration::from_mins(1)).is_ok_and(|latest| latest < now)
        });
        if ended { Err(gone("has been deleted")) } else { Ok(()) }
    }
}

#[async_trait]
impl Liveness for StoredObjects {
    async fn check(&self, claims: &Claims, now: Timestamp) -> Result<(), LivenessError> {
        let named = &claims.kubernetes;
        let namespace = Some(named.namespace.as_str());
        self.check_one("serviceaccounts", namespace, &named.serviceaccount, now).await?;
        if let Some(pod) = &named.pod {
            self.check_one("pods", namespace, pod, now).await?;
        }
        if let Some(secret) = &named.secret {
            self.check_one("secrets", namespace, secret, now).await?;
        }
        // A pod's token tells the node for information only; the pod vouches for it.
        match &named.node {
            Some(node) if named.pod.is_none() => self.check_one("nodes", None, node, now).await,
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl BootstrapTokenSource for StoredObjects {
    async fn find(&self, id: &str) -> Result<Option<BootstrapToken>, AuthenticationError> {
        let key = format!("{}kube-system/{}", key_prefix("", "secrets"), BootstrapToken::secret_name(id));
        let found = self.0.get(&key).await;
        let found = found.map_err(|error| AuthenticationError::Unavailable(error.to_string()))?;
        let Some(found) = found else { return Ok(None) };
        let refused =
            |problem: String| AuthenticationError::Refused(format!("bootstrap token {id}: {problem}"));
        let secret: Secret =
            serde_json::from_slice(&found.bytes).map_err(|error| refused(error.to_string()))?;
        if secret.type_.as_deref() != Some(BOOTSTRAP_TOKEN_SECRET_TYPE)
            || secret.metadata.deletion_timestamp.is_some()
        {
            return Ok(None);
        }
        let data = secret.data.unwrap_or_default();
        BootstrapToken::from_secret_data(&data).map(Some).map_err(|error| refused(error.to_string()))
    }
}
