//! Keeps the tree current: watches Drystone's resources, renders them, and puts what came out into the tree.
//!
//! Every object is an owner of its own in the tree, so that a change costs as much as the object is large. What several objects
//! make up together (racks, fabrics, zones of blocks) is put anew only when the set of them changes.

mod sources;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use drystone_api::{
    AddressPool, BareMetalHost, Composition, Connection, EndpointGroup, FabricAgent, ResourceBlock,
    SITE_LABEL, Switch, SwitchSpec, Zone,
};
use drystone_engine::{
    harness::{Cache, Change, WatchedObject},
    reference::ObjectKey,
};
use drystone_redfish::tree::{Item, Tree};
use futures::{StreamExt as _, stream::SelectAll};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Resource, ResourceExt as _};
use tokio_util::sync::CancellationToken;

use crate::{
    names::{SYSTEMS, id_of},
    render,
};
pub use sources::Sources;

/// What was shown of an object last.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shown {
    uid: String,
    version: u64,
    /// It was deleted; a copy that does not know so yet is old.
    gone: bool,
}

/// What objects make up together.
#[derive(Debug, Default)]
struct Together {
    /// Interfaces of systems by host, and by MAC address.
    interfaces: HashMap<ObjectKey, Vec<(String, String)>>,
    by_mac: HashMap<String, String>,
    /// Rack and site of each block.
    places: BTreeMap<ObjectKey, (String, String)>,
    /// What switches say about their fabrics.
    switches: BTreeMap<ObjectKey, SwitchSpec>,
    racks: BTreeSet<String>,
    sites: BTreeSet<String>,
    fabrics: BTreeMap<String, SwitchSpec>,
}

/// Which kind of object changed.
#[derive(Debug, Clone, Copy)]
enum KindOf {
    Host,
    Block,
    Switch,
    Agent,
    Zone,
    Connection,
    Group,
    Pool,
    Composition,
    Operation,
    Aggregate,
}

/// Keeps the tree current.
#[derive(Debug)]
pub struct Feed {
    tree: Arc<Tree>,
    sources: Sources,
    shown: Mutex<HashMap<String, Shown>>,
    together: Mutex<Together>,
}

impl Feed {
    /// A feed of a tree.
    pub fn new(tree: Arc<Tree>, sources: Sources) -> Self {
        Self { tree, sources, shown: Mutex::default(), together: Mutex::default() }
    }

    /// The objects that it watches.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Fabrics with what any of their switches says about them.
    pub fn fabric(&self, id: &str) -> Option<SwitchSpec> {
        self.together().fabrics.get(id).cloned()
    }

    /// Follows the objects until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let sources = &self.sources;
        let mut touched = SelectAll::new();
        touched.push(keys(&sources.hosts, KindOf::Host));
        touched.push(keys(&sources.blocks, KindOf::Block));
        touched.push(keys(&sources.switches, KindOf::Switch));
        touched.push(keys(&sources.agents, KindOf::Agent));
        touched.push(keys(&sources.zones, KindOf::Zone));
        touched.push(keys(&sources.connections, KindOf::Connection));
        touched.push(keys(&sources.groups, KindOf::Group));
        touched.push(keys(&sources.pools, KindOf::Pool));
        touched.push(keys(&sources.compositions, KindOf::Composition));
        touched.push(keys(&sources.operations, KindOf::Operation));
        touched.push(keys(&sources.aggregates, KindOf::Aggregate));
        loop {
            let next = tokio::select! {
                () = shutdown.cancelled() => return,
                next = touched.next() => next,
            };
            match next {
                Some((kind, Some(key))) => self.show(kind, &key),
                Some((kind, None)) => self.show_all(kind),
                None => return,
            }
        }
    }

    fn show(&self, kind: KindOf, key: &ObjectKey) {
        if !matches!(kind, KindOf::Host | KindOf::Composition) {
            return self.show_alone(kind, key);
        }
        // Aggregates show those of their elements that are there.
        let system = format!("{SYSTEMS}/{}", id_of(key));
        let was_there = self.tree.contains(&system);
        self.show_alone(kind, key);
        if self.tree.contains(&system) != was_there {
            let has = |aggregate: &ConfigMap| render::aggregation::elements_of(aggregate).contains(&system);
            for aggregate in self.sources.aggregates.list_where(has) {
                self.show_aggregate(&ObjectKey::of(aggregate.as_ref()));
            }
        }
    }

    fn show_alone(&self, kind: KindOf, key: &ObjectKey) {
        let sources = &self.sources;
        match kind {
            KindOf::Host => self.show_host(key),
            KindOf::Block => {
                self.show_block(key);
                self.show_host(key);
            }
            KindOf::Switch => self.show_switch(key),
            KindOf::Agent => {
                self.put("agent", key, sources.agents.get(key).as_deref(), render::aggregation::source);
            }
            KindOf::Zone => self.put("zone", key, sources.zones.get(key).as_deref(), render::zone::zone),
            KindOf::Connection => {
                self.put(
                    "connection",
                    key,
                    sources.connections.get(key).as_deref(),
                    render::zone::connection,
                );
            }
            KindOf::Group => {
                self.put("group", key, sources.groups.get(key).as_deref(), render::zone::endpoint_group);
            }
            KindOf::Pool => self.show_pool(key, sources.pools.get(key).as_deref()),
            KindOf::Composition => self.show_composition(key),
            KindOf::Aggregate => self.show_aggregate(key),
            KindOf::Operation => {
                self.put("operation", key, sources.operations.get(key).as_deref(), render::task::task);
            }
        }
    }

    /// Looks at all objects of a kind: at the start, and after changes were missed.
    fn show_all(&self, kind: KindOf) {
        let sources = &self.sources;
        match kind {
            KindOf::Host => self.show_each(kind, "host", &sources.hosts),
            KindOf::Block => self.show_each(kind, "block", &sources.blocks),
            KindOf::Switch => self.show_each(kind, "switch", &sources.switches),
            KindOf::Agent => self.show_each(kind, "agent", &sources.agents),
            KindOf::Zone => self.show_each(kind, "zone", &sources.zones),
            KindOf::Connection => self.show_each(kind, "connection", &sources.connections),
            KindOf::Group => self.show_each(kind, "group", &sources.groups),
            KindOf::Pool => self.show_each(kind, "pool", &sources.pools),
            KindOf::Composition => self.show_each(kind, "composition", &sources.compositions),
            KindOf::Operation => self.show_each(kind, "operation", &sources.operations),
            KindOf::Aggregate => self.show_each(kind, "aggregate", &sources.aggregates),
        }
    }

    fn show_each<K: WatchedObject>(&self, kind: KindOf, prefix: &str, cache: &Cache<K>) {
        let present: BTreeSet<ObjectKey> =
            cache.list().iter().map(|object| ObjectKey::of(object.as_ref())).collect();
        let prefix = format!("{prefix}/");
        let gone: Vec<ObjectKey> = self
            .lock_shown()
            .keys()
            .filter_map(|owner| owner.strip_prefix(&prefix)?.split_once('/'))
            .map(|(namespace, name)| ObjectKey::new(namespace, name))
            .filter(|key| !present.contains(key))
            .collect();
        present.iter().chain(&gone).for_each(|key| self.show(kind, key));
    }

    /// Shows an object at once, as whoever wrote it got it back; the watch brings the same later.
    pub fn show_zone(&self, zone: &Zone) {
        self.put("zone", &ObjectKey::of(zone), Some(zone), render::zone::zone);
    }

    /// Shows a connection at once.
    pub fn show_connection(&self, connection: &Connection) {
        self.put("connection", &ObjectKey::of(connection), Some(connection), render::zone::connection);
    }

    /// Shows an endpoint group at once.
    pub fn show_endpoint_group(&self, group: &EndpointGroup) {
        self.put("group", &ObjectKey::of(group), Some(group), render::zone::endpoint_group);
    }

    /// Shows an address pool at once.
    pub fn show_address_pool(&self, pool: &AddressPool) {
        self.show_pool(&ObjectKey::of(pool), Some(pool));
    }

    /// Shows an agent at once.
    pub fn show_agent(&self, agent: &FabricAgent) {
        self.put("agent", &ObjectKey::of(agent), Some(agent), render::aggregation::source);
    }

    /// Shows a composition as it is known now.
    pub fn show_composition(&self, key: &ObjectKey) {
        let sources = &self.sources;
        let composition = sources.compositions.get(key);
        self.put("composition", key, composition.as_deref(), |composition| {
            let host_of = |key: &ObjectKey| Some((sources.hosts.get(key)?, sources.blocks.get(key)));
            let mut items = render::composition::reservation(composition);
            items.extend(render::composition::composed_system(composition, &host_of));
            items
        });
    }

    /// Shows an aggregate as it is known now.
    pub fn show_aggregate(&self, key: &ObjectKey) {
        let aggregate = self.sources.aggregates.get(key);
        self.put("aggregate", key, aggregate.as_deref(), |aggregate| {
            render::aggregation::aggregate(aggregate, &|uri| self.tree.contains(uri))
        });
    }

    /// Shows the composed systems that a host is in.
    fn show_composed_of(&self, host: &ObjectKey) {
        let has = |composition: &Composition| {
            let members = composition.status.iter().flat_map(|status| &status.members);
            let mut keys = members.map(|member| (&member.host_namespace, &member.host));
            render::composition::is_composed(composition)
                && keys.any(|key| key == (&host.namespace, &host.name))
        };
        for composition in self.sources.compositions.list_where(has) {
            self.show_composition(&ObjectKey::of(composition.as_ref()));
        }
    }

    /// Shows a host at once.
    pub fn show_bare_metal_host(&self, host: &BareMetalHost) {
        let key = ObjectKey::of(host);
        // Its block is looked up under the lock: of two that show the same host the later one has the newer block.
        self.put("host", &key, Some(host), |host| {
            render::system::host(host, self.sources.blocks.get(&key).as_deref())
        });
    }

    /// Takes an object out of the tree that has just been deleted. `prefix` is `zone`, `connection`, `group` or `pool`.
    pub fn forget(&self, prefix: &str, key: &ObjectKey, uid: &str) {
        let owner = owner(prefix, key);
        let shown = Shown { uid: uid.to_owned(), version: 0, gone: true };
        let mut all = self.lock_shown();
        all.insert(owner.clone(), shown);
        self.tree.replace(&owner, []);
    }

    fn show_host(&self, key: &ObjectKey) {
        let host = self.sources.hosts.get(key);
        self.put("host", key, host.as_deref(), |host| {
            render::system::host(host, self.sources.blocks.get(key).as_deref())
        });
        self.show_composed_of(key);
        let interfaces = host.as_deref().map(render::system::interfaces).unwrap_or_default();
        let touched = self.together().set_interfaces(key, interfaces);
        if touched.is_empty() {
            return;
        }
        for switch in self.sources.switches.list() {
            let endpoints = switch.status.iter().flat_map(|status| &status.endpoints);
            if endpoints.into_iter().any(|endpoint| touched.contains(&endpoint.mac)) {
                self.put_switch(&switch);
            }
        }
    }

    fn show_block(&self, key: &ObjectKey) {
        let block = self.sources.blocks.get(key);
        self.put("block", key, block.as_deref(), render::composition::block);
        let place = block.map(|block: Arc<ResourceBlock>| {
            let rack = block.status.as_ref().map(|status| status.chassis.clone()).unwrap_or_default();
            (rack, block.labels().get(SITE_LABEL).cloned().unwrap_or_default())
        });
        let mut together = self.together();
        if together.set_place(key, place.as_ref()) {
            self.tree.replace("racks", together.racks.iter().map(|rack| render::system::rack(rack)));
            self.tree.replace("sites", together.sites.iter().map(|site| render::zone::site_zone(site)));
        }
    }

    fn show_switch(&self, key: &ObjectKey) {
        let switch = self.sources.switches.get(key);
        let (changed, ethernet_changed) = {
            let mut together = self.together();
            let before: BTreeSet<String> = together.ethernet();
            let changed = together.set_switch(key, switch.as_deref().map(|switch| switch.spec.clone()));
            (changed, together.ethernet() != before)
        };
        for (fabric, spec) in changed {
            let items = spec.map(|spec| render::fabric::fabric(&spec)).unwrap_or_default();
            self.tree.replace(&format!("fabric/{fabric}"), items);
        }
        if ethernet_changed {
            for pool in self.sources.pools.list() {
                self.show_pool(&ObjectKey::of(pool.as_ref()), Some(&pool));
            }
        }
        match switch {
            Some(switch) => self.put_switch(&switch),
            None => self.put::<Switch>("switch", key, None, |_| Vec::new()),
        }
    }

    fn put_switch(&self, switch: &Switch) {
        let key = ObjectKey::of(switch);
        self.put("switch", &key, Some(switch), |switch| {
            let together = self.together();
            render::fabric::switch(switch, &|mac| together.by_mac.get(mac).cloned())
        });
    }

    fn show_pool(&self, key: &ObjectKey, pool: Option<&AddressPool>) {
        let ethernet = self.together().ethernet();
        self.put("pool", key, pool, |pool| render::zone::address_pool(pool, &ethernet));
    }

    /// Puts what an object shows into the tree, unless something newer of it is there. The same version is rendered again: what it is shown with may have
    /// changed while it did not, as the block of a host.
    fn put<K: Resource>(
        &self,
        prefix: &str,
        key: &ObjectKey,
        object: Option<&K>,
        render: impl FnOnce(&K) -> Vec<Item>,
    ) {
        let owner = owner(prefix, key);
        // Held until the tree has it: of two that show the same object the newer one must win.
        let mut all = self.lock_shown();
        let Some(object) = object else {
            all.remove(&owner);
            self.tree.replace(&owner, []);
            return;
        };
        let uid = object.uid().unwrap_or_default();
        let version = object.resource_version().and_then(|version| version.parse().ok()).unwrap_or(0);
        let known = all.get(&owner).filter(|shown| shown.uid == uid);
        if known.is_some_and(|shown| shown.gone || shown.version > version) {
            return;
        }
        all.insert(owner.clone(), Shown { uid, version, gone: false });
        self.tree.replace(&owner, render(object));
    }

    fn lock_shown(&self) -> MutexGuard<'_, HashMap<String, Shown>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn together(&self) -> MutexGuard<'_, Together> {
        self.together.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Together {
    /// Notes the interfaces of a host; the MAC addresses that lead elsewhere now.
    fn set_interfaces(&mut self, key: &ObjectKey, new: Vec<(String, String)>) -> BTreeSet<String> {
        let old = self.interfaces.remove(key).unwrap_or_default();
        if old == new {
            self.interfaces.insert(key.clone(), new);
            return BTreeSet::new();
        }
        for (mac, _) in &old {
            self.by_mac.remove(mac);
        }
        self.by_mac.extend(new.iter().cloned());
        let touched = old.into_iter().chain(new.iter().cloned()).map(|(mac, _)| mac).collect();
        if !new.is_empty() {
            self.interfaces.insert(key.clone(), new);
        }
        touched
    }

    /// Notes where a block is; whether there are other racks or sites now.
    fn set_place(&mut self, key: &ObjectKey, place: Option<&(String, String)>) -> bool {
        let old = match place.cloned() {
            Some(place) => self.places.insert(key.clone(), place),
            None => self.places.remove(key),
        };
        if old.as_ref() == place {
            return false;
        }
        let set = |of: fn(&(String, String)) -> &String| -> BTreeSet<String> {
            self.places.values().map(of).filter(|text| !text.is_empty()).cloned().collect()
        };
        let (racks, sites) = (set(|(rack, _)| rack), set(|(_, site)| site));
        let changed = racks != self.racks || sites != self.sites;
        (self.racks, self.sites) = (racks, sites);
        changed
    }

    /// Notes what a switch says; the fabrics that are different now, or gone.
    fn set_switch(&mut self, key: &ObjectKey, spec: Option<SwitchSpec>) -> Vec<(String, Option<SwitchSpec>)> {
        let old = match spec.clone() {
            Some(spec) => self.switches.insert(key.clone(), spec),
            None => self.switches.remove(key),
        };
        let told =
            |spec: &SwitchSpec| (spec.fabric.clone(), spec.fabric_uuid.clone(), spec.fabric_type.clone());
        if old.as_ref().map(told) == spec.as_ref().map(told) {
            return Vec::new();
        }
        let names: BTreeSet<String> = old.into_iter().chain(spec).map(|spec| spec.fabric).collect();
        let mut changed = Vec::new();
        for name in names {
            let now = self.switches.values().find(|spec| spec.fabric == name).cloned();
            let before = match now.clone() {
                Some(now) => self.fabrics.insert(name.clone(), now),
                None => self.fabrics.remove(&name),
            };
            if before.as_ref().map(told) != now.as_ref().map(told) {
                changed.push((name, now));
            }
        }
        changed
    }

    /// Fabrics that addresses of the Internet protocol mean something in.
    fn ethernet(&self) -> BTreeSet<String> {
        let ethernet = |spec: &&SwitchSpec| matches!(render::fabric::protocol(&spec.fabric_type), "Ethernet");
        self.fabrics.values().filter(ethernet).map(|spec| spec.fabric.clone()).collect()
    }
}

fn owner(prefix: &str, key: &ObjectKey) -> String {
    format!("{prefix}/{}/{}", key.namespace, key.name)
}

type Touched = (KindOf, Option<ObjectKey>);

/// Keys of the objects of a kind that change; none stands for all: first of all, and when changes were missed.
fn keys<K: WatchedObject>(cache: &Cache<K>, kind: KindOf) -> futures::stream::BoxStream<'static, Touched> {
    let changes = cache.changes().map(move |change| match change {
        Change::Object(object) => (kind, Some(ObjectKey::of(object.as_ref()))),
        Change::Missed => (kind, None),
    });
    futures::stream::iter([(kind, None)]).chain(changes).boxed()
}
