//! What must be true of a zone before it is made or changed. The controller checks again; here the reply can say exactly which
//! property is wrong, and nothing has been changed yet.

use drystone_api::{AddressPool, Isolation, Zone, ZoneSpec, ZoneType};
use drystone_engine::reference::ObjectKey;
use drystone_redfish::{
    error::ServiceError,
    message::{self, Message},
};
use http::StatusCode;
use ipnet::IpNet;
use kube::ResourceExt as _;
use serde_json::Value;

use super::Inner;
use crate::{
    names::{id_of, key_of},
    render::{
        composition::block_uri,
        fabric::{MAX_ZONES, endpoint_uri},
        zone::{fabrics_of, pool_uri, zone_uri},
    },
};

/// Checks what a zone of a fabric is to be. `path_of` names the property that a member came from, by its position.
pub(super) fn check(
    inner: &Inner,
    fabric: &str,
    key: &ObjectKey,
    spec: &ZoneSpec,
    path_of: &dyn Fn(usize) -> String,
) -> Result<(), ServiceError> {
    let mut wrong = Vec::new();
    if spec.kind != ZoneType::ZoneOfEndpoints && !spec.members.is_empty() {
        wrong.push(message::property_value_conflict("Links/Endpoints", "ZoneType"));
    }
    if spec.kind != ZoneType::ZoneOfEndpoints && !spec.contained_by.is_empty() {
        // Zones go one into the other only once, so no zone can come to contain itself.
        wrong.push(message::property_value_conflict("Links/ContainedByZones", "ZoneType"));
    }
    if !wrong.is_empty() {
        return Err(ServiceError::several(StatusCode::BAD_REQUEST, wrong));
    }
    let zones = &inner.feed.sources().zones;
    let present = zones.list_where(|zone| fabrics_of(zone).contains(fabric));
    if zones.get(key).is_none() && present.len() >= MAX_ZONES as usize {
        return Err(ServiceError::conflict(message::create_limit_reached()));
    }
    for (index, name) in spec.contained_by.iter().enumerate() {
        let container = ObjectKey::new(key.namespace.clone(), name);
        let takes = |zone: &Zone| {
            zone.spec.kind == ZoneType::ZoneOfZones && zone.metadata.deletion_timestamp.is_none()
        };
        if !zones.get(&container).is_some_and(|zone| takes(&zone)) {
            let path = format!("Links/ContainedByZones/{index}");
            wrong.push(message::property_value_not_in_list(&zone_uri(fabric, &id_of(&container)), &path));
        }
    }
    if !wrong.is_empty() {
        return Err(ServiceError::several(StatusCode::BAD_REQUEST, wrong));
    }
    for (index, member) in spec.members.iter().enumerate() {
        if let Some(endpoint) = &member.endpoint {
            wrong.extend(membership(inner, fabric, key, spec, endpoint, &path_of(index)));
        }
    }
    wrong.extend(pools(inner, fabric, key, spec, &present));
    if wrong.is_empty() { Ok(()) } else { Err(ServiceError::several(StatusCode::CONFLICT, wrong)) }
}

/// What hinders an endpoint from being in a zone.
fn membership(
    inner: &Inner,
    fabric: &str,
    key: &ObjectKey,
    spec: &ZoneSpec,
    endpoint: &str,
    path: &str,
) -> Option<Message> {
    let uri = endpoint_uri(fabric, endpoint);
    let body = inner.tree.value(&uri)?;
    let conflict = |other: &str| Some(message::property_value_resource_conflict(path, &uri, other));
    let listed = |pointer: &str| -> Vec<String> {
        let links = body.pointer(pointer).and_then(Value::as_array);
        links
            .into_iter()
            .flatten()
            .filter_map(|link| Some(link.get("@odata.id")?.as_str()?.to_owned()))
            .collect()
    };
    let target = body.pointer("/ConnectedEntities/0/EntityRole").is_some_and(|role| role == "Target");
    for other_uri in listed("/Links/Zones") {
        let other_key = key_of(other_uri.rsplit('/').next().unwrap_or_default());
        let Some(other) = inner.feed.sources().zones.get(&other_key).filter(|_| other_key != *key) else {
            continue;
        };
        if is_listed(&other, fabric, endpoint) && !may_share(spec.isolation, other.spec.isolation, target) {
            return conflict(&other_uri);
        }
    }
    let excluded = listed("/Links/MutuallyExclusiveEndpoints");
    let clash = spec.members.iter().filter_map(|member| member.endpoint.as_deref());
    if let Some(other) = clash.map(|other| endpoint_uri(fabric, other)).find(|other| excluded.contains(other))
    {
        return conflict(&other);
    }
    let interface = body.pointer("/ConnectedEntities/0/EntityLink/@odata.id").and_then(Value::as_str)?;
    let system = interface.strip_prefix(crate::names::SYSTEMS)?.split('/').nth(1)?;
    let host = inner.feed.sources().hosts.get(&key_of(system))?;
    let holder = host.spec.consumer_ref.as_ref()?;
    let own = holder.kind == "Composition"
        && holder.namespace == key.namespace
        && Some(&holder.name) == spec.composition.as_ref();
    if own { None } else { conflict(&block_uri(system)) }
}

/// Whether a zone names an endpoint as a member, or a host with it. Gateways that join by themselves do not count, nor do
/// zones that contain every endpoint.
fn is_listed(zone: &Zone, fabric: &str, endpoint: &str) -> bool {
    if zone.spec.kind != ZoneType::ZoneOfEndpoints {
        return false;
    }
    let named = zone.spec.members.iter().any(|member| {
        member.endpoint.as_deref() == Some(endpoint)
            && member.fabric.as_deref().or(zone.spec.fabric.as_deref()) == Some(fabric)
    });
    let resolved = zone.status.iter().flat_map(|status| &status.members);
    named
        || resolved
            .into_iter()
            .any(|member| !member.gateway && member.fabric == fabric && member.endpoint == endpoint)
}

/// Whether two zones may have an endpoint in common.
fn may_share(one: Isolation, other: Isolation, target: bool) -> bool {
    match (one, other) {
        (Isolation::Exclusive, _) | (_, Isolation::Exclusive) => false,
        (Isolation::Shared, Isolation::Shared) => true,
        _ => target,
    }
}

/// What hinders the address pools of a zone: no two of it may overlap, nor one with those of a zone that is apart from it.
fn pools(
    inner: &Inner,
    fabric: &str,
    key: &ObjectKey,
    spec: &ZoneSpec,
    zones: &[std::sync::Arc<Zone>],
) -> Vec<Message> {
    let pool = |namespace: &str, name: &str| {
        inner.feed.sources().pools.get(&ObjectKey::new(namespace, name)).map(|pool| (*pool).clone())
    };
    let own: Vec<Option<AddressPool>> =
        spec.address_pools.iter().map(|name| pool(&key.namespace, name)).collect();
    let mut wrong = Vec::new();
    for (index, mine) in own.iter().enumerate() {
        let Some(mine) = mine else { continue };
        let path = format!("Links/AddressPools/{index}");
        let uri = |pool: &AddressPool| pool_uri(fabric, &id_of(&ObjectKey::of(pool)));
        if let Some(other) = own.iter().take(index).flatten().find(|other| overlap(mine, other)) {
            wrong.push(message::property_value_resource_conflict(&path, &uri(mine), &uri(other)));
            continue;
        }
        let apart =
            zones.iter().filter(|zone| ObjectKey::of(zone.as_ref()) != *key && !together(zone, key, spec));
        let clash = apart.into_iter().find(|zone| {
            let namespace = zone.namespace().unwrap_or_default();
            zone.spec
                .address_pools
                .iter()
                .filter_map(|name| pool(&namespace, name))
                .any(|other| ObjectKey::of(&other) != ObjectKey::of(mine) && overlap(mine, &other))
        });
        if let Some(zone) = clash {
            let other = zone_uri(fabric, &id_of(&ObjectKey::of(zone.as_ref())));
            wrong.push(message::property_value_resource_conflict(&path, &uri(mine), &other));
        }
    }
    wrong
}

/// Whether a zone and another one are in one container: then they are not isolated from each other.
fn together(other: &Zone, key: &ObjectKey, spec: &ZoneSpec) -> bool {
    other.namespace().unwrap_or_default() == key.namespace
        && (other.spec.contained_by.iter().any(|name| spec.contained_by.contains(name))
            || other.spec.contained_by.contains(&key.name)
            || spec.contained_by.contains(&other.name_any()))
}

/// Whether two pools have an address, a VLAN or a virtual network in common.
pub(super) fn overlap(one: &AddressPool, other: &AddressPool) -> bool {
    let nets = |a: &IpNet, b: &IpNet| a.contains(&b.network()) || b.contains(&a.network());
    let numbers = |a: Option<drystone_api::NumberRange>, b: Option<drystone_api::NumberRange>| match (a, b) {
        (Some(a), Some(b)) => a.lower <= b.upper && b.lower <= a.upper,
        _ => false,
    };
    one.spec.ranges.iter().any(|a| other.spec.ranges.iter().any(|b| nets(a, b)))
        || numbers(one.spec.vlans, other.spec.vlans)
        || numbers(one.spec.vnis, other.spec.vnis)
}

#[cfg(test)]
mod tests {
    use drystone_api::{AddressPoolSpec, NumberRange};

    use super::*;

    #[test]
    fn only_shared_zones_share_and_only_targets_with_services() {
        use Isolation::{Exclusive, ServiceOnly, Shared};
        for (one, other, target, allowed) in [
            (Exclusive, Shared, true, false),
            (ServiceOnly, ServiceOnly, true, true),
            (ServiceOnly, Shared, false, false),
            (Shared, Shared, false, true),
        ] {
            assert_eq!(may_share(one, other, target), allowed, "{one:?} {other:?} {target}");
            assert_eq!(may_share(other, one, target), allowed);
        }
    }

    #[test]
    fn pools_overlap_by_address_vlan_or_network() {
        let pool = |range: &str, vlans: (u32, u32)| {
            AddressPool::new(
                "p",
                AddressPoolSpec {
                    ranges: vec![range.parse().unwrap()],
                    vlans: Some(NumberRange { lower: vlans.0, upper: vlans.1 }),
                    ..Default::default()
                },
            )
        };
        let one = pool("10.0.0.0/24", (100, 199));
        assert!(overlap(&one, &pool("10.0.0.128/25", (1, 1))));
        assert!(overlap(&one, &pool("10.0.0.0/8", (1, 1))));
        assert!(overlap(&one, &pool("10.0.1.0/24", (199, 300))));
        assert!(!overlap(&one, &pool("10.0.1.0/24", (200, 300))));
    }
}
