//! What a generic intent makes of an AppContext.

use std::collections::{BTreeMap, BTreeSet};

use drystone_appcontext::{AppContext, ClusterName, Part, ResourceName};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{FetchedValues, GenericCustomization, GenericIntent, GenericResource, data, is_true, value};
use crate::{
    builtin::manifest,
    model::{ClusterFacts, Refusal},
};

/// Clusters that customizations are matched with. One that is not among them has no labels.
pub type Clusters = BTreeMap<ClusterName, ClusterFacts>;

/// What objects were changed into: a mark of each with its place. A JSON patch that is applied to what it made already may do another
/// thing, or fail; by its mark an object is known that was changed before somebody was killed.
pub type Marks = BTreeSet<String>;

/// Carries out an intent: adds and changes objects of the context. `fetched` has what [`super::addresses`] told to fetch. Objects that have
/// a mark of `done` are left as they are. Gives the marks of those that were changed.
///
/// # Errors
/// [`Refusal`] that names the resource, the customization and what is wrong; also where an object that is to be changed is nowhere.
pub fn apply(
    context: &mut AppContext,
    intent: &GenericIntent,
    clusters: &Clusters,
    fetched: &FetchedValues,
    done: &Marks,
) -> Result<Marks, Refusal> {
    let mut marks = Marks::new();
    for resource in &intent.resources {
        let app_name = &resource.spec.app;
        let Some(app) = context.apps.get_mut(app_name) else {
            let message = format!("resource {}: app {app_name} is not part of the deployment", resource.name);
            return Err(Refusal::unfit(message));
        };
        let (mut found, mut is_meant) = (false, false);
        for (name, part) in &mut app.clusters {
            let unknown = || ClusterFacts::named(name.clone());
            let cluster = clusters.get(name).cloned().unwrap_or_else(unknown);
            let work = Work { resource, cluster: &cluster, fetched, done };
            is_meant |= work.customizations().next().is_some();
            let is_new = is_true(&resource.spec.new_object);
            found |= if is_new { work.add(part)? } else { work.change(part, &mut marks)? };
        }
        // Where the application is on none of the clusters that it is for, there is nothing to do.
        if is_meant && !found {
            let gvk = &resource.spec.resource_gvk;
            return Err(Refusal::unfit(format!(
                "resource {}: app {app_name} has no {} {} on any cluster that it is for; correct spec.resourceGVK, or set newObject",
                resource.name, gvk.kind, gvk.name
            )));
        }
    }
    Ok(marks)
}

/// The mark of an object at its place.
fn mark(resource: &GenericResource, cluster: &ClusterName, known: &ResourceName, manifest: &str) -> String {
    let place = format!("{}/{cluster}/{known}/", resource.spec.app);
    let digest = Sha256::new().chain_update(place).chain_update(manifest).finalize();
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// One resource on one cluster.
struct Work<'a> {
    resource: &'a GenericResource,
    cluster: &'a ClusterFacts,
    fetched: &'a FetchedValues,
    done: &'a Marks,
}

impl Work<'_> {
    fn customizations(&self) -> impl Iterator<Item = &GenericCustomization> {
        self.resource.customizations.iter().filter(|customization| customization.is_for(self.cluster))
    }

    /// Adds the object; gives whether that was done.
    fn add(&self, part: &mut Part) -> Result<bool, Refusal> {
        let all = &self.resource.customizations;
        if !all.is_empty() && self.customizations().next().is_none() {
            return Ok(false);
        }
        let mut object = self.template()?;
        for customization in self.customizations() {
            object = self.customized(object, customization, true)?;
        }
        let text = |pointer| manifest::text(&object, pointer).to_owned();
        let (api_version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
        if api_version.is_empty() || kind.is_empty() || name.is_empty() {
            return Err(self.refusal(None, "the object needs apiVersion, kind and metadata.name"));
        }
        let (namespace, group) =
            (text("/metadata/namespace"), manifest::group_version(&api_version).0.to_owned());
        let another = |known: &ResourceName| {
            let other = part.resources.get(known).and_then(|other| manifest::read(&other.manifest).ok());
            other.is_some_and(|other| {
                manifest::text(&other, "/metadata/namespace") != namespace
                    || manifest::group_version(manifest::text(&other, "/apiVersion")).0 != group
            })
        };
        let known = ResourceName::free(&name, &kind, &namespace, &group, another);
        part.put(known, manifest::write(&object));
        Ok(true)
    }

    /// Changes what is there; gives whether it is.
    fn change(&self, part: &mut Part, marks: &mut Marks) -> Result<bool, Refusal> {
        if self.customizations().next().is_none() {
            return Ok(false);
        }
        let gvk = &self.resource.spec.resource_gvk;
        let found = manifest::find(part, &gvk.api_version, &gvk.kind, &gvk.name);
        for known in &found {
            let Some(there) = part.resources.get_mut(known) else { continue };
            let marked = |manifest: &str| mark(self.resource, &self.cluster.name, known, manifest);
            if !self.done.is_empty() && self.done.contains(&marked(&there.manifest)) {
                continue;
            }
            let before = manifest::read(&there.manifest)
                .map_err(|why| self.refusal(None, &format!("{known} cannot be read: {why}")))?;
            let mut object = before.clone();
            for customization in self.customizations() {
                object = self.customized(object, customization, false)?;
            }
            if object != before {
                let changed = manifest::write(&object);
                marks.insert(marked(&changed));
                there.manifest = changed.into();
            }
        }
        Ok(!found.is_empty())
    }

    /// The object before it is customized.
    fn template(&self) -> Result<Value, Refusal> {
        let gvk = &self.resource.spec.resource_gvk;
        let file = self.resource.file.as_deref().filter(|file| !file.is_empty());
        match (file, data::Kind::of(&gvk.kind)) {
            (Some(file), _) => {
                let text =
                    std::str::from_utf8(file).map_err(|_| self.refusal(None, "its file is not UTF-8"))?;
                manifest::read(text).map_err(|why| self.refusal(None, &format!("its file: {why}")))
            }
            (None, Some(kind)) => Ok(kind.empty(&gvk.name)),
            (None, None) => {
                let why = format!("a new {} needs a file with the object", gvk.kind);
                Err(self.refusal(None, &why))
            }
        }
    }

    fn customized(
        &self,
        object: Value,
        customization: &GenericCustomization,
        new: bool,
    ) -> Result<Value, Refusal> {
        let refuse = |why: String| self.refusal(Some(customization), &why);
        let mut object = object;
        let kind = data::Kind::of(manifest::text(&object, "/kind"));
        let patch_type = customization.spec.patch_type.to_ascii_lowercase();
        let mut merged = 0;
        for (name, content) in &customization.files {
            let is_patch = patch_type == "merge"
                && kind.is_none_or(|kind| data::is_merged(&customization.spec, kind, name));
            if is_patch {
                let text =
                    std::str::from_utf8(content).map_err(|_| refuse(format!("file {name} is not UTF-8")))?;
                let change = manifest::read(text).map_err(|why| refuse(format!("file {name}: {why}")))?;
                object =
                    manifest::merge(&object, &change).map_err(|why| refuse(format!("file {name}: {why}")))?;
                merged += 1;
            } else if let Some(kind) = kind {
                let key = data::key_of(&customization.spec, kind, name);
                kind.put(&mut object, &key, content, new)
                    .map_err(|why| refuse(format!("file {name}: {why}")))?;
            } else if patch_type.is_empty() {
                return Err(refuse(format!(
                    "file {name} is for nothing: set patchType to merge, or take it away"
                )));
            }
        }
        let added = customization.files.len() - merged;
        match patch_type.as_str() {
            "json" if customization.spec.patch_json.is_empty() && !new && added == 0 => {
                Err(refuse("patchJson is empty; write the operations of a JSON patch".to_owned()))
            }
            "merge" if merged == 0 && !new && added == 0 => {
                Err(refuse("no file has a merge patch; send one".to_owned()))
            }
            "merge" => Ok(object),
            "json" | "" => {
                let operations = value::operations(&customization.spec, &self.cluster.name, self.fetched)
                    .map_err(&refuse)?;
                manifest::json_patch(&object, &operations).map_err(refuse)
            }
            other => Err(refuse(format!("patchType {other} is unknown; use json or merge"))),
        }
    }

    fn refusal(&self, customization: Option<&GenericCustomization>, why: &str) -> Refusal {
        let of = customization.map(|of| format!(", customization {}", of.name)).unwrap_or_default();
        Refusal::unfit(format!("resource {}{of}, cluster {}: {why}", self.resource.name, self.cluster.name))
    }
}

/// So that the bare objects read alike.
pub(super) fn bare(kind: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}})
}
