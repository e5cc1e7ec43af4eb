//! Entries in switches' tables of zones that nobody knows: somebody else's, or left behind. They carry frames that no zone allows,
//! and stand in the way of zones with the same members. Where the tables are Drystone's alone they are removed; elsewhere they
//! are reported, for their owner to deal with.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use drystone_api::{
    FabricAgent, FabricAgentStatus, Switch, TableOwnership, Zone, condition, is_true, set_condition,
};
use drystone_engine::{
    events::{EventKind, EventSink},
    harness::{Cache, StatusError, update_status},
    reference::{ObjectKey, reference_to},
};
use futures::{StreamExt as _, stream};
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client, ResourceExt as _};

use super::{
    planners::Planners,
    services::{OpenError, Services},
    zones::zone_key,
};
use crate::drivers::{DriverError, FabricService, ZoneEntry};

/// How often the tables are looked through.
const EVERY: Duration = Duration::from_secs(300);
/// How soon after an agent has changed: it was crawled, or its policy is another one.
const SOON: Duration = Duration::from_millis(500);
/// Tables that are looked at at one time.
const AT_ONCE: usize = 16;
/// Most switches that a report names.
const MOST_NAMED: usize = 8;
/// Condition of an agent: its tables have nothing of nobody.
const CONDITION: &str = "TablesClean";

/// Why an agent's tables could not be looked through.
#[derive(Debug, thiserror::Error)]
enum StrayError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Driver(#[from] DriverError),
    #[error(transparent)]
    Status(#[from] StatusError),
}

/// Looks through tables.
pub(super) struct Strays {
    pub(super) client: Client,
    pub(super) services: Services,
    pub(super) agents: Cache<FabricAgent>,
    pub(super) switches: Cache<Switch>,
    pub(super) zones: Cache<Zone>,
    pub(super) planners: Planners,
    pub(super) events: Arc<dyn EventSink>,
}

/// Ids of zones by switch: fabric, and id.
type Found = BTreeMap<(String, String), BTreeSet<String>>;

impl Strays {
    /// Looks through all tables again and again.
    pub(super) async fn run(self) {
        let mut changes = std::pin::pin!(self.agents.changes());
        let mut looked: BTreeMap<ObjectKey, (TableOwnership, bool)> = BTreeMap::new();
        let mut due = tokio::time::Instant::now();
        loop {
            let all = tokio::time::Instant::now() >= due;
            if all {
                due = tokio::time::Instant::now() + EVERY;
            }
            for agent in self.agents.list() {
                let ready = agent.status.as_ref().is_some_and(|status| is_true(&status.conditions, "Ready"));
                let now = (agent.spec.tables, ready);
                let before = looked.insert(ObjectKey::of(agent.as_ref()), now);
                if ready && (all || before != Some(now)) {
                    self.look_through(&agent).await;
                }
            }
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                change = changes.next() => {
                    if change.is_none() {
                        return;
                    }
                    tokio::time::sleep(SOON).await;
                }
            }
        }
    }

    async fn look_through(&self, agent: &FabricAgent) {
        if let Err(error) = self.check(agent).await {
            // Looked at again later; that the agent does not answer is told by its own controller.
            tracing::debug!(agent = agent.name_any(), %error, "tables not looked through");
        }
    }

    async fn check(&self, agent: &FabricAgent) -> Result<(), StrayError> {
        let service = self.services.of(agent).await?;
        let found = self.find(agent, service.as_ref()).await?;
        let exclusive = agent.spec.tables == TableOwnership::Exclusive;
        if exclusive {
            for ((fabric, switch), zones) in &found {
                for zone in zones {
                    // One of that name may have been declared since the tables were read.
                    if self.strangers(BTreeSet::from([zone.clone()])).is_empty() {
                        continue;
                    }
                    remove(service.as_ref(), fabric, switch, zone).await?;
                }
            }
        }
        let (clean, reason) = match (found.is_empty(), exclusive) {
            (true, _) => (true, "Clean"),
            (false, true) => (true, "Removed"),
            (false, false) => (false, "StrayEntries"),
        };
        let message = if found.is_empty() { String::new() } else { told(&found) };
        self.tell(agent, clean, reason, &message).await
    }

    /// Zones in the tables of an agent's switches that are neither declared nor being removed.
    async fn find(&self, agent: &FabricAgent, service: &dyn FabricService) -> Result<Found, StrayError> {
        let own = self.switches.list_where(|switch| {
            switch.spec.agent == agent.name_any() && switch.namespace() == agent.namespace()
        });
        let read = async |switch: &Arc<Switch>| {
            let (fabric, id) = (switch.spec.fabric.clone(), switch.spec.id.clone());
            let zones = service.zones_in(&fabric, &id).await?;
            Ok::<_, DriverError>(((fabric, id), zones))
        };
        let reads: Vec<_> = own.iter().map(read).collect();
        let tables: Vec<_> = stream::iter(reads).buffer_unordered(AT_ONCE).collect().await;
        let mut found = Found::new();
        for table in tables {
            let (switch, zones) = table?;
            let strays = self.strangers(zones);
            if !strays.is_empty() {
                found.insert(switch, strays);
            }
        }
        Ok(found)
    }

    fn strangers(&self, zones: BTreeSet<String>) -> BTreeSet<String> {
        let state = self.planners.lock();
        // A zone has a tag from before it is written into any table until it is out of all of them.
        let known = |id: &String| state.tags.contains_key(id) || self.zones.get(&zone_key(id)).is_some();
        zones.into_iter().filter(|id| !known(id)).collect()
    }

    async fn tell(
        &self,
        agent: &FabricAgent,
        clean: bool,
        reason: &str,
        message: &str,
    ) -> Result<(), StrayError> {
        let conditions = agent.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let known = conditions.iter().find(|known| known.type_ == CONDITION);
        let same = known.is_some_and(|known| known.reason == reason && known.message == message);
        if same || (known.is_none() && reason == "Clean") {
            return Ok(());
        }
        let api: Api<FabricAgent> =
            Api::namespaced(self.client.clone(), &agent.namespace().unwrap_or_default());
        update_status(&api, agent, |status: &mut FabricAgentStatus| {
            set_condition(
                &mut status.conditions,
                condition(CONDITION, clean, reason, message),
                Timestamp::now(),
            );
        })
        .await?;
        let subject = reference_to(agent);
        match reason {
            "Removed" => {
                let note = format!("Removed from the tables what no zone is for: {message}");
                self.events.publish(&subject, EventKind::Warning, "StrayEntriesRemoved", &note);
            }
            "StrayEntries" => {
                let note = format!("In the tables is what no zone is for: {message}");
                self.events.publish(&subject, EventKind::Warning, "StrayEntries", &note);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Takes a zone of nobody out of a table.
async fn remove(
    service: &dyn FabricService,
    fabric: &str,
    switch: &str,
    zone: &str,
) -> Result<(), DriverError> {
    let beside = BTreeSet::new();
    service.program_zone(ZoneEntry { fabric, switch, zone, entry: None, beside: &beside }).await?;
    Ok(())
}

/// Which zones are in the tables of which switches.
fn told(found: &Found) -> String {
    let zones: BTreeSet<&String> = found.values().flatten().collect();
    let named = |((_, switch), zones): (&(String, String), &BTreeSet<String>)| {
        let zones: Vec<&str> = zones.iter().map(String::as_str).take(MOST_NAMED).collect();
        format!("{switch}: {}", zones.join(", "))
    };
    let some: Vec<String> = found.iter().take(MOST_NAMED).map(named).collect();
    let more = if found.len() > MOST_NAMED { "; …" } else { "" };
    format!("{} zones on {} switches ({}{more})", zones.len(), found.len(), some.join("; "))
}
