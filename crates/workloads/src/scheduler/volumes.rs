//! What a pod's volumes demand of its node.

use std::{borrow::Cow, sync::Arc};

use k8s_openapi::api::core::v1::{NodeSelector, PersistentVolume, PersistentVolumeClaim, Pod};

use super::{cluster::NodeInfo, node_selector};
use crate::{
    kind::{self, ObjectKey, annotation},
    pod,
    volumes::matching::{self, BindingMode},
};

/// Annotation of a claim that waits for its first consumer: the node chosen for that.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// Reads of the volume kinds, as far as scheduling needs them.
pub trait VolumeLookup {
    /// A claim.
    fn claim(&self, key: &ObjectKey) -> Option<Arc<PersistentVolumeClaim>>;
    /// A volume.
    fn volume(&self, name: &str) -> Option<Arc<PersistentVolume>>;
    /// All volumes.
    fn volumes(&self) -> Vec<Arc<PersistentVolume>>;
    /// When claims of a class are bound, and who provides its volumes.
    fn class(&self, name: &str) -> Option<matching::Class>;
}

/// A claim that is bound once a node is chosen.
#[derive(Debug, Clone)]
struct Delayed {
    claim: Arc<PersistentVolumeClaim>,
    class: matching::Class,
    /// Volumes that exist and could be used, wherever they are.
    candidates: Vec<Arc<PersistentVolume>>,
}

/// What the volumes of one pod demand.
#[derive(Debug, Clone, Default)]
pub struct VolumeNeeds {
    /// Affinities of volumes already bound.
    bound: Vec<NodeSelector>,
    delayed: Vec<Delayed>,
    /// The node chosen earlier for the delayed claims.
    selected: Option<String>,
}

impl VolumeNeeds {
    /// Collects the demands.
    ///
    /// # Errors
    /// In the summary's words, why the pod can run nowhere yet.
    pub fn collect(pod: &Pod, lookup: &dyn VolumeLookup) -> Result<Self, String> {
        let mut needs = Self::default();
        for name in pod::claim_names(pod) {
            let key = ObjectKey::new(kind::namespace(pod), &name);
            let claim =
                lookup.claim(&key).ok_or_else(|| format!("persistentvolumeclaim \"{name}\" not found"))?;
            if kind::is_deleting(claim.as_ref()) {
                return Err(format!("persistentvolumeclaim \"{name}\" is being deleted"));
            }
            needs.add(claim, lookup)?;
        }
        Ok(needs)
    }

    fn add(&mut self, claim: Arc<PersistentVolumeClaim>, lookup: &dyn VolumeLookup) -> Result<(), String> {
        let name = kind::name(claim.as_ref());
        if matching::claim_phase(&claim) == "Lost" {
            return Err(format!("persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume"));
        }
        if matching::is_bound(&claim) {
            let volume = matching::volume_name(&claim).and_then(|volume| lookup.volume(volume));
            let volume =
                volume.ok_or("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)")?;
            self.bound.extend(matching::node_affinity(&volume).cloned());
            return Ok(());
        }
        let class = matching::class_name(&claim).and_then(|class| lookup.class(class));
        let Some(class) = class.filter(|class| class.mode == BindingMode::WaitForFirstConsumer) else {
            return Err("pod has unbound immediate PersistentVolumeClaims".into());
        };
        if let Some(node) = annotation(claim.as_ref(), SELECTED_NODE) {
            self.selected = Some(node.to_owned());
        }
        let candidates =
            lookup.volumes().into_iter().filter(|volume| matching::suits(volume, &claim)).collect();
        self.delayed.push(Delayed { claim, class, candidates });
        Ok(())
    }

    /// Whether the node can have the volumes.
    ///
    /// # Errors
    /// The reason, in the summary's words.
    pub fn check(&self, node: &NodeInfo) -> Result<(), Cow<'static, str>> {
        if self.selected.as_ref().is_some_and(|selected| *selected != node.name) {
            return Err("node(s) are not the one selected for the pod's volumes".into());
        }
        if !self.bound.iter().all(|affinity| node_selector::matches(affinity, &node.name, node.labels())) {
            return Err("node(s) had volume node affinity conflict".into());
        }
        let mut used: Vec<&str> = Vec::new();
        for delayed in &self.delayed {
            let reachable = |volume: &&Arc<PersistentVolume>| {
                !used.contains(&kind::name(volume.as_ref()))
                    && matching::node_affinity(volume)
                        .is_none_or(|affinity| node_selector::matches(affinity, &node.name, node.labels()))
            };
            match delayed.candidates.iter().find(reachable) {
                Some(volume) => used.push(kind::name(volume.as_ref())),
                None if delayed.class.can_provision(node.labels()) => {}
                None => return Err("node(s) didn't find available persistent volumes to bind".into()),
            }
        }
        Ok(())
    }

    /// Claims that must be told the node before the pod can be bound.
    pub fn delayed_claims(&self) -> impl Iterator<Item = &Arc<PersistentVolumeClaim>> {
        self.delayed.iter().map(|delayed| &delayed.claim)
    }

    /// Forgets the node chosen earlier, which no longer exists.
    pub fn reselect_unless(&mut self, exists: impl Fn(&str) -> bool) {
        if self.selected.as_ref().is_some_and(|node| !exists(node)) {
            self.selected = None;
        }
    }
}
