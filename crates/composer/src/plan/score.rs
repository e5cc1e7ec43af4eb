//! Attributes of candidates, and their order by the user's weights.

use std::collections::BTreeSet;

use drystone_api::Weights;

use super::{
    Assignment, Request,
    candidates::{Candidate, waste},
};
use crate::model::{Host, Snapshot};

/// Seconds a powered-off host is assumed to take until its operating system runs, when nothing better is known.
pub const COLD_START_SECONDS: f64 = 120.0;

/// The same for a host that is on and has to boot another medium.
pub const WARM_START_SECONDS: f64 = 60.0;

/// What can be said of an assignment. Lower is better for all but `bandwidth` and `spread`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Attributes {
    /// Mean number of switches between two members that need a network.
    pub hops: f64,
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

impl Attributes {
    /// For people.
    pub fn wording(&self) -> String {
        format!(
            "{:.1} hops, {:.0} Gbit/s, {:.0} W, ready in {:.0} s, {:.0} % more than asked, {:.0} % own chassis",
            self.hops,
            self.bandwidth,
            self.watts,
            self.time_to_ready,
            self.fragmentation / 10.0,
            self.spread * 100.0
        )
    }

    const fn values(&self) -> [f64; 6] {
        // Negated where more is better, so that less is better everywhere.
        [self.hops, -self.bandwidth, self.watts, self.time_to_ready, self.fragmentation, -self.spread]
    }
}

/// Names of the attributes, in the order of their values.
pub const NAMES: [&str; 6] = ["hops", "bandwidth", "power", "time to ready", "fragmentation", "spread"];

const fn weight_values(weights: &Weights) -> [f64; 6] {
    [
        weights.hops,
        weights.bandwidth,
        weights.power,
        weights.time_to_ready,
        weights.fragmentation,
        weights.spread,
    ]
}

/// Measures an assignment. Paths and bandwidth are those of the groups that ask something of the network, if any does: how
/// near a control plane is to the accelerators is nobody's concern.
pub fn attributes(request: &Request<'_>, snapshot: &Snapshot, assignment: &Assignment) -> Attributes {
    let groups = || request.spec.groups.iter().zip(assignment);
    let all: Vec<&Host> = assignment.iter().flatten().map(|position| &snapshot.hosts[*position]).collect();
    let asking = groups().filter(|(group, _)| group.host.network.is_some());
    let mut connected: Vec<&Host> =
        asking.flat_map(|(_, members)| members).map(|position| &snapshot.hosts[*position]).collect();
    if connected.is_empty() {
        connected.clone_from(&all);
    }
    let count = f64::from(u32::try_from(all.len().max(1)).unwrap_or(u32::MAX));
    let mut pairs = 0.0_f64;
    let mut hops = 0.0_f64;
    for (index, a) in connected.iter().enumerate() {
        for b in &connected[index + 1..] {
            pairs += 1.0;
            hops += snapshot.distances.between(a, b).map_or(64.0, f64::from);
        }
    }
    let start = |on: bool| if on { WARM_START_SECONDS } else { COLD_START_SECONDS };
    let chassis: BTreeSet<&str> = all.iter().map(|host| host.chassis.as_str()).collect();
    let excess = groups().flat_map(|(group, members)| {
        members.iter().map(|position| to_f64(waste(&group.host, &snapshot.hosts[*position])))
    });
    Attributes {
        hops: hops / pairs.max(1.0),
        bandwidth: connected
            .iter()
            .map(|host| f64::from(host.bandwidth_gbps))
            .fold(f64::INFINITY, f64::min)
            .min(1e6),
        watts: all.iter().map(|host| f64::from(host.watts)).sum(),
        time_to_ready: all.iter().map(|host| start(host.powered_on)).fold(0.0, f64::max),
        fragmentation: excess.sum::<f64>() / count,
        spread: f64::from(u32::try_from(chassis.len()).unwrap_or(u32::MAX)) / count,
    }
}

fn to_f64(value: u64) -> f64 {
    f64::from(u32::try_from(value).unwrap_or(u32::MAX))
}

/// A candidate with its measures.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// Which strategy crafted it.
    pub strategy: String,
    /// Hosts of each group.
    pub assignment: Assignment,
    /// What can be said of it.
    pub attributes: Attributes,
    /// Weighed sum between 0 and 1, higher is better.
    pub score: f64,
}

/// Candidates in order, best first; never empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    best: Scored,
    /// The others, best first.
    pub others: Vec<Scored>,
    /// By which scale attributes were compared.
    pub scale: Scale,
}

impl Ranking {
    /// The best one.
    pub const fn best(&self) -> &Scored {
        &self.best
    }

    /// Replaces the best one; the former best stays among the others.
    pub fn surpass(&mut self, better: Scored) {
        let former = std::mem::replace(&mut self.best, better);
        self.others.insert(0, former);
    }
}

/// Range of each attribute over the candidates; what is equal everywhere does not count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    low: [f64; 6],
    high: [f64; 6],
    weights: [f64; 6],
}

impl Scale {
    fn over(all: &[Attributes], weights: &Weights) -> Self {
        let mut scale =
            Self { low: [f64::INFINITY; 6], high: [f64::NEG_INFINITY; 6], weights: weight_values(weights) };
        for attributes in all {
            for (index, value) in attributes.values().into_iter().enumerate() {
                scale.low[index] = scale.low[index].min(value);
                scale.high[index] = scale.high[index].max(value);
            }
        }
        scale
    }

    /// Contributions of the attributes to the score, each between 0 and its weight (a little beyond for values outside the range).
    pub fn contributions(&self, attributes: &Attributes) -> [f64; 6] {
        let mut contributions = [0.0; 6];
        for (index, value) in attributes.values().into_iter().enumerate() {
            let range = self.high[index] - self.low[index];
            let position = if range > 0.0 { (self.high[index] - value) / range } else { 1.0 };
            contributions[index] = position.clamp(-1.0, 2.0) * self.weights[index];
        }
        contributions
    }

    /// Weighed sum between 0 and 1 for values inside the range.
    pub fn score(&self, attributes: &Attributes) -> f64 {
        let total: f64 = self.weights.iter().sum();
        if total > 0.0 { self.contributions(attributes).iter().sum::<f64>() / total } else { 1.0 }
    }
}

/// The weights of a request.
pub fn weights(request: &Request<'_>) -> Weights {
    request.spec.weights.unwrap_or_else(|| request.spec.purpose.weights())
}

/// Measures and orders candidates; `None` if there are none.
pub fn rank(request: &Request<'_>, snapshot: &Snapshot, candidates: Vec<Candidate>) -> Option<Ranking> {
    let measured: Vec<Attributes> =
        candidates.iter().map(|candidate| attributes(request, snapshot, &candidate.assignment)).collect();
    let scale = Scale::over(&measured, &weights(request));
    let mut scored: Vec<Scored> = candidates
        .into_iter()
        .zip(measured)
        .map(|(candidate, attributes)| Scored {
            strategy: candidate.strategy,
            assignment: candidate.assignment,
            score: scale.score(&attributes),
            attributes,
        })
        .collect();
    scored.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.assignment.cmp(&b.assignment)));
    let mut scored = scored.into_iter();
    let best = scored.next()?;
    Some(Ranking { best, others: scored.collect(), scale })
}
