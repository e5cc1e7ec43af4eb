//! `drystone explain ID`: why these hosts, and why not others.

use clap::Args;
use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};
use drystone_api::{Composition, CompositionStatus, Explanation, FunnelStage};
use kube::Api;

use super::{Failure, client, split_key};
use crate::cli::Access;

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Cluster or Composition: NAMESPACE/NAME
    id: String,
    /// Namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// Tell about this host only
    #[arg(long)]
    host: Option<String>,
    #[command(flatten)]
    access: Access,
}

/// Prints the explanation of a Composition (a Cluster's has the cluster's name).
pub(crate) async fn run(args: ExplainArgs) -> Result<(), Failure> {
    let client = client(&args.access).await?;
    let (namespace, name) = split_key(&args.id, args.namespace.as_deref());
    let composition = Api::<Composition>::namespaced(client, &namespace)
        .get_opt(&name)
        .await?
        .ok_or_else(|| format!("there is no Composition or Cluster {namespace}/{name}"))?;
    let mode = composition.spec.mode;
    let status = composition.status.unwrap_or_default();
    let Some(explanation) = &status.explanation else {
        return Err(format!("nothing was decided about {namespace}/{name} yet").into());
    };
    match args.host {
        Some(host) => print!("{}", about_host(explanation, &host)),
        None => print!("Mode {mode:?}. {}{}", state(&status), render(explanation)),
    }
    Ok(())
}

/// Where a composition stands, in a few lines.
fn state(status: &CompositionStatus) -> String {
    let mut text = format!("{:?}: {}\n", status.phase, status.message);
    if let Some(reservation) = &status.reservation {
        let until = reservation.expires.as_ref().map(|expires| format!(" until {:.0}", expires.0));
        text += &format!(
            "{} hosts held by {}{} under fencing token {}\n",
            status.hosts,
            reservation.holder,
            until.unwrap_or_default(),
            reservation.token
        );
    }
    if let Some(since) = &status.waiting_since {
        text += &format!("waits since {:.0}\n", since.0);
    }
    text + "\n"
}

/// Most reasons that the table names for a constraint.
const MAX_REASONS: usize = 3;

/// Most hosts of a candidate that the table names.
const MAX_HOSTS: usize = 8;

/// What a constraint removed: how many, and what most of them have instead.
fn removed(stage: &FunnelStage) -> String {
    if stage.removed_count == 0 {
        return String::new();
    }
    let reasons = stage.reasons.iter().take(MAX_REASONS);
    let reasons: Vec<String> =
        reasons.map(|reason| format!("{} × {}", reason.hosts, reason.instead)).collect();
    let named: u32 = stage.reasons.iter().take(MAX_REASONS).map(|reason| reason.hosts).sum();
    let rest = stage.removed_count.saturating_sub(named);
    let rest = if rest > 0 { format!("\n{rest} × other reasons") } else { String::new() };
    format!("{}{rest}", reasons.join("\n"))
}

fn hosts(names: &[String]) -> String {
    let more = names.len().saturating_sub(MAX_HOSTS);
    let shown = names[..names.len() - more].join(", ");
    if more > 0 { format!("{shown} … ({} in all)", names.len()) } else { shown }
}

/// An explanation as text.
pub(crate) fn render(explanation: &Explanation) -> String {
    let mut text = format!("{}\n", explanation.summary);
    if !explanation.relaxation.is_empty() {
        text += &format!("It would work {}.\n", explanation.relaxation);
    }
    for limit in &explanation.limits {
        text += &format!(
            "Limit {}: the best candidate has {}, {} too much; the best seen of all was {}.\n",
            limit.limit, limit.has, limit.by, limit.best_seen
        );
    }
    for attempt in &explanation.attempts {
        text += &format!("Tried: {attempt}.\n");
    }
    let mut funnel = Table::new();
    funnel.load_style(UTF8_HORIZONTAL_ONLY).set_header([
        "group",
        "constraint",
        "left",
        "removed",
        "what they have instead",
    ]);
    // A constraint that removes nothing is no step of a funnel; the last of each group says how many are left.
    for stages in explanation.funnel.chunk_by(|one, other| one.group == other.group) {
        let removing = stages.iter().filter(|stage| stage.removed_count > 0);
        for stage in removing.clone() {
            funnel.add_row([
                stage.group.clone(),
                stage.constraint.clone(),
                stage.remaining.to_string(),
                stage.removed_count.to_string(),
                removed(stage),
            ]);
        }
        if let (0, Some(last)) = (removing.count(), stages.last()) {
            let left = last.remaining.to_string();
            funnel.add_row([last.group.clone(), "(any)".to_owned(), left, "0".to_owned(), String::new()]);
        }
    }
    text += &format!("\nWhat each constraint left over\n{funnel}\n");
    if !explanation.candidates.is_empty() {
        let mut candidates = Table::new();
        candidates.load_style(UTF8_HORIZONTAL_ONLY).set_header([
            "",
            "score",
            "strategy",
            "hosts",
            "attributes",
            "why not",
        ]);
        for candidate in &explanation.candidates {
            candidates.add_row([
                if candidate.chosen { "✓" } else { "" }.to_owned(),
                format!("{:.3}", candidate.score),
                candidate.strategy.clone(),
                hosts(&candidate.hosts),
                candidate.attributes.clone(),
                candidate.lost_because.clone(),
            ]);
        }
        text += &format!("\nCandidates, of {} assignments looked at\n{candidates}\n", explanation.evaluated);
    }
    text
}

fn about_host(explanation: &Explanation, host: &str) -> String {
    let prefix = format!("{host}: ");
    let mut lines: Vec<String> = Vec::new();
    for stage in &explanation.funnel {
        if let Some(why) = stage.removed.iter().find_map(|removed| removed.strip_prefix(&prefix)) {
            lines.push(format!("for {}: `{}` removed it: {why}", stage.group, stage.constraint));
        }
    }
    for candidate in
        explanation.candidates.iter().filter(|candidate| candidate.hosts.iter().any(|h| h == host))
    {
        lines.push(if candidate.chosen {
            format!("chosen by strategy {} (score {:.3})", candidate.strategy, candidate.score)
        } else {
            format!(
                "in candidate {} (score {:.3}), which {}",
                candidate.strategy, candidate.score, candidate.lost_because
            )
        });
    }
    if lines.is_empty() {
        // Long lists end with how many more there are; the host may be one of those.
        let cut = explanation.funnel.iter().any(|stage| stage.removed_count as usize > stage.removed.len());
        lines.push(if cut {
            "it is in no candidate, and not among the hosts that are listed by name; if it was removed, the reason is one \
             of those counted in the whole explanation"
                .to_owned()
        } else {
            "it fits, but no strategy preferred it".to_owned()
        });
    }
    format!("{host}\n  {}\n", lines.join("\n  "))
}

#[cfg(test)]
mod tests {
    use drystone_api::{CandidateReport, FunnelReason, LimitReport, Reservation};

    use super::*;

    fn explanation() -> Explanation {
        let stage = FunnelStage {
            group: "train".into(),
            constraint: "cores >= 16".into(),
            remaining: 1,
            removed_count: 1,
            removed: vec!["a: 8 cores".into()],
            reasons: vec![FunnelReason { instead: "8 cores".into(), hosts: 1 }],
        };
        let candidate = CandidateReport {
            strategy: "closest".into(),
            hosts: vec!["b".into()],
            chosen: true,
            ..Default::default()
        };
        Explanation {
            summary: "s".into(),
            funnel: vec![stage],
            candidates: vec![candidate],
            relaxation: "with 1 host fewer".into(),
            limits: vec![LimitReport { limit: "maxWatts 500 W".into(), ..Default::default() }],
            ..Default::default()
        }
    }

    #[test]
    fn a_host_is_told_why_not() {
        let mut explanation = explanation();
        assert!(about_host(&explanation, "a").contains("for train: `cores >= 16` removed it: 8 cores"));
        assert!(about_host(&explanation, "b").contains("chosen by strategy closest"));
        assert!(about_host(&explanation, "c").contains("it fits"));
        explanation.funnel[0].removed_count = 70;
        assert!(about_host(&explanation, "c").contains("not among the hosts that are listed"));
    }

    #[test]
    fn the_whole_explanation_has_a_table_with_counts() {
        let text = render(&explanation());
        for part in [
            "What each constraint left over",
            "1 × 8 cores",
            "It would work with 1 host fewer.",
            "Limit maxWatts 500 W",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        let mut many = explanation();
        many.candidates[0].hosts = (0..20).map(|at| format!("h{at}")).collect();
        assert!(render(&many).contains("(20 in all)"));
    }

    #[test]
    fn a_reservation_is_shown_with_its_end() {
        let expires = "2027-01-15T08:00:00Z".parse().ok();
        let expires = expires.map(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time);
        let reservation = Reservation { token: 7, expires, ..Default::default() };
        let status = CompositionStatus { hosts: 3, reservation: Some(reservation), ..Default::default() };
        let text = state(&status);
        assert!(text.contains("until 2027-01-15T08:00:00Z under fencing token 7"), "{text}");
    }
}
