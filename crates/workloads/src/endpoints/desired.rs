//! Which endpoints a Service should have: its pods, with the ports they serve it on. Pure.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Container, Endpoints, ObjectReference, Pod, Service, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{kind, loadbalancer::pool::Family, pod};

/// A port that endpoints serve on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// The Service port's name, empty if it has none.
    pub name: String,
    /// Number at the endpoint.
    pub number: i32,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Hint at the protocol above.
    pub application: Option<String>,
}

/// One address behind a Service.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Its address.
    pub address: IpAddr,
    /// Should get traffic.
    pub ready: bool,
    /// Could answer, ready or about to end.
    pub serving: bool,
    /// Is about to end.
    pub terminating: bool,
    /// Node it runs on.
    pub node: Option<String>,
    /// Zone of that node.
    pub zone: Option<String>,
    /// Host name within the Service's DNS domain.
    pub hostname: Option<String>,
    /// The pod.
    pub pod: Option<ObjectReference>,
}

/// Targets that serve on the same ports.
pub type Groups = BTreeMap<Vec<Port>, Vec<Target>>;

/// The Service's selector, if it selects pods at all.
pub fn selector(service: &Service) -> Option<&BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    let external = spec.type_.as_deref() == Some("ExternalName");
    spec.selector.as_ref().filter(|selector| !external && !selector.is_empty())
}

/// Whether a Service selects a pod.
pub fn selects(service: &Service, pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    selector(service).is_some_and(|wanted| {
        wanted.iter().all(|(key, value)| labels.is_some_and(|l| l.get(key) == Some(value)))
    })
}

/// The address families the Service uses, the primary one first.
pub fn families(service: &Service) -> Vec<Family> {
    let spec = service.spec.as_ref();
    let listed = spec.and_then(|spec| spec.ip_families.as_ref()).into_iter().flatten();
    let families: Vec<Family> =
        listed.map(|family| if family == "IPv6" { Family::V6 } else { Family::V4 }).collect();
    if !families.is_empty() {
        return families;
    }
    let cluster_ip = spec.and_then(|spec| spec.cluster_ip.as_ref()).and_then(|ip| ip.parse().ok());
    vec![cluster_ip.map_or(Family::V4, Family::of)]
}

/// The targets of one family, by the ports they serve on.
pub fn groups(
    service: &Service,
    pods: &[Arc<Pod>],
    family: Family,
    zone_of: &dyn Fn(&str) -> Option<String>,
) -> Groups {
    let mut groups = Groups::new();
    let Some(spec) = &service.spec else { return groups };
    for pod in pods.iter().filter(|pod| !pod::is_finished(pod)) {
        let Some(address) = address(pod, family) else { continue };
        let ports = ports(spec, pod);
        groups.entry(ports).or_default().push(target(service, spec, pod, address, zone_of));
    }
    for targets in groups.values_mut() {
        targets.sort_by_key(|target| target.address);
    }
    groups
}

fn target(
    service: &Service,
    spec: &ServiceSpec,
    pod: &Pod,
    address: IpAddr,
    zone_of: &dyn Fn(&str) -> Option<String>,
) -> Target {
    let serving = pod::is_ready(pod);
    let terminating = kind::is_deleting(pod);
    let publish = spec.publish_not_ready_addresses.unwrap_or(false);
    let node = pod::node_name(pod);
    let pod_spec = pod.spec.as_ref();
    let in_domain = pod_spec.and_then(|spec| spec.subdomain.as_deref()) == Some(kind::name(service))
        && kind::namespace(pod) == kind::namespace(service);
    let hostname =
        pod_spec.and_then(|spec| spec.hostname.clone()).filter(|name| in_domain && !name.is_empty());
    Target {
        address,
        ready: publish || (serving && !terminating),
        serving,
        terminating,
        node: node.map(str::to_owned),
        zone: node.and_then(zone_of),
        hostname,
        pod: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..Default::default()
        }),
    }
}

fn address(pod: &Pod, family: Family) -> Option<IpAddr> {
    let status = pod.status.as_ref()?;
    let listed = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let mut addresses = listed.chain(status.pod_ip.as_deref()).filter_map(|ip| ip.parse::<IpAddr>().ok());
    addresses.find(|address| Family::of(*address) == family)
}

/// The ports a pod serves the Service on. A named target port that the pod does not have is left out.
fn ports(spec: &ServiceSpec, pod: &Pod) -> Vec<Port> {
    let mut ports: Vec<Port> = spec
        .ports
        .iter()
        .flatten()
        .filter_map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
            let number = match &port.target_port {
                None | Some(IntOrString::Int(0)) => port.port,
                Some(IntOrString::Int(number)) => *number,
                Some(IntOrString::String(name)) => named_port(pod, name, &protocol)?,
            };
            let name = port.name.clone().unwrap_or_default();
            Some(Port { name, number, protocol, application: port.app_protocol.clone() })
        })
        .collect();
    ports.sort();
    ports
}

fn named_port(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    let is_sidecar = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten().filter(is_sidecar));
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let named = ports.find(|port| {
        port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol
    });
    named.map(|port| port.container_port)
}

/// The targets that a user wrote into an Endpoints object by hand, for a Service without a selector.
pub fn groups_by_hand(endpoints: &Endpoints, family: Family) -> Groups {
    let mut groups = Groups::new();
    for subset in endpoints.subsets.iter().flatten() {
        let port = |port: &k8s_openapi::api::core::v1::EndpointPort| Port {
            name: port.name.clone().unwrap_or_default(),
            number: port.port,
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
            application: port.app_protocol.clone(),
        };
        let mut ports: Vec<Port> = subset.ports.iter().flatten().map(port).collect();
        ports.sort();
        for (addresses, ready) in [(&subset.addresses, true), (&subset.not_ready_addresses, false)] {
            let targets = addresses.iter().flatten().filter_map(|address| {
                Some(Target {
                    address: address.ip.parse().ok()?,
                    ready,
                    serving: ready,
                    terminating: false,
                    node: address.node_name.clone(),
                    zone: None,
                    hostname: address.hostname.clone(),
                    pod: address.target_ref.clone(),
                })
            });
            let targets = targets.filter(|target| Family::of(target.address) == family);
            groups.entry(ports.clone()).or_default().extend(targets);
        }
    }
    groups.retain(|_, targets| !targets.is_empty());
    groups
}
