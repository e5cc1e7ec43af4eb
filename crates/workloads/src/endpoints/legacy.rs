//! The older form of a Service's endpoints, which older clients still read. Pure.

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use kube::api::ObjectMeta;

use super::{
    desired::{Groups, Port, Target},
    slices::HEADLESS_LABEL,
};
use crate::kind;

/// Addresses in one object at most; the form was not made for more.
const CAPACITY: usize = 1000;
/// Annotation that tells of addresses left out.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Label: this object is maintained by the controller.
pub const MANAGED_BY_LABEL: &str = "endpoints.kubernetes.io/managed-by";
/// Value of that label.
pub const MANAGER: &str = "endpoint-controller";

/// The Endpoints object that a Service should have; `existing` gives what is not ours to change.
pub fn endpoints(service: &Service, existing: Option<&Endpoints>, groups: &Groups) -> Endpoints {
    let publish = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY_LABEL.into(), MANAGER.into());
    if service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS_LABEL.into(), String::new());
    }
    let mut metadata = existing.map_or_else(
        || ObjectMeta {
            name: Some(kind::name(service).to_owned()),
            namespace: service.metadata.namespace.clone(),
            ..Default::default()
        },
        |existing| existing.metadata.clone(),
    );
    metadata.labels = Some(labels);
    let mut room = CAPACITY;
    let mut subsets = Vec::new();
    for (ports, targets) in groups {
        let shown = |target: &&Target| publish || !target.terminating;
        let (ready, waiting): (Vec<&Target>, Vec<&Target>) =
            targets.iter().filter(shown).partition(|target| target.ready);
        let ready: Vec<_> = ready.into_iter().take(room).map(address).collect();
        room -= ready.len();
        let waiting: Vec<_> = waiting.into_iter().take(room).map(address).collect();
        room -= waiting.len();
        if ready.is_empty() && waiting.is_empty() {
            continue;
        }
        subsets.push(EndpointSubset {
            addresses: Some(ready).filter(|list| !list.is_empty()),
            not_ready_addresses: Some(waiting).filter(|list| !list.is_empty()),
            ports: Some(ports.iter().map(port).collect()),
        });
    }
    let total: usize = groups.values().map(Vec::len).sum();
    if total > CAPACITY {
        metadata.annotations.get_or_insert_default().insert(OVER_CAPACITY.into(), "truncated".into());
    } else if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(OVER_CAPACITY);
    }
    Endpoints { metadata, subsets: Some(subsets).filter(|subsets| !subsets.is_empty()) }
}

fn address(target: &Target) -> EndpointAddress {
    EndpointAddress {
        ip: target.address.to_string(),
        hostname: target.hostname.clone(),
        node_name: target.node.clone(),
        target_ref: target.pod.clone(),
    }
}

fn port(port: &Port) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone()).filter(|name| !name.is_empty()),
        port: port.number,
        protocol: Some(port.protocol.clone()),
        app_protocol: port.application.clone(),
    }
}
