//! Tables into switches: written where they differ, and read back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use drystone_api::{FabricAgent, ZoneFabricStatus};
use drystone_engine::harness::Cache;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::ResourceExt as _;

use super::ZoneFailure;
use crate::{
    controller::{Services, planners::State},
    drivers::{self, FabricService, ZoneEntry, ZoneRecord},
    model::{FabricKey, ForwardingTable, ForwardingZone},
    plan::zone::render,
};

/// Switches that are written at one time.
const AT_ONCE: usize = 32;

/// What one zone needs of one fabric, with names instead of numbers: good also when the fabric has changed meanwhile.
#[derive(Debug, Clone)]
pub(super) struct Work {
    pub(super) key: FabricKey,
    /// Id of the zone.
    pub(super) zone: String,
    /// By id of the switch.
    pub(super) switches: BTreeMap<String, SwitchWork>,
    /// Agents of the fabric, and ids of the members' endpoints: what services that show zones are told.
    pub(super) agents: BTreeSet<String>,
    pub(super) endpoints: Vec<String>,
    /// Ids of the zones that share members with it.
    pub(super) beside: BTreeSet<String>,
}

/// What is wanted of one switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SwitchWork {
    pub(super) agent: String,
    /// The zone's entry; none if the switch is to forget the zone.
    pub(super) entry: Option<ForwardingZone>,
}

/// Tables by id of the switch, as read back, and how many were changed.
#[derive(Debug, Default)]
pub(super) struct Programmed {
    pub(super) tables: BTreeMap<String, ForwardingTable>,
    pub(super) changed: usize,
}

/// What a zone that is planned in a fabric needs. `known` are the switches that may still have it.
pub(super) fn work(state: &State, key: &FabricKey, zone: &str, known: &BTreeSet<String>) -> Option<Work> {
    let planner = state.planner(key)?;
    let fabric = planner.fabric();
    let planned = planner.zones().get(zone);
    let mut switches: BTreeMap<String, SwitchWork> = BTreeMap::new();
    for id in known {
        let Some(index) = fabric.switch_by_id(id) else { continue };
        let agent = fabric.switch(index).agent.to_string();
        switches.insert(id.clone(), SwitchWork { agent, entry: None });
    }
    if let Some(planned) = planned {
        for entry in planned.plan.iter().flat_map(|plan| &plan.entries) {
            let switch = fabric.switch(entry.switch);
            let work = SwitchWork {
                agent: switch.agent.to_string(),
                entry: Some(render(fabric, &planned.request, entry)),
            };
            switches.insert(switch.id.to_string(), work);
        }
    }
    let members = planned.iter().flat_map(|planned| &planned.request.members);
    Some(Work {
        key: key.clone(),
        zone: zone.to_owned(),
        switches,
        agents: (0..fabric.switch_count()).map(|index| fabric.switch(index).agent.to_string()).collect(),
        endpoints: members.map(|index| fabric.endpoint_name(*index).to_owned()).collect(),
        beside: planner.neighbours_of(zone).into_iter().map(|neighbour| neighbour.id).collect(),
    })
}

/// Writes and reads back.
pub(super) struct Programmer<'a> {
    pub(super) services: &'a Services,
    pub(super) agents: &'a Cache<FabricAgent>,
}

impl Programmer<'_> {
    /// Brings the switches to what the zone needs.
    pub(super) async fn program(&self, work: &Work) -> Result<Programmed, ZoneFailure> {
        let mut services: BTreeMap<&str, Arc<dyn FabricService>> = BTreeMap::new();
        for switch in work.switches.values() {
            if !services.contains_key(switch.agent.as_str()) {
                services.insert(&switch.agent, self.service_of(&switch.agent).await?);
            }
        }
        let switches = work.switches.iter().filter_map(|(id, switch)| {
            let service = services.get(switch.agent.as_str())?.clone();
            Some(program_one(service, work, id, switch))
        });
        let results: Vec<(String, drivers::Programmed)> =
            stream::iter(switches.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).try_collect().await?;
        let changed = results.iter().filter(|(_, programmed)| programmed.changed).count();
        let tables = results.into_iter().map(|(id, programmed)| (id, programmed.table)).collect();
        Ok(Programmed { tables, changed })
    }

    /// Shows the zone in the tree of every service of the fabric, or takes it away. `shown` says whether it was shown before.
    pub(super) async fn record(
        &self,
        work: &Work,
        present: bool,
        shown: bool,
    ) -> Result<String, ZoneFailure> {
        let record = ZoneRecord { id: work.zone.clone(), endpoints: work.endpoints.clone(), shown };
        let record = present.then_some(&record);
        let show = async |agent: &String| {
            let service = self.service_of(agent).await?;
            Ok::<_, ZoneFailure>(service.record_zone(&work.key.id, &work.zone, record).await?)
        };
        let shows: Vec<_> = work.agents.iter().map(show).collect();
        let uris: Vec<Option<String>> = stream::iter(shows).buffered(AT_ONCE).try_collect().await?;
        Ok(uris.into_iter().flatten().last().unwrap_or_default())
    }

    /// The service of an agent.
    pub(super) async fn service_of(&self, agent: &str) -> Result<Arc<dyn FabricService>, ZoneFailure> {
        let found = self.agents.list_where(|candidate| candidate.name_any() == agent);
        let agent = found.first().ok_or_else(|| ZoneFailure::NoAgent(agent.to_owned()))?;
        Ok(self.services.of(agent).await?)
    }
}

/// Brings one switch to what the zone needs of it.
async fn program_one(
    service: Arc<dyn FabricService>,
    work: &Work,
    id: &str,
    switch: &SwitchWork,
) -> Result<(String, drivers::Programmed), ZoneFailure> {
    let (fabric, entry) = (work.key.id.as_str(), switch.entry.as_ref());
    let wanted = ZoneEntry { fabric, switch: id, zone: &work.zone, entry, beside: &work.beside };
    let programmed = service.program_zone(wanted).await?;
    if programmed.table.zones.get(&work.zone) != entry {
        return Err(ZoneFailure::NotApplied { switch: id.to_owned() });
    }
    Ok((id.to_owned(), programmed))
}

/// What a zone's status says of a fabric.
pub(super) fn fabric_status(work: &Work, uri: String) -> ZoneFabricStatus {
    let with_entry = work.switches.iter().filter(|(_, switch)| switch.entry.is_some());
    ZoneFabricStatus {
        fabric: work.key.id.clone(),
        zone: uri,
        switches: with_entry.map(|(id, _)| id.clone()).collect(),
    }
}
