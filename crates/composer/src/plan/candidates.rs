//! Strategies that craft complete assignments. Each orders the eligible hosts in its own way and takes the first that fit
//! together.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    Assignment,
    problem::Problem,
    tally::{Attributes, Obstacle, Tally},
};
use crate::topology::UNREACHABLE_HOPS;

/// Most attachments that the strategy `closest` tries as a centre, for each site.
const MAX_CENTRES: usize = 32;

/// Most of these that the strategy `mixed` tries.
const MIXED_CENTRES: usize = 4;

/// Most attachments around a centre whose distances to each other are looked at.
const MAX_NEIGHBOURHOOD: usize = 256;

/// Most sites that are looked at.
const MAX_SITES: usize = 16;

/// Hosts in the order of these are taken, the least first; then in order of their names.
type Key = (u64, u64);

/// How a strategy orders hosts.
#[derive(Debug, Clone)]
enum Order {
    /// Least more than asked for.
    BestFit,
    /// Least power under load.
    LeastPower,
    /// Powered on first.
    FastestStart,
    /// Fastest port.
    Widest,
    /// One of each domain, then a second one of each. Ranks by host.
    Spread(HashMap<usize, u64>),
    /// Nearest to a centre, one attachment after the other. Ranks by attachment.
    Closest(Vec<u64>),
    /// All attributes at once, by their weights. Distances by attachment.
    Mixed(Vec<u16>),
}

/// A strategy, ready to be used.
#[derive(Debug, Clone)]
pub struct Strategy {
    /// Name.
    pub name: &'static str,
    site: u32,
    order: Order,
}

/// A complete assignment.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Which strategy crafted it.
    pub strategy: String,
    /// Hosts of each group, sorted.
    pub assignment: Assignment,
    /// What can be said of it.
    pub attributes: Attributes,
}

/// How far a strategy came that did not find enough hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Which.
    pub strategy: &'static str,
    /// Group that it could not fill.
    pub group: usize,
    /// How many hosts the group got.
    pub got: usize,
    /// How many hosts all groups got.
    pub total: usize,
    /// How many hosts each obstacle kept out.
    pub obstacles: BTreeMap<Obstacle, usize>,
}

/// Every strategy for every site, the cheap ones first.
pub fn strategies(problem: &Problem<'_>) -> Vec<Strategy> {
    let mut all = Vec::new();
    for site in sites(problem) {
        let mut add = |name, order| all.push(Strategy { name, site, order });
        add("best-fit", Order::BestFit);
        let centres = centres(problem, site);
        for centre in &centres {
            add("closest", Order::Closest(ranks_around(problem, *centre)));
        }
        add("least-power", Order::LeastPower);
        add("fastest-start", Order::FastestStart);
        add("widest", Order::Widest);
        add("spread", Order::Spread(spread_ranks(problem, site)));
        for centre in centres.iter().take(MIXED_CENTRES) {
            add("mixed", Order::Mixed(distances_from(problem, *centre)));
        }
        if centres.is_empty() {
            add("mixed", Order::Mixed(Vec::new()));
        }
    }
    all
}

impl Strategy {
    /// Fills every group: kept members first, scarce groups before plentiful ones.
    ///
    /// # Errors
    /// How far it came, if there were not enough hosts.
    pub fn craft(&self, problem: &Problem<'_>) -> Result<Candidate, Attempt> {
        let mut tally = Tally::new(problem);
        let mut used = vec![false; problem.snapshot.hosts.len()];
        for position in problem.kept.iter().flatten() {
            used[*position] = true;
        }
        let mut order: Vec<usize> = (0..problem.groups.len()).collect();
        order.sort_by_key(|group| (problem.groups[*group].eligible.len(), *group));
        for group in order {
            let mut obstacles = BTreeMap::new();
            self.fill(problem, &mut tally, &mut used, group, &mut obstacles);
            let got = tally.members(group).len();
            if got < problem.groups[group].wanted {
                let total = (0..problem.groups.len()).map(|group| tally.members(group).len()).sum();
                return Err(Attempt { strategy: self.name, group, got, total, obstacles });
            }
        }
        let attributes = tally.attributes();
        Ok(Candidate { strategy: self.name.to_owned(), assignment: tally.assignment(), attributes })
    }

    fn fill(
        &self,
        problem: &Problem<'_>,
        tally: &mut Tally<'_>,
        used: &mut [bool],
        group: usize,
        obstacles: &mut BTreeMap<Obstacle, usize>,
    ) {
        let wanted = problem.groups[group].wanted;
        let mut pool = self.pool(problem, group, used);
        let mut begin = 0;
        let mut chunk = (wanted * 4).max(64);
        while tally.members(group).len() < wanted && begin < pool.len() {
            let end = begin.saturating_add(chunk).min(pool.len());
            if end < pool.len() {
                pool[begin..].select_nth_unstable(end - begin);
            }
            pool[begin..end].sort_unstable();
            for (_, host) in &pool[begin..end] {
                if tally.members(group).len() >= wanted {
                    break;
                }
                match tally.obstacle(group, *host) {
                    None => {
                        tally.add(group, *host);
                        used[*host] = true;
                    }
                    Some(obstacle) => *obstacles.entry(obstacle).or_default() += 1,
                }
            }
            begin = end;
            chunk *= 4;
        }
    }

    fn pool(&self, problem: &Problem<'_>, group: usize, used: &[bool]) -> Vec<(Key, usize)> {
        let eligible = problem.groups[group].eligible.iter().copied();
        eligible
            .filter(|host| problem.snapshot.site(*host) == self.site && !used[*host])
            .map(|host| (self.key(problem, group, host), host))
            .collect()
    }

    /// The hosts that it would take first for a group, of those that are not used.
    pub fn first(&self, problem: &Problem<'_>, group: usize, used: &[bool], count: usize) -> Vec<usize> {
        let mut pool = self.pool(problem, group, used);
        if count < pool.len() {
            pool.select_nth_unstable(count);
            pool.truncate(count);
        }
        pool.sort_unstable();
        pool.into_iter().map(|(_, host)| host).collect()
    }

    /// Whether it is about this site.
    pub const fn is_for(&self, site: u32) -> bool {
        self.site == site
    }

    fn key(&self, problem: &Problem<'_>, group: usize, position: usize) -> Key {
        // What somebody would have to give back first comes last.
        let awaited = u64::from(problem.is_awaited(position)) << 62;
        let host = problem.host(position);
        let waste = problem.waste(group, position);
        let first = match &self.order {
            Order::BestFit => waste,
            Order::LeastPower => u64::from(host.watts),
            Order::FastestStart => u64::from(problem.start_seconds(position)),
            Order::Widest => u64::from(u32::MAX - host.bandwidth_gbps),
            Order::Spread(ranks) => ranks.get(&position).copied().unwrap_or(0),
            Order::Closest(ranks) => {
                ranks.get(problem.snapshot.attachment(position) as usize).copied().unwrap_or(u64::MAX >> 2)
            }
            Order::Mixed(distances) => mixed(problem, position, waste, distances),
        };
        (first.min(u64::MAX >> 2) | awaited, waste)
    }
}

/// A weighed sum of what one host adds to each attribute, in thousandths. The divisors bring usual values to about 1.
fn mixed(problem: &Problem<'_>, position: usize, waste: u64, distances: &[u16]) -> u64 {
    let (host, weights) = (problem.host(position), &problem.weights);
    let hops =
        distances.get(problem.snapshot.attachment(position) as usize).map_or(0.0, |hops| f64::from(*hops));
    let waste = f64::from(u32::try_from(waste).unwrap_or(u32::MAX));
    let sum = weights.hops * hops / 3.0
        + weights.power * f64::from(host.watts) / 1000.0
        + weights.time_to_ready * f64::from(problem.start_seconds(position)) / 120.0
        + weights.fragmentation * waste / 2000.0
        + weights.bandwidth * 100.0 / f64::from(host.bandwidth_gbps.max(1));
    // Rounded to a whole number that is surely in range: the order must not depend on how floats are summed.
    thousandths(sum)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the range of u32 before"
)]
fn thousandths(value: f64) -> u64 {
    (value * 1000.0).round().clamp(0.0, f64::from(u32::MAX)) as u64
}

/// Sites that have eligible hosts; where members exist already, only theirs. Who wants no hosts is served anywhere, also where there are none.
fn sites(problem: &Problem<'_>) -> Vec<u32> {
    let site = |position: &usize| problem.snapshot.site(*position);
    let existing: BTreeSet<u32> = problem.kept.iter().flatten().map(site).collect();
    let mut found = if existing.is_empty() {
        problem.groups.iter().flat_map(|group| &group.eligible).map(site).collect()
    } else {
        existing
    };
    if problem.groups.iter().all(|group| group.wanted == 0) {
        found.insert(0);
    }
    found.into_iter().take(MAX_SITES).collect()
}

/// Attachments worth trying as a centre: those of kept members, else those with the most eligible hosts, and some of the
/// others, evenly chosen.
fn centres(problem: &Problem<'_>, site: u32) -> Vec<u32> {
    let snapshot = problem.snapshot;
    let attached = |position: &usize| snapshot.attachment(*position);
    let is_attached = |attachment: &u32| !snapshot.switches_of(*attachment).is_empty();
    let kept: BTreeSet<u32> = problem.kept.iter().flatten().map(attached).filter(is_attached).collect();
    if !kept.is_empty() {
        return kept.into_iter().take(MAX_CENTRES).collect();
    }
    let mut count: BTreeMap<u32, usize> = BTreeMap::new();
    let connected = problem.groups.iter().filter(|group| group.connected && group.wanted > 0);
    let hosts = connected.flat_map(|group| &group.eligible).filter(|host| snapshot.site(**host) == site);
    for attachment in hosts.map(attached).filter(is_attached) {
        *count.entry(attachment).or_default() += 1;
    }
    let mut centres: Vec<(usize, u32)> =
        count.into_iter().map(|(attachment, count)| (count, attachment)).collect();
    centres.sort_by_key(|(count, attachment)| (std::cmp::Reverse(*count), *attachment));
    let centres: Vec<u32> = centres.into_iter().map(|(_, attachment)| attachment).collect();
    if centres.len() <= MAX_CENTRES {
        return centres;
    }
    let (best, rest) = centres.split_at(MAX_CENTRES / 2);
    let stride = rest.len().div_ceil(MAX_CENTRES / 2);
    best.iter().chain(rest.iter().step_by(stride)).copied().collect()
}

fn distances_from(problem: &Problem<'_>, centre: u32) -> Vec<u16> {
    let snapshot = problem.snapshot;
    let count = u32::try_from(snapshot.attachment_count()).unwrap_or(u32::MAX);
    (0..count).map(|other| snapshot.between(centre, other).unwrap_or(UNREACHABLE_HOPS)).collect()
}

/// In which order attachments are used up: by distance from the centre; where hosts must be near each other, those first
/// that have many eligible hosts within reach; then those with many hosts.
fn ranks_around(problem: &Problem<'_>, centre: u32) -> Vec<u64> {
    let distances = distances_from(problem, centre);
    let strictest = problem.groups.iter().filter_map(|group| group.max_hops).min();
    let mut eligible = vec![0_usize; distances.len()];
    for host in problem.groups.iter().filter(|group| group.connected).flat_map(|group| &group.eligible) {
        eligible[problem.snapshot.attachment(*host) as usize] += 1;
    }
    let mut order: Vec<(u16, u32)> = distances.iter().copied().zip(0_u32..).collect();
    order.sort_unstable();
    let mut reach = vec![0_usize; distances.len()];
    if let Some(max) = strictest {
        let near = order.iter().filter(|(hops, at)| *hops <= max && eligible[*at as usize] > 0);
        let near: Vec<u32> = near.map(|(_, attachment)| *attachment).take(MAX_NEIGHBOURHOOD).collect();
        for from in &near {
            let within = near
                .iter()
                .filter(|to| problem.snapshot.between(*from, **to).is_some_and(|hops| hops <= max));
            reach[*from as usize] = within.map(|to| eligible[*to as usize]).sum();
        }
    }
    let many = std::cmp::Reverse::<usize>;
    order.sort_by_key(|(hops, at)| (*hops, many(reach[*at as usize]), many(eligible[*at as usize]), *at));
    let mut ranks = vec![0; distances.len()];
    for ((_, attachment), rank) in order.into_iter().zip(0_u64..) {
        ranks[attachment as usize] = rank;
    }
    ranks
}

/// Position of a host among those of its domain: taking the first of each domain first spreads hosts out.
fn spread_ranks(problem: &Problem<'_>, site: u32) -> HashMap<usize, u64> {
    let by = problem.groups.iter().find_map(|group| group.spread.map(|spread| spread.by)).unwrap_or_default();
    let mut seen: HashMap<Vec<u32>, u64> = HashMap::new();
    let eligible: BTreeSet<usize> =
        problem.groups.iter().flat_map(|group| group.eligible.iter().copied()).collect();
    let ranks = eligible.into_iter().filter(|host| problem.snapshot.site(*host) == site).map(|host| {
        let rank = seen.entry(problem.snapshot.domains(host, by).to_vec()).or_insert(0);
        *rank += 1;
        (host, *rank)
    });
    ranks.collect()
}
