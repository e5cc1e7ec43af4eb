//! A site's own cluster follows the site's list of hosts.

use serde_json::{Value, json};

use super::{Inside, Report, Stage, TIMEOUT, compose, items, json as get, text, wait_for};
use crate::command::Failure;

const NAMESPACE: &str = "rack";
const CLUSTER: &str = "rack";

/// The cluster out of two hosts of the list; a third one is added, and joins.
pub(super) async fn site_cluster(stage: &Stage, report: &mut Report) -> Result<Inside, Failure> {
    let began = report.begin("The site's own cluster, out of its list of hosts");
    let cluster = json!({"name": CLUSTER, "namespace": NAMESPACE});
    declare(stage, &[("control-01", "ControlPlane"), ("compute-01", "Worker")], &cluster).await?;
    report.line("on the list: control-01 as control plane, compute-01 as worker; all others are spare");
    wait_for("the cluster of the list", async || {
        let found = get(stage, &["get", "clusters", "-n", NAMESPACE]).await?;
        Ok((!items(&found).is_empty()).then_some(()))
    })
    .await?;
    let inside = compose::follow(stage, report, NAMESPACE, CLUSTER).await?;
    report.line(&inside.kubectl(stage, &["get", "nodes"]).await?);
    let roles = [("control-01", "ControlPlane"), ("compute-01", "Worker"), ("compute-02", "Worker")];
    declare(stage, &roles, &cluster).await?;
    report.line("compute-02 is added to the list as a worker");
    wait_for("compute-02 as a node", async || {
        let node = inside.json(stage, &["get", "node", "compute-02"]).await?;
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().any(|found| found["type"] == "Ready" && found["status"] == "True");
        Ok(ready.then_some(()))
    })
    .await?;
    report.line(&inside.kubectl(stage, &["get", "nodes"]).await?);
    report.line(&stage.kubectl(["get", "site", "rack", "-n", "drystone-system"]).await?);
    report.end("list", began, "a host was added to the list: it was installed and has joined");
    Ok(inside)
}

/// The list is for compositions again.
pub(super) async fn dissolve(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    let began = report.begin("The site's cluster goes");
    declare(stage, &[], &Value::Null).await?;
    wait_for("the end of the site's cluster", async || {
        let found = get(stage, &["get", "clusters", "-n", NAMESPACE]).await?;
        Ok(items(&found).is_empty().then_some(()))
    })
    .await?;
    stage.kubectl(["delete", "namespace", NAMESPACE, TIMEOUT]).await?;
    report.end("list's end", began, "its hosts wait for compositions again");
    Ok(())
}

/// Writes roles and cluster into the Site. Hosts without a role are spare.
async fn declare(stage: &Stage, roles: &[(&str, &str)], cluster: &Value) -> Result<(), Failure> {
    let site = get(stage, &["get", "site/rack", "-n", "drystone-system"]).await?;
    let mut bmcs = site["spec"]["bmcs"].as_array().cloned().unwrap_or_default();
    for bmc in &mut bmcs {
        let role = roles.iter().find(|(name, _)| *name == text(bmc, "/name"));
        bmc["role"] = json!(role.map_or("Spare", |(_, role)| *role));
    }
    let patch = json!({"spec": {"bmcs": bmcs, "cluster": cluster}}).to_string();
    stage
        .kubectl(["patch", "site/rack", "-n", "drystone-system", "--type=merge", "-p", patch.as_str()])
        .await?;
    Ok(())
}
