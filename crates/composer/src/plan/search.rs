//! Local search: exchange one host of the best candidate for another eligible one, as long as that helps.

use std::collections::BTreeSet;

use super::{
    Assignment, Request,
    candidates::{max_hops, near_enough},
    filter::Funnel,
    score::{Ranking, Scored, attributes},
};
use crate::model::Snapshot;

/// Assignments looked at before the search is content with what it has.
const BUDGET: usize = 400;

/// Improves the best candidate; kept members stay.
pub fn improve(
    request: &Request<'_>,
    snapshot: &Snapshot,
    funnels: &[Funnel],
    kept: &Assignment,
    mut ranking: Ranking,
) -> Ranking {
    let mut budget = BUDGET;
    while let Some(better) = first_improvement(request, snapshot, funnels, kept, &ranking, &mut budget) {
        ranking.surpass(better);
    }
    ranking
}

fn first_improvement(
    request: &Request<'_>,
    snapshot: &Snapshot,
    funnels: &[Funnel],
    kept: &Assignment,
    ranking: &Ranking,
    budget: &mut usize,
) -> Option<Scored> {
    let best = ranking.best();
    let used: BTreeSet<usize> = best.assignment.iter().flatten().copied().collect();
    let site = used.first().map(|position| &snapshot.hosts[*position].site)?;
    for (group, members) in best.assignment.iter().enumerate() {
        for (place, member) in members.iter().enumerate() {
            if kept[group].contains(member) {
                continue;
            }
            let others = funnels[group].eligible.iter().filter(|host| !used.contains(host));
            for host in others.filter(|host| snapshot.hosts[**host].site == *site) {
                *budget = budget.checked_sub(1)?;
                let mut assignment = best.assignment.clone();
                assignment[group].remove(place);
                if !near_enough(snapshot, &assignment[group], *host, max_hops(request, group)) {
                    continue;
                }
                assignment[group].push(*host);
                assignment[group].sort_unstable();
                let attributes = attributes(request, snapshot, &assignment);
                let score = ranking.scale.score(&attributes);
                if score > best.score + 1e-9 {
                    let strategy = format!("{} + exchange", best.strategy.trim_end_matches(" + exchange"));
                    return Some(Scored { strategy, assignment, attributes, score });
                }
            }
        }
    }
    None
}
