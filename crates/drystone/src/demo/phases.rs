//! The phases of the demo, in the order of the main job.

use std::time::Duration;

use serde_json::Value;

use super::{report::Report, stage::Stage};
use crate::command::Failure;

/// How long a phase may wait for what it declared.
const PATIENCE: &str = "--timeout=300s";

/// Runs all phases.
pub(super) async fn all(stage: &mut Stage, report: &mut Report) -> Result<(), Failure> {
    report.line("The hosts of this version's demo are simulated: real Redfish, switches' tables and boot media over HTTP,");
    report.line("but nothing runs on the hosts, so no node joins and no pod starts.");
    site(stage, report).await?;
    compose(stage, report).await?;
    boot(stage, report).await?;
    give_back(stage, report).await
}

async fn json(stage: &Stage, arguments: &[&str]) -> Result<Value, Failure> {
    let text = stage.kubectl(arguments.iter().copied().chain(["-o", "json"])).await?;
    Ok(serde_json::from_str(&text)?)
}

fn items(list: &Value) -> Vec<Value> {
    list["items"].as_array().cloned().unwrap_or_default()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// An emulated site starts and is discovered by crawling Redfish.
async fn site(stage: &mut Stage, report: &mut Report) -> Result<(), Failure> {
    let began = report.begin("A site of 12 servers: BMCs, switches, a fabric agent, pools");
    report.line(&stage.start().await?);
    stage.kubectl(["wait", "--for=condition=Ready", PATIENCE, "-n", "drystone-system", "site/rack"]).await?;
    let hosts = items(&json(stage, &["get", "baremetalhosts", "-n", "drystone-system"]).await?);
    let on =
        hosts.iter().filter(|host| host.pointer("/status/poweredOn") == Some(&Value::Bool(true))).count();
    report.line(&stage.kubectl(["get", "resourceblocks", "-n", "drystone-system"]).await?);
    report.line(
        &stage
            .kubectl([
                "wait",
                "--for=condition=Ready",
                PATIENCE,
                "-n",
                "drystone-system",
                "fabricagents",
                "--all",
            ])
            .await?,
    );
    report.line(&stage.kubectl(["get", "fabricagents", "-n", "drystone-system"]).await?);
    report.end(
        "site",
        began,
        format!("{} hosts inspected over Redfish, {on} on, {} off", hosts.len(), hosts.len() - on),
    );
    Ok(())
}

/// A cluster is declared, its hosts are chosen and isolated.
async fn compose(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    let began = report.begin("A cluster to run ML Ops as a priority");
    let file = stage.examples.join("mlops/cluster.yaml");
    report.line(&stage.kubectl(["apply".as_ref(), "-f".as_ref(), file.as_os_str()]).await?);
    stage
        .kubectl(["wait", "--for=condition=Reserved", PATIENCE, "-n", "research", "composition/mlops"])
        .await?;
    report.line(&stage.drystone(["explain", "research/mlops"]).await?);
    report.end("compose", began, "hosts chosen, explained and locked");
    let began = report.begin("A fabric zone around it");
    stage.kubectl(["wait", "--for=condition=Isolated", PATIENCE, "-n", "research", "zone/mlops"]).await?;
    let zone = json(stage, &["get", "zone/mlops", "-n", "research"]).await?;
    let switches: Vec<&str> = zone["status"]["fabrics"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|fabric| fabric["switches"].as_array().into_iter().flatten())
        .filter_map(Value::as_str)
        .collect();
    report.line(&format!("switches patched: {}", switches.join(", ")));
    report.end(
        "zone",
        began,
        format!("proven from the tables read back: {}", text(&zone, "/status/message")),
    );
    Ok(())
}

/// Hosts power on and boot.
async fn boot(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    let began = report.begin("Hosts power on through their BMCs and boot");
    wait_for_power(stage, report).await?;
    report.line(&stage.drystone(["ops"]).await?);
    report.end("boot", began, "hosts are on and provisioned (simulated)");
    Ok(())
}

async fn wait_for_power(stage: &Stage, report: &Report) -> Result<(), Failure> {
    for _ in 0..150 {
        let hosts = items(&json(stage, &["get", "baremetalhosts", "-n", "drystone-system"]).await?);
        let claimed: Vec<&Value> =
            hosts.iter().filter(|host| !text(host, "/spec/consumerRef/name").is_empty()).collect();
        let ready = |host: &&&Value| text(host, "/status/provisioning/state") == "provisioned";
        if !claimed.is_empty() && claimed.iter().all(|host| ready(&host)) {
            report.line(&stage.kubectl(["get", "baremetalhosts", "-n", "drystone-system"]).await?);
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    Err("the hosts were not provisioned within 300 s".into())
}

/// The cluster is deleted: everything returns to the pools.
async fn give_back(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    let began = report.begin("The cluster is deleted");
    report.line(&stage.kubectl(["delete", "cluster/mlops", "-n", "research", PATIENCE]).await?);
    let hosts = items(&json(stage, &["get", "baremetalhosts", "-n", "drystone-system"]).await?);
    let claimed = hosts.iter().filter(|host| !text(host, "/spec/consumerRef/name").is_empty()).count();
    let zones = items(&json(stage, &["get", "zones", "-A"]).await?).len();
    let pools = items(&json(stage, &["get", "addresspools", "-A"]).await?);
    let leases: usize =
        pools.iter().map(|pool| pool["status"]["leases"].as_array().map_or(0, Vec::len)).sum();
    if claimed + zones + leases > 0 {
        return Err(format!("not given back: {claimed} hosts, {zones} zones, {leases} leases").into());
    }
    report.end("give back", began, "no zone, no lease, no host in use");
    Ok(())
}
