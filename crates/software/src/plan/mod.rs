//! The plan of a rollout: which hosts need it and why, which others do not, in which waves they come, how many may be out of
//! service, and how long it takes. Pure and deterministic: the same input gives the same plan.
//!
//! [`plan`] decides who comes in which wave, once. [`decide`](decide::decide) decides again and again who may begin now, from what has become
//! of the hosts so far. [`forecast`](forecast::forecast) lets `decide` run in imagined time.

pub mod decide;
pub mod forecast;
mod limits;
pub mod waves;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use drystone_api::{
    DrainPolicy, HealthGate, MemberRole, PackageState, PinnedSet, RebootPolicy, RolloutStrategy,
};
pub use limits::Limits;

use crate::{
    change::{Change, ChangeSet, changes},
    select::{HostFacts, selects},
    validate::Refusal,
};

/// How long things take, in seconds; the basis of estimates, nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Reaching a host and reading what it has.
    pub prepare: u32,
    /// Moving pods away.
    pub drain: u32,
    /// Each package.
    pub package: u32,
    /// Each container image.
    pub image: u32,
    /// Each file.
    pub file: u32,
    /// A reboot.
    pub reboot: u32,
    /// Another operating-system image, with its reboots.
    pub os_image: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Self { prepare: 5, drain: 60, package: 20, image: 30, file: 1, reboot: 120, os_image: 390 }
    }
}

/// Why a host needs nothing that has all that it should have.
pub const HAS_EVERYTHING: &str = "it has everything already";

/// Why a host needs nothing that is not in use.
pub const NOT_PROVISIONED: &str = "no operating system is on it";

/// What a plan is made of.
#[derive(Debug, Clone, Copy)]
pub struct PlanInput<'a> {
    /// What is brought to the hosts.
    pub sets: &'a [PinnedSet],
    /// All hosts, selected or not.
    pub hosts: &'a [HostFacts],
    /// How to go about it.
    pub strategy: &'a RolloutStrategy,
    /// How long things take.
    pub timing: Timing,
}

/// A host that needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlannedHost {
    /// Its site.
    pub site: String,
    /// Its cluster; empty if it has none.
    pub cluster: String,
    /// Whether it runs its cluster's control plane.
    pub control_plane: bool,
    /// Its wave, by index.
    pub wave: usize,
    /// What is changed, and what that brings with it.
    pub changes: ChangeSet,
    /// How long that is expected to take, in seconds.
    pub estimate_seconds: u32,
}

/// A wave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlannedWave {
    /// Name.
    pub name: String,
    /// Waves that must be done before, by index; all of them smaller than its own.
    pub after: Vec<usize>,
    /// Its hosts, in the order in which they come.
    pub hosts: Vec<String>,
    /// How long to watch afterwards, in seconds.
    pub soak_seconds: u32,
    /// Whether it must be let go.
    pub pause: bool,
}

/// A plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RolloutPlan {
    /// Waves, so that each comes after those that it waits for. None is empty.
    pub waves: Vec<PlannedWave>,
    /// Hosts that need it.
    pub hosts: BTreeMap<String, PlannedHost>,
    /// Hosts that are selected but get nothing, and why.
    pub not_needed: BTreeMap<String, String>,
    /// How many hosts may be out of service.
    pub limits: Limits,
    /// How many hosts may fail.
    pub tolerated_failures: usize,
}

/// Makes the plan.
///
/// # Errors
/// [`Refusal`]s when sets, hosts and strategy make no sense together.
pub fn plan(input: &PlanInput<'_>) -> Result<RolloutPlan, Vec<Refusal>> {
    let mut refusals = Vec::new();
    crate::validate::strategy("spec.strategy", input.strategy, &mut refusals);
    for (index, set) in input.sets.iter().enumerate() {
        if !input.hosts.iter().any(|host| selects(&set.selector, host)) {
            let reason = format!("SoftwareSet {} selects no host; see its spec.selector", set.name);
            refusals.push(Refusal::new(format!("spec.sets[{index}]"), reason));
        }
    }
    refusals.extend(contradictions(input));
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let mut made = RolloutPlan::default();
    let mut selected: BTreeMap<&str, usize> = BTreeMap::new();
    for host in input.hosts {
        let sets: Vec<&PinnedSet> = input.sets.iter().filter(|set| selects(&set.selector, host)).collect();
        if sets.is_empty() {
            continue;
        }
        *selected.entry(&host.site).or_default() += 1;
        match needed(&sets, host, input) {
            Ok(planned) => drop(made.hosts.insert(host.name.clone(), planned)),
            Err(reason) => drop(made.not_needed.insert(host.name.clone(), reason)),
        }
    }
    made.limits = Limits::new(input.strategy, &selected);
    made.tolerated_failures = limits::tolerated(input.strategy, made.hosts.len());
    made.waves = waves::assign(input, &made.hosts).map_err(|refusal| vec![refusal])?;
    for (index, wave) in made.waves.iter().enumerate() {
        for host in &wave.hosts {
            if let Some(planned) = made.hosts.get_mut(host) {
                planned.wave = index;
            }
        }
    }
    Ok(made)
}

/// What a host needs of the sets that select it, or why it needs nothing.
fn needed(sets: &[&PinnedSet], host: &HostFacts, input: &PlanInput<'_>) -> Result<PlannedHost, String> {
    if !host.provisioned {
        return Err(NOT_PROVISIONED.to_owned());
    }
    let mut all = ChangeSet::default();
    for set in sets {
        let found = changes(set, host).map_err(|obstacle| obstacle.to_string())?;
        for change in found.changes {
            if !all.changes.contains(&change) {
                all.changes.push(change);
            }
        }
        all.drain |= found.drain;
        all.reboot |= found.reboot;
    }
    let image = all.changes.iter().any(|change| matches!(change, Change::Image { .. }));
    if image && host.role == Some(MemberRole::ControlPlane) {
        let cluster = &host.cluster;
        return Err(format!(
            "its disk holds the control plane of {cluster}, which another image would wipe; replace the host"
        ));
    }
    if all.changes.is_empty() {
        return Err(HAS_EVERYTHING.to_owned());
    }
    all.changes.sort();
    all.reboot &= input.strategy.reboot == RebootPolicy::Auto;
    all.drain = match input.strategy.drain {
        DrainPolicy::Auto => all.drain,
        DrainPolicy::Always => true,
        DrainPolicy::Never => false,
    } && !host.cluster.is_empty();
    let estimate_seconds = estimate(&all, host, &input.strategy.health, input.timing);
    Ok(PlannedHost {
        site: host.site.clone(),
        cluster: host.cluster.clone(),
        control_plane: host.role == Some(MemberRole::ControlPlane),
        wave: 0,
        changes: all,
        estimate_seconds,
    })
}

fn estimate(changes: &ChangeSet, host: &HostFacts, health: &HealthGate, timing: Timing) -> u32 {
    let each = |change: &Change| match change {
        Change::Image { .. } => timing.os_image,
        Change::Pull { .. } => timing.image,
        Change::Write { .. } => timing.file,
        Change::Hold { .. } => 0,
        _ => timing.package,
    };
    let ready = if host.cluster.is_empty() { 0 } else { health.node_ready_seconds.unwrap_or(0) };
    let drain = if changes.drain { timing.drain } else { 0 };
    let reboot = if changes.reboot { timing.reboot } else { 0 };
    changes.changes.iter().map(each).fold(timing.prepare + drain + reboot + ready, u32::saturating_add)
}

/// Sets that want different things of the same host.
fn contradictions(input: &PlanInput<'_>) -> Vec<Refusal> {
    let mut found = BTreeSet::new();
    for (index, set) in input.sets.iter().enumerate() {
        for other in &input.sets[..index] {
            let Some(what) = contradiction(set, other) else { continue };
            let both = |host: &&HostFacts| selects(&set.selector, host) && selects(&other.selector, host);
            if let Some(host) = input.hosts.iter().find(both) {
                let reason = format!(
                    "SoftwareSets {} and {} both select host {}, but want different {what}; change one of them",
                    other.name, set.name, host.name
                );
                found.insert(Refusal::new(format!("spec.sets[{index}]"), reason));
            }
        }
    }
    found.into_iter().collect()
}

fn contradiction(a: &PinnedSet, b: &PinnedSet) -> Option<String> {
    if let (Some(a), Some(b)) = (&a.os_image, &b.os_image)
        && a != b
    {
        return Some("operating-system images".to_owned());
    }
    let gone = |state| state == PackageState::Absent;
    for package in &a.packages {
        let other = b.packages.iter().find(|other| other.name == package.name);
        if other
            .is_some_and(|other| gone(other.state) != gone(package.state) || other.version != package.version)
        {
            return Some(format!("versions of package {}", package.name));
        }
    }
    let file = a.files.iter().find(|file| {
        let digest = crate::validate::content_digest;
        b.files.iter().any(|other| other.path == file.path && digest(other) != digest(file))
    });
    file.map(|file| format!("contents of file {}", file.path))
}
