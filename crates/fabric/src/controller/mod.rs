//! Controllers of the fabric manager: agents, zones, address pools, and the half of a Site that is about fabrics.

mod agent;
mod pool;
mod site;
mod zone;
mod zones_of;

use std::{collections::HashMap, sync::Arc};

use drystone_api::{BareMetalHost, FabricAgent, Zone};
use drystone_engine::{
    events::EventSink,
    harness::{Cache, Controller, ControllerConfig, Objects},
    reference::ObjectKey,
};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt as _, runtime::watcher};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    addresses::AddressDaemon,
    drivers::{Credentials, DriverError, Drivers, FabricService},
};

/// What the controllers are given.
#[derive(Clone)]
pub struct FabricConfig {
    /// Makes drivers.
    pub drivers: Arc<dyn Drivers>,
    /// Where events go.
    pub events: Arc<dyn EventSink>,
}

/// Opened services by agent, so that sessions are kept.
#[derive(Clone)]
struct Services {
    client: Client,
    drivers: Arc<dyn Drivers>,
    open: Arc<Mutex<HashMap<ObjectKey, OpenService>>>,
}

/// A service, and the address and version of the credentials that it was opened with.
type OpenService = (String, Arc<dyn FabricService>);

/// Why a service could not be opened.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error(transparent)]
    Driver(#[from] DriverError),
    #[error("Secret {0} with the credentials of the fabric service is missing; create it")]
    NoCredentials(String),
    #[error("reading credentials: {0}")]
    Api(#[from] kube::Error),
}

impl Services {
    /// The service of an agent; opened anew when address or credentials changed.
    async fn of(&self, agent: &FabricAgent) -> Result<Arc<dyn FabricService>, OpenError> {
        let namespace = agent.namespace().unwrap_or_default();
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &namespace);
        let name = &agent.spec.credentials_name;
        let secret = secrets
            .get_opt(name)
            .await?
            .ok_or_else(|| OpenError::NoCredentials(format!("{namespace}/{name}")))?;
        let stamp = format!("{} {}", agent.spec.address, secret.resource_version().unwrap_or_default());
        let key = ObjectKey::of(agent);
        let mut open = self.open.lock().await;
        if let Some((known, service)) = open.get(&key)
            && *known == stamp
        {
            return Ok(service.clone());
        }
        let data = secret.data.unwrap_or_default();
        let text = |key: &str| {
            data.get(key).and_then(|bytes| String::from_utf8(bytes.0.clone()).ok()).unwrap_or_default()
        };
        let credentials = Credentials { username: text("username"), password: text("password") };
        let verify = !agent.spec.disable_certificate_verification;
        let service: Arc<dyn FabricService> =
            Arc::from(self.drivers.open(&agent.spec.address, &credentials, verify)?);
        open.insert(key, (stamp, service.clone()));
        Ok(service)
    }
}

/// Runs all controllers of the domain until `shutdown`.
pub async fn run(client: Client, config: FabricConfig, shutdown: CancellationToken) {
    let services = Services { client: client.clone(), drivers: config.drivers.clone(), open: Arc::default() };
    let settings = ControllerConfig { events: config.events.clone(), ..ControllerConfig::default() };
    let agents: Cache<FabricAgent> =
        Cache::start(Api::all(client.clone()), watcher::Config::default(), shutdown.clone());
    let hosts: Cache<BareMetalHost> =
        Cache::start(Api::all(client.clone()), watcher::Config::default(), shutdown.clone());
    let zones: Cache<Zone> =
        Cache::start(Api::all(client.clone()), watcher::Config::default(), shutdown.clone());
    if !(agents.ready().await && hosts.ready().await && zones.ready().await) {
        return;
    }
    let agent = agent::AgentReconciler {
        client: client.clone(),
        services: services.clone(),
        events: config.events.clone(),
    };
    let zone = zone::ZoneReconciler {
        client: client.clone(),
        services,
        agents: agents.clone(),
        hosts: hosts.clone(),
        zones: zones.clone(),
        events: config.events.clone(),
        turn: Mutex::new(()),
    };
    let all = |_: &FabricAgent, objects: &Objects<Zone>| objects.keys();
    let unfinished = |_: &BareMetalHost, objects: &Objects<Zone>| objects.keys_where(zone::is_waiting);
    let zone = Controller::new(client.clone(), zone, settings.clone())
        .watches_cache(&agents, all)
        .watches_cache(&hosts, unfinished);
    let site =
        Controller::new(client.clone(), site::SiteReconciler { client: client.clone() }, settings.clone());
    let pool = pool::PoolReconciler { daemon: AddressDaemon::new(client.clone()) };
    let pool = Controller::new(client.clone(), pool, settings.clone());
    let agent = Controller::new(client, agent, settings);
    tokio::join!(
        agent.run(shutdown.clone()),
        zone.run(shutdown.clone()),
        site.run(shutdown.clone()),
        pool.run(shutdown)
    );
}
