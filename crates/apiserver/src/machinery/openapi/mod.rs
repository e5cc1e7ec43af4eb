//! OpenAPI v3: the documents from which `kubectl explain`, client-side validation and client-side apply learn the
//! served types. One document per group and version, and a root that lists them.
//!
//! | module | what it does |
//! |---|---|
//! | [`names`] | names of documents and of the schemas in them |
//! | `paths` | the paths of a resource with their operations |
//! | `operation` | one operation: parameters, bodies, answers, extensions |
//! | `components` | the schemas that a document refers to, in the form that OpenAPI v3.0 wants |
//! | `shared` | definitions that belong to no resource: `Status`, `DeleteOptions`, `Scale` … |
//! | [`v2`] | the schemas in the older form that some clients still read |
//!
//! The functions are pure and not cheap (a document of the core group is a megabyte): keep what they return.
//!
//! Source: Kubernetes "The Kubernetes API", section "OpenAPI V3"; OpenAPI specification 3.0.

mod components;
pub mod names;
mod operation;
mod paths;
mod shared;
#[cfg(test)]
mod tests;
pub mod v2;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use components::Components;

/// A kind in a version of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gvk<'a> {
    /// Group, empty for core.
    pub group: &'a str,
    /// Version.
    pub version: &'a str,
    /// Kind.
    pub kind: &'a str,
}

impl Gvk<'_> {
    /// The kind as the extension `x-kubernetes-group-version-kind` has it.
    fn extension(self) -> Value {
        json!({"group": self.group, "version": self.version, "kind": self.kind})
    }
}

/// Where the schema of a kind comes from.
#[derive(Clone, Copy, Debug)]
pub enum Schema<'a> {
    /// A built-in kind: the definition of [`names::definition`]. It takes strategic merge patches.
    BuiltIn,
    /// A custom kind: `openAPIV3Schema` of its CustomResourceDefinition.
    Custom(&'a Value),
}

/// A resource that is served in the version of the document.
#[derive(Clone, Debug)]
pub struct Resource<'a> {
    /// Plural name: the path segment.
    pub plural: &'a str,
    /// The kind.
    pub kind: &'a str,
    /// The kind of lists.
    pub list_kind: &'a str,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// What can be done, as discovery writes it: `create`, `list`, `patch` …
    pub verbs: Vec<&'a str>,
    /// Subresources.
    pub subresources: Vec<Subresource<'a>>,
    /// The schema of objects.
    pub schema: Schema<'a>,
}

/// A subresource.
#[derive(Clone, Debug)]
pub struct Subresource<'a> {
    /// The last segment of the path.
    pub name: &'a str,
    /// What can be done.
    pub verbs: Vec<&'a str>,
    /// What is read and written, where that is not the resource's own kind. It is a built-in kind.
    pub kind: Option<Gvk<'a>>,
}

/// The document of a group and version.
///
/// `definitions` holds the schemas of the built-in kinds and of everything they refer to, by their names
/// (`io.k8s.api.core.v1.Pod`); the last segment of a `$ref` is such a name. What every kind has (`ObjectMeta`, `Status` …) and
/// what subresources take need not be there. Anything else that is not defined is published as an object of any content, so
/// that one missing schema does not hide the others.
pub fn document(
    group: &str,
    version: &str,
    resources: &[Resource<'_>],
    definitions: &Map<String, Value>,
) -> Value {
    let mut components = Components::new(group, version, definitions);
    let mut all = Map::new();
    for resource in resources {
        paths::add(&mut all, &mut components, group, version, resource);
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": all,
        "components": {"schemas": components.finish()},
    })
}

/// The root, `/openapi/v3`: where each document is. `documents` are paths ([`names::document_path`]) with hashes
/// ([`hash`]), which make the address change whenever the document does.
pub fn root<'a>(documents: impl IntoIterator<Item = (&'a str, &'a str)>) -> Value {
    let paths: Map<String, Value> = documents
        .into_iter()
        .map(|(path, hash)| {
            let address = format!("/openapi/v3/{path}?hash={hash}");
            (path.to_owned(), json!({"serverRelativeURL": address}))
        })
        .collect();
    json!({"paths": paths})
}

/// The hash of an encoded document: SHA-256 in upper-case hexadecimal digits.
pub fn hash(document: &[u8]) -> String {
    Sha256::digest(document).iter().fold(String::with_capacity(64), |mut text, byte| {
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(u32::from(digit), 16).map(|digit| digit.to_ascii_uppercase()));
        }
        text
    })
}
