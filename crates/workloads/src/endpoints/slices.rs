//! Turns wanted targets into EndpointSlices with as few writes as possible. Pure.
//!
//! A slice keeps the endpoints it has as long as they are wanted; new ones go into slices with room. Names of new slices
//! are computed, not random: a slice that was created but is not visible yet is found again instead of doubled.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
};
use kube::api::ObjectMeta;

use super::desired::{Groups, Port, Target};
use crate::{
    kind::{self, label},
    loadbalancer::pool::Family,
    owner::controller_reference,
    template::short_hash,
};

/// Endpoints in one slice at most.
const SLICE_LIMIT: usize = 100;
/// Label: the Service a slice belongs to.
pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// Label: who maintains a slice.
pub const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
/// Label: the Service has no cluster address.
pub const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
/// Who maintains slices made of pods.
pub const FOR_PODS: &str = "endpointslice-controller.k8s.io";
/// Who maintains slices that mirror Endpoints written by hand.
pub const FOR_MIRRORS: &str = "endpointslicemirroring-controller.k8s.io";

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Create a slice.
    Create(Box<EndpointSlice>),
    /// Change a slice.
    Update {
        /// As it is.
        old: Arc<EndpointSlice>,
        /// As it should be.
        new: Box<EndpointSlice>,
    },
    /// Delete a slice.
    Delete(Arc<EndpointSlice>),
}

/// What tells which slices may hold an endpoint.
type GroupKey = (&'static str, Vec<Port>);

/// Plans the writes that lead from the existing slices of a Service to its wanted targets by family.
///
/// A Service without any target keeps one empty slice, which shows that it is being looked after.
pub fn plan(
    service: &Service,
    existing: &[Arc<EndpointSlice>],
    wanted: &[(Family, Groups)],
    managed_by: &str,
) -> Vec<Action> {
    let mut groups: BTreeMap<GroupKey, Vec<Target>> = BTreeMap::new();
    for (family, by_ports) in wanted {
        for (ports, targets) in by_ports {
            groups.insert((family.as_str(), ports.clone()), targets.clone());
        }
        if by_ports.is_empty() {
            groups.insert((family.as_str(), Vec::new()), Vec::new());
        }
    }
    let mut present: BTreeMap<(String, Vec<Port>), Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    let (ours, others): (Vec<_>, Vec<_>) =
        existing.iter().partition(|slice| label(slice.as_ref(), MANAGED_BY_LABEL) == Some(managed_by));
    for slice in ours.into_iter().filter(|slice| !kind::is_deleting(slice.as_ref())) {
        present.entry((slice.address_type.clone(), slice_ports(slice))).or_default().push(slice.clone());
    }
    let mut actions = Vec::new();
    // Slices of the other kind remain when a Service gains or loses its selector.
    for slice in others {
        if matches!(label(slice.as_ref(), MANAGED_BY_LABEL), Some(FOR_PODS | FOR_MIRRORS)) {
            actions.push(Action::Delete(slice.clone()));
        }
    }
    let meta = Meta { service, managed_by };
    for (key, targets) in groups {
        let slices = present.remove(&(key.0.to_owned(), key.1.clone())).unwrap_or_default();
        actions.extend(plan_group(&meta, &key, slices, targets));
    }
    actions.extend(present.into_values().flatten().map(Action::Delete));
    actions
}

/// What is the same for all slices of a Service.
struct Meta<'a> {
    service: &'a Service,
    managed_by: &'a str,
}

fn plan_group(
    meta: &Meta<'_>,
    key: &GroupKey,
    mut slices: Vec<Arc<EndpointSlice>>,
    targets: Vec<Target>,
) -> Vec<Action> {
    slices.sort_by(|a, b| kind::name(a.as_ref()).cmp(kind::name(b.as_ref())));
    let placeholder = targets.is_empty();
    let mut missing: BTreeMap<String, Endpoint> =
        targets.into_iter().map(|target| (identity(&endpoint(&target)), endpoint(&target))).collect();
    let mut planned: Vec<(Arc<EndpointSlice>, Vec<Endpoint>)> = slices
        .into_iter()
        .map(|slice| {
            let kept = slice.endpoints.iter().filter_map(|old| missing.remove(&identity(old))).collect();
            (slice, kept)
        })
        .collect();
    let mut rest = missing.into_values();
    // Slices that are written anyway are filled first.
    planned.sort_by_key(|(slice, kept)| slice.endpoints == *kept);
    for (_, kept) in &mut planned {
        let room = SLICE_LIMIT.saturating_sub(kept.len());
        kept.extend(rest.by_ref().take(room));
    }
    let mut actions = Vec::new();
    let mut names: Vec<String> =
        planned.iter().map(|(slice, _)| kind::name(slice.as_ref()).to_owned()).collect();
    let mut keep_one = placeholder;
    for (slice, endpoints) in planned {
        if endpoints.is_empty() && !std::mem::take(&mut keep_one) {
            actions.push(Action::Delete(slice));
            continue;
        }
        let new = meta.updated(&slice, endpoints);
        if new != *slice.as_ref() {
            actions.push(Action::Update { old: slice, new: Box::new(new) });
        }
    }
    let rest: Vec<Endpoint> = rest.collect();
    let chunks: Vec<&[Endpoint]> = if keep_one { vec![&[]] } else { rest.chunks(SLICE_LIMIT).collect() };
    for chunk in chunks {
        let name = free_name(meta, key, &mut names);
        actions.push(Action::Create(Box::new(meta.new_slice(name, key, chunk.to_vec()))));
    }
    actions
}

/// The first computed name of the group that no slice has.
fn free_name(meta: &Meta<'_>, key: &GroupKey, names: &mut Vec<String>) -> String {
    let ports: Vec<_> =
        key.1.iter().map(|port| (&port.name, port.number, &port.protocol, &port.application)).collect();
    let mut slot = 0;
    loop {
        let hash = short_hash(&(key.0, &ports, meta.managed_by, slot), None);
        let name = format!("{}-{hash}", kind::name(meta.service));
        if !names.contains(&name) {
            names.push(name.clone());
            return name;
        }
        slot += 1;
    }
}

impl Meta<'_> {
    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.service.metadata.labels.clone().unwrap_or_default();
        labels.insert(SERVICE_LABEL.into(), kind::name(self.service).into());
        labels.insert(MANAGED_BY_LABEL.into(), self.managed_by.into());
        let headless = self.service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None");
        if headless {
            labels.insert(HEADLESS_LABEL.into(), String::new());
        } else {
            labels.remove(HEADLESS_LABEL);
        }
        labels
    }

    fn new_slice(&self, name: String, (family, ports): &GroupKey, endpoints: Vec<Endpoint>) -> EndpointSlice {
        EndpointSlice {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: self.service.metadata.namespace.clone(),
                labels: Some(self.labels()),
                owner_references: Some(vec![controller_reference(self.service)]),
                ..Default::default()
            },
            address_type: (*family).to_owned(),
            endpoints,
            ports: Some(ports.iter().map(slice_port).collect()),
        }
    }

    fn updated(&self, slice: &EndpointSlice, endpoints: Vec<Endpoint>) -> EndpointSlice {
        let mut new = slice.clone();
        new.metadata.labels = Some(self.labels());
        new.endpoints = endpoints;
        new
    }
}

fn slice_port(port: &Port) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone()),
        port: Some(port.number),
        protocol: Some(port.protocol.clone()),
        app_protocol: port.application.clone(),
    }
}

fn slice_ports(slice: &EndpointSlice) -> Vec<Port> {
    let mut ports: Vec<Port> = slice
        .ports
        .iter()
        .flatten()
        .map(|port| Port {
            name: port.name.clone().unwrap_or_default(),
            number: port.port.unwrap_or(0),
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
            application: port.app_protocol.clone(),
        })
        .collect();
    ports.sort();
    ports
}

/// An endpoint is the same as long as its pod and address are.
fn identity(endpoint: &Endpoint) -> String {
    let uid = endpoint.target_ref.as_ref().and_then(|reference| reference.uid.as_deref()).unwrap_or_default();
    format!("{uid}/{}", endpoint.addresses.join(","))
}

fn endpoint(target: &Target) -> Endpoint {
    Endpoint {
        addresses: vec![target.address.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(target.ready),
            serving: Some(target.serving),
            terminating: Some(target.terminating),
        }),
        hostname: target.hostname.clone(),
        node_name: target.node.clone(),
        target_ref: target.pod.clone(),
        zone: target.zone.clone(),
        ..Default::default()
    }
}
