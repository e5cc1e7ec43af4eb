//! What is secret of documents: Secrets of the objects' names.

use std::{collections::BTreeMap, time::Duration};

use drystone_api::{
    SYSTEM_NAMESPACE,
    emco::{EMCO_GROUP, KEY_VALUES_KEY, KUBECONFIG_KEY, MASK},
};
use drystone_engine::reference::OwnSecret;
use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde_json::Value;

use crate::{
    kinds::{Kind, Shown},
    refusal::Refusal,
};

/// Who writes these Secrets.
const MANAGER: &str = "drystone-emco-rest";

/// How long a new object waits for the Secret of one of the same name that was deleted to go.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is kept in the Secret of a document.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Hidden {
    key: &'static str,
    value: String,
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hidden").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Hidden {
    /// A kubeconfig.
    pub(crate) fn kubeconfig(text: String) -> Self {
        Self { key: KUBECONFIG_KEY, value: text }
    }

    /// Under which key it is in the Secret.
    pub(crate) fn key(&self) -> &'static str {
        self.key
    }

    /// Key-value pairs whole.
    pub(crate) fn key_values(pairs: &Value) -> Self {
        Self { key: KEY_VALUES_KEY, value: pairs.to_string() }
    }
}

fn api(client: &Client) -> Api<Secret> {
    Api::namespaced(client.clone(), SYSTEM_NAMESPACE)
}

/// Refuses to touch a Secret that has to do with something else: an object that was made with `kubectl` may have any name.
fn check_ours(secret: &Secret, kind: &str, name: &str, key: &str) -> Result<(), Refusal> {
    if (OwnSecret { group: EMCO_GROUP.into(), kind: kind.into(), name, key }).is_foreign(secret) {
        return Err(Refusal::conflict(format!(
            "Secret {name} in {SYSTEM_NAMESPACE} belongs to something else; give the object another name"
        )));
    }
    Ok(())
}

/// The Secret that a name has already, for a new object of that name. One that has an owner is that of an object which is being deleted: it is
/// still needed there, and will go with it.
async fn unowned(client: &Client, name: &str) -> Result<Option<Secret>, Refusal> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let found = api(client).get_opt(name).await?;
        let is_owned =
            |secret: &Secret| secret.metadata.owner_references.as_ref().is_some_and(|all| !all.is_empty());
        match found {
            Some(secret) if is_owned(&secret) => {
                if tokio::time::Instant::now() >= deadline {
                    return Err(Refusal::conflict(format!(
                        "an object of this name is still being deleted (it owns Secret {name} in {SYSTEM_NAMESPACE}); try again when it is gone"
                    )));
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            other => return Ok(other),
        }
    }
}

/// Keeps something in the Secret of an object's name; with `owner`, it is deleted with that. Without one, the object is about to be made.
///
/// # Errors
/// If there is one of that name that has to do with something else, or an object of that name that is still being deleted.
pub(crate) async fn keep(
    client: &Client,
    (kind, name): (&dyn Kind, &str),
    hidden: &Hidden,
    owner: Option<&dyn Shown>,
) -> Result<(), Refusal> {
    let before = match owner {
        Some(_) => api(client).get_opt(name).await?,
        None => unowned(client, name).await?,
    };
    if let Some(before) = before {
        check_ours(&before, kind.name(), name, hidden.key)?;
    }
    let owner = owner.map(|document| OwnerReference {
        api_version: format!("{EMCO_GROUP}/v1alpha1"),
        kind: kind.name().to_owned(),
        name: document.meta().name.clone().unwrap_or_default(),
        uid: document.meta().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    });
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(SYSTEM_NAMESPACE.to_owned()),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(hidden.key.to_owned(), ByteString(hidden.value.clone().into_bytes()))])),
        ..Secret::default()
    };
    let parameters = PatchParams::apply(MANAGER).force();
    api(client).patch(name, &parameters, &Patch::Apply(&secret)).await?;
    Ok(())
}

/// Removes the Secret of an object's name that has something under a key, if there is one.
///
/// # Errors
/// If it has to do with something else.
pub(crate) async fn forget(
    client: &Client,
    (kind, name): (&dyn Kind, &str),
    key: &str,
) -> Result<(), Refusal> {
    let Some(secret) = api(client).get_opt(name).await? else { return Ok(()) };
    check_ours(&secret, kind.name(), name, key)?;
    let preconditions = Some(Preconditions { uid: secret.metadata.uid, resource_version: None });
    match api(client).delete(name, &DeleteParams { preconditions, ..DeleteParams::default() }).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What the Secret of an object's name has under a key.
pub(crate) async fn read(
    client: &Client,
    (kind, name): (&dyn Kind, &str),
    key: &str,
) -> Result<Option<Vec<u8>>, Refusal> {
    let secret = api(client).get_opt(name).await?;
    if let Some(secret) = &secret {
        check_ours(secret, kind.name(), name, key)?;
    }
    Ok(secret.and_then(|secret| secret.data?.remove(key)).map(|bytes| bytes.0))
}

/// Whether a key names something secret.
fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["token", "password", "passphrase", "secret", "privatekey", "private-key", "private_key"]
        .iter()
        .any(|word| key.contains(word))
}

/// Puts a mask in the place of what is secret in key-value pairs; whether there was anything.
pub(crate) fn mask(pairs: &mut Value) -> bool {
    let mut found = false;
    for pair in pairs.as_array_mut().into_iter().flatten() {
        for (key, value) in pair.as_object_mut().into_iter().flatten() {
            if is_secret(key) && !value.is_null() {
                *value = Value::from(MASK);
                found = true;
            }
        }
    }
    found
}

/// Puts what was kept before in the place of masks that a client sent back.
pub(crate) fn unmask(pairs: &mut Value, before: &Value) {
    let known = |key: &str| before.as_array()?.iter().find_map(|pair| pair.get(key)).cloned();
    for pair in pairs.as_array_mut().into_iter().flatten() {
        for (key, value) in pair.as_object_mut().into_iter().flatten() {
            if *value == MASK
                && let Some(before) = known(key)
            {
                *value = before;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_of_others_are_left_alone() {
        let secret = |value: Value| serde_json::from_value::<Secret>(value).unwrap();
        let check = |secret: &Secret| check_ours(secret, "Cluster", "c", "kubeconfig");
        assert!(check(&secret(json!({"data": {"kubeconfig": ""}}))).is_ok());
        assert_eq!(
            check(&secret(json!({"data": {"kubeconfig": "", "password": ""}}))).unwrap_err().status,
            409
        );
    }

    #[test]
    fn what_is_secret_is_masked_and_comes_back() {
        let whole =
            json!([{"gitType": "github"}, {"gitToken": "t0p"}, {"userPassword": {"a": 1}, "url": "u"}]);
        let mut shown = whole.clone();
        assert!(mask(&mut shown));
        assert_eq!(
            shown,
            json!([{"gitType": "github"}, {"gitToken": "***"}, {"userPassword": "***", "url": "u"}])
        );
        unmask(&mut shown, &whole);
        assert_eq!(shown, whole);
        assert!(!mask(&mut json!([{"a": "b"}])));
        assert!(!format!("{:?}", Hidden::key_values(&whole)).contains("t0p"));
    }
}
