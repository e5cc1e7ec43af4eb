//! Everything is destroyed and returns to the pools.

use std::time::Duration;

use tokio::time::Instant;

use super::{Inside, Report, Stage, TIMEOUT, items, json, run::external_address, text};
use crate::command::Failure;

/// What was deployed is destroyed.
pub(super) async fn workload(stage: &Stage, report: &mut Report, inside: &Inside) -> Result<(), Failure> {
    let began = report.begin("The application goes: kubectl destroy -f");
    let address = external_address(stage, inside).await?;
    for file in ["mlops/service.yaml", "mlops/deployment.yaml"] {
        let file = stage.examples.join(file);
        let arguments = ["kubectl-destroy".as_ref(), "-f".as_ref(), file.as_os_str()];
        report.line(&stage.drystone_at(&inside.kubeconfig, arguments).await?);
    }
    inside.kubectl(stage, &["wait", "--for=delete", "pods", "-l", "app=hello", TIMEOUT]).await?;
    if let Ok(answer) = stage.fetch(&address).await {
        return Err(format!("{address} still answers: {answer}").into());
    }
    report.end("destroy", began, format!("no pod left; {address} answers no more"));
    Ok(())
}

/// The clusters are deleted; nothing of them may be left.
pub(super) async fn clusters(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    let began = report.begin("The clusters are deleted");
    for cluster in items(&json(stage, &["get", "clusters", "-A"]).await?) {
        let name = format!("cluster/{}", text(&cluster, "/metadata/name"));
        let namespace = text(&cluster, "/metadata/namespace");
        report.line(&stage.kubectl(["delete", &name, "-n", namespace, TIMEOUT]).await?);
    }
    check(stage).await?;
    report.line(&stage.kubectl(["get", "baremetalhosts", "-n", "drystone-system"]).await?);
    report.end("give back", began, "no zone, no lease, no host in use");
    Ok(())
}

/// At the end of everything.
pub(super) async fn nothing_left(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    let began = report.begin("Nothing is in use any more");
    check(stage).await?;
    report.end("the end", began, "no zone, no lease, no host in use");
    Ok(())
}

/// How long leases may be there after a cluster: the pool of its pods' addresses is collected when it is gone.
const PATIENCE: Duration = Duration::from_secs(60);

async fn check(stage: &Stage) -> Result<(), Failure> {
    let hosts = items(&json(stage, &["get", "baremetalhosts", "-n", "drystone-system"]).await?);
    let claimed = hosts.iter().filter(|host| !text(host, "/spec/consumerRef/name").is_empty()).count();
    let zones = items(&json(stage, &["get", "zones", "-A"]).await?).len();
    let deadline = Instant::now() + PATIENCE;
    let mut leases = leases(stage).await?;
    while leases > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(250)).await;
        leases = self::leases(stage).await?;
    }
    if claimed + zones + leases > 0 {
        return Err(format!("not given back: {claimed} hosts, {zones} zones, {leases} leases").into());
    }
    Ok(())
}

async fn leases(stage: &Stage) -> Result<usize, Failure> {
    let pools = items(&json(stage, &["get", "addresspools", "-A"]).await?);
    Ok(pools.iter().map(|pool| pool["status"]["leases"].as_array().map_or(0, Vec::len)).sum())
}
