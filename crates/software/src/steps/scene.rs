//! What a step finds: the rollout, the host, and what the one wants of the other.

use drystone_api::{HostRollout, PinnedSet, Rollout, RolloutStatus, RolloutStrategy, SoftwareAccess};
use drystone_engine::{
    action::{StepContext, StepError},
    reference::ObjectKey,
};
use kube::{Api, ResourceExt as _};

use super::StepDependencies;
use crate::{
    access::{AccessError, HostAccess},
    facts,
    inventory::Inventory,
    records,
    select::{HostFacts, selects},
};

/// How often something that goes wrong on the host itself is tried.
const ATTEMPTS: u32 = 4;

/// What a step finds.
pub(super) struct Scene {
    pub(super) namespace: String,
    pub(super) host: HostFacts,
    /// Everything that the rollout wants of the host, as one set.
    pub(super) wanted: PinnedSet,
    /// The sets that this comes from.
    pub(super) sets: Vec<PinnedSet>,
    pub(super) strategy: RolloutStrategy,
    /// What the rollout says of the host.
    pub(super) entry: HostRollout,
}

impl Scene {
    /// Looks.
    pub(super) async fn find(
        context: &StepContext,
        dependencies: &StepDependencies,
        host: &str,
    ) -> Result<Self, StepError> {
        let subject = context.subject();
        let (status, entry) = rollout(context, dependencies, host).await?;
        let clusters = dependencies.caches.of();
        let found = facts::of(context.client(), &clusters, &subject.namespace, host, &status.sets)
            .await
            .map_err(StepError::transient)?;
        let found = found.ok_or_else(|| StepError::permanent(format!("BareMetalHost {host} was deleted")))?;
        let selecting = status.sets.iter().filter(|set| selects(&set.selector, &found));
        let sets: Vec<PinnedSet> = selecting.cloned().collect();
        Ok(Self {
            namespace: subject.namespace.clone(),
            wanted: together(&sets),
            sets,
            strategy: status.strategy.clone().unwrap_or_default(),
            entry,
            host: found,
        })
    }

    /// Opens the way to the host.
    pub(super) async fn open(
        &self,
        context: &StepContext,
        dependencies: &StepDependencies,
        access: &SoftwareAccess,
    ) -> Result<Box<dyn HostAccess>, AccessError> {
        records::open(context.client(), &*dependencies.door, &self.namespace, &self.host.name, access).await
    }

    /// Reads what is on the host, and takes it for what is known of it.
    pub(super) async fn look(&mut self, access: &dyn HostAccess) -> Result<Inventory, AccessError> {
        let files = self.wanted.files.iter().map(|file| file.path.as_str());
        let inventory = records::read(access, files).await?;
        self.host.inventory = Some(inventory.clone());
        Ok(inventory)
    }

    /// Writes down what is on the host.
    pub(super) async fn record(&self, context: &StepContext, inventory: &Inventory) -> Result<(), StepError> {
        records::write(context.client(), &self.namespace, &self.host.name, inventory)
            .await
            .map_err(StepError::transient)
    }
}

/// What the rollout says, and of this host. It is large and does not change in what is read here once the host is begun, so that a copy
/// will do that has the host as begun.
async fn rollout(
    context: &StepContext,
    dependencies: &StepDependencies,
    host: &str,
) -> Result<(RolloutStatus, HostRollout), StepError> {
    let subject = context.subject();
    let pick = |rollout: &Rollout| {
        let status = rollout.status.as_ref()?;
        let entry =
            status.hosts.iter().find(|entry| entry.host == host && entry.phase.is_under_way())?.clone();
        let kept = RolloutStatus {
            sets: status.sets.clone(),
            strategy: status.strategy.clone(),
            ..RolloutStatus::default()
        };
        Some((kept, entry))
    };
    let copies = dependencies.caches.of::<Rollout>();
    let copy =
        copies.get(&ObjectKey::from(subject)).filter(|copy| copy.uid().as_deref() == Some(&subject.uid));
    if let Some(found) = copy.as_deref().and_then(pick) {
        return Ok(found);
    }
    let rollouts: Api<Rollout> = Api::namespaced(context.client().clone(), &subject.namespace);
    let rollout = rollouts
        .get(&subject.name)
        .await
        .map_err(|error| StepError::from_kube("reading the Rollout", &error))?;
    let entry = pick(&rollout).map(|(_, entry)| entry).unwrap_or_default();
    Ok((rollout.status.unwrap_or_default(), entry))
}

/// Several sets as one, without their keys: each set's signatures are checked against its own. Sets do not contradict each other:
/// such a rollout is not planned.
fn together(sets: &[PinnedSet]) -> PinnedSet {
    let mut all = PinnedSet::default();
    for set in sets {
        for package in &set.packages {
            if !all.packages.iter().any(|other| other.name == package.name) {
                all.packages.push(package.clone());
            }
        }
        for image in &set.container_images {
            if !all.container_images.contains(image) {
                all.container_images.push(image.clone());
            }
        }
        for file in &set.files {
            if !all.files.iter().any(|other| other.path == file.path) {
                all.files.push(file.clone());
            }
        }
        all.os_image = all.os_image.or_else(|| set.os_image.clone());
        all.access = all.access.or_else(|| set.access.clone());
        all.allow_downgrade |= set.allow_downgrade;
    }
    all
}

/// Whether another attempt may help.
pub(super) fn step_error(context: &StepContext, error: AccessError) -> StepError {
    match error {
        AccessError::Unreachable(_) => StepError::transient(error),
        AccessError::Failed(_) if context.attempt() < ATTEMPTS => StepError::transient(error),
        AccessError::Refused(_) | AccessError::Failed(_) => StepError::permanent(error),
    }
}
