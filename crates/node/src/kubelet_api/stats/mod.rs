//! What the node and its containers use, for monitoring and autoscaling: the Summary API, and Prometheus metrics of the same.

mod machine;
mod prometheus;
mod summary;

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use self::machine::Machine;
use super::{Shared, refusal::Refusal};
use crate::{
    cri::{
        CriError,
        messages::{ContainerStats, FilesystemUsage, UInt64Value},
    },
    node_object::facts::{FileSystem, file_system},
    pods::labels,
};

/// What a container uses.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ContainerUsage {
    name: String,
    started: Timestamp,
    /// When it was measured.
    time: Timestamp,
    /// Processor time since its start, in nanoseconds.
    cpu: Option<u64>,
    /// Memory that cannot be taken from it, in bytes.
    working_set: Option<u64>,
    /// All memory, in bytes.
    usage: Option<u64>,
    /// Memory that is not backed by files, in bytes.
    rss: Option<u64>,
    /// What it wrote into its own file system, in bytes.
    written: Option<u64>,
}

/// What a pod's containers use.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PodUsage {
    namespace: String,
    name: String,
    uid: String,
    started: Timestamp,
    containers: Vec<ContainerUsage>,
}

impl PodUsage {
    /// The sum over its containers.
    fn sum(&self, of: impl Fn(&ContainerUsage) -> Option<u64>) -> u64 {
        self.containers.iter().filter_map(of).sum()
    }

    /// When the last of them was measured.
    fn time(&self) -> Timestamp {
        self.containers.iter().map(|container| container.time).max().unwrap_or(self.started)
    }
}

/// Everything that is measured.
#[derive(Debug)]
struct Usage {
    node: String,
    machine: Machine,
    disk: FileSystem,
    images: Vec<(FilesystemUsage, FileSystem)>,
    pods: Vec<PodUsage>,
}

/// Answers `/stats/summary`.
pub(super) async fn summary(shared: &Shared) -> Result<Value, Refusal> {
    Ok(summary::summary(&measure(shared).await?))
}

/// Answers `/metrics/resource`.
pub(super) async fn metrics(shared: &Shared) -> Result<String, Refusal> {
    Ok(prometheus::metrics(&measure(shared).await?))
}

async fn measure(shared: &Shared) -> Result<Usage, Refusal> {
    let failed =
        |error: CriError| Refusal::internal(format!("the container runtime does not answer: {error}"));
    let runtime = &shared.runtime;
    let (stats, containers, images) = futures::try_join!(
        runtime.list_container_stats(),
        runtime.list_containers(HashMap::new()),
        runtime.image_filesystems(),
    )
    .map_err(failed)?;
    let started: HashMap<String, Timestamp> =
        containers.into_iter().map(|container| (container.id, timestamp(container.created_at))).collect();
    let config = shared.config.clone();
    let read = move || {
        let images = images.into_iter().map(|image| {
            let mount = image.fs_id.clone().unwrap_or_default().mountpoint;
            (image, file_system(mount.as_ref()))
        });
        let images = images.collect();
        (machine::measure(&config.cgroup_root), file_system(&config.data_dir), images)
    };
    let (machine, disk, images) = tokio::task::spawn_blocking(read)
        .await
        .map_err(|error| Refusal::internal(format!("the node cannot be measured: {error}")))?;
    Ok(Usage { node: shared.config.node_name.clone(), machine, disk, images, pods: by_pod(&stats, &started) })
}

/// Containers by the pod that their labels name, in order of names.
fn by_pod(stats: &[ContainerStats], started: &HashMap<String, Timestamp>) -> Vec<PodUsage> {
    let mut pods = BTreeMap::new();
    for stats in stats {
        let Some(attributes) = &stats.attributes else { continue };
        let label = |name: &str| attributes.labels.get(name).filter(|value| !value.is_empty()).cloned();
        // Containers of nobody's pod are none of ours.
        let (Some(namespace), Some(name), Some(uid), Some(container)) = (
            label(labels::POD_NAMESPACE),
            label(labels::POD_NAME),
            label(labels::POD_UID),
            label(labels::CONTAINER_NAME),
        ) else {
            continue;
        };
        let since = started.get(&attributes.id).copied().unwrap_or_default();
        let usage = container_usage(container, since, stats);
        let pod = pods.entry((namespace.clone(), name.clone(), uid.clone())).or_insert_with(|| PodUsage {
            namespace,
            name,
            uid,
            started: since,
            containers: Vec::new(),
        });
        pod.started = pod.started.min(since);
        pod.containers.push(usage);
    }
    let mut pods: Vec<PodUsage> = pods.into_values().collect();
    pods.iter_mut().for_each(|pod| pod.containers.sort_by(|a, b| a.name.cmp(&b.name)));
    pods
}

fn container_usage(name: String, started: Timestamp, stats: &ContainerStats) -> ContainerUsage {
    let value = |value: Option<UInt64Value>| value.map(|value| value.value);
    let memory = stats.memory.unwrap_or_default();
    let cpu = stats.cpu.unwrap_or_default();
    ContainerUsage {
        name,
        started,
        time: timestamp(cpu.timestamp.max(memory.timestamp)),
        cpu: value(cpu.usage_core_nano_seconds),
        working_set: value(memory.working_set_bytes),
        usage: value(memory.usage_bytes),
        rss: value(memory.rss_bytes),
        written: stats.writable_layer.as_ref().and_then(|layer| value(layer.used_bytes)),
    }
}

fn timestamp(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
