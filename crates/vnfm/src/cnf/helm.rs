//! Charts (`ETSINFV.HELM.V_3`), by the `helm` program.
//!
//! A VDU is the workload of the release whose name is the VDU's; its replicas are the value that `helm_value_names` says. What is secret (the
//! kubeconfig, values) is in files that only we can read, for as long as the program runs, and never among its arguments.

use std::{collections::BTreeMap, path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use drystone_api::StepSpec;
use drystone_csar::{Library, Package};
use drystone_engine::action::{Action, ActionRegistry, RegistryError, StepContext, StepError};
use drystone_sol003::types::LcmOperationType;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::{io::AsyncWriteExt as _, process::Command};

use super::{
    cluster::{self, Cluster},
    manifests::{self, Resource},
    plan::{ends, step, workload_names},
    steps::{
        DeletePods, DeletePodsParameters, ReadPods, ReadPodsParameters, Selector, Workload, await_ready,
        read_pods,
    },
};
use crate::{
    model::{Inventory, Problem, Situation, Vnfc},
    plan::{
        changes::Before,
        operation::{INVENTORY, STACK_DELETE},
        outline::Outline,
    },
    steps::OnKubernetes,
};

/// Parameter: the chart, a path in the package (an archive, or a directory with `Chart.yaml`).
const CHART: &str = "helm_chart_path";
/// Parameter: by VDU, the name of the value with its number of replicas: `{"VDU1": {"replica": "replicaCount"}}`.
const VALUE_NAMES: &str = "helm_value_names";
/// Parameter: values, as `--set` takes them.
const VALUES: &str = "helm_parameters";

/// How long helm may wait for a release, in seconds.
const WAIT: u64 = 300;
/// The most of helm's words that are kept.
const MAX_WORDS: usize = 2000;

/// Whether a VNF is a chart.
pub fn is_asked(situation: &Situation) -> bool {
    situation.parameter(CHART).is_some()
}

/// The release of an instance.
fn release(instance: &str) -> String {
    format!("vnf{}", instance.replace('-', ""))
}

/// Names of values with the replicas of VDUs.
fn value_names(situation: &Situation) -> Result<BTreeMap<String, String>, Problem> {
    let attribute = format!("additionalParams.{VALUE_NAMES}");
    let wrong = || {
        Problem::bad(
            &attribute,
            "must say for each VDU which value has its replicas: {\"VDU1\": {\"replica\": \"replicaCount\"}}",
        )
    };
    let given = situation.parameter(VALUE_NAMES).and_then(Value::as_object).ok_or_else(wrong)?;
    given
        .iter()
        .map(|(vdu, names)| {
            Ok((vdu.clone(), names.get("replica").and_then(Value::as_str).ok_or_else(wrong)?.to_owned()))
        })
        .collect()
}

/// The steps of an operation.
///
/// # Errors
/// What is wrong with the request.
pub(super) fn steps(
    package: &Package,
    outline: &Outline,
    situation: &Situation,
) -> Result<Vec<StepSpec>, Problem> {
    let chart = situation.parameter(CHART).and_then(Value::as_str).unwrap_or_default();
    let path = chart.trim_end_matches('/');
    let is_there = package.has(path) || package.has(&format!("{path}/Chart.yaml"));
    if !is_there || path.is_empty() {
        return Err(Problem::bad(
            format!("additionalParams.{CHART}"),
            format!("the package has no chart {chart:?}"),
        ));
    }
    let namespace = situation.parameter("namespace").and_then(Value::as_str).unwrap_or("default").to_owned();
    let names = value_names(situation)?;
    let workloads = workload_names(package, &outline.flavour);
    if let Some(vdu) = workloads.keys().find(|vdu| !names.contains_key(*vdu)) {
        return Err(Problem::bad(
            format!("additionalParams.{VALUE_NAMES}"),
            format!("says nothing of {vdu}"),
        ));
    }
    let counted = |counts: BTreeMap<String, u32>| -> BTreeMap<String, u32> {
        names.iter().map(|(vdu, name)| (name.clone(), counts.get(vdu).copied().unwrap_or_default())).collect()
    };
    let parameters = ReleaseParameters {
        package: situation.package.clone(),
        chart: path.to_owned(),
        release: release(&situation.instance.uid),
        namespace: namespace.clone(),
        replicas: counted(outline.counts_after()),
        before: counted(outline.counts_before()),
        existed: situation.operation != LcmOperationType::Instantiate,
    };
    let before = Before { vnfcs: outline.before.clone(), links: Vec::new(), vim: situation.vim.clone() };
    let release = &parameters.release;
    let mut steps = match situation.operation {
        LcmOperationType::Instantiate
        | LcmOperationType::Scale
        | LcmOperationType::ScaleToLevel
        | LcmOperationType::ChangeVnfPackage => {
            vec![step::<Upgrade>("release", format!("Install or upgrade release {release}"), &parameters)]
        }
        LcmOperationType::Heal => {
            let pods = outline.affected.iter().map(|vnfc| vnfc.server.clone()).collect();
            let deletion = DeletePodsParameters { namespace: namespace.clone(), pods, again: None };
            vec![step::<DeletePods>("heal", "Have pods made anew", &deletion)]
        }
        LcmOperationType::Terminate => {
            let mut steps =
                vec![step::<Uninstall>("release", format!("Uninstall release {release}"), &parameters)];
            let last = ReadPodsParameters { namespace, before, ..ReadPodsParameters::default() };
            let last = step::<ReadPods>(STACK_DELETE, "Nothing is left", &last);
            steps[0].timeout_seconds = 600;
            steps.push(StepSpec { depends_on: vec!["release".to_owned()], ..last });
            return Ok(steps);
        }
        LcmOperationType::ModifyInfo => return Ok(Vec::new()),
        _ => return Err(Problem::unprocessable("this is not supported for container network functions")),
    };
    steps[0].timeout_seconds = 600;
    let read = ReadReleaseParameters {
        release: parameters.release.clone(),
        namespace,
        vdus: workloads,
        known: outline.before.clone(),
        before,
    };
    let after = ends(&steps);
    let read = step::<ReadRelease>(INVENTORY, "Wait for workloads, and read which pods there are", &read);
    steps.push(StepSpec { depends_on: after, timeout_seconds: 600, estimate_seconds: 5, ..read });
    Ok(steps)
}

/// Registers the steps.
///
/// # Errors
/// When one is registered already.
pub(super) fn register(actions: &mut ActionRegistry, library: &Arc<Library>) -> Result<(), RegistryError> {
    actions.register(Upgrade(Arc::clone(library)))?;
    actions.register(Uninstall)?;
    actions.register(ReadRelease)
}

/// A release.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseParameters {
    package: String,
    chart: String,
    release: String,
    namespace: String,
    /// Values with numbers of replicas, by their names.
    replicas: BTreeMap<String, u32>,
    /// The same before.
    before: BTreeMap<String, u32>,
    /// Whether the release was there before: undone, it goes back one revision instead of going away.
    existed: bool,
}

/// Installs a release, or upgrades it. Undone, it is what it was.
pub struct Upgrade(Arc<Library>);

impl Action for Upgrade {
    const NAME: &'static str = "cnf.helm-upgrade";
    type Parameters = ReleaseParameters;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: ReleaseParameters) -> Result<(), StepError> {
        let helm = Helm::of(context).await?;
        let package = self.0.package(&parameters.package).map_err(StepError::permanent)?;
        let chart = helm.unpack(&package, &parameters.chart).await?;
        let values = values(&parameters.replicas, helm.parameters())?;
        let values = helm.file("values.json", &values).await?;
        let seconds = format!("{WAIT}s");
        let arguments: Vec<String> = [
            "upgrade",
            &parameters.release,
            &chart,
            "--install",
            "--reuse-values",
            "--values",
            &values,
            "--wait",
            "--timeout",
            &seconds,
            "--namespace",
            &parameters.namespace,
            "--create-namespace",
        ]
        .map(str::to_owned)
        .into();
        helm.run(context, &arguments).await.map(drop)
    }

    async fn undo(&self, context: &StepContext, parameters: ReleaseParameters) -> Result<(), StepError> {
        let helm = Helm::of(context).await?;
        let seconds = format!("{WAIT}s");
        let verb: &[&str] =
            if parameters.existed { &["rollback"] } else { &["uninstall", "--ignore-not-found"] };
        let mut arguments: Vec<String> = verb.iter().map(|&word| word.to_owned()).collect();
        arguments.push(parameters.release.clone());
        let rest = ["--wait", "--timeout", &seconds, "--namespace", &parameters.namespace];
        arguments.extend(rest.map(str::to_owned));
        helm.run(context, &arguments).await.map(drop)
    }
}

/// Uninstalls a release.
pub struct Uninstall;

impl Action for Uninstall {
    const NAME: &'static str = "cnf.helm-uninstall";
    type Parameters = ReleaseParameters;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: ReleaseParameters) -> Result<(), StepError> {
        let helm = Helm::of(context).await?;
        let seconds = format!("{WAIT}s");
        let arguments = [
            "uninstall",
            &parameters.release,
            "--ignore-not-found",
            "--wait",
            "--timeout",
            &seconds,
            "--namespace",
            &parameters.namespace,
        ];
        helm.run(context, &arguments.map(str::to_owned)).await.map(drop)
    }

    async fn undo(&self, _: &StepContext, _: ReleaseParameters) -> Result<(), StepError> {
        Err(StepError::permanent(
            "what was uninstalled cannot be taken back; have the operation tried again, or give it up",
        ))
    }
}

/// Waits for the workloads of a release, and reads which pods there are.
pub struct ReadRelease;

/// Of whom.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReadReleaseParameters {
    release: String,
    namespace: String,
    /// Names of workloads, by VDU.
    vdus: BTreeMap<String, String>,
    /// Pods that have a place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    known: Vec<Vnfc>,
    /// What there was, for the record of changes.
    before: Before,
}

impl Action for ReadRelease {
    const NAME: &'static str = "cnf.helm-read-release";
    type Parameters = ReadReleaseParameters;
    type Output = Inventory;

    async fn run(
        &self,
        context: &StepContext,
        parameters: ReadReleaseParameters,
    ) -> Result<Inventory, StepError> {
        let helm = Helm::of(context).await?;
        let ReadReleaseParameters { release, namespace, vdus, known, .. } = &parameters;
        let arguments = ["get", "manifest", release, "--namespace", namespace].map(str::to_owned);
        let text = helm.run(context, &arguments).await?;
        let made = manifests::resources(&["manifest".to_owned()], &|_| Ok(text.clone()));
        let made = made.map_err(StepError::permanent)?;
        let cluster = Cluster::of(context).await?;
        let mut selectors = BTreeMap::new();
        for (vdu, name) in vdus {
            let resource = workload_of(&made, release, name).ok_or_else(|| {
                StepError::permanent(format!(
                    "release {release} has no workload {name}, which is the VDU {vdu}"
                ))
            })?;
            await_ready(context, &cluster, namespace, &Workload::of(resource)).await?;
            selectors.insert(vdu.clone(), Selector::of(resource));
        }
        read_pods(&cluster, namespace, &selectors, known).await
    }
}

/// The workload of a VDU: charts name theirs after the release as well.
fn workload_of<'a>(made: &'a [Resource], release: &str, name: &str) -> Option<&'a Resource> {
    let names = [name.to_owned(), format!("{release}-{name}"), format!("{name}-{release}")];
    let is_workload = |resource: &&Resource| manifests::WORKLOADS.contains(&resource.kind());
    names.iter().find_map(|name| made.iter().filter(is_workload).find(|resource| resource.name() == name))
}

/// Values of a release: what the request gives (`name=value`, dots go deeper), and the numbers of replicas.
fn values(replicas: &BTreeMap<String, u32>, given: Option<&Value>) -> Result<Value, StepError> {
    let mut values = json!({});
    let wrong = || {
        StepError::permanent(format!("additionalParams.{VALUES} must be an object, or a list of name=value"))
    };
    match given {
        None | Some(Value::Null) => {}
        Some(Value::Object(object)) => {
            for (name, value) in object {
                set(&mut values, name, value.clone());
            }
        }
        Some(Value::Array(list)) => {
            for item in list {
                let (name, value) = item.as_str().and_then(|text| text.split_once('=')).ok_or_else(wrong)?;
                let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
                set(&mut values, name, value);
            }
        }
        Some(_) => return Err(wrong()),
    }
    for (name, count) in replicas {
        set(&mut values, name, (*count).into());
    }
    Ok(values)
}

fn set(values: &mut Value, name: &str, value: Value) {
    let mut place = values;
    for part in name.split('.') {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        place = &mut place[part];
    }
    *place = value;
}

/// The program, with a directory of its own for what it reads.
struct Helm {
    program: PathBuf,
    directory: tempfile::TempDir,
    ground: OnKubernetes,
}

impl Helm {
    async fn of(context: &StepContext) -> Result<Self, StepError> {
        let program = program().ok_or_else(|| {
            StepError::permanent(
                "the program helm is not installed; put it into PATH, or name it in DRYSTONE_HELM",
            )
        })?;
        let ground = OnKubernetes::load(context).await?;
        let proxy = cluster::proxy_of(context.client(), ground.gateway.as_deref()).await?;
        let config = cluster::kubeconfig(&ground.access, proxy.as_deref())?;
        let directory = tempfile::Builder::new().prefix("drystone-helm-").tempdir();
        let directory = directory
            .map_err(|error| StepError::transient(format!("making a directory for helm: {error}")))?;
        let helm = Self { program, directory, ground };
        helm.file("kubeconfig", &config).await?;
        Ok(helm)
    }

    fn parameters(&self) -> Option<&Value> {
        let own = self.ground.request.get("additionalParams").and_then(|given| given.get(VALUES));
        own.or_else(|| self.ground.instantiated_with.get(VALUES))
    }

    /// A file that only we can read.
    async fn file(&self, name: &str, content: &Value) -> Result<String, StepError> {
        let path = self.directory.path().join(name);
        let write = async {
            let mut options = tokio::fs::OpenOptions::new();
            let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(&path).await?;
            file.write_all(content.to_string().as_bytes()).await?;
            file.flush().await
        };
        write.await.map_err(|error| StepError::transient(format!("writing a file for helm: {error}")))?;
        Ok(path.display().to_string())
    }

    /// Writes a chart of the package to where helm finds it. Packages have no paths that lead out of them.
    async fn unpack(&self, package: &Package, chart: &str) -> Result<String, StepError> {
        let root = self.directory.path().join("chart");
        let below = format!("{chart}/");
        let files: Vec<String> = package
            .files()
            .filter(|path| *path == chart || path.starts_with(&below))
            .map(str::to_owned)
            .collect();
        for path in &files {
            let bytes = package.file(path).map_err(StepError::permanent)?;
            let relative = path.strip_prefix(&below).unwrap_or("chart.tgz");
            let target = root.join(relative);
            let write = async {
                if let Some(parent) = target.parent() {
                    tokio::fs::create_dir_all(parent).await?;
                }
                tokio::fs::write(&target, bytes).await
            };
            write.await.map_err(|error| StepError::transient(format!("unpacking the chart: {error}")))?;
        }
        let single = files.iter().any(|path| path == chart);
        let path = if single { root.join("chart.tgz") } else { root };
        Ok(path.display().to_string())
    }

    /// Runs it; returns what it printed.
    async fn run(&self, context: &StepContext, arguments: &[String]) -> Result<Vec<u8>, StepError> {
        let home = self.directory.path();
        let mut command = Command::new(&self.program);
        command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
            .env("HOME", home)
            .env("HELM_CACHE_HOME", home.join("cache"))
            .env("HELM_CONFIG_HOME", home.join("config"));
        command.env("HELM_DATA_HOME", home.join("data")).env("KUBECONFIG", home.join("kubeconfig"));
        command.stdin(Stdio::null()).kill_on_drop(true);
        let limit = Duration::from_secs(WAIT + 60);
        let ended = context.wait_for(tokio::time::timeout(limit, command.output())).await?;
        let output = ended
            .map_err(|_| StepError::transient(format!("helm did not end within {} s", limit.as_secs())))?
            .map_err(|error| StepError::permanent(format!("starting {}: {error}", self.program.display())))?;
        let words: String = String::from_utf8_lossy(&output.stderr).chars().take(MAX_WORDS).collect();
        for line in words.lines() {
            context.log(line);
        }
        if output.status.success() {
            return Ok(output.stdout);
        }
        let verb = arguments.first().map(String::as_str).unwrap_or_default();
        Err(StepError::transient(format!("helm {verb}: {}", words.trim())))
    }
}

/// Where helm is: named, or in PATH.
fn program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("DRYSTONE_HELM") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join("helm")).find(|program| program.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_as_deep_as_their_names_say() {
        let replicas = BTreeMap::from([("web.replicaCount".to_owned(), 3)]);
        let made = values(&replicas, Some(&json!(["image.tag=v2", "web.debug=true", "port=8080"]))).unwrap();
        assert_eq!(
            made,
            json!({"image": {"tag": "v2"}, "web": {"debug": true, "replicaCount": 3}, "port": 8080})
        );
        let made = values(&BTreeMap::new(), Some(&json!({"a.b": [1]}))).unwrap();
        assert_eq!(made, json!({"a": {"b": [1]}}));
        assert!(values(&BTreeMap::new(), Some(&json!(["nonsense"]))).is_err());
        assert_eq!(release("0a-1b"), "vnf0a1b");
    }
}
