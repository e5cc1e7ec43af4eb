//! What a fabric service keeps, beside the forwarding tables, which have a file each.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use drystone_redfish::server::SavedSubscription;
use serde::{Deserialize, Serialize};

/// Logical objects and settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FabricRecord {
    /// Zones by id; shared, since every change begins with a copy of the record.
    #[serde(with = "shared")]
    pub(super) zones: BTreeMap<String, Arc<ZoneRecord>>,
    /// Connections by id; shared likewise.
    #[serde(with = "shared")]
    pub(super) connections: BTreeMap<String, Arc<ConnectionRecord>>,
    /// Host that a resource block is attached to, by block.
    pub(super) attachments: BTreeMap<String, String>,
    /// Number for the next zone or connection that is not given an id.
    pub(super) next_id: u64,
    /// Event subscriptions.
    pub(super) subscriptions: Vec<SavedSubscription>,
}

/// Shared values, kept like others.
mod shared {
    use std::{collections::BTreeMap, sync::Arc};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(
        map: &BTreeMap<String, Arc<T>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(map.iter().map(|(id, value)| (id, value.as_ref())))
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, Arc<T>>, D::Error> {
        let map = BTreeMap::<String, T>::deserialize(deserializer)?;
        Ok(map.into_iter().map(|(id, value)| (id, Arc::new(value))).collect())
    }
}

/// A zone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ZoneRecord {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) default_routing: bool,
    /// Ids of its endpoints.
    pub(super) endpoints: BTreeSet<String>,
    /// Names of the switches that may carry its traffic; any if empty.
    pub(super) switches: BTreeSet<String>,
}

/// A connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConnectionRecord {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) kind: Option<String>,
    /// Ids of the endpoints that use.
    pub(super) initiators: BTreeSet<String>,
    /// Ids of the endpoints that are used.
    pub(super) targets: BTreeSet<String>,
}

/// What a change of a record has changed, as its journal has it; `None` for what is gone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RecordChange {
    zones: BTreeMap<String, Option<ZoneRecord>>,
    connections: BTreeMap<String, Option<ConnectionRecord>>,
    next_id: u64,
}

impl FabricRecord {
    /// What is different in another record; `None` if that is more than zones and connections.
    pub(super) fn difference(&self, after: &Self) -> Option<RecordChange> {
        if (&self.attachments, &self.subscriptions) != (&after.attachments, &after.subscriptions) {
            return None;
        }
        Some(RecordChange {
            zones: difference(&self.zones, &after.zones),
            connections: difference(&self.connections, &after.connections),
            next_id: after.next_id,
        })
    }

    /// Takes over a change. Taking it over again changes nothing.
    pub(super) fn follow(&mut self, change: RecordChange) {
        follow(&mut self.zones, change.zones);
        follow(&mut self.connections, change.connections);
        self.next_id = change.next_id;
    }

    /// A free id: `zone-1`.
    pub(super) fn fresh_id(&mut self, prefix: &str) -> String {
        loop {
            self.next_id += 1;
            let id = format!("{prefix}-{}", self.next_id);
            if !self.zones.contains_key(&id) && !self.connections.contains_key(&id) {
                return id;
            }
        }
    }
}

/// Whether a client may choose this id: it becomes a part of a URI.
pub(super) fn is_good_id(id: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=128).contains(&id.len()) && id.chars().all(allowed) && !id.starts_with('.')
}

/// What is not the same object in both.
fn difference<T: Clone>(
    before: &BTreeMap<String, Arc<T>>,
    after: &BTreeMap<String, Arc<T>>,
) -> BTreeMap<String, Option<T>> {
    let gone = before.keys().filter(|id| !after.contains_key(*id)).map(|id| (id.clone(), None));
    let fresh = after.iter().filter(|(id, new)| before.get(*id).is_none_or(|old| !Arc::ptr_eq(old, new)));
    gone.chain(fresh.map(|(id, new)| (id.clone(), Some(T::clone(new))))).collect()
}

fn follow<T>(map: &mut BTreeMap<String, Arc<T>>, change: BTreeMap<String, Option<T>>) {
    for (id, value) in change {
        match value {
            Some(value) => drop(map.insert(id, Arc::new(value))),
            None => drop(map.remove(&id)),
        }
    }
}
