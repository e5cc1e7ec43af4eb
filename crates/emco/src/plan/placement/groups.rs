//! EMCO's numbering of groups (facts, section 6).

use drystone_api::emco::{PlacementChoice, PlacementIntent};
use drystone_appcontext::ClusterName;

use super::{AppPlan, Candidate, Clusters, Group, Verdict};
use crate::model::Refusal;

/// The groups of an application's intent, in the order of the document: a group for each cluster of an `allOf` item (a label stands for all
/// its clusters), one for each `anyOf` inside of `allOf`, and one for the outer `anyOf`.
///
/// # Errors
/// A cluster that does not exist; an item that names neither a cluster nor a label, or both.
pub fn groups(app: &str, intent: &PlacementIntent, clusters: &Clusters) -> Result<AppPlan, Refusal> {
    let mut plan = AppPlan { app: app.to_owned(), groups: Vec::new(), remarks: Vec::new() };
    for (at, item) in intent.all_of.iter().enumerate() {
        let field = format!("app {app}: allOf[{at}]");
        if !item.any_of.is_empty() {
            let found = one_of(&field, &item.any_of, clusters)?;
            add(&mut plan, false, found);
            continue;
        }
        let choice = PlacementChoice {
            cluster_provider: item.cluster_provider.clone(),
            cluster: item.cluster.clone(),
            cluster_label: item.cluster_label.clone(),
        };
        let found = expand(&field, &choice, clusters)?;
        if found.is_empty() {
            plan.remarks.push(format!(
                "{field}: no cluster of provider {} has the label {}",
                choice.cluster_provider, choice.cluster_label
            ));
        }
        for cluster in found {
            add(&mut plan, true, vec![cluster]);
        }
    }
    if !intent.any_of.is_empty() {
        let found = one_of(&format!("app {app}: anyOf"), &intent.any_of, clusters)?;
        add(&mut plan, false, found);
    }
    Ok(plan)
}

fn add(plan: &mut AppPlan, mandatory: bool, mut clusters: Vec<ClusterName>) {
    clusters.sort();
    clusters.dedup();
    let candidate = |cluster| Candidate { cluster, verdict: Verdict::Candidate, reasons: Vec::new() };
    let number = plan.groups.len() + 1;
    plan.groups.push(Group { number, mandatory, candidates: clusters.into_iter().map(candidate).collect() });
}

fn one_of(field: &str, items: &[PlacementChoice], clusters: &Clusters) -> Result<Vec<ClusterName>, Refusal> {
    let mut found = Vec::new();
    for (at, item) in items.iter().enumerate() {
        found.extend(expand(&format!("{field}[{at}]"), item, clusters)?);
    }
    Ok(found)
}

fn expand(field: &str, item: &PlacementChoice, clusters: &Clusters) -> Result<Vec<ClusterName>, Refusal> {
    let provider = &item.cluster_provider;
    match (item.cluster.is_empty(), item.cluster_label.is_empty()) {
        (false, true) => {
            let name = ClusterName::new(provider, &item.cluster);
            if clusters.contains_key(&name) {
                return Ok(vec![name]);
            }
            Err(Refusal::missing(format!(
                "{field}: there is no cluster {} of provider {provider}",
                item.cluster
            )))
        }
        (true, false) => {
            let labelled = clusters.values().filter(|facts| {
                facts.name.provider == *provider && facts.labels.contains(&item.cluster_label)
            });
            Ok(labelled.map(|facts| facts.name.clone()).collect())
        }
        _ => Err(Refusal::bad(format!("{field}: name either a cluster or a clusterLabel"))),
    }
}
