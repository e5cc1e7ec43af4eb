//! Amounts of resources: what a node offers and what a pod asks for.

use std::collections::BTreeMap;

use drystone_quantity::Quantity;
use k8s_openapi::{
    api::core::v1::{Container, PodSpec, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity as Text,
};

/// A quantity by resource name, as the API writes it.
pub type ResourceList = BTreeMap<String, Text>;

/// CPU that a container which asks for none is taken to use when nodes are compared (not when they are filtered).
const ASSUMED_MILLI_CPU: i64 = 100;
/// Memory that a container which asks for none is taken to use when nodes are compared.
const ASSUMED_MEMORY: i64 = 200 * 1024 * 1024;

/// Amounts of resources. Arithmetic saturates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// CPU in thousandths of a core.
    pub milli_cpu: i64,
    /// Memory in bytes.
    pub memory: i64,
    /// Local ephemeral storage in bytes.
    pub ephemeral_storage: i64,
    /// Everything else (GPUs, huge pages …) by name, in whole units.
    pub extended: BTreeMap<String, i64>,
}

/// What an unreadable quantity counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// Nothing: a node does not offer it.
    Nothing,
    /// More than there is: a pod that asks for it fits nowhere.
    Everything,
}

impl Resources {
    /// Reads a resource list. `pods` is not an amount of this kind and left out.
    pub fn of(list: &ResourceList, unreadable: Unreadable) -> Self {
        let fallback = if unreadable == Unreadable::Nothing { 0 } else { i64::MAX };
        let mut resources = Self::default();
        for (name, value) in list {
            let amount = value.0.parse::<Quantity>().ok();
            let units = || amount.map_or(fallback, Quantity::value);
            match name.as_str() {
                "cpu" => resources.milli_cpu = amount.map_or(fallback, Quantity::milli_value),
                "memory" => resources.memory = units(),
                "ephemeral-storage" => resources.ephemeral_storage = units(),
                "pods" => {}
                _ => {
                    resources.extended.insert(name.clone(), units());
                }
            }
        }
        resources
    }

    /// Adds another amount.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, i64::saturating_add);
    }

    /// Takes another amount away.
    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, i64::saturating_sub);
        self.extended.retain(|_, amount| *amount != 0);
    }

    /// The larger of both, resource by resource.
    pub fn maximum(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Self, op: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = op(self.milli_cpu, other.milli_cpu);
        self.memory = op(self.memory, other.memory);
        self.ephemeral_storage = op(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.extended {
            let entry = self.extended.entry(name.clone()).or_default();
            *entry = op(*entry, *amount);
        }
    }

    /// Names of the resources of which `request` asks for more than is left of `self` after `used`.
    pub fn insufficient<'a>(&self, used: &Self, request: &'a Self) -> Vec<&'a str> {
        let lacks = |asked: i64, have: i64, used: i64| asked > 0 && asked > have.saturating_sub(used);
        let mut names = Vec::new();
        if lacks(request.milli_cpu, self.milli_cpu, used.milli_cpu) {
            names.push("cpu");
        }
        if lacks(request.memory, self.memory, used.memory) {
            names.push("memory");
        }
        if lacks(request.ephemeral_storage, self.ephemeral_storage, used.ephemeral_storage) {
            names.push("ephemeral-storage");
        }
        for (name, asked) in &request.extended {
            let of = |resources: &Self| resources.extended.get(name).copied().unwrap_or(0);
            if lacks(*asked, of(self), of(used)) {
                names.push(name);
            }
        }
        names
    }
}

/// What a container asks for; a limit without a request is a request.
fn container_request(requirements: Option<&ResourceRequirements>) -> Resources {
    let Some(requirements) = requirements else { return Resources::default() };
    let mut list = requirements.limits.clone().unwrap_or_default();
    list.extend(requirements.requests.clone().unwrap_or_default());
    Resources::of(&list, Unreadable::Everything)
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// What a pod asks for: the sum over its containers and sidecars, or what starting it needs if that is more, plus the
/// overhead of its runtime. Amounts given for the pod as a whole replace the sums.
pub fn pod_request(spec: &PodSpec) -> Resources {
    aggregate(spec, |container| container_request(container.resources.as_ref()))
}

/// CPU (thousandths) and memory (bytes) of a pod for comparing nodes: containers that ask for nothing still count.
pub fn compared_request(spec: &PodSpec) -> (i64, i64) {
    let total = aggregate(spec, |container| {
        let mut request = container_request(container.resources.as_ref());
        if request.milli_cpu == 0 {
            request.milli_cpu = ASSUMED_MILLI_CPU;
        }
        if request.memory == 0 {
            request.memory = ASSUMED_MEMORY;
        }
        request
    });
    (total.milli_cpu, total.memory)
}

fn aggregate(spec: &PodSpec, request: impl Fn(&Container) -> Resources) -> Resources {
    let mut total = Resources::default();
    for container in &spec.containers {
        total.add(&request(container));
    }
    let mut sidecars = Resources::default();
    let mut starting = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let request = request(container);
        if is_sidecar(container) {
            sidecars.add(&request);
            total.add(&request);
            starting.maximum(&sidecars);
        } else {
            let mut peak = sidecars.clone();
            peak.add(&request);
            starting.maximum(&peak);
        }
    }
    total.maximum(&starting);
    replace_by_pod_level(&mut total, spec);
    if let Some(overhead) = &spec.overhead {
        total.add(&Resources::of(overhead, Unreadable::Everything));
    }
    total
}

fn replace_by_pod_level(total: &mut Resources, spec: &PodSpec) {
    let Some(requests) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) else {
        return;
    };
    let whole = Resources::of(requests, Unreadable::Everything);
    if requests.contains_key("cpu") {
        total.milli_cpu = whole.milli_cpu;
    }
    if requests.contains_key("memory") {
        total.memory = whole.memory;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(cpu: &str, sidecar: bool) -> Container {
        let requests = ResourceList::from([("cpu".to_owned(), Text(cpu.into()))]);
        Container {
            resources: Some(ResourceRequirements { requests: Some(requests), ..Default::default() }),
            restart_policy: sidecar.then(|| "Always".into()),
            ..Default::default()
        }
    }

    #[test]
    fn a_pod_asks_for_its_containers_or_for_its_start_whichever_is_more() {
        let spec = |containers: &[&str], init: &[(&str, bool)]| PodSpec {
            containers: containers.iter().map(|cpu| container(cpu, false)).collect(),
            init_containers: Some(init.iter().map(|(cpu, sidecar)| container(cpu, *sidecar)).collect()),
            ..Default::default()
        };
        for (containers, init, milli) in [
            (&["100m", "200m"][..], &[][..], 300),
            (&["100m", "200m"], &[("1", false)], 1000),
            (&["100m", "200m"], &[("1", true)], 1300),
            (&["100m"], &[("500m", true), ("1", false)], 1500),
            (&["100m"], &[("1", false), ("500m", true)], 1000),
        ] {
            assert_eq!(pod_request(&spec(containers, init)).milli_cpu, milli, "{containers:?} {init:?}");
        }
        let mut with_overhead = spec(&["100m"], &[]);
        with_overhead.overhead = Some(ResourceList::from([("cpu".to_owned(), Text("50m".into()))]));
        assert_eq!(pod_request(&with_overhead).milli_cpu, 150);
    }

    #[test]
    fn limits_count_as_requests_and_nonsense_fits_nowhere() {
        let mut limited = container("100m", false);
        let list = ResourceList::from([("nvidia.com/gpu".to_owned(), Text("2".into()))]);
        limited.resources.as_mut().unwrap().limits = Some(list);
        let spec = PodSpec { containers: vec![limited], ..Default::default() };
        let request = pod_request(&spec);
        assert_eq!(request.extended["nvidia.com/gpu"], 2);
        let node = Resources { milli_cpu: 1000, ..Default::default() };
        assert_eq!(node.insufficient(&Resources::default(), &request), ["nvidia.com/gpu"]);
        let nonsense = PodSpec { containers: vec![container("lots", false)], ..Default::default() };
        assert_eq!(node.insufficient(&Resources::default(), &pod_request(&nonsense)), ["cpu"]);
    }
}
