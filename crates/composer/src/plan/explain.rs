//! Words for a choice.

use drystone_api::{CandidateReport, Explanation, FunnelStage};

use super::{
    Request,
    filter::Funnel,
    relax,
    score::{NAMES, Ranking, Scored},
};
use crate::model::Snapshot;

/// Most candidates that an explanation lists.
const MAX_CANDIDATES: usize = 8;

/// Most removed hosts that a stage lists by name.
const MAX_REMOVED: usize = 40;

fn stages(funnels: &[Funnel]) -> Vec<FunnelStage> {
    let mut stages: Vec<FunnelStage> =
        funnels.iter().flat_map(|funnel| funnel.stages.iter().cloned()).collect();
    for stage in &mut stages {
        let rest = stage.removed.len().saturating_sub(MAX_REMOVED);
        if rest > 0 {
            stage.removed.truncate(MAX_REMOVED);
            stage.removed.push(format!("and {rest} more"));
        }
    }
    stages
}

fn names(snapshot: &Snapshot, scored: &Scored) -> Vec<String> {
    scored.assignment.iter().flatten().map(|position| snapshot.hosts[*position].name.clone()).collect()
}

/// Explains a choice.
pub fn chosen(
    request: &Request<'_>,
    snapshot: &Snapshot,
    funnels: &[Funnel],
    ranking: &Ranking,
) -> Explanation {
    let best = ranking.best();
    let groups = request.spec.groups.iter().zip(&best.assignment).filter(|(_, hosts)| !hosts.is_empty());
    let hosts: Vec<String> = groups
        .map(|(group, hosts)| {
            let names: Vec<&str> =
                hosts.iter().map(|position| snapshot.hosts[*position].name.as_str()).collect();
            format!("{} for {}", names.join(", "), group.name)
        })
        .collect();
    let runner_up = match ranking.others.first() {
        Some(other) => format!("; the next best ({}) {}", other.strategy, lost_because(ranking, other)),
        None => "; there was no other candidate".to_owned(),
    };
    let summary = format!(
        "{}: {} by strategy {} with {}{runner_up}.",
        request.owner.name,
        hosts.join(" and "),
        best.strategy,
        best.attributes.wording()
    );
    let report = |scored: &Scored, chosen: bool| CandidateReport {
        strategy: scored.strategy.clone(),
        hosts: names(snapshot, scored),
        score: (scored.score * 1000.0).round() / 1000.0,
        attributes: scored.attributes.wording(),
        chosen,
        lost_because: if chosen { String::new() } else { lost_because(ranking, scored) },
    };
    let others = ranking.others.iter().take(MAX_CANDIDATES - 1).map(|other| report(other, false));
    let candidates = std::iter::once(report(best, true)).chain(others).collect();
    Explanation { summary, funnel: stages(funnels), candidates, relaxation: String::new() }
}

/// The attribute that made most of the difference.
fn lost_because(ranking: &Ranking, other: &Scored) -> String {
    let best = ranking.scale.contributions(&ranking.best().attributes);
    let theirs = ranking.scale.contributions(&other.attributes);
    let differences = best.iter().zip(theirs).map(|(mine, theirs)| mine - theirs);
    let worst = differences
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .filter(|(_, difference)| *difference > 1e-9);
    match worst {
        Some((index, _)) => format!("lost by {}: {}", NAMES[index], other.attributes.wording()),
        None => "is as good; the first in order of names was taken".to_owned(),
    }
}

/// Explains why nothing could be chosen.
pub fn infeasible(request: &Request<'_>, snapshot: &Snapshot, funnels: &[Funnel]) -> Explanation {
    let short: Vec<String> = request
        .spec
        .groups
        .iter()
        .zip(funnels)
        .filter(|(group, funnel)| funnel.eligible.len() < usize::try_from(group.count).unwrap_or(usize::MAX))
        .map(|(group, funnel)| {
            let steps = funnel.stages.iter().filter(|stage| !stage.removed.is_empty());
            let steps: Vec<String> = steps
                .map(|stage| format!("`{}` removed {}", stage.constraint, stage.removed.len()))
                .collect();
            let steps = if steps.is_empty() { "there are no more".to_owned() } else { steps.join(", ") };
            format!(
                "group {} needs {} hosts and {} of {} fit ({steps})",
                group.name,
                group.count,
                funnel.eligible.len(),
                snapshot.hosts.len()
            )
        })
        .collect();
    let summary = if short.is_empty() {
        "each group alone would fit, but not all together: hosts, sites or hop limits are in each other's way"
            .to_owned()
    } else {
        short.join("; ")
    };
    let relaxation = relax::smallest(request, snapshot, funnels).unwrap_or_default();
    Explanation { summary, funnel: stages(funnels), candidates: Vec::new(), relaxation }
}
