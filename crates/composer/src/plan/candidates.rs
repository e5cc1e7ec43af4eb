//! Strategies that craft complete assignments. Each orders the eligible hosts in its own way and takes the first that fit.

use std::collections::{BTreeMap, BTreeSet};

use drystone_api::HostRequirement;

use super::{Assignment, Request, filter::Funnel};
use crate::model::{Host, Snapshot};

/// Most switches that the strategy `closest` tries as a centre.
const MAX_CENTRES: usize = 32;

/// The order in which a strategy takes hosts for what a group asks for: the least first.
type Order<'a> = &'a dyn Fn(&HostRequirement, usize) -> (u64, u64);

/// A complete assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which strategy crafted it.
    pub strategy: String,
    /// Hosts of each group.
    pub assignment: Assignment,
}

/// Crafts candidates; equal ones appear once. Empty if no strategy found enough hosts.
pub fn craft(
    request: &Request<'_>,
    snapshot: &Snapshot,
    funnels: &[Funnel],
    kept: &Assignment,
) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut add = |strategy: String, order: Order<'_>| {
        for site in sites(snapshot, funnels, kept) {
            let Some(assignment) = assign(request, snapshot, funnels, kept, &site, order) else { continue };
            if candidates.iter().all(|other| other.assignment != assignment) {
                candidates.push(Candidate { strategy: strategy.clone(), assignment });
            }
        }
    };
    let hosts = &snapshot.hosts;
    add("best-fit".to_owned(), &|g, h| (waste(g, &hosts[h]), 0));
    add("least-power".to_owned(), &|g, h| (u64::from(hosts[h].watts), waste(g, &hosts[h])));
    add("fastest-start".to_owned(), &|g, h| (u64::from(!hosts[h].powered_on), waste(g, &hosts[h])));
    add("widest".to_owned(), &|g, h| (u64::MAX - u64::from(hosts[h].bandwidth_gbps), waste(g, &hosts[h])));
    let ranks = chassis_ranks(hosts, funnels);
    add("spread".to_owned(), &|g, h| (ranks.get(&h).copied().unwrap_or(0), waste(g, &hosts[h])));
    for centre in centres(hosts, funnels, kept) {
        add("closest".to_owned(), &|g, h| {
            let nearest =
                hosts[h].switches.iter().filter_map(|switch| snapshot.distances.hops(*switch, centre)).min();
            (nearest.map_or(u64::MAX, u64::from), waste(g, &hosts[h]))
        });
    }
    candidates
}

/// Sites that have eligible hosts; where members exist already, only theirs.
fn sites(snapshot: &Snapshot, funnels: &[Funnel], kept: &Assignment) -> BTreeSet<String> {
    let site = |position: &usize| snapshot.hosts[*position].site.clone();
    let existing: BTreeSet<String> = kept.iter().flatten().map(site).collect();
    if existing.is_empty() {
        funnels.iter().flat_map(|funnel| &funnel.eligible).map(site).collect()
    } else {
        existing
    }
}

/// Fills every group in the given order of hosts: kept members first, scarce groups before plentiful ones.
fn assign(
    request: &Request<'_>,
    snapshot: &Snapshot,
    funnels: &[Funnel],
    kept: &Assignment,
    site: &str,
    order: Order<'_>,
) -> Option<Assignment> {
    let mut assignment = kept.clone();
    let mut used: BTreeSet<usize> = kept.iter().flatten().copied().collect();
    let mut groups: Vec<usize> = (0..request.spec.groups.len()).collect();
    groups.sort_by_key(|group| (funnels[*group].eligible.len(), *group));
    for group in groups {
        let wanted = usize::try_from(request.spec.groups[group].count).ok()?;
        let max_hops = max_hops(request, group);
        let mut pool: Vec<usize> = funnels[group]
            .eligible
            .iter()
            .copied()
            .filter(|position| snapshot.hosts[*position].site == site && !used.contains(position))
            .collect();
        pool.sort_by_key(|position| (order(&request.spec.groups[group].host, *position), *position));
        for position in pool {
            if assignment[group].len() >= wanted {
                break;
            }
            if near_enough(snapshot, &assignment[group], position, max_hops) {
                assignment[group].push(position);
                used.insert(position);
            }
        }
        if assignment[group].len() < wanted {
            return None;
        }
        assignment[group].sort_unstable();
    }
    Some(assignment)
}

/// Most switches between members of a group.
pub fn max_hops(request: &Request<'_>, group: usize) -> Option<u32> {
    request.spec.groups[group].host.network.as_ref().and_then(|network| network.max_hops)
}

/// Whether a host is within reach of all others of its group.
pub fn near_enough(snapshot: &Snapshot, others: &[usize], host: usize, max_hops: Option<u32>) -> bool {
    let Some(max) = max_hops else { return true };
    others.iter().filter(|other| **other != host).all(|other| {
        let hops = snapshot.distances.between(&snapshot.hosts[*other], &snapshot.hosts[host]);
        hops.is_some_and(|hops| u32::from(hops) <= max)
    })
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

/// Position of a host among those of its chassis: taking rank 0 of each chassis first spreads hosts out.
fn chassis_ranks(hosts: &[Host], funnels: &[Funnel]) -> BTreeMap<usize, u64> {
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    let eligible: BTreeSet<usize> =
        funnels.iter().flat_map(|funnel| funnel.eligible.iter().copied()).collect();
    let ranks = eligible.into_iter().map(|position| {
        let rank = seen.entry(&hosts[position].chassis).or_insert(0);
        *rank += 1;
        (position, *rank)
    });
    ranks.collect()
}

/// Switches worth trying as a centre: those of kept members, else those with the most eligible hosts.
fn centres(hosts: &[Host], funnels: &[Funnel], kept: &Assignment) -> Vec<usize> {
    let kept: BTreeSet<usize> =
        kept.iter().flatten().flat_map(|position| hosts[*position].switches.clone()).collect();
    if !kept.is_empty() {
        return kept.into_iter().take(MAX_CENTRES).collect();
    }
    let mut count: BTreeMap<usize, usize> = BTreeMap::new();
    for position in funnels.iter().flat_map(|funnel| &funnel.eligible) {
        for switch in &hosts[*position].switches {
            *count.entry(*switch).or_default() += 1;
        }
    }
    let mut centres: Vec<(usize, usize)> = count.into_iter().collect();
    centres.sort_by_key(|(switch, count)| (std::cmp::Reverse(*count), *switch));
    centres.into_iter().map(|(switch, _)| switch).take(MAX_CENTRES).collect()
}
