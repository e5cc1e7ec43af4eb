//! Zones: resolved, validated, planned, patched into the switches concerned, read back, proven.

mod plan;
mod pools;
mod program;
mod reason;
mod resolve;
mod rules;
mod status;
mod survey;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use drystone_api::{
    AddressPool, BareMetalHost, Connection, EndpointGroup, FabricAgent, IsolationProof, Zone,
    ZoneFabricStatus, ZonePhase, ZoneType,
};
use drystone_engine::{
    events::{EventKind, EventSink},
    harness::{
        Cache, Objects, Reconciler, Requeue, StatusError, add_finalizer, has_finalizer, is_deleted,
        remove_finalizer,
    },
    reference::{ObjectKey, reference_to},
};
use futures::future::join_all;
use kube::{Api, Client, ResourceExt as _};

use super::{
    planners::{Planners, State},
    services::{OpenError, Services},
};
use crate::{
    drivers::DriverError,
    model::{FabricKey, ForwardingTable},
    plan::{entry::ReadTables, proof::prove_zone},
};
use plan::Planned;
use program::{Programmed, Programmer, Work, fabric_status, work};
use reason::{Problem, Reason};

pub(super) use resolve::{digest, sides_of, zone_id, zone_key};

/// Finalizer on every Zone.
const FINALIZER: &str = drystone_api::ZONE_FINALIZER;

/// How often the tables of a finished zone are compared with what they ought to be.
const DRIFT_CHECK: Duration = Duration::from_secs(30);

/// How long to wait for what is missing, if no change announces it.
const RETRY: Duration = Duration::from_secs(5);

/// How long a zone that has to wait for another one's tables pauses.
const SOON: Duration = Duration::from_millis(200);

/// What went wrong in a pass; it is made again.
#[derive(Debug, thiserror::Error)]
pub(super) enum ZoneFailure {
    #[error(transparent)]
    Status(#[from] StatusError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Driver(#[from] DriverError),
    #[error("{doing}: {source}")]
    Api { doing: &'static str, source: kube::Error },
    #[error("FabricAgent {0} of a switch is gone")]
    NoAgent(String),
    #[error("switch {switch} accepted a table and shows another one; look at the switch")]
    NotApplied { switch: String },
}

/// Copies of what zones are resolved against.
#[derive(Clone)]
pub(super) struct Watched {
    pub(super) agents: Cache<FabricAgent>,
    pub(super) hosts: Cache<BareMetalHost>,
    pub(super) zones: Cache<Zone>,
    pub(super) connections: Cache<Connection>,
    pub(super) groups: Cache<EndpointGroup>,
    pub(super) pools: Cache<AddressPool>,
}

impl Watched {
    /// Completes when everything is known; `false` when shut down before.
    pub(super) async fn ready(&self) -> bool {
        self.agents.ready().await
            && self.hosts.ready().await
            && self.zones.ready().await
            && self.connections.ready().await
            && self.groups.ready().await
            && self.pools.ready().await
    }
}

pub(super) struct ZoneReconciler {
    pub(super) client: Client,
    pub(super) services: Services,
    pub(super) watched: Watched,
    pub(super) planners: Planners,
    pub(super) addresses: HostsByAddress,
    /// Held while tables are asked for zones from before the start.
    pub(super) surveying: tokio::sync::Mutex<()>,
    pub(super) events: Arc<dyn EventSink>,
}

/// Whether a zone is not finished.
pub(super) fn is_waiting(zone: &Zone) -> bool {
    zone.status.as_ref().is_none_or(|status| status.phase != ZonePhase::Ready)
}

/// The zones that may be others now that a zone has changed: what contains it, what it contains, and default zones.
pub(super) fn relatives(zone: &Zone, objects: &Objects<Zone>) -> Vec<ObjectKey> {
    let (name, namespace) = (zone.name_any(), zone.namespace());
    objects.keys_where(|other| {
        let neighbours = other.namespace() == namespace
            && (zone.spec.contained_by.contains(&other.name_any())
                || other.spec.contained_by.contains(&name));
        let default = other.spec.kind == ZoneType::Default && zone.spec.kind == ZoneType::ZoneOfEndpoints;
        neighbours || default
    })
}

/// Hosts by the addresses of their interfaces, made anew when hosts change.
#[derive(Default)]
pub(super) struct HostsByAddress(Mutex<(Option<u64>, HashMap<String, ObjectKey>)>);

impl HostsByAddress {
    fn find(&self, hosts: &Cache<BareMetalHost>, mac: &str) -> Option<ObjectKey> {
        let mut index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let version = hosts.version();
        if index.0 != Some(version) {
            index.1.clear();
            for host in hosts.list() {
                let hardware = host.status.as_ref().and_then(|status| status.hardware.as_ref());
                for nic in hardware.iter().flat_map(|hardware| &hardware.nics) {
                    index.1.insert(nic.mac.to_ascii_lowercase(), ObjectKey::of(host.as_ref()));
                }
            }
            index.0 = Some(version);
        }
        index.1.get(mac).cloned()
    }
}

impl Reconciler for ZoneReconciler {
    type Object = Zone;
    type Error = ZoneFailure;

    const NAME: &'static str = "zone";

    async fn reconcile(&self, zone: Arc<Zone>) -> Result<Requeue, ZoneFailure> {
        let api: Api<Zone> = Api::namespaced(self.client.clone(), &zone.namespace().unwrap_or_default());
        if let Err(failure) = self.survey(&zone).await {
            self.tell_hindrance(&api, &zone, Reason::Hindered, &failure.to_string()).await?;
            return Err(failure);
        }
        if is_deleted(zone.as_ref()) {
            return self.remove(&api, &zone).await;
        }
        let zone = add_finalizer(&api, zone.as_ref(), FINALIZER)
            .await
            .map_err(|source| ZoneFailure::Api { doing: "adding the finalizer", source })?;
        let planned = match self.plan(&zone) {
            Ok(planned) => planned,
            Err(problem) => {
                self.report(&api, &zone, &problem).await?;
                return Ok(if problem.passing { Requeue::After(RETRY) } else { Requeue::OnChange });
            }
        };
        let zone = self.note(&api, zone, &planned).await?;
        match self.bring_about(&api, &zone, planned).await {
            Err(failure) => self.hindered(&api, &zone, failure).await,
            done => done,
        }
    }
}

impl ZoneReconciler {
    async fn bring_about(
        &self,
        api: &Api<Zone>,
        zone: &Zone,
        planned: Planned,
    ) -> Result<Requeue, ZoneFailure> {
        let id = zone_id(zone);
        let programmer = Programmer { services: &self.services, agents: &self.watched.agents };
        let mut done: Vec<ZoneFabricStatus> = Vec::new();
        let mut proof = IsolationProof { proven: true, ..Default::default() };
        let mut changed = 0;
        let fabrics = planned.work.iter().map(|work| write_and_show(&programmer, zone, work));
        for (work, result) in planned.work.iter().zip(join_all(fabrics).await) {
            let (programmed, uri) = result?;
            changed += programmed.changed;
            if !remains(work) {
                continue;
            }
            let (checked, counter_example) = self.prove(&work.key, &id, &programmed.tables);
            proof.checked_pairs += checked;
            if let Some(example) = counter_example {
                proof.proven = false;
                proof.counter_example = format!("fabric {}: {example}", work.key.id);
            }
            done.push(fabric_status(work, uri));
        }
        if proof.proven {
            self.planners.lock().written.insert(id, planned.mark);
        }
        self.conclude(api, zone, &planned, done, proof, changed).await
    }

    /// Proves isolation of a zone in a fabric from tables that were read back. `None` for a fabric that is gone.
    fn prove(
        &self,
        key: &FabricKey,
        id: &str,
        tables: &BTreeMap<String, ForwardingTable>,
    ) -> (u64, Option<String>) {
        let state = self.planners.lock();
        let Some(planner) = state.planner(key) else { return (0, None) };
        let Some(zone) = planner.zones().get(id) else { return (0, None) };
        let fabric = planner.fabric();
        let mut read = ReadTables::default();
        for (switch, table) in tables {
            if let Some(switch) = fabric.switch_by_id(switch) {
                read.add(fabric, switch, table);
            }
        }
        let proof = prove_zone(fabric, &zone.request, &planner.neighbours_of(id), &read);
        (proof.checked_pairs, proof.counter_example)
    }

    /// Deletion: out of every switch, then the Zone may go.
    async fn remove(&self, api: &Api<Zone>, zone: &Zone) -> Result<Requeue, ZoneFailure> {
        let id = zone_id(zone);
        if !has_finalizer(zone, FINALIZER) {
            return Ok(Requeue::OnChange);
        }
        let works = {
            let mut state = self.planners.lock();
            for key in state.planned_in(&id) {
                if let Some(planner) = state.planner_mut(&key) {
                    planner.remove_zone(&id);
                }
            }
            let known = known_switches(&state, zone);
            let keys: Vec<FabricKey> = state.fabrics().into_iter().map(|(key, _)| key.clone()).collect();
            let of = |key: &FabricKey| work(&state, key, &id, known.get(&key.id)?);
            keys.iter().filter_map(of).collect::<Vec<_>>()
        };
        let programmer = Programmer { services: &self.services, agents: &self.watched.agents };
        let clear = async |work: &Work| {
            let (programmed, shown) =
                futures::join!(programmer.program(work), programmer.record(work, false, false));
            programmed?;
            shown.map(drop)
        };
        join_all(works.iter().map(clear)).await.into_iter().collect::<Result<(), ZoneFailure>>()?;
        remove_finalizer(api, zone, FINALIZER)
            .await
            .map_err(|source| ZoneFailure::Api { doing: "removing the finalizer", source })?;
        let mut state = self.planners.lock();
        state.tags.remove(&id);
        state.written.remove(&id);
        state.forget_touched(&id);
        drop(state);
        self.events.publish(&reference_to(zone), EventKind::Normal, "Removed", "Out of every switch");
        Ok(Requeue::OnChange)
    }
}

/// Whether the status of a zone tells every switch that may have something of it. If not, its process was killed, or has not
/// finished: it keeps in memory what it has begun, and whoever comes after it asks the tables.
fn tells_all(zone: &Zone) -> bool {
    let observed = zone.status.as_ref().and_then(|status| status.observed_generation);
    observed.is_some() && observed == zone.metadata.generation
}

/// Switches that may have something of a zone, by fabric.
fn known_switches(state: &State, zone: &Zone) -> BTreeMap<String, BTreeSet<String>> {
    let mut known = state.touched(&zone_id(zone));
    for done in zone.status.iter().flat_map(|status| &status.fabrics) {
        known.entry(done.fabric.clone()).or_default().extend(done.switches.iter().cloned());
    }
    known
}

/// Whether a zone has anything in a fabric when the work is done.
fn remains(work: &Work) -> bool {
    work.switches.values().any(|switch| switch.entry.is_some())
}

/// Brings a fabric's switches to what a zone needs, and shows the zone in the trees of the fabric's services: both at once if
/// the zone is another one than before, the latter only after a change of the tables otherwise.
async fn write_and_show(
    programmer: &Programmer<'_>,
    zone: &Zone,
    work: &Work,
) -> Result<(Programmed, String), ZoneFailure> {
    let fabrics = zone.status.iter().flat_map(|status| &status.fabrics);
    let shown = fabrics.filter(|done| done.fabric == work.key.id).find(|done| !done.zone.is_empty());
    let present = remains(work);
    let record = async || programmer.record(work, present, shown.is_some()).await;
    let ready = zone.status.as_ref().is_some_and(|status| status.phase == ZonePhase::Ready);
    let Some(shown) = shown.filter(|_| ready && present && tells_all(zone)) else {
        // Both are brought to their end: what is interrupted in the middle has to be read again.
        let (programmed, uri) = futures::join!(programmer.program(work), record());
        return Ok((programmed?, uri?));
    };
    let programmed = programmer.program(work).await?;
    let uri = if programmed.changed == 0 { shown.zone.clone() } else { record().await? };
    Ok((programmed, uri))
}
