//! The composing manager's planner: `(request, snapshot) -> choice and explanation`. Pure and deterministic.
//!
//! 1. [`filter`]: for each group, constraint by constraint, which hosts remain.
//! 2. [`candidates`]: several strategies craft complete assignments.
//! 3. [`score`]: attributes of each candidate, weighed against each other.
//! 4. [`search`]: the best one is improved by exchanging hosts until nothing gets better or the budget is spent.
//! 5. [`explain`]: why this one; for what cannot be granted, [`relax`]: what little change would help.

pub mod candidates;
pub mod explain;
pub mod filter;
pub mod relax;
pub mod score;
pub mod search;

use std::collections::{BTreeMap, BTreeSet};

use drystone_api::{CompositionMember, CompositionSpec, Explanation, ObjectReference};

use crate::model::Snapshot;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Who asks; hosts claimed by it are its own.
    pub owner: ObjectReference,
    /// The composition.
    pub spec: &'a CompositionSpec,
    /// Members that it has already; they stay as long as they fit.
    pub members: &'a [CompositionMember],
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

/// Makes the choice.
pub fn compose(request: &Request<'_>, snapshot: &Snapshot) -> Choice {
    let kept = kept_members(request, snapshot);
    let funnels = filter::funnels(request, snapshot);
    let crafted = candidates::craft(request, snapshot, &funnels, &kept);
    let Some(ranking) = score::rank(request, snapshot, crafted) else {
        return Choice { members: None, explanation: explain::infeasible(request, snapshot, &funnels) };
    };
    let ranking = search::improve(request, snapshot, &funnels, &kept, ranking);
    let members = members_of(request, snapshot, &ranking.best().assignment);
    Choice { members: Some(members), explanation: explain::chosen(request, snapshot, &funnels, &ranking) }
}

/// Members that stay: still in the snapshot, still ours, not excluded; no more than the group wants.
fn kept_members(request: &Request<'_>, snapshot: &Snapshot) -> Assignment {
    let excluded: BTreeSet<&str> = request.spec.exclude_hosts.iter().map(String::as_str).collect();
    let last: BTreeSet<&str> = request.spec.release_first.iter().map(String::as_str).collect();
    let mut by_group: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for member in request.members {
        let position =
            snapshot.hosts.iter().position(|h| h.name == member.host && h.namespace == member.host_namespace);
        let Some(position) = position else { continue };
        let host = &snapshot.hosts[position];
        let usable = !excluded.contains(host.name.as_str()) && filter::belongs_to(host, &request.owner);
        if usable {
            by_group.entry(&member.group).or_default().push(position);
        }
    }
    let groups = request.spec.groups.iter().map(|group| {
        let mut hosts = by_group.remove(group.name.as_str()).unwrap_or_default();
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
