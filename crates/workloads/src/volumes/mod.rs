//! PersistentVolumes and their claims: binding, phases, protection.
//!
//! Volumes are not made here: for a class with a provisioner the claim is annotated and the provisioner does the rest.

pub mod matching;
pub mod plan;
pub mod protection;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus, PersistentVolumeStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use tokio::task::JoinSet;

use self::{
    matching::Class,
    plan::{ClaimStep, VolumeStep},
};
use crate::{
    caches::BY_CLAIM,
    context::Context,
    error::ReconcileError,
    harness::{self, Next, Reconcile},
    kind::{self, Kind, ObjectKey, annotation},
    pod,
    queue::WorkQueue,
    scheduler::{node_selector, volumes::SELECTED_NODE},
};

/// The controller. One worker: which claim gets which volume is one decision. Keys without a namespace are volumes.
pub struct VolumeController {
    context: Context,
}

/// Starts the controller.
pub fn start(context: &Context, tasks: &mut JoinSet<()>) {
    let queue = WorkQueue::default();
    let caches = &context.caches;
    let (claims, waking) = (caches.claims.clone(), queue.clone());
    caches.volumes.subscribe(move |change| {
        waking.add(ObjectKey::of(change.newest().as_ref()));
        // A volume that came, changed or went may matter to any claim that waits, and to the one it is bound to.
        for claim in claims.list().iter().filter(|claim| {
            !matching::is_bound(claim)
                || matching::volume_name(claim) == Some(kind::name(change.newest().as_ref()))
        }) {
            waking.add(ObjectKey::of(claim.as_ref()));
        }
    });
    let (volumes, waking) = (caches.volumes.clone(), queue.clone());
    caches.claims.subscribe(move |change| {
        let claim = change.newest().as_ref();
        waking.add(ObjectKey::of(claim));
        let mentions = |volume: &Arc<PersistentVolume>| {
            matching::is_promised_to(volume, claim)
                || matching::volume_name(claim) == Some(kind::name(volume.as_ref()))
        };
        for volume in volumes.list().iter().filter(|volume| mentions(volume)) {
            waking.add(ObjectKey::of(volume.as_ref()));
        }
    });
    let (claims, waking) = (caches.claims.clone(), queue.clone());
    caches.storage_classes.subscribe(move |change| {
        let class = kind::name(change.newest().as_ref());
        for claim in claims.list().iter().filter(|claim| matching::class_name(claim) == Some(class)) {
            waking.add(ObjectKey::of(claim.as_ref()));
        }
    });
    let (claims, waking) = (caches.claims.clone(), queue.clone());
    caches.pods.subscribe(move |change| {
        // Only the end of a pod can end the protection of its claims.
        let pod = change.newest();
        let gone = matches!(change, crate::cache::Change::Deleted(_)) || pod::is_finished(pod);
        if !gone {
            return;
        }
        for claim in pod::claim_names(pod) {
            let key = ObjectKey::new(kind::namespace(pod.as_ref()), claim);
            if claims.get(&key).is_some_and(|claim| kind::is_deleting(claim.as_ref())) {
                waking.add(key);
            }
        }
    });
    let controller = Arc::new(VolumeController { context: context.named(VolumeController::NAME) });
    harness::spawn(tasks, &controller, &queue, 1, context);
}

impl Reconcile for VolumeController {
    const NAME: &'static str = "persistentvolume-controller";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, ReconcileError> {
        let caches = &self.context.caches;
        if key.namespace.is_empty() {
            if let Some(volume) = caches.volumes.get(key) {
                self.reconcile_volume(&volume).await?;
            }
        } else if let Some(claim) = caches.claims.get(key) {
            self.reconcile_claim(&claim).await?;
        }
        Ok(Next::Await)
    }
}

impl VolumeController {
    async fn reconcile_claim(&self, claim: &Arc<PersistentVolumeClaim>) -> Result<(), ReconcileError> {
        let caches = &self.context.caches;
        let key = ObjectKey::of(claim.as_ref());
        let in_use = caches.pods.indexed(BY_CLAIM, &key.to_string()).iter().any(|pod| !pod::is_finished(pod));
        if self.protect(claim, protection::CLAIM_FINALIZER, in_use).await? {
            // The change just written brings the claim here again.
            return Ok(());
        }
        let class = matching::class_name(claim)
            .and_then(|name| caches.storage_classes.get(&ObjectKey::cluster(name)));
        let class = class.map(|class| Class::of(&class));
        let selected = annotation(claim.as_ref(), SELECTED_NODE);
        let node = selected.and_then(|name| caches.nodes.get(&ObjectKey::cluster(name)));
        let reachable = |volume: &PersistentVolume| match (&node, matching::node_affinity(volume)) {
            (Some(node), Some(affinity)) => {
                let labels = node.metadata.labels.clone().unwrap_or_default();
                node_selector::matches(affinity, kind::name(node.as_ref()), &labels)
            }
            _ => true,
        };
        let step = plan::claim_step(claim, &caches.volumes.list(), class.as_ref(), selected, &reachable);
        self.perform(claim, step).await
    }

    async fn perform(
        &self,
        claim: &Arc<PersistentVolumeClaim>,
        step: ClaimStep,
    ) -> Result<(), ReconcileError> {
        let (writer, recorder) = (&self.context.writer, &self.context.recorder);
        match step {
            ClaimStep::Wait(reason) => {
                if let Some((reason, message)) = reason {
                    recorder.normal(claim.as_ref(), reason, message);
                    self.show(claim, "Pending").await?;
                }
            }
            ClaimStep::Warn(reason, message) => {
                recorder.warning(claim.as_ref(), reason, message);
                self.show(claim, "Pending").await?;
            }
            ClaimStep::Promise(volume) => {
                let promised = plan::promised(&volume, claim);
                let written = writer.update(volume.as_ref(), &promised).await?.map_or(volume, Arc::new);
                self.complete(claim, &written).await?;
            }
            ClaimStep::Complete(volume) => self.complete(claim, &volume).await?,
            ClaimStep::Show(status) => {
                let previous = claim.status.clone().unwrap_or_default();
                writer.update_status(claim.as_ref(), &previous, status.as_ref()).await?;
            }
            ClaimStep::Lost => {
                if matching::claim_phase(claim) != "Lost" {
                    let message = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
                    recorder.warning(claim.as_ref(), "ClaimLost", message);
                    self.show(claim, "Lost").await?;
                }
            }
            ClaimStep::Ask(provisioner) => self.ask(claim, &provisioner).await?,
        }
        Ok(())
    }

    async fn complete(
        &self,
        claim: &Arc<PersistentVolumeClaim>,
        volume: &PersistentVolume,
    ) -> Result<(), ReconcileError> {
        let completed = plan::completed(claim, volume);
        self.context.writer.update(claim.as_ref(), &completed).await.map(|_| ())
    }

    async fn ask(&self, claim: &Arc<PersistentVolumeClaim>, provisioner: &str) -> Result<(), ReconcileError> {
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the \
             system administrator. If volume creation is delayed, please verify that the provisioner is running and \
             correctly registered."
        );
        self.context.recorder.normal(claim.as_ref(), "ExternalProvisioning", message);
        let mut asked = claim.as_ref().clone();
        asked
            .metadata
            .annotations
            .get_or_insert_default()
            .insert(plan::PROVISIONER.into(), provisioner.to_owned());
        self.context.writer.update(claim.as_ref(), &asked).await?;
        Ok(())
    }

    async fn show(&self, claim: &Arc<PersistentVolumeClaim>, phase: &str) -> Result<(), ReconcileError> {
        let previous = claim.status.clone().unwrap_or_default();
        let status = PersistentVolumeClaimStatus { phase: Some(phase.to_owned()), ..previous.clone() };
        self.context.writer.update_status(claim.as_ref(), &previous, &status).await.map(|_| ())
    }

    async fn reconcile_volume(&self, volume: &Arc<PersistentVolume>) -> Result<(), ReconcileError> {
        let caches = &self.context.caches;
        let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.clone());
        let claim = reference.as_ref().and_then(|reference| {
            let key = ObjectKey::new(reference.namespace.clone()?, reference.name.clone()?);
            caches.claims.get(&key)
        });
        let bound = claim.as_ref().is_some_and(|claim| plan::is_bound_to(volume, claim));
        if self.protect(volume, protection::VOLUME_FINALIZER, bound).await? {
            return Ok(());
        }
        let writer = &self.context.writer;
        match plan::volume_step(volume, claim.as_deref()) {
            VolumeStep::Nothing => Ok(()),
            VolumeStep::Free => writer.update(volume.as_ref(), &plan::freed(volume)).await.map(|_| ()),
            VolumeStep::Show(phase, message) => {
                if let Some(message) = &message {
                    self.context.recorder.warning(volume.as_ref(), "VolumeFailedDelete", message.clone());
                }
                let previous = volume.status.clone().unwrap_or_default();
                let status = PersistentVolumeStatus {
                    phase: Some(phase.to_owned()),
                    message,
                    last_phase_transition_time: Some(Time(Timestamp::now())),
                    ..previous.clone()
                };
                writer.update_status(volume.as_ref(), &previous, &status).await.map(|_| ())
            }
        }
    }

    /// Sets or removes the finalizer that keeps an object while it is used. Returns whether anything was written.
    async fn protect<K: Kind>(
        &self,
        object: &Arc<K>,
        finalizer: &str,
        in_use: bool,
    ) -> Result<bool, ReconcileError> {
        let Some(finalizers) = protection::finalizers(object.as_ref(), finalizer, in_use) else {
            return Ok(false);
        };
        let mut changed = object.as_ref().clone();
        changed.meta_mut().finalizers = Some(finalizers).filter(|list| !list.is_empty());
        match self.context.writer.update(object.as_ref(), &changed).await {
            Err(error) if error.is_not_found() => Ok(true),
            other => other.map(|_| true),
        }
    }
}
