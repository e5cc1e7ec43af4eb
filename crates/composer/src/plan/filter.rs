//! Which hosts could serve a group: constraint by constraint, remembering what each one removed.

use drystone_api::{AcceleratorRequirement, BlockPool, CompositionGroup, FunnelStage, ObjectReference};

use super::Request;
use crate::model::{Host, Snapshot};

/// The hosts that remain for one group, and how it came to that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Funnel {
    /// Positions of the hosts that satisfy every constraint, sorted.
    pub eligible: Vec<usize>,
    /// What each constraint removed.
    pub stages: Vec<FunnelStage>,
}

/// A constraint: its wording, and what a host has instead of what is wanted (`None` if it satisfies it).
type Check<'a> = Box<dyn Fn(&Host) -> Option<String> + 'a>;

/// Constraints of a group by kind, so that a relaxation can leave one out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConstraintKind {
    /// Usable and unclaimed.
    Availability,
    /// In the site asked for, not excluded, not in maintenance.
    Placement,
    /// Cores.
    Cores,
    /// Memory.
    Memory,
    /// The n-th accelerator requirement.
    Accelerators(usize),
    /// Local storage.
    Storage,
    /// Bandwidth.
    Bandwidth,
}

/// The funnel of every group of a request.
pub fn funnels(request: &Request<'_>, snapshot: &Snapshot) -> Vec<Funnel> {
    request.spec.groups.iter().map(|group| funnel(request, group, snapshot, None)).collect()
}

/// The funnel of one group, optionally without one kind of constraint.
pub fn funnel(
    request: &Request<'_>,
    group: &CompositionGroup,
    snapshot: &Snapshot,
    without: Option<ConstraintKind>,
) -> Funnel {
    let mut funnel = Funnel { eligible: (0..snapshot.hosts.len()).collect(), stages: Vec::new() };
    for (kind, constraint, check) in constraints(request, group) {
        if without == Some(kind) {
            continue;
        }
        let mut removed = Vec::new();
        funnel.eligible.retain(|position| match check(&snapshot.hosts[*position]) {
            None => true,
            Some(instead) => {
                removed.push(format!("{}: {instead}", snapshot.hosts[*position].name));
                false
            }
        });
        let remaining = u32::try_from(funnel.eligible.len()).unwrap_or(u32::MAX);
        funnel.stages.push(FunnelStage { group: group.name.clone(), constraint, remaining, removed });
    }
    funnel
}

fn constraints<'a>(
    request: &'a Request<'_>,
    group: &'a CompositionGroup,
) -> Vec<(ConstraintKind, String, Check<'a>)> {
    let mut checks: Vec<(ConstraintKind, String, Check<'a>)> = placement(request);
    let host = &group.host;
    if host.cores > 0 {
        let check: Check<'a> = Box::new(|h| (h.cores < host.cores).then(|| format!("{} cores", h.cores)));
        checks.push((ConstraintKind::Cores, format!("cores >= {}", host.cores), check));
    }
    if let Some(memory) = host.memory {
        let check: Check<'a> = Box::new(move |h| (h.memory < memory).then(|| h.memory.to_string()));
        checks.push((ConstraintKind::Memory, format!("memory >= {memory}"), check));
    }
    for (index, wanted) in host.accelerators.iter().enumerate() {
        let check: Check<'a> = Box::new(move |h| {
            let has = matching_accelerators(h, wanted);
            (has < wanted.count).then(|| format!("{has} of {}", accelerators_of(h)))
        });
        checks.push((ConstraintKind::Accelerators(index), accelerator_wording(wanted), check));
    }
    if let Some(storage) = host.storage {
        let check: Check<'a> = Box::new(move |h| (h.storage < storage).then(|| h.storage.to_string()));
        checks.push((ConstraintKind::Storage, format!("storage >= {storage}"), check));
    }
    if let Some(bandwidth) = host.network.as_ref().and_then(|network| network.min_bandwidth) {
        let wanted = bandwidth.0;
        let check: Check<'a> = Box::new(move |h| {
            (u64::from(h.bandwidth_gbps) * 1_000_000_000 < wanted)
                .then(|| format!("{} Gbit/s", h.bandwidth_gbps))
        });
        checks.push((ConstraintKind::Bandwidth, format!("bandwidth >= {bandwidth}"), check));
    }
    checks
}

fn placement<'a>(request: &'a Request<'_>) -> Vec<(ConstraintKind, String, Check<'a>)> {
    let mut checks: Vec<(ConstraintKind, String, Check<'a>)> = Vec::new();
    let usable: Check<'a> = Box::new(|h| unusable(h, &request.owner));
    checks.push((ConstraintKind::Availability, "inspected, healthy and unclaimed".to_owned(), usable));
    if let Some(site) = &request.spec.site {
        let check: Check<'a> = Box::new(move |h| (h.site != *site).then(|| format!("in site {}", h.site)));
        checks.push((ConstraintKind::Placement, format!("site = {site}"), check));
    }
    let kept: Check<'a> = Box::new(|h| {
        if h.maintenance {
            return Some("in maintenance".to_owned());
        }
        request.spec.exclude_hosts.contains(&h.name).then(|| "excluded by the request".to_owned())
    });
    checks.push((ConstraintKind::Placement, "not in maintenance, not excluded".to_owned(), kept));
    checks
}

/// Whether a host is claimed by `owner`.
pub fn belongs_to(host: &Host, owner: &ObjectReference) -> bool {
    host.consumer.as_ref().is_some_and(|consumer| {
        consumer.kind == owner.kind && consumer.namespace == owner.namespace && consumer.name == owner.name
    })
}

fn unusable(host: &Host, owner: &ObjectReference) -> Option<String> {
    if let Some(consumer) = &host.consumer {
        return (!belongs_to(host, owner)).then(|| format!("claimed by {consumer}"));
    }
    let reason =
        |fallback: &str| if host.message.is_empty() { fallback.to_owned() } else { host.message.clone() };
    match host.pool {
        BlockPool::Free | BlockPool::Online => None,
        BlockPool::Unassigned => Some(reason("not inspected yet")),
        BlockPool::Failed => Some(reason("out of order")),
        BlockPool::Reserved | BlockPool::Active => Some("not given back yet".to_owned()),
    }
}

/// How many accelerators of a host match a requirement.
pub fn matching_accelerators(host: &Host, wanted: &AcceleratorRequirement) -> u32 {
    let model = wanted.model.as_ref().map(|model| model.to_ascii_lowercase());
    host.accelerators
        .iter()
        .filter(|has| {
            has.kind == wanted.kind
                && model.as_ref().is_none_or(|model| has.model.to_ascii_lowercase().contains(model))
                && wanted.min_memory.is_none_or(|least| has.memory.unwrap_or_default() >= least)
        })
        .map(|has| has.count)
        .fold(0, u32::saturating_add)
}

fn accelerator_wording(wanted: &AcceleratorRequirement) -> String {
    let model = wanted.model.as_ref().map(|model| format!(" {model}")).unwrap_or_default();
    let memory = wanted.min_memory.map(|memory| format!(" with {memory}")).unwrap_or_default();
    format!("{:?}{model}{memory} >= {}", wanted.kind, wanted.count)
}

fn accelerators_of(host: &Host) -> String {
    if host.accelerators.is_empty() {
        return "no accelerators".to_owned();
    }
    let each = host.accelerators.iter().map(|has| format!("{} × {}", has.count, has.model));
    each.collect::<Vec<_>>().join(", ")
}
