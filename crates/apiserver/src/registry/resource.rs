//! The description of one resource in one version.

use std::sync::Arc;

use super::custom::CustomKind;
use crate::machinery::group::{GroupKind, GroupResource};

/// What can be done with a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// Make one.
    Create,
    /// Remove one.
    Delete,
    /// Remove all that match.
    DeleteCollection,
    /// Read one.
    Get,
    /// Read all that match.
    List,
    /// Change parts of one.
    Patch,
    /// Replace one.
    Update,
    /// Follow changes.
    Watch,
}

impl Verb {
    /// Everything that a stored resource offers, in the order in which discovery lists it.
    pub const ALL: &[Self] = &[
        Self::Create,
        Self::Delete,
        Self::DeleteCollection,
        Self::Get,
        Self::List,
        Self::Patch,
        Self::Update,
        Self::Watch,
    ];

    /// The verb as RBAC and discovery write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Get => "get",
            Self::List => "list",
            Self::Patch => "patch",
            Self::Update => "update",
            Self::Watch => "watch",
        }
    }

    /// Whether the verb changes something.
    pub fn mutates(self) -> bool {
        !matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

/// Whether objects live in namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In a namespace each.
    Namespaced,
    /// In none.
    Cluster,
}

/// The subresources that the server knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SubresourceKind {
    /// What controllers report.
    Status,
    /// The number of replicas, in the same shape for all kinds.
    Scale,
    /// Output of a container.
    Log,
    /// Run a command in a container.
    Exec,
    /// Join a running container's streams.
    Attach,
    /// Tunnels to a pod's ports.
    PortForward,
    /// Assign a pod to a node.
    Binding,
    /// Delete a pod if its disruption budget allows.
    Eviction,
    /// A token of a service account.
    Token,
    /// Approve or deny a certificate signing request.
    Approval,
    /// Finish the deletion of a namespace.
    Finalize,
}

impl SubresourceKind {
    /// The last segment of the subresource's path.
    pub fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Log => "log",
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portforward",
            Self::Binding => "binding",
            Self::Eviction => "eviction",
            Self::Token => "token",
            Self::Approval => "approval",
            Self::Finalize => "finalize",
        }
    }

    /// The HTTP methods that it answers, as verbs.
    pub fn verbs(self) -> &'static [Verb] {
        match self {
            Self::Status | Self::Scale | Self::Approval => &[Verb::Get, Verb::Patch, Verb::Update],
            Self::Log => &[Verb::Get],
            Self::Exec | Self::Attach | Self::PortForward => &[Verb::Create, Verb::Get],
            Self::Binding | Self::Eviction | Self::Token => &[Verb::Create],
            Self::Finalize => &[Verb::Update],
        }
    }

    /// Group, version and kind of what it reads or writes, where that is not the resource's own.
    pub fn own_kind(self) -> Option<(&'static str, &'static str, &'static str)> {
        match self {
            Self::Scale => Some(("autoscaling", "v1", "Scale")),
            Self::Exec => Some(("", "v1", "PodExecOptions")),
            Self::Attach => Some(("", "v1", "PodAttachOptions")),
            Self::PortForward => Some(("", "v1", "PodPortForwardOptions")),
            Self::Binding => Some(("", "v1", "Binding")),
            Self::Eviction => Some(("policy", "v1", "Eviction")),
            Self::Token => Some(("authentication.k8s.io", "v1", "TokenRequest")),
            Self::Status | Self::Log | Self::Approval | Self::Finalize => None,
        }
    }
}

/// Where a kind's rules come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// They are built in.
    BuiltIn,
    /// A CustomResourceDefinition says them.
    Custom(Arc<CustomKind>),
    /// Nothing is stored: the answer is computed.
    Virtual,
    /// Another form of what the core group stores as events.
    EventView,
}

/// How the server treats objects of a kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// `metadata.generation` counts the changes of everything but metadata and status.
    pub generation: bool,
    /// `status` is written by its own subresource only.
    pub status: bool,
    /// An update may leave out `metadata.resourceVersion` and then overwrites whatever is there.
    pub unconditional_update: bool,
    /// `PUT` of what does not exist creates it.
    pub create_on_update: bool,
}

/// A resource in one version.
#[derive(Debug, Clone)]
pub struct ResourceInfo {
    /// API group, empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// `group/version`, or the version alone in the core group.
    pub api_version: String,
    /// The kind.
    pub kind: String,
    /// The kind of lists.
    pub list_kind: String,
    /// Plural name: the path segment.
    pub plural: String,
    /// Singular name.
    pub singular: String,
    /// Short names that kubectl accepts.
    pub short_names: Vec<String>,
    /// Groups of resources, such as `all`, that kubectl accepts.
    pub categories: Vec<String>,
    /// Whether it lives in namespaces.
    pub scope: Scope,
    /// What can be done.
    pub verbs: &'static [Verb],
    /// Subresources.
    pub subresources: Vec<SubresourceKind>,
    /// How objects are treated.
    pub behaviour: Behaviour,
    /// Where the rules come from.
    pub source: Source,
    /// What all keys of the resource start with, ending in `/`; the same for all versions.
    pub key_prefix: String,
    /// `apiVersion` of stored objects.
    pub storage_api_version: String,
}

impl ResourceInfo {
    /// `plural.group`, as error messages name a resource.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// Group and plural, as error messages have them.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(self.group.clone(), self.plural.clone())
    }

    /// Group and kind, as error messages have them.
    pub fn group_kind(&self) -> GroupKind {
        GroupKind::new(self.group.clone(), self.kind.clone())
    }

    /// Whether objects live in namespaces.
    pub fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// Whether objects are of a custom kind.
    pub fn custom(&self) -> Option<&Arc<CustomKind>> {
        match &self.source {
            Source::Custom(custom) => Some(custom),
            _ => None,
        }
    }

    /// The subresource of a name.
    pub fn subresource(&self, name: &str) -> Option<SubresourceKind> {
        self.subresources.iter().copied().find(|subresource| subresource.name() == name)
    }

    /// Whether objects are stored, in the form in which this resource serves them.
    pub fn is_stored(&self) -> bool {
        matches!(self.source, Source::BuiltIn | Source::Custom(_))
    }

    /// The key of an object; `namespace` is ignored for cluster-scoped resources.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        let mut key = self.namespace_prefix(namespace);
        key.push_str(name);
        key
    }

    /// What the keys of all objects in a namespace start with; of all namespaces if it is empty.
    pub fn namespace_prefix(&self, namespace: &str) -> String {
        let mut prefix = String::with_capacity(self.key_prefix.len() + namespace.len() + 64);
        prefix.push_str(&self.key_prefix);
        if self.namespaced() && !namespace.is_empty() {
            prefix.push_str(namespace);
            prefix.push('/');
        }
        prefix
    }
}

/// The prefix of a resource's keys, see the seam "Store keys" in ARCHITECTURE.
pub fn key_prefix(group: &str, plural: &str) -> String {
    let group = if group.is_empty() { "core" } else { group };
    format!("/registry/{group}/{plural}/")
}

/// `group/version`, or the version alone in the core group.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// The group and the version of an `apiVersion`.
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}
