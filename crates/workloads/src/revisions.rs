//! The history of a StatefulSet's or DaemonSet's template, kept as ControllerRevisions.
//!
//! The data has the form of a strategic merge patch that restores the template, which is what `kubectl rollout undo` applies.

use std::{collections::HashSet, sync::Arc};

use k8s_openapi::{
    api::{apps::v1::ControllerRevision, core::v1::PodTemplateSpec},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, runtime::RawExtension},
};
use kube::api::ObjectMeta;
use serde_json::{Value, json};

use crate::{
    caches::{BY_CONTROLLER, Caches, orphans},
    error::ReconcileError,
    kind::{self, Kind, ObjectKey, label},
    owner::{self, controller_reference},
    template::short_hash,
    writer::Writer,
};

/// Label that tells the pods of one revision from those of another.
pub const HASH_LABEL: &str = "controller-revision-hash";
/// Names tried for a revision whose hash collides with another's.
const NAMES_TRIED: i32 = 10;

/// A template as revision data.
fn data(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).unwrap_or_default();
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

/// The template that a revision holds.
///
/// # Errors
/// If the data is not what this controller writes.
pub fn template(revision: &ControllerRevision) -> Result<PodTemplateSpec, ReconcileError> {
    let mut template =
        revision.data.as_ref().map(|data| data.0["spec"]["template"].clone()).unwrap_or_default();
    if let Some(fields) = template.as_object_mut() {
        fields.remove("$patch");
    }
    serde_json::from_value(template).map_err(|error| {
        ReconcileError::Invalid(format!(
            "ControllerRevision {} holds no template: {error}",
            kind::name(revision)
        ))
    })
}

/// The hash that the revision's pods carry in [`HASH_LABEL`], for owners that use it rather than the revision's name.
pub fn hash(revision: &ControllerRevision) -> &str {
    label(revision, HASH_LABEL).unwrap_or_default()
}

/// What must happen so that the present template is the newest revision.
#[derive(Debug, PartialEq)]
enum Step {
    /// It is.
    Keep(Arc<ControllerRevision>),
    /// It was an older revision: a rollback makes it the newest again.
    Renumber(Arc<ControllerRevision>, i64),
    /// It is new and gets this number.
    Create(i64),
}

fn step(history: &[Arc<ControllerRevision>], data: &Value) -> Step {
    let newest = history.iter().map(|revision| revision.revision).max().unwrap_or(0);
    let same =
        |revision: &&Arc<ControllerRevision>| revision.data.as_ref().is_some_and(|held| held.0 == *data);
    match history.iter().filter(same).max_by_key(|revision| revision.revision) {
        Some(found) if found.revision == newest => Step::Keep(found.clone()),
        Some(found) => Step::Renumber(found.clone(), newest + 1),
        None => Step::Create(newest + 1),
    }
}

/// The revisions an owner controls, oldest first; matching orphans are adopted.
///
/// # Errors
/// As the API answers.
pub async fn history<O: Kind>(
    caches: &Caches,
    writer: &Writer,
    owner: &O,
    selector: &LabelSelector,
) -> Result<Vec<Arc<ControllerRevision>>, ReconcileError> {
    let mut candidates = caches.revisions.indexed(BY_CONTROLLER, kind::uid(owner));
    candidates.extend(caches.revisions.indexed(BY_CONTROLLER, &orphans(kind::namespace(owner))));
    let selector = owner::selector(selector)?;
    let claim = owner::claim(candidates, kind::uid(owner), kind::is_deleting(owner), &selector);
    let mut revisions = claim.settle(writer, owner).await?;
    revisions.sort_by(|a, b| {
        a.revision.cmp(&b.revision).then_with(|| kind::name(a.as_ref()).cmp(kind::name(b.as_ref())))
    });
    Ok(revisions)
}

/// Makes sure that the template is the newest revision and returns that.
///
/// # Errors
/// As the API answers.
pub async fn ensure<O: Kind>(
    writer: &Writer,
    owner: &O,
    template: &PodTemplateSpec,
    history: &[Arc<ControllerRevision>],
) -> Result<Arc<ControllerRevision>, ReconcileError> {
    let data = data(template);
    match step(history, &data) {
        Step::Keep(revision) => Ok(revision),
        Step::Renumber(revision, number) => {
            let mut renumbered = revision.as_ref().clone();
            renumbered.revision = number;
            Ok(writer.update(revision.as_ref(), &renumbered).await?.map_or(revision, Arc::new))
        }
        Step::Create(number) => create(writer, owner, template, data, number).await,
    }
}

async fn create<O: Kind>(
    writer: &Writer,
    owner: &O,
    template: &PodTemplateSpec,
    data: Value,
    number: i64,
) -> Result<Arc<ControllerRevision>, ReconcileError> {
    let labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
    for collision in 0..NAMES_TRIED {
        let hash = short_hash(template, (collision > 0).then_some(collision));
        let mut labels = labels.clone();
        labels.insert(HASH_LABEL.into(), hash.clone());
        let revision = ControllerRevision {
            metadata: ObjectMeta {
                name: Some(format!("{}-{hash}", kind::name(owner))),
                namespace: owner.meta().namespace.clone(),
                labels: Some(labels),
                owner_references: Some(vec![controller_reference(owner)]),
                ..Default::default()
            },
            data: Some(RawExtension(data.clone())),
            revision: number,
        };
        match writer.create(&revision).await {
            Ok(created) => return Ok(Arc::new(created)),
            Err(error) if error.is_already_exists() => {}
            Err(error) => return Err(error),
        }
        // Either ours, not visible yet, or another template with the same hash.
        let existing: Option<ControllerRevision> = writer.get(&ObjectKey::of(&revision)).await?;
        if let Some(existing) = existing
            && existing.data.as_ref().is_some_and(|held| held.0 == data)
        {
            return Ok(Arc::new(existing));
        }
    }
    Err(ReconcileError::Stale("no free name for a new ControllerRevision".into()))
}

/// The revisions beyond the limit that no pod uses, oldest first.
pub fn surplus(
    history: &[Arc<ControllerRevision>],
    live: &HashSet<String>,
    limit: Option<i32>,
) -> Vec<Arc<ControllerRevision>> {
    let limit = usize::try_from(limit.unwrap_or(10)).unwrap_or(0);
    let dead: Vec<_> =
        history.iter().filter(|revision| !live.contains(kind::name(revision.as_ref()))).collect();
    let surplus = dead.len().saturating_sub(limit);
    dead.into_iter().take(surplus).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(name: &str, number: i64, image: &str) -> Arc<ControllerRevision> {
        Arc::new(ControllerRevision {
            metadata: ObjectMeta { name: Some(name.into()), ..Default::default() },
            data: Some(RawExtension(data(&with_image(image)))),
            revision: number,
        })
    }

    fn with_image(image: &str) -> PodTemplateSpec {
        serde_json::from_value(json!({"spec": {"containers": [{"name": "c", "image": image}]}})).unwrap()
    }

    #[test]
    fn a_template_is_kept_renumbered_or_new() {
        let history = [revision("a", 1, "one"), revision("b", 2, "two")];
        assert_eq!(step(&history, &data(&with_image("two"))), Step::Keep(history[1].clone()));
        assert_eq!(step(&history, &data(&with_image("one"))), Step::Renumber(history[0].clone(), 3));
        assert_eq!(step(&history, &data(&with_image("three"))), Step::Create(3));
        assert_eq!(template(&history[0]).unwrap(), with_image("one"));
    }

    #[test]
    fn revisions_in_use_do_not_count_against_the_limit() {
        let history: Vec<_> = (1..=5).map(|n| revision(&format!("r{n}"), n, &n.to_string())).collect();
        let live = HashSet::from(["r1".to_owned(), "r5".to_owned()]);
        let names: Vec<_> =
            surplus(&history, &live, Some(1)).iter().map(|r| kind::name(r.as_ref()).to_owned()).collect();
        assert_eq!(names, ["r2", "r3"]);
    }
}
