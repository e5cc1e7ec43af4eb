//! Keeps claims and volumes that are in use from vanishing under their users. Pure.

use kube::Resource;

use crate::kind;

/// Finalizer of claims.
pub const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
/// Finalizer of volumes.
pub const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";

/// The finalizers the object should have; `None` if it has them. While it is not being deleted it is protected; once it is,
/// protection ends with its use.
pub fn finalizers<K: Resource>(object: &K, finalizer: &str, in_use: bool) -> Option<Vec<String>> {
    let mut finalizers = object.meta().finalizers.clone().unwrap_or_default();
    let protected = finalizers.iter().any(|known| known == finalizer);
    match (kind::is_deleting(object), protected) {
        (false, false) => finalizers.push(finalizer.to_owned()),
        (true, true) if !in_use => finalizers.retain(|known| known != finalizer),
        _ => return None,
    }
    Some(finalizers)
}
