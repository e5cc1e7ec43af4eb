//! The ReplicaSets of a Deployment as its history: which one is current, which are old, and their revision numbers.
//!
//! The current one is found by its template, not by its name: a rollback makes an old template current again, and its
//! ReplicaSet then gets the next revision number.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec},
    core::v1::PodTemplateSpec,
};
use kube::api::ObjectMeta;

use super::strategy::Strategy;
use crate::{
    kind::{self, annotation},
    owner::controller_reference,
    template::short_hash,
};

/// The label that tells the pods of one revision from those of another.
pub const HASH_LABEL: &str = "pod-template-hash";
/// Annotation: revision number, on the Deployment and its ReplicaSets.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// Annotation: earlier revision numbers of a ReplicaSet that became current again.
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// Annotation: the Deployment's replicas when the ReplicaSet was last scaled.
pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// Annotation: replicas plus surge when the ReplicaSet was last scaled.
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";

/// Annotations of the Deployment that are its own and not copied to its ReplicaSets.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
];
/// Room for earlier revision numbers in [`REVISION_HISTORY`].
const HISTORY_CHARACTERS: usize = 2000;

/// The ReplicaSets of one Deployment.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The one with the Deployment's template.
    pub current: Option<Arc<ReplicaSet>>,
    /// All others, oldest first.
    pub old: Vec<Arc<ReplicaSet>>,
}

impl History {
    /// Sorts a Deployment's ReplicaSets.
    pub fn of(deployment: &Deployment, replica_sets: &[Arc<ReplicaSet>]) -> Self {
        let mut sorted = replica_sets.to_vec();
        sorted.sort_by(|a, b| by_creation(a, b));
        let wanted = template(deployment);
        let current = sorted.iter().position(|set| same_template(&set_template(set), &wanted));
        let current = current.map(|index| sorted.remove(index));
        Self { current, old: sorted }
    }

    /// All ReplicaSets, the current one first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.current.iter().chain(&self.old)
    }

    /// The revision number the current ReplicaSet should have.
    pub fn next_revision(&self) -> i64 {
        self.old.iter().map(|set| revision(set)).max().unwrap_or(0).saturating_add(1)
    }
}

/// Creation order; ties (times are whole seconds) by name.
pub fn by_creation(a: &ReplicaSet, b: &ReplicaSet) -> Ordering {
    let key = |set: &ReplicaSet| set.metadata.creation_timestamp.as_ref().map(|time| time.0);
    key(a).cmp(&key(b)).then_with(|| kind::name(a).cmp(kind::name(b)))
}

/// The revision number of a ReplicaSet; 0 if it has none.
pub fn revision(set: &ReplicaSet) -> i64 {
    annotation(set, REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The Deployment's pod template.
pub fn template(deployment: &Deployment) -> PodTemplateSpec {
    deployment.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default()
}

fn set_template(set: &ReplicaSet) -> PodTemplateSpec {
    set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default()
}

/// Whether two templates make the same pods; the label added per revision does not count.
pub fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let normalized = |template: &PodTemplateSpec| {
        let mut template = template.clone();
        if let Some(meta) = &mut template.metadata {
            if let Some(labels) = &mut meta.labels {
                labels.remove(HASH_LABEL);
            }
            meta.labels = meta.labels.take().filter(|labels| !labels.is_empty());
            meta.annotations = meta.annotations.take().filter(|annotations| !annotations.is_empty());
            meta.creation_timestamp = None;
        }
        template.metadata = template.metadata.take().filter(|meta| *meta != ObjectMeta::default());
        template
    };
    normalized(a) == normalized(b)
}

/// The ReplicaSet for the Deployment's present template.
pub fn new_replica_set(
    deployment: &Deployment,
    strategy: &Strategy,
    revision: i64,
    replicas: i32,
) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = short_hash(&spec.template, collisions);
    let mut template = spec.template;
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.into(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.into(), hash.clone());
    let mut set = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", kind::name(deployment))),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![controller_reference(deployment)]),
            ..Default::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(replicas),
            min_ready_seconds: Some(strategy.min_ready_seconds).filter(|seconds| *seconds > 0),
            selector,
            template: Some(template),
        }),
        status: None,
    };
    annotate(&mut set, deployment, revision);
    annotate_scale(&mut set, strategy);
    set
}

/// Brings the annotations of the current ReplicaSet up to date: the Deployment's own, and the revision number.
pub fn annotate(set: &mut ReplicaSet, deployment: &Deployment, revision_wanted: i64) {
    let revision_now = revision(set);
    let copied = deployment.metadata.annotations.iter().flatten();
    let annotations = set.metadata.annotations.get_or_insert_default();
    for (key, value) in copied.filter(|(key, _)| !NOT_COPIED.contains(&key.as_str())) {
        annotations.insert(key.clone(), value.clone());
    }
    if revision_now >= revision_wanted {
        return;
    }
    annotations.insert(REVISION.into(), revision_wanted.to_string());
    if revision_now > 0 {
        let history = annotations.get(REVISION_HISTORY).cloned().unwrap_or_default();
        annotations.insert(REVISION_HISTORY.into(), extended_history(&history, revision_now));
    }
}

fn extended_history(history: &str, revision: i64) -> String {
    let mut revisions: Vec<String> =
        history.split(',').filter(|part| !part.is_empty()).map(Into::into).collect();
    revisions.push(revision.to_string());
    while revisions.len() > 1 && revisions.join(",").len() > HISTORY_CHARACTERS {
        revisions.remove(0);
    }
    revisions.join(",")
}

/// Records for which size of the Deployment the ReplicaSet was scaled; a difference later shows that the user scaled.
pub fn annotate_scale(set: &mut ReplicaSet, strategy: &Strategy) {
    let annotations: &mut BTreeMap<_, _> = set.metadata.annotations.get_or_insert_default();
    annotations.insert(DESIRED_REPLICAS.into(), strategy.replicas.to_string());
    annotations.insert(MAX_REPLICAS.into(), strategy.max_total().to_string());
}

/// A number out of one of the annotations above.
pub fn recorded(set: &ReplicaSet, key: &str) -> Option<i32> {
    annotation(set, key)?.parse().ok()
}
