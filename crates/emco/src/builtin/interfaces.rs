//! Interfaces of workloads on networks, as EMCO's ovnaction gives them: two annotations of pod templates.

use drystone_api::emco::{
    Document as _, InterfaceIntent, InterfaceIntentSpec, WorkloadIntent, WorkloadIntentSpec,
};
use drystone_appcontext::{AppContext, ClusterName};
use serde_json::{Map, Value, json};

use crate::{
    builtin::{gac::Clusters, manifest},
    model::{ClusterFacts, Refusal},
};

/// Annotation that Multus reads.
pub const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
/// Annotation that the Nodus network plugin (ovn4nfv) reads.
pub const INTERFACES: &str = "k8s.plugin.opnfv.org/nfn-network";
/// The network plugin.
const PLUGIN: &str = "ovn4nfv";
/// Key-value pair of a cluster on which Nodus makes all interfaces itself, without Multus.
const NODUS_ALONE: &str = "CNI-Networking-Nodus-CNI-For-all-interfaces";

/// A network controller intent with all that is below it.
#[derive(Debug, Clone, Default)]
pub struct NetworkIntent {
    /// Workloads with their interfaces.
    pub workloads: Vec<Workload>,
}

/// A workload with its interfaces.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Name of the document.
    pub name: String,
    /// Which one.
    pub spec: WorkloadIntentSpec,
    /// Its interfaces.
    pub interfaces: Vec<InterfaceIntentSpec>,
}

/// Gathers an intent from documents, in the order in which they were declared.
pub fn gather(intent: &str, workloads: &[WorkloadIntent], interfaces: &[InterfaceIntent]) -> NetworkIntent {
    let below = format!("{intent}/workload-intents/");
    let mut own: Vec<&WorkloadIntent> = workloads
        .iter()
        .filter(|workload| workload.path().strip_prefix(&below).is_some_and(|name| !name.contains('/')))
        .collect();
    own.sort_by_key(|workload| (workload.metadata.creation_timestamp.clone(), workload.path().to_owned()));
    let with_interfaces = |workload: &WorkloadIntent| {
        let below = format!("{}/interfaces/", workload.path());
        let mut own: Vec<&InterfaceIntent> =
            interfaces.iter().filter(|interface| interface.path().starts_with(&below)).collect();
        own.sort_by_key(|interface| {
            (interface.metadata.creation_timestamp.clone(), interface.path().to_owned())
        });
        Workload {
            name: workload.document_name().to_owned(),
            spec: workload.spec.clone(),
            interfaces: own.into_iter().map(|interface| interface.spec.clone()).collect(),
        }
    };
    NetworkIntent { workloads: own.into_iter().map(with_interfaces).collect() }
}

/// Carries out an intent: annotates the workloads of the context. Doing it twice is the same as doing it once.
///
/// # Errors
/// [`Refusal`] that names the workload intent and what is wrong; also where the workload is nowhere.
pub fn apply(context: &mut AppContext, intent: &NetworkIntent, clusters: &Clusters) -> Result<(), Refusal> {
    for workload in intent.workloads.iter().filter(|workload| !workload.interfaces.is_empty()) {
        let Some(app) = context.apps.get_mut(&workload.spec.app) else {
            let message = format!(
                "workload-intent {}: app {} is not part of the deployment",
                workload.name, workload.spec.app
            );
            return Err(Refusal::unfit(message));
        };
        let mut found = false;
        for (name, part) in &mut app.clusters {
            let with_multus = clusters.get(name).is_none_or(|cluster| !is_alone(cluster));
            for known in manifest::find(part, "", &workload.spec.kind, &workload.spec.workload_resource) {
                let Some(there) = part.resources.get_mut(&known) else { continue };
                let refuse = |why: String| refusal(workload, name, &why);
                let mut object = manifest::read(&there.manifest).map_err(refuse)?;
                annotate(&mut object, &workload.interfaces, with_multus).map_err(refuse)?;
                there.manifest = manifest::write(&object).into();
                found = true;
            }
        }
        if !found {
            let WorkloadIntentSpec { app, kind, workload_resource, .. } = &workload.spec;
            return Err(Refusal::unfit(format!(
                "workload-intent {}: app {app} has no {kind} {workload_resource} that could get interfaces; correct spec.workloadResource and spec.type",
                workload.name
            )));
        }
    }
    Ok(())
}

fn is_alone(cluster: &ClusterFacts) -> bool {
    cluster.value_of(NODUS_ALONE).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

fn refusal(workload: &Workload, cluster: &ClusterName, why: &str) -> Refusal {
    let WorkloadIntentSpec { kind, workload_resource, .. } = &workload.spec;
    Refusal::unfit(format!(
        "workload-intent {}, {kind} {workload_resource} on {cluster}: {why}",
        workload.name
    ))
}

/// Where pods of an object get their annotations.
fn pod_metadata(object: &Value) -> Option<&'static [&'static str]> {
    if manifest::text(object, "/kind") == "Pod" {
        return Some(&["metadata", "annotations"]);
    }
    // A CronJob has a template of a job around that of its pods.
    if object.pointer("/spec/jobTemplate/spec/template").is_some() {
        return Some(&["spec", "jobTemplate", "spec", "template", "metadata", "annotations"]);
    }
    object.pointer("/spec/template").map(|_| &["spec", "template", "metadata", "annotations"][..])
}

fn annotate(object: &mut Value, interfaces: &[InterfaceIntentSpec], with_multus: bool) -> Result<(), String> {
    let path =
        pod_metadata(object).ok_or("it has no template of pods (spec.template) that could be annotated")?;
    let namespace = manifest::text(object, "/metadata/namespace").to_owned();
    let annotations = manifest::object_at(object, path).ok_or("its annotations are not a mapping")?;
    let own = with_interfaces(annotations.get(INTERFACES), interfaces)?;
    annotations.insert(INTERFACES.to_owned(), own.to_string().into());
    if with_multus {
        let networks = with_network(annotations.get(NETWORKS), &namespace)?;
        annotations.insert(NETWORKS.to_owned(), networks.to_string().into());
    }
    Ok(())
}

/// The interfaces that are there, changed, and those that are new.
fn with_interfaces(there: Option<&Value>, interfaces: &[InterfaceIntentSpec]) -> Result<Value, String> {
    let before: Value = match there.and_then(Value::as_str).filter(|text| !text.is_empty()) {
        Some(text) => {
            serde_json::from_str(text).map_err(|error| format!("annotation {INTERFACES}: {error}"))?
        }
        None => Value::Null,
    };
    let mut list: Vec<Value> = match before.get("interface") {
        Some(Value::Array(list)) => list.clone(),
        None | Some(Value::Null) => Vec::new(),
        Some(_) => return Err(format!("annotation {INTERFACES}: interface is not a list")),
    };
    for interface in interfaces {
        let told = told(interface);
        let same =
            |other: &&mut Value| other["interface"] == told["interface"] && other["name"] == told["name"];
        match list.iter_mut().find(same) {
            Some(other) => *other = told,
            None => list.push(told),
        }
    }
    Ok(json!({"type": PLUGIN, "interface": list}))
}

fn told(interface: &InterfaceIntentSpec) -> Value {
    let mut object = Map::new();
    object.insert("interface".to_owned(), interface.interface.clone().into());
    object.insert("name".to_owned(), interface.name.clone().into());
    let gateway = if interface.default_gateway.is_empty() { "false" } else { &interface.default_gateway };
    object.insert("defaultGateway".to_owned(), gateway.into());
    for (key, value) in [("ipAddress", &interface.ip_address), ("macAddress", &interface.mac_address)] {
        if !value.is_empty() {
            object.insert(key.to_owned(), value.clone().into());
        }
    }
    Value::Object(object)
}

/// The networks that are there, and that of the plugin. They may be written as JSON or as `namespace/name@interface, …`.
fn with_network(there: Option<&Value>, namespace: &str) -> Result<Value, String> {
    let text = there.and_then(Value::as_str).unwrap_or_default().trim();
    let mut list: Vec<Value> = if text.starts_with(['[', '{', '"']) {
        serde_json::from_str(text).map_err(|error| format!("annotation {NETWORKS}: {error}"))?
    } else {
        text.split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(|item| short(item, namespace))
            .collect()
    };
    if !list.iter().any(|network| network["name"] == "ovn-networkobj") {
        list.push(json!({"name": "ovn-networkobj", "namespace": "default"}));
    }
    Ok(Value::Array(list))
}

/// `namespace/name@interface`, of which only the name must be there.
fn short(item: &str, namespace: &str) -> Value {
    let (rest, interface) = item.split_once('@').unwrap_or((item, ""));
    let (namespace, name) = rest.split_once('/').unwrap_or((namespace, rest));
    let mut network = json!({"name": name});
    if !namespace.is_empty() {
        network["namespace"] = namespace.into();
    }
    if !interface.is_empty() {
        network["interface"] = interface.into();
    }
    network
}

#[cfg(test)]
mod tests;
