//! An API server in memory, and fabric managers over it that can be killed.

use std::{sync::Arc, time::Duration};

use drystone_api::{
    FabricAgent, FabricAgentSpec, SYSTEM_NAMESPACE, ZONE_FINALIZER, Zone, ZoneMember, ZoneSpec,
};
use drystone_apiserver::{ApiServer, Config, Profile};
use drystone_engine::{events::EventRecorder, harness::Caches};
use drystone_fabric::{FabricConfig, FabricManager, agents::AgentTrees};
use drystone_identity::UserInfo;
use drystone_store::{
    KeyRange, Store, WatchRequest,
    embedded::{EmbeddedStore, Options},
};
use futures::StreamExt as _;
use k8s_openapi::{
    api::core::v1::Namespace, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ObjectMeta, PostParams},
    runtime::{conditions, wait::await_condition},
};
use tokio::task::JoinHandle;

use crate::switches::Switches;

/// Longest time that anything may take on a slow machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

pub(crate) struct World {
    pub(crate) store: Arc<EmbeddedStore>,
    pub(crate) client: Client,
    pub(crate) switches: Switches,
    events: EventRecorder,
    _server: ApiServer,
    manager: JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.manager.abort();
    }
}

impl World {
    /// A fabric that is known, and a manager that runs.
    pub(crate) async fn start() -> Self {
        let (server, client, store) = api_server().await;
        let switches = Switches::default();
        let events = EventRecorder::new(client.clone(), "test");
        let manager = run(&client, &switches, &events);
        let world = Self { store, client, switches, events, _server: server, manager };
        let agents: Api<FabricAgent> = world.api();
        let spec = FabricAgentSpec { address: "http://127.0.0.1:9".to_owned(), ..FabricAgentSpec::default() };
        agents.create(&PostParams::default(), &FabricAgent::new("agent", spec)).await.unwrap();
        let ready = async || {
            let agent = world.api::<FabricAgent>().get("agent").await.unwrap();
            agent.status.filter(|status| status.switch_count == 2).map(|_| ())
        };
        eventually("the fabric is known", ready).await;
        world
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE)
    }

    /// Ends the manager in the middle of whatever it does.
    pub(crate) async fn kill(&mut self) {
        self.manager.abort();
        let _ = (&mut self.manager).await;
    }

    /// Starts another manager, as after a restart of the program.
    pub(crate) fn restart(&mut self) {
        self.manager = run(&self.client, &self.switches, &self.events);
    }

    /// Declares a zone as Redfish's POST does: with its finalizer.
    pub(crate) async fn declare(&self, name: &str, endpoints: &[&str]) -> Zone {
        let mut zone = Zone::new(name, spec_of(endpoints));
        zone.metadata.finalizers = Some(vec![ZONE_FINALIZER.to_owned()]);
        self.api().create(&PostParams::default(), &zone).await.unwrap()
    }

    /// Waits until a zone is as it was written.
    pub(crate) async fn ready(&self, name: &str) -> Zone {
        let api: Api<Zone> = self.api();
        eventually("the zone is ready", async || {
            let zone = api.get(name).await.unwrap();
            let status = zone.status.as_ref()?;
            let done = status.phase == drystone_api::ZonePhase::Ready
                && status.observed_generation == zone.metadata.generation;
            done.then_some(zone)
        })
        .await
    }

    /// Keys that were written from a revision on, each as often as it was; agents, whose crawls come when they come, and what
    /// is told of them are left out.
    pub(crate) async fn written_since(&self, revision: drystone_store::Revision) -> Vec<String> {
        self.events.flush().await;
        let last = self.store.revision().await.unwrap();
        let range = KeyRange::prefix("/registry/");
        let request = WatchRequest { range, start_revision: Some(revision + 1) };
        let mut changes = self.store.watch(request).await.unwrap();
        let mut keys = Vec::new();
        let mut reached = revision;
        while reached < last {
            let batch = tokio::time::timeout(DEADLINE, changes.next()).await.unwrap().unwrap().unwrap();
            reached = batch.revision;
            let key =
                |event: &Arc<drystone_store::Event>| String::from_utf8_lossy(&event.kv.key).into_owned();
            let of_zones = |key: &String| !key.contains("/fabricagents/") && !key.contains("/agent.");
            keys.extend(batch.events.iter().map(key).filter(of_zones));
        }
        keys
    }
}

/// An API server in memory with Drystone's kinds, a client of it, and its store.
pub(crate) async fn api_server() -> (ApiServer, Client, Arc<EmbeddedStore>) {
    let store = Arc::new(EmbeddedStore::in_memory(Options::default()).unwrap());
    let server = ApiServer::new(Config::new(Profile::Management, store.clone())).await.unwrap();
    let user = UserInfo::new("system:admin", ["system:masters"]);
    let client = Client::new(server.service_as(user), "default");
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in drystone_api::custom_resource_definitions() {
        definitions.create(&PostParams::default(), &definition).await.unwrap();
        let name = definition.name_any();
        let established = await_condition(definitions.clone(), &name, conditions::is_crd_established());
        tokio::time::timeout(DEADLINE, established).await.unwrap().unwrap();
    }
    let metadata = ObjectMeta { name: Some(SYSTEM_NAMESPACE.to_owned()), ..ObjectMeta::default() };
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() }).await.unwrap();
    (server, client, store)
}

/// Endpoints of the fabric as a zone.
pub(crate) fn spec_of(endpoints: &[&str]) -> ZoneSpec {
    let member = |id: &&str| ZoneMember { endpoint: Some((*id).to_owned()), ..ZoneMember::default() };
    ZoneSpec {
        fabric: Some("F".to_owned()),
        members: endpoints.iter().map(member).collect(),
        gateways: false,
        ..ZoneSpec::default()
    }
}

fn run(client: &Client, switches: &Switches, events: &EventRecorder) -> JoinHandle<()> {
    let shutdown = tokio_util::sync::CancellationToken::new();
    let config = FabricConfig {
        caches: Caches::new(client.clone(), shutdown.clone()),
        drivers: Arc::new(switches.clone()),
        events: Arc::new(events.clone()),
        trees: AgentTrees::default(),
    };
    let manager = FabricManager::new(client.clone(), config);
    tokio::spawn(async move {
        // Its caches watch until this is dropped.
        let _stop = shutdown.clone().drop_guard();
        manager.run(shutdown).await;
    })
}

/// Waits until `check` finds something.
pub(crate) async fn eventually<T>(what: &str, check: impl AsyncFn() -> Option<T>) -> T {
    let end = tokio::time::Instant::now() + DEADLINE;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < end, "{what}: not seen in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
