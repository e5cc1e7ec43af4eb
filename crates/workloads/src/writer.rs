//! Every write of the controllers goes through here: bounded in time, with the preconditions that make it safe to repeat.
//!
//! Changes are sent as the smallest patch that leads from what was read to what is wanted, pinned to the version read, so
//! a controller never overwrites fields it did not look at, and a stale view is answered with a conflict instead of harm.

use std::{future::Future, time::Duration};

use kube::{
    Client,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    error::ReconcileError,
    kind::{Kind, ObjectKey, name, namespace, uid},
};

/// How long one request may take.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

/// Writes objects through a client. Cheap to clone.
#[derive(Clone)]
pub struct Writer {
    client: Client,
}

impl Writer {
    /// A writer over a client, which may be in process.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The client it writes through.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Creates an object in the namespace it names.
    ///
    /// # Errors
    /// As the API answers, among them `AlreadyExists`.
    pub async fn create<K: Kind>(&self, object: &K) -> Result<K, ReconcileError> {
        let api = K::api(self.client(), namespace(object));
        let shown = if name(object).is_empty() {
            format!("{}/{}*", namespace(object), object.meta().generate_name.as_deref().unwrap_or_default())
        } else {
            ObjectKey::of(object).to_string()
        };
        bounded::<K, _>("create", shown, api.create(&PostParams::default(), object)).await
    }

    /// Posts to a subresource of an object, such as `binding`, and ignores the answer's body.
    ///
    /// # Errors
    /// As the API answers.
    pub async fn create_subresource<K: Kind, B: Serialize>(
        &self,
        key: &ObjectKey,
        subresource: &str,
        body: &B,
    ) -> Result<(), ReconcileError> {
        let api = K::api(self.client(), &key.namespace);
        let params = PostParams::default();
        let sent = api.create_subresource::<B, Value>(subresource, &key.name, &params, body);
        bounded::<K, _>(&format!("create {subresource} of"), key.to_string(), sent).await.map(|_| ())
    }

    /// Reads an object from the API rather than from a cache; `None` if it does not exist.
    ///
    /// # Errors
    /// As the API answers, except "not found".
    pub async fn get<K: Kind>(&self, key: &ObjectKey) -> Result<Option<K>, ReconcileError> {
        let api = K::api(self.client(), &key.namespace);
        bounded::<K, _>("get", key.to_string(), api.get_opt(&key.name)).await
    }

    /// Deletes this very object (by UID), with the given grace period; it is no error if it is gone or replaced.
    ///
    /// # Errors
    /// As the API answers otherwise.
    pub async fn delete<K: Kind>(
        &self,
        object: &K,
        grace_seconds: Option<u32>,
    ) -> Result<(), ReconcileError> {
        self.delete_with(object, grace_seconds, DeleteParams::default()).await
    }

    /// Deletes this very object, leaving its dependents to background garbage collection.
    ///
    /// # Errors
    /// As the API answers, except "not found" and "replaced by another".
    pub async fn delete_in_background<K: Kind>(&self, object: &K) -> Result<(), ReconcileError> {
        self.delete_with(object, None, DeleteParams::background()).await
    }

    async fn delete_with<K: Kind>(
        &self,
        object: &K,
        grace_seconds: Option<u32>,
        mut params: DeleteParams,
    ) -> Result<(), ReconcileError> {
        let api = K::api(self.client(), namespace(object));
        params.grace_period_seconds = grace_seconds;
        params.preconditions =
            Some(Preconditions { uid: Some(uid(object).to_owned()), ..Preconditions::default() });
        let deleted =
            bounded::<K, _>("delete", ObjectKey::of(object).to_string(), api.delete(name(object), &params))
                .await;
        match deleted {
            // A conflict means that the UID is another's by now: ours is gone.
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Sends the difference between two states of an object, pinned to the version of `old`. `None`: no difference.
    ///
    /// # Errors
    /// A conflict if the object changed since `old` was read; else as the API answers.
    pub async fn update<K: Kind>(&self, old: &K, new: &K) -> Result<Option<K>, ReconcileError> {
        let Some(Value::Object(mut patch)) = merge_diff(&encode(old)?, &encode(new)?) else {
            return Ok(None);
        };
        pin(&mut patch, old);
        let api = K::api(self.client(), namespace(old));
        let request = (name(old), PatchParams::default(), Patch::Merge(Value::Object(patch)));
        let sent = api.patch(request.0, &request.1, &request.2);
        bounded::<K, _>("update", ObjectKey::of(old).to_string(), sent).await.map(Some)
    }

    /// Sends the difference between two statuses of an object, pinned to the version of `object`. `None`: no difference.
    ///
    /// # Errors
    /// A conflict if the object changed since it was read; else as the API answers.
    pub async fn update_status<K: Kind, S: Serialize>(
        &self,
        object: &K,
        old: &S,
        new: &S,
    ) -> Result<Option<K>, ReconcileError> {
        let (old, new) = (non_null(encode(old)?), non_null(encode(new)?));
        let Some(diff) = merge_diff(&old, &new) else { return Ok(None) };
        let mut patch = Map::from_iter([("status".to_owned(), diff)]);
        pin(&mut patch, object);
        let api = K::api(self.client(), namespace(object));
        let patch = Patch::Merge(Value::Object(patch));
        let params = PatchParams::default();
        let sent = api.patch_status(name(object), &params, &patch);
        bounded::<K, _>("update status of", ObjectKey::of(object).to_string(), sent).await.map(Some)
    }

    /// Merges into a status by the API's own rules for lists (conditions by type), so that writers of other conditions
    /// are not disturbed and no version needs to be pinned; the UID is, so a namesake is never changed.
    ///
    /// # Errors
    /// As the API answers.
    pub async fn merge_status<K: Kind>(&self, object: &K, status: Value) -> Result<K, ReconcileError> {
        let body = json!({"metadata": {"uid": uid(object)}, "status": status});
        let api = K::api(self.client(), namespace(object));
        let patch = Patch::Strategic(body);
        let params = PatchParams::default();
        let sent = api.patch_status(name(object), &params, &patch);
        bounded::<K, _>("update status of", ObjectKey::of(object).to_string(), sent).await
    }
}

/// Runs a request under the deadline and says what it was about if it fails.
async fn bounded<K: Kind, T>(
    verb: &str,
    object: String,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, ReconcileError> {
    let action = || format!("{verb} {}", K::kind(&()));
    match tokio::time::timeout(REQUEST_DEADLINE, request).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(ReconcileError::Api { action: action(), object, source: Box::new(source) }),
        Err(_) => Err(ReconcileError::Timeout { action: action(), object, limit: REQUEST_DEADLINE }),
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Value, ReconcileError> {
    serde_json::to_value(value)
        .map_err(|error| ReconcileError::Invalid(format!("cannot encode the object: {error}")))
}

/// An absent status counts as an empty one.
fn non_null(value: Value) -> Value {
    if value.is_null() { Value::Object(Map::new()) } else { value }
}

fn pin<K: Kind>(patch: &mut Map<String, Value>, object: &K) {
    let metadata = patch.entry("metadata").or_insert_with(|| json!({}));
    metadata["uid"] = json!(uid(object));
    metadata["resourceVersion"] = json!(object.meta().resource_version);
}

/// The JSON merge patch (RFC 7396) that turns `old` into `new`; `None` if they are equal.
pub fn merge_diff(old: &Value, new: &Value) -> Option<Value> {
    if old == new {
        return None;
    }
    let (Value::Object(before), Value::Object(after)) = (old, new) else { return Some(new.clone()) };
    let mut patch = Map::new();
    for (key, value) in after {
        match before.get(key) {
            Some(previous) => patch.extend(merge_diff(previous, value).map(|diff| (key.clone(), diff))),
            None => patch.extend([(key.clone(), value.clone())]),
        }
    }
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn apply(target: &mut Value, patch: &Value) {
        let Value::Object(changes) = patch else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        for (key, change) in changes {
            if change.is_null() {
                target.as_object_mut().unwrap().remove(key);
            } else {
                apply(&mut target[key.as_str()], change);
            }
        }
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<bool>().prop_map(Value::from), (0..3i64).prop_map(Value::from)];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-c]", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_difference_leads_from_old_to_new(
            old in prop::collection::btree_map("[a-c]", document(), 0..4),
            new in prop::collection::btree_map("[a-c]", document(), 0..4),
        ) {
            let old = Value::Object(old.into_iter().collect());
            let new = Value::Object(new.into_iter().collect());
            let mut result = old.clone();
            if let Some(patch) = merge_diff(&old, &new) {
                apply(&mut result, &patch);
            }
            prop_assert_eq!(result, new);
        }
    }

    #[test]
    fn removed_fields_become_null_and_untouched_ones_stay_out() {
        let old = json!({"a": 1, "b": {"c": 2, "d": 3}, "e": [1]});
        let new = json!({"a": 1, "b": {"c": 2}, "e": [1, 2]});
        assert_eq!(merge_diff(&old, &new), Some(json!({"b": {"d": null}, "e": [1, 2]})));
        assert_eq!(merge_diff(&old, &old), None);
    }
}
