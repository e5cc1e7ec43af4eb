//! Which volume suits which claim. Pure, shared by the binder and the scheduler.

use std::{collections::BTreeMap, sync::Arc};

use drystone_quantity::Quantity;
use k8s_openapi::{
    api::{
        core::v1::{NodeSelector, PersistentVolume, PersistentVolumeClaim, TopologySelectorTerm},
        storage::v1::StorageClass,
    },
    apimachinery::pkg::api::resource::Quantity as Text,
};

use crate::{
    kind::{self, annotation},
    owner,
};

/// The older way to name a class.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
/// Provisioner name of classes whose volumes are made by hand.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// When a claim is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindingMode {
    /// At once.
    Immediate,
    /// When a pod that uses it has been given a node.
    WaitForFirstConsumer,
}

/// What matters of a storage class.
#[derive(Debug, Clone, PartialEq)]
pub struct Class {
    /// When claims are bound.
    pub mode: BindingMode,
    /// Who makes volumes; none if they are made by hand.
    pub provisioner: Option<String>,
    topologies: Vec<TopologySelectorTerm>,
}

impl Class {
    /// Reads a storage class.
    pub fn of(class: &StorageClass) -> Self {
        let mode = match class.volume_binding_mode.as_deref() {
            Some("WaitForFirstConsumer") => BindingMode::WaitForFirstConsumer,
            _ => BindingMode::Immediate,
        };
        Self {
            mode,
            provisioner: Some(class.provisioner.clone()).filter(|name| name != NO_PROVISIONER),
            topologies: class.allowed_topologies.clone().unwrap_or_default(),
        }
    }

    /// Whether a volume could be made for a node with these labels.
    pub fn can_provision(&self, labels: &BTreeMap<String, String>) -> bool {
        let allowed = |term: &TopologySelectorTerm| {
            let expressions = term.match_label_expressions.iter().flatten();
            expressions.into_iter().all(|e| labels.get(&e.key).is_some_and(|value| e.values.contains(value)))
        };
        self.provisioner.is_some() && (self.topologies.is_empty() || self.topologies.iter().any(allowed))
    }
}

/// The name of the claim's class; empty means "none on purpose", `None` means that the default was not filled in.
pub fn class_name(claim: &PersistentVolumeClaim) -> Option<&str> {
    annotation(claim, CLASS_ANNOTATION).or_else(|| claim.spec.as_ref()?.storage_class_name.as_deref())
}

/// The name of the volume's class, empty for none.
pub fn volume_class(volume: &PersistentVolume) -> &str {
    annotation(volume, CLASS_ANNOTATION)
        .or_else(|| volume.spec.as_ref()?.storage_class_name.as_deref())
        .unwrap_or_default()
}

/// The volume a claim names, if it names one.
pub fn volume_name(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.volume_name.as_deref().filter(|name| !name.is_empty())
}

/// The claim's phase; `Pending` if none was reported.
pub fn claim_phase(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// Whether the claim has its volume.
pub fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    volume_name(claim).is_some() && claim_phase(claim) == "Bound"
}

/// Which nodes can reach the volume; `None`: all.
pub fn node_affinity(volume: &PersistentVolume) -> Option<&NodeSelector> {
    volume.spec.as_ref()?.node_affinity.as_ref()?.required.as_ref()
}

/// Whether a volume is promised to this very claim (by name, and by UID once that is known).
pub fn is_promised_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    reference.is_some_and(|reference| {
        reference.namespace.as_deref() == Some(kind::namespace(claim))
            && reference.name.as_deref() == Some(kind::name(claim))
            && reference.uid.as_deref().is_none_or(|uid| uid.is_empty() || uid == kind::uid(claim))
    })
}

/// Bytes, or 0 if absent or unreadable.
fn storage(list: Option<&BTreeMap<String, Text>>) -> i64 {
    let amount = list.and_then(|list| list.get("storage")).and_then(|text| text.0.parse().ok());
    amount.map_or(0, Quantity::value)
}

/// What the volume holds, in bytes.
pub fn capacity(volume: &PersistentVolume) -> i64 {
    storage(volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()))
}

/// What the claim asks for, in bytes.
pub fn requested(claim: &PersistentVolumeClaim) -> i64 {
    storage(claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()).and_then(|r| r.requests.as_ref()))
}

/// Whether a volume could be bound to a claim: free or promised to it, and large enough, of the class, access modes, volume
/// mode and labels asked for. Where it can be reached from is another question.
pub fn suits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(offer), Some(wish)) = (&volume.spec, &claim.spec) else { return false };
    if kind::is_deleting(volume) || capacity(volume) < requested(claim) {
        return false;
    }
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".into());
    let offered = offer.access_modes.as_deref().unwrap_or_default();
    if mode(&offer.volume_mode) != mode(&wish.volume_mode)
        || !wish.access_modes.iter().flatten().all(|mode| offered.contains(mode))
    {
        return false;
    }
    if is_promised_to(volume, claim) {
        return true;
    }
    let selected = wish.selector.as_ref().is_none_or(|selector| {
        owner::selector(selector).is_ok_and(|selector| owner::matches(&selector, volume))
    });
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    offer.claim_ref.is_none()
        && matches!(phase, "Available" | "Pending")
        && volume_class(volume) == class_name(claim).unwrap_or_default()
        && volume_name(claim).is_none_or(|name| name == kind::name(volume))
        && selected
}

/// The best volume for a claim: one promised to it, else the smallest that suits.
pub fn best<'a>(
    volumes: impl IntoIterator<Item = &'a Arc<PersistentVolume>>,
    claim: &PersistentVolumeClaim,
    reachable: impl Fn(&PersistentVolume) -> bool,
) -> Option<&'a Arc<PersistentVolume>> {
    volumes.into_iter().filter(|volume| suits(volume, claim) && reachable(volume)).min_by_key(|volume| {
        (!is_promised_to(volume, claim), capacity(volume), kind::name(volume.as_ref()).to_owned())
    })
}
