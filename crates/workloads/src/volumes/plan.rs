//! Binding claims to volumes, and what becomes of volumes whose claim is gone. Pure.
//!
//! Binding writes the volume first: its `claimRef` with the claim's UID is the promise that makes a second claim keep off. The
//! claim follows, then both phases. Each step can be repeated after a crash.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus,
    PersistentVolumeStatus,
};

use super::matching::{self, BindingMode, Class};
use crate::kind::{self, annotation, uid};

/// Annotation: this controller chose the partner; it may undo the choice.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// Annotation of a claim: binding is complete.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Annotation of a volume: who made it, and removes it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Annotation of a claim: who is asked to make a volume.
pub const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";

/// What a claim needs.
#[derive(Debug, Clone, PartialEq)]
pub enum ClaimStep {
    /// Nothing, as long as nothing changes. The text, if any, says for what it waits: reason and message of an event.
    Wait(Option<(&'static str, String)>),
    /// Something is wrong that the user must see: reason and message of a warning.
    Warn(&'static str, String),
    /// Promise this volume to the claim.
    Promise(Arc<PersistentVolume>),
    /// The volume is promised: complete the binding at the claim.
    Complete(Arc<PersistentVolume>),
    /// Show this status: both sides agree.
    Show(Box<PersistentVolumeClaimStatus>),
    /// Its volume vanished.
    Lost,
    /// Ask an external provisioner for a volume.
    Ask(String),
}

/// Decides about a claim. `volumes` are all volumes; `reachable` says whether the node chosen for the claim can reach one.
pub fn claim_step(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    class: Option<&Class>,
    selected_node: Option<&str>,
    reachable: &dyn Fn(&PersistentVolume) -> bool,
) -> ClaimStep {
    if kind::is_deleting(claim) {
        return ClaimStep::Wait(None);
    }
    if let Some(name) = matching::volume_name(claim) {
        return named_volume_step(claim, name, volumes);
    }
    // Promised before a crash?
    if let Some(volume) = volumes.iter().find(|volume| is_bound_to(volume, claim)) {
        return ClaimStep::Complete(volume.clone());
    }
    let waits = class.is_some_and(|class| class.mode == BindingMode::WaitForFirstConsumer);
    let promised = volumes.iter().any(|volume| matching::is_promised_to(volume, claim));
    if waits && selected_node.is_none() && !promised {
        let message = "waiting for first consumer to be created before binding";
        return ClaimStep::Wait(Some(("WaitForFirstConsumer", message.into())));
    }
    if let Some(volume) = matching::best(volumes, claim, reachable) {
        return ClaimStep::Promise(volume.clone());
    }
    unmatched_step(claim, class)
}

fn named_volume_step(
    claim: &PersistentVolumeClaim,
    name: &str,
    volumes: &[Arc<PersistentVolume>],
) -> ClaimStep {
    let completed = annotation(claim, BIND_COMPLETED).is_some();
    let Some(volume) = volumes.iter().find(|volume| kind::name(volume.as_ref()) == name) else {
        if completed {
            return ClaimStep::Lost;
        }
        let message = format!("volume \"{name}\" not found");
        return ClaimStep::Wait(Some(("FailedBinding", message)));
    };
    if is_bound_to(volume, claim) {
        if !completed {
            return ClaimStep::Complete(volume.clone());
        }
        let status = bound_status(claim, volume);
        let same = claim.status.as_ref() == Some(&status);
        return if same { ClaimStep::Wait(None) } else { ClaimStep::Show(Box::new(status)) };
    }
    if completed {
        return ClaimStep::Lost;
    }
    if matching::suits(volume, claim) {
        return ClaimStep::Promise(volume.clone());
    }
    let taken = volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some());
    let reason = if taken { "already bound to a different claim" } else { "does not satisfy the claim" };
    ClaimStep::Warn("VolumeMismatch", format!("Cannot bind to requested volume \"{name}\": {reason}."))
}

fn unmatched_step(claim: &PersistentVolumeClaim, class: Option<&Class>) -> ClaimStep {
    let Some(name) = matching::class_name(claim).filter(|name| !name.is_empty()) else {
        let message = "no persistent volumes available for this claim and no storage class is set";
        return ClaimStep::Wait(Some(("FailedBinding", message.into())));
    };
    let Some(class) = class else {
        return ClaimStep::Warn(
            "ProvisioningFailed",
            format!("storageclass.storage.k8s.io \"{name}\" not found"),
        );
    };
    match &class.provisioner {
        Some(provisioner) => ClaimStep::Ask(provisioner.clone()),
        None => {
            let message = format!("no persistent volume of class \"{name}\" is available for this claim");
            ClaimStep::Wait(Some(("FailedBinding", message)))
        }
    }
}

/// Whether a volume is promised to the claim by UID.
pub fn is_bound_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    matching::is_promised_to(volume, claim)
        && reference.and_then(|reference| reference.uid.as_deref()).is_some_and(|bound| bound == uid(claim))
}

fn bound_status(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> PersistentVolumeClaimStatus {
    let spec = volume.spec.clone().unwrap_or_default();
    PersistentVolumeClaimStatus {
        phase: Some("Bound".into()),
        access_modes: spec.access_modes,
        capacity: spec.capacity,
        ..claim.status.clone().unwrap_or_default()
    }
}

/// The volume with the promise to a claim.
pub fn promised(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> PersistentVolume {
    let mut promised = volume.clone();
    let by_user = matching::is_promised_to(volume, claim);
    let spec = promised.spec.get_or_insert_default();
    spec.claim_ref = Some(ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("PersistentVolumeClaim".into()),
        namespace: claim.metadata.namespace.clone(),
        name: claim.metadata.name.clone(),
        uid: claim.metadata.uid.clone(),
        ..Default::default()
    });
    if !by_user {
        promised
            .metadata
            .annotations
            .get_or_insert_default()
            .insert(BOUND_BY_CONTROLLER.into(), "yes".into());
    }
    promised
}

/// The claim with its volume.
pub fn completed(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> PersistentVolumeClaim {
    let mut completed = claim.clone();
    let by_user = matching::volume_name(claim).is_some();
    completed.spec.get_or_insert_default().volume_name = volume.metadata.name.clone();
    let annotations = completed.metadata.annotations.get_or_insert_default();
    annotations.insert(BIND_COMPLETED.into(), "yes".into());
    if !by_user {
        annotations.insert(BOUND_BY_CONTROLLER.into(), "yes".into());
    }
    completed
}

/// What a volume needs.
#[derive(Debug, Clone, PartialEq)]
pub enum VolumeStep {
    /// Nothing.
    Nothing,
    /// Show this phase, with a message if something is wrong.
    Show(&'static str, Option<String>),
    /// Its claim went away before the binding was completed: free it again.
    Free,
}

/// Decides about a volume, given the claim that its `claimRef` names (if it exists).
pub fn volume_step(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>) -> VolumeStep {
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    let Some(reference) = reference else { return show(volume, "Available", None) };
    let bound_uid = reference.uid.as_deref().filter(|uid| !uid.is_empty());
    let Some(bound_uid) = bound_uid else {
        // Reserved by the user for a claim that has not been bound yet.
        return show(volume, "Available", None);
    };
    match claim.filter(|claim| uid(*claim) == bound_uid) {
        Some(claim) => {
            let elsewhere = matching::volume_name(claim).is_some_and(|name| name != kind::name(volume));
            if elsewhere && annotation(volume, BOUND_BY_CONTROLLER).is_some() {
                return VolumeStep::Free;
            }
            if matching::volume_name(claim) == Some(kind::name(volume)) {
                show(volume, "Bound", None)
            } else {
                VolumeStep::Nothing
            }
        }
        None => released(volume),
    }
}

fn released(volume: &PersistentVolume) -> VolumeStep {
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    let phase = current_phase(volume);
    match policy.unwrap_or("Retain") {
        // Whoever made it removes it.
        "Delete" if annotation(volume, PROVISIONED_BY).is_some() => show(volume, "Released", None),
        "Delete" if phase == "Released" || phase == "Failed" => show(
            volume,
            "Failed",
            Some(
                "no provisioner deletes volumes made by hand; delete it, or set the reclaim policy Retain"
                    .into(),
            ),
        ),
        "Recycle" if phase == "Released" || phase == "Failed" => show(
            volume,
            "Failed",
            Some("the reclaim policy Recycle is not supported; use Retain or Delete".into()),
        ),
        _ => show(volume, "Released", None),
    }
}

fn current_phase(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn show(volume: &PersistentVolume, phase: &'static str, message: Option<String>) -> VolumeStep {
    let known: Option<&PersistentVolumeStatus> = volume.status.as_ref();
    let same = current_phase(volume) == phase
        && known.and_then(|status| status.message.as_ref()) == message.as_ref();
    if same { VolumeStep::Nothing } else { VolumeStep::Show(phase, message) }
}

/// The volume without the promise that this controller made.
pub fn freed(volume: &PersistentVolume) -> PersistentVolume {
    let mut freed = volume.clone();
    freed.spec.get_or_insert_default().claim_ref = None;
    if let Some(annotations) = &mut freed.metadata.annotations {
        annotations.remove(BOUND_BY_CONTROLLER);
    }
    freed
}
