//! Which hosts could serve a group: constraint by constraint, remembering what each one removed.

use std::{collections::HashMap, fmt::Write as _};

use drystone_api::{
    AcceleratorRequirement, BlockPool, CompositionGroup, DriveRequirement, FailureDomain, FunnelReason,
    FunnelStage, ObjectReference, quantity::Memory,
};

use super::{Freed, Request};
use crate::model::{Host, Snapshot};

/// Most removed hosts that a stage lists by name.
pub const MAX_REMOVED: usize = 40;

/// Most reasons that a stage lists.
const MAX_REASONS: usize = 8;

/// What one host must satisfy, whatever the others are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Constraint<'a> {
    /// Inspected, healthy, unclaimed, and not held back for somebody else.
    Usable,
    /// In this site.
    Site(&'a str),
    /// Not in maintenance, not excluded.
    NotExcluded,
    /// One of these.
    Listed(&'a [String]),
    /// Not kept for the cluster of its site.
    NotDedicated,
    /// Nobody else has a host in the same domain.
    Alone(FailureDomain),
    /// Nobody else keeps the domain to himself.
    NotKeptOut,
    /// The domain is known.
    DomainKnown(FailureDomain),
    /// Cores.
    Cores(u32),
    /// Memory.
    Memory(Memory),
    /// Accelerators.
    Accelerators(&'a AcceleratorRequirement),
    /// Capacity of all drives.
    Storage(Memory),
    /// Drives.
    Drives(&'a DriveRequirement),
    /// Speed of the fastest port in bit/s.
    Bandwidth(u64),
}

/// The constraints of a group, in the order in which they are applied.
pub fn constraints<'a>(request: &Request<'a>, group: &'a CompositionGroup) -> Vec<Constraint<'a>> {
    let host = &group.host;
    let mut all = Vec::new();
    // A list first: that others are in use is of no interest then.
    all.extend((!group.only_hosts.is_empty()).then_some(Constraint::Listed(&group.only_hosts)));
    all.push(Constraint::Usable);
    all.extend(request.spec.site.as_deref().map(Constraint::Site));
    all.extend(group.only_hosts.is_empty().then_some(Constraint::NotDedicated));
    all.extend([Constraint::NotExcluded, Constraint::NotKeptOut]);
    all.extend(request.spec.isolated_by.map(Constraint::Alone));
    all.extend(group.spread.as_ref().map(|spread| Constraint::DomainKnown(spread.by)));
    all.extend((host.cores > 0).then_some(Constraint::Cores(host.cores)));
    all.extend(host.memory.map(Constraint::Memory));
    all.extend(host.accelerators.iter().map(Constraint::Accelerators));
    all.extend(host.storage.map(Constraint::Storage));
    all.extend(host.drives.iter().map(Constraint::Drives));
    let bandwidth = host.network.as_ref().and_then(|network| network.min_bandwidth);
    all.extend(bandwidth.map(|bandwidth| Constraint::Bandwidth(bandwidth.0)));
    all
}

/// What a constraint looks at besides the host: who occupies which domain.
#[derive(Debug)]
pub struct Neighbours<'a> {
    request: &'a Request<'a>,
    snapshot: &'a Snapshot,
    /// Domains that others have hosts in, with one of these hosts; for the isolation that is asked for.
    occupied: HashMap<u32, usize>,
    /// Domains that others keep to themselves, with whose they are.
    kept: HashMap<(FailureDomain, u32), &'a ObjectReference>,
    kinds: Vec<FailureDomain>,
}

impl<'a> Neighbours<'a> {
    /// Looks around.
    pub fn new(request: &'a Request<'a>, snapshot: &'a Snapshot) -> Self {
        let mut neighbours =
            Self { request, snapshot, occupied: HashMap::new(), kept: HashMap::new(), kinds: Vec::new() };
        let isolating =
            snapshot.tenants.iter().filter_map(|tenant| Some((&tenant.owner, tenant.isolated_by?)));
        let isolating: Vec<(&ObjectReference, FailureDomain)> = isolating.collect();
        if request.spec.isolated_by.is_none() && isolating.is_empty() {
            return neighbours;
        }
        for (position, host) in snapshot.hosts.iter().enumerate() {
            let Some(consumer) = host.consumer.as_ref().filter(|consumer| !same(consumer, &request.owner))
            else {
                continue;
            };
            if let Some(by) = request.spec.isolated_by {
                for domain in snapshot.domains(position, by) {
                    neighbours.occupied.entry(*domain).or_insert(position);
                }
            }
            for (owner, by) in isolating.iter().filter(|(owner, _)| same(owner, consumer)) {
                for domain in snapshot.domains(position, *by) {
                    neighbours.kept.insert((*by, *domain), owner);
                }
            }
        }
        let used = |by: &FailureDomain| neighbours.kept.keys().any(|(kind, _)| kind == by);
        neighbours.kinds = [FailureDomain::Chassis, FailureDomain::Rack, FailureDomain::Switch]
            .into_iter()
            .filter(used)
            .collect();
        neighbours
    }

    fn occupant(&self, host: usize, by: FailureDomain) -> Option<usize> {
        self.snapshot.domains(host, by).iter().find_map(|domain| self.occupied.get(domain).copied())
    }

    fn keeper(&self, host: usize) -> Option<(FailureDomain, &'a ObjectReference)> {
        self.kinds.iter().find_map(|by| {
            let domains = self.snapshot.domains(host, *by);
            domains.iter().find_map(|domain| self.kept.get(&(*by, *domain)).map(|owner| (*by, *owner)))
        })
    }
}

impl Constraint<'_> {
    /// Whether a host satisfies it.
    pub fn admits(&self, around: &Neighbours<'_>, position: usize) -> bool {
        let host = &around.snapshot.hosts[position];
        match self {
            Self::Usable => unusable(around.request, host, position).is_none(),
            Self::Site(site) => host.site == *site,
            Self::Listed(names) => names.contains(&host.name),
            Self::NotDedicated => !host.dedicated,
            Self::NotExcluded => !host.maintenance && !around.request.spec.exclude_hosts.contains(&host.name),
            Self::Alone(by) => {
                !around.snapshot.domains(position, *by).is_empty() && around.occupant(position, *by).is_none()
            }
            Self::NotKeptOut => around.keeper(position).is_none(),
            Self::DomainKnown(by) => !around.snapshot.domains(position, *by).is_empty(),
            Self::Cores(cores) => host.cores >= *cores,
            Self::Memory(memory) => host.memory >= *memory,
            Self::Accelerators(wanted) => matching_accelerators(host, wanted) >= wanted.count,
            Self::Storage(storage) => host.storage >= *storage,
            Self::Drives(wanted) => matching_drives(host, wanted) >= wanted.count,
            Self::Bandwidth(wanted) => bits(host) >= *wanted,
        }
    }

    /// What a host that it removes has instead.
    pub fn instead(&self, around: &Neighbours<'_>, position: usize) -> String {
        let host = &around.snapshot.hosts[position];
        match self {
            Self::Usable => unusable(around.request, host, position).unwrap_or_default(),
            Self::Site(_) => format!("in site {}", host.site),
            Self::Listed(_) => "not on the group's list".to_owned(),
            Self::NotDedicated => format!("kept for the cluster of site {}", host.site),
            Self::NotExcluded if host.maintenance => "in maintenance".to_owned(),
            Self::NotExcluded => "excluded by the request".to_owned(),
            Self::Alone(by) => match around.occupant(position, *by) {
                Some(other) => {
                    let consumer = around.snapshot.hosts[other].consumer.clone().unwrap_or_default();
                    format!("{by} {} has hosts of {consumer}", around.snapshot.domain_name(other, *by))
                }
                None => format!("its {by} is not known"),
            },
            Self::NotKeptOut => around.keeper(position).map_or_else(String::new, |(by, owner)| {
                format!("{owner} keeps the {by} {} to itself", around.snapshot.domain_name(position, by))
            }),
            Self::DomainKnown(by) => format!("its {by} is not known"),
            Self::Cores(_) => format!("{} cores", host.cores),
            Self::Memory(_) => host.memory.to_string(),
            Self::Accelerators(wanted) => {
                format!("{} of {}", matching_accelerators(host, wanted), accelerators_of(host))
            }
            Self::Storage(_) => host.storage.to_string(),
            Self::Drives(wanted) => format!("{} of {}", matching_drives(host, wanted), drives_of(host)),
            Self::Bandwidth(_) => format!("{} Gbit/s", host.bandwidth_gbps),
        }
    }

    /// For people.
    pub fn wording(&self) -> String {
        match self {
            Self::Usable => "inspected, healthy and unclaimed".to_owned(),
            Self::Site(site) => format!("site = {site}"),
            Self::Listed(names) if names.len() <= 4 => format!("one of {}", names.join(", ")),
            Self::Listed(names) => format!("one of the {} hosts of the group's list", names.len()),
            Self::NotDedicated => "not kept for a site's own cluster".to_owned(),
            Self::NotExcluded => "not in maintenance, not excluded".to_owned(),
            Self::Alone(by) => format!("no other user in the same {by}"),
            Self::NotKeptOut => "not kept by an isolated composition".to_owned(),
            Self::DomainKnown(by) => format!("{by} known"),
            Self::Cores(cores) => format!("cores >= {cores}"),
            Self::Memory(memory) => format!("memory >= {memory}"),
            Self::Accelerators(wanted) => accelerator_wording(wanted),
            Self::Storage(storage) => format!("storage >= {storage}"),
            Self::Drives(wanted) => drive_wording(wanted),
            Self::Bandwidth(wanted) => {
                format!("bandwidth >= {}", drystone_api::quantity::Bandwidth(*wanted))
            }
        }
    }
}

/// The hosts that remain for one group, sorted; without words.
pub fn eligible(around: &Neighbours<'_>, group: &CompositionGroup) -> Vec<usize> {
    let all = constraints(around.request, group);
    let fits = |host: &usize| all.iter().all(|constraint| constraint.admits(around, *host));
    (0..around.snapshot.hosts.len()).filter(fits).collect()
}

/// What each constraint of a group removed.
pub fn funnel(around: &Neighbours<'_>, group: &CompositionGroup) -> Vec<FunnelStage> {
    let mut left: Vec<usize> = (0..around.snapshot.hosts.len()).collect();
    let mut stages = Vec::new();
    for constraint in constraints(around.request, group) {
        let (kept, removed): (Vec<usize>, Vec<usize>) =
            left.iter().partition(|position| constraint.admits(around, **position));
        left = kept;
        let seldom = matches!(
            constraint,
            Constraint::NotKeptOut | Constraint::DomainKnown(_) | Constraint::NotDedicated
        );
        if removed.is_empty() && seldom {
            continue;
        }
        stages.push(stage(around, group, constraint, left.len(), &removed));
    }
    stages
}

fn stage(
    around: &Neighbours<'_>,
    group: &CompositionGroup,
    constraint: Constraint<'_>,
    remaining: usize,
    removed: &[usize],
) -> FunnelStage {
    let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    let mut names = Vec::new();
    let mut reasons: HashMap<String, u32> = HashMap::new();
    for (at, position) in removed.iter().enumerate() {
        let instead = constraint.instead(around, *position);
        if at < MAX_REMOVED {
            names.push(format!("{}: {instead}", around.snapshot.hosts[*position].name));
        }
        *reasons.entry(instead).or_default() += 1;
    }
    if removed.len() > MAX_REMOVED {
        names.push(format!("and {} more", removed.len() - MAX_REMOVED));
    }
    let mut reasons: Vec<FunnelReason> =
        reasons.into_iter().map(|(instead, hosts)| FunnelReason { instead, hosts }).collect();
    reasons.sort_by(|a, b| b.hosts.cmp(&a.hosts).then_with(|| a.instead.cmp(&b.instead)));
    reasons.truncate(MAX_REASONS);
    FunnelStage {
        group: group.name.clone(),
        constraint: constraint.wording(),
        remaining: count(remaining),
        removed_count: count(removed.len()),
        removed: names,
        reasons,
    }
}

fn same(a: &ObjectReference, b: &ObjectReference) -> bool {
    (&a.kind, &a.namespace, &a.name) == (&b.kind, &b.namespace, &b.name)
}

/// Whether a host is claimed by `owner`.
pub fn belongs_to(host: &Host, owner: &ObjectReference) -> bool {
    host.consumer.as_ref().is_some_and(|consumer| same(consumer, owner))
}

/// Whether a host would be free under the request's assumption about who gives hosts back.
fn is_freed(request: &Request<'_>, host: &Host) -> bool {
    match (&request.freed, &host.consumer) {
        (Freed::Nobody, _) | (_, None) => false,
        (Freed::Everybody, Some(_)) => host.pool != BlockPool::Failed,
        (Freed::These(holders), Some(consumer)) => {
            host.pool != BlockPool::Failed && holders.iter().any(|holder| same(holder, consumer))
        }
    }
}

fn unusable(request: &Request<'_>, host: &Host, position: usize) -> Option<String> {
    if is_freed(request, host) {
        return None;
    }
    if let Some(consumer) = &host.consumer {
        return (!same(consumer, &request.owner)).then(|| format!("claimed by {consumer}"));
    }
    let reason =
        |fallback: &str| if host.message.is_empty() { fallback.to_owned() } else { host.message.clone() };
    match host.pool {
        BlockPool::Free | BlockPool::Online => {
            request.held.get(&position).map(|holder| format!("held back for {holder}"))
        }
        BlockPool::Unassigned => Some(reason("not inspected yet")),
        BlockPool::Failed => Some(reason("out of order")),
        BlockPool::Reserved | BlockPool::Active => Some("not given back yet".to_owned()),
    }
}

/// Speed of a host's fastest port in bit/s.
pub fn bits(host: &Host) -> u64 {
    u64::from(host.bandwidth_gbps) * 1_000_000_000
}

/// How many accelerators of a host match a requirement.
pub fn matching_accelerators(host: &Host, wanted: &AcceleratorRequirement) -> u32 {
    host.accelerators
        .iter()
        .filter(|has| {
            has.kind == wanted.kind
                && wanted.model.as_ref().is_none_or(|model| contains_ignoring_case(&has.model, model))
                && wanted.min_memory.is_none_or(|least| has.memory.unwrap_or_default() >= least)
        })
        .map(|has| has.count)
        .fold(0, u32::saturating_add)
}

fn contains_ignoring_case(text: &str, part: &str) -> bool {
    let (text, part) = (text.as_bytes(), part.as_bytes());
    part.is_empty() || text.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
}

/// How many drives of a host match a requirement.
pub fn matching_drives(host: &Host, wanted: &DriveRequirement) -> u32 {
    let matching = host.drives.iter().filter(|drive| {
        wanted.min_capacity.is_none_or(|least| drive.capacity >= least)
            && wanted.media.as_ref().is_none_or(|media| drive.media.eq_ignore_ascii_case(media))
    });
    u32::try_from(matching.count()).unwrap_or(u32::MAX)
}

fn accelerator_wording(wanted: &AcceleratorRequirement) -> String {
    let model = wanted.model.as_ref().map(|model| format!(" {model}")).unwrap_or_default();
    let memory = wanted.min_memory.map(|memory| format!(" with {memory}")).unwrap_or_default();
    format!("{:?}{model}{memory} >= {}", wanted.kind, wanted.count)
}

fn drive_wording(wanted: &DriveRequirement) -> String {
    let media = wanted.media.as_deref().unwrap_or("drives");
    let capacity = wanted.min_capacity.map(|capacity| format!(" of {capacity}")).unwrap_or_default();
    format!("{media}{capacity} >= {}", wanted.count)
}

fn accelerators_of(host: &Host) -> String {
    if host.accelerators.is_empty() {
        return "no accelerators".to_owned();
    }
    let each = host.accelerators.iter().map(|has| format!("{} × {}", has.count, has.model));
    each.collect::<Vec<_>>().join(", ")
}

fn drives_of(host: &Host) -> String {
    let mut text = String::new();
    for drive in &host.drives {
        let comma = if text.is_empty() { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma}{} {}", drive.media, drive.capacity);
    }
    if text.is_empty() { "no drives".to_owned() } else { text }
}
