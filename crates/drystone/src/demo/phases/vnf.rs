//! A Kubernetes cluster that is a VNF, with persistent storage: the seed's request to an emulated cloud, and what can be done to it.

use serde_json::{Value, json};

use super::{Inside, Report, Stage, items, json, text, wait_for};
use crate::{command::Failure, demo::sol003::Sol003};

/// What the cluster is registered as: `vim_name` of the request.
const VIM: &str = "kubernetes_vim";

/// The VNF.
struct Vnf<'a> {
    stage: &'a Stage,
    service: Sol003,
    id: String,
    inside: Inside,
}

/// Runs all phases.
pub(in crate::demo) async fn all(stage: &mut Stage, report: &mut Report) -> Result<(), Failure> {
    if let Some(reason) = &stage.simulated {
        return Err(format!(
            "this demo needs machines in which something runs, and they cannot be had: {reason}"
        )
        .into());
    }
    let service = cloud(stage, report).await?;
    let package = package(stage, report, &service).await?;
    let vnf = instantiate(stage, report, service, &package).await?;
    write(&vnf, report).await?;
    heal_worker(&vnf, report).await?;
    refused(&vnf, report).await?;
    heal_storage(&vnf, report).await?;
    scale(&vnf, report).await?;
    terminate(&vnf, report).await
}

/// Drystone starts with a site that has a cloud.
async fn cloud(stage: &mut Stage, report: &mut Report) -> Result<Sol003, Failure> {
    let began = report
        .begin("Drystone starts with an emulated OpenStack: Keystone, Heat, machines with real SSH servers");
    let line = stage.start(&["--http", "127.0.0.1:0", "--http-trust-loopback"]).await?;
    report.line(&line);
    let plain = line.split_whitespace().find(|word| word.starts_with("http://"));
    let service = Sol003::new(plain.ok_or("drystone up names no plain-text port")?)?;
    let vim = wait_for("the VIM", async || {
        let found = service.get("/v1.0/vims.json").await?["vims"][0].clone();
        Ok((found["status"] == "ACTIVE").then_some(found))
    })
    .await?;
    report.end("cloud", began, format!("VIM {} is ACTIVE", text(&vim, "/name")));
    Ok(service)
}

/// The example's package becomes known; returns its VNFD.
async fn package(stage: &Stage, report: &mut Report, service: &Sol003) -> Result<String, Failure> {
    let began =
        report.begin("A VNF package: drystone vnf package examples/vnf/kubernetes-cluster, and its upload");
    let source = stage.examples.join("vnf/kubernetes-cluster");
    let archive = stage.data("cluster.csar");
    let packing =
        ["vnf".as_ref(), "package".as_ref(), source.as_os_str(), "-o".as_ref(), archive.as_os_str()];
    report.line(&stage.drystone(packing).await?);
    let made = service.post("/vnfpkgm/v1/vnf_packages", &json!({})).await?;
    let path = format!("/vnfpkgm/v1/vnf_packages/{}", text(&made, "/id"));
    service.upload(&format!("{path}/package_content"), &archive).await?;
    let shown = wait_for("the onboarded package", async || {
        let shown = service.get(&path).await?;
        Ok((shown["onboardingState"] == "ONBOARDED").then_some(shown))
    })
    .await?;
    let name = format!("{} {}", text(&shown, "/vnfProductName"), text(&shown, "/vnfSoftwareVersion"));
    report.end("package", began, format!("{name} is ONBOARDED and ENABLED"));
    Ok(text(&shown, "/vnfdId").to_owned())
}

/// The seed's request, but for what names its own OpenStack and proxies.
async fn instantiate<'a>(
    stage: &'a Stage,
    report: &mut Report,
    service: Sol003,
    vnfd: &str,
) -> Result<Vnf<'a>, Failure> {
    let began = report
        .begin("Instantiate: one control plane, two workers, a storage server, three PersistentVolumes");
    let create = json!({"vnfdId": vnfd, "vnfInstanceName": "cluster"});
    let made = service.post("/vnflcm/v1/vnf_instances", &create).await?;
    let id = text(&made, "/id").to_owned();
    let file = stage.examples.join("vnf/requests/instantiate-emulated.json");
    let request: Value = serde_json::from_slice(&tokio::fs::read(&file).await?)?;
    report.line(&format!("POST /vnflcm/v1/vnf_instances/{id}/instantiate < {}", file.display()));
    let kubeconfig = stage.data("vnf.kubeconfig");
    let vnf = Vnf { stage, service, id, inside: Inside { kubeconfig } };
    vnf.operate(report, "instantiate", &request).await?;
    let config = stage.drystone(["vnf", "kubeconfig", VIM]).await?;
    drystone_identity::files::write_private(&vnf.inside.kubeconfig, config.as_bytes())?;
    report.line(&format!("$ drystone vnf kubeconfig {VIM} > vnf.kubeconfig; kubectl get nodes,pv"));
    let (nodes, volumes) = vnf.look(report).await?;
    report.end("instantiate", began, format!("{nodes} nodes ready, {volumes} PersistentVolumes on NFS"));
    Ok(vnf)
}

/// A pod writes to a volume, another one reads it.
async fn write(vnf: &Vnf<'_>, report: &mut Report) -> Result<(), Failure> {
    let began = report.begin("A claim, a pod that writes to it, and another one that reads");
    vnf.claim(report).await?;
    vnf.pod(report, "writer", "append", Some("kept")).await?;
    let said = vnf.pod(report, "reader", "cat", None).await?;
    report.end("write", began, format!("the volume says {said:?}"));
    Ok(())
}

async fn heal_worker(vnf: &Vnf<'_>, report: &mut Report) -> Result<(), Failure> {
    let began = report.begin("Heal a worker: drained, its machine made anew, joined again");
    let before = vnf.component("workerNode").await?;
    vnf.operate(report, "heal", &json!({"vnfcInstanceId": [before]})).await?;
    let (nodes, _) = vnf.look(report).await?;
    report.end("heal worker", began, format!("{nodes} nodes ready, with another machine"));
    Ok(())
}

async fn refused(vnf: &Vnf<'_>, report: &mut Report) -> Result<(), Failure> {
    let began = report.begin("Heal the storage server while a volume is claimed: refused, and rolled back");
    let server = vnf.component("storage_server").await?;
    let path = format!("/vnflcm/v1/vnf_instances/{}/heal", vnf.id);
    let occurrence = vnf.service.begin(&path, &json!({"vnfcInstanceId": [server.clone()]})).await?;
    let stopped = vnf.state(&occurrence, "FAILED_TEMP").await?;
    let why = text(&stopped, "/error/detail").to_owned();
    report.line(&why);
    let path = format!("/vnflcm/v1/vnf_lcm_op_occs/{occurrence}");
    vnf.service.post(&format!("{path}/rollback"), &json!({})).await?;
    vnf.state(&occurrence, "ROLLED_BACK").await?;
    if vnf.component("storage_server").await? != server {
        return Err("the storage server is another one although its heal was refused".into());
    }
    report.end("refused", began, "the volume is in use: FAILED_TEMP, then ROLLED_BACK; nothing has changed");
    Ok(())
}

async fn heal_storage(vnf: &Vnf<'_>, report: &mut Report) -> Result<(), Failure> {
    let began = report.begin("Heal the storage server when nobody uses it: made anew, its volume kept");
    report.line(&vnf.inside.kubectl(vnf.stage, &["delete", "pvc", "data", "--timeout=120s"]).await?);
    let before = vnf.component("storage_server").await?;
    vnf.operate(report, "heal", &json!({"vnfcInstanceId": [before]})).await?;
    let (_, volumes) = vnf.look(report).await?;
    vnf.claim(report).await?;
    let said = vnf.pod(report, "reader-again", "cat", None).await?;
    if said != "kept" {
        return Err(format!("the volume says {said:?} after the heal").into());
    }
    report.end(
        "heal storage",
        began,
        format!("{volumes} PersistentVolumes registered anew, data kept: {said:?}"),
    );
    Ok(())
}

async fn scale(vnf: &Vnf<'_>, report: &mut Report) -> Result<(), Failure> {
    let began = report.begin("Scale out by a worker");
    let more = json!({"type": "SCALE_OUT", "aspectId": "worker_instance", "numberOfSteps": 1});
    vnf.operate(report, "scale", &more).await?;
    let (nodes, _) = vnf.look(report).await?;
    report.end("scale", began, format!("{nodes} nodes ready"));
    Ok(())
}

async fn terminate(vnf: &Vnf<'_>, report: &mut Report) -> Result<(), Failure> {
    let began = report.begin("Terminate, and forget");
    vnf.operate(report, "terminate", &json!({"terminationType": "FORCEFUL"})).await?;
    vnf.service.delete(&format!("/vnflcm/v1/vnf_instances/{}", vnf.id)).await?;
    let vims = vnf.service.get("/v1.0/vims.json").await?;
    let left = vims["vims"].as_array().map_or(0, Vec::len);
    let operations = json(vnf.stage, &["get", "vnfinstances", "-n", "drystone-system"]).await?;
    if left != 1 || !items(&operations).is_empty() {
        return Err(format!("{left} VIMs and {} instances are left", items(&operations).len()).into());
    }
    report.end("terminate", began, "no machine, no VIM of it, no instance");
    Ok(())
}

impl Vnf<'_> {
    /// Does something to the VNF, shows its steps, and waits for the good end.
    async fn operate(&self, report: &Report, operation: &str, body: &Value) -> Result<(), Failure> {
        let path = format!("/vnflcm/v1/vnf_instances/{}/{operation}", self.id);
        let occurrence = self.service.begin(&path, body).await?;
        let key = wait_for("the operation's steps", async || {
            let all = json(self.stage, &["get", "vnflcmoperations", "-n", "drystone-system"]).await?;
            let mut all = items(&all).into_iter();
            let found = all.find(|one| text(one, "/metadata/uid") == occurrence).unwrap_or_default();
            let name = text(&found, "/status/engineOperation");
            Ok((!name.is_empty()).then(|| format!("drystone-system/{name}")))
        })
        .await?;
        self.stage.drystone_shown(["ops", "watch", &key], report).await?;
        self.state(&occurrence, "COMPLETED").await.map(drop)
    }

    /// Waits until an operation is in a state.
    async fn state(&self, occurrence: &str, wanted: &str) -> Result<Value, Failure> {
        let path = format!("/vnflcm/v1/vnf_lcm_op_occs/{occurrence}");
        wait_for(wanted, async || {
            let shown = self.service.get(&path).await?;
            Ok((shown["operationState"] == wanted).then_some(shown))
        })
        .await
    }

    /// The first component of a VDU.
    async fn component(&self, vdu: &str) -> Result<String, Failure> {
        let shown = self.service.get(&format!("/vnflcm/v1/vnf_instances/{}", self.id)).await?;
        let all = shown["instantiatedVnfInfo"]["vnfcResourceInfo"].as_array().cloned().unwrap_or_default();
        let found = all.iter().find(|one| one["vduId"] == vdu).ok_or_else(|| format!("there is no {vdu}"))?;
        Ok(text(found, "/id").to_owned())
    }

    /// Shows nodes and PersistentVolumes; how many are ready, and how many there are.
    async fn look(&self, report: &Report) -> Result<(usize, usize), Failure> {
        let nodes = self.inside.kubectl(self.stage, &["get", "nodes"]).await?;
        let volumes = self.inside.kubectl(self.stage, &["get", "pv"]).await?;
        report.line(&nodes);
        report.line(&volumes);
        let ready = nodes.lines().filter(|line| line.split_whitespace().nth(1) == Some("Ready")).count();
        Ok((ready, volumes.lines().count().saturating_sub(1)))
    }

    /// A claim on the first PersistentVolume.
    async fn claim(&self, report: &Report) -> Result<(), Failure> {
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": {
            "accessModes": ["ReadWriteMany"], "storageClassName": "", "volumeName": "nfs-pv1",
            "resources": {"requests": {"storage": "1Gi"}}}});
        self.apply(report, &claim).await
    }

    async fn apply(&self, report: &Report, object: &Value) -> Result<(), Failure> {
        let file = self.stage.data("object.json");
        tokio::fs::write(&file, object.to_string()).await?;
        let arguments = ["apply".as_ref(), "-f".as_ref(), file.as_os_str()];
        report.line(&self.stage.kubectl_at(&self.inside.kubeconfig, arguments).await?);
        Ok(())
    }

    /// Lets a pod append to a file of the volume or read it, and returns what it says.
    async fn pod(
        &self,
        report: &Report,
        name: &str,
        verb: &str,
        written: Option<&str>,
    ) -> Result<String, Failure> {
        let mut command = vec!["/hello", verb, "/data/file"];
        command.extend(written);
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "main", "image": "drystone.dev/hello:1", "command": command,
                "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}});
        self.apply(report, &pod).await?;
        let path = format!("pod/{name}");
        let ended = "--for=jsonpath={.status.phase}=Succeeded";
        self.inside.kubectl(self.stage, &["wait", ended, super::TIMEOUT, &path]).await?;
        let said = self.inside.kubectl(self.stage, &["logs", name]).await?;
        report.line(&format!("$ kubectl logs {name}\n{said}"));
        self.inside.kubectl(self.stage, &["delete", &path, "--timeout=120s"]).await?;
        Ok(said)
    }
}
