//! What switches have of zones whose status does not say it.
//!
//! A zone's status is written once, when the zone is in the tables and proven. Whoever is killed before that leaves entries that
//! nothing but the tables tells of. So after a start, and before any zone is touched, the tables are asked for all zones that
//! were not finished: which switches have them, and under which tags. Where there is no such zone, nothing is asked.

use std::collections::BTreeMap;

use drystone_api::Zone;
use futures::{StreamExt as _, stream};

use super::{ZoneFailure, ZoneReconciler, program::Programmer, zone_id, zone_key};
use crate::model::ForwardingTable;

/// Tables that are read at one time.
const AT_ONCE: usize = 32;

/// A switch: ids of its fabric and itself, and its agent.
type Place = (String, String, String);

impl ZoneReconciler {
    /// Asks the tables, if a zone has to wait for that: one that was not finished before the start until they have told about
    /// it, any other until they have been asked once, lest it gets the tag of one of these.
    pub(super) async fn survey(&self, zone: &Zone) -> Result<(), ZoneFailure> {
        let id = zone_id(zone);
        if !self.must_ask(&id) {
            return Ok(());
        }
        let _turn = self.surveying.lock().await;
        if !self.must_ask(&id) {
            return Ok(());
        }
        let mut failures = self.ask_all().await;
        let mut state = self.planners.lock();
        state.asked = true;
        let mut own = None;
        let doubtful = std::mem::take(&mut state.doubtful);
        for other in doubtful {
            let fabric = self.watched.zones.get(&zone_key(&other)).and_then(|zone| zone.spec.fabric.clone());
            let failed = match &fabric {
                Some(fabric) => failures.contains_key(fabric),
                None => !failures.is_empty(),
            };
            if failed && other == id {
                own = fabric.and_then(|fabric| failures.remove(&fabric));
                own = own.or_else(|| failures.pop_first().map(|(_, failure)| failure));
            }
            if failed {
                state.doubtful.insert(other);
            }
        }
        own.map_or(Ok(()), Err)
    }

    /// Takes over the zones that there are from whoever carried them out before.
    pub(in crate::controller) fn take_over(&self) {
        self.load(&mut self.planners.lock());
    }

    fn must_ask(&self, id: &str) -> bool {
        let state = self.planners.lock();
        state.doubtful.contains(id) || (!state.doubtful.is_empty() && !state.asked)
    }

    /// Asks all tables of all fabrics, and takes over what they tell of doubtful zones. Returns why fabrics did not answer as a
    /// whole, by their ids.
    async fn ask_all(&self) -> BTreeMap<String, ZoneFailure> {
        let places: Vec<Place> = {
            let state = self.planners.lock();
            let of = |(key, fabric): &(&crate::model::FabricKey, &crate::model::Fabric)| {
                let switches = (0..fabric.switch_count()).map(|index| fabric.switch(index));
                switches
                    .map(|switch| (key.id.clone(), switch.id.to_string(), switch.agent.to_string()))
                    .collect::<Vec<_>>()
            };
            state.fabrics().iter().flat_map(of).collect()
        };
        tracing::info!(switches = places.len(), "asking the tables for zones that were not finished");
        let programmer = Programmer { services: &self.services, agents: &self.watched.agents };
        let read = async |place: &Place| -> Result<ForwardingTable, ZoneFailure> {
            let service = programmer.service_of(&place.2).await?;
            Ok(service.read_table(&place.0, &place.1).await?)
        };
        let reads: Vec<_> = places.iter().map(read).collect();
        let tables: Vec<_> = stream::iter(reads).buffered(AT_ONCE).collect().await;
        let mut failures = BTreeMap::new();
        let mut state = self.planners.lock();
        for ((fabric, switch, _), table) in places.into_iter().zip(tables) {
            match table {
                Ok(table) => {
                    for (zone, entry) in table.zones {
                        if state.doubtful.contains(&zone) {
                            state.tags.entry(zone.clone()).or_insert(entry.tag);
                            state.touch(&zone, &fabric, [switch.clone()]);
                        }
                    }
                }
                Err(failure) => drop(failures.insert(fabric, failure)),
            }
        }
        failures
    }
}
