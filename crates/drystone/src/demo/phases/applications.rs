//! A composite application over two composed clusters: deployed, updated, rolled back, terminated.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{Inside, Report, Stage, TIMEOUT, items, json, text, wait_for};
use crate::command::Failure;

const GROUP: &str = "projects/shop/composite-apps/shop/v1/deployment-intent-groups/open";
const NAMESPACE: &str = "shop";

/// Two clusters, which make themselves known to applications.
pub(super) async fn clusters(stage: &Stage, report: &mut Report) -> Result<[Inside; 2], Failure> {
    let began = report.begin("Two clusters, which applications can be deployed to at once");
    let file = stage.examples.join("applications/shop/clusters.yaml");
    report.line(&stage.kubectl(["apply".as_ref(), "-f".as_ref(), file.as_os_str()]).await?);
    // Both at once: by the time that one is up, the other's operation may be over.
    let east = up(stage, "east").await?;
    let west = up(stage, "west").await?;
    wait_for("the clusters among those that applications can be deployed to", async || {
        let known = json(stage, &["get", "clusters.emco.drystone.dev", "-n", "drystone-system"]).await?;
        let up = |cluster: &&Value| text(cluster, "/status/connectivity") == "Available";
        Ok((items(&known).iter().filter(up).count() == 2).then_some(()))
    })
    .await?;
    report.line(&stage.kubectl(["get", "clusters.emco.drystone.dev", "-n", "drystone-system"]).await?);
    report.end("clusters", began, "onboarded by themselves, with their labels");
    Ok([east, west])
}

/// Waits until a cluster is ready.
async fn up(stage: &Stage, name: &str) -> Result<Inside, Failure> {
    let path = format!("cluster/{name}");
    stage.kubectl(["wait", "--for=condition=Ready", TIMEOUT, "-n", NAMESPACE, &path]).await?;
    let config = stage.drystone(["kubeconfig", name, "-n", NAMESPACE]).await?;
    let kubeconfig = stage.data(&format!("{name}.kubeconfig"));
    drystone_identity::files::write_private(&kubeconfig, config.as_bytes())?;
    Ok(Inside { kubeconfig })
}

/// The files of the application, packed as they are uploaded.
async fn packed(stage: &Stage) -> Result<PathBuf, Failure> {
    let (pack, directory) = (stage.examples.join("applications/shop/pack"), stage.data("shop"));
    let status = tokio::process::Command::new(&pack).arg(&directory).status().await;
    let status = status.map_err(|error| format!("starting {}: {error}", pack.display()))?;
    if status.success() { Ok(directory) } else { Err(format!("{} failed", pack.display()).into()) }
}

async fn app(stage: &Stage, arguments: &[&str]) -> Result<String, Failure> {
    let arguments = [OsString::from("app")].into_iter().chain(arguments.iter().map(OsString::from));
    stage.drystone_at(&stage.data("kubeconfig"), arguments).await
}

async fn apply(stage: &Stage, file: &Path) -> Result<String, Failure> {
    app(stage, &["apply", "-f", &file.to_string_lossy()]).await
}

async fn status(stage: &Stage, query: &str) -> Result<Value, Failure> {
    let path = format!("/v2/{GROUP}/status?{query}");
    Ok(serde_json::from_str(&stage.kubectl(["get", "--raw", &path]).await?)?)
}

/// The application over both clusters.
pub(super) async fn deploy(stage: &Stage, report: &mut Report, inside: &[Inside; 2]) -> Result<(), Failure> {
    let began = report.begin("One application over both clusters: drystone app apply -f shop.yaml");
    let directory = packed(stage).await?;
    report.line(&apply(stage, &directory.join("networks.yaml")).await?);
    report.line(&apply(stage, &directory.join("shop.yaml")).await?);
    report.line(&app(stage, &["plan", GROUP]).await?);
    ready(stage).await?;
    greeting(stage, inside, "good afternoon").await?;
    let told = status(stage, "status=ready&output=summary").await?;
    report.line(&format!("readyStatus {}, {}", told["readyStatus"], told["readyCounts"]));
    report.end("deploy", began, "the web server runs on both clusters, the stock on one; it was waited for");
    Ok(())
}

async fn ready(stage: &Stage) -> Result<(), Failure> {
    wait_for("the readiness of the application", async || {
        let told = status(stage, "status=ready&output=summary").await?;
        let done = told["readyStatus"] == "Ready" && told["deployedStatus"] == "Instantiated";
        Ok(done.then_some(()))
    })
    .await
}

async fn greeting(stage: &Stage, inside: &[Inside; 2], expected: &str) -> Result<(), Failure> {
    wait_for(&format!("the greeting {expected:?} on both clusters"), async || {
        for cluster in inside {
            let map = cluster.json(stage, &["get", "configmap", "shop-greeting"]).await?;
            if text(&map, "/data/greeting") != expected {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
    .await
}

/// Another revision, and back.
pub(super) async fn change(stage: &Stage, report: &mut Report, inside: &[Inside; 2]) -> Result<(), Failure> {
    let began = report.begin("An update on both clusters, and back to the first revision");
    let groups = json(stage, &["get", "deploymentintentgroups", "-n", "drystone-system"]).await?;
    let name =
        items(&groups).first().map(|group| text(group, "/metadata/name").to_owned()).unwrap_or_default();
    let values = serde_json::json!([{"app": "web", "values": {"greeting": "good evening"}}]);
    let patch = serde_json::json!({"spec": {"overrideValues": values}}).to_string();
    let target =
        ["patch", "deploymentintentgroups", &name, "-n", "drystone-system", "--type=merge", "-p", &patch];
    report.line(&stage.kubectl(target).await?);
    report.line(&app(stage, &["apply", &format!("{GROUP}/update")]).await?);
    greeting(stage, inside, "good evening").await?;
    ready(stage).await?;
    report.line("both say \"good evening\"");
    let file = stage.data("rollback.yaml");
    let text = format!(
        "version: emco/v2\nresourceContext: {{anchor: {GROUP}/rollback}}\nmetadata: {{name: back}}\nspec: {{revision: \"1\"}}\n"
    );
    tokio::fs::write(&file, text).await?;
    report.line(&apply(stage, &file).await?);
    greeting(stage, inside, "good afternoon").await?;
    let told = status(stage, "output=summary").await?;
    for state in told["states"]["actions"].as_array().into_iter().flatten() {
        report.line(&format!("{} revision {}", state["state"], state["revision"]));
    }
    report.end("update, roll-back", began, "each carried to both clusters");
    Ok(())
}

/// The application goes, then the clusters.
pub(super) async fn terminate(
    stage: &Stage,
    report: &mut Report,
    inside: &[Inside; 2],
) -> Result<(), Failure> {
    let began = report.begin("The application goes");
    let file = stage.data("shop/shop.yaml");
    report.line(&app(stage, &["delete", "-f", &file.to_string_lossy()]).await?);
    wait_for("the end of the application", async || {
        for cluster in inside {
            if !items(&cluster.json(stage, &["get", "deployments,services,configmaps"]).await?)
                .iter()
                .all(|object| !text(object, "/metadata/name").starts_with("shop-"))
            {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
    .await?;
    let path = "cluster-providers/drystone/clusters/shop.east/terminate";
    report.line(&app(stage, &["apply", path]).await?);
    report.end("terminate", began, "nothing of it is left on either cluster");
    Ok(())
}
