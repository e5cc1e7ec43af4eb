//! The Summary API, `stats/v1alpha1` of `k8s.io/kubelet`.

use serde_json::{Value, json};

use super::{ContainerUsage, PodUsage, Usage};
use crate::node_object::facts::FileSystem;

pub(super) fn summary(usage: &Usage) -> Value {
    let machine = &usage.machine;
    let images = usage.images.first().map(|(image, disk)| {
        let mut described = file_system(disk);
        described["usedBytes"] = image.used_bytes.map(|used| used.value).into();
        described["inodesUsed"] = image.inodes_used.map(|used| used.value).into();
        described
    });
    json!({
        "node": {
            "nodeName": usage.node,
            "startTime": machine.started,
            "cpu": {"time": machine.time, "usageCoreNanoSeconds": machine.cpu},
            "memory": {
                "time": machine.time,
                "availableBytes": machine.available,
                "usageBytes": machine.usage,
                "workingSetBytes": machine.working_set,
            },
            "fs": file_system(&usage.disk),
            "runtime": {"imageFs": images},
        },
        "pods": usage.pods.iter().map(pod).collect::<Vec<_>>(),
    })
}

fn file_system(disk: &FileSystem) -> Value {
    json!({
        "capacityBytes": disk.total,
        "availableBytes": disk.available,
        "usedBytes": disk.total.saturating_sub(disk.available),
        "inodes": disk.inodes,
        "inodesFree": disk.inodes_free,
        "inodesUsed": disk.inodes.saturating_sub(disk.inodes_free),
    })
}

fn pod(pod: &PodUsage) -> Value {
    json!({
        "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
        "startTime": pod.started,
        "containers": pod.containers.iter().map(container).collect::<Vec<_>>(),
        "cpu": {"time": pod.time(), "usageCoreNanoSeconds": pod.sum(|container| container.cpu)},
        "memory": {
            "time": pod.time(),
            "usageBytes": pod.sum(|container| container.usage),
            "workingSetBytes": pod.sum(|container| container.working_set),
            "rssBytes": pod.sum(|container| container.rss),
        },
    })
}

fn container(usage: &ContainerUsage) -> Value {
    let mut container = json!({
        "name": usage.name,
        "startTime": usage.started,
        "cpu": {"time": usage.time},
        "memory": {"time": usage.time},
    });
    // What the runtime does not know is left out, not zero.
    for (part, field, value) in [
        ("cpu", "usageCoreNanoSeconds", usage.cpu),
        ("memory", "usageBytes", usage.usage),
        ("memory", "workingSetBytes", usage.working_set),
        ("memory", "rssBytes", usage.rss),
        ("rootfs", "usedBytes", usage.written),
    ] {
        if let Some(value) = value {
            container[part][field] = value.into();
        }
    }
    container
}
