//! Effects on the Kubernetes of a VNF.

use std::{collections::BTreeMap, sync::Arc};

use drystone_csar::Library;
use drystone_engine::action::{Action, ActionRegistry, RegistryError, StepContext, StepError};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions},
    runtime::wait::await_condition,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    DEFINITION_FILES,
    cluster::Cluster,
    helm,
    manifests::{self, Resource},
    pods,
    readiness::{Readiness, readiness},
};
use crate::{
    model::{Inventory, Vnfc},
    plan::changes::Before,
};

/// Registers the steps.
///
/// # Errors
/// When one is registered already.
pub fn register(actions: &mut ActionRegistry, library: &Library) -> Result<(), RegistryError> {
    let library = Arc::new(library.clone());
    actions.register(CreateObject(Arc::clone(&library)))?;
    actions.register(DeleteObject(Arc::clone(&library)))?;
    actions.register(PruneObjects(Arc::clone(&library)))?;
    actions.register(DeletePods(Arc::clone(&library)))?;
    actions.register(AwaitReady)?;
    actions.register(ScaleWorkload)?;
    actions.register(ReadPods)?;
    helm::register(actions, &library)
}

/// An object of a package.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectParameters {
    /// Uid of the package.
    pub package: String,
    /// Path of the manifest.
    pub file: String,
    /// Which of its objects, from 0.
    pub index: u32,
    /// Namespace, for objects that are in one.
    pub namespace: String,
    /// Uid of the instance whose it is.
    pub instance: String,
    /// How many replicas, for a VDU's workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Undone, it becomes what the instance's package says, instead of being deleted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub restore: bool,
    /// How long pods may take to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_seconds: Option<u64>,
}

impl ObjectParameters {
    fn resource(&self, library: &Library) -> Result<Resource, StepError> {
        let package = library.package(&self.package).map_err(StepError::permanent)?;
        manifests::resource(&self.file, self.index, &super::plan::read(&package))
            .map_err(StepError::permanent)
    }
}

/// The objects of the package that the instance is made of, while that is changed.
fn old_resources(library: &Library, cluster: &Cluster) -> Result<Vec<Resource>, StepError> {
    let package = library.package(&cluster.ground.package).map_err(StepError::permanent)?;
    let files = manifests::files(cluster.ground.instantiated_with.get(DEFINITION_FILES))
        .map_err(StepError::permanent)?;
    manifests::resources(&files, &super::plan::read(&package)).map_err(StepError::permanent)
}

/// Makes an object, or changes it to be as it is declared. Undone, it is deleted.
pub struct CreateObject(Arc<Library>);

impl Action for CreateObject {
    const NAME: &'static str = "cnf.create-object";
    type Parameters = ObjectParameters;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: ObjectParameters) -> Result<(), StepError> {
        let resource = parameters.resource(&self.0)?;
        let cluster = Cluster::of(context).await?;
        let ObjectParameters { namespace, instance, replicas, .. } = &parameters;
        cluster.apply(&resource, namespace, instance, *replicas).await
    }

    async fn undo(&self, context: &StepContext, parameters: ObjectParameters) -> Result<(), StepError> {
        let resource = parameters.resource(&self.0)?;
        let cluster = Cluster::of(context).await?;
        let ObjectParameters { namespace, instance, replicas, .. } = &parameters;
        if parameters.restore {
            let old = old_resources(&self.0, &cluster)?;
            if let Some(old) = old.iter().find(|old| old.id() == resource.id()) {
                return cluster.apply(old, namespace, instance, *replicas).await;
            }
        }
        cluster.delete(context, &resource, namespace, instance, None).await
    }
}

/// Deletes an object and waits until it is gone. Undone, it is made again, without what was in it.
pub struct DeleteObject(Arc<Library>);

impl Action for DeleteObject {
    const NAME: &'static str = "cnf.delete-object";
    type Parameters = ObjectParameters;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: ObjectParameters) -> Result<(), StepError> {
        let resource = parameters.resource(&self.0)?;
        let cluster = Cluster::of(context).await?;
        let ObjectParameters { namespace, instance, grace_seconds, .. } = &parameters;
        cluster.delete(context, &resource, namespace, instance, *grace_seconds).await
    }

    async fn undo(&self, _: &StepContext, _: ObjectParameters) -> Result<(), StepError> {
        Err(StepError::permanent(
            "what was deleted cannot be taken back; have the operation tried again, or give it up",
        ))
    }
}

/// Deletes what only the package before has. Undone, it is made again.
pub struct PruneObjects(Arc<Library>);

/// What stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PruneParameters {
    /// Namespace.
    pub namespace: String,
    /// Uid of the instance.
    pub instance: String,
    /// Objects of the new package: `KIND.GROUP/NAME`.
    pub keep: Vec<String>,
}

impl PruneObjects {
    fn gone(&self, cluster: &Cluster, parameters: &PruneParameters) -> Result<Vec<Resource>, StepError> {
        let mut old = old_resources(&self.0, cluster)?;
        old.retain(|resource| !parameters.keep.contains(&resource.id()));
        Ok(old)
    }
}

impl Action for PruneObjects {
    const NAME: &'static str = "cnf.prune-objects";
    type Parameters = PruneParameters;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: PruneParameters) -> Result<(), StepError> {
        let cluster = Cluster::of(context).await?;
        for resource in self.gone(&cluster, &parameters)?.iter().rev() {
            cluster.delete(context, resource, &parameters.namespace, &parameters.instance, None).await?;
        }
        Ok(())
    }

    async fn undo(&self, context: &StepContext, parameters: PruneParameters) -> Result<(), StepError> {
        let cluster = Cluster::of(context).await?;
        for resource in &self.gone(&cluster, &parameters)? {
            cluster.apply(resource, &parameters.namespace, &parameters.instance, None).await?;
        }
        Ok(())
    }
}

/// A workload, or anything else that becomes ready.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// `apps/v1`.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl Workload {
    /// That of an object.
    pub fn of(resource: &Resource) -> Self {
        Self {
            api_version: resource.text("/apiVersion").to_owned(),
            kind: resource.kind().to_owned(),
            name: resource.name().to_owned(),
        }
    }

    /// Whether an object is it.
    pub fn is(&self, resource: &Resource) -> bool {
        *self == Self::of(resource)
    }
}

/// Waits until an object is what it was declared to be.
pub struct AwaitReady;

/// What is waited for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct AwaitReadyParameters {
    /// Its namespace, if it is in one.
    pub namespace: String,
    /// What it is.
    pub workload: Workload,
}

impl Action for AwaitReady {
    const NAME: &'static str = "cnf.await-ready";
    type Parameters = AwaitReadyParameters;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: AwaitReadyParameters) -> Result<(), StepError> {
        let cluster = Cluster::of(context).await?;
        await_ready(context, &cluster, &parameters.namespace, &parameters.workload).await
    }
}

/// Waits until an object is what it was declared to be.
pub(super) async fn await_ready(
    context: &StepContext,
    cluster: &Cluster,
    namespace: &str,
    workload: &Workload,
) -> Result<(), StepError> {
    let objects = cluster.objects(&workload.api_version, &workload.kind, namespace).await?;
    let seen = |object: Option<&DynamicObject>| -> Readiness {
        match object.and_then(|object| serde_json::to_value(object).ok()) {
            // The types are not part of what a watch of a known kind carries.
            Some(mut object) => {
                object["apiVersion"] = workload.api_version.clone().into();
                object["kind"] = workload.kind.clone().into();
                readiness(&object)
            }
            None => Readiness::Waiting("it is not there".to_owned()),
        }
    };
    let settled = |object: Option<&DynamicObject>| match seen(object) {
        Readiness::Waiting(how) => {
            context.progress(10, how);
            false
        }
        Readiness::Ready | Readiness::Failed(_) => true,
    };
    let name = format!("{} {}", workload.kind, workload.name);
    let waited = Box::pin(context.wait_for(await_condition(objects, &workload.name, settled))).await?;
    let found = waited.map_err(|error| StepError::transient(format!("waiting for {name}: {error}")))?;
    match seen(found.as_ref()) {
        Readiness::Ready => Ok(()),
        // Somebody may mend it: another attempt looks again.
        Readiness::Failed(why) | Readiness::Waiting(why) => {
            Err(StepError::transient(format!("{name} did not become ready: {why}")))
        }
    }
}

/// Sets how many pods a workload has. Undone, it has as many as before.
pub struct ScaleWorkload;

/// How many.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ScaleParameters {
    /// Namespace.
    pub namespace: String,
    /// The workload.
    pub workload: Workload,
    /// Before.
    pub from: u32,
    /// Afterwards.
    pub to: u32,
    /// Pods that go.
    pub victims: Vec<String>,
}

impl ScaleWorkload {
    async fn set(
        context: &StepContext,
        parameters: &ScaleParameters,
        replicas: u32,
    ) -> Result<(), StepError> {
        let ScaleParameters { namespace, workload, .. } = parameters;
        let cluster = Cluster::of(context).await?;
        let doing = format!("scaling {} to {replicas}", workload.name);
        let failed = |error: kube::Error| StepError::from_kube(&doing, &error);
        if replicas < parameters.from {
            // So that those go that the request meant, where the workload's controller asks for the cost.
            let pods = cluster.api::<Pod>(namespace);
            let cheap =
                json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-1000"}}});
            for victim in &parameters.victims {
                match pods.patch(victim, &PatchParams::default(), &Patch::Merge(&cheap)).await {
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    other => drop(other.map_err(failed)?),
                }
            }
        }
        let objects = cluster.objects(&workload.api_version, &workload.kind, namespace).await?;
        let patch = json!({"spec": {"replicas": replicas}});
        objects
            .patch_scale(&workload.name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .map(drop)
            .map_err(failed)
    }
}

impl Action for ScaleWorkload {
    const NAME: &'static str = "cnf.scale-workload";
    type Parameters = ScaleParameters;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: ScaleParameters) -> Result<(), StepError> {
        Self::set(context, &parameters, parameters.to).await
    }

    async fn undo(&self, context: &StepContext, parameters: ScaleParameters) -> Result<(), StepError> {
        Self::set(context, &parameters, parameters.from).await
    }
}

/// Deletes pods, which their controllers make anew.
pub struct DeletePods(Arc<Library>);

/// Which.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletePodsParameters {
    /// Namespace.
    pub namespace: String,
    /// Their names.
    pub pods: Vec<String>,
    /// A pod that nobody else makes anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<ObjectParameters>,
}

impl Action for DeletePods {
    const NAME: &'static str = "cnf.delete-pods";
    type Parameters = DeletePodsParameters;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: DeletePodsParameters) -> Result<(), StepError> {
        let cluster = Cluster::of(context).await?;
        let pods = cluster.api::<Pod>(&parameters.namespace);
        let failed = |error: kube::Error| StepError::from_kube("deleting pods", &error);
        let mut leaving = Vec::new();
        for name in &parameters.pods {
            let Some(uid) = pods.get_opt(name).await.map_err(failed)?.and_then(|pod| pod.uid()) else {
                continue;
            };
            let only_this = Preconditions { uid: Some(uid.clone()), resource_version: None };
            let deletion = DeleteParams { preconditions: Some(only_this), ..DeleteParams::default() };
            match pods.delete(name, &deletion).await {
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                other => drop(other.map_err(failed)?),
            }
            leaving.push((name, uid));
        }
        for (name, uid) in &leaving {
            let gone = kube::runtime::conditions::is_deleted(uid);
            let waited = Box::pin(context.wait_for(await_condition(pods.clone(), name, gone))).await?;
            waited.map_err(|error| {
                StepError::transient(format!("waiting until pod {name} is gone: {error}"))
            })?;
        }
        match &parameters.again {
            Some(again) => {
                cluster.apply(&again.resource(&self.0)?, &again.namespace, &again.instance, None).await
            }
            None => Ok(()),
        }
    }
}

/// How the pods of a workload are found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Selector {
    /// By their labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// By its name, for a pod of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Selector {
    /// That of a workload.
    pub fn of(resource: &Resource) -> Self {
        if resource.kind() == "Pod" {
            return Self { name: Some(resource.name().to_owned()), ..Self::default() };
        }
        let labels = resource.object.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
        let labels = labels
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        Self { labels: labels.collect(), name: None }
    }

    fn list(&self) -> ListParams {
        if let Some(name) = &self.name {
            return ListParams::default().fields(&format!("metadata.name={name}"));
        }
        let labels: Vec<String> = self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        ListParams::default().labels(&labels.join(","))
    }
}

/// Reads which pods there are.
pub struct ReadPods;

/// Of whom.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReadPodsParameters {
    /// Namespace.
    pub namespace: String,
    /// Pods by VDU.
    pub vdus: BTreeMap<String, Selector>,
    /// Pods that have a place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<Vnfc>,
    /// What there was, for the record of changes.
    pub before: Before,
}

impl Action for ReadPods {
    const NAME: &'static str = "cnf.read-pods";
    type Parameters = ReadPodsParameters;
    type Output = Inventory;

    async fn run(
        &self,
        context: &StepContext,
        parameters: ReadPodsParameters,
    ) -> Result<Inventory, StepError> {
        if parameters.vdus.is_empty() {
            return Ok(pods::inventory(&parameters.namespace, &BTreeMap::new(), &[]));
        }
        let cluster = Cluster::of(context).await?;
        read_pods(&cluster, &parameters.namespace, &parameters.vdus, &parameters.known).await
    }
}

/// Which pods there are of each VDU.
pub(super) async fn read_pods(
    cluster: &Cluster,
    namespace: &str,
    vdus: &BTreeMap<String, Selector>,
    known: &[Vnfc],
) -> Result<Inventory, StepError> {
    let api = cluster.api::<Pod>(namespace);
    let mut found = BTreeMap::new();
    for (vdu, selector) in vdus {
        let listed = api.list(&selector.list()).await;
        let listed = listed.map_err(|error| StepError::from_kube("listing pods", &error))?;
        found.insert(vdu.clone(), listed.items);
    }
    Ok(pods::inventory(namespace, &found, known))
}
