//! Objects of the API that pods refer to: ConfigMaps, Secrets, tokens of ServiceAccounts.
//!
//! A ConfigMap or Secret that is read for one pod serves others that ask at the same moment: a reading counts for everybody who
//! asked before it began. Thus a hundred pods of one Deployment cost one reading, and nobody sees what is older than its pod.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use drystone_identity::Secret as SecretText;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
        core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, Secret, ServiceAccount},
    },
    jiff::{SignedDuration, Timestamp},
};
use kube::{Api, Client, api::PostParams};
use serde::de::DeserializeOwned;

/// A token is asked for anew when this part of its life is over, in percent.
const RENEW_AT: i64 = 80;
/// Or when it is this old.
const RENEW_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// An object that cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ObjectError {
    /// The API did not answer, or refused.
    #[error("{kind} {name:?} cannot be read: {problem}")]
    Api {
        /// What.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Why.
        problem: String,
    },
}

/// Which token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenKey {
    /// Namespace of pod and account.
    pub namespace: String,
    /// The ServiceAccount.
    pub account: String,
    /// The pod that the token is bound to.
    pub pod: String,
    /// Its identifier.
    pub pod_uid: String,
    /// Whom it is for.
    pub audience: Option<String>,
    /// How long it is valid.
    pub seconds: i64,
}

impl TokenKey {
    /// A token of the pod's ServiceAccount.
    pub fn of(pod: &Pod, audience: Option<String>, seconds: i64) -> Self {
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        Self {
            namespace: text(&pod.metadata.namespace),
            account: account.unwrap_or_else(|| "default".to_owned()),
            pod: text(&pod.metadata.name),
            pod_uid: text(&pod.metadata.uid),
            audience,
            seconds,
        }
    }
}

#[derive(Clone)]
struct Token {
    text: SecretText,
    renew: Timestamp,
}

type Key = (String, String);

/// What was read, and when the reading began.
struct Reading<K>(Option<(Instant, Option<Arc<K>>)>);

type Readings<K> = Mutex<HashMap<Key, Arc<tokio::sync::Mutex<Reading<K>>>>>;

/// Reads objects.
pub struct Objects {
    client: Client,
    config_maps: Readings<ConfigMap>,
    secrets: Readings<Secret>,
    claims: Readings<PersistentVolumeClaim>,
    tokens: Mutex<HashMap<TokenKey, Token>>,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").finish_non_exhaustive()
    }
}

impl Objects {
    /// Reads by this client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            config_maps: Mutex::default(),
            secrets: Mutex::default(),
            claims: Mutex::default(),
            tokens: Mutex::default(),
        }
    }

    /// A ConfigMap as it was at `since` or later; none if it does not exist.
    ///
    /// # Errors
    /// [`ObjectError`] if the API does not answer.
    pub async fn config_map(
        &self,
        namespace: &str,
        name: &str,
        since: Instant,
    ) -> Result<Option<Arc<ConfigMap>>, ObjectError> {
        self.read(&self.config_maps, "configmap", namespace, name, since).await
    }

    /// A Secret, likewise.
    ///
    /// # Errors
    /// [`ObjectError`] if the API does not answer.
    pub async fn secret(
        &self,
        namespace: &str,
        name: &str,
        since: Instant,
    ) -> Result<Option<Arc<Secret>>, ObjectError> {
        self.read(&self.secrets, "secret", namespace, name, since).await
    }

    /// A PersistentVolumeClaim, likewise.
    ///
    /// # Errors
    /// [`ObjectError`] if the API does not answer.
    pub async fn claim(
        &self,
        namespace: &str,
        name: &str,
        since: Instant,
    ) -> Result<Option<Arc<PersistentVolumeClaim>>, ObjectError> {
        self.read(&self.claims, "persistentvolumeclaim", namespace, name, since).await
    }

    /// A PersistentVolume as it is now; none if it does not exist.
    ///
    /// # Errors
    /// [`ObjectError`] if the API does not answer.
    pub async fn persistent_volume(&self, name: &str) -> Result<Option<PersistentVolume>, ObjectError> {
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        api.get_opt(name).await.map_err(|error| ObjectError::Api {
            kind: "persistentvolume",
            name: name.to_owned(),
            problem: error.to_string(),
        })
    }

    async fn read<K>(
        &self,
        readings: &Readings<K>,
        kind: &'static str,
        namespace: &str,
        name: &str,
        since: Instant,
    ) -> Result<Option<Arc<K>>, ObjectError>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + DeserializeOwned
            + Clone
            + fmt::Debug,
    {
        let slot = {
            let mut readings = lock(readings);
            // What nobody waits for and nobody asked for lately need not be kept.
            if readings.len() > 1000 {
                readings.retain(|_, slot| Arc::strong_count(slot) > 1);
            }
            let slot = readings.entry((namespace.to_owned(), name.to_owned()));
            Arc::clone(slot.or_insert_with(|| Arc::new(tokio::sync::Mutex::new(Reading(None)))))
        };
        let mut reading = slot.lock().await;
        if let Some((began, object)) = &reading.0
            && *began >= since
        {
            return Ok(object.clone());
        }
        let began = Instant::now();
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let object = api.get_opt(name).await.map_err(|error| ObjectError::Api {
            kind,
            name: name.to_owned(),
            problem: error.to_string(),
        })?;
        let object = object.map(Arc::new);
        reading.0 = Some((began, object.clone()));
        Ok(object)
    }

    /// A token that is valid for some time yet.
    ///
    /// # Errors
    /// [`ObjectError`] if the API does not give one.
    pub async fn token(&self, key: &TokenKey, now: Timestamp) -> Result<SecretText, ObjectError> {
        if let Some(token) = lock(&self.tokens).get(key)
            && now < token.renew
        {
            return Ok(token.text.clone());
        }
        let failed = |problem: String| ObjectError::Api {
            kind: "token of service account",
            name: key.account.clone(),
            problem,
        };
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &key.namespace);
        let request = token_request(key);
        let answer = api
            .create_token_request(&key.account, &PostParams::default(), &request)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let status = answer.status.ok_or_else(|| failed("the answer has no status".to_owned()))?;
        let text = SecretText::new(status.token);
        let renew = renewal(now, status.expiration_timestamp.0);
        lock(&self.tokens).insert(key.clone(), Token { text: text.clone(), renew });
        Ok(text)
    }

    /// Forgets the tokens of a pod.
    pub fn forget(&self, uid: &str) {
        lock(&self.tokens).retain(|key, _| key.pod_uid != uid);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn token_request(key: &TokenKey) -> TokenRequest {
    TokenRequest {
        spec: TokenRequestSpec {
            audiences: key.audience.iter().cloned().collect(),
            expiration_seconds: Some(key.seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(key.pod.clone()),
                uid: Some(key.pod_uid.clone()),
            }),
        },
        ..TokenRequest::default()
    }
}

fn renewal(now: Timestamp, expires: Timestamp) -> Timestamp {
    let life = expires.duration_since(now);
    let part = SignedDuration::from_secs(life.as_secs() * RENEW_AT / 100);
    now.checked_add(part.min(RENEW_AFTER)).unwrap_or(expires)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_renewed_in_time() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(renewal(at(0), at(3600)), at(2880));
        assert_eq!(renewal(at(0), at(1_000_000)), at(86_400));
        assert!(renewal(at(100), at(0)) <= at(100));
    }
}
