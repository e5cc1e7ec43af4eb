//! Pods out of templates, and the short hashes that name revisions of a template.

use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use kube::api::ObjectMeta;
use serde::Serialize;

use crate::{
    kind::{self, Kind},
    owner::controller_reference,
};

/// Names longer than this leave no room for the suffix the API server adds to `generateName`.
const GENERATED_PREFIX_LIMIT: usize = 58;

/// The pod that `owner` creates from its template; named by the API server, prefixed with the owner's name.
pub fn pod_from_template<O: Kind>(template: &PodTemplateSpec, owner: &O) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(generated_prefix(kind::name(owner))),
            namespace: owner.meta().namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![controller_reference(owner)]),
            ..Default::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// `name-`, shortened so that a generated name stays a valid DNS label.
pub fn generated_prefix(name: &str) -> String {
    let room = GENERATED_PREFIX_LIMIT - 1;
    let end = (0..=room.min(name.len())).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    format!("{}-", &name[..end])
}

/// A short, stable, name-safe hash of a serializable value; `collision` distinguishes values whose hashes collide.
pub fn short_hash<T: Serialize>(value: &T, collision: Option<i32>) -> String {
    // Typed objects serialize with a fixed field order and sorted maps, so equal values give equal text.
    let text = serde_json::to_string(value).unwrap_or_default();
    let mut hash = fnv1a(0x811c_9dc5, text.as_bytes());
    if let Some(collision) = collision {
        hash = fnv1a(hash, &collision.to_le_bytes());
    }
    safe_encode(&hash.to_string())
}

/// FNV-1a, 32 bits, continuing from `hash`.
pub fn fnv1a(mut hash: u32, bytes: &[u8]) -> u32 {
    for byte in bytes {
        hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    }
    hash
}

/// Maps digits to letters and digits that cannot form words, as Kubernetes does for names.
fn safe_encode(digits: &str) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    digits.bytes().map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_stable_and_tell_collisions_apart() {
        let template = PodTemplateSpec::default();
        let hash = short_hash(&template, None);
        assert_eq!(hash, short_hash(&template.clone(), None));
        assert_ne!(hash, short_hash(&template, Some(1)));
        assert!(hash.len() <= 10 && hash.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
    }

    #[test]
    fn generated_names_stay_labels() {
        assert_eq!(generated_prefix("web"), "web-");
        assert_eq!(generated_prefix(&"x".repeat(80)).len(), 58);
    }
}
