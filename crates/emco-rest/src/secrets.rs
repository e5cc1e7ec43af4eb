//! What is secret of documents: Secrets of the objects' names.

use std::collections::BTreeMap;

use drystone_api::{
    SYSTEM_NAMESPACE,
    emco::{EMCO_GROUP, KEY_VALUES_KEY, KUBECONFIG_KEY, MASK},
};
use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::Value;

use crate::{
    kinds::{Kind, Shown},
    refusal::Refusal,
};

/// Who writes these Secrets.
const MANAGER: &str = "drystone-emco-rest";

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

    /// Key-value pairs whole.
    pub(crate) fn key_values(pairs: &Value) -> Self {
        Self { key: KEY_VALUES_KEY, value: pairs.to_string() }
    }
}

fn api(client: &Client) -> Api<Secret> {
    Api::namespaced(client.clone(), SYSTEM_NAMESPACE)
}

/// Refuses to touch a Secret that has to do with something else: an object that was made with `kubectl` may have any name.
fn check_ours(secret: &Secret, key: &str, name: &str) -> Result<(), Refusal> {
    let keys = secret.data.as_ref().map(|data| data.keys().any(|other| other != key));
    let is_foreign = secret
        .metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| !owner.api_version.starts_with(EMCO_GROUP) || owner.name != name);
    if is_foreign || keys == Some(true) {
        return Err(Refusal::conflict(format!(
            "Secret {name} in {SYSTEM_NAMESPACE} belongs to something else; give the object another name"
        )));
    }
    Ok(())
}

/// Keeps something in the Secret of a name; with `owner`, it is deleted with that.
///
/// # Errors
/// If there is one of that name that has to do with something else.
pub(crate) async fn keep(
    client: &Client,
    name: &str,
    hidden: &Hidden,
    owner: Option<(&dyn Kind, &dyn Shown)>,
) -> Result<(), Refusal> {
    let owner = owner.map(|(kind, document)| OwnerReference {
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
    if let Some(before) = api(client).get_opt(name).await? {
        check_ours(&before, hidden.key, name)?;
    }
    let parameters = PatchParams::apply(MANAGER).force();
    api(client).patch(name, &parameters, &Patch::Apply(&secret)).await?;
    Ok(())
}

/// Removes the Secret of a name, if there is one.
pub(crate) async fn forget(client: &Client, name: &str) -> Result<(), Refusal> {
    match api(client).delete(name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What the Secret of a name has under a key.
pub(crate) async fn read(client: &Client, name: &str, key: &str) -> Result<Option<Vec<u8>>, Refusal> {
    let secret = api(client).get_opt(name).await?;
    if let Some(secret) = &secret {
        check_ours(secret, key, name)?;
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
        let owned = |version: &str, owner: &str| {
            let owner = json!({"apiVersion": version, "kind": "Cluster", "name": owner, "uid": "u"});
            secret(json!({"metadata": {"ownerReferences": [owner]}, "data": {"kubeconfig": ""}}))
        };
        assert!(check_ours(&owned("emco.drystone.dev/v1alpha1", "c"), "kubeconfig", "c").is_ok());
        assert!(check_ours(&secret(json!({"data": {"kubeconfig": ""}})), "kubeconfig", "c").is_ok());
        for foreign in [
            owned("drystone.dev/v1alpha1", "c"),
            owned("emco.drystone.dev/v1alpha1", "d"),
            secret(json!({"data": {"kubeconfig": "", "password": ""}})),
        ] {
            assert_eq!(check_ours(&foreign, "kubeconfig", "c").unwrap_err().status, 409);
        }
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
