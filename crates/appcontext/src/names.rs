//! Names: of contexts, clusters and resources.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest as _, Sha256};

/// What stands between the parts of a cluster's and a resource's name.
pub const SEPARATOR: char = '+';

/// A name that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a context's number.
    #[error("{0:?} is no AppContext: expected a decimal number from 1 to 9223372036854775807")]
    Context(String),
    /// Not a cluster's name.
    #[error("{0:?} names no cluster: expected PROVIDER+CLUSTER")]
    Cluster(String),
    /// A name that cannot be part of a key.
    #[error(
        "{what} {name:?} cannot be kept in an AppContext: names are not empty, not `instruction`, and have no `/`"
    )]
    Key {
        /// Whose name.
        what: &'static str,
        /// The name.
        name: String,
    },
}

/// Number of an AppContext: from 1 to 2^63 - 1, written in decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContextId(u64);

impl ContextId {
    /// A context's number; `None` if it is 0 or does not fit into 63 bits.
    pub fn new(number: u64) -> Option<Self> {
        (number > 0 && number <= i64::MAX.unsigned_abs()).then_some(Self(number))
    }

    /// The number that belongs to a text, such as an operation's uid: always the same one, so that what is done twice for one operation
    /// is done to one context.
    pub fn of(seed: &str) -> Self {
        let digest = Sha256::digest(seed.as_bytes());
        let number = digest.iter().take(8).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
        Self((number & i64::MAX.unsigned_abs()).max(1))
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ContextId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ContextId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let number = text.parse().ok().and_then(Self::new);
        // `+7` and `007` would be other keys.
        number.filter(|id| id.to_string() == text).ok_or_else(|| NameError::Context(text.to_owned()))
    }
}

impl Serialize for ContextId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ContextId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A cluster, by its provider's name and its own: `provider+cluster`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName {
    /// The cluster's provider.
    pub provider: String,
    /// The cluster, among those of its provider.
    pub cluster: String,
}

impl ClusterName {
    /// A cluster of a provider.
    pub fn new(provider: impl Into<String>, cluster: impl Into<String>) -> Self {
        Self { provider: provider.into(), cluster: cluster.into() }
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{SEPARATOR}{}", self.provider, self.cluster)
    }
}

impl FromStr for ClusterName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.split_once(SEPARATOR) {
            Some((provider, cluster)) if !provider.is_empty() && !cluster.is_empty() => {
                Ok(Self::new(provider, cluster))
            }
            _ => Err(NameError::Cluster(text.to_owned())),
        }
    }
}

impl Serialize for ClusterName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ClusterName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A resource among those of an app on a cluster: `name+Kind`, as EMCO calls it. Objects that only differ in namespace or API group have
/// the same such name; of them, all but the first get a third part, `name+Kind+namespace@group`. Whoever takes names apart at `+`
/// and looks at the first two parts, as EMCO's controllers do, is right with both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceName(Arc<str>);

impl ResourceName {
    /// The name of an object.
    pub fn new(name: &str, kind: &str) -> Self {
        Self(format!("{name}{SEPARATOR}{kind}").into())
    }

    /// The name of an object where another one has the plain name.
    pub fn qualified(name: &str, kind: &str, namespace: &str, group: &str) -> Self {
        Self(format!("{name}{SEPARATOR}{kind}{SEPARATOR}{namespace}@{group}").into())
    }

    /// The first of an object's names that is not taken.
    pub fn free(
        name: &str,
        kind: &str,
        namespace: &str,
        group: &str,
        is_taken: impl FnOnce(&Self) -> bool,
    ) -> Self {
        let plain = Self::new(name, kind);
        if is_taken(&plain) { Self::qualified(name, kind, namespace, group) } else { plain }
    }

    /// A name as it was found.
    pub fn found(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The object's name.
    pub fn name(&self) -> &str {
        self.0.split(SEPARATOR).next().unwrap_or_default()
    }

    /// The object's kind; empty if the name has none.
    pub fn kind(&self) -> &str {
        self.0.split(SEPARATOR).nth(1).unwrap_or_default()
    }

    /// The object's namespace and API group, if they are told.
    pub fn qualifier(&self) -> Option<(&str, &str)> {
        self.0.split(SEPARATOR).nth(2)?.split_once('@')
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for ResourceName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ResourceName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::found(String::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_positive_and_fit_into_63_bits() {
        assert_eq!("9223372036854775807".parse::<ContextId>().unwrap().get(), i64::MAX.unsigned_abs());
        for bad in ["", "0", "-1", "+7", "007", "9223372036854775808", "7/", "x"] {
            assert!(bad.parse::<ContextId>().is_err(), "{bad}");
        }
        let id = ContextId::of("0b9f0d1e-5d0c-4c4c-9f43-1f4b8f7b1a11");
        assert_eq!(id, ContextId::of("0b9f0d1e-5d0c-4c4c-9f43-1f4b8f7b1a11"));
        assert_ne!(id, ContextId::of("another"));
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn clusters_have_two_parts() {
        assert_eq!("p+c".parse(), Ok(ClusterName::new("p", "c")));
        assert_eq!(ClusterName::new("p", "c").to_string(), "p+c");
        assert!("pc".parse::<ClusterName>().is_err() && "+c".parse::<ClusterName>().is_err());
    }

    #[test]
    fn objects_that_differ_in_their_namespace_have_different_names() {
        let first = ResourceName::free("web", "Service", "a", "", |_| false);
        let second = ResourceName::free("web", "Service", "b", "", |name| *name == first);
        assert_eq!((first.as_str(), second.as_str()), ("web+Service", "web+Service+b@"));
        assert_eq!((second.name(), second.kind(), second.qualifier()), ("web", "Service", Some(("b", ""))));
        assert_eq!((first.qualifier(), ResourceName::found("web").kind()), (None, ""));
    }
}
