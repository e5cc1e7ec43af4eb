//! The order of candidates: first those inside the user's limits, then by the user's weights.

use drystone_api::{Limits, Weights};

use super::{Assignment, candidates::Candidate, problem::Problem, tally::Attributes};

/// Differences below this are none.
const EPSILON: f64 = 1e-9;

/// Names of the attributes that are weighed, in the order of their values.
pub const NAMES: [&str; 6] = ["hops", "bandwidth", "power", "time to ready", "fragmentation", "spread"];

impl Attributes {
    /// For people.
    pub fn wording(&self) -> String {
        format!(
            "{:.1} hops (at most {:.0}), {:.0} Gbit/s, {:.0} W, ready in {:.0} s, {:.0} % more than asked, {:.0} % own chassis",
            self.hops,
            self.max_hops,
            self.bandwidth,
            self.watts,
            self.time_to_ready,
            self.fragmentation / 10.0,
            self.spread * 100.0
        )
    }

    /// The value of one attribute, by its place among [`NAMES`], for people.
    pub fn show(&self, index: usize) -> String {
        match index {
            0 => format!("{:.2}", self.hops),
            1 => format!("{:.0} Gbit/s", self.bandwidth),
            2 => format!("{:.0} W", self.watts),
            3 => format!("{:.0} s", self.time_to_ready),
            4 => format!("{:.0} % more than asked", self.fragmentation / 10.0),
            _ => format!("{:.0} % own chassis", self.spread * 100.0),
        }
    }

    const fn values(&self) -> [f64; 6] {
        // Negated where more is better, so that less is better everywhere.
        [self.hops, -self.bandwidth, self.watts, self.time_to_ready, self.fragmentation, -self.spread]
    }

    /// The better of each attribute.
    #[must_use]
    pub fn best_of(self, other: Self) -> Self {
        Self {
            hops: self.hops.min(other.hops),
            max_hops: self.max_hops.min(other.max_hops),
            bandwidth: self.bandwidth.max(other.bandwidth),
            watts: self.watts.min(other.watts),
            time_to_ready: self.time_to_ready.min(other.time_to_ready),
            fragmentation: self.fragmentation.min(other.fragmentation),
            spread: self.spread.max(other.spread),
        }
    }
}

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

/// One limit of a request and how it is read off an assignment.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Name of the field in `spec.limits`.
    pub name: &'static str,
    /// The limit, in `unit`.
    pub wanted: f64,
    /// Unit, for people.
    pub unit: &'static str,
    /// Whether more is better.
    pub at_least: bool,
    read: fn(&Attributes) -> f64,
}

impl Limit {
    /// What an assignment has, in the limit's unit.
    pub fn has(&self, attributes: &Attributes) -> f64 {
        (self.read)(attributes)
    }

    /// By which part of itself the limit is missed; 0 if it is kept.
    pub fn excess(&self, attributes: &Attributes) -> f64 {
        let difference = if self.at_least {
            self.wanted - self.has(attributes)
        } else {
            self.has(attributes) - self.wanted
        };
        if difference > EPSILON { difference / self.wanted.max(1.0) } else { 0.0 }
    }

    /// A value with its unit.
    pub fn show(&self, value: f64) -> String {
        let number =
            if value.fract().abs() < EPSILON { format!("{value:.0}") } else { format!("{value:.1}") };
        if self.unit.is_empty() { number } else { format!("{number} {}", self.unit) }
    }
}

/// The limits that a request sets.
pub fn limits(limits: &Limits) -> Vec<Limit> {
    let at_most = |name, wanted, unit, read| Limit { name, wanted, unit, at_least: false, read };
    let at_least = |name, wanted, unit, read| Limit { name, wanted, unit, at_least: true, read };
    let megabits = limits.min_bandwidth.map(|bandwidth| bandwidth.0 / 1_000_000);
    let seconds = limits.max_time_to_ready.map(|span| span.0);
    let whole = |value: u64| f64::from(u32::try_from(value).unwrap_or(u32::MAX));
    let all: [Option<Limit>; 7] = [
        limits.max_hops.map(|most| at_most("maxHops", f64::from(most), "", |a| a.max_hops)),
        limits.max_mean_hops.map(|most| at_most("maxMeanHops", most, "", |a| a.hops)),
        limits.max_watts.map(|most| at_most("maxWatts", f64::from(most), "W", |a| a.watts)),
        seconds.map(|most| at_most("maxTimeToReady", whole(most), "s", |a| a.time_to_ready)),
        megabits.map(|least| at_least("minBandwidth", whole(least) / 1000.0, "Gbit/s", |a| a.bandwidth)),
        limits
            .max_fragmentation_percent
            .map(|most| at_most("maxFragmentationPercent", f64::from(most), "%", |a| a.fragmentation / 10.0)),
        limits
            .min_spread_percent
            .map(|least| at_least("minSpreadPercent", f64::from(least), "%", |a| a.spread * 100.0)),
    ];
    all.into_iter().flatten().collect()
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
    /// Sum of the parts by which limits are missed; 0 if it is acceptable.
    pub violation: f64,
    /// Weighed sum between 0 and 1, higher is better.
    pub score: f64,
}

impl Scored {
    /// Whether every limit is kept.
    pub fn is_acceptable(&self) -> bool {
        self.violation <= 0.0
    }
}

/// By what candidates are compared: the limits, the weights, and the range of each attribute over the first candidates; what
/// is equal everywhere does not count.
#[derive(Debug, Clone)]
pub struct Scale {
    low: [f64; 6],
    high: [f64; 6],
    weights: [f64; 6],
    /// The limits.
    pub limits: Vec<Limit>,
}

impl Scale {
    fn over<'a>(all: impl Iterator<Item = &'a Attributes>, problem: &Problem<'_>) -> Self {
        let mut scale = Self {
            low: [f64::INFINITY; 6],
            high: [f64::NEG_INFINITY; 6],
            weights: weight_values(&problem.weights),
            limits: limits(&problem.limits),
        };
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

    /// Sum of the parts by which limits are missed.
    pub fn violation(&self, attributes: &Attributes) -> f64 {
        self.limits.iter().map(|limit| limit.excess(attributes)).sum()
    }

    /// Whether the first pair of violation and score is really better than the second.
    pub fn is_better(one: (f64, f64), other: (f64, f64)) -> bool {
        one.0 < other.0 - EPSILON || (one.0 <= other.0 + EPSILON && one.1 > other.1 + EPSILON)
    }
}

/// Candidates in order, best first; never empty.
#[derive(Debug, Clone)]
pub struct Ranking {
    best: Scored,
    /// The others, best first.
    pub others: Vec<Scored>,
    /// By which scale they were compared.
    pub scale: Scale,
    /// The best value of each attribute that was seen.
    pub seen: Attributes,
    /// Number of assignments that were looked at.
    pub evaluated: u32,
}

impl Ranking {
    /// Orders candidates; `None` if there are none.
    pub fn of(problem: &Problem<'_>, candidates: Vec<Candidate>) -> Option<Self> {
        let evaluated = u32::try_from(candidates.len()).unwrap_or(u32::MAX);
        let scale = Scale::over(candidates.iter().map(|candidate| &candidate.attributes), problem);
        let seen = candidates.iter().map(|candidate| candidate.attributes).reduce(Attributes::best_of)?;
        let scored = candidates.into_iter().map(|candidate| Scored {
            violation: scale.violation(&candidate.attributes),
            score: scale.score(&candidate.attributes),
            strategy: candidate.strategy,
            assignment: candidate.assignment,
            attributes: candidate.attributes,
        });
        let mut scored: Vec<Scored> = scored.collect();
        scored.sort_by(|a, b| {
            let by_merit = a.violation.total_cmp(&b.violation).then(b.score.total_cmp(&a.score));
            by_merit.then_with(|| a.assignment.cmp(&b.assignment))
        });
        // Equal ones appear once.
        scored.dedup_by(|later, earlier| later.assignment == earlier.assignment);
        let mut scored = scored.into_iter();
        let best = scored.next()?;
        Some(Self { best, others: scored.collect(), scale, seen, evaluated })
    }

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
