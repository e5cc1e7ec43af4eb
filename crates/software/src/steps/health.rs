//! Whether a host is well after it was changed.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use drystone_engine::action::{Action, StepContext, StepError};
use k8s_openapi::api::core::v1::Node;
use kube::Api;

use super::{HostParameters, StepDependencies, drain::cluster_of, scene::Scene};
use crate::access::last_lines;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// How long the command may take.
const COMMAND: Duration = Duration::from_secs(120);

/// Waits until a host is well. Its time ends with the step's.
pub struct Health(pub(super) StepDependencies);

impl Action for Health {
    const NAME: &'static str = "software.await-health";
    type Parameters = HostParameters;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: HostParameters) -> Result<(), StepError> {
        let scene = Scene::find(context, &self.0, &parameters.host).await?;
        let last = Mutex::new(String::new());
        let tell = |percent, why: String| {
            context.progress(percent, why.clone());
            *last.lock().unwrap_or_else(PoisonError::into_inner) = why;
        };
        let well = async {
            self.node_is_ready(context, &scene, &tell).await?;
            self.command_succeeds(context, &scene, &tell).await
        };
        match context.wait_for(well).await {
            Ok(outcome) => outcome,
            Err(ended) => {
                let last = last.into_inner().unwrap_or_else(PoisonError::into_inner);
                Err(if last.is_empty() { ended } else { StepError::transient(last) })
            }
        }
    }
}

impl Health {
    /// Waits until the Node has been ready for as long as is asked for, without interruption.
    async fn node_is_ready(
        &self,
        context: &StepContext,
        scene: &Scene,
        tell: &(impl Fn(u8, String) + Sync),
    ) -> Result<(), StepError> {
        let Some(client) = cluster_of(context, scene).await? else { return Ok(()) };
        let nodes: Api<Node> = Api::all(client);
        let wanted = Duration::from_secs(scene.strategy.health.node_ready_seconds.unwrap_or(0).into());
        let mut since = None;
        loop {
            let reason = match nodes.get_opt(&scene.host.name).await {
                Ok(Some(node)) if is_ready(&node) => None,
                Ok(Some(_)) => Some("its Node is not ready".to_owned()),
                Ok(None) => Some("it has no Node".to_owned()),
                Err(error) => Some(error.to_string()),
            };
            match reason {
                None => {
                    let begun = *since.get_or_insert_with(Instant::now);
                    if begun.elapsed() >= wanted {
                        return Ok(());
                    }
                    tell(50, format!("ready for {} of {} s", begun.elapsed().as_secs(), wanted.as_secs()));
                }
                Some(reason) => {
                    since = None;
                    tell(20, reason);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until the command succeeds.
    async fn command_succeeds(
        &self,
        context: &StepContext,
        scene: &Scene,
        tell: &(impl Fn(u8, String) + Sync),
    ) -> Result<(), StepError> {
        let command = &scene.strategy.health.command;
        if command.is_empty() {
            return Ok(());
        }
        let Some(access) = &scene.wanted.access else {
            return Err(StepError::permanent("a health command needs spec.access of the SoftwareSet"));
        };
        loop {
            let ran = match scene.open(context, &self.0, access).await {
                Ok(way) => way.run(command, COMMAND).await,
                Err(error) => Err(error),
            };
            let reason = match ran {
                Ok(ran) if ran.status == 0 => return Ok(()),
                Ok(ran) => {
                    let said = format!("{}\n{}", ran.output, ran.errors);
                    format!("the health command says {}: {}", ran.status, last_lines(&said, 2))
                }
                Err(error) => error.to_string(),
            };
            tell(60, reason);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
