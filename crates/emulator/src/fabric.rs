//! Redfish services of a fabric: a switch that speaks for itself, or an agent that speaks for all switches of a fabric.
//!
//! Both serve the same tree of switches, ports and endpoints with a forwarding table for each switch ([`tree`],
//! [`table`]). An agent also takes zones and connections ([`zones`], [`connections`]) and shows pools of devices that it
//! attaches to hosts ([`blocks`]). Everything that was accepted is kept in [`record`].

mod blocks;
mod compact;
mod connections;
mod fault_actions;
mod journal;
mod links;
mod membership;
mod record;
mod routes;
mod table;
#[cfg(test)]
mod tests;
mod tree;
mod zones;

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use axum::body::Body;
use drystone_redfish::{
    error::ServiceError,
    etag::ETag,
    message,
    server::{
        AccountService, EventService, Happening, Principal, RedfishService, Reply, Role, RouteTable,
        ServiceDocuments, SessionStore, Target, WriteRequest, dispatch,
    },
    types,
};
use http::{Request, Response, request::Parts};
use hyper::body::Incoming;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    backend::{BackendError, ForwardingZones},
    credentials::Credentials,
    faults::{Faults, Subject},
    hardware::Hardware,
    listener::Emulated,
    site::{Cable, FabricServices, FabricSpec, FaultSpec, MacAddress, PoolSpec, PortSpec, SwitchSpec},
    state::{self, StateError},
};

use compact::CompactTable;
use journal::Journal;
use links::PortAt;
use membership::Membership;
use record::FabricRecord;

pub(crate) use links::FabricLinks;

/// Hosts of the site by name.
pub(crate) type Hosts = HashMap<String, Arc<Hardware>>;

/// Something that is attached to the fabric.
#[derive(Debug, Clone, Copy)]
struct Attached<'a> {
    mac: MacAddress,
    switch: &'a SwitchSpec,
    port: &'a PortSpec,
    /// Whether several zones may contain it.
    shared: bool,
}

/// What a fabric service stands for, and on what.
pub(crate) struct FabricSetup {
    /// The fabric.
    pub(crate) links: Arc<FabricLinks>,
    /// The switch, for one that speaks for itself.
    pub(crate) switch: Option<usize>,
    /// Directory for what is kept.
    pub(crate) directory: PathBuf,
    /// Who may log in.
    pub(crate) credentials: Arc<Credentials>,
}

/// A Redfish service of a fabric.
pub struct FabricService {
    name: String,
    links: Arc<FabricLinks>,
    /// What it stands for: one switch, or all of the fabric.
    shown: Range<usize>,
    /// By id of the endpoint.
    endpoints: BTreeMap<Box<str>, PortAt>,
    pools: Vec<PoolSpec>,
    /// Hosts with an interface on the fabric, in the order of the site; an agent shows them.
    attached_hosts: Vec<String>,
    directory: PathBuf,
    credentials: Arc<Credentials>,
    routes: RouteTable,
    faults: Faults,
    /// Faults of switches and cables from the start.
    cabling_faults: Vec<FaultSpec>,
    sessions: SessionStore,
    events: Arc<EventService>,
    record: Mutex<FabricRecord>,
    membership: Mutex<Membership>,
    /// What has changed since the record's file was written.
    journal: tokio::sync::Mutex<Journal>,
    /// Tables that are not empty or have changed, by index of the switch.
    tables: Mutex<HashMap<u32, CompactTable>>,
    /// What has changed in tables since their files were written, by index of the switch.
    table_journals: tokio::sync::Mutex<HashMap<u32, Journal>>,
    /// Tells entity tags of tables apart from those that an earlier process gave.
    run: u64,
    gate: tokio::sync::Mutex<()>,
}

impl FabricService {
    /// A service with what was kept of it. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// What was kept cannot be read.
    pub(crate) fn new(setup: FabricSetup) -> Result<Arc<Self>, StateError> {
        let FabricSetup { links, switch, directory, credentials } = setup;
        let (site, fabric) = (links.site(), links.spec());
        let agent = fabric.services == FabricServices::Agent;
        let shown = switch.map_or(0..fabric.switches.len(), |index| index..index + 1);
        let switches = &fabric.switches[shown.clone()];
        let name = switch.map_or_else(|| fabric.id.clone(), |_| switches[0].name.to_string());
        let pools: Vec<PoolSpec> = if agent {
            site.pools.iter().filter(|pool| pool.fabric == fabric.id).cloned().collect()
        } else {
            Vec::new()
        };
        let on_fabric = |host: &&crate::site::HostSpec| {
            host.nics
                .iter()
                .any(|nic| links.switch_at(&nic.switch).is_some_and(|at| shown.contains(&(at as usize))))
        };
        let attached_hosts = site.hosts.iter().filter(on_fabric).map(|host| host.name.clone()).collect();
        let own = site.service_faults.iter().filter(|(service, _)| *service == name);
        let (cabling_faults, faults): (Vec<FaultSpec>, Vec<FaultSpec>) =
            own.map(|(_, fault)| fault.clone()).partition(|fault| fault.kind.is_of_cabling());
        let mut service = Self {
            endpoints: endpoints(switches, shown.start),
            faults: Faults::new(Subject::Fabric, &faults, Instant::now()),
            cabling_faults,
            routes: routes::table(agent),
            sessions: SessionStore::default(),
            events: Arc::default(),
            record: Mutex::default(),
            membership: Mutex::default(),
            journal: tokio::sync::Mutex::default(),
            tables: Mutex::default(),
            table_journals: tokio::sync::Mutex::default(),
            run: rand::random(),
            gate: tokio::sync::Mutex::default(),
            name,
            shown,
            pools,
            attached_hosts,
            links,
            directory,
            credentials,
        };
        service.load()?;
        Ok(Arc::new(service))
    }

    fn load(&mut self) -> Result<(), StateError> {
        let mut record: FabricRecord = state::read_json(&self.record_path())?.unwrap_or_default();
        let (journal, changes) = Journal::open(self.record_path().with_extension("log"))?;
        changes.into_iter().for_each(|change| record.follow(change));
        self.journal = tokio::sync::Mutex::new(journal);
        self.events.restore(record.subscriptions.clone());
        let (mut tables, mut journals) = (HashMap::new(), HashMap::new());
        for (switch, index) in self.switches().iter().zip(self.first_switch()..) {
            let path = self.table_path(&switch.name);
            let mut zones: ForwardingZones = state::read_json(&path)?.unwrap_or_default();
            let (journal, changes) = Journal::open::<table::Change>(path.with_extension("log"))?;
            changes.into_iter().for_each(|change| change.apply(&mut zones));
            if !journal.is_empty() {
                journals.insert(index, journal);
            }
            if !zones.is_empty() {
                tables.insert(index, CompactTable::pack(&zones, switch));
            }
        }
        self.table_journals = tokio::sync::Mutex::new(journals);
        let mut membership = Membership::default();
        membership.follow(&FabricRecord::default(), &record);
        self.membership = Mutex::new(membership);
        self.record = Mutex::new(record);
        self.tables = Mutex::new(tables);
        Ok(())
    }

    /// Name of the service: the switch, or the id of the fabric for an agent.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The fabric.
    fn spec(&self) -> &FabricSpec {
        self.links.spec()
    }

    /// What it stands for.
    fn switches(&self) -> &[SwitchSpec] {
        self.spec().switches.get(self.shown.clone()).unwrap_or_default()
    }

    /// Index of the first switch that it stands for.
    fn first_switch(&self) -> u32 {
        u32::try_from(self.shown.start).unwrap_or(u32::MAX)
    }

    /// Index of the switch of this name, if the service stands for it.
    fn switch_at(&self, name: &str) -> Option<u32> {
        self.links.switch_at(name).filter(|at| self.shown.contains(&(*at as usize)))
    }

    /// The switch of this name, if the service stands for it.
    fn switch(&self, name: &str) -> Option<&SwitchSpec> {
        self.links.switch(self.switch_at(name)?)
    }

    /// What is attached under this id; nothing once it is unplugged.
    fn attached(&self, id: &str) -> Option<Attached<'_>> {
        let at = *self.endpoints.get(id)?;
        let (switch, port) = (self.links.switch(at.0)?, self.links.port(at)?);
        let (mac, shared) = (port.cable.mac()?, matches!(port.cable, Cable::Gateway { .. }));
        self.links.is_plugged(at).then_some(Attached { mac, switch, port, shared })
    }

    /// Ids of everything that is attached.
    fn attached_ids(&self) -> impl Iterator<Item = &str> {
        self.endpoints.iter().filter(|(_, at)| self.links.is_plugged(**at)).map(|(id, _)| &**id)
    }

    /// The forwarding table of a switch.
    fn table_of(&self, at: u32) -> ForwardingZones {
        let packed = lock(&self.tables).get(&at).cloned();
        packed.zip(self.links.switch(at)).map(|(table, switch)| table.unpack(switch)).unwrap_or_default()
    }

    /// Brings the switches to what was kept: after a restart they may have forgotten.
    ///
    /// # Errors
    /// The backend fails.
    pub async fn resume(&self) -> Result<(), BackendError> {
        for (switch, index) in self.switches().iter().zip(self.first_switch()..) {
            self.links.backend().program_switch(&switch.name, &self.table_of(index)).await?;
        }
        Ok(())
    }

    fn is_agent(&self) -> bool {
        self.spec().services == FabricServices::Agent
    }

    fn uuid(&self) -> Uuid {
        Uuid::new_v5(&self.spec().uuid, self.name.as_bytes())
    }

    /// URI of something in the fabric.
    fn uri(&self, rest: &str) -> String {
        format!("/redfish/v1/Fabrics/{}{rest}", self.spec().id)
    }

    fn record_path(&self) -> PathBuf {
        self.directory.join(format!("{}.json", self.name))
    }

    fn table_path(&self, switch: &str) -> PathBuf {
        self.directory.join(format!("{switch}.table.json"))
    }

    /// Changes what is kept: durable first, then seen. The caller holds the gate, as every write does.
    async fn update<T>(
        &self,
        change: impl FnOnce(&mut FabricRecord) -> Result<T, ServiceError>,
    ) -> Result<T, ServiceError> {
        let before = lock(&self.record).clone();
        let mut record = before.clone();
        let value = change(&mut record)?;
        self.keep(&before, &record).await.map_err(|error| ServiceError::internal(&error))?;
        let mut current = lock(&self.record);
        lock(&self.membership).follow(&current, &record);
        *current = record;
        Ok(value)
    }

    /// Makes a changed record durable: what has changed of zones and connections is noted, else the whole is written.
    async fn keep(&self, before: &FabricRecord, after: &FabricRecord) -> Result<(), StateError> {
        let mut journal = self.journal.lock().await;
        match before.difference(after) {
            Some(change) if !journal.is_long() => journal.append(&[change]).await,
            _ => {
                journal.set_limit(state::write_json_soon(&self.record_path(), after).await?);
                journal.clear().await
            }
        }
    }

    fn publish(&self, happening: &Happening) {
        self.events.publish(happening);
    }

    /// Tells several things that happened at once.
    fn publish_all(&self, happenings: &[Happening]) {
        self.events.publish_all(happenings);
    }

    fn documents(&self) -> ServiceDocuments {
        let mut rooms = vec![
            ("Fabrics", "/redfish/v1/Fabrics"),
            ("Managers", "/redfish/v1/Managers"),
            ("SessionService", "/redfish/v1/SessionService"),
            ("AccountService", "/redfish/v1/AccountService"),
            ("EventService", "/redfish/v1/EventService"),
        ];
        let mut types = vec![
            types::ServiceRoot::TYPE,
            types::Fabric::TYPE,
            types::Switch::TYPE,
            types::Port::TYPE,
            types::Endpoint::TYPE,
            types::Zone::TYPE,
            types::Connection::TYPE,
            types::AddressPool::TYPE,
            types::Manager::TYPE,
            types::Session::TYPE,
            types::EventDestination::TYPE,
        ];
        if self.is_agent() {
            rooms.extend([
                ("Systems", "/redfish/v1/Systems"),
                ("Chassis", "/redfish/v1/Chassis"),
                ("CompositionService", "/redfish/v1/CompositionService"),
            ]);
            types.extend([
                types::ComputerSystem::TYPE,
                types::Chassis::TYPE,
                types::ResourceBlock::TYPE,
                types::Processor::TYPE,
                types::Memory::TYPE,
                types::Drive::TYPE,
            ]);
        }
        ServiceDocuments {
            uuid: self.uuid().to_string(),
            product: "Drystone emulated fabric".to_owned(),
            rooms,
            types,
        }
    }
}

/// Where endpoints are plugged in, by their ids.
fn endpoints(switches: &[SwitchSpec], first: usize) -> BTreeMap<Box<str>, PortAt> {
    let mut found = BTreeMap::new();
    for (switch, at) in switches.iter().zip(first..) {
        for (port, index) in switch.ports.iter().zip(0_u16..) {
            if let (Some(id), Ok(at)) = (endpoint_id(&switch.name, port), u32::try_from(at)) {
                found.insert(id.into(), (at, index));
            }
        }
    }
    found
}

/// Id of the endpoint that is plugged into a port, if one is. Names of interfaces hold no dash and names of switches and
/// hosts no dot, so each id is one endpoint's.
fn endpoint_id(switch: &str, port: &PortSpec) -> Option<String> {
    match &port.cable {
        Cable::Nic { host, nic, .. } => Some(format!("{host}-{nic}")),
        Cable::Gateway { .. } => Some("gateway".to_owned()),
        Cable::Endpoint { .. } => Some(format!("{switch}.{}", port.name)),
        Cable::Unplugged | Cable::Switch { .. } => None,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while holding it cannot leave what it guards half changed: changes replace it as a whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A fabric that does not follow, or cannot be kept.
fn links_failed(error: &links::LinkError, uri: &str) -> ServiceError {
    match error {
        links::LinkError::Backend(error) => backend_failed(error, uri),
        links::LinkError::State(error) => ServiceError::internal(error),
    }
}

/// A backend that failed: the switch cannot serve the change now.
fn backend_failed(error: &BackendError, uri: &str) -> ServiceError {
    tracing::error!(%error, "a switch does not follow");
    ServiceError::unavailable(message::resource_exhaustion(uri), 1)
}

impl Emulated for FabricService {
    fn faults(&self) -> &Faults {
        &self.faults
    }

    fn died(&self) {
        self.sessions.close_all();
    }

    fn is_dark(&self) -> bool {
        // An agent runs elsewhere.
        !self.is_agent() && self.links.is_dark(self.first_switch())
    }

    async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        dispatch(self, request).await
    }
}

impl RedfishService for FabricService {
    /// The forwarding table of a large zone: some hundred thousand members.
    const MAX_BODY: usize = 32 << 20;

    fn routes(&self) -> &RouteTable {
        &self.routes
    }

    fn sessions(&self) -> &SessionStore {
        &self.sessions
    }

    fn raw(
        &self,
        request: &Parts,
        target: &Target<'_>,
        principal: Option<&Principal>,
    ) -> Option<Result<Response<Body>, ServiceError>> {
        let stream = matches!(target.segments(), ["EventService", "SSE"]);
        stream.then(|| self.events.stream(request, principal.map_or("", |who| who.user.as_str())))
    }

    async fn verify_password(&self, user: &str, password: &str) -> Option<Principal> {
        self.credentials.verify(user, password)
    }

    async fn read(&self, target: &Target<'_>) -> Result<Value, ServiceError> {
        match target.segments() {
            segments @ ["SessionService", ..] => self.sessions.read(segments),
            segments @ ["AccountService", ..] => {
                AccountService::new(vec![(self.credentials.user.clone(), Role::Administrator)]).read(segments)
            }
            segments @ ["EventService", ..] => self.events.read(segments),
            ["Fabrics"] => crate::bmc::collection("Fabric", "/redfish/v1/Fabrics", [&self.spec().id]),
            ["Fabrics", id, rest @ ..] if *id == self.spec().id => self.read_fabric(rest, target.uri),
            ["Managers", rest @ ..] => self.read_manager(rest, target.uri),
            [room @ ("Systems" | "Chassis" | "CompositionService"), rest @ ..] => {
                self.read_pools(room, rest, target.uri)
            }
            ["Fabrics", ..] => Err(ServiceError::not_found(target.uri)),
            segments => self.documents().read(segments),
        }
    }

    fn etag(&self, target: &Target<'_>) -> Option<ETag> {
        let ["Fabrics", id, "Switches", switch, "Oem", "Drystone", "ForwardingTable", rest @ ..] =
            target.segments()
        else {
            return None;
        };
        let table = matches!(rest, [] | ["Zones", _]) && *id == self.spec().id;
        self.switch_at(switch).filter(|_| table).map(|at| self.table_etag(at))
    }

    async fn write(&self, request: WriteRequest<'_>) -> Result<Reply, ServiceError> {
        let uri = request.target.uri.to_owned();
        let segments: Vec<&str> = request.target.segments().to_vec();
        let inside = match segments.as_slice() {
            ["Fabrics", id, rest @ ..] if *id == self.spec().id => rest,
            ["Fabrics", ..] => return Err(ServiceError::not_found(&uri)),
            _ => &[],
        };
        match (request.method.as_str(), segments.as_slice(), inside) {
            ("POST", ["SessionService", "Sessions"], _) => {
                let verify =
                    |user: String, password: String| async move { self.credentials.verify(&user, &password) };
                self.sessions.log_in(request, verify).await
            }
            (_, ["SessionService", ..], _) => self.sessions.write(request),
            (_, ["EventService", ..], _) => self.write_events(request).await,
            ("POST", ["Managers", "1", "Actions", "Oem", action], _) => {
                self.fault_action(action, request.body).await
            }
            ("POST", ["Systems", host, "Actions", action], _) => {
                self.attach(host, action, request.body, &uri).await
            }
            ("PATCH", _, ["Switches", switch, "Oem", "Drystone", "ForwardingTable"]) => {
                self.change_table(switch, request.body, &uri).await
            }
            ("PUT", _, ["Switches", switch, "Oem", "Drystone", "ForwardingTable", "Zones", zone]) => {
                self.put_table_zone(switch, zone, request.body, &uri).await
            }
            ("DELETE", _, ["Switches", switch, "Oem", "Drystone", "ForwardingTable", "Zones", zone]) => {
                self.delete_table_zone(switch, zone, &uri).await
            }
            ("PATCH", _, ["Switches", switch, "Ports", port]) => {
                self.change_port(switch, port, request.body, &uri).await
            }
            ("POST", _, ["Zones"]) => self.create_zone(request.body).await,
            ("PATCH", _, ["Zones", zone]) => self.change_zone(zone, request.body, &uri).await,
            ("DELETE", _, ["Zones", zone]) => self.delete_zone(zone, &uri).await,
            ("POST", _, ["Zones", zone, "Actions", action]) => {
                self.zone_action(zone, action, request.body).await
            }
            ("POST", _, ["Connections"]) => self.create_connection(request.body).await,
            ("DELETE", _, ["Connections", connection]) => self.delete_connection(connection, &uri).await,
            _ => Err(ServiceError::not_found(&uri)),
        }
    }

    fn write_gate(&self, _target: &Target<'_>) -> Option<&tokio::sync::Mutex<()>> {
        Some(&self.gate)
    }
}

impl FabricService {
    async fn write_events(&self, request: WriteRequest<'_>) -> Result<Reply, ServiceError> {
        let before = self.events.saved();
        let reply = self.events.write(request)?;
        let saved = self.events.saved();
        let kept = self.update(|record| {
            record.subscriptions = saved;
            Ok(())
        });
        if let Err(error) = kept.await {
            self.events.restore(before);
            return Err(error);
        }
        Ok(reply)
    }
}
