//! What images are known by: owner, cluster, type and name, which together make the name of the Artifact.

use drystone_api::ArtifactType;

use crate::{digest::Digest, wire::collection};

/// Longest name of an owner and of a cluster, as of a namespace.
const MAX_LABEL: usize = 63;
/// Longest name of an image.
const MAX_NAME: usize = 200;
/// Most characters of the image's name that the object's name shows.
const MAX_SLUG: usize = 40;
/// Hexadecimal digits that make the object's name unique.
const DISTINCTION: usize = 20;

/// Key of an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ArtifactKey {
    owner: String,
    cluster: String,
    kind: ArtifactType,
    name: String,
}

/// What cannot be part of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The owner is a namespace.
    #[error(
        "the owner {0:?} must be the name of a namespace: 1 to {MAX_LABEL} lower-case letters, digits and `-`, not at its ends"
    )]
    Owner(String),
    /// Clusters are named as objects are.
    #[error(
        "the cluster {0:?} must be 1 to {MAX_LABEL} letters, digits, `-`, `_` and `.`, and begin with a letter or digit"
    )]
    Cluster(String),
    /// The name becomes part of a URL.
    #[error(
        "the image name {0:?} must be 1 to {MAX_NAME} letters, digits and `-_.+:@~`, and begin with a letter or digit"
    )]
    Name(String),
}

fn plain(text: &str, most: usize, others: &str) -> bool {
    text.len() <= most
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

/// What is told of a text that is wrong: not all of it.
fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

impl ArtifactKey {
    /// Checks its parts.
    ///
    /// # Errors
    /// [`KeyError`] for names that could lead elsewhere, or that no namespace has.
    pub fn new(owner: &str, cluster: &str, kind: ArtifactType, name: &str) -> Result<Self, KeyError> {
        let lower = !owner.chars().any(|c| c.is_ascii_uppercase());
        if !(plain(owner, MAX_LABEL, "-") && lower && !owner.ends_with('-')) {
            return Err(KeyError::Owner(shown(owner)));
        }
        if !plain(cluster, MAX_LABEL, "-_.") {
            return Err(KeyError::Cluster(shown(cluster)));
        }
        if !plain(name, MAX_NAME, "-_.+:@~") {
            return Err(KeyError::Name(shown(name)));
        }
        Ok(Self { owner: owner.to_owned(), cluster: cluster.to_owned(), kind, name: name.to_owned() })
    }

    /// The owner, which is the namespace.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The cluster.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The type.
    pub const fn kind(&self) -> ArtifactType {
        self.kind
    }

    /// The image's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name of the Artifact: as much of the image's name as objects may have, and what makes it another one than all others'.
    pub fn object_name(&self) -> String {
        let mut whole = Vec::new();
        for part in [self.owner(), self.cluster(), collection(self.kind), self.name()] {
            whole.extend_from_slice(&(part.len() as u64).to_le_bytes());
            whole.extend_from_slice(part.as_bytes());
        }
        let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let slug: String = self.name.chars().take(MAX_SLUG).map(letter).collect();
        format!("{}-{}", slug.trim_end_matches('-'), &Digest::of(&whole).hex()[..DISTINCTION])
    }

    /// Path of its collection on Drystone's HTTPS port.
    pub fn collection_path(&self) -> String {
        format!("/v1/baremetalcluster/{}/{}/{}", self.owner, self.cluster, collection(self.kind))
    }

    /// Its path on Drystone's HTTPS port.
    pub fn path(&self) -> String {
        format!("{}/{}", self.collection_path(), self.name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(owner: &str, cluster: &str, name: &str) -> Result<ArtifactKey, KeyError> {
        ArtifactKey::new(owner, cluster, ArtifactType::Binary, name)
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        assert!(key("alpha", "Beta_1.2", "Debian-12+x~1:2@3.qcow2").is_ok());
        for owner in ["", "Alpha", "a_b", "a.b", "-a", "a-", "..", "a/b", &"a".repeat(64)] {
            assert!(matches!(key(owner, "c", "n"), Err(KeyError::Owner(_))), "{owner}");
        }
        for cluster in ["", ".", "..", "a/b", "a b", "-a", "é"] {
            assert!(matches!(key("a", cluster, "n"), Err(KeyError::Cluster(_))), "{cluster}");
        }
        for name in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "a\\b",
            "a\0",
            "a b",
            ".hidden",
            "%2e%2e",
            "a\u{202e}",
            &"a".repeat(201),
        ] {
            assert!(matches!(key("a", "c", name), Err(KeyError::Name(_))), "{name}");
        }
    }

    #[test]
    fn no_two_keys_have_the_same_object() {
        let one = key("a", "c", "Debian_12.qcow2").unwrap();
        assert!(one.object_name().starts_with("debian-12-qcow2-"), "{}", one.object_name());
        for other in [
            key("a", "c", "debian-12.qcow2"),
            key("a", "d", "Debian_12.qcow2"),
            key("b", "c", "Debian_12.qcow2"),
        ] {
            assert_ne!(one.object_name(), other.unwrap().object_name());
        }
        let kind = ArtifactKey::new("a", "c", ArtifactType::Container, "Debian_12.qcow2").unwrap();
        assert_ne!(one.object_name(), kind.object_name());
    }

    proptest! {
        #[test]
        fn objects_are_named_as_they_may_be(name in drystone_hostile::damaged_text(["Debian-12.qcow2"])) {
            if let Ok(key) = key("a", "c", &name) {
                let object = key.object_name();
                prop_assert!(object.len() <= 63 && object.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{object}");
                prop_assert!(!object.starts_with('-') && !object.ends_with('-'));
            }
        }
    }
}
