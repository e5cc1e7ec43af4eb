//! From Zone resources to requests for the planners: members become endpoints, connections become pairs. Pure.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use drystone_api::{
    BareMetalHost, Connection, EndpointGroup, EndpointRole, ObjectReference, SYSTEM_NAMESPACE, Zone,
    ZoneConnectionStatus, ZoneMember, ZoneMemberStatus, ZoneType,
};
use drystone_engine::reference::ObjectKey;
use kube::ResourceExt;

use super::{
    reason::{Problem, Reason},
    rules::{self, Listed},
};
use crate::{
    model::{EndpointIndex, Fabric, FabricKey, Role},
    plan::{
        membership::MemberFacts,
        zone::{ConnectionRequest, ZoneRequest},
    },
};

/// What a zone is resolved against.
pub(in crate::controller) struct Surroundings<'a> {
    /// The fabrics.
    pub(in crate::controller) fabrics: Vec<(&'a FabricKey, &'a Fabric)>,
    /// A host by namespace and name.
    pub(in crate::controller) host: &'a dyn Fn(&str, &str) -> Option<BareMetalHost>,
    /// The host that has an address, and who locked it.
    pub(in crate::controller) holder: &'a dyn Fn(&str) -> Option<Holder>,
    /// Endpoints that an endpoint of a fabric excludes.
    pub(in crate::controller) excludes: &'a dyn Fn(&FabricKey, &str) -> Vec<String>,
    /// Zones of the same namespace.
    pub(in crate::controller) zones: &'a [Zone],
    /// Connections of the same namespace.
    pub(in crate::controller) connections: &'a [Connection],
    /// Endpoint groups of the same namespace.
    pub(in crate::controller) groups: &'a [EndpointGroup],
}

/// A host and who locked it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::controller) struct Holder {
    /// The host.
    pub(in crate::controller) host: String,
    /// Who locked it.
    pub(in crate::controller) consumer: ObjectReference,
}

/// A zone after resolution.
#[derive(Debug, Default)]
pub(in crate::controller) struct Resolution {
    /// Its request for each fabric that it has endpoints in.
    pub(in crate::controller) requests: Vec<(FabricKey, ZoneRequest)>,
    /// What its status shows of its members.
    pub(in crate::controller) members: Vec<ZoneMemberStatus>,
    /// Connections that count in it.
    pub(in crate::controller) connections: Vec<ZoneConnectionStatus>,
    /// Containers that carry it instead of a table entry of its own.
    pub(in crate::controller) carried_by: Vec<String>,
}

/// Id of a zone inside switches and in the Redfish tree: its name, and where that is not enough the namespace before it.
pub(in crate::controller) fn zone_id(zone: &Zone) -> String {
    let (namespace, name) = (zone.namespace().unwrap_or_default(), zone.name_any());
    if namespace == SYSTEM_NAMESPACE && !name.contains('.') { name } else { format!("{namespace}.{name}") }
}

/// The zone that has an id.
pub(in crate::controller) fn zone_key(id: &str) -> ObjectKey {
    match id.split_once('.') {
        // Names of namespaces have no dots.
        Some((namespace, name)) => ObjectKey::new(namespace, name),
        None => ObjectKey::new(SYSTEM_NAMESPACE, id),
    }
}

/// The containers whose default routing joins a zone with others: then it is they that switches carry.
fn joined_by<'a>(zone: &Zone, zones: &'a [Zone]) -> Vec<&'a Zone> {
    let joins = |other: &&Zone| {
        zone.spec.kind == ZoneType::ZoneOfEndpoints
            && other.spec.kind == ZoneType::ZoneOfZones
            && other.spec.default_routing
            && zone.spec.contained_by.contains(&other.name_any())
    };
    zones.iter().filter(joins).collect()
}

/// Resolves a zone.
pub(in crate::controller) fn resolve(
    zone: &Zone,
    tag: u32,
    around: &Surroundings<'_>,
) -> Result<Resolution, Problem> {
    rules::check(zone, &[], around.zones)?;
    let mut parts = match zone.spec.kind {
        ZoneType::ZoneOfEndpoints => endpoints_of(zone, around)?,
        ZoneType::ZoneOfZones => contents_of(zone, around)?,
        ZoneType::Default => everything_else(zone, around)?,
    };
    let mut resolution = Resolution::default();
    let carriers = joined_by(zone, around.zones);
    resolution.carried_by = carriers.into_iter().map(Zone::name_any).collect();
    for (position, part) in &mut parts {
        let (key, fabric) = around.fabrics[*position];
        if zone.spec.gateways {
            let gateways = fabric.endpoints().filter(|(_, endpoint)| endpoint.is_service());
            for (index, _) in gateways {
                if let Entry::Vacant(place) = part.hosts.entry(index) {
                    place.insert(String::new());
                    part.gateways.insert(index);
                }
            }
        }
        resolution.members.extend(
            part.hosts
                .iter()
                .filter_map(|(index, host)| status_of(fabric, *index, host, part.gateways.contains(index))),
        );
        let connections = connections_of(zone, fabric, part, around, &mut resolution.connections);
        if !resolution.carried_by.is_empty() {
            continue;
        }
        let request = ZoneRequest {
            id: zone_id(zone),
            tag,
            isolation: part.isolation.unwrap_or(zone.spec.isolation).into(),
            members: part.hosts.keys().copied().collect(),
            gateways: part.gateways.clone(),
            connections,
            involved: involved(zone, fabric)?,
        };
        resolution.requests.push((key.clone(), request));
    }
    Ok(resolution)
}

/// What a zone has in one fabric.
#[derive(Debug, Default)]
struct Part {
    /// Endpoints with the name of their host, if they belong to one.
    hosts: BTreeMap<EndpointIndex, String>,
    gateways: BTreeSet<EndpointIndex>,
    /// Of a container: the strictest isolation of what it contains.
    isolation: Option<drystone_api::Isolation>,
}

/// Parts of a zone by position of the fabric.
type Parts = BTreeMap<usize, Part>;

fn endpoints_of(zone: &Zone, around: &Surroundings<'_>) -> Result<Parts, Problem> {
    let mut parts = Parts::new();
    let mut listed: BTreeMap<usize, Vec<Listed>> = BTreeMap::new();
    for (index, member) in zone.spec.members.iter().enumerate() {
        let (host, endpoints) = resolve_member(zone, member, index, around)?;
        for (position, endpoint) in endpoints {
            let (key, fabric) = around.fabrics[position];
            check_lock(zone, index, fabric, endpoint, around)?;
            let id = fabric.endpoint_name(endpoint).to_owned();
            let facts = MemberFacts {
                role: fabric.endpoint(endpoint).map(|record| record.role).unwrap_or_default(),
                gateway: false,
                excludes: (around.excludes)(key, &id),
                endpoint: id,
            };
            listed.entry(position).or_default().push(Listed { position: index, facts });
            parts.entry(position).or_default().hosts.insert(endpoint, host.clone());
        }
    }
    for members in listed.values() {
        rules::check(zone, members, around.zones)?;
    }
    Ok(parts)
}

/// A host that somebody has locked may only be in the zone of that somebody.
fn check_lock(
    zone: &Zone,
    index: usize,
    fabric: &Fabric,
    endpoint: EndpointIndex,
    around: &Surroundings<'_>,
) -> Result<(), Problem> {
    let Some(record) = fabric.endpoint(endpoint) else { return Ok(()) };
    let Some(holder) = (around.holder)(&record.mac) else { return Ok(()) };
    let consumer = &holder.consumer;
    let ours = consumer.kind == "Composition"
        && Some(&consumer.name) == zone.spec.composition.as_ref()
        && zone.namespace().as_deref() == Some(&consumer.namespace);
    if ours {
        return Ok(());
    }
    let what = format!(
        "endpoint {} belongs to host {}, which is locked by {consumer}; name that composition in spec.composition",
        record.id, holder.host
    );
    Err(Problem::waiting(Reason::Locked, &format!("spec.members[{index}]"), &what))
}

type Member = (String, Vec<(usize, EndpointIndex)>);

fn resolve_member(
    zone: &Zone,
    member: &ZoneMember,
    index: usize,
    around: &Surroundings<'_>,
) -> Result<Member, Problem> {
    let path = format!("spec.members[{index}]");
    match (&member.host, &member.endpoint) {
        (Some(name), None) => {
            let waiting = |what: String| Problem::waiting(Reason::Waiting, &path, &what);
            let namespace = member.host_namespace.as_deref().unwrap_or(SYSTEM_NAMESPACE);
            let found = (around.host)(namespace, name)
                .ok_or_else(|| waiting(format!("host {name} does not exist")))?;
            let hardware = found.status.and_then(|status| status.hardware);
            let nics = hardware.ok_or_else(|| waiting(format!("host {name} is not inspected yet")))?.nics;
            let mut endpoints = Vec::new();
            for (position, (key, fabric)) in around.fabrics.iter().enumerate() {
                if zone.spec.fabric.as_ref().is_some_and(|wanted| *wanted != key.id) {
                    continue;
                }
                endpoints.extend(
                    nics.iter().filter_map(|nic| fabric.endpoint_by_mac(&nic.mac)).map(|at| (position, at)),
                );
            }
            if endpoints.is_empty() {
                return Err(waiting(format!(
                    "host {name} has no interface that is an endpoint of a known fabric"
                )));
            }
            Ok((name.clone(), endpoints))
        }
        (None, Some(endpoint)) => Ok((String::new(), vec![named(zone, member, endpoint, &path, around)?])),
        _ => Err(Problem::wrong(Reason::Invalid, &path, "give either host or endpoint")),
    }
}

/// An endpoint that is named itself.
fn named(
    zone: &Zone,
    member: &ZoneMember,
    endpoint: &str,
    path: &str,
    around: &Surroundings<'_>,
) -> Result<(usize, EndpointIndex), Problem> {
    if let (Some(own), Some(zones)) = (&member.fabric, &zone.spec.fabric)
        && own != zones
    {
        let what = format!("fabric {own} is foreign: the zone is confined to fabric {zones}");
        return Err(Problem::wrong(Reason::ForeignEndpoint, &format!("{path}.fabric"), &what));
    }
    let wanted = member.fabric.as_ref().or(zone.spec.fabric.as_ref());
    let fabrics = around.fabrics.iter().enumerate();
    let matching = fabrics.filter(|(_, (key, _))| wanted.is_none_or(|id| *id == key.id));
    let mut found =
        matching.filter_map(|(position, (_, fabric))| Some((position, fabric.endpoint_by_id(endpoint)?)));
    let path = format!("{path}.endpoint");
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => {
            let what = format!("several fabrics have an endpoint {endpoint}; say which in fabric");
            Err(Problem::wrong(Reason::Invalid, &path, &what))
        }
        _ => {
            let what = format!("endpoint {endpoint} does not exist");
            Err(Problem::waiting(Reason::UnknownEndpoint, &path, &what))
        }
    }
}

/// What the zones of a container have, if it joins them.
fn contents_of(zone: &Zone, around: &Surroundings<'_>) -> Result<Parts, Problem> {
    let mut parts = Parts::new();
    if !zone.spec.default_routing {
        return Ok(parts);
    }
    let name = zone.name_any();
    let inside = around.zones.iter().filter(|other| {
        other.spec.contained_by.contains(&name) && other.metadata.deletion_timestamp.is_none()
    });
    for other in inside {
        // A zone that cannot be resolved says so itself, and the others go on without it.
        let Ok(theirs) = endpoints_of(other, around) else { continue };
        for (position, part) in theirs {
            let own = parts.entry(position).or_default();
            own.hosts.extend(part.hosts);
            own.isolation = Some(strictest(own.isolation, other.spec.isolation));
        }
    }
    Ok(parts)
}

fn strictest(a: Option<drystone_api::Isolation>, b: drystone_api::Isolation) -> drystone_api::Isolation {
    use drystone_api::Isolation::{Exclusive, ServiceOnly, Shared};
    match (a, b) {
        (Some(Exclusive), _) | (_, Exclusive) => Exclusive,
        (Some(ServiceOnly), _) | (_, ServiceOnly) => ServiceOnly,
        (Some(Shared) | None, Shared) => Shared,
    }
}

/// Every endpoint of a fabric that no other zone lists.
fn everything_else(zone: &Zone, around: &Surroundings<'_>) -> Result<Parts, Problem> {
    let id = zone.spec.fabric.as_ref().ok_or_else(|| {
        Problem::wrong(Reason::Invalid, "spec.fabric", "a Default zone belongs to one fabric; name it")
    })?;
    let fabrics = around.fabrics.iter().enumerate();
    let mut parts = Parts::new();
    for (position, (_, fabric)) in fabrics.filter(|(_, (key, _))| key.id == *id) {
        let listed: BTreeSet<&str> = around
            .zones
            .iter()
            .filter(|other| other.spec.kind == ZoneType::ZoneOfEndpoints)
            .filter_map(|other| other.status.as_ref())
            .flat_map(|status| &status.members)
            .filter(|member| member.fabric == *id)
            .map(|member| member.endpoint.as_str())
            .collect();
        let left = fabric
            .endpoints()
            .filter(|(_, endpoint)| !endpoint.is_service() && !listed.contains(&*endpoint.id));
        parts.entry(position).or_default().hosts = left.map(|(index, _)| (index, String::new())).collect();
    }
    if parts.is_empty() {
        let what = format!("fabric {id} is not known");
        return Err(Problem::waiting(Reason::Waiting, "spec.fabric", &what));
    }
    Ok(parts)
}

/// The pairs that may talk, if not all may. Connections that name an endpoint outside the zone do not count in it.
fn connections_of(
    zone: &Zone,
    fabric: &Fabric,
    part: &Part,
    around: &Surroundings<'_>,
    counted: &mut Vec<ZoneConnectionStatus>,
) -> Option<Vec<ConnectionRequest>> {
    if zone.spec.default_routing || zone.spec.symmetric_connections {
        return None;
    }
    let mut requests = Vec::new();
    for connection in around.connections.iter().filter(|connection| connection.spec.fabric == fabric.id) {
        let Some(sides) = sides_of(connection, around.groups) else { continue };
        let member = |id: &String| fabric.endpoint_by_id(id).filter(|at| part.hosts.contains_key(at));
        let side = |ids: &BTreeSet<String>| ids.iter().map(member).collect::<Option<BTreeSet<_>>>();
        let (Some(initiators), Some(targets)) = (side(&sides.0), side(&sides.1)) else { continue };
        requests.push(ConnectionRequest { initiators, targets });
        counted.push(ZoneConnectionStatus { name: connection.name_any(), digest: digest(&sides) });
    }
    // Gateways are there for everybody.
    if !part.gateways.is_empty() {
        let initiators = part.hosts.keys().copied().collect();
        requests.push(ConnectionRequest { initiators, targets: part.gateways.clone() });
    }
    Some(requests)
}

/// The endpoints of the two sides of a connection.
pub(in crate::controller) type Sides = (BTreeSet<String>, BTreeSet<String>);

/// The sides of a connection with its groups expanded; `None` if a group is missing.
pub(in crate::controller) fn sides_of(connection: &Connection, groups: &[EndpointGroup]) -> Option<Sides> {
    let side = |own: &[String], names: &[String]| {
        let mut ids: BTreeSet<String> = own.iter().cloned().collect();
        for name in names {
            let group = groups.iter().find(|group| group.name_any() == *name)?;
            ids.extend(group.spec.endpoints.iter().cloned());
        }
        Some(ids)
    };
    let spec = &connection.spec;
    Some((side(&spec.initiators, &spec.initiator_groups)?, side(&spec.targets, &spec.target_groups)?))
}

/// Stands for the endpoints of two sides.
pub(in crate::controller) fn digest(sides: &Sides) -> String {
    let text = format!("{sides:?}");
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, text.as_bytes()).simple().to_string()[..16].to_owned()
}

fn involved(zone: &Zone, fabric: &Fabric) -> Result<Option<BTreeSet<u32>>, Problem> {
    if zone.spec.involved_switches.is_empty() {
        return Ok(None);
    }
    let mut switches = BTreeSet::new();
    for (index, id) in zone.spec.involved_switches.iter().enumerate() {
        match fabric.switch_by_id(id) {
            Some(switch) => {
                switches.insert(switch);
            }
            // With members in several fabrics each has its own switches.
            None if zone.spec.fabric.is_none() => {}
            None => {
                let path = format!("spec.involvedSwitches[{index}]");
                let what = format!("fabric {} has no switch {id}", fabric.id);
                return Err(Problem::wrong(Reason::Invalid, &path, &what));
            }
        }
    }
    Ok(Some(switches).filter(|switches| !switches.is_empty()))
}

fn status_of(fabric: &Fabric, index: EndpointIndex, host: &str, gateway: bool) -> Option<ZoneMemberStatus> {
    let endpoint = fabric.endpoint(index)?;
    Some(ZoneMemberStatus {
        host: host.to_owned(),
        fabric: fabric.id.clone(),
        endpoint: endpoint.id.to_string(),
        mac: endpoint.mac.to_string(),
        switch: fabric.switch(endpoint.switch).id.to_string(),
        port: fabric.port_name(endpoint.port).to_owned(),
        role: match endpoint.role {
            Role::Target => EndpointRole::Target,
            Role::Initiator => EndpointRole::Initiator,
            Role::Both => EndpointRole::Both,
        },
        gateway,
    })
}
