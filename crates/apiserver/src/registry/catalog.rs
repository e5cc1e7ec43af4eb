//! An immutable set of resources, with the documents derived from it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;

use super::discovery::{self, Documents};
use super::resource::{ResourceInfo, split_api_version};

/// The resources of one group and version, by plural name.
pub type Resources = BTreeMap<String, Arc<ResourceInfo>>;

/// An API group: its versions, the preferred one first.
#[derive(Debug, Clone)]
pub struct Group {
    /// Name, empty for core.
    pub name: String,
    /// Versions with their resources.
    pub versions: Vec<(String, Resources)>,
}

/// Everything that is served at one moment.
#[derive(Debug, Default)]
pub struct Catalog {
    groups: Vec<Group>,
    documents: OnceLock<Documents>,
    openapi: Mutex<BTreeMap<String, Bytes>>,
}

impl Catalog {
    /// Groups resources; groups are in order of their first resource, versions by Kubernetes' priority.
    pub fn new(resources: impl IntoIterator<Item = Arc<ResourceInfo>>) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        for resource in resources {
            let position =
                groups.iter().position(|group| group.name == resource.group).unwrap_or_else(|| {
                    groups.push(Group { name: resource.group.clone(), versions: Vec::new() });
                    groups.len() - 1
                });
            let versions = &mut groups[position].versions;
            let position =
                versions.iter().position(|(version, _)| *version == resource.version).unwrap_or_else(|| {
                    versions.push((resource.version.clone(), Resources::new()));
                    versions.len() - 1
                });
            versions[position].1.insert(resource.plural.clone(), resource);
        }
        for group in &mut groups {
            group.versions.sort_by_cached_key(|(version, _)| Reverse(version_priority(version)));
        }
        Self { groups, documents: OnceLock::new(), openapi: Mutex::default() }
    }

    /// The groups, core first if it is served.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The group of a name.
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// The resources of a group and version.
    pub fn version(&self, group: &str, version: &str) -> Option<&Resources> {
        let group = self.group(group)?;
        group.versions.iter().find(|(name, _)| name == version).map(|(_, resources)| resources)
    }

    /// A resource.
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<ResourceInfo>> {
        self.version(group, version)?.get(plural)
    }

    /// The resource that holds a kind in an `apiVersion`.
    pub fn kind(&self, api_version: &str, kind: &str) -> Option<&Arc<ResourceInfo>> {
        let (group, version) = split_api_version(api_version);
        self.version(group, version)?.values().find(|resource| resource.kind == kind)
    }

    /// Every resource once, in its preferred version; those that store nothing are left out.
    pub fn stored(&self) -> impl Iterator<Item = &Arc<ResourceInfo>> {
        self.groups.iter().flat_map(|group| {
            group.versions.iter().enumerate().flat_map(move |(index, (_, resources))| {
                resources.values().filter(move |resource| {
                    let earlier = &group.versions[..index];
                    resource.is_stored()
                        && !earlier.iter().any(|(_, other)| other.contains_key(&resource.plural))
                })
            })
        })
    }

    /// Every resource in every version.
    pub fn all(&self) -> impl Iterator<Item = &Arc<ResourceInfo>> {
        self.groups
            .iter()
            .flat_map(|group| group.versions.iter().flat_map(|(_, resources)| resources.values()))
    }

    /// The resource whose objects have keys that start as this one does.
    pub fn of_key(&self, key: &str) -> Option<&Arc<ResourceInfo>> {
        let rest = key.strip_prefix("/registry/")?;
        let (group, rest) = rest.split_once('/')?;
        let (plural, _) = rest.split_once('/')?;
        let group = self.group(if group == "core" { "" } else { group })?;
        group.versions.iter().find_map(|(_, resources)| resources.get(plural))
    }

    /// The discovery documents.
    pub fn discovery(&self) -> &Documents {
        self.documents.get_or_init(|| discovery::documents(self))
    }

    /// A document of the catalog's OpenAPI, made when it is first asked for: together they are large, and most are never
    /// asked for.
    pub fn openapi(&self, name: &str, make: impl FnOnce() -> Bytes) -> Bytes {
        let mut documents = self.openapi.lock().unwrap_or_else(PoisonError::into_inner);
        documents.entry(name.to_owned()).or_insert_with(make).clone()
    }
}

/// Orders versions as Kubernetes does: stable before beta before alpha, higher numbers first, others last by name.
fn version_priority(version: &str) -> (u8, u64, u64, Reverse<String>) {
    let name = Reverse(version.to_owned());
    let Some(rest) = version.strip_prefix('v') else { return (0, 0, 0, name) };
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let Ok(major) = rest[..digits].parse() else { return (0, 0, 0, name) };
    let suffix = &rest[digits..];
    let staged = |prefix: &str| suffix.strip_prefix(prefix).and_then(|minor| minor.parse().ok());
    match (suffix, staged("beta"), staged("alpha")) {
        ("", _, _) => (3, major, 0, name),
        (_, Some(minor), _) => (2, major, minor, name),
        (_, _, Some(minor)) => (1, major, minor, name),
        _ => (0, 0, 0, name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_kubernetes_orders_them() {
        let mut versions = [
            "v10beta3",
            "v1",
            "foo1",
            "v3beta1",
            "v12alpha1",
            "v11alpha2",
            "v10",
            "v2",
            "v11beta2",
            "v12alpha2",
        ];
        versions.sort_by_key(|version| Reverse(version_priority(version)));
        assert_eq!(
            versions,
            [
                "v10",
                "v2",
                "v1",
                "v11beta2",
                "v10beta3",
                "v3beta1",
                "v12alpha2",
                "v12alpha1",
                "v11alpha2",
                "foo1"
            ]
        );
    }
}
