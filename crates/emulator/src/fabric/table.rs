//! The forwarding table of a switch: an OEM resource whose PATCH merges by zone and is checked as a whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use drystone_redfish::{
    error::ServiceError,
    message,
    server::{Properties, Reply, RequestBody},
};
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{FabricService, backend_failed, compact::CompactTable, lock, record::is_good_id};
use crate::{
    backend::{ForwardingMember, ForwardingZone, ForwardingZones},
    bmc::changed,
    site::{FaultKind, MacAddress, SwitchSpec},
    state,
};

const TYPE: &str = "#DrystoneForwardingTable.v1_0_0.ForwardingTable";

impl FabricService {
    fn table_uri(&self, switch: &str) -> String {
        self.uri(&format!("/Switches/{switch}/Oem/Drystone/ForwardingTable"))
    }

    /// The forwarding table of a switch.
    pub(super) fn table(&self, switch: u32) -> Result<Value, ServiceError> {
        self.rendered(switch, &self.table_of(switch))
    }

    fn rendered(&self, switch: u32, zones: &ForwardingZones) -> Result<Value, ServiceError> {
        let zones = serde_json::to_value(zones).map_err(|error| ServiceError::internal(&error))?;
        let name = self.links.switch(switch).map(|switch| &*switch.name).unwrap_or_default();
        Ok(json!({"@odata.id": self.table_uri(name), "@odata.type": TYPE, "Id": "ForwardingTable",
            "Name": format!("Forwarding table of {name}"), "Zones": zones}))
    }

    /// PATCH of the table: checked, programmed, kept, then acknowledged. If one of these fails the switch forwards as
    /// before.
    pub(super) async fn change_table(
        &self,
        switch: &str,
        request: RequestBody,
        uri: &str,
    ) -> Result<Reply, ServiceError> {
        let missing = || ServiceError::not_found(uri);
        let at = self.switch_at(switch).ok_or_else(missing)?;
        let spec = self.links.switch(at).ok_or_else(missing)?;
        let before = self.table_of(at);
        let after = merge(&before, request.required()?, spec, uri)?;
        if self.links.is_dark(at) {
            return Err(ServiceError::unavailable(message::could_not_establish_connection(uri), 1));
        }
        if let Some(effect) = self.faults.meet_table(Instant::now(), switch, rand::random) {
            return match effect.kind {
                FaultKind::TableIgnored => Ok(Reply::updated(self.rendered(at, &after)?)),
                _ => Err(refused(effect.status, uri)),
            };
        }
        if after == before {
            return Ok(Reply::updated(self.rendered(at, &after)?));
        }
        if let Err(error) = self.links.backend().program_switch(switch, &after).await {
            self.program_again(switch, &before).await;
            return Err(backend_failed(&error, uri));
        }
        if let Err(error) = state::write_json_soon(&self.table_path(switch), &after).await {
            self.program_again(switch, &before).await;
            return Err(ServiceError::internal(&error));
        }
        lock(&self.tables).insert(at, CompactTable::pack(&after, spec));
        self.publish(&changed(uri, "DrystoneForwardingTable"));
        Ok(Reply::updated(self.rendered(at, &after)?))
    }

    /// Takes a switch back to what is on record.
    async fn program_again(&self, switch: &str, zones: &ForwardingZones) {
        if let Err(error) = self.links.backend().program_switch(switch, zones).await {
            tracing::error!(switch, %error, "the switch does not forward what is on record");
        }
    }
}

/// How a switch refuses a table that there is nothing wrong with.
fn refused(status: u16, uri: &str) -> ServiceError {
    match status {
        400 => ServiceError::bad_request(message::property_value_out_of_range("", "Zones")),
        507 => ServiceError::new(StatusCode::INSUFFICIENT_STORAGE, message::resource_exhaustion(uri)),
        _ => ServiceError::unavailable(message::service_temporarily_unavailable(1), 1),
    }
}

/// The table after a PATCH, or everything that is wrong with it.
pub(super) fn merge(
    before: &ForwardingZones,
    patch: Map<String, Value>,
    switch: &SwitchSpec,
    uri: &str,
) -> Result<ForwardingZones, ServiceError> {
    let mut after = before.clone();
    let mut properties = Properties::update(patch);
    let ports: Vec<&str> = switch.ports.iter().map(|port| &*port.name).collect();
    properties.object("Zones", |zones| {
        for id in zones.names() {
            if !is_good_id(&id) {
                zones.take(&id);
                zones.format_error::<()>(&id, &id);
            } else if zones.take_null(&id) {
                after.remove(&id);
            } else if let Some(Some(zone)) = zones.object(&id, |zone| read_zone(zone, &ports)) {
                after.insert(id, zone);
            }
        }
    });
    properties.finish()?;
    check(&after, uri)?;
    Ok(after)
}

/// Reads one zone; `None` if something is wrong with it, which has been told then.
fn read_zone(zone: &mut Properties, ports: &[&str]) -> Option<ForwardingZone> {
    for name in ["Tag", "Members", "FloodPorts"] {
        if !zone.has(name) {
            let path = zone.path_of(name);
            zone.reject(message::property_missing(&path));
        }
    }
    let tag = zone.unsigned("Tag", 1, u64::from(u32::MAX)).and_then(|tag| u32::try_from(tag).ok());
    let members = zone.object("Members", |members| read_members(members, ports));
    let flood_ports = zone.strings("FloodPorts");
    for (index, port) in flood_ports.iter().flatten().enumerate() {
        let path = zone.path_of(&format!("FloodPorts/{index}"));
        if !ports.contains(&port.as_str()) {
            zone.reject(message::property_value_not_in_list(port, &path));
        } else if flood_ports.iter().flatten().take(index).any(|other| other == port) {
            zone.reject(message::property_value_conflict(&path, &zone.path_of("FloodPorts")));
        }
    }
    Some(ForwardingZone { tag: tag?, members: members?, flood_ports: flood_ports? })
}

fn read_members(members: &mut Properties, ports: &[&str]) -> BTreeMap<String, ForwardingMember> {
    let mut read = BTreeMap::new();
    let mut names = members.names();
    names.sort_unstable();
    for mac in names.clone() {
        // One spelling only, or the same address could stand there twice.
        if !mac.parse::<MacAddress>().is_ok_and(|parsed| parsed.to_string() == mac) {
            members.take(&mac);
            members.format_error::<()>(&mac, &mac);
            continue;
        }
        let member = members.object(&mac, |member| {
            if !member.has("Port") {
                let path = member.path_of("Port");
                member.reject(message::property_missing(&path));
            }
            let peers = read_peers(member, &mac, &names);
            let shared = member.boolean("Shared").unwrap_or(false);
            Some(ForwardingMember { port: member.choice("Port", ports)?, shared, peers })
        });
        if let Some(Some(member)) = member {
            read.insert(mac, member);
        }
    }
    read
}

/// The list of a member that is restricted: other members of the zone, each once.
fn read_peers(member: &mut Properties, mac: &str, members: &[String]) -> Option<BTreeSet<String>> {
    if member.take_null("Peers") {
        return None;
    }
    let listed = member.strings("Peers")?;
    let mut peers = BTreeSet::new();
    for (index, peer) in listed.into_iter().enumerate() {
        let path = member.path_of(&format!("Peers/{index}"));
        if members.binary_search(&peer).is_err() {
            member.reject(message::property_value_not_in_list(&peer, &path));
        } else if peer == mac || peers.contains(&peer) {
            member.reject(message::property_value_conflict(&path, &member.path_of("Peers")));
        } else {
            peers.insert(peer);
        }
    }
    Some(peers)
}

/// What must hold over all zones of a table: tags differ, and an endpoint that is not shared is in one zone.
fn check(zones: &ForwardingZones, uri: &str) -> Result<(), ServiceError> {
    let mut tags = BTreeMap::new();
    let mut places: BTreeMap<&str, (&str, bool)> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (id, zone) in zones {
        if let Some(other) = tags.insert(zone.tag, id) {
            wrong.push(message::property_value_conflict(
                &format!("Zones/{id}/Tag"),
                &format!("Zones/{other}/Tag"),
            ));
        }
        for (mac, member) in &zone.members {
            match places.get(mac.as_str()) {
                Some((other, shared)) if !(member.shared && *shared) => {
                    let path = format!("Zones/{id}/Members/{mac}");
                    wrong.push(message::property_value_resource_conflict(
                        &path,
                        mac,
                        &format!("{uri}#/Zones/{other}"),
                    ));
                }
                Some(_) => {}
                None => {
                    places.insert(mac, (id, member.shared));
                }
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(ServiceError::several(StatusCode::CONFLICT, wrong)) }
}
