//! A fabric with all its zones, kept current: what changes is computed, and nothing else.
//!
//! The plan of a zone depends on the fabric, its own request and the requests that it shares endpoints with, never on the order
//! in which things happened: [`Planner::afresh`] computes the same from nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    entry::{Egress, ZoneEntry},
    routes::{Routes, SwitchSet, switch_tables::near, tree::SpanningTree},
    zone::{ZoneError, ZonePlan, ZoneRequest, compatible, plan},
};
use crate::model::{EndpointIndex, EndpointSpec, Fabric, FabricError, LinkIndex, SwitchIndex};

/// A zone with its plan, or why there is none at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedZone {
    /// The zone.
    pub request: ZoneRequest,
    /// Its plan. An error appears when the fabric changes such that the zone cannot be carried out any more.
    pub plan: Result<ZonePlan, ZoneError>,
}

/// Something that happens to a fabric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FabricChange {
    /// A cable works or fails.
    Link {
        /// Either of its directions.
        link: LinkIndex,
        /// Whether it works.
        up: bool,
    },
    /// A switch forwards or fails.
    Switch {
        /// The switch.
        switch: SwitchIndex,
        /// Whether it forwards.
        up: bool,
    },
    /// An endpoint appears, moves or changes.
    Endpoint(EndpointSpec),
    /// An endpoint vanishes.
    EndpointGone(EndpointIndex),
}

/// The state.
#[derive(Debug, Clone)]
pub struct Planner {
    fabric: Fabric,
    routes: Routes,
    tree: SpanningTree,
    zones: BTreeMap<String, PlannedZone>,
    /// Zones of each endpoint.
    zones_of: HashMap<EndpointIndex, BTreeSet<String>>,
}

impl Planner {
    /// A planner for a fabric without zones. Full routes are computed by so many threads.
    pub fn new(fabric: Fabric, threads: usize) -> Self {
        let (routes, tree) = (Routes::full(&fabric, threads), SpanningTree::new(&fabric, None));
        Self { fabric, routes, tree, zones: BTreeMap::new(), zones_of: HashMap::new() }
    }

    /// The same fabric and zones with everything computed from nothing.
    pub fn afresh(&self, threads: usize) -> Self {
        let mut fresh = Self::new(self.fabric.clone(), threads);
        fresh.zones_of.clone_from(&self.zones_of);
        fresh.zones.clone_from(&self.zones);
        let ids: Vec<String> = self.zones.keys().cloned().collect();
        for id in ids {
            fresh.replan(&id);
        }
        fresh
    }

    /// The fabric.
    pub fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    /// Routes between all switches.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// All zones by id.
    pub fn zones(&self) -> &BTreeMap<String, PlannedZone> {
        &self.zones
    }

    /// The zones that share a member with a zone.
    pub fn neighbours_of(&self, id: &str) -> Vec<ZoneRequest> {
        let Some(zone) = self.zones.get(id) else { return Vec::new() };
        self.neighbours(&zone.request).iter().map(|id| self.zones[id].request.clone()).collect()
    }

    /// Creates a zone or replaces it. Refused, nothing changes. Returns the plan that was in force before, so that
    /// [`ZonePlan::difference`] tells which switches to patch.
    pub fn set_zone(&mut self, request: ZoneRequest) -> Result<ZonePlan, ZoneError> {
        let neighbours = self.neighbours(&request);
        for id in &neighbours {
            compatible(&self.fabric, &request, &self.zones[id].request)?;
        }
        let planned = plan(&self.fabric, &request, Some(&self.routes), &self.tree)?;
        let own_tree =
            |id: &String| self.zones[id].plan.as_ref().is_ok_and(|plan| plan.own_tree) || planned.own_tree;
        if let Some(other) = neighbours.iter().find(|id| own_tree(id)) {
            return Err(self.tree_conflict(&request, other));
        }
        let id = request.id.clone();
        self.index(&id, &request.members);
        let zone = PlannedZone { request, plan: Ok(planned) };
        let before = self.zones.insert(id, zone).and_then(|zone| zone.plan.ok()).unwrap_or_default();
        // What the zone no longer shares may have stood in the way of a neighbour.
        self.retry_failed();
        Ok(before)
    }

    /// Removes a zone. Returns the plan that was in force; `None` if there is no such zone.
    pub fn remove_zone(&mut self, id: &str) -> Option<ZonePlan> {
        self.index(id, &BTreeSet::new());
        let zone = self.zones.remove(id)?;
        self.retry_failed();
        Some(zone.plan.unwrap_or_default())
    }

    /// Brings everything up to date after a change of the fabric. Returns the plans that were in force before of the zones
    /// whose plan is another one now.
    pub fn apply(
        &mut self,
        change: FabricChange,
    ) -> Result<BTreeMap<String, Result<ZonePlan, ZoneError>>, FabricError> {
        let affected = match change {
            FabricChange::Link { link, up } => {
                let changed = if self.fabric.set_link(link, up) { vec![link] } else { Vec::new() };
                self.rerouted(&changed)
            }
            FabricChange::Switch { switch, up } => {
                let changed = self.fabric.set_switch(switch, up);
                self.rerouted(&changed)
            }
            FabricChange::Endpoint(spec) => {
                let index = self.fabric.put_endpoint(spec)?;
                self.zones_of.get(&index).cloned().unwrap_or_default()
            }
            FabricChange::EndpointGone(index) => {
                self.fabric.remove_endpoint(index);
                self.zones_of.get(&index).cloned().unwrap_or_default()
            }
        };
        Ok(self.replan_all(affected))
    }

    /// Takes over what a new crawl saw of the fabric; returns as [`Planner::apply`] does. When there are new cables or
    /// switches, everything is computed anew and every zone is returned, for their plans count links in another way.
    pub fn adopt(&mut self, seen: &Fabric, threads: usize) -> BTreeMap<String, Result<ZonePlan, ZoneError>> {
        let adoption = self.fabric.adopt(seen);
        if adoption.cabling {
            self.routes = Routes::full(&self.fabric, threads);
            self.tree = SpanningTree::new(&self.fabric, None);
            let before = self.zones.iter().map(|(id, zone)| (id.clone(), zone.plan.clone())).collect();
            self.replan_all(self.zones.keys().cloned().collect());
            return before;
        }
        let moved = adoption.endpoints.iter().filter_map(|index| self.zones_of.get(index)).flatten().cloned();
        let moved: BTreeSet<String> = moved.collect();
        let mut affected = self.rerouted(&adoption.links);
        affected.extend(moved);
        self.replan_all(affected)
    }

    /// Plans some zones again, and those without a plan. Returns the former plans of those whose plan is another one now.
    fn replan_all(&mut self, affected: BTreeSet<String>) -> BTreeMap<String, Result<ZonePlan, ZoneError>> {
        let failed = self.zones.iter().filter(|(_, zone)| zone.plan.is_err()).map(|(id, _)| id.clone());
        let affected: BTreeSet<String> = failed.chain(affected).collect();
        affected.into_iter().filter_map(|id| self.replan(&id).map(|before| (id, before))).collect()
    }

    /// Routes and tree after links changed; the zones that this can concern.
    fn rerouted(&mut self, changed: &[LinkIndex]) -> BTreeSet<String> {
        if changed.is_empty() {
            return BTreeSet::new();
        }
        let differences = self.routes.update(&self.fabric, changed);
        let tree = SpanningTree::new(&self.fabric, None);
        let moved: SwitchSet = self.tree.moved(&tree).collect();
        self.tree = tree;
        let ends = changed.iter().filter_map(|link| self.fabric.ends_of(*link));
        let ends: SwitchSet = ends.flat_map(|(a, b)| [a, b]).collect();
        let near = near(&self.fabric, &differences);
        // A walk meets only choices that its zone's entries show. If none of them is made otherwise now, it is the same walk.
        let chosen_anew = |entry: &ZoneEntry, index: EndpointIndex, egress: Egress| {
            let Some(endpoint) = self.fabric.endpoint(index) else { return true };
            let home = endpoint.switch;
            let touched = ends.contains(entry.switch)
                || near.get(&home).is_some_and(|switches| switches.contains(entry.switch));
            touched && home != entry.switch && {
                let way = self.routes.way(&self.fabric, entry.switch, home, endpoint.flow);
                way.map(Egress::link) != Some(egress)
            }
        };
        let concerned = |zone: &PlannedZone| {
            let (Ok(plan), None) = (&zone.plan, &zone.request.involved) else { return true };
            plan.entries.iter().any(|entry| {
                moved.contains(entry.switch)
                    || entry.members.iter().any(|(index, egress)| chosen_anew(entry, *index, *egress))
            })
        };
        self.zones.iter().filter(|(_, zone)| concerned(zone)).map(|(id, _)| id.clone()).collect()
    }

    /// Computes a zone again. Returns the former plan if the new one differs.
    fn replan(&mut self, id: &str) -> Option<Result<ZonePlan, ZoneError>> {
        let request = &self.zones.get(id)?.request;
        let mut fresh = plan(&self.fabric, request, Some(&self.routes), &self.tree);
        if fresh.as_ref().is_ok_and(|plan| plan.own_tree)
            && let Some(other) = self.neighbours(request).first()
        {
            fresh = Err(self.tree_conflict(request, other));
        }
        let zone = self.zones.get_mut(id)?;
        let before = std::mem::replace(&mut zone.plan, fresh);
        (before != zone.plan).then_some(before)
    }

    fn retry_failed(&mut self) {
        let failed = self.zones.iter().filter(|(_, zone)| zone.plan.is_err()).map(|(id, _)| id.clone());
        let failed: Vec<String> = failed.collect();
        for id in failed {
            self.replan(&id);
        }
    }

    /// Other zones that have a member in common.
    fn neighbours(&self, request: &ZoneRequest) -> BTreeSet<String> {
        let zones = request.members.iter().filter_map(|index| self.zones_of.get(index)).flatten();
        zones.filter(|id| **id != request.id).cloned().collect()
    }

    fn tree_conflict(&self, request: &ZoneRequest, other: &str) -> ZoneError {
        let theirs = &self.zones[other].request.members;
        let shared = request.members.intersection(theirs).next().copied().unwrap_or_default();
        ZoneError::OwnTree { endpoint: self.fabric.endpoint_name(shared).to_owned(), other: other.to_owned() }
    }

    /// Notes the members of a zone.
    fn index(&mut self, id: &str, members: &BTreeSet<EndpointIndex>) {
        if let Some(known) = self.zones.get(id) {
            for index in known.request.members.difference(members) {
                if let Some(zones) = self.zones_of.get_mut(index) {
                    zones.remove(id);
                }
            }
        }
        for index in members {
            self.zones_of.entry(*index).or_default().insert(id.to_owned());
        }
    }
}
