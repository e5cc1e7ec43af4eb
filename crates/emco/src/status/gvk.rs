//! Group, version and kind of a manifest, without reading all of it where that can be avoided: a status may be about a hundred
//! thousand of them.

use std::{collections::HashMap, sync::Arc};

use drystone_appcontext::{Resource, ResourceName};
use serde::{Deserialize, Serialize};

/// Group, version and kind of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Gvk {
    /// API group; empty for the core group.
    pub group: String,
    /// Version.
    pub version: String,
    /// Kind.
    pub kind: String,
}

#[derive(Deserialize)]
struct Head {
    #[serde(default, rename = "apiVersion")]
    api_version: String,
}

/// Remembers what manifests said: parts of one application share theirs.
#[derive(Default)]
pub(super) struct Known(HashMap<*const u8, Gvk>);

impl Known {
    /// Of a resource by its manifest; by its name where the manifest is elsewhere.
    pub(super) fn of(&mut self, name: &ResourceName, resource: &Resource) -> Gvk {
        let manifest: &Arc<str> = &resource.manifest;
        let known = self.0.entry(manifest.as_ptr()).or_insert_with(|| {
            let api_version = api_version(manifest);
            let (group, version) = api_version.rsplit_once('/').unwrap_or(("", &api_version));
            Gvk { group: group.to_owned(), version: version.to_owned(), kind: name.kind().to_owned() }
        });
        known.clone()
    }

    /// Whether its kind says more than that it is there, so that the synchroniser tells of its readiness.
    pub(super) fn tells(&mut self, name: &ResourceName, resource: &Resource) -> bool {
        let Gvk { group, version, kind } = self.of(name, resource);
        let api_version = if group.is_empty() { version } else { format!("{group}/{version}") };
        drystone_synchroniser::readiness::tells(&api_version, &kind)
    }
}

fn api_version(manifest: &str) -> String {
    if manifest.trim_start().starts_with('{') {
        // JSON mostly, which is read faster than YAML; both may begin so.
        let head = serde_json::from_str::<Head>(manifest).ok();
        return head
            .or_else(|| serde_saphyr::from_str(manifest).ok())
            .map_or_else(String::new, |head| head.api_version);
    }
    let line = manifest.lines().find_map(|line| line.strip_prefix("apiVersion:"));
    let value = line.unwrap_or_default().split(" #").next().unwrap_or_default();
    value.trim().trim_matches(['"', '\'']).to_owned()
}
