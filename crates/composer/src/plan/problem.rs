//! A request and a snapshot, prepared for many assignments to be tried: who is eligible for what, what every host costs, and
//! which rules hosts must keep together.

use std::collections::{BTreeMap, HashMap};

use drystone_api::{HostRequirement, Limits, SpreadRequirement, Weights};

use super::{Assignment, Request, filter, filter::Neighbours};
use crate::model::{Host, Snapshot};

/// Seconds a powered-off host is assumed to take until its operating system runs, when nothing better is known.
pub const COLD_START_SECONDS: u32 = 120;

/// The same for a host that is on and has to boot another medium.
pub const WARM_START_SECONDS: u32 = 60;

/// What a group asks of its hosts.
#[derive(Debug, Clone)]
pub struct Group<'a> {
    /// Name.
    pub name: &'a str,
    /// How many hosts.
    pub wanted: usize,
    /// What each must have.
    pub host: &'a HostRequirement,
    /// Hosts that satisfy every constraint of their own, sorted.
    pub eligible: Vec<usize>,
    /// Most switches between two of them.
    pub max_hops: Option<u16>,
    /// Distances to other groups.
    pub near: Vec<(usize, u16)>,
    /// Spread over domains.
    pub spread: Option<&'a SpreadRequirement>,
    /// Whether its hosts count for hops and bandwidth.
    pub connected: bool,
}

/// Everything an assignment is tried against.
#[derive(Debug)]
pub struct Problem<'a> {
    /// What is asked for.
    pub request: &'a Request<'a>,
    /// What there is.
    pub snapshot: &'a Snapshot,
    /// Groups in the order of the request.
    pub groups: Vec<Group<'a>>,
    /// Members that stay.
    pub kept: Assignment,
    /// How much each attribute counts.
    pub weights: Weights,
    /// What is acceptable.
    pub limits: Limits,
    /// Power that may still be added in each chassis that has a budget, in watts.
    pub chassis_left: HashMap<u32, u64>,
    /// Hosts that may still be taken from each pool that keeps some.
    pub quota_left: BTreeMap<usize, u32>,
}

impl<'a> Problem<'a> {
    /// Prepares.
    pub fn new(request: &'a Request<'a>, snapshot: &'a Snapshot, kept: Assignment) -> Self {
        let around = Neighbours::new(request, snapshot);
        let groups = &request.spec.groups;
        let asking = groups.iter().any(|group| group.host.network.is_some());
        let groups = groups.iter().enumerate().map(|(at, group)| Group {
            name: &group.name,
            wanted: usize::try_from(group.count).unwrap_or(usize::MAX),
            host: &group.host,
            eligible: filter::eligible(&around, group),
            max_hops: group.host.network.as_ref().and_then(|network| network.max_hops).map(hops),
            near: near(request, at),
            spread: group.spread.as_ref(),
            // How near a control plane is to the accelerators is nobody's concern.
            connected: !asking || group.host.network.is_some(),
        });
        let groups = groups.collect();
        Self {
            request,
            snapshot,
            groups,
            weights: request.spec.weights.unwrap_or_else(|| request.spec.purpose.weights()),
            limits: request.spec.limits.unwrap_or_default(),
            chassis_left: chassis_left(snapshot),
            quota_left: quota_left(request, snapshot, &kept),
            kept,
        }
    }

    /// The host at a position.
    pub fn host(&self, position: usize) -> &'a Host {
        &self.snapshot.hosts[position]
    }

    /// How much more a host has than a group asks for, in thousandths of the request.
    pub fn waste(&self, group: usize, position: usize) -> u64 {
        waste(self.groups[group].host, self.host(position))
    }

    /// Seconds until a host is ready.
    pub fn start_seconds(&self, position: usize) -> u32 {
        if self.host(position).powered_on { WARM_START_SECONDS } else { COLD_START_SECONDS }
    }

    /// Whether a host is taken only under the assumption that somebody gives it back.
    pub fn is_awaited(&self, position: usize) -> bool {
        let host = self.host(position);
        host.consumer.is_some() && !filter::belongs_to(host, &self.request.owner)
    }

    /// Power that a host would add to what its chassis is charged with already.
    pub fn added_watts(&self, position: usize) -> u64 {
        let host = self.host(position);
        let charged = match (&host.consumer, host.powered_on) {
            (Some(_), _) => host.watts,
            (None, true) => host.idle_watts,
            (None, false) => 0,
        };
        u64::from(host.watts.saturating_sub(charged))
    }
}

fn hops(limit: u32) -> u16 {
    u16::try_from(limit).unwrap_or(u16::MAX)
}

fn near(request: &Request<'_>, at: usize) -> Vec<(usize, u16)> {
    let position = |name: &str| request.spec.groups.iter().position(|group| group.name == name);
    let limits = request.spec.hop_limits.iter().filter_map(|limit| {
        let (from, to) = (position(&limit.from)?, position(&limit.to)?);
        match (from == at, to == at) {
            (true, _) => Some((to, hops(limit.max_hops))),
            (_, true) => Some((from, hops(limit.max_hops))),
            _ => None,
        }
    });
    limits.collect()
}

fn chassis_left(snapshot: &Snapshot) -> HashMap<u32, u64> {
    if snapshot.quotas.iter().all(|quota| quota.chassis_watts.is_none()) {
        return HashMap::new();
    }
    let load = snapshot.chassis_load();
    let mut left: HashMap<u32, u64> = HashMap::new();
    for (position, host) in snapshot.hosts.iter().enumerate() {
        let quota = host.quota.and_then(|at| snapshot.quotas.get(at));
        let Some(budget) = quota.and_then(|quota| quota.chassis_watts) else { continue };
        let chassis = snapshot.chassis(position);
        let spare = u64::from(budget).saturating_sub(load.get(&chassis).copied().unwrap_or(0));
        let known = left.entry(chassis).or_insert(spare);
        *known = spare.min(*known);
    }
    left
}

/// A composition that has hosts already may use what pools keep back, for that is what they keep it for.
fn quota_left(request: &Request<'_>, snapshot: &Snapshot, kept: &Assignment) -> BTreeMap<usize, u32> {
    let heals = !request.members.is_empty() || kept.iter().any(|members| !members.is_empty());
    if heals || snapshot.quotas.iter().all(|quota| quota.min_free == 0) {
        return BTreeMap::new();
    }
    let mut unclaimed: BTreeMap<usize, u32> = BTreeMap::new();
    for host in &snapshot.hosts {
        let usable = matches!(host.pool, drystone_api::BlockPool::Free | drystone_api::BlockPool::Online);
        if let Some(at) = host.quota.filter(|_| usable && host.consumer.is_none() && !host.maintenance) {
            *unclaimed.entry(at).or_default() += 1;
        }
    }
    let keeping = snapshot.quotas.iter().enumerate().filter(|(_, quota)| quota.min_free > 0);
    keeping
        .map(|(at, quota)| {
            let unclaimed = unclaimed.get(&at).copied().unwrap_or(0);
            (at, unclaimed.saturating_sub(quota.min_free))
        })
        .collect()
}

/// How much more a host has than was asked for, in thousandths of the request (cores, memory, accelerators).
pub fn waste(wanted: &HostRequirement, host: &Host) -> u64 {
    let excess = |has: u64, wanted: u64| has.saturating_sub(wanted).saturating_mul(1000) / wanted.max(1);
    let accelerators: u64 = host.accelerators.iter().map(|a| u64::from(a.count)).sum();
    let wanted_accelerators: u64 = wanted.accelerators.iter().map(|a| u64::from(a.count)).sum();
    let memory = wanted.memory.unwrap_or_default().mebibytes().max(1024);
    excess(u64::from(host.cores), u64::from(wanted.cores.max(1)))
        + excess(host.memory.mebibytes(), memory)
        + accelerators.saturating_sub(wanted_accelerators) * 2000
}
