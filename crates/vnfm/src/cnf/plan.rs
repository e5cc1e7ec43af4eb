//! What an operation takes on a Kubernetes. Pure but for reading the package, whose content never changes.

use std::collections::BTreeMap;

use drystone_api::StepSpec;
use drystone_csar::{Library, Package};
use drystone_engine::action::Action;
use drystone_sol003::types::LcmOperationType;
use serde_json::Value;

use super::{
    DEFINITION_FILES, helm,
    manifests::{self, Resource},
    steps::{
        AwaitReady, AwaitReadyParameters, CreateObject, DeleteObject, DeletePods, DeletePodsParameters,
        ObjectParameters, PruneObjects, PruneParameters, ReadPods, ReadPodsParameters, ScaleParameters,
        ScaleWorkload, Selector, Workload,
    },
};
use crate::{
    model::{Problem, Situation},
    plan::{
        changes::Before,
        infrastructure::InfrastructurePlanner,
        operation::{INVENTORY, STACK_DELETE},
        outline::Outline,
    },
};

/// Longest time for workloads to become ready, in seconds.
const READY_TIMEOUT: u32 = 600;

/// Plans operations on VIMs of type Kubernetes.
#[derive(Debug, Clone)]
pub struct Containers {
    library: Library,
}

impl Containers {
    /// With the packages of a library.
    pub fn new(library: Library) -> Self {
        Self { library }
    }
}

impl InfrastructurePlanner for Containers {
    fn steps(&self, outline: &Outline, situation: &Situation) -> Result<Vec<StepSpec>, Problem> {
        let package = self.library.package(&situation.package).map_err(|error| {
            Problem::unprocessable(format!(
                "package {} cannot be read from the library: {error}",
                situation.package
            ))
        })?;
        if helm::is_asked(situation) {
            return helm::steps(&package, outline, situation);
        }
        let functions = Functions::of(&package, outline, situation)?;
        match situation.operation {
            LcmOperationType::Instantiate => Ok(functions.instantiate()),
            LcmOperationType::Scale | LcmOperationType::ScaleToLevel => Ok(functions.scale()),
            LcmOperationType::Heal => Ok(functions.heal()),
            LcmOperationType::Terminate => Ok(functions.terminate()),
            LcmOperationType::ChangeVnfPackage => Ok(functions.change()),
            LcmOperationType::ModifyInfo => Ok(Vec::new()),
            LcmOperationType::ChangeExtConn => Err(Problem::unprocessable(
                "container network functions have no external connection points that could be changed",
            )),
            LcmOperationType::ChangeFlavour | LcmOperationType::Operate => {
                Err(Problem::unprocessable("this is not supported for container network functions"))
            }
        }
    }
}

/// Names of workloads by VDU, as the package has them.
pub(super) fn workload_names(package: &Package, flavour: &str) -> BTreeMap<String, String> {
    let vdus = package.flavour(flavour).map(|flavour| &flavour.vdus);
    let name = |(vdu, properties): (&String, &drystone_csar::vnfd::Vdu)| {
        let name = if properties.name.is_empty() { vdu.clone() } else { properties.name.clone() };
        (vdu.clone(), name)
    };
    vdus.into_iter().flatten().map(name).collect()
}

/// A step of this domain.
pub(super) fn step<A: Action>(
    id: impl Into<String>,
    title: impl Into<String>,
    parameters: &A::Parameters,
) -> StepSpec {
    StepSpec {
        id: id.into(),
        action: A::NAME.to_owned(),
        title: title.into(),
        parameters: serde_json::to_value(parameters).unwrap_or_default(),
        timeout_seconds: 120,
        estimate_seconds: 1,
        max_attempts: 5,
        ..StepSpec::default()
    }
}

/// The manifests of a VNF, and what is done with them.
struct Functions<'a> {
    outline: &'a Outline,
    situation: &'a Situation,
    namespace: String,
    resources: Vec<Resource>,
    /// By VDU.
    workloads: BTreeMap<String, Workload>,
}

pub(super) fn read(package: &Package) -> impl Fn(&str) -> Result<Vec<u8>, String> + '_ {
    |path| package.file(path).map_err(|error| error.to_string())
}

impl<'a> Functions<'a> {
    fn of(package: &Package, outline: &'a Outline, situation: &'a Situation) -> Result<Self, Problem> {
        let files = manifests::files(situation.parameter(DEFINITION_FILES))?;
        let resources = manifests::resources(&files, &read(package))?;
        let asked = situation.parameter("namespace").and_then(Value::as_str);
        let namespace = manifests::namespace(&resources, asked)?;
        let mut workloads = BTreeMap::new();
        for (vdu, name) in workload_names(package, &outline.flavour) {
            let resource = manifests::workload(&resources, &vdu, &name)?;
            workloads.insert(vdu, Workload::of(resource));
        }
        Ok(Self { outline, situation, namespace, resources, workloads })
    }

    fn object(&self, resource: &Resource) -> ObjectParameters {
        let vdu = self.workloads.iter().find(|(_, workload)| workload.is(resource)).map(|(vdu, _)| vdu);
        let replicas = vdu.filter(|_| !matches!(resource.kind(), "Pod" | "DaemonSet"));
        let counts = self.outline.counts_after();
        ObjectParameters {
            package: self.situation.package.clone(),
            file: resource.file.clone(),
            index: resource.index,
            namespace: self.namespace.clone(),
            instance: self.situation.instance.uid.clone(),
            replicas: replicas.map(|vdu| counts.get(vdu).copied().unwrap_or_default()),
            restore: false,
            grace_seconds: None,
        }
    }

    /// Objects are made rank by rank; those of one rank at the same time.
    fn create(&self, restore: bool) -> Vec<StepSpec> {
        let mut steps = Vec::new();
        let mut before: Vec<String> = Vec::new();
        for rank in manifests::ranks() {
            let these: Vec<StepSpec> = self
                .resources
                .iter()
                .filter(|resource| resource.rank == rank)
                .map(|resource| {
                    let parameters = ObjectParameters { restore, ..self.object(resource) };
                    let title = format!("Make {}", resource.id());
                    StepSpec {
                        depends_on: before.clone(),
                        ..step::<CreateObject>(format!("create/{}", resource.id()), title, &parameters)
                    }
                })
                .collect();
            if !these.is_empty() {
                before = these.iter().map(|step| step.id.clone()).collect();
            }
            steps.extend(these);
        }
        steps
    }

    /// Waits until workloads and claims are what they were declared to be. Claims come last: some are bound when their pods are placed.
    fn ready(&self, after: &[String]) -> Vec<StepSpec> {
        let waited = |resource: &&Resource| {
            manifests::WORKLOADS.contains(&resource.kind())
                || matches!(resource.kind(), "Job" | "PersistentVolumeClaim" | "PersistentVolume")
        };
        let wait = |resource: &Resource| {
            let parameters =
                AwaitReadyParameters { namespace: self.namespace.clone(), workload: Workload::of(resource) };
            StepSpec {
                depends_on: after.to_vec(),
                timeout_seconds: READY_TIMEOUT,
                estimate_seconds: 10,
                ..step::<AwaitReady>(
                    format!("ready/{}", resource.id()),
                    format!("Wait for {}", resource.id()),
                    &parameters,
                )
            }
        };
        self.resources.iter().filter(waited).map(wait).collect()
    }

    fn inventory(&self, after: Vec<String>) -> StepSpec {
        let vdus = self.workloads.iter().filter_map(|(vdu, workload)| {
            let resource = self.resources.iter().find(|resource| workload.is(resource))?;
            Some((vdu.clone(), Selector::of(resource)))
        });
        let parameters = ReadPodsParameters {
            namespace: self.namespace.clone(),
            vdus: vdus.collect(),
            known: self.outline.before.clone(),
            before: self.before(),
        };
        StepSpec {
            depends_on: after,
            ..step::<ReadPods>(INVENTORY, "Read which pods there are", &parameters)
        }
    }

    fn before(&self) -> Before {
        Before { vnfcs: self.outline.before.clone(), links: Vec::new(), vim: self.situation.vim.clone() }
    }

    /// The end of every plan: what was changed is waited for, then read.
    fn finish(&self, mut steps: Vec<StepSpec>) -> Vec<StepSpec> {
        let ready = self.ready(&ends(&steps));
        let after = ready.iter().map(|step| step.id.clone()).collect();
        steps.extend(ready);
        steps.push(self.inventory(after));
        steps
    }

    fn instantiate(&self) -> Vec<StepSpec> {
        self.finish(self.create(false))
    }

    fn scale(&self) -> Vec<StepSpec> {
        let (before, after) = (self.outline.counts_before(), self.outline.counts_after());
        let count = |counts: &BTreeMap<String, u32>, vdu: &str| counts.get(vdu).copied().unwrap_or_default();
        let mut steps = Vec::new();
        for (vdu, workload) in &self.workloads {
            let (from, to) = (count(&before, vdu), count(&after, vdu));
            if from == to {
                continue;
            }
            let victims = self.outline.affected.iter().filter(|vnfc| vnfc.member.vdu == *vdu);
            let parameters = ScaleParameters {
                namespace: self.namespace.clone(),
                workload: workload.clone(),
                from,
                to,
                victims: victims.map(|vnfc| vnfc.server.clone()).collect(),
            };
            let title = format!("Scale {} from {from} to {to}", workload.name);
            steps.push(step::<ScaleWorkload>(format!("scale/{vdu}"), title, &parameters));
        }
        self.finish(steps)
    }

    fn heal(&self) -> Vec<StepSpec> {
        let mut steps = Vec::new();
        for (vdu, workload) in &self.workloads {
            let pods: Vec<String> = self
                .outline
                .affected
                .iter()
                .filter(|vnfc| vnfc.member.vdu == *vdu)
                .map(|vnfc| vnfc.server.clone())
                .collect();
            if pods.is_empty() {
                continue;
            }
            let title = format!("Have {} pods of {} made anew", pods.len(), workload.name);
            let resource = self.resources.iter().find(|resource| workload.is(resource));
            let parameters = DeletePodsParameters {
                namespace: self.namespace.clone(),
                pods,
                // Nobody makes a pod anew that belongs to no controller.
                again: resource.filter(|_| workload.kind == "Pod").map(|resource| self.object(resource)),
            };
            steps.push(step::<DeletePods>(format!("heal/{vdu}"), title, &parameters));
        }
        self.finish(steps)
    }

    fn delete(&self) -> Vec<StepSpec> {
        let graceful =
            self.situation.parameters.get("terminationType").is_some_and(|kind| kind == "GRACEFUL");
        let seconds = self.situation.parameters.get("gracefulTerminationTimeout").and_then(Value::as_u64);
        let grace = if graceful { Some(seconds.unwrap_or(10)) } else { Some(0) };
        let mut steps = Vec::new();
        let mut before: Vec<String> = Vec::new();
        for rank in manifests::ranks().rev() {
            let these: Vec<StepSpec> = self
                .resources
                .iter()
                .filter(|resource| resource.rank == rank)
                .map(|resource| {
                    let parameters = ObjectParameters { grace_seconds: grace, ..self.object(resource) };
                    StepSpec {
                        depends_on: before.clone(),
                        timeout_seconds: READY_TIMEOUT,
                        ..step::<DeleteObject>(
                            format!("delete/{}", resource.id()),
                            format!("Delete {}", resource.id()),
                            &parameters,
                        )
                    }
                })
                .collect();
            if !these.is_empty() {
                before = these.iter().map(|step| step.id.clone()).collect();
            }
            steps.extend(these);
        }
        steps
    }

    fn terminate(&self) -> Vec<StepSpec> {
        let mut steps = self.delete();
        let after = ends(&steps);
        // By this id, what there was before is found.
        let parameters = ReadPodsParameters {
            namespace: self.namespace.clone(),
            vdus: BTreeMap::new(),
            known: Vec::new(),
            before: self.before(),
        };
        let last = step::<ReadPods>(STACK_DELETE, "Nothing is left", &parameters);
        steps.push(StepSpec { depends_on: after, ..last });
        steps
    }

    /// The new package's objects are made or changed; those that only the old one has go.
    fn change(&self) -> Vec<StepSpec> {
        let mut steps = self.create(true);
        let parameters = PruneParameters {
            namespace: self.namespace.clone(),
            instance: self.situation.instance.uid.clone(),
            keep: self.resources.iter().map(Resource::id).collect(),
        };
        let after = ends(&steps);
        let prune = step::<PruneObjects>("prune", "Delete what only the old package has", &parameters);
        steps.push(StepSpec { depends_on: after, timeout_seconds: READY_TIMEOUT, ..prune });
        self.finish(steps)
    }
}

/// Steps that no other waits for.
pub(super) fn ends(steps: &[StepSpec]) -> Vec<String> {
    let is_waited_for = |id: &String| steps.iter().any(|step| step.depends_on.contains(id));
    steps.iter().map(|step| step.id.clone()).filter(|id| !is_waited_for(id)).collect()
}
