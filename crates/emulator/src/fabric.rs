//! Redfish services of a fabric: a switch that speaks for itself, or an agent that speaks for all switches of a fabric.
//!
//! Both serve the same tree of switches, ports and endpoints with a forwarding table for each switch ([`tree`],
//! [`table`]). An agent also takes zones and connections ([`zones`], [`connections`]) and shows pools of devices that it
//! attaches to hosts ([`blocks`]). Everything that was accepted is kept in [`record`].

mod blocks;
mod connections;
mod record;
mod routes;
mod table;
#[cfg(test)]
mod tests;
mod tree;
mod zones;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use drystone_redfish::{
    error::ServiceError,
    message,
    server::{
        AccountService, EventService, Happening, Principal, RedfishService, Reply, Role, RouteTable,
        ServiceDocuments, SessionStore, Target, WriteRequest,
    },
    types,
};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    backend::{Backend, BackendError, ForwardingZones},
    credentials::Credentials,
    faults::Faults,
    hardware::Hardware,
    listener::Emulated,
    site::{Cable, FabricServices, FabricSpec, FaultSpec, MacAddress, PoolSpec, SiteFile, SwitchSpec},
    state::{self, StateError},
};

use record::FabricRecord;

/// Hosts of the site by name.
pub(crate) type Hosts = HashMap<String, Arc<Hardware>>;

/// Something that is attached to the fabric.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Attached {
    mac: MacAddress,
    switch: String,
    port: String,
    /// Whether several zones may contain it.
    shared: bool,
}

/// What a fabric service stands for, and on what.
pub(crate) struct FabricSetup {
    /// The site.
    pub(crate) site: Arc<SiteFile>,
    /// Index of the fabric in the site.
    pub(crate) fabric: usize,
    /// The switch, for one that speaks for itself.
    pub(crate) switch: Option<usize>,
    /// The hosts.
    pub(crate) hosts: Arc<Hosts>,
    /// What the switches do.
    pub(crate) backend: Arc<dyn Backend>,
    /// Directory for what is kept.
    pub(crate) directory: PathBuf,
    /// Who may log in.
    pub(crate) credentials: Arc<Credentials>,
}

/// A Redfish service of a fabric.
pub struct FabricService {
    name: String,
    fabric: FabricSpec,
    /// What it stands for: one switch, or all of the fabric.
    switches: Vec<SwitchSpec>,
    /// By id of the endpoint.
    attached: BTreeMap<String, Attached>,
    pools: Vec<PoolSpec>,
    /// Hosts with an interface on the fabric, in the order of the site; an agent shows them.
    attached_hosts: Vec<String>,
    hosts: Arc<Hosts>,
    backend: Arc<dyn Backend>,
    directory: PathBuf,
    credentials: Arc<Credentials>,
    routes: RouteTable,
    faults: Faults,
    sessions: SessionStore,
    events: EventService,
    record: Mutex<FabricRecord>,
    tables: Mutex<BTreeMap<String, ForwardingZones>>,
    gate: tokio::sync::Mutex<()>,
}

impl FabricService {
    /// A service with what was kept of it. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// What was kept cannot be read.
    pub(crate) fn new(setup: FabricSetup) -> Result<Arc<Self>, StateError> {
        let FabricSetup { site, fabric, switch, hosts, backend, directory, credentials } = setup;
        let mut fabric = site.fabrics[fabric].clone();
        let agent = fabric.services == FabricServices::Agent;
        let switches = match switch {
            Some(index) => vec![fabric.switches[index].clone()],
            None => std::mem::take(&mut fabric.switches),
        };
        let name = switch.map_or_else(|| fabric.id.clone(), |_| switches[0].name.clone());
        let pools: Vec<PoolSpec> = if agent {
            site.pools.iter().filter(|pool| pool.fabric == fabric.id).cloned().collect()
        } else {
            Vec::new()
        };
        let on_fabric = |host: &&crate::site::HostSpec| {
            host.nics.iter().any(|nic| switches.iter().any(|switch| switch.name == nic.switch))
        };
        let attached_hosts = site.hosts.iter().filter(on_fabric).map(|host| host.name.clone()).collect();
        let faults: Vec<FaultSpec> = site
            .service_faults
            .iter()
            .filter(|(service, _)| *service == name)
            .map(|(_, fault)| fault.clone())
            .collect();
        let mut service = Self {
            attached: attached(&switches),
            faults: Faults::new(&faults, Instant::now()),
            routes: routes::table(agent),
            sessions: SessionStore::default(),
            events: EventService::default(),
            record: Mutex::default(),
            tables: Mutex::default(),
            gate: tokio::sync::Mutex::default(),
            name,
            fabric,
            switches,
            pools,
            attached_hosts,
            hosts,
            backend,
            directory,
            credentials,
        };
        service.load()?;
        Ok(Arc::new(service))
    }

    fn load(&mut self) -> Result<(), StateError> {
        let record: FabricRecord = state::read_json(&self.record_path())?.unwrap_or_default();
        self.events.restore(record.subscriptions.clone());
        let mut tables = BTreeMap::new();
        for switch in &self.switches {
            tables.insert(
                switch.name.clone(),
                state::read_json(&self.table_path(&switch.name))?.unwrap_or_default(),
            );
        }
        self.record = Mutex::new(record);
        self.tables = Mutex::new(tables);
        Ok(())
    }

    /// Name of the service: the switch, or the id of the fabric for an agent.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Brings the switches to what was kept: after a restart they may have forgotten.
    ///
    /// # Errors
    /// The backend fails.
    pub async fn resume(&self) -> Result<(), BackendError> {
        for switch in &self.switches {
            let table = lock(&self.tables).get(&switch.name).cloned().unwrap_or_default();
            self.backend.program_switch(&switch.name, &table).await?;
            for port in &switch.ports {
                let down =
                    lock(&self.record).disabled_ports.contains(&(switch.name.clone(), port.name.clone()));
                if down {
                    self.backend.set_port(&switch.name, &port.name, false).await?;
                }
            }
        }
        Ok(())
    }

    fn is_agent(&self) -> bool {
        self.fabric.services == FabricServices::Agent
    }

    fn uuid(&self) -> Uuid {
        Uuid::new_v5(&self.fabric.uuid, self.name.as_bytes())
    }

    /// URI of something in the fabric.
    fn uri(&self, rest: &str) -> String {
        format!("/redfish/v1/Fabrics/{}{rest}", self.fabric.id)
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
        let mut record = lock(&self.record).clone();
        let value = change(&mut record)?;
        state::write_json_soon(&self.record_path(), &record)
            .await
            .map_err(|error| ServiceError::internal(&error))?;
        *lock(&self.record) = record;
        Ok(value)
    }

    fn publish(&self, happening: &Happening) {
        self.events.publish(happening);
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

/// What is plugged into the edge ports, by id of the endpoint.
fn attached(switches: &[SwitchSpec]) -> BTreeMap<String, Attached> {
    let mut found = BTreeMap::new();
    for switch in switches {
        for port in &switch.ports {
            let (mac, shared) = match &port.cable {
                Cable::Nic { mac, .. } => (*mac, false),
                Cable::Gateway { mac } => (*mac, true),
                Cable::Unplugged | Cable::Switch { .. } => continue,
            };
            if let Some(id) = endpoint_id(&port.cable) {
                found.insert(
                    id,
                    Attached { mac, switch: switch.name.clone(), port: port.name.clone(), shared },
                );
            }
        }
    }
    found
}

/// Id of the endpoint that a cable leads to, if it leads to one. Names of interfaces hold no dash, so each id is one
/// endpoint's.
fn endpoint_id(cable: &Cable) -> Option<String> {
    match cable {
        Cable::Nic { host, nic, .. } => Some(format!("{host}-{nic}")),
        Cable::Gateway { .. } => Some("gateway".to_owned()),
        Cable::Unplugged | Cable::Switch { .. } => None,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while holding it cannot leave what it guards half changed: changes replace it as a whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
            ["Fabrics"] => crate::bmc::collection("Fabric", "/redfish/v1/Fabrics", [&self.fabric.id]),
            ["Fabrics", id, rest @ ..] if *id == self.fabric.id => self.read_fabric(rest, target.uri),
            ["Managers", rest @ ..] => self.read_manager(rest, target.uri),
            [room @ ("Systems" | "Chassis" | "CompositionService"), rest @ ..] => {
                self.read_pools(room, rest, target.uri)
            }
            ["Fabrics", ..] => Err(ServiceError::not_found(target.uri)),
            segments => self.documents().read(segments),
        }
    }

    async fn write(&self, request: WriteRequest<'_>) -> Result<Reply, ServiceError> {
        let uri = request.target.uri.to_owned();
        let segments: Vec<&str> = request.target.segments().to_vec();
        let inside = match segments.as_slice() {
            ["Fabrics", id, rest @ ..] if *id == self.fabric.id => rest,
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
                self.faults.act(action, request.body, Instant::now())
            }
            ("POST", ["Systems", host, "Actions", action], _) => {
                self.attach(host, action, request.body, &uri).await
            }
            ("PATCH", _, ["Switches", switch, "Oem", "Drystone", "ForwardingTable"]) => {
                self.change_table(switch, request.body, &uri).await
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
