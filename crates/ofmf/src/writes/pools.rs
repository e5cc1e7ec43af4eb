//! Address pools of a fabric.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use drystone_api::{AddressPool, AddressPoolPurpose, AddressPoolSpec, NumberRange, SYSTEM_NAMESPACE, Zone};
use drystone_engine::{
    harness::{seen, unseen},
    reference::{ObjectKey, is_conflict, is_not_found},
};
use drystone_redfish::{
    error::ServiceError,
    message,
    server::{Properties, Reply, WriteRequest},
};
use ipnet::{IpNet, Ipv4Subnets};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, PostParams},
};

use super::{
    Inner, fabric_links,
    groups::{read_texts, refuse_owned, still_the_one},
    refused,
    replace::{Replaced, replace},
    zone_checks::overlap,
    zones::read_id,
};
use crate::{
    names::{id_of, key_of},
    render::zone::{fabrics_of, pool_uri, zone_uri},
};

/// Longest prefix of a block: single addresses.
const SINGLE: u64 = 32;
/// Greatest VLAN and virtual network.
const VLANS: (u64, u64) = (1, 4094);
const VNIS: (u64, u64) = (1, 16_777_215);

/// A write in `AddressPools`.
pub(super) async fn write(
    inner: &Arc<Inner>,
    fabric: &str,
    rest: &[&str],
    request: WriteRequest<'_>,
) -> Result<Reply, ServiceError> {
    let fabric = fabric_links::unescaped(fabric);
    match (request.method.as_str(), rest) {
        ("POST", []) => create(inner, &fabric, request).await,
        ("PATCH", [id]) => change(inner, &fabric, id, request).await,
        ("DELETE", [id]) => delete(inner, &fabric, id, request.target.uri).await,
        _ => Err(ServiceError::not_found(request.target.uri)),
    }
}

async fn create(inner: &Arc<Inner>, fabric: &str, request: WriteRequest<'_>) -> Result<Reply, ServiceError> {
    let mut properties = Properties::create(request.body.required()?);
    let id = read_id(&mut properties, "pool");
    let spec = AddressPoolSpec {
        purpose: AddressPoolPurpose::Fabric,
        fabric: Some(fabric.to_owned()),
        block_prefix_length: 32,
        ..AddressPoolSpec::default()
    };
    let mut pool = AddressPool::new(&id, spec);
    read_texts(&mut properties, &mut pool);
    read(&mut properties, &mut pool.spec);
    if pool.spec.ranges.is_empty() {
        properties.reject(message::create_failed_missing_property("Ethernet/IPv4/HostAddressRange"));
    }
    properties.finish()?;
    let _turn = inner.fabrics.lock().await;
    let api: Api<AddressPool> = Api::namespaced(inner.client.clone(), SYSTEM_NAMESPACE);
    match api.create(&PostParams::default(), &pool).await {
        Ok(created) => {
            inner.feed.show_address_pool(&created);
            seen(&inner.feed.sources().pools, &created).await;
        }
        Err(error) if is_conflict(&error) => {
            return Err(ServiceError::conflict(message::resource_already_exists("AddressPool", "Id", &id)));
        }
        Err(error) => return Err(refused(&error)),
    }
    let uri = pool_uri(fabric, &id);
    inner.tree.value(&uri).map(Reply::created).ok_or_else(|| ServiceError::not_found(&uri))
}

async fn change(
    inner: &Arc<Inner>,
    fabric: &str,
    id: &str,
    mut request: WriteRequest<'_>,
) -> Result<Reply, ServiceError> {
    let body = std::mem::take(&mut request.body).required()?;
    let _turn = inner.fabrics.lock().await;
    let known = find(inner, fabric, id, request.target.uri)?;
    let mut changed = (*known).clone();
    let mut properties = Properties::update(body);
    read_texts(&mut properties, &mut changed);
    read(&mut properties, &mut changed.spec);
    properties.read_only(&["Status", "Id"]);
    properties.finish()?;
    refuse_owned(known.as_ref())?;
    still_the_one(inner, request.target.uri, &request)?;
    check_zones(inner, fabric, &changed)?;
    let namespace = changed.namespace().unwrap_or_default();
    let api: Api<AddressPool> = Api::namespaced(inner.client.clone(), &namespace);
    let uri = pool_uri(fabric, id);
    let ranges = changed.spec.ranges.clone();
    let holds = |now: &AddressPool| check_leases(now, &ranges);
    let Replaced { written, .. } = replace(&api, &uri, &known, changed, holds).await?;
    inner.feed.show_address_pool(&written);
    seen(&inner.feed.sources().pools, &written).await;
    inner.tree.value(&uri).map(Reply::updated).ok_or_else(|| ServiceError::not_found(&uri))
}

async fn delete(inner: &Arc<Inner>, fabric: &str, id: &str, uri: &str) -> Result<Reply, ServiceError> {
    let _turn = inner.fabrics.lock().await;
    let pool = find(inner, fabric, id, uri)?;
    refuse_owned(pool.as_ref())?;
    let leased = pool.status.as_ref().is_some_and(|status| !status.leases.is_empty());
    if leased || !zones_with(inner, &pool).is_empty() {
        return Err(ServiceError::conflict(message::resource_in_use()));
    }
    let key = ObjectKey::of(pool.as_ref());
    let api: Api<AddressPool> = Api::namespaced(inner.client.clone(), &key.namespace);
    match api.delete(&key.name, &DeleteParams::default()).await {
        Ok(_) => {}
        Err(error) if is_not_found(&error) => {}
        Err(error) => return Err(refused(&error)),
    }
    let uid = pool.uid().unwrap_or_default();
    unseen(&inner.feed.sources().pools, &key, &uid).await;
    inner.feed.forget("pool", &key, &uid);
    Ok(Reply::no_content())
}

fn find(inner: &Inner, fabric: &str, id: &str, uri: &str) -> Result<Arc<AddressPool>, ServiceError> {
    let pool =
        inner.feed.sources().pools.get(&key_of(id)).filter(|_| inner.tree.contains(&pool_uri(fabric, id)));
    pool.ok_or_else(|| ServiceError::not_found(uri))
}

/// Reads what a pool is made of.
fn read(properties: &mut Properties, spec: &mut AddressPoolSpec) {
    properties.object("Ethernet", |ethernet| {
        ethernet.object("IPv4", |ipv4| {
            ipv4.object("HostAddressRange", |range| read_addresses(range, spec));
            if let Some(gateway) = ipv4.string("GatewayIPAddress") {
                match gateway.parse::<Ipv4Addr>() {
                    Ok(address) => spec.gateway = Some(IpAddr::V4(address)),
                    Err(_) => drop(ipv4.format_error::<()>("GatewayIPAddress", &gateway)),
                }
            }
            if let Some(Some(vlans)) =
                ipv4.object("VLANIdentifierAddressRange", |range| read_numbers(range, VLANS))
            {
                spec.vlans = Some(vlans);
            }
        });
        ethernet.object("BGPEvpn", |evpn| {
            if let Some(Some(vnis)) = evpn.object("EVINumberRange", |range| read_numbers(range, VNIS)) {
                spec.vnis = Some(vnis);
            }
        });
    });
    properties.object("Oem", |oem| {
        oem.object("Drystone", |own| {
            if let Some(ranges) = own.strings("Ranges") {
                let parsed: Result<Vec<IpNet>, _> = ranges.iter().map(|range| range.parse()).collect();
                match parsed {
                    Ok(ranges) if !ranges.is_empty() => spec.ranges = ranges,
                    _ => drop(own.format_error::<()>("Ranges", &ranges.join(", "))),
                }
            }
            if let Some(length) = own.unsigned("BlockPrefixLength", 8, SINGLE * 4) {
                spec.block_prefix_length = u8::try_from(length).unwrap_or(32);
            }
            own.read_only(&["LeasedBlocks", "TotalBlocks"]);
        });
    });
    properties.read_only(&["Links"]);
}

fn read_addresses(range: &mut Properties, spec: &mut AddressPoolSpec) {
    let mut end = |name: &str| {
        let text = range.required_string(name)?;
        text.parse::<Ipv4Addr>().ok().or_else(|| range.format_error(name, &text))
    };
    let (lower, upper) = (end("Lower"), end("Upper"));
    if let (Some(lower), Some(upper)) = (lower, upper) {
        if lower > upper {
            let (lower, upper) = (range.path_of("Lower"), range.path_of("Upper"));
            return range.reject(message::property_value_conflict(&lower, &upper));
        }
        spec.ranges = Ipv4Subnets::new(lower, upper, 0).map(IpNet::V4).collect();
    }
}

fn read_numbers(range: &mut Properties, (least, most): (u64, u64)) -> Option<NumberRange> {
    range.require("Lower");
    range.require("Upper");
    let lower = range.unsigned("Lower", least, most);
    let upper = range.unsigned("Upper", least, most);
    let (lower, upper) = (u32::try_from(lower?).ok()?, u32::try_from(upper?).ok()?);
    if lower > upper {
        let (lower, upper) = (range.path_of("Lower"), range.path_of("Upper"));
        range.reject(message::property_value_conflict(&lower, &upper));
        return None;
    }
    Some(NumberRange { lower, upper })
}

/// A pool never shrinks to ranges without what is leased of it.
fn check_leases(pool: &AddressPool, ranges: &[IpNet]) -> Result<(), ServiceError> {
    let leases = pool.status.iter().flat_map(|status| &status.leases).flat_map(|lease| &lease.blocks);
    let lost = |block: &IpNet| !ranges.iter().any(|range| range.contains(block));
    if leases.into_iter().any(lost) {
        Err(ServiceError::conflict(message::resource_in_use()))
    } else {
        Ok(())
    }
}

fn zones_with(inner: &Inner, pool: &AddressPool) -> Vec<Arc<Zone>> {
    let (namespace, name) = (pool.namespace().unwrap_or_default(), pool.name_any());
    inner.feed.sources().zones.list_where(|zone| {
        zone.namespace().unwrap_or_default() == namespace && zone.spec.address_pools.contains(&name)
    })
}

/// A pool that zones draw from does not come to overlap with pools of other zones.
fn check_zones(inner: &Inner, fabric: &str, pool: &AddressPool) -> Result<(), ServiceError> {
    let users = zones_with(inner, pool);
    if users.is_empty() {
        return Ok(());
    }
    let key = ObjectKey::of(pool);
    let others =
        inner.feed.sources().pools.list_where(|other| ObjectKey::of(other) != key && overlap(pool, other));
    for other in others {
        for zone in zones_with(inner, &other) {
            if fabrics_of(&zone).contains(fabric) {
                let zone = zone_uri(fabric, &id_of(&ObjectKey::of(zone.as_ref())));
                let uri = pool_uri(fabric, &id_of(&key));
                let message = message::property_value_resource_conflict("Ethernet", &uri, &zone);
                return Err(ServiceError::conflict(message));
            }
        }
    }
    Ok(())
}
