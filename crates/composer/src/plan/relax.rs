//! The smallest change that would make an infeasible request feasible: fewest constraints changed, then least. Every answer
//! was tried with the planner itself.

use drystone_api::{
    CompositionGroup, CompositionSpec, FailureDomain, ObjectReference,
    quantity::{Bandwidth, Memory, TimeSpan},
};

use super::{
    Freed, Request,
    filter::{bits, matching_accelerators, matching_drives},
    possible,
    problem::Problem,
    score,
};
use crate::model::Host;

/// Steps by which a constraint is loosened, at most.
const MAX_LEVELS: usize = 16;

/// Holders of hosts that are looked at.
const MAX_HOLDERS: usize = 4;

/// A verified relaxation.
#[derive(Debug, Clone, PartialEq)]
pub struct Relaxation {
    /// For people, to follow "it would work".
    pub words: String,
    /// The specification that works.
    pub spec: CompositionSpec,
    /// Who has to give hosts back for it.
    pub freed: Freed,
    /// Number of constraints changed.
    pub changes: usize,
}

/// What may be changed.
#[derive(Debug, Clone, PartialEq)]
enum Change {
    Count(usize, u32),
    Cores(usize, u32),
    Memory(usize, Memory),
    Storage(usize, Memory),
    Accelerators(usize, usize, u32),
    AnyModel(usize, usize),
    Drives(usize, usize, u32),
    Bandwidth(usize, Bandwidth),
    MaxHops(usize, u32),
    Between(usize, u32),
    PerDomain(usize, u32),
    Site(String),
    Isolation,
    Exclusions,
    Limit(&'static str, f64),
    GivenBack(ObjectReference),
}

/// One step of loosening.
#[derive(Debug, Clone)]
struct Level {
    change: Change,
    /// How large the change is, relative to what was asked.
    amount: f64,
    words: String,
}

/// A constraint with its steps, the smallest first; never empty.
type Knob = Vec<Level>;

/// Finds it.
pub fn smallest(problem: &Problem<'_>) -> Option<Relaxation> {
    let knobs = knobs(problem);
    // Large sites get fewer tries, so that an answer does not take long.
    let runs = (2_000_000 / problem.snapshot.hosts.len().max(1)).clamp(32, 200);
    let mut trial = Trial { problem, runs };
    let found = trial.singles(&knobs).or_else(|| trial.pairs(&knobs)).or_else(|| trial.minimal(&knobs))?;
    let (spec, freed) = trial.apply(&found);
    let words: Vec<&str> = found.iter().map(|level| level.words.as_str()).collect();
    Some(Relaxation { words: words.join(" and "), spec, freed, changes: found.len() })
}

struct Trial<'a> {
    problem: &'a Problem<'a>,
    runs: usize,
}

impl Trial<'_> {
    fn apply(&self, levels: &[Level]) -> (CompositionSpec, Freed) {
        let mut spec = self.problem.request.spec.clone();
        let mut holders = Vec::new();
        for level in levels {
            apply(&level.change, &mut spec, &mut holders);
        }
        let freed = if holders.is_empty() { Freed::Nobody } else { Freed::These(holders) };
        (spec, freed)
    }

    fn works(&mut self, levels: &[Level]) -> bool {
        let Some(left) = self.runs.checked_sub(1) else { return false };
        self.runs = left;
        let (spec, freed) = self.apply(levels);
        let request = Request { spec: &spec, freed, ..self.problem.request.clone() };
        possible(&request, self.problem.snapshot).is_some()
    }

    /// The smallest step of a knob that works together with other changes; the last step is known to work.
    fn tightened(&mut self, knob: &Knob, others: &[Level]) -> Option<Level> {
        let (mut low, mut high) = (0, knob.len().checked_sub(1)?);
        while low < high {
            let middle = usize::midpoint(low, high);
            let levels: Vec<Level> = others.iter().chain([&knob[middle]]).cloned().collect();
            if self.works(&levels) { high = middle } else { low = middle + 1 }
        }
        knob.get(high).cloned()
    }

    fn singles(&mut self, knobs: &[Knob]) -> Option<Vec<Level>> {
        let mut best: Option<Level> = None;
        for knob in knobs {
            // What is larger than the best at its least cannot be smaller.
            if best.as_ref().is_some_and(|best| knob.first().is_none_or(|level| level.amount >= best.amount))
            {
                continue;
            }
            let Some(last) = knob.last().cloned() else { continue };
            if !self.works(&[last]) {
                continue;
            }
            let level = self.tightened(knob, &[])?;
            if best.as_ref().is_none_or(|best| level.amount < best.amount) {
                best = Some(level);
            }
        }
        best.map(|level| vec![level])
    }

    fn pairs(&mut self, knobs: &[Knob]) -> Option<Vec<Level>> {
        let mut best: Option<Vec<Level>> = None;
        let amount = |levels: &[Level]| levels.iter().map(|level| level.amount).sum::<f64>();
        for (at, one) in knobs.iter().enumerate() {
            for other in &knobs[at + 1..] {
                let (Some(first), Some(second)) = (one.last(), other.last()) else { continue };
                if self.runs < 12 || !self.works(&[first.clone(), second.clone()]) {
                    continue;
                }
                let first = self.tightened(one, std::slice::from_ref(second))?;
                let second = self.tightened(other, std::slice::from_ref(&first))?;
                let found = vec![first, second];
                if best.as_ref().is_none_or(|best| amount(&found) < amount(best)) {
                    best = Some(found);
                }
            }
        }
        best
    }

    /// Everything loosened, then taken back one by one as long as it still works: none of the rest can be left out.
    fn minimal(&mut self, knobs: &[Knob]) -> Option<Vec<Level>> {
        // Enough for this, whatever was tried before.
        self.runs = self.runs.max(6 * knobs.len());
        let mut kept: Vec<&Knob> = knobs.iter().filter(|knob| !knob.is_empty()).collect();
        let last =
            |kept: &[&Knob]| kept.iter().filter_map(|knob| knob.last().cloned()).collect::<Vec<Level>>();
        if !self.works(&last(&kept)) {
            return None;
        }
        let mut at = kept.len();
        while at > 0 {
            at -= 1;
            let mut without = kept.clone();
            without.remove(at);
            if self.works(&last(&without)) {
                kept = without;
            }
        }
        let mut levels = last(&kept);
        for (at, knob) in kept.iter().enumerate() {
            let others: Vec<Level> = levels
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != at)
                .map(|(_, level)| level.clone())
                .collect();
            levels[at] = self.tightened(knob, &others)?;
        }
        Some(levels)
    }
}

fn apply(change: &Change, spec: &mut CompositionSpec, holders: &mut Vec<ObjectReference>) {
    match change {
        Change::Count(group, count) => spec.groups[*group].count = *count,
        Change::Cores(group, cores) => spec.groups[*group].host.cores = *cores,
        Change::Memory(group, memory) => spec.groups[*group].host.memory = Some(*memory),
        Change::Storage(group, storage) => spec.groups[*group].host.storage = Some(*storage),
        Change::Accelerators(group, at, count) => spec.groups[*group].host.accelerators[*at].count = *count,
        Change::AnyModel(group, at) => spec.groups[*group].host.accelerators[*at].model = None,
        Change::Drives(group, at, count) => spec.groups[*group].host.drives[*at].count = *count,
        Change::Bandwidth(group, bandwidth) => {
            spec.groups[*group].host.network.get_or_insert_default().min_bandwidth = Some(*bandwidth);
        }
        Change::MaxHops(group, hops) => {
            spec.groups[*group].host.network.get_or_insert_default().max_hops = Some(*hops);
        }
        Change::Between(at, hops) => spec.hop_limits[*at].max_hops = *hops,
        Change::PerDomain(group, most) => {
            spec.groups[*group].spread.get_or_insert_default().max_per_domain = *most;
        }
        Change::Site(site) => spec.site = Some(site.clone()),
        Change::Isolation => spec.isolated_by = None,
        Change::Exclusions => spec.exclude_hosts.clear(),
        Change::Limit(name, value) => set_limit(spec, name, *value),
        Change::GivenBack(holder) => holders.push(holder.clone()),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the range of u32 before"
)]
fn whole(value: f64) -> u32 {
    value.clamp(0.0, f64::from(u32::MAX)) as u32
}

fn set_limit(spec: &mut CompositionSpec, name: &str, value: f64) {
    let limits = spec.limits.get_or_insert_default();
    match name {
        "maxHops" => limits.max_hops = Some(whole(value)),
        "maxMeanHops" => limits.max_mean_hops = Some(value),
        "maxWatts" => limits.max_watts = Some(whole(value)),
        "maxTimeToReady" => limits.max_time_to_ready = Some(TimeSpan(u64::from(whole(value)))),
        "minBandwidth" => {
            limits.min_bandwidth = Some(Bandwidth(u64::from(whole(value * 1000.0)) * 1_000_000));
        }
        "maxFragmentationPercent" => limits.max_fragmentation_percent = Some(whole(value)),
        _ => limits.min_spread_percent = Some(whole(value)),
    }
}

/// Everything that could be loosened, as far as it could matter.
fn knobs(problem: &Problem<'_>) -> Vec<Knob> {
    let spec = problem.request.spec;
    let mut all: Vec<Knob> = Vec::new();
    for (at, group) in spec.groups.iter().enumerate() {
        all.extend(of_hardware(problem, at, group));
        all.extend(of_network(problem, at, group));
        all.push(of_count(at, group));
    }
    all.extend(spec.hop_limits.iter().enumerate().map(|(at, limit)| {
        let to = |hops| {
            format!("with {hops} instead of {} hops between {} and {}", limit.max_hops, limit.from, limit.to)
        };
        more_hops(limit.max_hops, |hops| Change::Between(at, hops), to)
    }));
    all.extend(of_limits(problem));
    all.push(of_site(problem));
    if let Some(by) = spec.isolated_by {
        all.push(vec![alone(Change::Isolation, 1.0, format!("with others in the same {by}"))]);
    }
    if !spec.exclude_hosts.is_empty() {
        let words = format!("with the {} excluded hosts", spec.exclude_hosts.len());
        all.push(vec![alone(Change::Exclusions, 1.0, words)]);
    }
    all.extend(of_holders(problem));
    all.retain(|knob| !knob.is_empty());
    all
}

const fn alone(change: Change, amount: f64, words: String) -> Level {
    Level { change, amount, words }
}

/// Steps down from what was asked to what hosts have.
fn downwards<T: Copy>(
    problem: &Problem<'_>,
    asked: u64,
    read: impl Fn(&Host) -> u64,
    make: impl Fn(u64) -> T,
    level: impl Fn(T, f64) -> Level,
) -> Knob {
    let mut values: Vec<u64> = problem.snapshot.hosts.iter().map(read).filter(|has| *has < asked).collect();
    values.sort_unstable_by(|a, b| b.cmp(a));
    values.dedup();
    let stride = values.len().div_ceil(MAX_LEVELS).max(1);
    let last = values.last().copied();
    let mut chosen: Vec<u64> = values.into_iter().step_by(stride).collect();
    chosen.extend(last.filter(|last| chosen.last() != Some(last)));
    chosen.into_iter().map(|value| level(make(value), 1.0 - ratio(value, asked))).collect()
}

fn of_hardware(problem: &Problem<'_>, at: usize, group: &CompositionGroup) -> Vec<Knob> {
    let (host, name) = (&group.host, &group.name);
    let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let mut knobs = vec![downwards(
        problem,
        u64::from(host.cores),
        |h| u64::from(h.cores),
        narrow,
        |cores, amount| {
            let words = format!("with cores >= {cores} instead of {} in group {name}", host.cores);
            alone(Change::Cores(at, cores), amount, words)
        },
    )];
    knobs.extend(host.memory.map(|asked| {
        downwards(
            problem,
            asked.0,
            |h| h.memory.0,
            Memory,
            |memory, amount| {
                let words = format!("with memory >= {memory} instead of {asked} in group {name}");
                alone(Change::Memory(at, memory), amount, words)
            },
        )
    }));
    knobs.extend(host.storage.map(|asked| {
        downwards(
            problem,
            asked.0,
            |h| h.storage.0,
            Memory,
            |storage, amount| {
                let words = format!("with storage >= {storage} instead of {asked} in group {name}");
                alone(Change::Storage(at, storage), amount, words)
            },
        )
    }));
    for (index, wanted) in host.accelerators.iter().enumerate() {
        let what = format!("{:?} {}", wanted.kind, wanted.model.as_deref().unwrap_or("of any model"));
        let read = |h: &Host| u64::from(matching_accelerators(h, wanted));
        knobs.push(downwards(problem, u64::from(wanted.count), read, narrow, |count, amount| {
            let words =
                format!("with {count} instead of {} accelerators ({what}) in group {name}", wanted.count);
            alone(Change::Accelerators(at, index, count), amount, words)
        }));
        if let Some(model) = &wanted.model {
            let words = format!("with any model instead of {model} in group {name}");
            knobs.push(vec![alone(Change::AnyModel(at, index), 0.4, words)]);
        }
    }
    for (index, wanted) in host.drives.iter().enumerate() {
        let read = |h: &Host| u64::from(matching_drives(h, wanted));
        knobs.push(downwards(problem, u64::from(wanted.count), read, narrow, |count, amount| {
            let words = format!("with {count} instead of {} such drives in group {name}", wanted.count);
            alone(Change::Drives(at, index, count), amount, words)
        }));
    }
    knobs
}

fn of_network(problem: &Problem<'_>, at: usize, group: &CompositionGroup) -> Vec<Knob> {
    let name = &group.name;
    let network = group.host.network.clone().unwrap_or_default();
    let mut knobs = Vec::new();
    knobs.extend(network.min_bandwidth.map(|asked| {
        downwards(problem, asked.0, bits, Bandwidth, |bandwidth, amount| {
            let words = format!("with bandwidth >= {bandwidth} instead of {asked} in group {name}");
            alone(Change::Bandwidth(at, bandwidth), amount, words)
        })
    }));
    knobs.extend(network.max_hops.map(|asked| {
        let words = |hops| format!("with maxHops {hops} instead of {asked} in group {name}");
        more_hops(asked, |hops| Change::MaxHops(at, hops), words)
    }));
    knobs.extend(group.spread.as_ref().map(|spread| {
        let by: FailureDomain = spread.by;
        let mut most: Vec<u32> = (0..8)
            .map(|step| spread.max_per_domain.saturating_add(1 << step))
            .filter(|most| *most < group.count)
            .collect();
        most.extend((group.count > spread.max_per_domain).then_some(group.count));
        let level = |most: u32| {
            let words =
                format!("with {most} instead of {} hosts per {by} in group {name}", spread.max_per_domain);
            let amount = 1.0 - ratio(u64::from(spread.max_per_domain), u64::from(most));
            alone(Change::PerDomain(at, most), amount, words)
        };
        most.into_iter().map(level).collect()
    }));
    knobs
}

fn more_hops(asked: u32, change: impl Fn(u32) -> Change, words: impl Fn(u32) -> String) -> Knob {
    let steps = [1, 2, 3, 4, 6, 8, 16, 64];
    let hops = steps.into_iter().map(|step| asked.saturating_add(step));
    hops.map(|hops| alone(change(hops), 1.0 - ratio(u64::from(asked), u64::from(hops)), words(hops)))
        .collect()
}

fn of_count(at: usize, group: &CompositionGroup) -> Knob {
    let wanted = group.count;
    let mut counts: Vec<u32> = (1..=8).filter_map(|fewer| wanted.checked_sub(fewer)).collect();
    counts.extend((1..=16).map(|part| wanted.saturating_sub(8) * (16 - part) / 16));
    counts.retain(|count| *count > 0);
    counts.dedup();
    let level = |count: u32| {
        let fewer = wanted - count;
        let hosts = if fewer == 1 { "host" } else { "hosts" };
        let words =
            format!("with {fewer} {hosts} fewer in group {} ({count} instead of {wanted})", group.name);
        alone(Change::Count(at, count), 0.5 + ratio(u64::from(fewer), u64::from(wanted)), words)
    };
    counts.into_iter().map(level).collect()
}

fn of_site(problem: &Problem<'_>) -> Knob {
    let Some(asked) = &problem.request.spec.site else { return Knob::new() };
    let mut sites: Vec<&str> = problem.snapshot.hosts.iter().map(|host| host.site.as_str()).collect();
    sites.sort_unstable();
    sites.dedup();
    // The steps of a knob must be more and more permissive; sites are not, so that only one of them is tried: the largest.
    let size = |site: &str| problem.snapshot.hosts.iter().filter(|host| host.site == site).count();
    let other = sites.into_iter().filter(|site| site != asked).max_by_key(|site| size(site));
    let level =
        |site: &str| alone(Change::Site(site.to_owned()), 0.9, format!("in site {site} instead of {asked}"));
    other.map(level).into_iter().collect()
}

/// Each limit, loosened to what is reached without it.
fn of_limits(problem: &Problem<'_>) -> Vec<Knob> {
    let all = score::limits(&problem.limits);
    let knob = |limit: &score::Limit| {
        let steps = [0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0, 8.0, 64.0];
        let value = |step: f64| {
            let raw = if limit.at_least {
                limit.wanted * (1.0 - step.min(1.0))
            } else {
                limit.wanted * (1.0 + step)
            };
            if limit.at_least { raw.floor() } else { raw.ceil() }
        };
        let mut values: Vec<f64> =
            steps.into_iter().map(value).filter(|value| *value != limit.wanted).collect();
        values.dedup();
        let level = |value: f64| {
            let words =
                format!("with {} {} instead of {}", limit.name, limit.show(value), limit.show(limit.wanted));
            let (low, high) =
                if value < limit.wanted { (value, limit.wanted) } else { (limit.wanted, value) };
            alone(Change::Limit(limit.name, value), 1.0 - low / high.max(1.0), words)
        };
        values.into_iter().map(level).collect::<Knob>()
    };
    all.iter().map(knob).collect()
}

/// Whoever has hosts, those with a known end first.
fn of_holders(problem: &Problem<'_>) -> Vec<Knob> {
    let mut holders: Vec<(&ObjectReference, u32)> = Vec::new();
    for (position, host) in problem.snapshot.hosts.iter().enumerate() {
        let Some(consumer) = host.consumer.as_ref().filter(|_| problem.is_awaited(position)) else {
            continue;
        };
        match holders.iter().position(|(known, _)| *known == consumer) {
            Some(at) => holders[at].1 += 1,
            None if holders.len() < 64 => holders.push((consumer, 1)),
            None => {}
        }
    }
    let until = |holder: &ObjectReference| {
        let tenants = problem.snapshot.tenants.iter();
        tenants
            .filter(|tenant| tenant.owner.name == holder.name && tenant.owner.namespace == holder.namespace)
            .find_map(|tenant| tenant.until)
    };
    let mut found: Vec<_> =
        holders.into_iter().map(|(holder, count)| (until(holder), holder, count)).collect();
    found.sort_by(|a, b| (a.0.is_none(), a.0, a.1).cmp(&(b.0.is_none(), b.0, b.1)));
    let knob = |(until, holder, count): (Option<k8s_openapi::jiff::Timestamp>, &ObjectReference, u32)| {
        let hosts = if count == 1 { "its host".to_owned() } else { format!("its {count} hosts") };
        let words = match until {
            Some(until) => format!("once {holder} gives back {hosts}, at {until:.0} at the latest"),
            None => format!("once {holder} gives back {hosts}"),
        };
        let amount = if until.is_some() { 0.95 } else { 3.0 };
        vec![alone(Change::GivenBack(holder.clone()), amount, words)]
    };
    found.into_iter().take(MAX_HOLDERS).map(knob).collect()
}

/// `part / whole` in thousandths, as a fraction.
fn ratio(part: u64, whole: u64) -> f64 {
    let thousandths = u128::from(part) * 1000 / u128::from(whole.max(1));
    f64::from(u32::try_from(thousandths).unwrap_or(u32::MAX)) / 1000.0
}
