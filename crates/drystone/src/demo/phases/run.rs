//! A Deployment and a Service run on the cluster, are reached from outside, and outgrow it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Inside, Report, Stage, TIMEOUT, items, text, wait_for};
use crate::command::Failure;

/// How many pods need more than the workers that the cluster began with: each asks for a GPU, a worker has four.
const TOO_MANY: usize = 10;

/// Pods come up on several workers.
pub(super) async fn deploy(stage: &Stage, report: &mut Report, inside: &Inside) -> Result<(), Failure> {
    let began = report.begin("A Deployment and a LoadBalancer Service: kubectl apply");
    for file in ["mlops/deployment.yaml", "mlops/service.yaml"] {
        let file = stage.examples.join(file);
        let arguments = ["apply".as_ref(), "-f".as_ref(), file.as_os_str()];
        report.line(&stage.kubectl_at(&inside.kubeconfig, arguments).await?);
    }
    inside.kubectl(stage, &["rollout", "status", "deployment/hello", TIMEOUT]).await?;
    report.line(&inside.kubectl(stage, &["get", "pods", "-o", "wide"]).await?);
    report.line(&inside.kubectl(stage, &["get", "events", "--sort-by=.lastTimestamp"]).await?);
    let pods = items(&inside.json(stage, &["get", "pods"]).await?);
    let nodes: BTreeSet<&str> = pods.iter().map(|pod| text(pod, "/spec/nodeName")).collect();
    if nodes.len() < 2 {
        return Err("all pods are on one node: they should be spread".into());
    }
    let result = format!("{} pods ready on {} workers, addresses by drystone-cni", pods.len(), nodes.len());
    report.end("run", began, result);
    Ok(())
}

/// The Service answers outside, pods reach each other across hosts.
pub(super) async fn reach(stage: &Stage, report: &mut Report, inside: &Inside) -> Result<(), Failure> {
    let began = report.begin("Packets: from the campus to the Service, from pod to pod across hosts");
    let address = external_address(stage, inside).await?;
    let answer = wait_for("an answer of the Service", async || stage.fetch(&address).await.map(Some)).await?;
    report.line(&format!("$ curl --proxy \"$(drystone site proxy rack)\" http://{address}/"));
    report.line(&answer);
    let pods = items(&inside.json(stage, &["get", "pods", "-l", "app=hello"]).await?);
    let (from, to) = across_hosts(&pods).ok_or("no two pods are on different hosts")?;
    let target = format!("{}:8080", text(to, "/status/podIP"));
    let name = text(from, "/metadata/name");
    report.line(&format!("$ kubectl exec {name} -- /hello fetch {target} /"));
    let answer = inside.kubectl(stage, &["exec", name, "--", "/hello", "fetch", &target, "/"]).await?;
    report.line(&answer);
    if !answer.contains(&format!("pod {}", text(to, "/metadata/name"))) {
        return Err(format!("another than the pod at {target} answered").into());
    }
    report.end("reach", began, format!("{address} answers the campus; pods meet across hosts"));
    Ok(())
}

/// The external address of the Service `hello`.
pub(super) async fn external_address(stage: &Stage, inside: &Inside) -> Result<String, Failure> {
    wait_for("an external address", async || {
        let service = inside.json(stage, &["get", "service/hello"]).await?;
        let address = text(&service, "/status/loadBalancer/ingress/0/ip").to_owned();
        Ok((!address.is_empty()).then_some(address))
    })
    .await
}

fn across_hosts(pods: &[Value]) -> Option<(&Value, &Value)> {
    let first = pods.first()?;
    let other = pods.iter().find(|pod| text(pod, "/spec/nodeName") != text(first, "/spec/nodeName"))?;
    Some((first, other))
}

/// The Deployment outgrows the cluster, which gets another host.
pub(super) async fn grow(stage: &Stage, report: &mut Report, inside: &Inside) -> Result<(), Failure> {
    let began = report.begin("More pods than fit: the cluster takes a host out of the free pool");
    let before = items(&inside.json(stage, &["get", "nodes"]).await?).len();
    let replicas = format!("--replicas={TOO_MANY}");
    report.line(&inside.kubectl(stage, &["scale", "deployment/hello", &replicas]).await?);
    inside.kubectl(stage, &["rollout", "status", "deployment/hello", TIMEOUT]).await?;
    let events =
        stage.kubectl(["get", "events", "-n", "research", "--field-selector", "reason=ScalingUp"]).await?;
    report.line(&events);
    report.line(&inside.kubectl(stage, &["get", "nodes"]).await?);
    report.line(&inside.kubectl(stage, &["get", "pods", "-o", "wide"]).await?);
    let after = items(&inside.json(stage, &["get", "nodes"]).await?).len();
    if after <= before || !events.contains("ScalingUp") {
        return Err(format!("the cluster had {before} nodes and has {after}").into());
    }
    report.end("grow", began, format!("{TOO_MANY} pods run; {before} nodes became {after}"));
    Ok(())
}
