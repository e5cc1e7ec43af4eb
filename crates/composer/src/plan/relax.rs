//! The smallest change that would make an infeasible request feasible.

use drystone_api::{CompositionGroup, quantity::Memory};

use super::{
    Request,
    filter::{ConstraintKind, Funnel, funnel, matching_accelerators},
};
use crate::model::Snapshot;

/// A change and how large it is, relative to what was asked.
struct Relaxation {
    wording: String,
    size: f64,
}

/// Looks at each group that has too few hosts and at each of its constraints alone.
pub fn smallest(request: &Request<'_>, snapshot: &Snapshot, funnels: &[Funnel]) -> Option<String> {
    let mut found: Vec<Relaxation> = Vec::new();
    for (group, funnel) in request.spec.groups.iter().zip(funnels) {
        let wanted = usize::try_from(group.count).unwrap_or(usize::MAX);
        if funnel.eligible.len() >= wanted {
            continue;
        }
        found.extend(numeric(request, group, snapshot, wanted));
        if !funnel.eligible.is_empty() {
            let has = funnel.eligible.len();
            found.push(Relaxation {
                wording: format!("with {has} instead of {wanted} hosts in group {} it would fit", group.name),
                size: 0.5 + fraction(wanted - has, wanted),
            });
        }
    }
    found.sort_by(|a, b| a.size.total_cmp(&b.size));
    found.into_iter().next().map(|relaxation| relaxation.wording)
}

fn numeric(
    request: &Request<'_>,
    group: &CompositionGroup,
    snapshot: &Snapshot,
    wanted: usize,
) -> Vec<Relaxation> {
    let host = &group.host;
    let mut kinds: Vec<(ConstraintKind, &str, u64)> =
        vec![(ConstraintKind::Cores, "cores", u64::from(host.cores))];
    kinds.extend(host.memory.map(|memory| (ConstraintKind::Memory, "memory", memory.0)));
    kinds.extend(host.storage.map(|storage| (ConstraintKind::Storage, "storage", storage.0)));
    for (index, accelerator) in host.accelerators.iter().enumerate() {
        kinds.push((ConstraintKind::Accelerators(index), "accelerators", u64::from(accelerator.count)));
    }
    let bandwidth = host.network.as_ref().and_then(|network| network.min_bandwidth);
    kinds.extend(bandwidth.map(|bandwidth| (ConstraintKind::Bandwidth, "bandwidth", bandwidth.0)));
    kinds
        .into_iter()
        .filter_map(|(kind, name, asked)| of_kind(request, group, snapshot, wanted, (kind, name, asked)))
        .collect()
}

/// The value at which one constraint alone would leave enough hosts.
fn of_kind(
    request: &Request<'_>,
    group: &CompositionGroup,
    snapshot: &Snapshot,
    wanted: usize,
    (kind, name, asked): (ConstraintKind, &str, u64),
) -> Option<Relaxation> {
    let without = funnel(request, group, snapshot, Some(kind)).eligible;
    let mut values: Vec<u64> =
        without.iter().map(|position| value(group, snapshot, kind, *position)).collect();
    values.sort_unstable_by(|a, b| b.cmp(a));
    let enough = *values.get(wanted.checked_sub(1)?)?;
    if enough >= asked {
        return None;
    }
    let show = |amount: u64| match kind {
        ConstraintKind::Memory | ConstraintKind::Storage => Memory(amount).to_string(),
        ConstraintKind::Bandwidth => format!("{}Gbit", amount / 1_000_000_000),
        _ => amount.to_string(),
    };
    let wording = format!(
        "with {name} >= {} instead of {} in group {} there would be {} hosts",
        show(enough),
        show(asked),
        group.name,
        values.iter().filter(|value| **value >= enough).count()
    );
    Some(Relaxation { wording, size: 1.0 - ratio(enough, asked) })
}

fn value(group: &CompositionGroup, snapshot: &Snapshot, kind: ConstraintKind, position: usize) -> u64 {
    let host = &snapshot.hosts[position];
    match kind {
        ConstraintKind::Cores => u64::from(host.cores),
        ConstraintKind::Memory => host.memory.0,
        ConstraintKind::Storage => host.storage.0,
        ConstraintKind::Bandwidth => u64::from(host.bandwidth_gbps) * 1_000_000_000,
        ConstraintKind::Accelerators(index) => group
            .host
            .accelerators
            .get(index)
            .map_or(0, |wanted| u64::from(matching_accelerators(host, wanted))),
        ConstraintKind::Availability | ConstraintKind::Placement => 0,
    }
}

fn fraction(part: usize, whole: usize) -> f64 {
    ratio(part as u64, whole as u64)
}

/// `part / whole` in thousandths, as a fraction.
fn ratio(part: u64, whole: u64) -> f64 {
    let thousandths = u128::from(part) * 1000 / u128::from(whole.max(1));
    f64::from(u32::try_from(thousandths).unwrap_or(u32::MAX)) / 1000.0
}
