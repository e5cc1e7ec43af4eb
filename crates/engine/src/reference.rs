//! References between objects, and errors of the API in words.

use std::borrow::Cow;

use drystone_api::ObjectReference;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{Resource, ResourceExt};

/// Namespace and name of an object whose kind is clear from the context.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ObjectKey {
    /// Key of an object in a namespace.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Key of a cluster-scoped object.
    pub fn cluster_scoped(name: impl Into<String>) -> Self {
        Self { namespace: String::new(), name: name.into() }
    }

    /// Key of `object`.
    pub fn of<K: Resource>(object: &K) -> Self {
        Self { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

impl From<&ObjectReference> for ObjectKey {
    fn from(reference: &ObjectReference) -> Self {
        Self { namespace: reference.namespace.clone(), name: reference.name.clone() }
    }
}

/// Full reference to `object`, with its uid: the subject of an operation or of an event.
pub fn reference_to<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    ObjectReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
    }
}

/// Makes the object referred to the owner of another one: that one is garbage-collected with it, and a foreground deletion
/// of the owner waits for it.
pub fn owner_reference(owner: &ObjectReference) -> OwnerReference {
    OwnerReference {
        api_version: owner.api_version.clone(),
        kind: owner.kind.clone(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The Secret that an object keeps something in, which has the object's own name. Whoever may give objects their names could reach any Secret
/// through them, if it were not asked whose it is.
#[derive(Debug, Clone)]
pub struct OwnSecret<'a> {
    /// API group of the object.
    pub group: Cow<'a, str>,
    /// Kind of the object.
    pub kind: Cow<'a, str>,
    /// Name of both.
    pub name: &'a str,
    /// Under which key it is kept; there is no other one.
    pub key: &'a str,
}

impl<'a> OwnSecret<'a> {
    /// The Secret of the object of that name.
    pub fn of<K: Resource<DynamicType = ()>>(name: &'a str, key: &'a str) -> Self {
        Self { group: K::group(&()), kind: K::kind(&()), name, key }
    }

    /// Whether the Secret of that name has to do with something else: it is owned by another object, or has other members.
    pub fn is_foreign(&self, secret: &Secret) -> bool {
        let is_ours = |owner: &OwnerReference| {
            let of_group = owner.api_version.split_once('/').is_some_and(|(of, _)| of == self.group);
            of_group && owner.kind == self.kind && owner.name == self.name
        };
        let is_owned_elsewhere = !secret.metadata.owner_references.iter().flatten().all(is_ours);
        is_owned_elsewhere || secret.data.iter().flatten().any(|(other, _)| other != self.key)
    }
}

/// An error of the API for people: the server's own message, where there is one.
pub fn describe_kube_error(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        kube::Error::Api(status) => format!("the API server answered {} {}", status.code, status.reason),
        other => other.to_string(),
    }
}

/// Whether the API answered 409: the object exists already or was changed by somebody else.
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// Whether the API answered 404.
pub fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn secrets_of_others_are_foreign() {
        let secret = |value: Value| serde_json::from_value::<Secret>(value).unwrap();
        let owned = |version: &str, kind: &str, owner: &str| {
            let owner = json!({"apiVersion": version, "kind": kind, "name": owner, "uid": "u"});
            secret(json!({"metadata": {"ownerReferences": [owner]}, "data": {"kubeconfig": ""}}))
        };
        let group = "emco.drystone.dev".into();
        let own = OwnSecret { group, kind: "Cluster".into(), name: "c", key: "kubeconfig" };
        assert!(!own.is_foreign(&owned("emco.drystone.dev/v1alpha1", "Cluster", "c")));
        assert!(!own.is_foreign(&secret(json!({"data": {"kubeconfig": ""}}))));
        assert!(!own.is_foreign(&Secret::default()));
        for foreign in [
            owned("drystone.dev/v1alpha1", "Cluster", "c"),
            owned("emco.drystone.dev.example/v1", "Cluster", "c"),
            owned("emco.drystone.dev/v1alpha1", "ClusterReference", "c"),
            owned("emco.drystone.dev/v1alpha1", "Cluster", "d"),
            secret(json!({"data": {"kubeconfig": "", "password": ""}})),
            secret(json!({"data": {"password": ""}})),
        ] {
            assert!(own.is_foreign(&foreign), "{foreign:?}");
        }
    }
}
