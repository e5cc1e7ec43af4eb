//! What a chart became: the objects that go to clusters.

use std::{collections::BTreeMap, sync::Arc};

/// An object as it is to be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// `apiVersion`.
    pub api_version: String,
    /// `kind`.
    pub kind: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`, where the manifest has one.
    pub namespace: Option<String>,
    /// The object, YAML or JSON.
    pub text: Arc<str>,
}

impl Manifest {
    /// API group; empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version.rsplit_once('/').map_or("", |(group, _)| group)
    }
}

/// When an object is applied that is not applied with the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HookTime {
    /// Before anything else is installed.
    PreInstall,
    /// After all else was installed.
    PostInstall,
    /// Before anything is deleted.
    PreDelete,
    /// After all else was deleted.
    PostDelete,
}

/// What a chart became.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifests {
    /// CustomResourceDefinitions: they come first.
    pub definitions: Vec<Manifest>,
    /// All other objects, in the order in which they are installed.
    pub objects: Vec<Manifest>,
    /// Hooks, in their order; one that has several times is in each.
    pub hooks: BTreeMap<HookTime, Vec<Manifest>>,
}
