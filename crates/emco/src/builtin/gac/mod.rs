//! Generic actions: objects that are added to applications or changed, for all clusters or for some.
//!
//! What is different from EMCO's gac: `mode: deny` means all clusters but those that are named (there: none); a new object without
//! customizations is added everywhere (there: never); several customizations for one cluster are applied one after the other (there: of a new
//! object the last one counts); files of a ConfigMap that are no text become `binaryData`; `$(http…)$` is refused unless it is allowed.

mod apply;
mod data;
#[cfg(test)]
mod tests;
mod value;

use std::sync::Arc;

use drystone_api::emco::{
    ClusterInformation, Customization, CustomizationSpec, Document as _, K8sResource, K8sResourceSpec,
};

pub use apply::{Clusters, Marks, apply};
pub use value::{FetchedValues, addresses};

use crate::model::ClusterFacts;

/// A generic intent with all that is below it.
#[derive(Debug, Clone, Default)]
pub struct GenericIntent {
    /// What is added or changed, in the order in which it was declared.
    pub resources: Vec<GenericResource>,
}

/// An object that is added or changed.
#[derive(Debug, Clone)]
pub struct GenericResource {
    /// Name of the document.
    pub name: String,
    /// What it says.
    pub spec: K8sResourceSpec,
    /// Its file, the object itself; unless it has none.
    pub file: Option<Arc<[u8]>>,
    /// How, and where.
    pub customizations: Vec<GenericCustomization>,
}

/// How an object is added or changed, and where.
#[derive(Debug, Clone)]
pub struct GenericCustomization {
    /// Name of the document.
    pub name: String,
    /// What it says.
    pub spec: CustomizationSpec,
    /// Its files by the names that they were sent under.
    pub files: Vec<(String, Arc<[u8]>)>,
}

/// Documents below a generic intent, sorted by when they were declared; of those of one moment by path.
pub fn declared(
    intent: &str,
    resources: &[K8sResource],
    customizations: &[Customization],
) -> Vec<(K8sResource, Vec<Customization>)> {
    let below = format!("{intent}/resources/");
    let mut resources: Vec<&K8sResource> =
        resources.iter().filter(|resource| is_child(&below, resource.path())).collect();
    resources
        .sort_by_key(|resource| (resource.metadata.creation_timestamp.clone(), resource.path().to_owned()));
    let with_own = |resource: &K8sResource| {
        let below = format!("{}/customizations/", resource.path());
        let mut own: Vec<Customization> =
            customizations.iter().filter(|own| is_child(&below, own.path())).cloned().collect();
        own.sort_by_key(|own| (own.metadata.creation_timestamp.clone(), own.path().to_owned()));
        (resource.clone(), own)
    };
    resources.into_iter().map(with_own).collect()
}

fn is_child(below: &str, path: &str) -> bool {
    path.strip_prefix(below).is_some_and(|name| !name.contains('/'))
}

impl GenericCustomization {
    /// Whether it is for a cluster.
    pub fn is_for(&self, cluster: &ClusterFacts) -> bool {
        if !is_true(&self.spec.cluster_specific) {
            return true;
        }
        let ClusterInformation { scope, cluster_provider, cluster: name, cluster_label, mode } =
            &self.spec.cluster_info;
        let of_provider = cluster.name.provider == *cluster_provider;
        let named = match scope.to_ascii_lowercase().as_str() {
            "label" => of_provider && cluster.labels.contains(cluster_label),
            "name" => of_provider && cluster.name.cluster == *name,
            // Without a scope there is nothing that it could be specific by.
            _ => return true,
        };
        named != mode.eq_ignore_ascii_case("deny")
    }
}

/// EMCO's truth values are texts.
fn is_true(text: &str) -> bool {
    text.eq_ignore_ascii_case("true")
}
