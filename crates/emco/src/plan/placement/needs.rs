//! What the pods of manifests ask for.

use drystone_quantity::Quantity;
use serde_json::Value;

use crate::model::Amounts;

/// What all pods ask for that these objects make: replicas times the requests of the containers. A DaemonSet counts once, a Job as
/// many times as it runs at the same time.
pub fn needs_of<'a>(objects: impl IntoIterator<Item = &'a Value>) -> Amounts {
    objects.into_iter().map(of_object).fold(Amounts::default(), Amounts::plus)
}

fn of_object(object: &Value) -> Amounts {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    let spec = &object["spec"];
    let (pod, count) = match kind {
        "Pod" => (spec, 1),
        "Deployment" | "StatefulSet" | "ReplicaSet" | "ReplicationController" => {
            (&spec["template"]["spec"], spec["replicas"].as_i64().unwrap_or(1))
        }
        "DaemonSet" => (&spec["template"]["spec"], 1),
        "Job" => (&spec["template"]["spec"], spec["parallelism"].as_i64().unwrap_or(1)),
        _ => return Amounts::default(),
    };
    of_pod(pod).times(count.max(0))
}

/// As Kubernetes counts: the sum of the containers, or the greatest of the init containers if that is more.
fn of_pod(pod: &Value) -> Amounts {
    let each = |list: &str| -> Vec<Amounts> {
        pod[list].as_array().into_iter().flatten().map(of_container).collect()
    };
    let sum = each("containers").into_iter().fold(Amounts::default(), Amounts::plus);
    let most = each("initContainers").into_iter().fold(sum, |most, one| Amounts {
        cpu_milli: most.cpu_milli.max(one.cpu_milli),
        memory: most.memory.max(one.memory),
        pods: 0,
        gpus: most.gpus.max(one.gpus),
    });
    Amounts { pods: 1, ..most }
}

fn of_container(container: &Value) -> Amounts {
    let resources = &container["resources"];
    let quantity = |name: &str| -> Option<Quantity> {
        let of = |list: &str| resources[list].get(name).and_then(|value| Quantity::from_json(value).ok());
        of("requests").or_else(|| of("limits"))
    };
    let gpus = ["drystone.dev/gpu", "nvidia.com/gpu", "amd.com/gpu"];
    Amounts {
        cpu_milli: quantity("cpu").map_or(0, Quantity::milli_value),
        memory: quantity("memory").map_or(0, Quantity::value),
        pods: 0,
        gpus: gpus.into_iter().filter_map(quantity).map(Quantity::value).sum(),
    }
}
