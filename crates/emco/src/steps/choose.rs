//! `emco.choose-clusters`: of each group of clusters one is kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use drystone_appcontext::{AppContext, AppContextError, ClusterName, ContextId};
use drystone_engine::action::{Action, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::{
    StepDependencies,
    context::{needs_of_texts, requests},
    context_failed, refused, unplaced,
};
use crate::{
    model::{Amounts, Deployment, Refusal, Target},
    plan::placement::{Clusters, Placement, Verdict, choose, filter},
};

/// `emco.choose-clusters`: keeps one cluster of each group, after placement controllers have left out what will not do.
pub struct ChooseClusters(pub(super) Arc<StepDependencies>);

/// In which context.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChooseClustersParameters {
    /// Path of the group.
    pub path: String,
    /// The context.
    pub context: ContextId,
}

/// What was chosen, by application.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Chosen {
    /// Clusters of each application; not told where there are too many.
    pub apps: BTreeMap<String, BTreeSet<ClusterName>>,
}

/// Clusters that are told in the output of the step, which is a small object.
const TOLD: usize = 500;

impl Action for ChooseClusters {
    const NAME: &'static str = "emco.choose-clusters";
    type Parameters = ChooseClustersParameters;
    type Output = Chosen;

    async fn run(
        &self,
        step: &StepContext,
        parameters: ChooseClustersParameters,
    ) -> Result<Chosen, StepError> {
        let Target::Group(path) = Target::parse(&parameters.path).map_err(|refusal| refused(&refusal))?
        else {
            return Err(StepError::permanent("only deployment intent groups have clusters to choose"));
        };
        self.0.current(step).await?;
        let deployment = self.0.library.deployment(&path).map_err(|refusal| refused(&refusal))?;
        let facts = self.0.facts(&deployment).await;
        let allowed = self.0.allowed(&deployment);
        let context = self.0.contexts.load(parameters.context).await.map_err(context_failed)?;
        let placement = chosen(&deployment, &facts, &allowed, &context).map_err(|error| *error)?;
        let apps: BTreeMap<_, _> =
            placement.apps.iter().map(|plan| (plan.app.clone(), plan.chosen())).collect();
        let kept = apps.clone();
        self.0
            .contexts
            .edit::<(), AppContextError, _>(parameters.context, move |context| {
                for (name, app) in &mut context.apps {
                    if let Some(kept) = kept.get(name) {
                        app.clusters.retain(|cluster, _| kept.contains(cluster));
                    }
                }
                Ok(())
            })
            .await
            .map_err(context_failed)?;
        let count: usize = apps.values().map(BTreeSet::len).sum();
        step.progress(100, format!("{count} clusters over {} applications", apps.len()));
        Ok(Chosen { apps: if count > TOLD { BTreeMap::new() } else { apps } })
    }
}

/// The choice, among what placement controllers left.
fn chosen(
    deployment: &Deployment,
    facts: &Clusters,
    allowed: &BTreeSet<ClusterName>,
    context: &AppContext,
) -> Result<Placement, Box<StepError>> {
    let refuse = |refusal: Refusal| Box::new(refused(&refusal));
    let needs: BTreeMap<String, Amounts> = deployment
        .apps
        .iter()
        .filter(|app| app.rules.must_have_room)
        .map(|app| {
            let part = context.apps.get(&app.name).and_then(|app| app.clusters.values().next());
            let texts = part.into_iter().flat_map(|part| part.resources.values()).map(|one| &*one.manifest);
            (app.name.clone(), needs_of_texts(texts))
        })
        .collect();
    let requests = requests(deployment, &needs);
    let mut placement =
        filter(&requests, facts, Some(allowed)).map_err(|error| Box::new(unplaced(&error)))?;
    for plan in &mut placement.apps {
        let left = context.apps.get(&plan.app).map(|app| &app.clusters);
        let known = plan.clusters();
        if let Some(stranger) =
            left.into_iter().flat_map(BTreeMap::keys).find(|name| !known.contains_key(name))
        {
            return Err(refuse(Refusal::failed(format!(
                "a placement controller put app {} on cluster {stranger}, which its intent does not allow",
                plan.app
            ))));
        }
        let mut gone = None;
        for group in &mut plan.groups {
            for candidate in &mut group.candidates {
                let is_left = left.is_some_and(|left| left.contains_key(&candidate.cluster));
                if candidate.verdict == Verdict::Candidate && !is_left {
                    candidate.verdict = Verdict::Unfit;
                    candidate.reasons.push("a placement controller left it out".to_owned());
                    if group.mandatory {
                        gone.get_or_insert_with(|| candidate.cluster.clone());
                    }
                }
            }
        }
        if let Some(cluster) = gone {
            return Err(refuse(Refusal::state(format!(
                "app {} must run on cluster {cluster}, which a placement controller left out",
                plan.app
            ))));
        }
    }
    choose(placement, &requests, facts).map_err(|error| Box::new(unplaced(&error)))
}
