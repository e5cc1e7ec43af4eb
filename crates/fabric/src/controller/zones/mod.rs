//! Zones: resolved, validated, planned, patched into the switches concerned, read back, proven.

mod program;
mod reason;
mod resolve;
mod status;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use drystone_api::{
    BareMetalHost, Connection, EndpointGroup, FabricAgent, IsolationProof, Zone, ZoneFabricStatus, ZonePhase,
    ZoneStatus, ZoneType,
};
use drystone_engine::{
    events::{EventKind, EventSink},
    harness::{
        Cache, Objects, Reconciler, Requeue, StatusError, add_finalizer, has_finalizer, is_deleted,
        remove_finalizer, update_status,
    },
    reference::{ObjectKey, reference_to},
};
use kube::{Api, Client, ResourceExt as _};

use super::{
    planners::{Planners, State},
    services::{OpenError, Services},
};
use crate::{
    drivers::DriverError,
    model::{FabricKey, ForwardingTable},
    plan::zone::ZonePlan,
};
use program::{Programmer, Work, fabric_status, work};
use reason::{Problem, Reason};
use resolve::Holder;
use resolve::{Resolution, Surroundings, resolve};
pub(super) use resolve::{digest, sides_of, zone_id, zone_key};

/// Finalizer on every Zone.
const FINALIZER: &str = "drystone.dev/zone";

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
}

impl Watched {
    /// Completes when everything is known; `false` when shut down before.
    pub(super) async fn ready(&self) -> bool {
        self.agents.ready().await
            && self.hosts.ready().await
            && self.zones.ready().await
            && self.connections.ready().await
            && self.groups.ready().await
    }
}

pub(super) struct ZoneReconciler {
    pub(super) client: Client,
    pub(super) services: Services,
    pub(super) watched: Watched,
    pub(super) planners: Planners,
    pub(super) addresses: HostsByAddress,
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

/// A zone that is planned: what to write, and what to say of it.
struct Planned {
    tag: u32,
    resolution: Resolution,
    work: Vec<Work>,
    /// Zones that have to be programmed anew because of this one.
    disturbed: BTreeSet<ObjectKey>,
    /// Whether the switches ought to have it like this already.
    written: bool,
    /// Stands for what is to be written.
    mark: u64,
}

impl Reconciler for ZoneReconciler {
    type Object = Zone;
    type Error = ZoneFailure;

    const NAME: &'static str = "zone";

    async fn reconcile(&self, zone: Arc<Zone>) -> Result<Requeue, ZoneFailure> {
        let api: Api<Zone> = Api::namespaced(self.client.clone(), &zone.namespace().unwrap_or_default());
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
        self.bring_about(&api, &zone, planned).await
    }
}

impl ZoneReconciler {
    /// Puts the zone into the planners, or says why it cannot be there; then the planners are as before.
    fn plan(&self, zone: &Zone) -> Result<Planned, Problem> {
        let mut state = self.planners.lock();
        self.load(&mut state);
        let id = zone_id(zone);
        let tag = match zone.status.as_ref().and_then(|status| status.tag) {
            Some(tag) => *state.tags.entry(id.clone()).or_insert(tag),
            None => state.tag_of(&id),
        };
        let resolution = self.resolve(&state, zone, tag)?;
        self.check_carried(zone, &resolution)?;
        let disturbed = self.make_room(&mut state, zone, &resolution);
        self.enter(&mut state, &id, &resolution)?;
        let known = |key: &FabricKey| -> BTreeSet<String> {
            let fabrics = zone.status.iter().flat_map(|status| &status.fabrics);
            fabrics.filter(|done| done.fabric == key.id).flat_map(|done| done.switches.clone()).collect()
        };
        let mut keys: BTreeSet<FabricKey> = resolution.requests.iter().map(|(key, _)| key.clone()).collect();
        let fabrics = state.fabrics();
        let touched = fabrics.iter().filter(|(key, _)| !known(key).is_empty()).map(|(key, _)| (*key).clone());
        keys.extend(touched);
        let work: Vec<Work> = keys.iter().filter_map(|key| work(&state, key, &id, &known(key))).collect();
        let mark = mark(&work);
        let written = state.written.get(&id) == Some(&mark);
        Ok(Planned { tag, resolution, work, disturbed, written, mark })
    }

    fn resolve(&self, state: &State, zone: &Zone, tag: u32) -> Result<Resolution, Problem> {
        let namespace = zone.namespace();
        let host = |namespace: &str, name: &str| {
            self.watched.hosts.get(&ObjectKey::new(namespace, name)).map(|host| BareMetalHost::clone(&host))
        };
        let holder = |mac: &str| self.holder(mac);
        let related = zone.spec.kind != ZoneType::ZoneOfEndpoints || !zone.spec.contained_by.is_empty();
        let siblings: Vec<Zone> = match related {
            true => {
                let all = zone.spec.kind == ZoneType::Default;
                let wanted = |other: &Zone| all || other.namespace() == namespace;
                self.watched.zones.list_where(wanted).iter().map(|zone| Zone::clone(zone)).collect()
            }
            false => Vec::new(),
        };
        let (connections, groups) = if zone.spec.default_routing {
            (Vec::new(), Vec::new())
        } else {
            let connections = self.watched.connections.list_where(|other| other.namespace() == namespace);
            let groups = self.watched.groups.list_where(|other| other.namespace() == namespace);
            (
                connections
                    .iter()
                    .filter(|c| !is_deleted(c.as_ref()))
                    .map(|c| Connection::clone(c))
                    .collect(),
                groups.iter().map(|group| EndpointGroup::clone(group)).collect(),
            )
        };
        let around = Surroundings {
            fabrics: state.fabrics(),
            host: &host,
            holder: &holder,
            zones: &siblings,
            connections: &connections,
            groups: &groups,
        };
        resolve(zone, tag, &around)
    }

    /// A zone that a container carries is Ready when the container has its members.
    fn check_carried(&self, zone: &Zone, resolution: &Resolution) -> Result<(), Problem> {
        let namespace = zone.namespace().unwrap_or_default();
        for name in &resolution.carried_by {
            let container = self.watched.zones.get(&ObjectKey::new(&namespace, name));
            let status = container.as_ref().and_then(|container| container.status.as_ref());
            let ready = status.is_some_and(|status| {
                let has = |wanted: &drystone_api::ZoneMemberStatus| {
                    status.members.iter().any(|member| {
                        (&member.fabric, &member.endpoint) == (&wanted.fabric, &wanted.endpoint)
                    })
                };
                status.phase == ZonePhase::Ready && resolution.members.iter().all(has)
            });
            if !ready {
                let what = format!("zone {name}, which carries this one, does not have its members yet");
                return Err(Problem::waiting(Reason::Waiting, "spec.containedBy", &what));
            }
        }
        Ok(())
    }

    /// Who locked the host that has an address.
    fn holder(&self, mac: &str) -> Option<Holder> {
        let host = self.watched.hosts.get(&self.addresses.find(&self.watched.hosts, mac)?)?;
        Some(Holder { host: host.name_any(), consumer: host.spec.consumer_ref.clone()? })
    }

    /// Puts the zones that were programmed before the start into the planners, so that of two that want the same endpoint the
    /// one that was there first stays.
    fn load(&self, state: &mut State) {
        if state.loaded {
            return;
        }
        state.loaded = true;
        let tagged = |zone: &Zone| zone.status.as_ref().and_then(|status| status.tag);
        for zone in self.watched.zones.list_where(|zone| tagged(zone).is_some()) {
            let (id, Some(tag)) = (zone_id(&zone), tagged(&zone)) else { continue };
            state.tags.insert(id.clone(), tag);
            let programmed = zone.status.as_ref().is_some_and(|status| !status.fabrics.is_empty());
            if programmed && let Ok(resolution) = self.resolve(state, &zone, tag) {
                // What does not fit says so when it is reconciled.
                let _ = self.enter(state, &id, &resolution);
            }
        }
    }

    /// Sets the zone in the planner of each of its fabrics; all or none.
    fn enter(&self, state: &mut State, id: &str, resolution: &Resolution) -> Result<(), Problem> {
        let mut before: BTreeMap<FabricKey, Option<crate::plan::zone::ZoneRequest>> = BTreeMap::new();
        for key in state.planned_in(id) {
            if resolution.requests.iter().all(|(wanted, _)| *wanted != key) {
                if let Some(planner) = state.planner_mut(&key) {
                    let request = planner.zones().get(id).map(|zone| zone.request.clone());
                    planner.remove_zone(id);
                    before.insert(key, request);
                }
            }
        }
        for (key, request) in &resolution.requests {
            let Some(planner) = state.planner_mut(key) else { continue };
            let former = planner.zones().get(id).map(|zone| zone.request.clone());
            match planner.set_zone(request.clone()).map(drop::<ZonePlan>) {
                Ok(()) => {
                    before.insert(key.clone(), former);
                }
                Err(error) => {
                    undo(state, id, before);
                    return Err(Problem::of(&error));
                }
            }
        }
        Ok(())
    }

    /// Default zones give up what this zone lists; they have to be programmed anew.
    fn make_room(&self, state: &mut State, zone: &Zone, resolution: &Resolution) -> BTreeSet<ObjectKey> {
        let mut disturbed = BTreeSet::new();
        if zone.spec.kind == ZoneType::Default {
            return disturbed;
        }
        for other in self.watched.zones.list_where(|other| other.spec.kind == ZoneType::Default) {
            let id = zone_id(&other);
            for (key, request) in &resolution.requests {
                let Some(planner) = state.planner_mut(key) else { continue };
                let Some(mut smaller) = planner.zones().get(&id).map(|zone| zone.request.clone()) else {
                    continue;
                };
                let before = smaller.members.len();
                let taken = |at: &u32| request.members.contains(at) && !request.gateways.contains(at);
                smaller.members.retain(|at| !taken(at));
                if smaller.members.len() == before {
                    continue;
                }
                if let Err(error) = planner.set_zone(smaller) {
                    tracing::warn!(zone = id, "the default zone cannot shrink: {error}");
                }
                disturbed.insert(ObjectKey::of(other.as_ref()));
            }
        }
        disturbed
    }

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
        for work in &planned.work {
            let programmed = programmer.program(work).await?;
            let remains = work.switches.values().any(|switch| switch.entry.is_some());
            let uri = self.show(&programmer, zone, work, remains, programmed.changed).await?;
            changed += programmed.changed;
            if !remains {
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

    /// Shows the zone in the services' own trees, unless nothing has changed since it was shown.
    async fn show(
        &self,
        programmer: &Programmer<'_>,
        zone: &Zone,
        work: &Work,
        present: bool,
        changed: usize,
    ) -> Result<String, ZoneFailure> {
        let fabrics = zone.status.iter().flat_map(|status| &status.fabrics);
        let shown = fabrics.filter(|done| done.fabric == work.key.id).find(|done| !done.zone.is_empty());
        let current = zone.status.as_ref().is_some_and(|status| {
            status.phase == ZonePhase::Ready && status.observed_generation == zone.metadata.generation
        });
        match shown {
            Some(shown) if current && changed == 0 && present => Ok(shown.zone.clone()),
            _ => programmer.record(work, present).await,
        }
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
        let all: Vec<_> = planner.zones().values().map(|zone| zone.request.clone()).collect();
        let by_index = tables
            .iter()
            .filter_map(|(switch, table)| Some((fabric.switch_by_id(switch)?, table.clone())))
            .collect();
        let proof = crate::plan::proof::prove(fabric, &zone.request, &all, &by_index);
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
            self.load(&mut state);
            for key in state.planned_in(&id) {
                if let Some(planner) = state.planner_mut(&key) {
                    planner.remove_zone(&id);
                }
            }
            let status = zone.status.clone().unwrap_or_default();
            let fabrics = state.fabrics();
            let keys = fabrics.iter().map(|(key, _)| (*key).clone());
            let of = |key: FabricKey| {
                let done = status.fabrics.iter().find(|done| done.fabric == key.id)?;
                work(&state, &key, &id, &done.switches.iter().cloned().collect())
            };
            keys.filter_map(of).collect::<Vec<_>>()
        };
        let programmer = Programmer { services: &self.services, agents: &self.watched.agents };
        for work in &works {
            programmer.program(work).await?;
            programmer.record(work, false).await?;
        }
        remove_finalizer(api, zone, FINALIZER)
            .await
            .map_err(|source| ZoneFailure::Api { doing: "removing the finalizer", source })?;
        let mut state = self.planners.lock();
        state.tags.remove(&id);
        state.written.remove(&id);
        drop(state);
        self.events.publish(&reference_to(zone), EventKind::Normal, "Removed", "Out of every switch");
        Ok(Requeue::OnChange)
    }
}

/// Stands for what is to be written into switches.
fn mark(work: &[Work]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for work in work {
        work.key.hash(&mut hasher);
        for (id, switch) in &work.switches {
            id.hash(&mut hasher);
            for entry in &switch.entry {
                (entry.tag, &entry.flood_ports).hash(&mut hasher);
                for (mac, member) in &entry.members {
                    (mac, &member.port, member.shared, &member.peers).hash(&mut hasher);
                }
            }
        }
    }
    hasher.finish()
}

/// Puts a zone back to what it was in each fabric.
fn undo(state: &mut State, id: &str, before: BTreeMap<FabricKey, Option<crate::plan::zone::ZoneRequest>>) {
    for (key, former) in before {
        let Some(planner) = state.planner_mut(&key) else { continue };
        match former {
            Some(request) => {
                if let Err(error) = planner.set_zone(request) {
                    tracing::warn!(zone = id, "the former zone does not fit any more: {error}");
                }
            }
            None => {
                planner.remove_zone(id);
            }
        }
    }
}
