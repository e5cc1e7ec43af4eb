//! What the writer and the readers of a store share.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::engine::Engine;
use super::history::Facts;
use super::record::Record;
use super::staging::{Changes, Committed, event};
use super::state::State;
use super::watch::Hub;
use crate::Revision;

/// State, engine and hub of one store.
#[derive(Debug)]
pub(super) struct Shared {
    state: RwLock<State>,
    pub(super) engine: Arc<Engine>,
    pub(super) hub: Arc<Hub>,
}

impl Shared {
    pub(super) fn new(state: State, engine: Engine, watch_buffer: usize) -> Self {
        let hub = Hub::new(state.revision, watch_buffer);
        Self { state: RwLock::new(state), engine: Arc::new(engine), hub: Arc::new(hub) }
    }

    /// The latest committed state. Hold it briefly: the writer waits for it.
    pub(super) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes durable changes visible: first to readers, then to watchers.
    pub(super) fn publish(&self, changes: &Changes) {
        let revision = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            for record in &changes.records {
                state.apply(record);
            }
            for (lease, change) in &changes.leases {
                match change {
                    Some(time_to_live) => state.leases.insert(*lease, *time_to_live),
                    None => state.leases.remove(lease),
                };
            }
            state.compacted = changes.compacted.unwrap_or(state.compacted);
            state.revision
        };
        if !changes.transactions.is_empty() {
            self.hub.publish(&changes.transactions, revision);
        }
    }

    /// Makes visible what a commit that reported a failure has left on disk after all.
    pub(super) fn publish_found(&self, records: Vec<(Record, Option<Record>)>, facts: Facts) {
        let mut transactions: BTreeMap<Revision, Committed> = BTreeMap::new();
        let mut changes = Changes { compacted: Some(facts.compacted), ..Changes::default() };
        for (record, previous) in records {
            let revision = record.kv.mod_revision;
            let committed =
                transactions.entry(revision).or_insert_with(|| Committed { revision, events: Vec::new() });
            committed.events.push(Arc::new(event(&record, previous.as_ref())));
            changes.records.push(Arc::new(record));
        }
        changes.transactions = transactions.into_values().collect();
        changes.leases = self.state().leases.keys().map(|lease| (*lease, None)).collect();
        changes.leases.extend(facts.leases.into_iter().map(|(lease, ttl)| (lease, Some(ttl))));
        self.publish(&changes);
    }

    /// Ends all watches and closes the database; the latest state stays readable.
    pub(super) fn close(&self) {
        self.hub.close();
        self.engine.close();
    }
}
