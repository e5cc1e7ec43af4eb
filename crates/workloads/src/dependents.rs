//! Wakes the owner of a pod when the pod changes.

use std::sync::Arc;

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::LabelSelector};
use kube::core::Selector;

use crate::{
    cache::{Cache, Change},
    expectations::Expectations,
    kind::{self, Kind, ObjectKey},
    owner::{self, controller_key, controller_of},
    queue::WorkQueue,
};

/// Queues every change of an owner under its own key.
pub(crate) fn follow_owners<O: Kind>(owners: &Cache<O>, queue: &WorkQueue<ObjectKey>) {
    let queue = queue.clone();
    owners.subscribe(move |change| queue.add(ObjectKey::of(change.newest().as_ref())));
}

/// Queues the owners (of kind `O`) of every pod that changes: the controller it had and has, and, for a pod without one,
/// every owner whose selector would adopt it. Fulfils the owner's expectations.
pub(crate) fn follow_pods<O: Kind>(
    pods: &Cache<Pod>,
    owners: &Arc<Cache<O>>,
    queue: &WorkQueue<ObjectKey>,
    expectations: Option<Arc<Expectations>>,
    selector_of: fn(&O) -> Option<LabelSelector>,
) {
    let (owners, queue) = (owners.clone(), queue.clone());
    pods.subscribe(move |change| {
        let newest = change.newest().as_ref();
        if let Some(key) = controller_key::<O, _>(newest) {
            if let Some(expectations) = &expectations {
                fulfil(expectations, &key, change);
            }
            queue.add(key);
        } else if controller_of(newest).is_none() && !matches!(change, Change::Deleted(_)) {
            wake_adopters(&owners, &queue, newest, selector_of);
        }
        if let Some(previous) = change.previous()
            && let Some(key) = controller_key::<O, _>(previous.as_ref())
            && controller_of(previous.as_ref()).map(|r| &r.uid) != controller_of(newest).map(|r| &r.uid)
        {
            queue.add(key);
        }
    });
}

/// Deletion is seen as soon as it was asked for: from then on the pod is no replica any more.
fn fulfil(expectations: &Expectations, owner: &ObjectKey, change: &Change<Pod>) {
    let newest = change.newest().as_ref();
    if matches!(change, Change::Added(_)) {
        expectations.creation_observed(owner);
    }
    if matches!(change, Change::Deleted(_)) || kind::is_deleting(newest) {
        expectations.deletion_observed(owner, kind::uid(newest));
    }
}

fn wake_adopters<O: Kind>(
    owners: &Cache<O>,
    queue: &WorkQueue<ObjectKey>,
    pod: &Pod,
    selector_of: fn(&O) -> Option<LabelSelector>,
) {
    if kind::is_deleting(pod) {
        return;
    }
    for candidate in owners.in_namespace(kind::namespace(pod)) {
        let Some(selector) = selector_of(&candidate) else { continue };
        let Ok(selector) = Selector::try_from(selector) else { continue };
        if !selector.selects_all() && owner::matches(&selector, pod) {
            queue.add(ObjectKey::of(candidate.as_ref()));
        }
    }
}
