//! What is done to one host of a rollout, as actions of the engine. All are idempotent: they look at the host first.

mod apply;
mod bring;
mod drain;
mod health;
mod image;
mod prepare;
mod reboot;
mod revert;
mod scene;

use std::{sync::Arc, time::Duration};

pub use apply::{Applied, Apply};
pub use drain::{Drain, Uncordon};
use drystone_api::{
    FailurePolicy, HostRollout, ObjectReference, OperationSpec, RebootPolicy, RollBackScope, RolloutStrategy,
};
use drystone_engine::{
    action::{ActionRegistry, RegistryError},
    harness::Caches,
    plan::{PlanBuilder, PlanError},
};
pub use health::Health;
pub use image::ChangeImage;
pub use prepare::{Prepare, Prepared};
pub use reboot::Reboot;
pub use revert::{Revert, RevertParameters};
use serde::{Deserialize, Serialize};

use crate::{access::HostDoor, artifacts::ArtifactCache, plan::Timing};

/// What the actions need beside the API.
#[derive(Clone)]
pub struct StepDependencies {
    /// Opens ways to hosts.
    pub door: Arc<dyn HostDoor>,
    /// Files that are brought to hosts.
    pub artifacts: ArtifactCache,
    /// Copies of what is asked for again and again.
    pub caches: Caches,
}

/// The host that a step is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostParameters {
    /// Name of its BareMetalHost, in the namespace of the rollout.
    pub host: String,
}

/// Registers all actions of this domain.
///
/// # Errors
/// [`RegistryError`] when a name is taken.
pub fn register(registry: &mut ActionRegistry, dependencies: &StepDependencies) -> Result<(), RegistryError> {
    registry.register(Prepare(dependencies.clone()))?;
    registry.register(Drain(dependencies.clone()))?;
    registry.register(ChangeImage(dependencies.clone()))?;
    registry.register(Apply(dependencies.clone()))?;
    registry.register(Reboot(dependencies.clone()))?;
    registry.register(Health(dependencies.clone()))?;
    registry.register(Uncordon(dependencies.clone()))?;
    registry.register(Revert(dependencies.clone()))
}

/// Attempts at what must not be left half-way, however long the host is cut off.
const PATIENT: u32 = 100_000;

/// Longest time for a job of the package manager.
const APPLY: Duration = Duration::from_secs(3_600);

/// Longest time for another operating-system image.
const IMAGE: Duration = Duration::from_secs(2 * 3_600);

/// Longest time until a host is back after a reboot.
const REBOOT: Duration = Duration::from_secs(1_800);

/// Longest time for moving pods away, and for a host to become healthy, unless the strategy says otherwise.
const DEFAULT_SECONDS: u32 = 600;

/// The operation that updates one host.
///
/// # Errors
/// [`PlanError`], which would be a defect here.
pub fn update(
    rollout: ObjectReference,
    entry: &HostRollout,
    strategy: &RolloutStrategy,
    timing: Timing,
) -> Result<OperationSpec, PlanError> {
    let host = &entry.host;
    let mut plan = PlanBuilder::new(format!("Update software of {host}"), rollout);
    plan.on_failure(match strategy.roll_back.scope {
        RollBackScope::None => FailurePolicy::Stop,
        RollBackScope::FailedHosts | RollBackScope::Everything => FailurePolicy::Undo,
    });
    let parameters = HostParameters { host: host.clone() };
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    plan.action::<Prepare>("prepare", &parameters)
        .title(format!("Prepare {host}"))
        .estimate(seconds(timing.prepare))
        .timeout(APPLY)
        .max_attempts(5);
    let mut before = vec!["prepare"];
    if entry.drain {
        let limit = strategy.drain_timeout_seconds.unwrap_or(DEFAULT_SECONDS);
        plan.action::<Drain>("drain", &parameters)
            .title(format!("Move pods away from {host}"))
            .after_all(before.clone())
            .estimate(seconds(timing.drain))
            .timeout(seconds(limit))
            .max_attempts(1);
        before.push("drain");
    }
    if entry.changes_image {
        plan.action::<ChangeImage>("image", &parameters)
            .title(format!("Provision {host} with the other image"))
            .after_all(before.clone())
            .estimate(seconds(timing.os_image))
            .timeout(IMAGE)
            .max_attempts(3);
        before.push("image");
    }
    if entry.changes_software {
        plan.action::<Apply>("apply", &parameters)
            .title(format!("Change software of {host}"))
            .after_all(before.clone())
            .estimate(seconds(timing.package))
            .timeout(APPLY)
            .max_attempts(PATIENT);
        before.push("apply");
        if strategy.reboot == RebootPolicy::Auto {
            let reboot = plan
                .action::<Reboot>("reboot", &parameters)
                .title(format!("Reboot {host}, if it needs that"))
                .after_all(before.clone())
                .timeout(REBOOT)
                .max_attempts(3);
            if entry.reboot {
                reboot.estimate(seconds(timing.reboot));
            }
            before.push("reboot");
        }
    }
    let limit = strategy.health.timeout_seconds.unwrap_or(DEFAULT_SECONDS);
    plan.action::<Health>("health", &parameters)
        .title(format!("See whether {host} is well"))
        .after_all(before.clone())
        .estimate(seconds(strategy.health.node_ready_seconds.unwrap_or(0)))
        .timeout(seconds(limit))
        .max_attempts(1);
    if entry.drain {
        plan.action::<Uncordon>("uncordon", &parameters)
            .title(format!("Let pods onto {host} again"))
            .after_all(["drain", "health"])
            .max_attempts(PATIENT);
    }
    plan.build()
}

/// The operation that returns one host to what was there before.
///
/// # Errors
/// [`PlanError`], which would be a defect here.
pub fn roll_back(
    rollout: ObjectReference,
    entry: &HostRollout,
    strategy: &RolloutStrategy,
    timing: Timing,
) -> Result<OperationSpec, PlanError> {
    let (host, drain) = (&entry.host, entry.drain);
    let mut plan = PlanBuilder::new(format!("Return {host} to its former software"), rollout);
    plan.on_failure(FailurePolicy::Stop);
    let parameters = HostParameters { host: host.clone() };
    let mut before = Vec::new();
    if drain {
        let limit = strategy.drain_timeout_seconds.unwrap_or(DEFAULT_SECONDS);
        plan.action::<Drain>("drain", &parameters)
            .title(format!("Move pods away from {host}"))
            .estimate(Duration::from_secs(timing.drain.into()))
            .timeout(Duration::from_secs(limit.into()))
            .max_attempts(1);
        before.push("drain");
    }
    let revert = RevertParameters { host: host.clone(), former: entry.former.clone().unwrap_or_default() };
    plan.action::<Revert>("revert", &revert)
        .title(format!("Return {host} to what was there"))
        .after_all(before.clone())
        .timeout(IMAGE)
        .max_attempts(PATIENT);
    before.push("revert");
    let limit = strategy.health.timeout_seconds.unwrap_or(DEFAULT_SECONDS);
    plan.action::<Health>("health", &parameters)
        .title(format!("See whether {host} is well"))
        .after_all(before)
        .timeout(Duration::from_secs(limit.into()))
        .max_attempts(1);
    if drain {
        plan.action::<Uncordon>("uncordon", &parameters)
            .title(format!("Let pods onto {host} again"))
            .after_all(["drain", "health"])
            .max_attempts(PATIENT);
    }
    plan.build()
}
