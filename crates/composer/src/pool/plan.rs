//! What a pool does about power, and what it reports. Pure.

use std::collections::{BTreeMap, BTreeSet};

use drystone_api::{
    BareMetalHost, BlockPool, IdleHost, OperationalStatus, POWERED_BY_ANNOTATION, PoolCounts, PoolResource,
    PoolResourceKind, ProvisioningState, ResourceBlock, ResourcePool, ResourcePoolSpec, ResourcePoolStatus,
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::ResourceExt as _;

use super::membership::amount;

const PAUSED: &str = "baremetalhost.metal3.io/paused";
const DETACHED: &str = "baremetalhost.metal3.io/detached";

/// Most hosts that a pool remembers as idle. What is beyond is powered down later.
const MAX_IDLE: usize = 2_000;

/// Most hosts that are switched in one pass, so that not a whole hall changes its power at once.
pub const MAX_SWITCHED: usize = 32;

/// A host of the pool with what is known of its hardware.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// The host.
    pub host: &'a BareMetalHost,
    /// Its hardware, once inspected.
    pub block: Option<&'a ResourceBlock>,
}

/// A host to be switched on or off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switching {
    /// Name of the host.
    pub host: String,
    /// What `spec.online` becomes.
    pub online: bool,
}

/// What to do and what to report.
#[derive(Debug, Clone, PartialEq)]
pub struct PowerPlan {
    /// Hosts to be switched.
    pub switchings: Vec<Switching>,
    /// The status, but for observed generation and conditions.
    pub status: ResourcePoolStatus,
    /// When something is due that no event announces.
    pub next: Option<Timestamp>,
}

/// State of a host as a pool counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostState {
    /// Unclaimed and wanted off.
    Free,
    /// Unclaimed and wanted on.
    Warm,
    /// Claimed, not in service yet; or not given back yet.
    Reserved,
    /// In service.
    Active,
    /// Out of order.
    Failed,
    /// None of these.
    Unassigned,
}

impl Member<'_> {
    /// What the pool last set `online` to, if it was this pool.
    fn recorded(&self, pool: &str) -> Option<bool> {
        let (by, value) = self.host.annotations().get(POWERED_BY_ANNOTATION)?.split_once('=')?;
        (by == pool).then_some(value == "on")
    }

    /// State.
    pub fn state(&self) -> HostState {
        let status = self.host.status.clone().unwrap_or_default();
        let pool =
            self.block.and_then(|block| block.status.as_ref()).map_or(BlockPool::Unassigned, |has| has.pool);
        if pool == BlockPool::Failed || status.operational_status == OperationalStatus::Error {
            return HostState::Failed;
        }
        if pool == BlockPool::Active || status.provisioning.state == ProvisioningState::Provisioned {
            return HostState::Active;
        }
        if self.host.spec.consumer_ref.is_some() || pool == BlockPool::Reserved {
            return HostState::Reserved;
        }
        match pool {
            BlockPool::Free | BlockPool::Online if self.is_kept_out() => HostState::Unassigned,
            BlockPool::Free | BlockPool::Online if self.host.spec.online => HostState::Warm,
            BlockPool::Free | BlockPool::Online => HostState::Free,
            _ => HostState::Unassigned,
        }
    }

    /// Whether somebody took it out of management.
    fn is_kept_out(&self) -> bool {
        let annotated = |key: &str| self.host.annotations().contains_key(key);
        self.block.is_some_and(|block| block.spec.maintenance)
            || annotated(PAUSED)
            || annotated(DETACHED)
            || self.host.spec.externally_provisioned
            || self.host.metadata.deletion_timestamp.is_some()
    }

    /// Whether the pool may switch it: nobody uses it, and nobody else has changed what the pool set.
    fn is_ours_to_switch(&self, pool: &str) -> bool {
        let status = self.host.status.clone().unwrap_or_default();
        matches!(self.state(), HostState::Free | HostState::Warm)
            && self.host.spec.bmc.is_some()
            && self.host.spec.image.is_none()
            && status.provisioning.state == ProvisioningState::Available
            && self.recorded(pool).is_none_or(|recorded| recorded == self.host.spec.online)
    }

    fn idle_watts(&self) -> u64 {
        let hardware = self.block.and_then(|block| block.status.as_ref());
        u64::from(hardware.and_then(|has| has.idle_watts).unwrap_or_default())
    }

    /// Power that it draws, by what is known of it.
    fn watts(&self) -> u64 {
        let hardware = self.block.and_then(|block| block.status.clone()).unwrap_or_default();
        let busy = u64::from(hardware.busy_watts.or(hardware.idle_watts).unwrap_or_default());
        let status = self.host.status.clone().unwrap_or_default();
        match self.state() {
            HostState::Reserved | HostState::Active => busy,
            _ if self.host.spec.online || status.powered_on => self.idle_watts(),
            _ => 0,
        }
    }

    fn chassis(&self) -> &str {
        self.block.and_then(|block| block.status.as_ref()).map_or("", |has| has.chassis.as_str())
    }
}

/// Decides. `members` are the pool's hosts in order of their names.
pub fn plan(pool: &ResourcePool, members: &[Member<'_>], now: Timestamp) -> PowerPlan {
    let name = format!("{}/{}", pool.namespace().unwrap_or_default(), pool.name_any());
    let before = pool.status.clone().unwrap_or_default();
    let mut status = report(members);
    status.conditions = before.conditions;
    status.observed_generation = before.observed_generation;
    let warm: Vec<&Member<'_>> = members.iter().filter(|member| member.state() == HostState::Warm).collect();
    let spares = usize::try_from(pool.spec.warm_spares).unwrap_or(usize::MAX);
    let mut switchings = Vec::new();
    let mut messages = Vec::new();
    if warm.len() < spares {
        let (on, missing) = power_on(&pool.spec, members, &name, spares - warm.len());
        switchings = on;
        messages.extend(missing);
    }
    let next = match pool.spec.idle_power_down {
        Some(after) => {
            status.idle = idle_since(&before.idle, &warm, now);
            let (off, next) = power_down(&status.idle, &warm, &name, spares, after.to_signed(), now);
            switchings.extend(off);
            next
        }
        None => None,
    };
    let unclaimed = status.counts.free + status.counts.warm;
    if unclaimed < u64::from(pool.spec.min_free) {
        messages.push(format!("{unclaimed} unclaimed hosts, {} are asked for", pool.spec.min_free));
    }
    status.message = messages.join("; ");
    PowerPlan { switchings, status, next }
}

/// Hosts to power on, those that draw least first; and why there are not more, if there are not enough.
fn power_on(
    spec: &ResourcePoolSpec,
    members: &[Member<'_>],
    name: &str,
    missing: usize,
) -> (Vec<Switching>, Option<String>) {
    let mut drawn: BTreeMap<&str, u64> = BTreeMap::new();
    for member in members {
        *drawn.entry(member.chassis()).or_default() += member.watts();
    }
    let mut off: Vec<&Member<'_>> = members
        .iter()
        .filter(|member| member.state() == HostState::Free && member.is_ours_to_switch(name))
        .collect();
    off.sort_by_key(|member| (member.idle_watts(), member.host.name_any()));
    let (mut chosen, mut over_budget) = (Vec::new(), 0_usize);
    for member in off {
        if chosen.len() == missing {
            break;
        }
        let load = drawn.entry(member.chassis()).or_default();
        let budget = spec.chassis_power_budget_watts.map(u64::from);
        if budget.is_some_and(|budget| *load + member.idle_watts() > budget) {
            over_budget += 1;
            continue;
        }
        *load += member.idle_watts();
        chosen.push(Switching { host: member.host.name_any(), online: true });
    }
    let lacking = missing - chosen.len();
    let why = match over_budget {
        0 => "no more hosts can be powered on".to_owned(),
        hosts => format!("{hosts} hosts would exceed the power budget of their chassis"),
    };
    let message = (lacking > 0).then(|| format!("{lacking} warm spares are missing: {why}"));
    chosen.truncate(MAX_SWITCHED);
    (chosen, message)
}

/// Since when each of the warm hosts has been idle.
fn idle_since(before: &[IdleHost], warm: &[&Member<'_>], now: Timestamp) -> Vec<IdleHost> {
    let known: BTreeMap<&str, &Time> = before.iter().map(|idle| (idle.host.as_str(), &idle.since)).collect();
    let idle = warm.iter().take(MAX_IDLE).map(|member| {
        let host = member.host.name_any();
        let since = known.get(host.as_str()).map_or(Time(now), |since| (*since).clone());
        IdleHost { host, since }
    });
    idle.collect()
}

/// Hosts that have been idle long enough, as far as they are no spares: those that draw most first. And when the next one is due.
fn power_down(
    idle: &[IdleHost],
    warm: &[&Member<'_>],
    name: &str,
    spares: usize,
    after: k8s_openapi::jiff::SignedDuration,
    now: Timestamp,
) -> (Vec<Switching>, Option<Timestamp>) {
    let surplus = warm.len().saturating_sub(spares);
    let due = |idle: &IdleHost| idle.since.0.checked_add(after).unwrap_or(Timestamp::MAX);
    let switchable: BTreeMap<String, u64> = warm
        .iter()
        .filter(|member| member.is_ours_to_switch(name) && !member.host.spec.disable_power_off)
        .map(|member| (member.host.name_any(), member.idle_watts()))
        .collect();
    let mut over: Vec<(std::cmp::Reverse<u64>, &str)> = idle
        .iter()
        .filter(|idle| due(idle) <= now)
        .filter_map(|idle| Some((std::cmp::Reverse(*switchable.get(&idle.host)?), idle.host.as_str())))
        .collect();
    over.sort_unstable();
    let chosen: BTreeSet<&str> = over.iter().take(surplus.min(MAX_SWITCHED)).map(|(_, host)| *host).collect();
    let later =
        idle.iter().filter(|idle| switchable.contains_key(&idle.host)).map(due).filter(|due| *due > now);
    let next = if surplus > chosen.len() { later.min() } else { None };
    let off = chosen.into_iter().map(|host| Switching { host: host.to_owned(), online: false });
    (off.collect(), next)
}

/// Counts.
fn report(members: &[Member<'_>]) -> ResourcePoolStatus {
    use PoolResourceKind::{Accelerators, Compute, Memory, Network, Storage};
    let mut counts = PoolCounts::default();
    let kinds = [Compute, Memory, Accelerators, Storage, Network];
    let mut resources = kinds.map(|kind| PoolResource { kind, ..Default::default() });
    let mut watts = 0;
    for member in members {
        let state = member.state();
        counts.hosts += 1;
        *match state {
            HostState::Free => &mut counts.free,
            HostState::Warm => &mut counts.warm,
            HostState::Reserved => &mut counts.reserved,
            HostState::Active => &mut counts.active,
            HostState::Failed => &mut counts.failed,
            HostState::Unassigned => &mut counts.unassigned,
        } += 1;
        watts += member.watts();
        let Some(hardware) = member.block.and_then(|block| block.status.as_ref()) else { continue };
        for resource in &mut resources {
            let has = amount(hardware, resource.kind);
            resource.total += has;
            *match state {
                HostState::Free => &mut resource.free,
                HostState::Warm => &mut resource.warm,
                HostState::Reserved => &mut resource.reserved,
                HostState::Active => &mut resource.active,
                HostState::Failed => &mut resource.failed,
                HostState::Unassigned => &mut resource.unassigned,
            } += has;
        }
    }
    let resources = resources.into_iter().filter(|resource| resource.total > 0).collect();
    ResourcePoolStatus { counts, resources, watts, ..Default::default() }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
