//! An emulated site starts and is discovered by crawling Redfish.

use serde_json::Value;

use super::{Report, Stage, TIMEOUT, items, json};
use crate::command::Failure;

/// Starts the site and waits until all of it is known.
pub(super) async fn discover(stage: &mut Stage, report: &mut Report) -> Result<(), Failure> {
    let began = report.begin("A site of 12 servers: BMCs, switches, a fabric agent, pools of devices");
    report.line(&stage.start(&[]).await?);
    let system = ["-n", "drystone-system"];
    let wait = |object: &'static str| ["wait", "--for=condition=Ready", TIMEOUT, object];
    stage.kubectl(wait("site/rack").iter().chain(&system)).await?;
    report.line(&stage.kubectl(["get", "resourceblocks"].iter().chain(&system)).await?);
    stage
        .kubectl(["wait", "--for=condition=Ready", TIMEOUT, "fabricagents", "--all"].iter().chain(&system))
        .await?;
    report.line(&stage.kubectl(["get", "fabricagents"].iter().chain(&system)).await?);
    let hosts = items(&json(stage, &["get", "baremetalhosts", "-n", "drystone-system"]).await?);
    let on =
        hosts.iter().filter(|host| host.pointer("/status/poweredOn") == Some(&Value::Bool(true))).count();
    report.end(
        "site",
        began,
        format!("{} hosts inspected over Redfish, {on} on, {} off", hosts.len(), hosts.len() - on),
    );
    Ok(())
}
