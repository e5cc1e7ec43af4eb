//! The forwarding table of a switch: an OEM resource whose PATCH merges by zone and is checked as a whole.

use std::collections::BTreeMap;

use drystone_redfish::{
    error::ServiceError,
    message,
    server::{Properties, Reply, RequestBody},
};
use serde_json::{Map, Value, json};

use super::{FabricService, backend_failed, lock, record::is_good_id};
use crate::{
    backend::{ForwardingMember, ForwardingZone, ForwardingZones},
    bmc::changed,
    site::{MacAddress, SwitchSpec},
    state,
};

const TYPE: &str = "#DrystoneForwardingTable.v1_0_0.ForwardingTable";

impl FabricService {
    fn table_uri(&self, switch: &str) -> String {
        self.uri(&format!("/Switches/{switch}/Oem/Drystone/ForwardingTable"))
    }

    /// The forwarding table of a switch.
    pub(super) fn table(&self, switch: &SwitchSpec) -> Result<Value, ServiceError> {
        let tables = lock(&self.tables);
        let zones = tables.get(&switch.name).map(serde_json::to_value).transpose();
        let zones = zones.map_err(|error| ServiceError::internal(&error))?.unwrap_or_else(|| json!({}));
        Ok(json!({"@odata.id": self.table_uri(&switch.name), "@odata.type": TYPE, "Id": "ForwardingTable",
            "Name": format!("Forwarding table of {}", switch.name), "Zones": zones}))
    }

    /// PATCH of the table: checked, programmed, kept, then acknowledged. If one of these fails the switch forwards as
    /// before.
    pub(super) async fn change_table(
        &self,
        switch: &str,
        request: RequestBody,
        uri: &str,
    ) -> Result<Reply, ServiceError> {
        let spec = self.switch(switch).ok_or_else(|| ServiceError::not_found(uri))?;
        let before = lock(&self.tables).get(switch).cloned().unwrap_or_default();
        let after = merge(&before, request.required()?, spec, uri)?;
        if after == before {
            return Ok(Reply::updated(self.table(spec)?));
        }
        if let Err(error) = self.backend.program_switch(switch, &after).await {
            self.program_again(switch, &before).await;
            return Err(backend_failed(&error, uri));
        }
        if let Err(error) = state::write_json_soon(&self.table_path(switch), &after).await {
            self.program_again(switch, &before).await;
            return Err(ServiceError::internal(&error));
        }
        lock(&self.tables).insert(switch.to_owned(), after);
        self.publish(&changed(uri, "DrystoneForwardingTable"));
        Ok(Reply::updated(self.table(spec)?))
    }

    /// Takes a switch back to what is on record.
    async fn program_again(&self, switch: &str, zones: &ForwardingZones) {
        if let Err(error) = self.backend.program_switch(switch, zones).await {
            tracing::error!(switch, %error, "the switch does not forward what is on record");
        }
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
    let ports: Vec<&str> = switch.ports.iter().map(|port| port.name.as_str()).collect();
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
    for mac in members.names() {
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
            let port = member.choice("Port", ports)?;
            Some(ForwardingMember { port, shared: member.boolean("Shared").unwrap_or(false) })
        });
        if let Some(Some(member)) = member {
            read.insert(mac, member);
        }
    }
    read
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
    if wrong.is_empty() { Ok(()) } else { Err(ServiceError::several(http::StatusCode::CONFLICT, wrong)) }
}
