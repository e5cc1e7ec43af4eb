//! Which cluster of a group is kept.
//!
//! Without rules, and with nothing known of clusters, it is the first by name, as with EMCO. A cluster that answers is better than one
//! that does not; then preferences count, then spreading, then room.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use drystone_api::emco::{ClusterConnectivity, PlacementRules};
use drystone_appcontext::ClusterName;

use super::{AppPlan, Clusters, Placement, Request, Unplaced, Verdict, filter::matches};
use crate::model::{Amounts, ClusterFacts, Refusal};

/// Higher is better: whether it answers, preferences, how rarely its place was taken, how much room stays.
type Score = (bool, i64, Reverse<usize>, i64);

/// What was given to whom so far.
#[derive(Default)]
struct Taken {
    /// Amounts, by cluster, of what goes there now.
    amounts: BTreeMap<ClusterName, Amounts>,
    /// How often each place (value of the spread's key) has the application.
    places: BTreeMap<String, usize>,
}

/// Chooses a cluster of each group. Mandatory ones first, so that what is spread keeps away from them; then those groups that have the
/// fewest candidates.
///
/// # Errors
/// A group is left without a cluster that has room, or that a required spread allows.
pub fn choose(
    mut placement: Placement,
    requests: &[Request<'_>],
    clusters: &Clusters,
) -> Result<Placement, Box<Unplaced>> {
    let mut amounts = BTreeMap::new();
    let mut homeless = Vec::new();
    for plan in &mut placement.apps {
        let Some(request) = requests.iter().find(|request| request.app == plan.app) else { continue };
        let mut taken = Taken { amounts: std::mem::take(&mut amounts), places: BTreeMap::new() };
        let mut order: Vec<usize> = (0..plan.groups.len()).collect();
        let fit = |at: &usize| {
            plan.groups[*at].candidates.iter().filter(|it| it.verdict == Verdict::Candidate).count()
        };
        order.sort_by_key(|at| (!plan.groups[*at].mandatory, fit(at), *at));
        for at in order {
            if !choose_one(plan, at, request, clusters, &mut taken) {
                homeless.push((plan.app.clone(), plan.groups[at].number));
            }
        }
        amounts = taken.amounts;
    }
    if let Some((app, number)) = homeless.first() {
        let why = placement.why_not(app, *number);
        let refusal = Refusal::state(format!("no cluster fits app {app} (group {number}){why}"));
        return Err(Box::new(Unplaced { refusal, placement, homeless }));
    }
    Ok(placement)
}

/// Chooses in one group; `false` if there is none to choose.
fn choose_one(
    plan: &mut AppPlan,
    at: usize,
    request: &Request<'_>,
    clusters: &Clusters,
    taken: &mut Taken,
) -> bool {
    let has: BTreeSet<ClusterName> = plan.chosen();
    let rules = request.rules;
    let group = &mut plan.groups[at];
    let mandatory = group.mandatory;
    let mut scores: Vec<(Score, Reverse<usize>)> = Vec::new();
    for (index, candidate) in group.candidates.iter_mut().enumerate() {
        if candidate.verdict != Verdict::Candidate {
            continue;
        }
        let Some(facts) = clusters.get(&candidate.cluster) else {
            candidate.verdict = Verdict::Unfit;
            candidate.reasons.push("there is no such cluster".to_owned());
            continue;
        };
        let used = taken.amounts.get(&candidate.cluster).copied().unwrap_or_default();
        let free = facts.free.map(|free| free.minus(used));
        let lacks = if rules.must_have_room && !has.contains(&candidate.cluster) {
            free.map(|free| free.lacking(request.needs)).unwrap_or_default()
        } else {
            Vec::new()
        };
        let crowded = place(rules, facts).filter(|place| {
            let required = rules.spread.as_ref().is_some_and(|spread| spread.required);
            required && !mandatory && taken.places.contains_key(place)
        });
        candidate.reasons.extend(lacks);
        if let Some(place) = crowded {
            candidate.reasons.push(format!("the application is at {place} already"));
        }
        if candidate.reasons.is_empty() {
            scores.push((score(request, facts, free, taken), Reverse(index)));
        } else {
            candidate.verdict = Verdict::Unfit;
        }
    }
    let Some((best, Reverse(index))) = scores.iter().max().copied() else { return false };
    for (index, candidate) in group.candidates.iter_mut().enumerate() {
        let scored = scores.iter().find(|(_, Reverse(of))| *of == index);
        if let Some((score, _)) = scored {
            candidate.verdict = Verdict::Passed;
            candidate.reasons.push(compare(score, &best));
        }
    }
    let winner = &mut group.candidates[index];
    winner.verdict = Verdict::Chosen;
    winner.reasons = vec![if mandatory { "it is mandatory".to_owned() } else { praise(&best, scores.len()) }];
    let name = winner.cluster.clone();
    if !has.contains(&name) {
        let used = taken.amounts.entry(name.clone()).or_default();
        *used = used.plus(request.needs);
    }
    if let Some(place) = clusters.get(&name).and_then(|facts| place(rules, facts)) {
        *taken.places.entry(place).or_default() += 1;
    }
    true
}

/// The place of a cluster, if the application is to be spread.
fn place(rules: &PlacementRules, facts: &ClusterFacts) -> Option<String> {
    let spread = rules.spread.as_ref()?;
    let key = if spread.over.is_empty() { "cluster" } else { &spread.over };
    Some(format!("{key} {}", facts.value_of(key).unwrap_or("(none)")))
}

fn score(request: &Request<'_>, facts: &ClusterFacts, free: Option<Amounts>, taken: &Taken) -> Score {
    let liked = |preference: &&drystone_api::emco::PlacementPreference| {
        preference.match_expressions.iter().all(|rule| matches(rule, facts))
    };
    let preferences = request.rules.preferences.iter().filter(liked).map(|it| i64::from(it.weight)).sum();
    let used = place(request.rules, facts).and_then(|place| taken.places.get(&place).copied());
    let needs = if request.needs == Amounts::default() {
        // Nothing is known of what the pods ask for: the emptier cluster is the better one.
        None
    } else {
        free.map(|free| free.share_left(request.needs))
    };
    let share =
        needs.or_else(|| free.zip(facts.total).map(|(free, total)| total.share_left(total.minus(free))));
    (
        facts.reachability != ClusterConnectivity::Retrying,
        preferences,
        Reverse(used.unwrap_or(0)),
        share.unwrap_or(0),
    )
}

fn praise(best: &Score, of: usize) -> String {
    if of == 1 {
        "it is the only one that will do".to_owned()
    } else {
        format!("best of {of}: {}", describe(best))
    }
}

fn describe((answers, preferences, used, share): &Score) -> String {
    let answers = if *answers { "answers" } else { "does not answer" };
    format!(
        "{answers}, preferences {preferences}, taken {} times, room left {}.{}%",
        used.0,
        share / 10,
        share % 10
    )
}

fn compare(score: &Score, best: &Score) -> String {
    if score == best {
        "as good as the chosen one, which is first by name".to_owned()
    } else {
        describe(score)
    }
}
