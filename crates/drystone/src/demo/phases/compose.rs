//! A cluster is declared: its hosts are chosen, isolated, powered on and booted.

use serde_json::Value;

use super::{Inside, Report, Stage, TIMEOUT, items, json, text, wait_for};
use crate::command::Failure;

/// Hosts are chosen.
pub(super) async fn compose(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    let began = report.begin("A cluster \"to run ML Ops as a priority\": kubectl apply -f cluster.yaml");
    let file = stage.examples.join("mlops/cluster.yaml");
    report.line(&stage.kubectl(["apply".as_ref(), "-f".as_ref(), file.as_os_str()]).await?);
    wait_for("the composition", async || {
        let found = json(stage, &["get", "compositions", "-n", "research"]).await?;
        Ok((!items(&found).is_empty()).then_some(()))
    })
    .await?;
    stage
        .kubectl(["wait", "--for=condition=Reserved", TIMEOUT, "-n", "research", "composition/mlops"])
        .await?;
    report.line(&stage.drystone(["explain", "research/mlops"]).await?);
    report.end("compose", began, "hosts chosen, explained and locked");
    Ok(())
}

/// The zone around them.
pub(super) async fn zone(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    let began = report.begin("A fabric zone around it");
    wait_for("the zone", async || {
        let found = json(stage, &["get", "zones", "-n", "research"]).await?;
        Ok((!items(&found).is_empty()).then_some(()))
    })
    .await?;
    stage.kubectl(["wait", "--for=condition=Isolated", TIMEOUT, "-n", "research", "zone/mlops"]).await?;
    let zone = json(stage, &["get", "zone/mlops", "-n", "research"]).await?;
    let switches: Vec<&str> = zone["status"]["fabrics"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|fabric| fabric["switches"].as_array().into_iter().flatten())
        .filter_map(Value::as_str)
        .collect();
    report.line(&format!("switches patched: {}", switches.join(", ")));
    let proof = format!("proven from the tables read back: {}", text(&zone, "/status/message"));
    report.end("zone", began, proof);
    Ok(())
}

/// Hosts power on and boot; the control plane comes up and nodes join.
pub(super) async fn boot(stage: &Stage, report: &mut Report) -> Result<Inside, Failure> {
    let began = report.begin("Hosts power on through their BMCs and boot; control plane and workers come up");
    let inside = follow(stage, report, "research", "mlops").await?;
    report.line("$ drystone kubeconfig mlops > mlops.kubeconfig; kubectl get nodes");
    report.line(&inside.kubectl(stage, &["get", "nodes", "-o", "wide"]).await?);
    let nodes = items(&inside.json(stage, &["get", "nodes"]).await?);
    report.end("boot", began, format!("{} nodes ready, with certificates of their own", nodes.len()));
    Ok(inside)
}

/// Shows the operation that builds a cluster, and waits until the cluster is ready.
pub(super) async fn follow(
    stage: &Stage,
    report: &Report,
    namespace: &str,
    name: &str,
) -> Result<Inside, Failure> {
    let path = format!("cluster/{name}");
    // Where hosts boot fast it may be over before it is looked for.
    let operation = wait_for("the operation", async || {
        let cluster = json(stage, &["get", &path, "-n", namespace]).await?;
        let operation = text(&cluster, "/status/operation/name").to_owned();
        let over = text(&cluster, "/status/phase") == "Ready";
        Ok((over || !operation.is_empty()).then_some(operation))
    })
    .await?;
    if !operation.is_empty() {
        let key = format!("{namespace}/{operation}");
        stage.drystone_shown(["ops", "watch", &key], report).await?;
    }
    stage.kubectl(["wait", "--for=condition=Ready", TIMEOUT, "-n", namespace, &path]).await?;
    let config = stage.drystone(["kubeconfig", name, "-n", namespace]).await?;
    let kubeconfig = stage.data(&format!("{name}.kubeconfig"));
    drystone_identity::files::write_private(&kubeconfig, config.as_bytes())?;
    Ok(Inside { kubeconfig })
}

/// Simulated hosts: they power on and are provisioned, and that is all.
pub(super) async fn power(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    let began = report.begin("Hosts power on through their BMCs and boot");
    wait_for("provisioned hosts", async || {
        let hosts = items(&json(stage, &["get", "baremetalhosts", "-n", "drystone-system"]).await?);
        let claimed: Vec<&Value> =
            hosts.iter().filter(|host| !text(host, "/spec/consumerRef/name").is_empty()).collect();
        let ready = |host: &&Value| text(host, "/status/provisioning/state") == "provisioned";
        Ok((!claimed.is_empty() && claimed.iter().all(ready)).then_some(()))
    })
    .await?;
    report.line(&stage.kubectl(["get", "baremetalhosts", "-n", "drystone-system"]).await?);
    report.line(&stage.drystone(["ops"]).await?);
    report.end("boot", began, "hosts are on and provisioned (simulated)");
    Ok(())
}
