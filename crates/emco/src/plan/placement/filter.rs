//! Which clusters of a group will do.

use std::collections::BTreeSet;

use drystone_api::emco::{ClusterConnectivity, LabelExpression, LabelOperator, PlacementRules};
use drystone_appcontext::ClusterName;

use super::{Clusters, Placement, Request, Unplaced, Verdict, groups};
use crate::model::{ClusterFacts, Refusal};

/// Groups of all applications, with those clusters marked that will not do.
///
/// # Errors
/// A mandatory cluster that will not do (400 where it is not in the logical cloud), a group that is left without a cluster, no group at all.
pub fn filter(
    requests: &[Request<'_>],
    clusters: &Clusters,
    allowed: Option<&BTreeSet<ClusterName>>,
) -> Result<Placement, Box<Unplaced>> {
    let mut placement = Placement::default();
    let mut refusal = None;
    let mut homeless = Vec::new();
    for request in requests {
        let mut plan = match groups(request.app, request.intent, clusters) {
            Ok(plan) => plan,
            Err(refusal) => return Err(Box::new(Unplaced { refusal, placement, homeless: Vec::new() })),
        };
        for group in &mut plan.groups {
            for candidate in &mut group.candidates {
                let outside = allowed.is_some_and(|allowed| !allowed.contains(&candidate.cluster));
                candidate.reasons = if outside {
                    vec!["it is not in the logical cloud".to_owned()]
                } else {
                    let facts = clusters.get(&candidate.cluster);
                    facts.map_or_else(Vec::new, |facts| objections(request, facts))
                };
                if candidate.reasons.is_empty() {
                    continue;
                }
                candidate.verdict = Verdict::Unfit;
                if group.mandatory {
                    let (cluster, why) = (&candidate.cluster, candidate.reasons.join("; "));
                    let message = format!("app {} must run on cluster {cluster}, but {why}", request.app);
                    let found = if outside { Refusal::bad(message) } else { Refusal::state(message) };
                    refusal.get_or_insert(found);
                }
            }
            if !group.mandatory && !group.candidates.iter().any(|one| one.verdict == Verdict::Candidate) {
                homeless.push((request.app.to_owned(), group.number));
            }
        }
        if plan.groups.is_empty() {
            refusal.get_or_insert_with(|| {
                // EMCO's words, which its clients know.
                let reason = if plan.remarks.is_empty() { String::new() } else { format!(" ({})", plan.remarks.join("; ")) };
                Refusal::state(format!(
                    "No compatible clusters have been provided to the Deployment Intent Group: app {}{reason}",
                    request.app
                ))
            });
            homeless.push((request.app.to_owned(), 0));
        }
        placement.apps.push(plan);
    }
    if refusal.is_none()
        && let Some((app, number)) = homeless.first()
    {
        let why = placement.why_not(app, *number);
        refusal = Some(Refusal::state(format!("no cluster fits app {app} (group {number}){why}")));
    }
    match refusal {
        None => Ok(placement),
        Some(refusal) => Err(Box::new(Unplaced { refusal, placement, homeless })),
    }
}

/// Why a cluster will not do for an application; nothing if it will.
fn objections(request: &Request<'_>, facts: &ClusterFacts) -> Vec<String> {
    let PlacementRules { match_expressions, must_answer, must_have_room, .. } = request.rules;
    let mut found: Vec<String> =
        match_expressions.iter().filter(|rule| !matches(rule, facts)).map(describe).collect();
    if *must_answer && facts.reachability != ClusterConnectivity::Available {
        found.push("it does not answer".to_owned());
    }
    if *must_have_room {
        match facts.free {
            Some(free) => found.extend(free.lacking(request.needs)),
            None => {
                let why = facts.room_unknown.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
                found.push(format!("what room it has is not known{why}"));
            }
        }
    }
    found
}

/// Whether a cluster's labels and key-value pairs fit an expression.
pub(super) fn matches(rule: &LabelExpression, facts: &ClusterFacts) -> bool {
    let value = facts.value_of(&rule.key);
    let is_one = || value.is_some_and(|value| rule.values.iter().any(|wanted| wanted == value));
    let compare = |fits: fn(f64, f64) -> bool| {
        let number = |text: &str| text.parse::<f64>().ok();
        let wanted = rule.values.first().and_then(|text| number(text));
        value.and_then(number).zip(wanted).is_some_and(|(is, wanted)| fits(is, wanted))
    };
    match rule.operator {
        LabelOperator::In => is_one(),
        LabelOperator::NotIn => !is_one(),
        LabelOperator::Exists => value.is_some(),
        LabelOperator::DoesNotExist => value.is_none(),
        LabelOperator::Gt => compare(|is, wanted| is > wanted),
        LabelOperator::Lt => compare(|is, wanted| is < wanted),
    }
}

fn describe(rule: &LabelExpression) -> String {
    let LabelExpression { key, values, .. } = rule;
    let values = values.join(", ");
    match rule.operator {
        LabelOperator::In => format!("its {key} is none of {values}"),
        LabelOperator::NotIn => format!("its {key} is one of {values}"),
        LabelOperator::Exists => format!("it has no {key}"),
        LabelOperator::DoesNotExist => format!("it has a {key}"),
        LabelOperator::Gt => format!("its {key} is not greater than {values}"),
        LabelOperator::Lt => format!("its {key} is not less than {values}"),
    }
}
