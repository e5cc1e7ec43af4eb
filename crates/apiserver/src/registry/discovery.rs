//! Discovery: how clients learn what is served, in the per-group form and in the aggregated one
//! (`apidiscovery.k8s.io/v2` and `v2beta1`).

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::catalog::{Catalog, Group, Resources};
use super::resource::{ResourceInfo, Scope, SubresourceKind, Verb, api_version};

/// A document with its entity tag.
#[derive(Debug, Clone)]
pub struct Document {
    /// JSON.
    pub body: Bytes,
    /// Changes when the document does; with quotes, as the header has it.
    pub etag: String,
}

impl Document {
    fn new(value: &Value) -> Self {
        let body = value.to_string();
        let digest = Sha256::digest(body.as_bytes());
        let hash: String = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        Self { body: body.into(), etag: format!("\"{hash}\"") }
    }
}

/// The version of the aggregated form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AggregatedVersion {
    /// `v2`.
    V2,
    /// `v2beta1`, the same but for its name.
    V2Beta1,
}

impl AggregatedVersion {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::V2Beta1 => "v2beta1",
        }
    }
}

/// All discovery documents of a catalog.
#[derive(Debug, Default)]
pub struct Documents {
    /// `/api` and `/apis`, `/apis/GROUP`, `/api/v1` and `/apis/GROUP/VERSION`, by path.
    plain: BTreeMap<String, Document>,
    /// `/api` and `/apis` in aggregated form.
    aggregated: BTreeMap<(String, &'static str), Document>,
}

impl Documents {
    /// The per-group document at a path.
    pub fn plain(&self, path: &str) -> Option<&Document> {
        self.plain.get(path)
    }

    /// The aggregated document of `/api` or `/apis`.
    pub fn aggregated(&self, path: &str, version: AggregatedVersion) -> Option<&Document> {
        self.aggregated.get(&(path.to_owned(), version.as_str()))
    }
}

/// Writes the documents of a catalog.
pub(super) fn documents(catalog: &Catalog) -> Documents {
    let mut documents = Documents::default();
    let (core, named): (Vec<_>, Vec<_>) = catalog.groups().iter().partition(|group| group.name.is_empty());
    let mut plain = |path: String, value: &Value| documents.plain.insert(path, Document::new(value));

    let versions: Vec<_> =
        core.iter().flat_map(|group| group.versions.iter().map(|(version, _)| version)).collect();
    plain(
        "/api".into(),
        &json!({"kind": "APIVersions", "versions": versions, "serverAddressByClientCIDRs": []}),
    );
    let groups: Vec<_> = named.iter().map(|group| api_group(group)).collect();
    plain("/apis".into(), &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}));
    for group in &named {
        let mut value = api_group(group);
        value["kind"] = "APIGroup".into();
        value["apiVersion"] = "v1".into();
        plain(format!("/apis/{}", group.name), &value);
    }
    for group in catalog.groups() {
        for (version, resources) in &group.versions {
            let root = if group.name.is_empty() { "/api" } else { "/apis" };
            let api_version = api_version(&group.name, version);
            plain(format!("{root}/{api_version}"), &resource_list(&api_version, resources));
        }
    }
    for (path, groups) in [("/api", &core), ("/apis", &named)] {
        for version in [AggregatedVersion::V2, AggregatedVersion::V2Beta1] {
            let items: Vec<_> = groups.iter().map(|group| aggregated_group(group)).collect();
            let value = json!({
                "kind": "APIGroupDiscoveryList",
                "apiVersion": format!("apidiscovery.k8s.io/{}", version.as_str()),
                "metadata": {},
                "items": items,
            });
            documents.aggregated.insert((path.to_owned(), version.as_str()), Document::new(&value));
        }
    }
    documents
}

fn api_group(group: &Group) -> Value {
    let versions: Vec<_> = group
        .versions
        .iter()
        .map(|(version, _)| json!({"groupVersion": api_version(&group.name, version), "version": version}))
        .collect();
    json!({"name": group.name, "versions": versions, "preferredVersion": versions.first()})
}

fn resource_list(api_version: &str, resources: &Resources) -> Value {
    let mut list = Vec::new();
    for resource in resources.values() {
        let mut entry = json!({
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced(),
            "kind": resource.kind,
            "verbs": verbs(resource.verbs),
        });
        names(&mut entry, resource);
        list.push(entry);
        for subresource in &resource.subresources {
            let mut entry = json!({
                "name": format!("{}/{}", resource.plural, subresource.name()),
                "singularName": "",
                "namespaced": resource.namespaced(),
                "kind": resource.kind,
                "verbs": verbs(subresource.verbs()),
            });
            if let Some((group, version, kind)) = subresource.own_kind() {
                entry["kind"] = kind.into();
                // Only said where it differs from the list's own group and version.
                if self::api_version(group, version) != api_version {
                    entry["group"] = group.into();
                    entry["version"] = version.into();
                }
            }
            list.push(entry);
        }
    }
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": list})
}

fn aggregated_group(group: &Group) -> Value {
    let versions: Vec<_> = group
        .versions
        .iter()
        .map(|(version, resources)| {
            let resources: Vec<_> =
                resources.values().map(|resource| aggregated_resource(resource)).collect();
            json!({"version": version, "freshness": "Current", "resources": resources})
        })
        .collect();
    let metadata =
        if group.name.is_empty() { json!({"creationTimestamp": null}) } else { json!({"name": group.name}) };
    json!({"metadata": metadata, "versions": versions})
}

fn aggregated_resource(resource: &ResourceInfo) -> Value {
    let scope = if resource.scope == Scope::Namespaced { "Namespaced" } else { "Cluster" };
    let mut entry = json!({
        "resource": resource.plural,
        "responseKind": response_kind(resource, None),
        "scope": scope,
        "singularResource": resource.singular,
        "verbs": verbs(resource.verbs),
    });
    names(&mut entry, resource);
    let subresources: Vec<_> = resource
        .subresources
        .iter()
        .map(|subresource| {
            json!({
                "subresource": subresource.name(),
                "responseKind": response_kind(resource, Some(*subresource)),
                "verbs": verbs(subresource.verbs()),
            })
        })
        .collect();
    if !subresources.is_empty() {
        entry["subresources"] = subresources.into();
    }
    entry
}

fn response_kind(resource: &ResourceInfo, subresource: Option<SubresourceKind>) -> Value {
    let (group, version, kind) = subresource.and_then(SubresourceKind::own_kind).unwrap_or((
        &resource.group,
        &resource.version,
        &resource.kind,
    ));
    json!({"group": group, "version": version, "kind": kind})
}

fn names(entry: &mut Value, resource: &ResourceInfo) {
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
}

fn verbs(verbs: &[Verb]) -> Vec<&'static str> {
    verbs.iter().map(|verb| verb.as_str()).collect()
}
