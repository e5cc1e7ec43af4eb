//! The composing manager's planner: `(request, snapshot) -> choice and explanation`. Pure and deterministic.
//!
//! 1. [`filter`]: for each group, constraint by constraint, which hosts remain; [`problem`] prepares the rest.
//! 2. [`candidates`]: several strategies craft complete assignments, host by host in a [`tally`].
//! 3. [`score`]: limits and attributes of each candidate, weighed against each other.
//! 4. [`search`]: the best one is improved by exchanging hosts until nothing gets better or the budget is spent.
//! 5. [`explain`]: why this one; for what cannot be granted, [`relax`]: what little change would help.

pub mod candidates;
pub mod explain;
pub mod filter;
mod knobs;
pub mod problem;
pub mod relax;
pub mod score;
pub mod search;
pub mod tally;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use drystone_api::{CompositionMember, CompositionSpec, Explanation, ObjectReference};

use crate::model::Snapshot;
use candidates::{Attempt, Candidate, Strategy, strategies};
use problem::Problem;
use score::Ranking;
use tally::Attributes;

/// Assignments that the local search looks at.
const BUDGET: u32 = 6_000;

/// The same where it is only asked whether something is possible.
const QUICK_BUDGET: u32 = 1_500;

/// Who is assumed to give hosts back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Freed {
    /// Nobody.
    #[default]
    Nobody,
    /// These.
    These(Vec<ObjectReference>),
    /// Whoever has some.
    Everybody,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Who asks; hosts claimed by it are its own.
    pub owner: ObjectReference,
    /// The composition.
    pub spec: &'a CompositionSpec,
    /// Members that it has already; they stay as long as they fit.
    pub members: &'a [CompositionMember],
    /// Unclaimed hosts that wait for somebody else, by position in the snapshot, with for whom.
    pub held: HashMap<usize, String>,
    /// An assumption, for questions about what would be.
    pub freed: Freed,
}

impl<'a> Request<'a> {
    /// A request for what there is now.
    pub fn new(owner: ObjectReference, spec: &'a CompositionSpec, members: &'a [CompositionMember]) -> Self {
        Self { owner, spec, members, held: HashMap::new(), freed: Freed::Nobody }
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The members, kept and new, in order of group and host; `None` if the request cannot be granted.
    pub members: Option<Vec<CompositionMember>>,
    /// Why.
    pub explanation: Explanation,
}

/// Hosts of each group, by position in the snapshot; positions inside a group are sorted.
pub type Assignment = Vec<Vec<usize>>;

/// What came of the search.
#[derive(Debug)]
pub(crate) enum Solved {
    /// The best candidate is inside the limits.
    Granted(Ranking),
    /// There are candidates, and none is inside the limits.
    Unacceptable(Ranking),
    /// No strategy found enough hosts; how far they came.
    Short(Vec<Attempt>),
}

/// What is wrong with a specification that its schema cannot say, with the path of the field.
pub fn mistake(spec: &CompositionSpec) -> Option<String> {
    let mut names = BTreeSet::new();
    for (at, group) in spec.groups.iter().enumerate() {
        if !names.insert(group.name.as_str()) {
            let name = &group.name;
            return Some(format!(
                "spec.groups[{at}].name: `{name}` is the name of an earlier group, choose another"
            ));
        }
    }
    spec.hop_limits.iter().enumerate().find_map(|(at, limit)| {
        let ends = [("from", &limit.from), ("to", &limit.to)];
        let unknown = ends.into_iter().find(|(_, group)| !names.contains(group.as_str()));
        if let Some((field, group)) = unknown {
            return Some(format!("spec.hopLimits[{at}].{field}: there is no group `{group}`"));
        }
        let itself = limit.from == limit.to;
        itself.then(|| {
            format!("spec.hopLimits[{at}].to: use host.network.maxHops for distances inside a group")
        })
    })
}

/// Makes the choice.
pub fn compose(request: &Request<'_>, snapshot: &Snapshot) -> Choice {
    if let Some(summary) = mistake(request.spec) {
        return Choice { members: None, explanation: Explanation { summary, ..Default::default() } };
    }
    let problem = Problem::new(request, snapshot, kept_members(request, snapshot));
    match solve(&problem) {
        Solved::Granted(ranking) => Choice {
            members: Some(members_of(request, snapshot, &ranking.best().assignment)),
            explanation: explain::chosen(&problem, &ranking),
        },
        Solved::Unacceptable(ranking) => {
            Choice { members: None, explanation: explain::unacceptable(&problem, &ranking) }
        }
        Solved::Short(attempts) => Choice { members: None, explanation: explain::short(&problem, &attempts) },
    }
}

/// An assignment inside the limits, if one is found quickly; the choice of [`compose`] may be a better one.
pub fn possible(request: &Request<'_>, snapshot: &Snapshot) -> Option<Assignment> {
    quick(request, snapshot).map(|(assignment, _)| assignment)
}

/// The same with what can be said of it.
pub(crate) fn quick(request: &Request<'_>, snapshot: &Snapshot) -> Option<(Assignment, Attributes)> {
    if mistake(request.spec).is_some() {
        return None;
    }
    let problem = Problem::new(request, snapshot, kept_members(request, snapshot));
    if has_too_few(&problem) {
        return None;
    }
    let limits = score::limits(&problem.limits);
    let acceptable =
        |candidate: &Candidate| limits.iter().all(|limit| limit.excess(&candidate.attributes) <= 0.0);
    let all = strategies(&problem);
    let mut crafted = Vec::new();
    for strategy in &all {
        let Ok(candidate) = strategy.craft(&problem) else { continue };
        if acceptable(&candidate) {
            return Some((candidate.assignment, candidate.attributes));
        }
        crafted.push(candidate);
    }
    let ranking = search::improve(&problem, &all, Ranking::of(&problem, crafted)?, QUICK_BUDGET);
    let best = ranking.best();
    best.is_acceptable().then(|| (best.assignment.clone(), best.attributes))
}

fn solve(problem: &Problem<'_>) -> Solved {
    if has_too_few(problem) {
        return Solved::Short(Vec::new());
    }
    let all: Vec<Strategy> = strategies(problem);
    let (mut crafted, mut attempts) = (Vec::new(), Vec::new());
    for strategy in &all {
        match strategy.craft(problem) {
            Ok(candidate) => crafted.push(candidate),
            Err(attempt) => attempts.push(attempt),
        }
    }
    let Some(ranking) = Ranking::of(problem, crafted) else { return Solved::Short(attempts) };
    let ranking = search::improve(problem, &all, ranking, BUDGET);
    if ranking.best().is_acceptable() { Solved::Granted(ranking) } else { Solved::Unacceptable(ranking) }
}

/// Whether some group has fewer eligible hosts, kept ones included, than it wants.
fn has_too_few(problem: &Problem<'_>) -> bool {
    problem.groups.iter().zip(&problem.kept).any(|(group, kept)| {
        let new = group.eligible.iter().filter(|host| !kept.contains(host)).count();
        new + kept.len() < group.wanted
    })
}

/// Members that stay: still in the snapshot, still ours, not excluded, on their group's list if it has one; no more than the group wants.
fn kept_members(request: &Request<'_>, snapshot: &Snapshot) -> Assignment {
    let excluded: BTreeSet<&str> = request.spec.exclude_hosts.iter().map(String::as_str).collect();
    let last: BTreeSet<&str> = request.spec.release_first.iter().map(String::as_str).collect();
    let mut by_group: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for member in request.members {
        let Some(position) = snapshot.position(&member.host_namespace, &member.host) else { continue };
        let host = &snapshot.hosts[position];
        let usable = !excluded.contains(host.name.as_str()) && filter::belongs_to(host, &request.owner);
        if usable && seen.insert(position) {
            by_group.entry(&member.group).or_default().push(position);
        }
    }
    let groups = request.spec.groups.iter().map(|group| {
        let mut hosts = by_group.remove(group.name.as_str()).unwrap_or_default();
        let listed = |name: &String| group.only_hosts.is_empty() || group.only_hosts.contains(name);
        hosts.retain(|position| listed(&snapshot.hosts[*position].name));
        hosts.sort_by_key(|position| (last.contains(snapshot.hosts[*position].name.as_str()), *position));
        hosts.truncate(usize::try_from(group.count).unwrap_or(usize::MAX));
        hosts.sort_unstable();
        hosts
    });
    groups.collect()
}

fn members_of(request: &Request<'_>, snapshot: &Snapshot, assignment: &Assignment) -> Vec<CompositionMember> {
    let groups = request.spec.groups.iter().zip(assignment);
    let mut members: Vec<CompositionMember> = groups
        .flat_map(|(group, hosts)| {
            hosts.iter().map(|position| CompositionMember {
                group: group.name.clone(),
                host: snapshot.hosts[*position].name.clone(),
                host_namespace: snapshot.hosts[*position].namespace.clone(),
            })
        })
        .collect();
    members.sort();
    members
}

#[cfg(test)]
mod tests;
