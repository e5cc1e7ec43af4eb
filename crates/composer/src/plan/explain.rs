//! Words for a choice.

use drystone_api::{CandidateReport, Explanation, FunnelStage, LimitReport};

use super::{
    candidates::Attempt,
    filter::{self, Neighbours},
    problem::Problem,
    relax,
    score::{NAMES, Ranking, Scored},
    tally::Obstacle,
};

/// Most candidates that an explanation lists.
const MAX_CANDIDATES: usize = 8;

/// Most hosts of a candidate that are listed by name.
const MAX_NAMES: usize = 64;

/// Most attempts that an explanation lists.
const MAX_ATTEMPTS: usize = 8;

fn stages(problem: &Problem<'_>) -> Vec<FunnelStage> {
    let around = Neighbours::new(problem.request, problem.snapshot);
    problem.request.spec.groups.iter().flat_map(|group| filter::funnel(&around, group)).collect()
}

/// Names of hosts, up to a number.
fn capped<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> Vec<String> {
    let more = names.len().saturating_sub(MAX_NAMES);
    let mut listed: Vec<String> = names.take(MAX_NAMES).map(str::to_owned).collect();
    if more > 0 {
        listed.push(format!("and {more} more"));
    }
    listed
}

fn names(problem: &Problem<'_>, scored: &Scored) -> Vec<String> {
    let hosts: Vec<usize> = scored.assignment.iter().flatten().copied().collect();
    capped(hosts.iter().map(|position| problem.host(*position).name.as_str()))
}

/// Explains a choice.
pub fn chosen(problem: &Problem<'_>, ranking: &Ranking) -> Explanation {
    let best = ranking.best();
    let groups = problem.groups.iter().zip(&best.assignment).filter(|(_, hosts)| !hosts.is_empty());
    let hosts: Vec<String> = groups
        .map(|(group, hosts)| {
            let names = capped(hosts.iter().map(|position| problem.host(*position).name.as_str()));
            format!("{} for {}", names.join(", "), group.name)
        })
        .collect();
    let runner_up = match ranking.others.first() {
        Some(other) => format!("; the next best ({}) {}", other.strategy, lost_because(ranking, other)),
        None => "; there was no other candidate".to_owned(),
    };
    let summary = format!(
        "{}: {} by strategy {} with {}{runner_up}.",
        problem.request.owner.name,
        if hosts.is_empty() { "no hosts".to_owned() } else { hosts.join(" and ") },
        best.strategy,
        best.attributes.wording()
    );
    Explanation {
        summary,
        funnel: stages(problem),
        candidates: reports(problem, ranking, true),
        evaluated: ranking.evaluated,
        ..Default::default()
    }
}

fn reports(problem: &Problem<'_>, ranking: &Ranking, granted: bool) -> Vec<CandidateReport> {
    let report = |scored: &Scored, first: bool| CandidateReport {
        strategy: scored.strategy.clone(),
        hosts: names(problem, scored),
        score: (scored.score * 1000.0).round() / 1000.0,
        attributes: scored.attributes.wording(),
        chosen: first && granted,
        lost_because: match (first, granted) {
            (true, true) => String::new(),
            (true, false) => missed(ranking, scored),
            (false, _) => lost_because(ranking, scored),
        },
    };
    let others = ranking.others.iter().take(MAX_CANDIDATES - 1).map(|other| report(other, false));
    std::iter::once(report(ranking.best(), true)).chain(others).collect()
}

/// The limits that a candidate misses.
fn missed(ranking: &Ranking, scored: &Scored) -> String {
    let limits = ranking.scale.limits.iter().filter(|limit| limit.excess(&scored.attributes) > 0.0);
    let limits: Vec<String> = limits
        .map(|limit| {
            let has = limit.show(limit.has(&scored.attributes));
            format!("misses {} {} with {has}", limit.name, limit.show(limit.wanted))
        })
        .collect();
    limits.join(", ")
}

/// A limit that it misses, or the attribute that made most of the difference.
fn lost_because(ranking: &Ranking, other: &Scored) -> String {
    if other.violation > ranking.best().violation {
        return missed(ranking, other);
    }
    let best = ranking.scale.contributions(&ranking.best().attributes);
    let theirs = ranking.scale.contributions(&other.attributes);
    let differences = best.iter().zip(theirs).map(|(mine, theirs)| mine - theirs);
    let worst = differences
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .filter(|(_, difference)| *difference > 1e-9);
    match worst {
        Some((index, _)) => format!(
            "lost by {}: {} instead of {}",
            NAMES[index],
            other.attributes.show(index),
            ranking.best().attributes.show(index)
        ),
        None => "is as good; the first in order of names was taken".to_owned(),
    }
}

/// Explains why no candidate is acceptable.
pub fn unacceptable(problem: &Problem<'_>, ranking: &Ranking) -> Explanation {
    let best = ranking.best();
    let missing = ranking.scale.limits.iter().filter(|limit| limit.excess(&best.attributes) > 0.0);
    let limits: Vec<LimitReport> = missing
        .map(|limit| LimitReport {
            limit: format!("{} {}", limit.name, limit.show(limit.wanted)),
            has: limit.show(limit.has(&best.attributes)),
            by: format!("{:.0} %", (limit.excess(&best.attributes) * 100.0).ceil()),
            best_seen: limit.show(limit.has(&ranking.seen)),
        })
        .collect();
    let words = limits.iter().map(|limit| {
        format!("{} is missed by {} ({}; best seen {})", limit.limit, limit.by, limit.has, limit.best_seen)
    });
    let summary = format!(
        "there are enough hosts, but none of {} assignments is acceptable: {}",
        ranking.evaluated,
        words.collect::<Vec<_>>().join("; ")
    );
    let relaxation = relax::smallest(problem).map(|relaxation| relaxation.words).unwrap_or_default();
    Explanation {
        summary,
        funnel: stages(problem),
        candidates: reports(problem, ranking, false),
        relaxation,
        limits,
        attempts: Vec::new(),
        evaluated: ranking.evaluated,
    }
}

/// Explains why there are not enough hosts.
pub fn short(problem: &Problem<'_>, attempts: &[Attempt]) -> Explanation {
    let funnel = stages(problem);
    let lacking: Vec<String> = problem
        .groups
        .iter()
        .zip(&problem.kept)
        .filter_map(|(group, kept)| {
            let new = group.eligible.iter().filter(|host| !kept.contains(host)).count();
            (new + kept.len() < group.wanted)
                .then(|| lacks(problem, &funnel, group.name, new + kept.len(), group.wanted))
        })
        .collect();
    let tried = attempts_in_words(problem, attempts);
    let summary = if lacking.is_empty() {
        let furthest = tried.first().map(|attempt| format!(" ({attempt})")).unwrap_or_default();
        format!(
            "each group alone has enough hosts, but no strategy found all of them together: hosts, sites, distances, domains \
             or budgets are in each other's way{furthest}"
        )
    } else {
        lacking.join("; ")
    };
    let relaxation = relax::smallest(problem).map(|relaxation| relaxation.words).unwrap_or_default();
    let evaluated = u32::try_from(attempts.len()).unwrap_or(u32::MAX);
    Explanation { summary, funnel, relaxation, attempts: tried, evaluated, ..Default::default() }
}

fn lacks(problem: &Problem<'_>, funnel: &[FunnelStage], group: &str, has: usize, wanted: usize) -> String {
    let steps = funnel.iter().filter(|stage| stage.group == group && stage.removed_count > 0);
    let steps: Vec<String> =
        steps.map(|stage| format!("`{}` removed {}", stage.constraint, stage.removed_count)).collect();
    let steps = if steps.is_empty() { "there are no more".to_owned() } else { steps.join(", ") };
    format!("group {group} needs {wanted} hosts and {has} of {} fit ({steps})", problem.snapshot.hosts.len())
}

/// Those that came furthest first; each kind of strategy once.
fn attempts_in_words(problem: &Problem<'_>, attempts: &[Attempt]) -> Vec<String> {
    let mut sorted: Vec<&Attempt> = attempts.iter().collect();
    sorted.sort_by_key(|attempt| (std::cmp::Reverse(attempt.total), attempt.strategy));
    let mut seen = Vec::new();
    sorted.retain(|attempt| {
        let new = !seen.contains(&attempt.strategy);
        seen.push(attempt.strategy);
        new
    });
    sorted.into_iter().take(MAX_ATTEMPTS).map(|attempt| attempt_in_words(problem, attempt)).collect()
}

fn attempt_in_words(problem: &Problem<'_>, attempt: &Attempt) -> String {
    let group = &problem.groups[attempt.group];
    let why: Vec<String> = attempt
        .obstacles
        .iter()
        .map(|(obstacle, hosts)| {
            format!("{hosts} were kept out by {}", obstacle_in_words(problem, attempt.group, *obstacle))
        })
        .collect();
    let why =
        if why.is_empty() { "the others are in other groups or sites".to_owned() } else { why.join(", ") };
    format!("{} found {} of {} hosts for {}: {why}", attempt.strategy, attempt.got, group.wanted, group.name)
}

fn obstacle_in_words(problem: &Problem<'_>, group: usize, obstacle: Obstacle) -> String {
    let wanted = &problem.groups[group];
    match obstacle {
        Obstacle::Hops => format!("maxHops {}", wanted.max_hops.unwrap_or_default()),
        Obstacle::HopsBetween(other) => {
            let max = wanted.near.iter().find(|(near, _)| *near == other).map_or(0, |(_, max)| *max);
            format!("hopLimits {max} to {}", problem.groups[other].name)
        }
        Obstacle::Spread => {
            let (most, by) =
                wanted.spread.map(|spread| (spread.max_per_domain, spread.by)).unwrap_or_default();
            format!("at most {most} per {by}")
        }
        Obstacle::ChassisPower => "the power budget of their chassis".to_owned(),
        Obstacle::PoolReserve => "minFree of their pool".to_owned(),
    }
}
