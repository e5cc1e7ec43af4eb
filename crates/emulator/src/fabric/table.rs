//! The forwarding table of a switch: an OEM resource whose PATCH merges by zone and is checked as a whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use drystone_redfish::{
    error::ServiceError,
    etag::ETag,
    message,
    server::{Properties, Reply, RequestBody},
};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    FabricService, backend_failed, compact::CompactTable, journal::Journal, lock, record::is_good_id,
};
use crate::{
    backend::{ForwardingMember, ForwardingZone, ForwardingZones},
    bmc::changed,
    site::{FaultKind, MacAddress, SwitchSpec},
    state::{self, StateError},
};

/// What changes in a table, by zone; `None` for what is removed.
type Changes = BTreeMap<String, Option<ForwardingZone>>;

/// A changed zone, as the journal of a table has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Change {
    zone: String,
    entry: Option<ForwardingZone>,
}

impl Change {
    /// Takes the change over into a table.
    pub(super) fn apply(self, zones: &mut ForwardingZones) {
        match self.entry {
            Some(entry) => drop(zones.insert(self.zone, entry)),
            None => drop(zones.remove(&self.zone)),
        }
    }
}

const TYPE: &str = "#DrystoneForwardingTable.v1_0_0.ForwardingTable";
const ZONE_TYPE: &str = "#DrystoneForwardingTable.v1_0_0.Zone";

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
            "@odata.etag": self.table_etag(switch).as_str(),
            "Name": format!("Forwarding table of {name}"), "Zones": zones}))
    }

    /// The entity tag of a table and of all its zones: another one after each change, and in every run.
    pub(super) fn table_etag(&self, switch: u32) -> ETag {
        let changes = lock(&self.tables).get(&switch).map_or(0, CompactTable::changes);
        ETag::from_header(format!("\"{:016x}.{changes}\"", self.run))
    }

    /// One zone of a table.
    pub(super) fn table_zone(&self, switch: u32, id: &str, uri: &str) -> Result<Value, ServiceError> {
        let missing = || ServiceError::not_found(uri);
        let spec = self.links.switch(switch).ok_or_else(missing)?;
        let zone = lock(&self.tables).get(&switch).and_then(|table| table.zone(id, spec));
        self.rendered_zone(switch, id, &zone.ok_or_else(missing)?)
    }

    fn rendered_zone(&self, switch: u32, id: &str, zone: &ForwardingZone) -> Result<Value, ServiceError> {
        let mut body = serde_json::to_value(zone).map_err(|error| ServiceError::internal(&error))?;
        let name = self.links.switch(switch).map(|switch| &*switch.name).unwrap_or_default();
        let uri = format!("{}/Zones/{id}", self.table_uri(name));
        if let Value::Object(map) = &mut body {
            let head = json!({"@odata.id": uri, "@odata.type": ZONE_TYPE, "Id": id,
                "@odata.etag": self.table_etag(switch).as_str(), "Name": format!("Zone {id} of {name}")});
            map.extend(head.as_object().cloned().unwrap_or_default());
        }
        Ok(body)
    }

    /// The switch of this name with its index.
    fn switch_of_table(&self, switch: &str, uri: &str) -> Result<(u32, &SwitchSpec), ServiceError> {
        let found = self.switch_at(switch).and_then(|at| Some((at, self.links.switch(at)?)));
        found.ok_or_else(|| ServiceError::not_found(uri))
    }

    /// PATCH of the table: checked, programmed, kept, then acknowledged. If one of these fails the switch forwards as
    /// before.
    pub(super) async fn change_table(
        &self,
        switch: &str,
        request: RequestBody,
        uri: &str,
    ) -> Result<Reply, ServiceError> {
        let (at, spec) = self.switch_of_table(switch, uri)?;
        let before = self.table_of(at);
        let after = merge(&before, request.required()?, spec, uri)?;
        let removed = before.keys().filter(|id| !after.contains_key(*id)).map(|id| (id.clone(), None));
        let fresh = after.iter().filter(|(id, zone)| before.get(*id) != Some(zone));
        let changes = removed.chain(fresh.map(|(id, zone)| (id.clone(), Some(zone.clone())))).collect();
        self.carry_out(at, spec, changes, uri).await?;
        Ok(Reply::updated(self.rendered(at, &after)?))
    }

    /// PUT of a zone into a table: like a PATCH of the table, but looks at no more than the zone.
    pub(super) async fn put_table_zone(
        &self,
        switch: &str,
        id: &str,
        request: RequestBody,
        uri: &str,
    ) -> Result<Reply, ServiceError> {
        let (at, spec) = self.switch_of_table(switch, uri)?;
        let mut properties = Properties::update(request.required()?);
        if !is_good_id(id) || properties.string("Id").is_some_and(|named| named != id) {
            properties.format_error::<()>("Id", id);
        }
        properties.string("Name");
        let ports: Vec<&str> = spec.ports.iter().map(|port| &*port.name).collect();
        let zone = read_zone(&mut properties, &ports);
        properties.finish()?;
        let zone = zone.ok_or_else(|| ServiceError::bad_request(message::malformed_json()))?;
        let before = {
            let tables = lock(&self.tables);
            let table = tables.get(&at);
            table.map_or(Ok(()), |table| check_zone(table, id, &zone, &self.table_uri(switch)))?;
            table.and_then(|table| table.zone(id, spec))
        };
        let changed = (before.as_ref() != Some(&zone)).then(|| (id.to_owned(), Some(zone.clone())));
        self.carry_out(at, spec, changed.into_iter().collect(), uri).await?;
        let body = self.rendered_zone(at, id, &zone)?;
        Ok(if before.is_none() { Reply::created(body) } else { Reply::updated(body) })
    }

    /// DELETE of a zone of a table. The answer has the tag of what the table is then.
    pub(super) async fn delete_table_zone(
        &self,
        switch: &str,
        id: &str,
        uri: &str,
    ) -> Result<Reply, ServiceError> {
        let (at, spec) = self.switch_of_table(switch, uri)?;
        self.table_zone(at, id, uri)?;
        self.carry_out(at, spec, [(id.to_owned(), None)].into(), uri).await?;
        Ok(Reply::no_content().with_header(header::ETAG, self.table_etag(at).as_str()))
    }

    /// Carries out changes of a table that have been checked. Nothing is programmed or kept if a fault says that the switch
    /// ignores them.
    async fn carry_out(
        &self,
        at: u32,
        spec: &SwitchSpec,
        changes: Changes,
        uri: &str,
    ) -> Result<(), ServiceError> {
        if self.links.is_dark(at) {
            return Err(ServiceError::unavailable(message::could_not_establish_connection(uri), 1));
        }
        if let Some(effect) = self.faults.meet_table(Instant::now(), &spec.name, rand::random) {
            return match effect.kind {
                FaultKind::TableIgnored => Ok(()),
                _ => Err(refused(effect.status, uri)),
            };
        }
        if changes.is_empty() {
            return Ok(());
        }
        let whole = || {
            let mut zones = self.table_of(at);
            for (zone, entry) in &changes {
                Change { zone: zone.clone(), entry: entry.clone() }.apply(&mut zones);
            }
            zones
        };
        if let Err(error) = self.links.backend().program_zones(&spec.name, &whole).await {
            self.program_again(at, &spec.name).await;
            return Err(backend_failed(&error, uri));
        }
        if let Err(error) = self.keep_table(at, &spec.name, &changes, &whole).await {
            self.program_again(at, &spec.name).await;
            return Err(ServiceError::internal(&error));
        }
        lock(&self.tables).entry(at).or_default().change(&changes, spec);
        self.publish(&changed(&self.table_uri(&spec.name), "DrystoneForwardingTable"));
        Ok(())
    }

    /// Makes changes of a table durable.
    async fn keep_table(
        &self,
        at: u32,
        switch: &str,
        changes: &Changes,
        whole: &(dyn Fn() -> ForwardingZones + Sync),
    ) -> Result<(), StateError> {
        let path = self.table_path(switch);
        let mut journals = self.table_journals.lock().await;
        let journal = journals.entry(at).or_insert_with(|| Journal::new(path.with_extension("log")));
        if journal.is_long() {
            journal.set_limit(state::write_json_soon(&path, &whole()).await?);
            return journal.clear().await;
        }
        let lines = changes.iter().map(|(zone, entry)| Change { zone: zone.clone(), entry: entry.clone() });
        journal.append(&lines.collect::<Vec<_>>()).await
    }

    /// Takes a switch back to what is on record.
    async fn program_again(&self, at: u32, switch: &str) {
        if let Err(error) = self.links.backend().program_switch(switch, &self.table_of(at)).await {
            tracing::error!(switch, %error, "the switch does not forward what is on record");
        }
    }
}

/// What must hold between a zone and the others of its table; see [`check`].
fn check_zone(table: &CompactTable, id: &str, zone: &ForwardingZone, uri: &str) -> Result<(), ServiceError> {
    let mut wrong = Vec::new();
    if table.with_tag(zone.tag, id).is_some() {
        wrong.push(message::property_value_conflict("Tag", "Tag"));
    }
    for (mac, member) in &zone.members {
        let Ok(address) = mac.parse() else { continue };
        if let Some((other, shared)) = table.with_member(address, id)
            && !(member.shared && shared)
        {
            let other = format!("{uri}#/Zones/{other}");
            wrong.push(message::property_value_resource_conflict(&format!("Members/{mac}"), mac, &other));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(ServiceError::several(StatusCode::CONFLICT, wrong)) }
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
