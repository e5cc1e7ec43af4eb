//! A zone into the planners: resolved, checked against what is beside it, and entered in all its fabrics or in none.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use drystone_api::{BareMetalHost, Connection, EndpointGroup, Zone, ZonePhase, ZoneType};
use drystone_engine::{
    harness::{has_finalizer, is_deleted},
    reference::ObjectKey,
};
use kube::ResourceExt as _;

use super::{
    FINALIZER, ZoneReconciler, known_switches, pools,
    program::{Work, work},
    reason::{Problem, Reason},
    resolve::{Holder, Resolution, Surroundings, resolve, zone_id},
    tells_all,
};
use crate::{
    controller::planners::State,
    model::FabricKey,
    plan::zone::{ZonePlan, ZoneRequest},
};

/// A zone that is planned: what to write, and what to say of it.
pub(super) struct Planned {
    pub(super) tag: u32,
    pub(super) resolution: Resolution,
    pub(super) work: Vec<Work>,
    /// Zones that have to be programmed anew because of this one.
    pub(super) disturbed: BTreeSet<ObjectKey>,
    /// Whether the switches ought to have it like this already.
    pub(super) written: bool,
    /// Stands for what is to be written.
    pub(super) mark: u64,
}

impl ZoneReconciler {
    /// Puts the zone into the planners, or says why it cannot be there; then the planners are as before.
    pub(super) fn plan(&self, zone: &Zone) -> Result<Planned, Problem> {
        let mut state = self.planners.lock();
        let id = zone_id(zone);
        let tag = match zone.status.as_ref().and_then(|status| status.tag) {
            Some(tag) => *state.tags.entry(id.clone()).or_insert(tag),
            None => state.tag_of(&id),
        };
        let resolution = self.resolve(&state, zone, tag)?;
        self.check_carried(zone, &resolution)?;
        pools::check(zone, &self.watched)?;
        let disturbed = self.make_room(&mut state, zone, &resolution);
        self.enter(&mut state, &id, &resolution)?;
        let known = known_switches(&state, zone);
        let of = |key: &FabricKey| known.get(&key.id).cloned().unwrap_or_default();
        let mut keys: BTreeSet<FabricKey> = resolution.requests.iter().map(|(key, _)| key.clone()).collect();
        let fabrics = state.fabrics();
        keys.extend(fabrics.iter().map(|(key, _)| (*key).clone()).filter(|key| !of(key).is_empty()));
        let work: Vec<Work> = keys.iter().filter_map(|key| work(&state, key, &id, &of(key))).collect();
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
            excludes: &|key, endpoint| state.excluded_by(key, endpoint),
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
    pub(super) fn load(&self, state: &mut State) {
        let tagged = |zone: &Zone| zone.status.as_ref().and_then(|status| status.tag);
        for zone in self.watched.zones.list() {
            let id = zone_id(&zone);
            // Nothing is done for a zone before it has the finalizer.
            if has_finalizer(zone.as_ref(), FINALIZER) && !tells_all(&zone) {
                state.doubtful.insert(id.clone());
            }
            let Some(tag) = tagged(&zone) else { continue };
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
        let mut before: BTreeMap<FabricKey, Option<ZoneRequest>> = BTreeMap::new();
        for key in state.planned_in(id) {
            let wanted = resolution.requests.iter().any(|(wanted, _)| *wanted == key);
            if let Some(planner) = state.planner_mut(&key).filter(|_| !wanted) {
                let request = planner.zones().get(id).map(|zone| zone.request.clone());
                planner.remove_zone(id);
                before.insert(key, request);
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
}

/// Stands for what is to be written into switches.
fn mark(work: &[Work]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for work in work {
        work.key.hash(&mut hasher);
        for (id, switch) in &work.switches {
            id.hash(&mut hasher);
            if let Some(entry) = &switch.entry {
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
fn undo(state: &mut State, id: &str, before: BTreeMap<FabricKey, Option<ZoneRequest>>) {
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
