//! Cluster addresses and node ports of Services. Each one taken is a key of its own, written in the transaction that
//! writes the Service, so that no two Services ever have the same.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use drystone_store::{KeyRange, RangeRequest};
use ipnet::IpNet;
use rand::Rng;
use serde_json::{Value, json};

use crate::config::ServiceNetwork;
use crate::machinery::field_error::FieldError;
use crate::machinery::status::ApiError;
use crate::operations::Target;
use crate::server::state::{State, store_failure};
use crate::storage::Claims;

const ADDRESSES: &str = "/allocations/serviceips/";
const NODE_PORTS: &str = "/allocations/servicenodeports/";

/// The claims that a Service holds.
pub(super) fn held(service: &Value) -> Vec<String> {
    addresses(service)
        .map(|address| format!("{ADDRESSES}{address}"))
        .chain(node_ports(service).into_iter().map(|port| format!("{NODE_PORTS}{port}")))
        .collect()
}

/// Gives a Service the addresses and ports it needs; returns what it takes and gives back compared to `old`.
pub(super) async fn allocate(
    state: &State,
    network: Option<&ServiceNetwork>,
    target: &Target,
    service: &mut Value,
    old: Option<&Value>,
) -> Result<Claims, ApiError> {
    let Some(network) = network else { return Ok(Claims::default()) };
    let before: BTreeSet<String> = old.map(held).unwrap_or_default().into_iter().collect();
    let mut errors = Vec::new();
    if let Some(old) = old {
        keep_addresses(service, old, &mut errors);
    }
    if wants_address(service) {
        give_addresses(state, network, service, &before, &mut errors).await?;
    } else if service["spec"]["type"] == "ExternalName" {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            remove(service, field);
        }
    } else {
        give_headless_families(network, service);
    }
    give_ports(state, network, service, old, &mut errors).await?;
    if !errors.is_empty() {
        return Err(ApiError::invalid(target.resource.group_kind(), target.name.as_str(), errors));
    }
    let after: BTreeSet<String> = held(service).into_iter().collect();
    Ok(Claims {
        take: after.difference(&before).cloned().collect(),
        release: before.difference(&after).cloned().collect(),
    })
}

fn addresses(service: &Value) -> impl Iterator<Item = IpAddr> {
    let spec = &service["spec"];
    let single = spec["clusterIP"].as_str();
    let all = spec["clusterIPs"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let distinct: BTreeSet<IpAddr> =
        single.into_iter().chain(all).filter_map(|text| text.parse().ok()).collect();
    distinct.into_iter()
}

fn node_ports(service: &Value) -> BTreeSet<u16> {
    let spec = &service["spec"];
    let ports = spec["ports"].as_array().into_iter().flatten().map(|port| &port["nodePort"]);
    ports
        .chain(std::iter::once(&spec["healthCheckNodePort"]))
        .filter_map(Value::as_u64)
        .filter_map(|port| u16::try_from(port).ok())
        .filter(|port| *port > 0)
        .collect()
}

fn is_headless(service: &Value) -> bool {
    service["spec"]["clusterIP"] == "None" || service["spec"]["clusterIPs"][0] == "None"
}

fn wants_address(service: &Value) -> bool {
    service["spec"]["type"] != "ExternalName" && !is_headless(service)
}

fn remove(service: &mut Value, field: &str) {
    if let Some(spec) = service["spec"].as_object_mut() {
        spec.remove(field);
    }
}

/// An update that says nothing about addresses keeps them; one that says something else is refused.
fn keep_addresses(service: &mut Value, old: &Value, errors: &mut Vec<FieldError>) {
    if service["spec"]["type"] == "ExternalName" || old["spec"]["type"] == "ExternalName" {
        return;
    }
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        let missing = match &service["spec"][field] {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            _ => false,
        };
        if missing && !old["spec"][field].is_null() {
            service["spec"][field] = old["spec"][field].clone();
        }
    }
    let (new, old) = (&service["spec"]["clusterIP"], &old["spec"]["clusterIP"]);
    if old.is_string() && new != old {
        errors.push(FieldError::invalid("spec.clusterIP", new.clone(), "field is immutable"));
    }
}

fn family(network: &IpNet) -> &'static str {
    if network.addr().is_ipv4() { "IPv4" } else { "IPv6" }
}

/// The networks, in order, that a Service wants an address of.
fn wanted_networks<'n>(
    network: &'n ServiceNetwork,
    service: &Value,
    errors: &mut Vec<FieldError>,
) -> Vec<&'n IpNet> {
    let spec = &service["spec"];
    let dual = matches!(spec["ipFamilyPolicy"].as_str(), Some("PreferDualStack" | "RequireDualStack"));
    if spec["ipFamilyPolicy"] == "RequireDualStack" && network.cidrs.len() < 2 {
        let message = "this cluster is not configured for dual-stack services";
        errors.push(FieldError::invalid("spec.ipFamilyPolicy", "RequireDualStack", message));
    }
    let named: Vec<_> =
        spec["ipFamilies"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut wanted: Vec<&IpNet> = Vec::new();
    for (index, name) in named.iter().enumerate() {
        match network.cidrs.iter().find(|cidr| family(cidr) == *name) {
            Some(cidr) => wanted.push(cidr),
            None => errors.push(FieldError::invalid(
                format!("spec.ipFamilies[{index}]"),
                *name,
                "not configured on this cluster",
            )),
        }
    }
    for cidr in &network.cidrs {
        if wanted.is_empty() || (dual && !wanted.iter().any(|other| family(other) == family(cidr))) {
            wanted.push(cidr);
        }
    }
    wanted
}

fn give_headless_families(network: &ServiceNetwork, service: &mut Value) {
    let mut ignored = Vec::new();
    let families: Vec<_> = wanted_networks(network, service, &mut ignored).into_iter().map(family).collect();
    let spec = &mut service["spec"];
    spec["clusterIP"] = "None".into();
    spec["clusterIPs"] = json!(["None"]);
    if spec["ipFamilyPolicy"].is_null() {
        spec["ipFamilyPolicy"] = "SingleStack".into();
    }
    spec["ipFamilies"] = json!(families);
}

async fn give_addresses(
    state: &State,
    network: &ServiceNetwork,
    service: &mut Value,
    own: &BTreeSet<String>,
    errors: &mut Vec<FieldError>,
) -> Result<(), ApiError> {
    let wanted = wanted_networks(network, service, errors);
    let mut given: Vec<IpAddr> = Vec::new();
    for (index, cidr) in wanted.iter().enumerate() {
        let spec = &service["spec"];
        let asked = spec["clusterIPs"][index].as_str().or_else(|| match index {
            0 => spec["clusterIP"].as_str(),
            _ => None,
        });
        match asked.filter(|text| !text.is_empty()) {
            Some(text) => match text.parse::<IpAddr>() {
                Ok(address) if is_usable(cidr, address) => {
                    let key = format!("{ADDRESSES}{address}");
                    if !own.contains(&key) && state.objects.exists(&key).await.map_err(store_failure)? {
                        let message = "failed to allocate IP: provided IP is already allocated";
                        errors.push(FieldError::invalid("spec.clusterIPs", json!([text]), message));
                    }
                    given.push(address);
                }
                _ => {
                    let message =
                        format!("failed to allocate IP {text}: the provided network does not match {cidr}");
                    errors.push(FieldError::invalid("spec.clusterIPs", json!([text]), message));
                }
            },
            None => given.push(free_address(state, cidr).await?),
        }
    }
    let spec = &mut service["spec"];
    spec["clusterIP"] = json!(given.first());
    spec["clusterIPs"] = json!(given);
    spec["ipFamilies"] = json!(wanted.into_iter().map(family).collect::<Vec<_>>());
    if spec["ipFamilyPolicy"].is_null() {
        spec["ipFamilyPolicy"] = "SingleStack".into();
    }
    Ok(())
}

/// Whether an address is in the network and not one of its ends.
fn is_usable(cidr: &IpNet, address: IpAddr) -> bool {
    cidr.contains(&address) && address != cidr.network() && (address.is_ipv6() || address != cidr.broadcast())
}

/// The names of the keys below a prefix.
async fn taken(state: &State, prefix: &str) -> Result<HashSet<String>, ApiError> {
    let range = RangeRequest { keys_only: true, ..RangeRequest::new(KeyRange::prefix(prefix.to_owned())) };
    let found = state.objects.store().range(range).await.map_err(store_failure)?;
    let names = found.kvs.iter().filter_map(|pair| std::str::from_utf8(pair.key.get(prefix.len()..)?).ok());
    Ok(names.map(str::to_owned).collect())
}

/// A free address. The first ones of a network are left to those who ask for them by number.
async fn free_address(state: &State, cidr: &IpNet) -> Result<IpAddr, ApiError> {
    let taken = taken(state, ADDRESSES).await?;
    let host_bits = u32::from(cidr.max_prefix_len() - cidr.prefix_len()).min(32);
    let size = 1_u128 << host_bits;
    let reserved = (size / 16).clamp(16.min(size / 4), 256);
    let start = rand::rng().random_range(reserved..size.max(reserved + 1));
    let offsets = (start..size).chain(1..start);
    // Beyond the number of addresses taken there must be a free one.
    let candidates =
        offsets.filter_map(|offset| nth(cidr, offset)).filter(|address| is_usable(cidr, *address));
    let mut candidates = candidates.filter(|address| !taken.contains(&address.to_string()));
    candidates
        .next()
        .ok_or_else(|| ApiError::Internal(format!("failed to allocate a serviceIP: {cidr} is full")))
}

fn nth(cidr: &IpNet, offset: u128) -> Option<IpAddr> {
    match cidr.network() {
        IpAddr::V4(base) => {
            let address = u32::from(base).checked_add(u32::try_from(offset).ok()?)?;
            Some(IpAddr::V4(address.into()))
        }
        IpAddr::V6(base) => Some(IpAddr::V6(u128::from(base).checked_add(offset)?.into())),
    }
}

async fn give_ports(
    state: &State,
    network: &ServiceNetwork,
    service: &mut Value,
    old: Option<&Value>,
    errors: &mut Vec<FieldError>,
) -> Result<(), ApiError> {
    let spec = &service["spec"];
    let balanced = spec["type"] == "LoadBalancer";
    let wanted = spec["type"] == "NodePort" || (balanced && spec["allocateLoadBalancerNodePorts"] != false);
    let health = balanced && spec["externalTrafficPolicy"] == "Local";
    if !health {
        remove(service, "healthCheckNodePort");
    }
    let Some(ports) = service["spec"]["ports"].as_array_mut() else { return Ok(()) };
    if !wanted {
        let kept = if balanced { node_ports_of(ports) } else { Vec::new() };
        if kept.is_empty() {
            for port in ports.iter_mut().filter_map(Value::as_object_mut) {
                port.remove("nodePort");
            }
        }
    }
    if let Some(old) = old.filter(|_| wanted) {
        inherit_ports(ports, old);
    }
    let mut taken = taken(state, NODE_PORTS).await?;
    let own: HashSet<u16> = old.map(node_ports).unwrap_or_default().into_iter().collect();
    check_ports(ports, network, &taken, &own, errors);
    taken.extend(node_ports_of(ports).iter().map(u16::to_string));
    for port in ports.iter_mut().filter(|_| wanted) {
        if port["nodePort"].as_u64().unwrap_or(0) == 0 {
            let free = free_port(network, &taken)?;
            taken.insert(free.to_string());
            port["nodePort"] = free.into();
        }
    }
    if health && service["spec"]["healthCheckNodePort"].as_u64().unwrap_or(0) == 0 {
        let before = old.and_then(|old| old["spec"]["healthCheckNodePort"].as_u64()).filter(|port| *port > 0);
        service["spec"]["healthCheckNodePort"] = match before {
            Some(port) => port.into(),
            None => free_port(network, &taken)?.into(),
        };
    }
    Ok(())
}

fn node_ports_of(ports: &[Value]) -> Vec<u16> {
    ports
        .iter()
        .filter_map(|port| port["nodePort"].as_u64())
        .filter_map(|port| u16::try_from(port).ok())
        .filter(|port| *port > 0)
        .collect()
}

/// An update that leaves a node port out keeps the one that the same port had.
fn inherit_ports(ports: &mut [Value], old: &Value) {
    let mut used: Vec<u16> = node_ports_of(ports);
    for port in ports.iter_mut().filter(|port| port["nodePort"].as_u64().unwrap_or(0) == 0) {
        let before = old["spec"]["ports"].as_array().into_iter().flatten();
        let same =
            before.filter(|other| other["port"] == port["port"] && other["protocol"] == port["protocol"]);
        let number = same.filter_map(|other| other["nodePort"].as_u64()).next();
        if let Some(number) = number.and_then(|number| u16::try_from(number).ok())
            && number > 0
            && !used.contains(&number)
        {
            used.push(number);
            port["nodePort"] = number.into();
        }
    }
}

fn check_ports(
    ports: &[Value],
    network: &ServiceNetwork,
    taken: &HashSet<String>,
    own: &HashSet<u16>,
    errors: &mut Vec<FieldError>,
) {
    let range = &network.node_ports;
    for (index, port) in ports.iter().enumerate() {
        let Some(number) = port["nodePort"].as_u64().filter(|number| *number > 0) else { continue };
        let path = format!("spec.ports[{index}].nodePort");
        let valid = u16::try_from(number).ok().filter(|port| range.contains(port));
        match valid {
            None => {
                let (first, last) = (range.start(), range.end());
                let message = format!(
                    "provided port is not in the valid range. The range of valid ports is {first}-{last}"
                );
                errors.push(FieldError::invalid(path, number, message));
            }
            Some(port) if taken.contains(&port.to_string()) && !own.contains(&port) => {
                errors.push(FieldError::invalid(path, number, "provided port is already allocated"));
            }
            Some(_) => {}
        }
    }
}

fn free_port(network: &ServiceNetwork, taken: &HashSet<String>) -> Result<u16, ApiError> {
    let range = network.node_ports.clone();
    let start = rand::rng().random_range(range.clone());
    let mut candidates = (start..=*range.end()).chain(*range.start()..start);
    candidates
        .find(|port| !taken.contains(&port.to_string()))
        .ok_or_else(|| ApiError::Internal("failed to allocate a nodePort: the range is full".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_service_holds() {
        let service = json!({"spec": {
            "clusterIP": "10.43.0.1", "clusterIPs": ["10.43.0.1", "fd00::1"], "healthCheckNodePort": 30003,
            "ports": [{"nodePort": 30001, "protocol": "TCP"}, {"nodePort": 30001, "protocol": "UDP"}, {"port": 1}],
        }});
        assert_eq!(
            held(&service),
            [
                "/allocations/serviceips/10.43.0.1",
                "/allocations/serviceips/fd00::1",
                "/allocations/servicenodeports/30001",
                "/allocations/servicenodeports/30003"
            ]
        );
        assert!(held(&json!({"spec": {"clusterIP": "None", "clusterIPs": ["None"]}})).is_empty());
    }

    #[test]
    fn ends_of_a_network_are_not_used() {
        let cidr: IpNet = "10.43.0.0/24".parse().unwrap();
        let usable = |text: &str| is_usable(&cidr, text.parse().unwrap());
        assert!(usable("10.43.0.1") && usable("10.43.0.254"));
        assert!(!usable("10.43.0.0") && !usable("10.43.0.255") && !usable("10.44.0.1"));
    }

    #[test]
    fn node_ports_are_inherited_by_port_and_protocol() {
        let old = json!({"spec": {"ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}]}});
        let mut ports = vec![json!({"port": 80, "protocol": "TCP"}), json!({"port": 81, "protocol": "TCP"})];
        inherit_ports(&mut ports, &old);
        assert_eq!(ports[0]["nodePort"], 30080);
        assert!(ports[1]["nodePort"].is_null());
    }
}
