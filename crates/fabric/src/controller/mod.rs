//! Controllers of the fabric manager: agents, zones, address pools, and the half of a Site that is about fabrics.

mod agent;
mod connection;
mod inventory;
mod listeners;
mod planners;
mod pool;
mod services;
mod site;
mod strays;
mod zones;

use std::sync::Arc;

use drystone_api::{AddressPool, BareMetalHost, Connection, EndpointGroup, Switch, Zone};
use drystone_engine::{
    events::EventSink,
    harness::{Cache, Caches, Controller, ControllerConfig, Objects},
};
use kube::{Api, Client, ResourceExt as _, runtime::watcher};
use tokio_util::sync::CancellationToken;

use crate::{
    addresses::AddressDaemon,
    agents::{AgentGateway, AgentRegistry, AgentTrees, Doubts},
    drivers::Drivers,
};
use planners::Planners;
pub(crate) use services::Services;

/// What the controllers are given.
#[derive(Clone)]
pub struct FabricConfig {
    /// Makes drivers.
    pub drivers: Arc<dyn Drivers>,
    /// Where events go.
    pub events: Arc<dyn EventSink>,
    /// The Redfish tree that shows what agents serve.
    pub trees: AgentTrees,
    /// Copies of what the API has.
    pub caches: Caches,
}

/// The fabric manager: its controllers, and what other rooms of the program ask of it.
#[derive(Clone)]
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

    /// Hands writes on to agents.
    pub fn gateway(&self) -> AgentGateway {
        AgentGateway::new(
            self.client.clone(),
            self.services.clone(),
            self.config.trees.clone(),
            self.doubts.clone(),
        )
    }

    /// Runs all controllers of the domain until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { client, config, services, doubts } = self;
        let settings = ControllerConfig { events: config.events.clone(), ..ControllerConfig::default() };
        let watched = zones::Watched {
            agents: config.caches.of(),
            hosts: config.caches.of(),
            // Read anew when this begins: what another process has begun before must be known, however late others learn of it.
            zones: Cache::start(Api::all(client.clone()), watcher::Config::default(), shutdown.clone()),
            connections: config.caches.of(),
            groups: config.caches.of(),
            pools: config.caches.of(),
        };
        let switches: Cache<Switch> = config.caches.of();
        if !(watched.ready().await && switches.ready().await) {
            return;
        }
        let listeners = listeners::Listeners::new(doubts.clone(), shutdown.clone());
        let gone = agent::forget_the_gone(watched.agents.clone(), listeners.clone(), config.trees.clone());
        let agent = agent::AgentReconciler {
            client: client.clone(),
            services: services.clone(),
            switches: switches.clone(),
            doubts: doubts.clone(),
            listeners,
            trees: config.trees.clone(),
            crawled: std::sync::Mutex::default(),
            events: config.events.clone(),
        };
        let planners = Planners::new(switches.clone());
        let strays = strays::Strays {
            client: client.clone(),
            services: services.clone(),
            agents: watched.agents.clone(),
            switches: switches.clone(),
            zones: watched.zones.clone(),
            planners: planners.clone(),
            events: config.events.clone(),
        };
        let zone = zones::ZoneReconciler {
            client: client.clone(),
            services,
            watched: watched.clone(),
            planners: planners.clone(),
            addresses: zones::HostsByAddress::default(),
            surveying: tokio::sync::Mutex::default(),
            events: config.events.clone(),
        };
        // Before any zone is looked at: those that there are now were begun by whoever was here before.
        zone.take_over();
        let connection =
            connection::ConnectionReconciler { client: client.clone(), watched: watched.clone() };
        let zone = zones_controller(&client, zone, &watched, &switches, &planners, &settings);
        let connection = connections_controller(&client, connection, &watched, &settings);
        let site = Controller::new(
            client.clone(),
            site::SiteReconciler { client: client.clone() },
            settings.clone(),
        );
        let pool = pool::PoolReconciler { daemon: AddressDaemon::new(client.clone()) };
        let pool = Controller::new(client.clone(), pool, settings.clone());
        let agent = Controller::new(client, agent, settings).triggered_by(doubts.bells());
        tokio::join!(
            shutdown.clone().run_until_cancelled_owned(gone),
            // On the heap: all of them in one future are large for whoever joins it with others.
            Box::pin(shutdown.clone().run_until_cancelled_owned(strays.run())),
            Box::pin(agent.run(shutdown.clone())),
            Box::pin(zone.run(shutdown.clone())),
            connection.run(shutdown.clone()),
            site.run(shutdown.clone()),
            pool.run(shutdown)
        );
    }
}

/// Zones are looked at again when anything changes that they are made of.
fn zones_controller(
    client: &Client,
    reconciler: zones::ZoneReconciler,
    watched: &zones::Watched,
    switches: &Cache<Switch>,
    planners: &Planners,
    settings: &ControllerConfig,
) -> Controller<zones::ZoneReconciler> {
    let restricted = |namespace: Option<String>, objects: &Objects<Zone>| {
        objects.keys_where(|zone| !zone.spec.default_routing && zone.namespace() == namespace)
    };
    Controller::new(client.clone(), reconciler, settings.clone())
        .watches_cache(switches, |_: &Switch, objects| objects.keys_where(zones::is_waiting))
        .watches_cache(&watched.hosts, |_: &BareMetalHost, objects| objects.keys_where(zones::is_waiting))
        .watches_cache(&watched.zones, zones::relatives)
        .watches_cache(&watched.pools, |pool: &AddressPool, objects| {
            let (name, namespace) = (pool.name_any(), pool.namespace());
            objects
                .keys_where(|zone| zone.namespace() == namespace && zone.spec.address_pools.contains(&name))
        })
        .watches_cache(&watched.connections, move |connection: &Connection, objects| {
            restricted(connection.namespace(), objects)
        })
        .watches_cache(&watched.groups, move |group: &EndpointGroup, objects| {
            restricted(group.namespace(), objects)
        })
        .triggered_by(planners.replanned())
}

/// Connections are looked at again when groups or zones of their namespace change.
fn connections_controller(
    client: &Client,
    reconciler: connection::ConnectionReconciler,
    watched: &zones::Watched,
    settings: &ControllerConfig,
) -> Controller<connection::ConnectionReconciler> {
    let beside = |namespace: Option<String>, objects: &Objects<Connection>| {
        objects.keys_where(|connection| connection.namespace() == namespace)
    };
    Controller::new(client.clone(), reconciler, settings.clone())
        .watches_cache(&watched.groups, move |group: &EndpointGroup, objects| {
            beside(group.namespace(), objects)
        })
        .watches_cache(&watched.zones, move |zone: &Zone, objects| beside(zone.namespace(), objects))
}
