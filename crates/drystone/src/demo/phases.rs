//! The phases of the demo, in the order of the main job.

use std::time::Duration;

use serde_json::Value;

use super::{packets, report::Report, stage::Stage};
use crate::command::Failure;

/// How long a phase may wait for what it declared.
const PATIENCE: &str = "--timeout=300s";

/// Runs all phases.
pub(super) async fn all(stage: &mut Stage, report: &mut Report) -> Result<(), Failure> {
    site(stage, report).await?;
    compose(stage, report).await?;
    boot(stage, report).await?;
    if !Stage::has_root() {
        report.line("Without root the hosts are simulated: they switch on and off, but nothing runs on them.");
        report.line("Run the demo as root for pods, packets and growth.");
        return give_back(stage, report).await;
    }
    packets(stage, report).await?;
    application(stage, report).await?;
    growth(stage, report).await?;
    destroy(stage, report).await?;
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
    prepare_images(stage)?;
    report.line(&stage.start().await?);
    stage.kubectl(["wait", "--for=condition=Ready", PATIENCE, "-n", "drystone-system", "site/rack"]).await?;
    let hosts = items(&json(stage, &["get", "baremetalhosts", "-n", "drystone-system"]).await?);
    let on = hosts.iter().filter(|host| host.pointer("/status/poweredOn") == Some(&Value::Bool(true))).count();
    report.line(&stage.kubectl(["get", "resourceblocks", "-n", "drystone-system"]).await?);
    report.line(&stage.kubectl(["wait", "--for=condition=Ready", PATIENCE, "-n", "drystone-system", "fabricagents", "--all"]).await?);
    report.line(&stage.kubectl(["get", "fabricagents", "-n", "drystone-system"]).await?);
    report.end("site", began, format!("{} hosts inspected over Redfish, {on} on, {} off", hosts.len(), hosts.len() - on));
    Ok(())
}

/// Archives of the demo's images, which nodes import: a closed network has no registry.
fn prepare_images(stage: &Stage) -> Result<(), Failure> {
    let program = stage.images.join("hello");
    let directory = stage.data("images");
    std::fs::create_dir_all(&directory)?;
    crate::up::images::write_archives(&program, &directory)
        .map_err(|error| format!("{}: {error}; build it with `./dev build`", program.display()).into())
}

/// A cluster is declared, its hosts are chosen and isolated.
async fn compose(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    let began = report.begin("A cluster to run ML Ops as a priority");
    let file = stage.examples.join("mlops/cluster.yaml");
    report.line(&stage.kubectl(["apply".as_ref(), "-f".as_ref(), file.as_os_str()]).await?);
    stage.kubectl(["wait", "--for=condition=Reserved", PATIENCE, "-n", "research", "composition/mlops"]).await?;
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
    report.end("zone", began, format!("proven from the tables read back: {}", text(&zone, "/status/message")));
    Ok(())
}

/// Hosts power on, boot and become nodes.
async fn boot(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    let began = report.begin("Hosts power on and boot; control plane and workers come up");
    if !Stage::has_root() {
        wait_for_power(stage, report).await?;
        report.end("boot", began, "hosts are on (simulated)");
        return Ok(());
    }
    let wait = stage.kubectl(["wait", "--for=condition=Ready", PATIENCE, "-n", "research", "cluster/mlops"]);
    tokio::pin!(wait);
    let mut tick = tokio::time::interval(Duration::from_secs(2));
    let mut shown = String::new();
    loop {
        tokio::select! {
            done = &mut wait => { done?; break; }
            _ = tick.tick() => {
                let cluster = json(stage, &["get", "cluster/mlops", "-n", "research"]).await?;
                let message = text(&cluster, "/status/message").to_owned();
                if message != shown { report.line(&message); shown = message; }
            }
        }
    }
    let kubeconfig = stage.drystone(["kubeconfig", "research/mlops"]).await?;
    std::fs::write(stage.data("mlops.kubeconfig"), kubeconfig)?;
    report.line(&stage.inside(["get", "nodes", "-o", "wide"]).await?);
    let nodes: Value = serde_json::from_str(&stage.inside(["get", "nodes", "-o", "json"]).await?)?;
    report.end("boot", began, format!("{} nodes ready, certificates of the cluster's own", items(&nodes).len()));
    Ok(())
}

async fn wait_for_power(stage: &Stage, report: &Report) -> Result<(), Failure> {
    for _ in 0..150 {
        let hosts = items(&json(stage, &["get", "baremetalhosts", "-n", "drystone-system"]).await?);
        let claimed: Vec<&Value> = hosts.iter().filter(|host| !text(host, "/spec/consumerRef/name").is_empty()).collect();
        let ready = |host: &&&Value| text(host, "/status/provisioning/state") == "provisioned";
        if !claimed.is_empty() && claimed.iter().all(|host| ready(&host)) {
            report.line(&stage.kubectl(["get", "baremetalhosts", "-n", "drystone-system"]).await?);
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    Err("the hosts were not provisioned within 300 s".into())
}

/// Packets inside and from outside.
async fn packets(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    let began = report.begin("Isolation, seen by packets");
    let cluster = json(stage, &["get", "cluster/mlops", "-n", "research"]).await?;
    let members = cluster["status"]["members"].as_array().cloned().unwrap_or_default();
    let workers: Vec<&Value> = members.iter().filter(|member| text(member, "/role") == "Worker").collect();
    let [first, second, ..] = workers.as_slice() else { return Err("the cluster has less than two workers".into()) };
    let (from, to) = (text(first, "/host"), text(second, "/address"));
    if !packets::member_reaches("rack", from, to).await? {
        return Err(format!("{from} does not reach {to}, which is in its zone").into());
    }
    report.line(&format!("{from} → {to} (same zone): arrives"));
    let hosts = items(&json(stage, &["get", "baremetalhosts", "-n", "drystone-system"]).await?);
    let stranger = hosts.iter().find(|host| {
        text(host, "/spec/consumerRef/name").is_empty() && host.pointer("/status/poweredOn") == Some(&Value::Bool(true))
    });
    let stranger = stranger.map(|host| text(host, "/metadata/name").to_owned()).ok_or("no other host is on")?;
    if packets::stranger_reaches("rack", &stranger, "10.20.255.250/16", to).await? {
        return Err(format!("{stranger} reaches {to} although it is in no zone").into());
    }
    report.line(&format!("{stranger} → {to} (no zone): does not arrive"));
    report.end("packets", began, "members talk, a stranger is not heard");
    Ok(())
}

/// A Deployment and a Service, reached from the campus.
async fn application(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    let began = report.begin("A Deployment and a LoadBalancer Service");
    for file in ["mlops/deployment.yaml", "mlops/service.yaml"] {
        let file = stage.examples.join(file);
        report.line(&stage.inside(["apply".as_ref(), "-f".as_ref(), file.as_os_str()]).await?);
    }
    stage.inside(["rollout", "status", PATIENCE, "deployment/hello"]).await?;
    report.line(&stage.inside(["get", "pods", "-o", "wide"]).await?);
    let address = external_address(stage).await?;
    let answer = from_campus(stage, &address).await?;
    report.line(&format!("from the campus, http://{address}/ answers:"));
    report.line(&answer);
    report.line(&stage.inside(["get", "events", "--field-selector=involvedObject.kind=Deployment"]).await?);
    report.end("application", began, format!("pods on several workers; the Service answers on {address}"));
    Ok(())
}

async fn external_address(stage: &Stage) -> Result<String, Failure> {
    for _ in 0..100 {
        let service: Value = serde_json::from_str(&stage.inside(["get", "service/hello", "-o", "json"]).await?)?;
        let address = text(&service, "/status/loadBalancer/ingress/0/ip");
        if !address.is_empty() {
            return Ok(address.to_owned());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Err("the Service got no external address".into())
}

/// Asks through the site's gateway, whose proxy dials from the campus network.
async fn from_campus(stage: &Stage, address: &str) -> Result<String, Failure> {
    let proxy = crate::up::sites::proxy_url(&stage.data(""), "rack")?;
    let client = reqwest::Client::builder()
        .proxy(reqwest::Proxy::all(&proxy)?)
        .timeout(Duration::from_secs(5))
        .build()?;
    let mut last = String::new();
    for _ in 0..25 {
        match client.get(format!("http://{address}/")).send().await {
            Ok(response) if response.status().is_success() => return Ok(response.text().await?),
            Ok(response) => last = response.status().to_string(),
            Err(error) => last = error.to_string(),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Err(format!("http://{address}/ does not answer from the campus: {last}").into())
}

/// More pods than fit: the cluster grows.
async fn growth(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    let began = report.begin("More pods than fit: the cluster grows");
    report.line(&stage.inside(["scale", "deployment/hello", "--replicas=6"]).await?);
    stage.inside(["rollout", "status", PATIENCE, "deployment/hello"]).await?;
    report.line(&stage.inside(["get", "nodes"]).await?);
    let events = stage
        .kubectl(["get", "events", "-n", "research", "--field-selector=involvedObject.kind=Cluster,reason=ScalingUp"])
        .await?;
    report.line(&events);
    let nodes: Value = serde_json::from_str(&stage.inside(["get", "nodes", "-o", "json"]).await?)?;
    report.end("growth", began, format!("{} nodes, all pods run", items(&nodes).len()));
    Ok(())
}

/// The application goes as it came.
async fn destroy(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    let began = report.begin("kubectl destroy");
    let mut arguments: Vec<std::ffi::OsString> = vec!["kubectl-destroy".into()];
    for file in ["mlops/deployment.yaml", "mlops/service.yaml"] {
        arguments.extend(["-f".into(), stage.examples.join(file).into_os_string()]);
    }
    report.line(&stage.drystone_inside(arguments).await?);
    report.end("destroy", began, "application gone");
    Ok(())
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
