//! The smallest change that would make an infeasible request feasible: fewest constraints changed, then least. Every answer
//! was tried with the planner itself.

use drystone_api::CompositionSpec;

use super::{
    Freed, Request,
    knobs::{Change, Knob, Level, apply, knobs, limit_level},
    problem::Problem,
    quick, score,
    tally::Attributes,
};

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
        self.attributes_with(levels).is_some()
    }

    fn attributes_with(&mut self, levels: &[Level]) -> Option<Attributes> {
        self.runs = self.runs.checked_sub(1)?;
        let (spec, freed) = self.apply(levels);
        let request = Request { spec: &spec, freed, ..self.problem.request.clone() };
        quick(&request, self.problem.snapshot).map(|(_, attributes)| attributes)
    }

    /// A limit needs to be loosened no further than to what was found with the looser one.
    fn exact(&mut self, level: Level, others: &[Level]) -> Level {
        let Change::Limit(name, value) = level.change else { return level };
        let all = score::limits(&self.problem.limits);
        let Some(limit) = all.into_iter().find(|limit| limit.name == name) else { return level };
        let levels: Vec<Level> = others.iter().chain([&level]).cloned().collect();
        let Some(found) = self.attributes_with(&levels) else { return level };
        let has = if limit.at_least { limit.has(&found).floor() } else { limit.has(&found).ceil() };
        let nearer = if limit.at_least { has > value } else { has < value };
        let exact = limit_level(&limit, has);
        let levels: Vec<Level> = others.iter().chain([&exact]).cloned().collect();
        if nearer && self.works(&levels) { exact } else { level }
    }

    /// The smallest step of a knob that works together with other changes; the last step is known to work.
    fn tightened(&mut self, knob: &Knob, others: &[Level]) -> Option<Level> {
        let (mut low, mut high) = (0, knob.len().checked_sub(1)?);
        while low < high {
            let middle = usize::midpoint(low, high);
            let levels: Vec<Level> = others.iter().chain([&knob[middle]]).cloned().collect();
            if self.works(&levels) { high = middle } else { low = middle + 1 }
        }
        let level = knob.get(high).cloned()?;
        Some(self.exact(level, others))
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
