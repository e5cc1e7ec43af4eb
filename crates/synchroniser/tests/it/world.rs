//! Simulated clusters, a store in memory, and a synchroniser between them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use drystone_appcontext::{
    App, AppContext, AppContexts, ClusterName, ContextId, Meta, Part, Resource, ResourceName, State,
};
use drystone_engine::backoff::Backoff;
use drystone_simulated_clusters::{Cluster, Options, Simulation};
use drystone_store::{
    Store,
    embedded::{EmbeddedStore, Options as StoreOptions},
};
use drystone_synchroniser::{Access, AccessError, Clusters, Identity, Settings, Synchronisation};

/// Longest time that anything may take on a slow machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The ways to simulated clusters; `p+c0` is the first.
#[derive(Clone, Default)]
pub(crate) struct Ways {
    urls: Arc<Mutex<BTreeMap<String, String>>>,
    asked: Arc<Mutex<Vec<(String, Identity)>>>,
    closed: Arc<AtomicBool>,
}

impl Ways {
    /// Whether there is a way, only not now.
    pub(crate) fn close(&self, closed: bool) {
        self.closed.store(closed, Ordering::SeqCst);
    }

    /// How often a way to a cluster was asked for.
    pub(crate) fn asked(&self, cluster: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|(name, _)| name == cluster).count()
    }

    /// As whom.
    pub(crate) fn identities(&self) -> Vec<Identity> {
        self.asked.lock().unwrap().iter().map(|(_, identity)| identity.clone()).collect()
    }
}

#[async_trait]
impl Clusters for Ways {
    async fn connect(&self, cluster: &ClusterName, identity: &Identity) -> Result<Access, AccessError> {
        let name = cluster.to_string();
        self.asked.lock().unwrap().push((name.clone(), identity.clone()));
        if self.closed.load(Ordering::SeqCst) {
            return Err(AccessError::NotNow("its secret cannot be read now".into()));
        }
        let url = self.urls.lock().unwrap().get(&name).cloned();
        let url = url.ok_or_else(|| AccessError::None(format!("there is no cluster {name}")))?;
        let config = Box::new(kube::Config::new(url.parse().unwrap()));
        Ok(Access::Config { config, plain_http2: true })
    }
}

/// Everything.
pub(crate) struct World {
    pub(crate) simulation: Simulation,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) contexts: AppContexts,
    pub(crate) ways: Ways,
    pub(crate) sync: Synchronisation,
}

/// Everything is quick.
pub(crate) fn settings() -> Settings {
    let quick = Backoff { initial: Duration::from_millis(20), maximum: Duration::from_millis(200) };
    Settings {
        away: quick,
        again: quick,
        patience: Duration::from_secs(1),
        gather: Duration::from_millis(5),
        settle: Duration::from_millis(10),
        ..Settings::default()
    }
}

/// A store in memory.
pub(crate) fn memory() -> Arc<dyn Store> {
    Arc::new(EmbeddedStore::in_memory(StoreOptions::default()).unwrap())
}

impl World {
    /// So many clusters.
    pub(crate) async fn of(count: usize) -> Self {
        Self::over(count, memory()).await
    }

    /// So many clusters, and a store.
    pub(crate) async fn over(count: usize, store: Arc<dyn Store>) -> Self {
        let simulation =
            Simulation::start(count, &Options { log: true, ..Options::default() }).await.unwrap();
        let ways = Ways::default();
        for index in 0..count {
            ways.urls.lock().unwrap().insert(format!("p+c{index}"), simulation.url(index));
        }
        let contexts = AppContexts::new(store.clone());
        let sync = Synchronisation::new(contexts.clone(), Arc::new(ways.clone()), settings());
        Self { simulation, store, contexts, ways, sync }
    }

    /// Another synchroniser in the place of this one, as after a kill.
    pub(crate) async fn restart(&mut self) {
        self.forget();
        self.sync.resume().await.unwrap();
    }

    /// Another synchroniser that knows nothing, and is told nothing.
    pub(crate) fn forget(&mut self) {
        self.sync.stop();
        self.contexts = AppContexts::new(self.store.clone());
        self.sync = Synchronisation::new(self.contexts.clone(), Arc::new(self.ways.clone()), settings());
    }

    pub(crate) fn cluster(&self, index: usize) -> &Arc<Cluster> {
        self.simulation.cluster(index).unwrap()
    }

    pub(crate) async fn state(&self, id: ContextId) -> State {
        self.contexts.sync_state(id).await.unwrap().current.unwrap_or(State::Created)
    }

    /// Waits until a context is in a state.
    pub(crate) async fn until(&self, id: ContextId, state: State) {
        let mut found = None;
        let arrived = async {
            loop {
                // A store that was started again may not answer the first time.
                if let Ok(sync) = self.contexts.sync_state(id).await {
                    found = sync.current;
                    if found == Some(state) && !sync.has_orders() {
                        return;
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let arrived = tokio::time::timeout(PATIENCE, arrived).await;
        assert!(arrived.is_ok(), "{id} is {found:?}, not {state}: {:?}", self.sync.problems(id));
    }

    /// Waits until nothing is being worked on.
    pub(crate) async fn idle(&self) {
        let idle = async {
            while !self.contexts.active().await.unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, idle).await.expect("something is left to be resumed");
    }

    /// Waits until a context is in a state, whatever else waits.
    pub(crate) async fn reaches(&self, id: ContextId, state: State) {
        let arrived = async {
            while self.state(id).await != state {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, arrived).await.unwrap_or_else(|_| panic!("never {state}"));
    }

    /// Waits until something is so.
    pub(crate) async fn eventually(&self, what: &str, is_so: impl Fn() -> bool) {
        let so = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, so).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    pub(crate) async fn part(&self, id: ContextId, app: &str, cluster: usize) -> Part {
        let context = self.contexts.load(id).await.unwrap();
        context.part(app, &name(cluster)).unwrap().clone()
    }
}

/// The name of a cluster.
pub(crate) fn name(index: usize) -> ClusterName {
    ClusterName::new("p", format!("c{index}"))
}

/// A manifest.
pub(crate) fn manifest(api_version: &str, kind: &str, name: &str, spec: &str) -> (ResourceName, String) {
    let spec = if spec.is_empty() { String::new() } else { format!("spec: {spec}\n") };
    let text = format!("apiVersion: {api_version}\nkind: {kind}\nmetadata:\n  name: {name}\n{spec}");
    (ResourceName::new(name, kind), text)
}

pub(crate) fn config(name: &str) -> (ResourceName, String) {
    manifest("v1", "ConfigMap", name, "")
}

pub(crate) fn deployment(name: &str, replicas: u32) -> (ResourceName, String) {
    let spec = format!("{{replicas: {replicas}, template: {{metadata: {{labels: {{a: b}}}}, spec: {{}}}}}}");
    manifest("apps/v1", "Deployment", name, &spec)
}

pub(crate) fn job(name: &str) -> (ResourceName, String) {
    manifest("batch/v1", "Job", name, "{template: {spec: {}}}")
}

/// A part of main resources.
pub(crate) fn part(resources: &[(ResourceName, String)]) -> Part {
    let mut part = Part::default();
    for (name, text) in resources {
        part.put(name.clone(), text.as_str());
    }
    part
}

/// Adds a hook to a part.
pub(crate) fn hook(
    part: &mut Part,
    which: impl Fn(&mut drystone_appcontext::Hooks) -> &mut Vec<ResourceName>,
    (name, text): (ResourceName, String),
) {
    which(&mut part.hooks).push(name.clone());
    part.resources.insert(name, Resource::new(text.as_str()));
}

/// A context with applications on clusters.
pub(crate) fn context(id: u64, apps: &[(&str, &[usize], Part)]) -> AppContext {
    let meta = Meta { namespace: "apps".into(), level: "0".into(), ..Meta::default() };
    let mut context = AppContext::new(ContextId::new(id).unwrap(), meta);
    for (app, clusters, part) in apps {
        context.app_order.push((*app).to_owned());
        let clusters = clusters.iter().map(|index| (name(*index), part.clone())).collect();
        context.apps.insert((*app).to_owned(), App { clusters, dependencies: Vec::new() });
    }
    context
}
