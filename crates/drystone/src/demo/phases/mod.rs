//! The phases of the demo, in the order of the main job.

mod apart;
mod applications;
mod compose;
mod give_back;
mod list;
mod patch;
mod run;
mod site;
pub(super) mod vnf;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{report::Report, stage::Stage};
use crate::command::Failure;

/// How long a phase may wait for what it declared.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);
/// The same, for `kubectl wait`.
const TIMEOUT: &str = "--timeout=300s";

/// Runs all phases.
pub(super) async fn all(stage: &mut Stage, report: &mut Report) -> Result<(), Failure> {
    if let Some(reason) = &stage.simulated {
        report.line(&format!("Hosts are simulated, because {reason}:"));
        report
            .line("real Redfish, switches' tables and boot media over HTTP, but nothing runs on the hosts,");
        report.line("so that no node joins, no pod starts and no packet flows.");
    }
    site::discover(stage, report).await?;
    compose::compose(stage, report).await?;
    compose::zone(stage, report).await?;
    if stage.simulated.is_some() {
        compose::power(stage, report).await?;
    } else {
        let cluster = compose::boot(stage, report).await?;
        run::deploy(stage, report, &cluster).await?;
        run::reach(stage, report, &cluster).await?;
        apart::second_cluster(stage, report, &cluster).await?;
        run::grow(stage, report, &cluster).await?;
        give_back::workload(stage, report, &cluster).await?;
    }
    give_back::clusters(stage, report).await?;
    if stage.simulated.is_none() {
        list::site_cluster(stage, report).await?;
        patch::package(stage, report).await?;
        list::dissolve(stage, report).await?;
    }
    give_back::nothing_left(stage, report).await
}

/// Runs the phases of composite applications.
pub(super) async fn applications(stage: &mut Stage, report: &mut Report) -> Result<(), Failure> {
    if let Some(reason) = &stage.simulated {
        return Err(format!("applications need hosts on which something runs, and here {reason}").into());
    }
    site::discover(stage, report).await?;
    let clusters = applications::clusters(stage, report).await?;
    applications::deploy(stage, report, &clusters).await?;
    applications::change(stage, report, &clusters).await?;
    applications::terminate(stage, report, &clusters).await?;
    give_back::clusters(stage, report).await?;
    give_back::nothing_left(stage, report).await
}

/// A cluster and how to speak to it.
pub(super) struct Inside {
    /// Its kubeconfig.
    pub(super) kubeconfig: std::path::PathBuf,
}

impl Inside {
    /// What `kubectl get … -o json` says of Drystone or, with a kubeconfig, of a cluster.
    async fn json(&self, stage: &Stage, arguments: &[&str]) -> Result<Value, Failure> {
        json_of(stage, &self.kubeconfig, arguments).await
    }

    /// Runs kubectl in the cluster.
    async fn kubectl(&self, stage: &Stage, arguments: &[&str]) -> Result<String, Failure> {
        stage.kubectl_at(&self.kubeconfig, arguments).await
    }
}

/// What `kubectl get … -o json` says of Drystone's own objects.
async fn json(stage: &Stage, arguments: &[&str]) -> Result<Value, Failure> {
    json_of(stage, &stage.data("kubeconfig"), arguments).await
}

async fn json_of(stage: &Stage, kubeconfig: &Path, arguments: &[&str]) -> Result<Value, Failure> {
    let text = stage.kubectl_at(kubeconfig, arguments.iter().copied().chain(["-o", "json"])).await?;
    Ok(serde_json::from_str(&text)?)
}

fn items(list: &Value) -> Vec<Value> {
    list["items"].as_array().cloned().unwrap_or_default()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Asks again until the answer is there; says what was waited for if it does not come.
async fn wait_for<T>(
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let deadline = Instant::now() + PATIENCE;
    let mut last = String::new();
    while Instant::now() < deadline {
        match ask().await {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => {}
            Err(error) => last = format!(": {error}"),
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Err(format!("{what} did not come within {} s{last}", PATIENCE.as_secs()).into())
}
