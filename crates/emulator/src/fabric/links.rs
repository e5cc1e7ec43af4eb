//! What is physically true of a fabric, shared by all services that show a part of it: which ports are set down, which
//! cables are cut or pulled out, which switches have no power. A change reaches the backend first, then the record on
//! disk, then everybody who can see it, as events of the services on both ends.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use drystone_redfish::{
    message::{Message, Severity},
    server::Happening,
};
use serde::{Deserialize, Serialize};

use super::{FabricService, Hosts, lock};
use crate::{
    backend::{Backend, BackendError},
    bmc::changed,
    site::{Cable, FabricServices, FabricSpec, PortSpec, SiteFile, SwitchSpec},
    state::{self, StateError},
};

/// A port: index of its switch in the fabric, index of the port in the switch.
pub(super) type PortAt = (u32, u16);

/// Something that is done to a fabric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// A port is set up or down (`LinkState`).
    Enabled(PortAt, bool),
    /// A cable is cut or mended, at either end.
    Cut(PortAt, bool),
    /// What is plugged into an edge port is pulled out or put back.
    Unplugged(PortAt, bool),
    /// A switch loses its power or gets it back.
    Dark(u32, bool),
}

impl Change {
    /// What takes a fault back.
    pub(super) const fn undone(self) -> Self {
        match self {
            Self::Enabled(at, up) => Self::Enabled(at, !up),
            Self::Cut(at, cut) => Self::Cut(at, !cut),
            Self::Unplugged(at, out) => Self::Unplugged(at, !out),
            Self::Dark(switch, dark) => Self::Dark(switch, !dark),
        }
    }
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// The backend does not follow.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// It cannot be kept.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// Nothing is plugged in.
    None,
    /// Frames pass.
    Up,
    /// One of the ends is off, or the cable is cut.
    Down,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    disabled: BTreeSet<PortAt>,
    /// Both ends of every cut cable.
    cut: BTreeSet<PortAt>,
    unplugged: BTreeSet<PortAt>,
    dark: BTreeSet<u32>,
}

/// The state as it is kept: by names, which outlive a changed site file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Record {
    disabled: Vec<(String, String)>,
    cut: Vec<(String, String)>,
    unplugged: Vec<(String, String)>,
    dark: Vec<String>,
}

/// The switches and cables of a fabric.
pub(crate) struct FabricLinks {
    site: Arc<SiteFile>,
    fabric: usize,
    /// Index of a switch by name.
    switches: HashMap<Arc<str>, u32>,
    hosts: Arc<Hosts>,
    backend: Arc<dyn Backend>,
    path: PathBuf,
    state: Mutex<State>,
    /// Hosts that were on when they were last looked at.
    lit: Mutex<BTreeMap<String, bool>>,
    /// One change at a time.
    gate: tokio::sync::Mutex<()>,
    /// Who shows the fabric: one service for all of it, or one for each switch, in their order.
    services: Mutex<Vec<Weak<FabricService>>>,
}

impl FabricLinks {
    /// The links of a fabric as they were kept in the directory.
    ///
    /// # Errors
    /// What was kept cannot be read.
    pub(crate) fn new(
        site: Arc<SiteFile>,
        fabric: usize,
        hosts: Arc<Hosts>,
        backend: Arc<dyn Backend>,
        directory: &Path,
    ) -> Result<Arc<Self>, StateError> {
        let spec = &site.fabrics[fabric];
        // Names of switches hold no dots: no service has this file.
        let path = directory.join(format!("{}.links.json", spec.id));
        let record: Record = state::read_json(&path)?.unwrap_or_default();
        let switches = spec.switches.iter().zip(0..).map(|(switch, index)| (Arc::clone(&switch.name), index));
        let mut links = Self {
            switches: switches.collect(),
            fabric,
            hosts,
            backend,
            path,
            state: Mutex::default(),
            lit: Mutex::default(),
            gate: tokio::sync::Mutex::default(),
            services: Mutex::default(),
            site,
        };
        let state = links.restored(&record);
        links.state = Mutex::new(state);
        Ok(Arc::new(links))
    }

    fn restored(&self, record: &Record) -> State {
        let ports = |names: &[(String, String)]| {
            names.iter().filter_map(|(switch, port)| self.port_at(switch, port)).collect()
        };
        State {
            disabled: ports(&record.disabled),
            cut: ports(&record.cut),
            unplugged: ports(&record.unplugged),
            dark: record.dark.iter().filter_map(|name| self.switch_at(name)).collect(),
        }
    }

    /// The site.
    pub(super) fn site(&self) -> &SiteFile {
        &self.site
    }

    /// The hosts of the site.
    pub(super) fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// What gives the switches a body.
    pub(super) fn backend(&self) -> &dyn Backend {
        self.backend.as_ref()
    }

    /// The fabric.
    pub(super) fn spec(&self) -> &FabricSpec {
        &self.site.fabrics[self.fabric]
    }

    /// Index of the switch of this name.
    pub(super) fn switch_at(&self, name: &str) -> Option<u32> {
        self.switches.get(name).copied()
    }

    /// The port of these names.
    pub(super) fn port_at(&self, switch: &str, port: &str) -> Option<PortAt> {
        let at = self.switch_at(switch)?;
        let ports = &self.switch(at)?.ports;
        let index = ports.iter().position(|spec| *spec.name == *port)?;
        Some((at, u16::try_from(index).ok()?))
    }

    /// A switch by its index.
    pub(super) fn switch(&self, at: u32) -> Option<&SwitchSpec> {
        self.spec().switches.get(at as usize)
    }

    /// A port by its place.
    pub(super) fn port(&self, at: PortAt) -> Option<&PortSpec> {
        self.switch(at.0)?.ports.get(usize::from(at.1))
    }

    /// The other end of a cable between switches.
    fn peer(&self, at: PortAt) -> Option<PortAt> {
        match &self.port(at)?.cable {
            Cable::Switch { switch, port } => self.port_at(switch, port),
            _ => None,
        }
    }

    /// Whether a port is set up.
    pub(super) fn is_enabled(&self, at: PortAt) -> bool {
        !lock(&self.state).disabled.contains(&at)
    }

    /// Whether a port's cable is cut.
    pub(super) fn is_cut(&self, at: PortAt) -> bool {
        lock(&self.state).cut.contains(&at)
    }

    /// Whether something is plugged into an edge port that the site file plugs in.
    pub(super) fn is_plugged(&self, at: PortAt) -> bool {
        !lock(&self.state).unplugged.contains(&at)
    }

    /// Whether a switch has no power.
    pub(super) fn is_dark(&self, switch: u32) -> bool {
        lock(&self.state).dark.contains(&switch)
    }

    /// What the link of a port is.
    pub(super) fn link(&self, at: PortAt) -> Link {
        let peer = self.peer(at);
        self.link_in(&lock(&self.state), at, peer)
    }

    fn link_in(&self, state: &State, at: PortAt, peer: Option<PortAt>) -> Link {
        let Some(port) = self.port(at) else { return Link::None };
        let other = match &port.cable {
            Cable::Unplugged => return Link::None,
            _ if state.unplugged.contains(&at) => return Link::None,
            Cable::Nic { host, .. } => self.hosts.get(host).is_some_and(|host| host.is_on()),
            Cable::Gateway { .. } | Cable::Endpoint { .. } => true,
            Cable::Switch { .. } => peer.is_some_and(|peer| state.is_live(peer)),
        };
        if other && state.is_live(at) { Link::Up } else { Link::Down }
    }

    /// Lets the services that show the fabric know of changes from now on.
    pub(crate) fn watch(&self, services: Vec<Weak<FabricService>>) {
        *lock(&self.services) = services;
    }

    fn service_of(&self, switch: u32) -> Option<Arc<FabricService>> {
        let services = lock(&self.services);
        let index = if self.spec().services == FabricServices::Agent { 0 } else { switch as usize };
        services.get(index)?.upgrade()
    }

    /// Brings the backend to what was kept, and does the rest: what the site file wants from the start.
    pub(super) async fn resume(&self, extra: &[Change]) -> Result<(), LinkError> {
        let down: Vec<PortAt> = {
            let state = lock(&self.state);
            let mut down: BTreeSet<PortAt> =
                state.disabled.iter().chain(&state.cut).chain(&state.unplugged).copied().collect();
            down.extend(state.dark.iter().flat_map(|switch| self.ports_of(*switch)));
            down.into_iter().collect()
        };
        for at in down {
            self.set_port(at, false).await?;
        }
        if extra.is_empty() { Ok(()) } else { self.apply(extra).await }
    }

    fn ports_of(&self, switch: u32) -> impl Iterator<Item = PortAt> + use<> {
        let count = self.switch(switch).map_or(0, |spec| spec.ports.len());
        (0..u16::try_from(count).unwrap_or(u16::MAX)).map(move |port| (switch, port))
    }

    async fn set_port(&self, at: PortAt, up: bool) -> Result<(), BackendError> {
        let (Some(switch), Some(port)) = (self.switch(at.0), self.port(at)) else { return Ok(()) };
        self.backend.set_port(&switch.name, &port.name, up).await
    }

    /// Makes changes: all of them, or none if the backend or the disk fails.
    pub(super) async fn apply(&self, changes: &[Change]) -> Result<(), LinkError> {
        let _alone = self.gate.lock().await;
        let before = lock(&self.state).clone();
        let mut after = before.clone();
        let mut touched = BTreeSet::new();
        for change in changes {
            self.touch(*change, &mut after, &mut touched);
        }
        if after == before {
            return Ok(());
        }
        let differ: Vec<PortAt> =
            touched.iter().copied().filter(|at| before.is_live(*at) != after.is_live(*at)).collect();
        for (done, at) in differ.iter().enumerate() {
            if let Err(error) = self.set_port(*at, after.is_live(*at)).await {
                self.set_back(&differ[..=done], &before).await;
                return Err(error.into());
            }
        }
        if let Err(error) = state::write_json_soon(&self.path, &self.record(&after)).await {
            self.set_back(&differ, &before).await;
            return Err(error.into());
        }
        *lock(&self.state) = after.clone();
        self.tell(&before, &after, &touched);
        Ok(())
    }

    /// Adds a change to a state, and what it may show at to the ports touched.
    fn touch(&self, change: Change, state: &mut State, touched: &mut BTreeSet<PortAt>) {
        fn put<T: Ord>(set: &mut BTreeSet<T>, value: T, there: bool) {
            if there {
                set.insert(value);
            } else {
                set.remove(&value);
            }
        }
        let mut ends = |at: PortAt| {
            let both: Vec<PortAt> = [at].into_iter().chain(self.peer(at)).collect();
            touched.extend(both.iter().copied());
            both
        };
        match change {
            Change::Enabled(at, up) => {
                ends(at);
                put(&mut state.disabled, at, !up);
            }
            Change::Cut(at, cut) => ends(at).into_iter().for_each(|end| put(&mut state.cut, end, cut)),
            Change::Unplugged(at, out) => {
                ends(at);
                put(&mut state.unplugged, at, out);
            }
            Change::Dark(switch, dark) => {
                self.ports_of(switch).for_each(|at| drop(ends(at)));
                put(&mut state.dark, switch, dark);
            }
        }
    }

    async fn set_back(&self, ports: &[PortAt], state: &State) {
        for at in ports {
            if let Err(error) = self.set_port(*at, state.is_live(*at)).await {
                tracing::error!(%error, "a port is not as it is on record");
            }
        }
    }

    fn record(&self, state: &State) -> Record {
        let names = |ports: &BTreeSet<PortAt>| {
            let name =
                |at: &PortAt| Some((self.switch(at.0)?.name.to_string(), self.port(*at)?.name.to_string()));
            ports.iter().filter_map(name).collect()
        };
        Record {
            disabled: names(&state.disabled),
            cut: names(&state.cut),
            unplugged: names(&state.unplugged),
            dark: state.dark.iter().filter_map(|at| Some(self.switch(*at)?.name.to_string())).collect(),
        }
    }

    /// Takes a change back after a while.
    pub(super) fn undo_later(self: &Arc<Self>, change: Change, after: Duration) {
        let links = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let Some(links) = links.upgrade() else { return };
            if let Err(error) = links.apply(&[change.undone()]).await {
                tracing::error!(%error, "a fault of a fabric stays");
            }
        });
    }

    /// What takes back every fault that there is: cut cables, pulled plugs, dark switches; not ports that are set down.
    pub(super) fn faults(&self) -> Vec<Change> {
        let state = lock(&self.state);
        let cut = state.cut.iter().map(|at| Change::Cut(*at, true));
        let out = state.unplugged.iter().map(|at| Change::Unplugged(*at, true));
        cut.chain(out).chain(state.dark.iter().map(|switch| Change::Dark(*switch, true))).collect()
    }

    /// Looks which hosts have been switched on or off, and tells of their links.
    pub(crate) fn observe_hosts(&self) {
        let mut told: BTreeMap<u32, Vec<Happening>> = BTreeMap::new();
        for host in &self.site.hosts {
            let on = self.hosts.get(&host.name).is_some_and(|hardware| hardware.is_on());
            // The first look tells nothing.
            if self.was_on(&host.name, on) == on {
                continue;
            }
            for nic in &host.nics {
                let Some(at) = self.port_at(&nic.switch, &nic.port) else { continue };
                let live = lock(&self.state).is_live(at);
                if live {
                    let told = told.entry(at.0).or_default();
                    self.tell_port(at, if on { Link::Up } else { Link::Down }, told);
                }
            }
        }
        self.publish(told);
    }

    /// Notes whether a host is on, and tells whether it was at the last look; at the first it was as it is.
    fn was_on(&self, host: &str, on: bool) -> bool {
        let mut lit = lock(&self.lit);
        match lit.get_mut(host) {
            Some(was) => std::mem::replace(was, on),
            None => {
                lit.insert(host.to_owned(), on);
                on
            }
        }
    }

    /// Events of a change, by the services that see it. A switch without power tells nothing.
    fn tell(&self, before: &State, after: &State, touched: &BTreeSet<PortAt>) {
        let mut told: BTreeMap<u32, Vec<Happening>> = BTreeMap::new();
        for switch in before.dark.symmetric_difference(&after.dark) {
            let dark = after.dark.contains(switch);
            told.entry(*switch).or_default().extend(self.switch_happening(*switch, dark));
        }
        for at in touched {
            let peer = self.peer(*at);
            let (was, is) = (self.link_in(before, *at, peer), self.link_in(after, *at, peer));
            let happenings = told.entry(at.0).or_default();
            if before.cut.contains(at) != after.cut.contains(at) {
                happenings.extend(self.port_happening(*at, after.cut.contains(at)));
            }
            if before.unplugged.contains(at) != after.unplugged.contains(at) {
                happenings.extend(self.endpoint_happening(*at, after.unplugged.contains(at)));
            }
            if (was == Link::Up) != (is == Link::Up) {
                self.tell_port(*at, is, happenings);
            }
        }
        if self.spec().services == FabricServices::PerSwitch {
            told.retain(|switch, _| !after.dark.contains(switch));
        }
        self.publish(told);
    }

    fn publish(&self, told: BTreeMap<u32, Vec<Happening>>) {
        let mut by_service: Vec<(Arc<FabricService>, Vec<Happening>)> = Vec::new();
        for (switch, happenings) in told {
            let Some(service) = self.service_of(switch) else { continue };
            match by_service.last_mut() {
                Some((last, list)) if Arc::ptr_eq(last, &service) => list.extend(happenings),
                _ => by_service.push((service, happenings)),
            }
        }
        for (service, happenings) in by_service {
            service.publish_all(&happenings);
        }
    }

    fn port_uri(&self, at: PortAt) -> Option<(String, &str, &str)> {
        let (switch, port) = (&self.switch(at.0)?.name, &self.port(at)?.name);
        let uri = format!("/redfish/v1/Fabrics/{}/Switches/{switch}/Ports/{port}", self.spec().id);
        Some((uri, switch, port))
    }

    /// The link of a port has come or gone: as the registry calls it, and as a change of the resource.
    fn tell_port(&self, at: PortAt, link: Link, told: &mut Vec<Happening>) {
        let Some((uri, switch, port)) = self.port_uri(at) else { return };
        let up = link == Link::Up;
        let between = self.port(at).is_some_and(|port| matches!(port.cable, Cable::Switch { .. }));
        let (key, text) = match (between, up) {
            (true, true) => {
                ("InterswitchLinkEstablished", "The interswitch link of switch %1, port %2 is up.")
            }
            (true, false) => {
                ("InterswitchLinkDropped", "The interswitch link of switch %1, port %2 is down.")
            }
            (false, true) => {
                ("DownstreamLinkEstablished", "The downstream link of switch %1, port %2 is up.")
            }
            (false, false) => ("DownstreamLinkDropped", "The downstream link of switch %1, port %2 is down."),
        };
        told.push(happening(key, text, !up, &[switch, port], &uri, "Port"));
        told.push(changed(&uri, "Port"));
    }

    fn port_happening(&self, at: PortAt, failed: bool) -> Option<Happening> {
        let (uri, switch, port) = self.port_uri(at)?;
        let (key, text) = if failed {
            ("PortFailed", "Port %2 of switch %1 has failed.")
        } else {
            ("PortOK", "Port %2 of switch %1 works.")
        };
        Some(happening(key, text, failed, &[switch, port], &uri, "Port"))
    }

    fn switch_happening(&self, at: u32, failed: bool) -> Option<Happening> {
        let switch = &self.switch(at)?.name;
        let uri = format!("/redfish/v1/Fabrics/{}/Switches/{switch}", self.spec().id);
        let (key, text) =
            if failed { ("SwitchFailed", "Switch %1 has failed.") } else { ("SwitchOK", "Switch %1 works.") };
        Some(happening(key, text, failed, &[switch], &uri, "Switch"))
    }

    fn endpoint_happening(&self, at: PortAt, gone: bool) -> Option<Happening> {
        let id = super::endpoint_id(&self.switch(at.0)?.name, self.port(at)?)?;
        let fabric = &self.spec().id;
        let uri = format!("/redfish/v1/Fabrics/{fabric}/Endpoints/{id}");
        let (key, text) = if gone {
            ("EndpointRemoved", "The endpoint %1 of the fabric %2 is gone.")
        } else {
            ("EndpointCreated", "The endpoint %1 of the fabric %2 is there.")
        };
        Some(happening(key, text, false, &[&id, fabric], &uri, "Endpoint"))
    }
}

impl State {
    /// Whether a port can pass frames as far as it depends on this end.
    fn is_live(&self, at: PortAt) -> bool {
        !self.disabled.contains(&at)
            && !self.cut.contains(&at)
            && !self.unplugged.contains(&at)
            && !self.dark.contains(&at.0)
    }
}

/// An event of the registry `Fabric`.
pub(super) fn happening(
    key: &str,
    text: &str,
    critical: bool,
    args: &[&str],
    origin: &str,
    resource_type: &'static str,
) -> Happening {
    let severity = if critical { Severity::Critical } else { Severity::OK };
    let message = Message::new("Fabric.1.0", key, severity, text, args, "None.");
    Happening { message, origin: origin.to_owned(), resource_type: resource_type.into() }
}

impl std::fmt::Debug for FabricLinks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("FabricLinks")
            .field("fabric", &self.spec().id)
            .field("state", &*state)
            .finish_non_exhaustive()
    }
}
