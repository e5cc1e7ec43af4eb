//! What the store keeps in memory: the latest pairs, the leases and which keys live under them.
//!
//! Only the writer changes it, and only to what is already durable; everybody else reads.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::keymap::KeyMap;
use super::record::Record;
use crate::{LeaseId, Revision};

/// The revision of a store in which nothing has ever been written.
pub(super) const EMPTY_REVISION: Revision = 1;

/// The latest committed state.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) revision: Revision,
    /// Reads and watches below this revision are refused.
    pub(super) compacted: Revision,
    pub(super) map: KeyMap,
    /// Time to live of each lease. When it expires is known to the writer alone.
    pub(super) leases: HashMap<LeaseId, Duration>,
    lease_keys: HashMap<LeaseId, BTreeSet<Bytes>>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            revision: EMPTY_REVISION,
            compacted: 0,
            map: KeyMap::default(),
            leases: HashMap::new(),
            lease_keys: HashMap::new(),
        }
    }
}

impl State {
    /// Applies one committed change.
    pub(super) fn apply(&mut self, record: &Arc<Record>) {
        let key = &record.kv.key;
        let old_lease = self.map.get(key).map_or(0, |old| old.kv.lease);
        if old_lease != 0
            && old_lease != record.kv.lease
            && let Some(keys) = self.lease_keys.get_mut(&old_lease)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.lease_keys.remove(&old_lease);
            }
        }
        if record.kv.lease != 0 {
            self.lease_keys.entry(record.kv.lease).or_default().insert(key.clone());
        }
        if record.tombstone {
            self.map.remove(key);
        } else {
            self.map.insert(Arc::clone(record));
        }
        self.revision = record.kv.mod_revision;
    }

    /// The keys that live under a lease.
    pub(super) fn keys_of(&self, lease: LeaseId) -> impl Iterator<Item = &Bytes> {
        self.lease_keys.get(&lease).into_iter().flatten()
    }
}
