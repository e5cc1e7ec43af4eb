//! The planners of all fabrics, kept current with the Switch objects.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use drystone_api::Switch;
use drystone_engine::{harness::Cache, reference::ObjectKey};
use futures::{Stream, StreamExt as _};

use super::zones::zone_key;
use crate::{
    model::{Fabric, FabricKey, by_fabric, merge},
    plan::planner::Planner,
};

/// Threads that compute full routes.
const THREADS: usize = 2;

/// How long changes of the fabric are gathered.
const TOGETHER: Duration = Duration::from_millis(20);

/// Planners by fabric, and what is known of zones beside them.
#[derive(Clone)]
pub(super) struct Planners {
    switches: Cache<Switch>,
    state: Arc<Mutex<State>>,
}

/// What is behind the lock.
#[derive(Default)]
pub(super) struct State {
    version: Option<u64>,
    fabrics: BTreeMap<FabricKey, Planner>,
    /// Endpoints that exclude others, with those.
    excludes: BTreeMap<(FabricKey, String), Vec<String>>,
    /// Tags by zone id.
    pub(super) tags: BTreeMap<String, u32>,
    /// Stands for what was last written into switches for a zone, by its id: other tables than these are drift.
    pub(super) written: BTreeMap<String, u64>,
    /// Zones whose plans have changed with the fabric, by id.
    replanned: BTreeSet<String>,
    /// Switches that may have something of a zone, although its status may not say so yet: by id of the zone and of the fabric.
    touched: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
    /// Zones from before the start whose status may not say everything, by id: the tables are asked first.
    pub(super) doubtful: BTreeSet<String>,
    /// Whether the tables have been asked, all or some of them.
    pub(super) asked: bool,
}

impl State {
    /// The fabrics.
    pub(super) fn fabrics(&self) -> Vec<(&FabricKey, &Fabric)> {
        self.fabrics.iter().map(|(key, planner)| (key, planner.fabric())).collect()
    }

    /// Endpoints that may not be in a zone while an endpoint is (Redfish `MutuallyExclusiveEndpoints`).
    pub(super) fn excluded_by(&self, key: &FabricKey, endpoint: &str) -> Vec<String> {
        self.excludes.get(&(key.clone(), endpoint.to_owned())).cloned().unwrap_or_default()
    }

    /// Notes that switches of a fabric may have something of a zone from now on.
    pub(super) fn touch(&mut self, zone: &str, fabric: &str, switches: impl IntoIterator<Item = String>) {
        let fabrics = self.touched.entry(zone.to_owned()).or_default();
        fabrics.entry(fabric.to_owned()).or_default().extend(switches);
    }

    /// The switches that may have something of a zone beside those that its status tells, by fabric.
    pub(super) fn touched(&self, zone: &str) -> BTreeMap<String, BTreeSet<String>> {
        self.touched.get(zone).cloned().unwrap_or_default()
    }

    /// The status of the zone says everything now, or there is nothing to say.
    pub(super) fn forget_touched(&mut self, zone: &str) {
        self.touched.remove(zone);
    }

    /// The planner of a fabric.
    pub(super) fn planner(&self, key: &FabricKey) -> Option<&Planner> {
        self.fabrics.get(key)
    }

    /// The planner of a fabric, to be changed.
    pub(super) fn planner_mut(&mut self, key: &FabricKey) -> Option<&mut Planner> {
        self.fabrics.get_mut(key)
    }

    /// Fabrics in which a zone is planned.
    pub(super) fn planned_in(&self, zone: &str) -> Vec<FabricKey> {
        let has = |planner: &Planner| planner.zones().contains_key(zone);
        self.fabrics.iter().filter(|(_, planner)| has(planner)).map(|(key, _)| key.clone()).collect()
    }

    /// The zone's tag, or the smallest that no zone has.
    pub(super) fn tag_of(&mut self, zone: &str) -> u32 {
        if let Some(tag) = self.tags.get(zone) {
            return *tag;
        }
        let used: BTreeSet<u32> = self.tags.values().copied().collect();
        let tag = crate::plan::zone::free_tag(&used);
        self.tags.insert(zone.to_owned(), tag);
        tag
    }
}

impl Planners {
    pub(super) fn new(switches: Cache<Switch>) -> Self {
        Self { switches, state: Arc::default() }
    }

    /// The zones whose plans change with the fabric from now on. Changes that come together are taken together.
    pub(super) fn replanned(&self) -> impl Stream<Item = ObjectKey> + Send + use<> {
        let changes = Box::pin(self.switches.changes());
        let state = (self.clone(), changes, Vec::new());
        futures::stream::unfold(
            state,
            |(planners, mut changes, mut keys): (Self, _, Vec<ObjectKey>)| async move {
                while keys.is_empty() {
                    changes.next().await?;
                    tokio::time::sleep(TOGETHER).await;
                    let ids = std::mem::take(&mut planners.lock().replanned);
                    keys = ids.iter().map(|id| zone_key(id)).collect();
                }
                Some((keys.pop()?, (planners, changes, keys)))
            },
        )
    }

    /// The state, as current as the Switch objects.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let version = self.switches.version();
        if state.version != Some(version) {
            let switches = self.switches.list();
            sync(&mut state, switches.iter().map(AsRef::as_ref));
            state.version = Some(version);
        }
        state
    }
}

fn sync<'a>(state: &mut State, switches: impl Iterator<Item = &'a Switch>) {
    let now = by_fabric(switches);
    state.fabrics.retain(|key, _| now.contains_key(key));
    state.excludes.clear();
    for (key, switches) in now {
        for endpoint in switches.iter().filter_map(|switch| switch.status.as_ref()).flat_map(|s| &s.endpoints)
        {
            if !endpoint.excludes.is_empty() {
                state.excludes.insert((key.clone(), endpoint.id.clone()), endpoint.excludes.clone());
            }
        }
        let seen = merge(&switches);
        match state.fabrics.get_mut(&key) {
            Some(planner) => state.replanned.extend(planner.adopt(&seen, THREADS).into_keys()),
            None => drop(state.fabrics.insert(key, Planner::new(seen, THREADS))),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::zone::ZoneRequest;
    use drystone_api::{SwitchEndpoint, SwitchLink, SwitchSpec, SwitchState, SwitchStatus};

    use super::*;

    fn switch(id: &str, peers: &[(&str, bool)], endpoints: &[&str]) -> Switch {
        let spec = SwitchSpec { id: id.into(), fabric: "F".into(), agent: "a".into(), ..Default::default() };
        let mut switch = Switch::new(id, spec);
        let link = |(peer, down): &(&str, bool)| SwitchLink {
            port: format!("to-{peer}"),
            peer_switch: (*peer).into(),
            peer_port: format!("to-{id}"),
            speed_gbps: 100,
            down: *down,
        };
        let endpoint = |name: &&str| SwitchEndpoint {
            id: (*name).into(),
            mac: format!("02:00:00:00:00:{name}"),
            port: format!("p{name}"),
            ..Default::default()
        };
        switch.status = Some(SwitchStatus {
            links: peers.iter().map(link).collect(),
            endpoints: endpoints.iter().map(endpoint).collect(),
            ..Default::default()
        });
        switch
    }

    fn ring(broken: bool) -> Vec<Switch> {
        vec![
            switch("a", &[("b", broken), ("c", false)], &["01"]),
            switch("b", &[("a", false), ("c", false)], &["02"]),
            switch("c", &[("a", false), ("b", false)], &["03"]),
        ]
    }

    fn zone() -> ZoneRequest {
        ZoneRequest { id: "z".into(), tag: 1, members: BTreeSet::from([0, 1]), ..Default::default() }
    }

    fn state_with_zone() -> (State, FabricKey) {
        let mut state = State::default();
        sync(&mut state, ring(false).iter());
        let key = FabricKey { id: "F".into(), uuid: String::new() };
        state.planner_mut(&key).expect("known").set_zone(zone()).expect("free");
        (state, key)
    }

    #[test]
    fn what_changes_piece_by_piece_is_the_same_as_computed_afresh() {
        let (mut state, key) = state_with_zone();
        let mut later = ring(true);
        later[2].status.as_mut().expect("set").endpoints.clear();
        later[1].status.as_mut().expect("set").endpoints[0].port = "elsewhere".into();
        sync(&mut state, later.iter());
        let planner = state.planner(&key).expect("known");
        let fresh = planner.afresh(1);
        let plan = |planner: &Planner| {
            let zone = &planner.zones()["z"];
            let plan = zone.plan.as_ref().expect("connected");
            let tables = plan.entries.iter().map(|entry| {
                let table = crate::plan::zone::render(planner.fabric(), &zone.request, entry);
                (planner.fabric().switch(entry.switch).id.to_string(), table)
            });
            tables.collect::<BTreeMap<_, _>>()
        };
        assert_eq!(plan(planner), plan(&fresh));
        assert!(plan(planner).contains_key("c"), "the way is over c now");
        assert!(state.replanned.contains("z"));
    }

    #[test]
    fn a_switch_that_is_down_carries_nothing() {
        let (mut state, key) = state_with_zone();
        let mut later = ring(false);
        later[1].status.as_mut().expect("set").state = SwitchState::Down;
        sync(&mut state, later.iter());
        assert!(state.planner(&key).expect("known").zones()["z"].plan.is_err());
        sync(&mut state, ring(false).iter());
        assert!(state.planner(&key).expect("known").zones()["z"].plan.is_ok());
    }

    #[test]
    fn a_new_switch_keeps_the_zones() {
        let (mut state, key) = state_with_zone();
        let mut later = ring(false);
        later.insert(0, switch("0", &[], &["04"]));
        sync(&mut state, later.iter());
        let planner = state.planner(&key).expect("known");
        let request = &planner.zones()["z"].request;
        let names: Vec<_> = request.members.iter().map(|at| planner.fabric().endpoint_name(*at)).collect();
        assert_eq!(names.iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from(["01", "02"]));
        assert!(state.planned_in("z").contains(&key));
    }

    #[test]
    fn tags_are_given_once_and_the_smallest_first() {
        let mut state = State::default();
        assert_eq!((state.tag_of("a"), state.tag_of("b"), state.tag_of("a")), (1, 2, 1));
        state.tags.remove("a");
        assert_eq!(state.tag_of("c"), 1);
    }
}
