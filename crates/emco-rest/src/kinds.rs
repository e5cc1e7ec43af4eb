//! The kinds of documents: what is common to all, and, in the modules below, what is special with some.

mod applications;
mod clusters;
mod deployments;
mod kind;
mod networks;

use drystone_api::emco::Document;
use http::StatusCode;
use kube::core::NamespaceResourceScope;
use serde_json::{Map, Value};

pub(crate) use kind::{Kind, Shown, all};

use crate::refusal::Refusal;

/// Files of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileRule {
    /// It has none; its body is JSON.
    None,
    /// One, a gzip-compressed tar archive of directories and regular files; at `file`.
    Archive,
    /// A kubeconfig, which is kept in a Secret.
    Kubeconfig,
    /// One, or none; at `file`.
    Optional,
    /// Any number; at `files`.
    Many,
}

impl FileRule {
    /// Members of the specification that clients neither give nor are told.
    pub(crate) fn members(self) -> &'static [&'static str] {
        match self {
            Self::Archive | Self::Optional => &["file"],
            Self::Many => &["files"],
            Self::None | Self::Kubeconfig => &[],
        }
    }

    /// Whether a body comes in several parts.
    pub(crate) fn is_multipart(self) -> bool {
        self != Self::None
    }
}

/// The body of a document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Form {
    /// Metadata, and this as `spec` if there is anything in it.
    Spec(Map<String, Value>),
    /// Just this.
    Whole(Value),
}

/// Another document that one needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Reference {
    /// Its path.
    pub(crate) path: String,
    /// Where it is named: `spec.app`.
    pub(crate) member: String,
}

impl Reference {
    fn new(member: impl Into<String>, path: String) -> Self {
        Self { path, member: member.into() }
    }
}

/// What is special with a kind of documents.
pub(crate) trait Behaviour: Document<Scope = NamespaceResourceScope> {
    /// Its files.
    const FILES: FileRule = FileRule::None;
    /// Status of the reply to a PUT of something that was there.
    const REPLACED: StatusCode = StatusCode::CREATED;
    /// Members of the specification that clients do not give, besides files.
    const HIDDEN: &'static [&'static str] = &[];

    /// Makes the body of the specification, without what all documents have in it.
    fn to_body(spec: Map<String, Value>, _path: &str) -> Form {
        Form::Spec(spec)
    }

    /// Changes what a client sent into what the schema of the specification describes.
    fn from_body(_spec: &mut Value) {}

    /// What it needs besides what it is below.
    fn references(&self) -> Vec<Reference> {
        Vec::new()
    }

    /// What no other document may have, too.
    fn claims(&self) -> Option<String> {
        None
    }

    /// What is wrong with it beyond what its schema says.
    fn faults(&self, _has_file: bool) -> Vec<String> {
        Vec::new()
    }

    /// Whether it may be replaced by another one now.
    fn may_become(&self, _other: &Self) -> Result<(), Refusal> {
        Ok(())
    }

    /// Whether it may be deleted now.
    fn may_go(&self) -> Result<(), Refusal> {
        Ok(())
    }

    /// Whether something below it may be made, changed or deleted now.
    fn may_have_children(&self, _child: &'static str, _is_deletion: bool) -> Result<(), Refusal> {
        Ok(())
    }
}

/// The path that a document is below; empty at the top.
pub(crate) fn parent_of(path: &str) -> &str {
    let mut ends: Vec<usize> = path.match_indices('/').map(|(at, _)| at).collect();
    let own = if is_composite_app(path) { 3 } else { 2 };
    ends.reverse();
    ends.get(own - 1).and_then(|end| path.get(..*end)).unwrap_or_default()
}

fn is_composite_app(path: &str) -> bool {
    let mut parts = path.split('/');
    let is_one = parts.next() == Some("projects")
        && parts.next().is_some()
        && parts.next() == Some("composite-apps")
        && parts.next().is_some()
        && parts.next().is_some();
    is_one && parts.next().is_none()
}

/// The first `count` parts of a path.
fn ancestor(path: &str, count: usize) -> &str {
    path.match_indices('/').nth(count - 1).map_or(path, |(at, _)| path.get(..at).unwrap_or_default())
}

/// Path of the composite application that a document is below.
fn composite_app_of(path: &str) -> &str {
    ancestor(path, 5)
}

/// Path of an application of the composite application that a document is below.
fn app_beside(path: &str, app: &str) -> String {
    format!("{}/apps/{app}", composite_app_of(path))
}

/// Path of a cluster.
fn cluster_path(provider: &str, cluster: &str) -> String {
    format!("cluster-providers/{provider}/clusters/{cluster}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_found() {
        for (path, parent) in [
            ("projects/p", ""),
            ("projects/p/composite-apps/c/v", "projects/p"),
            ("projects/p/composite-apps/c/v/apps/a", "projects/p/composite-apps/c/v"),
            ("projects/p/logical-clouds/l", "projects/p"),
            ("cluster-providers/p/clusters/c/labels/l", "cluster-providers/p/clusters/c"),
        ] {
            assert_eq!(parent_of(path), parent);
        }
        assert_eq!(composite_app_of("projects/p/composite-apps/c/v/apps/a"), "projects/p/composite-apps/c/v");
    }
}
