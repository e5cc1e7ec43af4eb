//! Who controls an object: owner references, and the decision which objects to adopt or release.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use kube::{
    Resource,
    core::{Selector, SelectorExt},
};

use crate::{
    error::ReconcileError,
    kind::{self, Kind, ObjectKey},
    writer::Writer,
};

/// The reference that marks `owner` as the controller of a dependent.
pub fn controller_reference<K: Kind>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: kind::name(owner).to_owned(),
        uid: kind::uid(owner).to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The reference to the controller of an object, if it has one.
pub fn controller_of<K: Resource>(object: &K) -> Option<&OwnerReference> {
    object.meta().owner_references.iter().flatten().find(|reference| reference.controller == Some(true))
}

/// The key of the controller of an object, if that is of kind `O`.
pub fn controller_key<O: Kind, K: Resource>(object: &K) -> Option<ObjectKey> {
    let reference = controller_of(object)?;
    let same_kind =
        reference.kind == O::kind(&()) && group(&reference.api_version) == group(&O::api_version(&()));
    same_kind.then(|| ObjectKey::new(kind::namespace(object), reference.name.clone()))
}

fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// Compiles a label selector. An invalid one selects nothing and is reported.
///
/// # Errors
/// [`ReconcileError::Invalid`] naming the field.
pub fn selector(selector: &LabelSelector) -> Result<Selector, ReconcileError> {
    selector
        .clone()
        .try_into()
        .map_err(|error| ReconcileError::Invalid(format!("spec.selector cannot be used: {error}")))
}

/// Whether a selector matches an object's labels.
pub fn matches<K: Resource>(selector: &Selector, object: &K) -> bool {
    static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();
    selector.matches(object.meta().labels.as_ref().unwrap_or(&NO_LABELS))
}

/// Which candidates an owner controls, should adopt, and should let go.
#[derive(Debug)]
pub struct Claim<K> {
    /// Controlled by the owner and matching its selector.
    pub owned: Vec<Arc<K>>,
    /// Matching, without any controller.
    pub adopt: Vec<Arc<K>>,
    /// Controlled by the owner but no longer matching.
    pub release: Vec<Arc<K>>,
}

/// Sorts candidates. An owner that is being deleted neither adopts nor releases.
pub fn claim<K: Resource>(
    candidates: impl IntoIterator<Item = Arc<K>>,
    owner_uid: &str,
    owner_deleting: bool,
    selector: &Selector,
) -> Claim<K> {
    let mut claim = Claim { owned: Vec::new(), adopt: Vec::new(), release: Vec::new() };
    for candidate in candidates {
        let matching = matches(selector, candidate.as_ref());
        let deleting = kind::is_deleting(candidate.as_ref());
        match controller_of(candidate.as_ref()) {
            Some(reference) if reference.uid == owner_uid => {
                if matching {
                    claim.owned.push(candidate);
                } else if !owner_deleting && !deleting {
                    claim.release.push(candidate);
                }
            }
            None if matching && !owner_deleting && !deleting => claim.adopt.push(candidate),
            _ => {}
        }
    }
    claim
}

impl<K: Kind> Claim<K> {
    /// Carries out adoption and release, and returns what the owner controls afterwards.
    ///
    /// Before adopting, the owner is read live: an owner deleted a moment ago must not take orphans with it.
    ///
    /// # Errors
    /// As the API answers; objects that vanished meanwhile are no error.
    pub async fn settle<O: Kind>(
        mut self,
        writer: &Writer,
        owner: &O,
    ) -> Result<Vec<Arc<K>>, ReconcileError> {
        for dependent in std::mem::take(&mut self.release) {
            let mut released = dependent.as_ref().clone();
            if let Some(references) = &mut released.meta_mut().owner_references {
                references.retain(|reference| reference.uid != kind::uid(owner));
            }
            ignore_vanished(writer.update(dependent.as_ref(), &released).await)?;
        }
        if !self.adopt.is_empty() {
            let live: Option<O> = writer.get(&ObjectKey::of(owner)).await?;
            let alive = live.is_some_and(|o| kind::uid(&o) == kind::uid(owner) && !kind::is_deleting(&o));
            if !alive {
                return Err(ReconcileError::Stale(format!(
                    "{} {} was deleted meanwhile",
                    O::kind(&()),
                    ObjectKey::of(owner)
                )));
            }
        }
        for dependent in std::mem::take(&mut self.adopt) {
            let mut adopted = dependent.as_ref().clone();
            adopted.meta_mut().owner_references.get_or_insert_default().push(controller_reference(owner));
            if let Some(adopted) = ignore_vanished(writer.update(dependent.as_ref(), &adopted).await)? {
                self.owned.push(Arc::new(adopted));
            }
        }
        Ok(self.owned)
    }
}

fn ignore_vanished<T>(result: Result<Option<T>, ReconcileError>) -> Result<Option<T>, ReconcileError> {
    match result {
        Err(error) if error.is_not_found() => Ok(None),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::{apps::v1::ReplicaSet, core::v1::Pod},
        apimachinery::pkg::apis::meta::v1::Time,
    };

    use super::*;

    fn pod(name: &str, app: &str, owner: Option<&str>, deleting: bool) -> Arc<Pod> {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.into());
        pod.metadata.labels = Some([("app".to_owned(), app.to_owned())].into());
        pod.metadata.owner_references = owner.map(|uid| {
            let mut rs = ReplicaSet::default();
            rs.metadata.uid = Some(uid.into());
            vec![controller_reference(&rs)]
        });
        pod.metadata.deletion_timestamp = deleting.then_some(Time(jiff::Timestamp::UNIX_EPOCH));
        Arc::new(pod)
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
        pods.iter().map(|pod| kind::name(pod.as_ref())).collect()
    }

    #[test]
    fn adoption_and_release() {
        let wanted = LabelSelector {
            match_labels: Some([("app".to_owned(), "web".to_owned())].into()),
            ..Default::default()
        };
        let wanted = selector(&wanted).unwrap();
        let pods = [
            pod("owned", "web", Some("me"), false),
            pod("strayed", "db", Some("me"), false),
            pod("strayed-dying", "db", Some("me"), true),
            pod("orphan", "web", None, false),
            pod("orphan-dying", "web", None, true),
            pod("orphan-other", "db", None, false),
            pod("foreign", "web", Some("other"), false),
        ];
        let claimed = claim(pods.clone(), "me", false, &wanted);
        assert_eq!(names(&claimed.owned), ["owned"]);
        assert_eq!(names(&claimed.adopt), ["orphan"]);
        assert_eq!(names(&claimed.release), ["strayed"]);
        let claimed = claim(pods, "me", true, &wanted);
        assert!(claimed.adopt.is_empty() && claimed.release.is_empty());
    }
}
