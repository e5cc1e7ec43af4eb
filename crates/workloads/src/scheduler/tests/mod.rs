//! Objects for the tests of the scheduler, and the tests by topic.

mod choosing;
mod preemption;
mod properties;
mod queueing;

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{
        Container, ContainerPort, Node, NodeStatus, PersistentVolume, PersistentVolumeClaim, Pod, PodSpec,
        ResourceRequirements,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::api::ObjectMeta;
use serde_json::json;
use tokio::time::Instant;

use super::{
    cluster::Cluster,
    decide::{Misfit, Turn, decide},
    engine::{Engine, Environment, Verdict},
    pod_info::PodInfo,
    volumes::{VolumeLookup, VolumeNeeds},
};
use crate::{cache::Change, kind::ObjectKey, volumes::matching::Class};

fn quantities(list: &[(&str, &str)]) -> BTreeMap<String, Quantity> {
    list.iter().map(|(name, value)| ((*name).to_owned(), Quantity((*value).to_owned()))).collect()
}

fn labels(list: &[(&str, &str)]) -> BTreeMap<String, String> {
    list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A node of 4 cores, 16 GiB and 10 pods, in a zone.
fn node(name: &str, zone: &str) -> Node {
    sized_node(name, zone, &[("cpu", "4"), ("memory", "16Gi"), ("pods", "10")])
}

fn sized_node(name: &str, zone: &str, allocatable: &[(&str, &str)]) -> Node {
    Node {
        metadata: ObjectMeta {
            name: Some(name.into()),
            labels: Some(labels(&[("kubernetes.io/hostname", name), ("topology.kubernetes.io/zone", zone)])),
            ..Default::default()
        },
        status: Some(NodeStatus { allocatable: Some(quantities(allocatable)), ..Default::default() }),
        ..Default::default()
    }
}

/// A pod that asks for CPU, labelled `app: <app>`.
fn pod(name: &str, app: &str, cpu: &str) -> Pod {
    Pod {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some("default".into()),
            uid: Some(format!("uid-{name}")),
            labels: Some(labels(&[("app", app)])),
            ..Default::default()
        },
        spec: Some(PodSpec {
            containers: vec![Container {
                name: "c".into(),
                resources: Some(ResourceRequirements {
                    requests: Some(quantities(&[("cpu", cpu)])),
                    ..Default::default()
                }),
                ..Default::default()
            }],
            ..Default::default()
        }),
        status: None,
    }
}

fn with_host_port(mut pod: Pod, port: i32) -> Pod {
    pod.spec.as_mut().unwrap().containers[0].ports =
        Some(vec![ContainerPort { container_port: port, host_port: Some(port), ..Default::default() }]);
    pod
}

/// Changes the pod's specification by JSON, which is how it is written in manifests.
fn with_spec(pod: &Pod, extra: &serde_json::Value) -> Pod {
    let mut value = serde_json::to_value(pod).unwrap();
    for (key, field) in extra.as_object().unwrap() {
        value["spec"][key] = field.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn near(topology: &str, app: &str) -> serde_json::Value {
    json!({"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": topology, "labelSelector": {"matchLabels": {"app": app}}}]})
}

fn cluster(nodes: &[Node], placed: &[(Pod, &str)]) -> Cluster {
    let mut cluster = Cluster::default();
    for node in nodes {
        cluster.set_node(Arc::new(node.clone()));
    }
    for (pod, node) in placed {
        cluster.confirm(Arc::new(PodInfo::new(Arc::new(pod.clone()))), node);
    }
    cluster
}

fn choose(cluster: &Cluster, pod: &Pod) -> Result<String, Misfit> {
    let info = PodInfo::new(Arc::new(pod.clone()));
    decide(cluster, &info, &VolumeNeeds::default(), &|_| BTreeMap::new(), Turn(0))
}

/// No volumes anywhere.
struct NoVolumes;

impl VolumeLookup for NoVolumes {
    fn claim(&self, _: &ObjectKey) -> Option<Arc<PersistentVolumeClaim>> {
        None
    }

    fn volume(&self, _: &str) -> Option<Arc<PersistentVolume>> {
        None
    }

    fn volumes(&self) -> Vec<Arc<PersistentVolume>> {
        Vec::new()
    }

    fn class(&self, _: &str) -> Option<Class> {
        None
    }
}

/// Asks the engine for its next verdict in a world without namespaces' labels, volumes and budgets.
fn next(engine: &mut Engine, now: Instant) -> Verdict {
    let environment =
        Environment { namespaces: &|_| BTreeMap::new(), volumes: &NoVolumes, budgets: &|| Vec::new() };
    engine.next(&environment, now)
}

fn added<K>(object: K) -> Change<K> {
    Change::Added(Arc::new(object))
}
