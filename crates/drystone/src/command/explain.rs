//! `drystone explain ID`: why these hosts, and why not others.

use clap::Args;
use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};
use drystone_api::{Composition, Explanation};
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
    let status = composition.status.unwrap_or_default();
    let Some(explanation) = status.explanation else {
        return Err(format!("nothing was decided about {namespace}/{name} yet").into());
    };
    match args.host {
        Some(host) => print!("{}", about_host(&explanation, &host)),
        None => print!("{}", render(&explanation)),
    }
    Ok(())
}

/// An explanation as text.
pub(crate) fn render(explanation: &Explanation) -> String {
    let mut text = format!("{}\n", explanation.summary);
    if !explanation.relaxation.is_empty() {
        text += &format!("It would work {}.\n", explanation.relaxation);
    }
    let mut funnel = Table::new();
    funnel.load_style(UTF8_HORIZONTAL_ONLY).set_header(["group", "constraint", "left", "removed"]);
    for stage in &explanation.funnel {
        funnel.add_row([
            stage.group.clone(),
            stage.constraint.clone(),
            stage.remaining.to_string(),
            stage.removed.join("\n"),
        ]);
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
                candidate.hosts.join(", "),
                candidate.attributes.clone(),
                candidate.lost_because.clone(),
            ]);
        }
        text += &format!("\nCandidates\n{candidates}\n");
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
        lines.push("it fits, but no strategy preferred it".to_owned());
    }
    format!("{host}\n  {}\n", lines.join("\n  "))
}

#[cfg(test)]
mod tests {
    use drystone_api::{CandidateReport, FunnelStage};

    use super::*;

    #[test]
    fn a_host_is_told_why_not() {
        let explanation = Explanation {
            summary: "s".into(),
            funnel: vec![FunnelStage {
                group: "train".into(),
                constraint: "cores >= 16".into(),
                remaining: 1,
                removed: vec!["a: 8 cores".into()],
            }],
            candidates: vec![CandidateReport {
                strategy: "closest".into(),
                hosts: vec!["b".into()],
                chosen: true,
                ..Default::default()
            }],
            ..Default::default()
        };
        assert!(about_host(&explanation, "a").contains("for train: `cores >= 16` removed it: 8 cores"));
        assert!(about_host(&explanation, "b").contains("chosen by strategy closest"));
        assert!(render(&explanation).contains("What each constraint left over"));
    }
}
