//! Controllers of the fabric manager: agents, zones, address pools, and the half of a Site that is about fabrics.

mod agent;
mod fabrics;
mod inventory;
mod pool;
mod services;
mod site;
mod zone;
mod zones_of;

use std::sync::Arc;

use drystone_api::{BareMetalHost, FabricAgent, Switch, Zone};
use drystone_engine::{
    events::EventSink,
    harness::{Cache, Controller, ControllerConfig, Objects},
};
use kube::{Api, Client, runtime::watcher};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    addresses::AddressDaemon,
    agents::{AgentRegistry, Doubts},
    drivers::Drivers,
};
use fabrics::Fabrics;
pub(crate) use services::Services;

/// What the controllers are given.
#[derive(Clone)]
pub struct FabricConfig {
    /// Makes drivers.
    pub drivers: Arc<dyn Drivers>,
    /// Where events go.
    pub events: Arc<dyn EventSink>,
}

/// The fabric manager: its controllers, and what other rooms of the program ask of it.
pub struct FabricManager {
    client: Client,
    config: FabricConfig,
    services: Services,
    doubts: Doubts,
}

impl FabricManager {
    /// Over an API; nothing happens before [`FabricManager::run`].
    pub fn new(client: Client, config: FabricConfig) -> Self {
        let services = Services::new(client.clone(), config.drivers.clone());
        Self { client, config, services, doubts: Doubts::default() }
    }

    /// Takes the announcements of agents.
    pub fn registry(&self) -> AgentRegistry {
        AgentRegistry::new(self.client.clone(), self.services.clone(), self.doubts.clone())
    }

    /// Runs all controllers of the domain until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { client, config, services, doubts } = self;
        let settings = ControllerConfig { events: config.events.clone(), ..ControllerConfig::default() };
        let agents: Cache<FabricAgent> =
            Cache::start(Api::all(client.clone()), watcher::Config::default(), shutdown.clone());
        let hosts: Cache<BareMetalHost> =
            Cache::start(Api::all(client.clone()), watcher::Config::default(), shutdown.clone());
        let zones: Cache<Zone> =
            Cache::start(Api::all(client.clone()), watcher::Config::default(), shutdown.clone());
        let switches: Cache<Switch> =
            Cache::start(Api::all(client.clone()), watcher::Config::default(), shutdown.clone());
        if !(agents.ready().await && hosts.ready().await && zones.ready().await && switches.ready().await) {
            return;
        }
        let agent = agent::AgentReconciler {
            client: client.clone(),
            services: services.clone(),
            switches: switches.clone(),
            doubts: doubts.clone(),
            events: config.events.clone(),
        };
        let zone = zone::ZoneReconciler {
            client: client.clone(),
            services,
            agents,
            fabrics: Fabrics::new(switches.clone()),
            hosts: hosts.clone(),
            zones: zones.clone(),
            events: config.events.clone(),
            turn: Mutex::new(()),
        };
        let all = |_: &Switch, objects: &Objects<Zone>| objects.keys();
        let unfinished = |_: &BareMetalHost, objects: &Objects<Zone>| objects.keys_where(zone::is_waiting);
        let zone = Controller::new(client.clone(), zone, settings.clone())
            .watches_cache(&switches, all)
            .watches_cache(&hosts, unfinished);
        let site = Controller::new(
            client.clone(),
            site::SiteReconciler { client: client.clone() },
            settings.clone(),
        );
        let pool = pool::PoolReconciler { daemon: AddressDaemon::new(client.clone()) };
        let pool = Controller::new(client.clone(), pool, settings.clone());
        let agent = Controller::new(client, agent, settings).triggered_by(doubts.bells());
        tokio::join!(
            agent.run(shutdown.clone()),
            zone.run(shutdown.clone()),
            site.run(shutdown.clone()),
            pool.run(shutdown)
        );
    }
}
