//! Requests and limits → quality of service, cgroups, and what the kernel is told. Pure.

use std::{collections::BTreeMap, fmt};

use drystone_quantity::Quantity;
use k8s_openapi::{
    api::core::v1::{Container, PodSpec, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity as Text,
};

use crate::cri::messages::{HugepageLimit, LinuxContainerResources};

/// Length of the period in which a processor quota is used up and renewed, in microseconds.
const CPU_PERIOD: i64 = 100_000;
/// The smallest quota that the kernel takes, in microseconds.
const MIN_CPU_QUOTA: i64 = 1000;
/// The smallest share that the kernel takes.
const MIN_CPU_SHARES: i64 = 2;
/// The largest one.
const MAX_CPU_SHARES: i64 = 262_144;

/// How a pod is treated when resources are short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QosClass {
    /// All containers have equal requests and limits.
    Guaranteed,
    /// Some have requests or limits.
    Burstable,
    /// None has.
    BestEffort,
}

impl fmt::Display for QosClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        })
    }
}

type Amounts = BTreeMap<String, Text>;

fn amount(amounts: Option<&Amounts>, resource: &str) -> Option<Quantity> {
    amounts?.get(resource)?.0.parse().ok()
}

fn all_containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.containers.iter().chain(spec.init_containers.iter().flatten())
}

/// The class of a pod.
pub fn qos_class(spec: &PodSpec) -> QosClass {
    let mut guaranteed = true;
    let mut best_effort = true;
    for container in all_containers(spec) {
        let resources = container.resources.as_ref();
        for resource in ["cpu", "memory"] {
            let limit = amount(resources.and_then(|resources| resources.limits.as_ref()), resource);
            let request =
                amount(resources.and_then(|resources| resources.requests.as_ref()), resource).or(limit);
            let is_set = |amount: Option<Quantity>| amount.is_some_and(|amount| amount > Quantity::ZERO);
            best_effort &= !is_set(limit) && !is_set(request);
            guaranteed &= is_set(limit) && request == limit;
        }
    }
    match (best_effort, guaranteed) {
        (true, _) => QosClass::BestEffort,
        (_, true) => QosClass::Guaranteed,
        _ => QosClass::Burstable,
    }
}

/// The cgroup under which a pod's containers are, as the runtime takes it.
pub fn cgroup_parent(root: &str, class: QosClass, uid: &str) -> String {
    let root = root.trim_end_matches('/');
    match class {
        QosClass::Guaranteed => format!("{root}/kubepods/pod{uid}"),
        QosClass::Burstable => format!("{root}/kubepods/burstable/pod{uid}"),
        QosClass::BestEffort => format!("{root}/kubepods/besteffort/pod{uid}"),
    }
}

/// What the kernel is told of a container. `node_memory` is in bytes.
pub fn container_resources(
    spec: &PodSpec,
    container: &Container,
    node_memory: u64,
) -> LinuxContainerResources {
    let resources = container.resources.clone().unwrap_or_default();
    let ResourceRequirements { limits, requests, .. } = &resources;
    let cpu_limit = amount(limits.as_ref(), "cpu");
    let cpu_request = amount(requests.as_ref(), "cpu").or(cpu_limit);
    let memory_limit = amount(limits.as_ref(), "memory").map_or(0, Quantity::value);
    let memory_request = amount(requests.as_ref(), "memory").map_or(memory_limit, Quantity::value);
    LinuxContainerResources {
        cpu_period: CPU_PERIOD,
        cpu_quota: cpu_limit.map_or(0, |limit| quota(limit.milli_value())),
        cpu_shares: shares(cpu_request.map_or(0, Quantity::milli_value)),
        memory_limit_in_bytes: memory_limit,
        oom_score_adj: oom_score_adjustment(qos_class(spec), memory_request, node_memory),
        hugepage_limits: hugepages(limits.as_ref()),
        ..LinuxContainerResources::default()
    }
}

fn quota(millicores: i64) -> i64 {
    if millicores == 0 { 0 } else { (millicores.saturating_mul(CPU_PERIOD) / 1000).max(MIN_CPU_QUOTA) }
}

fn shares(millicores: i64) -> i64 {
    (millicores.saturating_mul(1024) / 1000).clamp(MIN_CPU_SHARES, MAX_CPU_SHARES)
}

/// The more of the node's memory a burstable pod asked for, the later it is killed when memory runs out.
fn oom_score_adjustment(class: QosClass, memory_request: i64, node_memory: u64) -> i64 {
    match class {
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let node_memory = i64::try_from(node_memory).unwrap_or(i64::MAX).max(1);
            let share = memory_request.saturating_mul(1000) / node_memory;
            (1000 - share).clamp(3, 999)
        }
    }
}

fn hugepages(limits: Option<&Amounts>) -> Vec<HugepageLimit> {
    let sized = limits.into_iter().flatten().filter_map(|(resource, limit)| {
        let size = resource.strip_prefix("hugepages-")?;
        // `2Mi` is called `2MB` by the kernel.
        let page_size = format!("{}B", size.strip_suffix('i')?);
        let limit = u64::try_from(limit.0.parse::<Quantity>().ok()?.value()).ok()?;
        Some(HugepageLimit { page_size, limit })
    });
    sized.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(resources: &[Value]) -> PodSpec {
        let containers: Vec<Value> =
            resources.iter().map(|resources| json!({"name": "c", "resources": resources})).collect();
        serde_json::from_value(json!({"containers": containers})).unwrap()
    }

    #[test]
    fn classes() {
        let full = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
        let request = json!({"requests": {"cpu": "100m"}});
        assert_eq!(qos_class(&spec(std::slice::from_ref(&full))), QosClass::Guaranteed);
        assert_eq!(qos_class(&spec(&[full.clone(), json!({})])), QosClass::Burstable);
        assert_eq!(qos_class(&spec(&[request])), QosClass::Burstable);
        assert_eq!(qos_class(&spec(&[json!({}), json!({"limits": {"cpu": "0"}})])), QosClass::BestEffort);
        let unequal =
            json!({"limits": {"cpu": "1000m", "memory": "1Gi"}, "requests": {"cpu": "0.5", "memory": "1Gi"}});
        assert_eq!(qos_class(&spec(&[unequal])), QosClass::Burstable);
    }

    #[test]
    fn numbers_for_the_kernel() {
        let spec = spec(&[
            json!({"limits": {"cpu": "1500m", "memory": "64Mi", "hugepages-2Mi": "4Mi"}, "requests": {"cpu": "250m", "memory": "32Mi"}}),
        ]);
        let linux = container_resources(&spec, &spec.containers[0], 1 << 30);
        assert_eq!((linux.cpu_quota, linux.cpu_period, linux.cpu_shares), (150_000, 100_000, 256));
        assert_eq!(linux.memory_limit_in_bytes, 64 << 20);
        assert_eq!(linux.oom_score_adj, 969);
        assert_eq!(linux.hugepage_limits, [HugepageLimit { page_size: "2MB".into(), limit: 4 << 20 }]);
        let nothing: PodSpec = serde_json::from_value(json!({"containers": [{"name": "c"}]})).unwrap();
        let linux = container_resources(&nothing, &nothing.containers[0], 1 << 30);
        assert_eq!(
            (linux.cpu_quota, linux.cpu_shares, linux.memory_limit_in_bytes, linux.oom_score_adj),
            (0, 2, 0, 1000)
        );
    }

    #[test]
    fn cgroups() {
        assert_eq!(cgroup_parent("/", QosClass::Guaranteed, "u"), "/kubepods/podu");
        assert_eq!(cgroup_parent("/x", QosClass::BestEffort, "u"), "/x/kubepods/besteffort/podu");
    }
}
