//! Local search: exchange one host of a good candidate for another eligible one, as long as that helps and the budget lasts.
//! The budget is counted in assignments looked at, so that the same question always has the same answer.

use std::collections::BTreeSet;

use super::{
    candidates::Strategy,
    problem::Problem,
    score::{Ranking, Scale, Scored},
    tally::Tally,
};

/// Hosts that each strategy proposes as replacements in a group.
const PROPOSALS: usize = 12;

/// Candidates that are improved while none is acceptable.
const STARTS: usize = 4;

/// Most strategies that propose replacements.
const PROPOSERS: usize = 10;

/// Improves the best candidate, and others as well while none is inside the limits.
pub fn improve(problem: &Problem<'_>, strategies: &[Strategy], mut ranking: Ranking, budget: u32) -> Ranking {
    let starts: Vec<Scored> =
        std::iter::once(ranking.best()).chain(&ranking.others).take(STARTS).cloned().collect();
    let mut left = budget;
    for start in starts {
        let better = climb(problem, strategies, &mut ranking, start, &mut left);
        let (new, old) = ((better.violation, better.score), (ranking.best().violation, ranking.best().score));
        if Scale::is_better(new, old) {
            ranking.surpass(better);
        }
        if ranking.best().is_acceptable() || left == 0 {
            break;
        }
    }
    ranking.evaluated = ranking.evaluated.saturating_add(budget - left);
    ranking
}

/// Exchanges until nothing gets better.
fn climb(
    problem: &Problem<'_>,
    strategies: &[Strategy],
    ranking: &mut Ranking,
    mut best: Scored,
    left: &mut u32,
) -> Scored {
    loop {
        let mut climber = Climber { problem, tally: tally_of(problem, &best), ranking, left, moved: false };
        climber.pass(strategies, &mut best);
        if !climber.moved || *left == 0 {
            return best;
        }
    }
}

fn tally_of<'a>(problem: &'a Problem<'a>, scored: &Scored) -> Tally<'a> {
    let mut tally = Tally::new(problem);
    for (group, members) in scored.assignment.iter().enumerate() {
        for member in members.iter().filter(|member| !problem.kept[group].contains(member)) {
            tally.add(group, *member);
        }
    }
    tally
}

struct Climber<'a, 'b> {
    problem: &'a Problem<'a>,
    tally: Tally<'a>,
    ranking: &'b mut Ranking,
    left: &'b mut u32,
    moved: bool,
}

impl Climber<'_, '_> {
    /// Tries to replace each member once by the best of the hosts that strategies propose.
    fn pass(&mut self, strategies: &[Strategy], best: &mut Scored) {
        let problem = self.problem;
        let Some(any) = best.assignment.iter().flatten().next() else { return };
        let site = problem.snapshot.site(*any);
        let mut used = vec![false; problem.snapshot.hosts.len()];
        for member in best.assignment.iter().flatten() {
            used[*member] = true;
        }
        for group in 0..problem.groups.len() {
            let movable: Vec<usize> = best.assignment[group]
                .iter()
                .copied()
                .filter(|member| !problem.kept[group].contains(member))
                .collect();
            if movable.is_empty() {
                continue;
            }
            let mut proposed = proposals(problem, strategies, site, group, &used);
            for member in movable {
                if *self.left == 0 {
                    return;
                }
                if let Some(replacement) = self.replace(group, member, &proposed, best) {
                    used[member] = false;
                    used[replacement] = true;
                    proposed.retain(|host| *host != replacement);
                    proposed.push(member);
                }
            }
        }
    }

    /// Replaces a member by the proposed host that makes the assignment best, if any makes it better.
    fn replace(
        &mut self,
        group: usize,
        member: usize,
        proposed: &[usize],
        best: &mut Scored,
    ) -> Option<usize> {
        self.tally.remove(group, member);
        let mut found: Option<(usize, f64, f64)> = None;
        for host in proposed {
            if *self.left == 0 {
                break;
            }
            if self.tally.obstacle(group, *host).is_some() {
                continue;
            }
            *self.left -= 1;
            self.tally.add(group, *host);
            let attributes = self.tally.attributes();
            self.tally.remove(group, *host);
            self.ranking.seen = self.ranking.seen.best_of(attributes);
            let merit = (self.ranking.scale.violation(&attributes), self.ranking.scale.score(&attributes));
            let to_beat =
                found.map_or((best.violation, best.score), |(_, violation, score)| (violation, score));
            if Scale::is_better(merit, to_beat) {
                found = Some((*host, merit.0, merit.1));
            }
        }
        let Some((host, violation, score)) = found else {
            self.tally.add(group, member);
            return None;
        };
        self.tally.add(group, host);
        self.moved = true;
        let strategy = format!("{} + exchange", best.strategy.trim_end_matches(" + exchange"));
        let (assignment, attributes) = (self.tally.assignment(), self.tally.attributes());
        *best = Scored { strategy, assignment, attributes, violation, score };
        Some(host)
    }
}

/// Hosts that could take part instead, as the strategies would take them; each once, in a fixed order.
fn proposals(
    problem: &Problem<'_>,
    strategies: &[Strategy],
    site: u32,
    group: usize,
    used: &[bool],
) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    // Two of those that have a centre, one of each other kind.
    let proposers = strategies.iter().filter(|strategy| strategy.is_for(site)).filter(|strategy| {
        names.push(strategy.name);
        names.iter().filter(|name| **name == strategy.name).count() <= 2
    });
    for strategy in proposers.take(PROPOSERS) {
        for host in strategy.first(problem, group, used, PROPOSALS) {
            if seen.insert(host) {
                all.push(host);
            }
        }
    }
    all
}
