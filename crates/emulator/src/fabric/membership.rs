//! Which zones and connections an endpoint is in: found without looking through all of them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::record::FabricRecord;

/// Ids of objects by the ids of the endpoints in them.
type Index = HashMap<String, BTreeSet<String>>;

/// Zones and connections by endpoint; follows the record.
#[derive(Debug, Default)]
pub(super) struct Membership {
    zones: Index,
    connections: Index,
}

impl Membership {
    /// Zones that an endpoint is in.
    pub(super) fn zones(&self, endpoint: &str) -> impl Iterator<Item = &String> {
        self.zones.get(endpoint).into_iter().flatten()
    }

    /// Connections that an endpoint takes part in.
    pub(super) fn connections(&self, endpoint: &str) -> impl Iterator<Item = &String> {
        self.connections.get(endpoint).into_iter().flatten()
    }

    /// Takes over a changed record; costs what has changed, and a look at what has not.
    pub(super) fn follow(&mut self, before: &FabricRecord, after: &FabricRecord) {
        follow(&mut self.zones, &before.zones, &after.zones, |zone| zone.endpoints.iter().collect());
        follow(&mut self.connections, &before.connections, &after.connections, |connection| {
            connection.initiators.iter().chain(&connection.targets).collect()
        });
    }
}

fn follow<T>(
    index: &mut Index,
    before: &BTreeMap<String, Arc<T>>,
    after: &BTreeMap<String, Arc<T>>,
    members: impl Fn(&T) -> Vec<&String>,
) {
    for (id, old) in before {
        if after.get(id).is_some_and(|new| Arc::ptr_eq(old, new)) {
            continue;
        }
        for endpoint in members(old) {
            if let Some(ids) = index.get_mut(endpoint) {
                ids.remove(id);
                if ids.is_empty() {
                    index.remove(endpoint);
                }
            }
        }
    }
    for (id, new) in after {
        if before.get(id).is_some_and(|old| Arc::ptr_eq(old, new)) {
            continue;
        }
        for endpoint in members(new) {
            index.entry(endpoint.clone()).or_default().insert(id.clone());
        }
    }
}
