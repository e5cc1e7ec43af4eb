//! The identity of a StatefulSet's pods: ordinals, names, storage. Pure.

use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, StatefulSet},
        core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, Volume},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::Resource;

use crate::{
    error::ReconcileError,
    kind::{self, label},
    revisions::{self, HASH_LABEL},
    template::pod_from_template,
};

/// Label: the pod's own name, so that a Service can select one pod.
const POD_NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
/// Label: the pod's ordinal.
const POD_INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// The first ordinal.
pub fn first_ordinal(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.ordinals.as_ref()).and_then(|ordinals| ordinals.start).unwrap_or(0)
}

/// The ordinal that a pod's name carries, if it is one of the set's names.
pub fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let (parent, number) = kind::name(pod).rsplit_once('-')?;
    let canonical = |number: &i32| number.to_string().len() == kind::name(pod).len() - parent.len() - 1;
    number.parse().ok().filter(|n| *n >= 0 && parent == kind::name(set)).filter(canonical)
}

/// The revision a pod was made from: the name of its ControllerRevision.
pub fn revision(pod: &Pod) -> &str {
    label(pod, HASH_LABEL).unwrap_or_default()
}

/// The name of the pod's claim for one of the set's claim templates.
fn claim_name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", kind::name(template), kind::name(set))
}

/// The pod of an ordinal, made from a revision's template.
///
/// # Errors
/// If the revision does not hold a template.
pub fn new_pod(
    set: &StatefulSet,
    revision: &ControllerRevision,
    ordinal: i32,
) -> Result<Pod, ReconcileError> {
    let mut pod = pod_from_template(&revisions::template(revision)?, set);
    let name = format!("{}-{ordinal}", kind::name(set));
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(name.clone());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME_LABEL.into(), name.clone());
    labels.insert(POD_INDEX_LABEL.into(), ordinal.to_string());
    labels.insert(HASH_LABEL.into(), kind::name(revision).to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name);
    spec.subdomain = set.spec.as_ref().and_then(|spec| spec.service_name.clone());
    let volumes = spec.volumes.get_or_insert_default();
    for template in claim_templates(set) {
        volumes.retain(|volume| volume.name != kind::name(template));
        volumes.push(Volume {
            name: kind::name(template).to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim_name(set, template, ordinal),
                read_only: None,
            }),
            ..Default::default()
        });
    }
    if volumes.is_empty() {
        spec.volumes = None;
    }
    Ok(pod)
}

fn claim_templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    set.spec.as_ref().and_then(|spec| spec.volume_claim_templates.as_deref()).unwrap_or_default()
}

/// The claims of an ordinal, as they are created with its pod.
pub fn claims(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let selected = set.spec.as_ref().and_then(|spec| spec.selector.match_labels.clone()).unwrap_or_default();
    claim_templates(set)
        .iter()
        .map(|template| {
            let mut claim = template.clone();
            claim.status = None;
            claim.metadata.name = Some(claim_name(set, template, ordinal));
            claim.metadata.namespace.clone_from(&set.metadata.namespace);
            claim.metadata.creation_timestamp = None;
            claim.metadata.labels.get_or_insert_default().extend(selected.clone());
            claim
        })
        .collect()
}

/// The owners a claim should have by the set's retention policy. `condemned` is the pod, if it is to be removed by scaling.
/// Owners that are neither the set nor a pod of its are kept.
pub fn claim_owners(
    set: &StatefulSet,
    claim: &PersistentVolumeClaim,
    condemned: Option<&Pod>,
) -> Vec<OwnerReference> {
    let policy = set.spec.as_ref().and_then(|spec| spec.persistent_volume_claim_retention_policy.clone());
    let policy = policy.unwrap_or_default();
    let deletes = |when: &Option<String>| when.as_deref() == Some("Delete");
    let previous = claim.metadata.owner_references.clone().unwrap_or_default();
    let is_ours = |reference: &OwnerReference| {
        reference.uid == kind::uid(set)
            || (reference.kind == "Pod" && reference.name.starts_with(&format!("{}-", kind::name(set))))
    };
    let mut owners: Vec<OwnerReference> =
        previous.into_iter().filter(|reference| !is_ours(reference)).collect();
    let reference = |api_version: &str, kind: &str, name: &str, uid: &str| OwnerReference {
        api_version: api_version.into(),
        kind: kind.into(),
        name: name.into(),
        uid: uid.into(),
        ..Default::default()
    };
    match condemned.filter(|_| deletes(&policy.when_scaled)) {
        Some(pod) => owners.push(reference("v1", "Pod", kind::name(pod), kind::uid(pod))),
        None if deletes(&policy.when_deleted) => {
            let version = StatefulSet::api_version(&());
            owners.push(reference(&version, "StatefulSet", kind::name(set), kind::uid(set)));
        }
        None => {}
    }
    owners
}
