//! A Kubernetes cluster that is a VNF, installed over SSH on machines that are namespaces: how near its time comes to what cannot be done side
//! by side, which is control planes one after the other, and then a worker.

use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{client::Manager, peers};
use crate::{
    Failure, Setting,
    drystone::{Drystone, get, wait_until},
    report::{Report, Row},
};

/// The example's site, package and request.
const SITE: &str = "examples/sites/cloud.yaml";
const PACKAGE: &str = "examples/vnf/kubernetes-cluster";
const REQUEST: &str = "examples/vnf/requests/instantiate-emulated.json";

/// What the steps of the hook that installs are called.
const HOOK: &str = "instantiate_end/";

/// Control planes of the flavour.
const CONTROL_PLANES: usize = 3;

/// Measures it.
pub(super) async fn measure(setting: &Setting, workers: usize, report: &mut Report) -> Result<(), Failure> {
    let scratch = setting.scratch()?;
    let site = scratch.path().join("site.yaml");
    let text = std::fs::read_to_string(SITE)
        .map_err(|error| format!("{SITE}: {error}; run this in the root of the repository"))?;
    std::fs::write(&site, text.replace("name: edge", &format!("name: b{}", std::process::id())))?;
    let site = site.to_str().ok_or("the directory's name is not UTF-8")?;
    let drystone = Drystone::start(setting, scratch.path(), &["--backend", "netns", "--site", site]).await?;
    let measured = install(setting, &drystone, scratch.path(), workers).await;
    drystone.stop().await?;
    let times = measured?;
    let what = format!("Kubernetes of {CONTROL_PLANES} + {workers} nodes installed, machines as namespaces");
    report.add(Row { what, ours: times.to_string(), ..Row::default() });
    Ok(())
}

async fn install(
    setting: &Setting,
    drystone: &Drystone,
    scratch: &Path,
    workers: usize,
) -> Result<Times, Failure> {
    let client = drystone.client()?;
    wait_until("the cloud", async || {
        let found = get(&client, &format!("{}/v1.0/vims.json", drystone.url)).await?.unwrap_or_default();
        Ok((found["vims"][0]["status"] == "ACTIVE").then_some(()))
    })
    .await?;
    let mut manager = Manager::new("Drystone", client.clone(), drystone.url.clone());
    manager.onboard(&package(setting, scratch, workers)?).await?;
    let instance = manager.create("cluster").await?;
    manager.follow(&format!("/vnflcm/v1/vnf_instances/{instance}/instantiate"), &request()?).await?;
    let system = format!("{}/apis/drystone.dev/v1alpha1/namespaces/drystone-system", drystone.url);
    let all = get(&client, &format!("{system}/operations")).await?.unwrap_or_default();
    let mut all = all["items"].as_array().into_iter().flatten();
    let is_meant = |one: &&Value| one["spec"]["title"] == "Instantiate cluster";
    let operation = all.find(is_meant).ok_or("the instantiation has no operation")?;
    Times::of(operation, workers)
}

/// The example's package, for so many workers.
fn package(setting: &Setting, scratch: &Path, workers: usize) -> Result<Vec<u8>, Failure> {
    let folder = scratch.join("cluster");
    peers::copy(Path::new(PACKAGE), &folder)?;
    let level =
        workers.checked_sub(2).filter(|level| *level > 0).ok_or("at least three workers are needed")?;
    let change = |path: &str, words: &[(&str, usize, usize)]| -> Result<(), Failure> {
        let path = folder.join(path);
        let mut text = std::fs::read_to_string(&path)?;
        for (word, old, new) in words {
            let (old, new) = (format!("{word}: {old}\n"), format!("{word}: {new}\n"));
            if !text.contains(&old) {
                return Err(format!("{} has no {old:?} any more", path.display()).into());
            }
            text = text.replace(&old, &new);
        }
        Ok(std::fs::write(&path, text)?)
    };
    change("BaseHOT/complex/complex_hot_top.yaml", &[("max_size", 4, workers)])?;
    let levels = [
        ("max_number_of_instances", 4, workers),
        ("max_scale_level", 2, level),
        ("scale_level", 2, level),
        ("number_of_instances", 4, workers),
    ];
    change("Definitions/kubernetes_df_complex.yaml", &levels)?;
    let archive = scratch.join("cluster.csar");
    let mut command = std::process::Command::new(&setting.program);
    let output = command.args(["vnf", "package"]).arg(&folder).arg("-o").arg(&archive).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(std::fs::read(archive)?)
}

/// The example's request, for control planes behind one address and the largest size.
fn request() -> Result<Value, Failure> {
    let mut request: Value = serde_json::from_slice(&std::fs::read(REQUEST)?)?;
    request["flavourId"] = json!("complex");
    request["instantiationLevelId"] = json!("instantiation_level_2");
    let parameters = &mut request["additionalParams"]["k8s_cluster_installation_param"];
    parameters["master_node"]["cluster_cp_name"] = json!("vip_CP");
    let points = request["extVirtualLinks"][0]["extCps"].as_array_mut().ok_or("the request has no links")?;
    let mut shared = points.first().cloned().ok_or("the request has no connection points")?;
    shared["cpdId"] = json!("vip_CP");
    points.push(shared);
    Ok(request)
}

/// Seconds, from the journal of the operation.
#[derive(Debug, PartialEq, Eq)]
struct Times {
    /// From the first step of the installation to the end of the last.
    wall: i64,
    /// Of the control planes' steps, which come one after another.
    control_planes: i64,
    /// Of the steps of the worker that took longest.
    slowest_worker: i64,
}

impl Times {
    fn of(operation: &Value, workers: usize) -> Result<Self, Failure> {
        let moment = |step: &Value, name: &str| -> Result<Timestamp, Failure> {
            let text = step[name].as_str().ok_or_else(|| format!("{} has no {name}", step["id"]))?;
            Ok(text.parse()?)
        };
        let mut steps = Vec::new();
        for step in operation["status"]["steps"].as_array().into_iter().flatten() {
            let Some(name) = step["id"].as_str().and_then(|id| id.strip_prefix(HOOK)) else { continue };
            steps.push((name, moment(step, "startedAt")?, moment(step, "finishedAt")?));
        }
        let seconds = |from: Timestamp, to: Timestamp| to.duration_since(from).as_secs();
        let of_node = |node: &str| -> i64 {
            let own = steps.iter().filter(|(name, ..)| {
                matches!(name.split_once('/'), Some(("prepare" | "install" | "join", whose)) if whose == node)
            });
            own.map(|(_, from, to)| seconds(*from, *to)).sum()
        };
        let first = steps.iter().map(|(_, from, _)| *from).min().ok_or("nothing was installed")?;
        let last = steps.iter().map(|(.., to)| *to).max().ok_or("nothing was installed")?;
        // Control planes are prepared side by side: only the first's preparation is waited for.
        let joins = |number: usize| format!("join/masternode-{number}");
        let join = |number: usize| {
            let step = steps.iter().find(|(name, ..)| *name == joins(number));
            step.map_or(0, |(_, from, to)| seconds(*from, *to))
        };
        Ok(Self {
            wall: seconds(first, last),
            control_planes: of_node("masternode-0") + (1..CONTROL_PLANES).map(join).sum::<i64>(),
            slowest_worker: (0..workers)
                .map(|number| of_node(&format!("workernode-{number}")))
                .max()
                .unwrap_or_default(),
        })
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { wall, control_planes, slowest_worker } = self;
        write!(
            f,
            "{wall} s; control planes one after the other {control_planes} s + slowest worker {slowest_worker} s"
        )?;
        match u32::try_from(control_planes + slowest_worker) {
            Ok(sum) if sum > 0 => {
                let wall = u32::try_from(*wall).map_or(f64::INFINITY, f64::from);
                write!(f, ": ratio {:.2}", wall / f64::from(sum))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_comes_from_the_journal() {
        let step = |id: &str, from: u32, to: u32| json!({"id": id, "startedAt": format!("2026-01-01T00:00:{from:02}Z"), "finishedAt": format!("2026-01-01T00:00:{to:02}Z")});
        let operation = json!({"status": {"steps": [
            step("stack", 0, 9),
            step("instantiate_end/prepare/masternode-0", 10, 11),
            step("instantiate_end/prepare/workernode-0", 10, 14),
            step("instantiate_end/install/masternode-0", 11, 16),
            step("instantiate_end/join/masternode-1", 16, 20),
            step("instantiate_end/join/masternode-2", 20, 25),
            step("instantiate_end/join/workernode-0", 16, 19),
            step("instantiate_end/vim", 25, 30),
        ]}});
        let times = Times::of(&operation, 1).unwrap();
        assert_eq!(times, Times { wall: 20, control_planes: 15, slowest_worker: 7 });
        assert!(times.to_string().ends_with("ratio 0.91"), "{times}");
        assert!(Times::of(&json!({"status": {"steps": [step("stack", 0, 1)]}}), 1).is_err());
    }
}
