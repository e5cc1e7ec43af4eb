//! An assignment under construction: what can be said of it, kept up to date host by host, in whole numbers so that adding
//! and removing leaves no trace.

use std::collections::{BTreeMap, HashMap};

use super::{Assignment, problem::Problem};
use crate::topology::UNREACHABLE_HOPS;

/// Why a host cannot join the ones that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Obstacle {
    /// Too far from others of its group.
    Hops,
    /// Too far from another group.
    HopsBetween(usize),
    /// Its domain has enough of the group.
    Spread,
    /// The chassis would draw too much power.
    ChassisPower,
    /// The pool keeps the rest.
    PoolReserve,
}

/// What can be said of an assignment. Lower is better for all but `bandwidth` and `spread`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Attributes {
    /// Mean number of switches between two members that need a network.
    pub hops: f64,
    /// Most switches between two such members.
    pub max_hops: f64,
    /// Speed of the slowest such member's fastest port in Gbit/s.
    pub bandwidth: f64,
    /// Power under load in watts.
    pub watts: f64,
    /// Seconds until the slowest member is ready.
    pub time_to_ready: f64,
    /// Mean excess over what each member's group asks for, in thousandths.
    pub fragmentation: f64,
    /// Share of members that have a chassis of their own.
    pub spread: f64,
}

/// The assignment.
#[derive(Debug, Clone)]
pub struct Tally<'a> {
    problem: &'a Problem<'a>,
    members: Assignment,
    count: u64,
    /// Attachments of each group's members, with how many have each.
    attachments: Vec<Vec<(u32, u32)>>,
    /// The same of all members that need the network.
    connected: Vec<(u32, u32)>,
    /// Pairs of such members by their distance.
    pairs: Vec<u64>,
    bandwidths: BTreeMap<u32, u32>,
    starts: BTreeMap<u32, u32>,
    watts: u64,
    excess: u64,
    chassis: HashMap<u32, u32>,
    /// Members of each group in each domain, where the group is spread.
    domains: Vec<HashMap<u32, u32>>,
    added_watts: HashMap<u32, u64>,
    from_pool: BTreeMap<usize, u32>,
}

impl<'a> Tally<'a> {
    /// With the members that stay.
    pub fn new(problem: &'a Problem<'a>) -> Self {
        let groups = problem.groups.len();
        let mut tally = Self {
            problem,
            members: vec![Vec::new(); groups],
            count: 0,
            attachments: vec![Vec::new(); groups],
            connected: Vec::new(),
            pairs: vec![0; usize::from(UNREACHABLE_HOPS) + 1],
            bandwidths: BTreeMap::new(),
            starts: BTreeMap::new(),
            watts: 0,
            excess: 0,
            chassis: HashMap::new(),
            domains: vec![HashMap::new(); groups],
            added_watts: HashMap::new(),
            from_pool: BTreeMap::new(),
        };
        for (group, members) in problem.kept.iter().enumerate() {
            for member in members {
                tally.add(group, *member);
            }
        }
        tally
    }

    /// Members of a group, in the order in which they came.
    pub fn members(&self, group: usize) -> &[usize] {
        &self.members[group]
    }

    /// Members of every group, sorted.
    pub fn assignment(&self) -> Assignment {
        let mut assignment = self.members.clone();
        for members in &mut assignment {
            members.sort_unstable();
        }
        assignment
    }

    /// Why a host cannot join a group; `None` if it can.
    pub fn obstacle(&self, group: usize, host: usize) -> Option<Obstacle> {
        let (problem, snapshot) = (self.problem, self.problem.snapshot);
        let wanted = &problem.groups[group];
        let attachment = snapshot.attachment(host);
        let within = |others: &[(u32, u32)], max: u16| {
            let mut distances = others.iter().map(|(other, _)| snapshot.between(*other, attachment));
            distances.all(|hops| hops.is_some_and(|hops| hops <= max))
        };
        if wanted.max_hops.is_some_and(|max| !within(&self.attachments[group], max)) {
            return Some(Obstacle::Hops);
        }
        let far = wanted.near.iter().find(|(other, max)| !within(&self.attachments[*other], *max));
        if let Some((other, _)) = far {
            return Some(Obstacle::HopsBetween(*other));
        }
        if let Some(spread) = wanted.spread {
            let mut domains = snapshot.domains(host, spread.by).iter();
            let present = |domain: &u32| self.domains[group].get(domain).copied().unwrap_or(0);
            if domains.any(|domain| present(domain) >= spread.max_per_domain) {
                return Some(Obstacle::Spread);
            }
        }
        if !problem.chassis_left.is_empty() {
            let chassis = snapshot.chassis(host);
            let added = self.added_watts.get(&chassis).copied().unwrap_or(0) + problem.added_watts(host);
            if problem.chassis_left.get(&chassis).is_some_and(|left| added > *left) {
                return Some(Obstacle::ChassisPower);
            }
        }
        let quota = problem.host(host).quota.and_then(|at| Some((at, problem.quota_left.get(&at)?)));
        let (at, left) = quota?;
        let taken = self.from_pool.get(&at).copied().unwrap_or(0);
        (taken >= *left).then_some(Obstacle::PoolReserve)
    }

    /// Adds a host to a group.
    pub fn add(&mut self, group: usize, host: usize) {
        self.members[group].push(host);
        self.count += 1;
        self.change(group, host, true);
    }

    /// Takes a host out of a group again.
    pub fn remove(&mut self, group: usize, host: usize) {
        let Some(place) = self.members[group].iter().position(|member| *member == host) else { return };
        self.members[group].remove(place);
        self.count -= 1;
        self.change(group, host, false);
    }

    fn change(&mut self, group: usize, position: usize, more: bool) {
        let (problem, snapshot) = (self.problem, self.problem.snapshot);
        let host = problem.host(position);
        let (attachment, chassis) = (snapshot.attachment(position), snapshot.chassis(position));
        let wanted = &problem.groups[group];
        // In this order: a host is in no pair with itself.
        if !more {
            count_attachment(&mut self.attachments[group], attachment, false);
        }
        if wanted.connected {
            if !more {
                count_attachment(&mut self.connected, attachment, false);
            }
            for (other, count) in &self.connected {
                let hops = snapshot.between(*other, attachment).unwrap_or(UNREACHABLE_HOPS);
                let pairs = &mut self.pairs[usize::from(hops.min(UNREACHABLE_HOPS))];
                *pairs = if more { *pairs + u64::from(*count) } else { *pairs - u64::from(*count) };
            }
            if more {
                count_attachment(&mut self.connected, attachment, true);
            }
            count_one(&mut self.bandwidths, host.bandwidth_gbps, more);
        }
        if more {
            count_attachment(&mut self.attachments[group], attachment, true);
        }
        count_one(&mut self.starts, problem.start_seconds(position), more);
        let step = |total: u64, part: u64| if more { total + part } else { total - part };
        self.watts = step(self.watts, u64::from(host.watts));
        self.excess = step(self.excess, problem.waste(group, position));
        count_hashed(&mut self.chassis, chassis, more);
        if let Some(spread) = wanted.spread {
            for domain in snapshot.domains(position, spread.by) {
                count_hashed(&mut self.domains[group], *domain, more);
            }
        }
        if !problem.chassis_left.is_empty() {
            let added = self.added_watts.entry(chassis).or_default();
            *added = step(*added, problem.added_watts(position));
        }
        if let Some(at) = host.quota.filter(|at| problem.quota_left.contains_key(at)) {
            count_one(&mut self.from_pool, at, more);
        }
    }

    /// What can be said of it now.
    pub fn attributes(&self) -> Attributes {
        let (mut pairs, mut hops, mut max_hops) = (0_u64, 0_u64, 0_u64);
        for (count, distance) in self.pairs.iter().zip(0_u64..) {
            if *count > 0 {
                pairs += count;
                hops += count * distance;
                max_hops = distance;
            }
        }
        if pairs == 0 && !self.connected.is_empty() {
            (hops, max_hops) = (1, 1);
        }
        let count = self.count.max(1);
        Attributes {
            hops: ratio(hops, pairs.max(1)),
            max_hops: to_f64(max_hops),
            bandwidth: self.bandwidths.keys().next().map_or(0.0, |slowest| f64::from(*slowest)),
            watts: to_f64(self.watts),
            time_to_ready: self.starts.keys().next_back().map_or(0.0, |last| f64::from(*last)),
            fragmentation: ratio(self.excess, count),
            spread: ratio(self.chassis.len() as u64, count),
        }
    }
}

fn count_attachment(list: &mut Vec<(u32, u32)>, attachment: u32, more: bool) {
    match list.iter().position(|(known, _)| *known == attachment) {
        Some(at) if more => list[at].1 += 1,
        Some(at) if list[at].1 == 1 => drop(list.swap_remove(at)),
        Some(at) => list[at].1 -= 1,
        None if more => list.push((attachment, 1)),
        None => {}
    }
}

fn count_one<K: Ord>(counts: &mut BTreeMap<K, u32>, key: K, more: bool) {
    let left = {
        let count = counts.entry(key).or_default();
        *count = if more { *count + 1 } else { count.saturating_sub(1) };
        *count
    };
    if left == 0 {
        counts.retain(|_, count| *count > 0);
    }
}

fn count_hashed(counts: &mut HashMap<u32, u32>, key: u32, more: bool) {
    let count = counts.entry(key).or_default();
    *count = if more { *count + 1 } else { count.saturating_sub(1) };
    if *count == 0 {
        counts.remove(&key);
    }
}

/// Whole numbers up to 2^32 as they are; attributes stay far below.
pub fn to_f64(value: u64) -> f64 {
    f64::from(u32::try_from(value).unwrap_or(u32::MAX))
}

fn ratio(part: u64, whole: u64) -> f64 {
    to_f64(part) / to_f64(whole)
}
