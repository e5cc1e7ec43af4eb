//! Services and EndpointSlices → what the data plane is to program. Pure.

mod endpoints;

use std::{
    collections::{BTreeSet, HashMap},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use drystone_cni::dataplane::model::{Protocol, ServicePort, TrafficPolicy};
use ipnet::Ipv4Net;
use k8s_openapi::api::{
    core::v1::{LoadBalancerIngress, Service, ServiceSpec},
    discovery::v1::EndpointSlice,
};

pub(crate) use endpoints::{address as endpoint_address, is_ready};

/// Label on an EndpointSlice: its Service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// Label on a Service that another proxy takes care of.
const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";
/// Annotation on a Service: the node that answers for its external addresses. Written by the load balancer's controller.
pub const ANNOUNCED_BY: &str = "drystone.dev/announced-by";
/// How long a client keeps its endpoint unless the Service says otherwise.
const DEFAULT_AFFINITY: Duration = Duration::from_secs(10_800);

/// EndpointSlices by namespace and name of their Service; those of addresses that are not IPv4 are left out.
#[derive(Debug, Default)]
pub struct SlicesByService<'a>(HashMap<(&'a str, &'a str), Vec<&'a EndpointSlice>>);

impl<'a> SlicesByService<'a> {
    /// Files the slices.
    pub fn new(slices: &'a [Arc<EndpointSlice>]) -> Self {
        let mut filed: HashMap<_, Vec<&EndpointSlice>> = HashMap::new();
        for slice in slices.iter().filter(|slice| slice.address_type == "IPv4") {
            let service = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_LABEL));
            if let (Some(namespace), Some(service)) = (&slice.metadata.namespace, service) {
                filed.entry((namespace.as_str(), service.as_str())).or_default().push(slice);
            }
        }
        Self(filed)
    }

    /// Those of one Service.
    pub fn of<'s>(&'s self, service: &'s Service) -> &'s [&'s EndpointSlice] {
        let (namespace, name) = key(service);
        self.0.get(&(namespace, name)).map_or(&[], Vec::as_slice)
    }
}

/// Namespace and name.
fn key(service: &Service) -> (&str, &str) {
    let metadata = &service.metadata;
    (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

/// The ports of all Services that have addresses of their own, as the node named `node` sees them. Takes time in proportion
/// to Services and endpoints.
pub fn service_ports(
    services: &[Arc<Service>],
    slices: &[Arc<EndpointSlice>],
    node: &str,
) -> Vec<ServicePort> {
    let slices = SlicesByService::new(slices);
    services.iter().flat_map(|service| ports_of(service, slices.of(service), node)).collect()
}

/// The external addresses that this node answers for: those of the Services that name it, unless they are in `reserved`.
pub fn announced(
    services: &[Arc<Service>],
    node: &str,
    reserved: impl Fn(Ipv4Addr) -> bool,
) -> BTreeSet<Ipv4Addr> {
    let named = |service: &&Arc<Service>| {
        let annotations = service.metadata.annotations.as_ref();
        annotations.and_then(|all| all.get(ANNOUNCED_BY)).is_some_and(|name| name == node)
    };
    let addresses = services.iter().filter(named).flat_map(|service| load_balancer_addresses(service));
    addresses.filter(|address| !reserved(*address)).collect()
}

/// The IPv4 addresses inside the cluster; none for a Service that has none of its own.
pub fn cluster_addresses(service: &Service) -> BTreeSet<Ipv4Addr> {
    let Some(spec) = &service.spec else { return BTreeSet::new() };
    if spec.type_.as_deref() == Some("ExternalName") {
        return BTreeSet::new();
    }
    // "None" is no address.
    let addresses = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    addresses.filter_map(|address| address.parse().ok()).collect()
}

/// The protocol of a port; TCP unless said otherwise.
pub fn protocol(name: Option<&str>) -> Option<Protocol> {
    match name {
        None | Some("" | "TCP") => Some(Protocol::Tcp),
        Some("UDP") => Some(Protocol::Udp),
        Some("SCTP") => Some(Protocol::Sctp),
        Some(_) => None,
    }
}

fn ports_of(service: &Service, slices: &[&EndpointSlice], node: &str) -> Vec<ServicePort> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let addresses = cluster_addresses(service);
    let labels = service.metadata.labels.as_ref();
    if addresses.is_empty() || labels.is_some_and(|labels| labels.contains_key(OTHER_PROXY)) {
        return Vec::new();
    }
    let (namespace, name) = key(service);
    let source_ranges = source_ranges(spec);
    let ignores_readiness = spec.publish_not_ready_addresses == Some(true);
    let has_node_ports = matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"));
    let ports = spec.ports.iter().flatten().filter_map(|port| {
        let protocol = protocol(port.protocol.as_deref())?;
        let port_name = port.name.as_deref().unwrap_or_default();
        Some(ServicePort {
            namespace: namespace.to_owned(),
            service: name.to_owned(),
            name: port_name.to_owned(),
            protocol,
            port: number(port.port)?,
            cluster_addresses: addresses.clone(),
            external_addresses: spec.external_ips.iter().flatten().filter_map(|ip| ip.parse().ok()).collect(),
            load_balancer_addresses: load_balancer_addresses(service).collect(),
            source_ranges: source_ranges.clone(),
            node_port: port.node_port.and_then(number).filter(|_| has_node_ports),
            client_affinity: client_affinity(spec),
            external_policy: policy(spec.external_traffic_policy.as_deref()),
            internal_policy: policy(spec.internal_traffic_policy.as_deref()),
            endpoints: endpoints::merged(slices, port_name, protocol, ignores_readiness, node),
        })
    });
    ports.collect()
}

/// A port number; zero stands for none.
fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port != 0)
}

fn policy(name: Option<&str>) -> TrafficPolicy {
    if name == Some("Local") { TrafficPolicy::Local } else { TrafficPolicy::Cluster }
}

/// The load balancer's addresses that nodes are to take traffic for; one whose balancer is a proxy of its own is not among
/// them (`ipMode`).
fn load_balancer_addresses(service: &Service) -> impl Iterator<Item = Ipv4Addr> {
    let is_balanced = service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("LoadBalancer");
    let status = service.status.as_ref().filter(|_| is_balanced);
    let ingress = status.and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    let is_ours = |ingress: &&LoadBalancerIngress| ingress.ip_mode.as_deref() != Some("Proxy");
    ingress.into_iter().flatten().filter(is_ours).filter_map(|ingress| ingress.ip.as_deref()?.parse().ok())
}

/// Who may use the load balancer's addresses. Merged, because nftables takes no ranges that overlap. Empty stands for
/// everybody; so if ranges are asked for and none of them is IPv4, there is one that nobody is in.
fn source_ranges(spec: &ServiceSpec) -> BTreeSet<Ipv4Net> {
    let asked: Vec<&str> = spec
        .load_balancer_source_ranges
        .iter()
        .flatten()
        .map(|range| range.trim())
        .filter(|range| !range.is_empty())
        .collect();
    if asked.is_empty() {
        return BTreeSet::new();
    }
    let ranges: Vec<Ipv4Net> =
        asked.iter().filter_map(|range| range.parse::<Ipv4Net>().ok()).map(|range| range.trunc()).collect();
    let merged = Ipv4Net::aggregate(&ranges);
    if merged.iter().any(|range| range.prefix_len() == 0) {
        return BTreeSet::new();
    }
    if merged.is_empty() {
        BTreeSet::from([Ipv4Net::from(Ipv4Addr::UNSPECIFIED)])
    } else {
        merged.into_iter().collect()
    }
}

fn client_affinity(spec: &ServiceSpec) -> Option<Duration> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let asked =
        spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    let seconds = asked.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
    Some(seconds.map_or(DEFAULT_AFFINITY, Duration::from_secs))
}

#[cfg(test)]
mod tests;
