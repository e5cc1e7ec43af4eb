//! All that the tests need: documents, controllers, a synchroniser, a process that can be killed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use drystone_api::{
    SYSTEM_NAMESPACE,
    emco::{
        App, AppDependency, AppDependencySpec, AppIntent, AppIntentSpec, AppSpec, Cluster, ClusterReference,
        ClusterReferenceSpec, ClusterSpec, ControllerType, DeploymentIntentGroup, DeploymentIntentGroupSpec,
        DeploymentIntentGroupStatus, Document, FileReference, GroupIntent, GroupIntentSpec, LifecycleAction,
        LifecycleOperation, LifecycleOperationSpec, LifecycleOperationStatus, LifecycleParameters,
        LogicalCloud, LogicalCloudSpec, PlacementChoice, PlacementIntent, object_name,
    },
};
use drystone_appcontext::{
    AppContextError, AppContexts, ClusterName, ContextId, ResourceName, State as Phase,
    contract::{ActionController, ControllerError, Event, PlacementController, Synchroniser},
};
use drystone_emco_grpc::{Options as PoolOptions, Pool};
use drystone_engine::{
    action::ActionRegistry,
    events::Silent,
    fake_api::{FakeApi, Fault},
    harness::{Caches, ControllerConfig},
    operations::{OperationController, OperationControllerConfig},
    runner::{Engine, EngineConfig},
};
use drystone_store::{
    Layered, Store,
    embedded::{EmbeddedStore, Options},
};
use kube::{
    Api, Resource,
    api::{PatchParams, PostParams},
    core::NamespaceResourceScope,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::mortal::{Fate, Mortal};
use crate::{
    clusters::ClusterAccess,
    controller::{LifecycleConfig, RegisteredControllers, run},
    library::Library,
    model::{DeployedApp, Manifest, Manifests, Refusal},
    seams::{ChartFailure, Charts, Controllers, Enlisted, Room, Rooms},
    steps::{StepDependencies, register},
};

pub(super) const APP: &str = "projects/p1/composite-apps/ca/v1";
pub(super) const GROUP: &str = "projects/p1/composite-apps/ca/v1/deployment-intent-groups/d";
pub(super) const CLOUD: &str = "projects/p1/logical-clouds/lc";

/// What was called, in order.
pub(super) type Calls = Arc<Mutex<Vec<String>>>;

/// Controllers that say what they are told, and do something small.
#[derive(Clone)]
pub(super) struct Staff {
    pub(super) calls: Calls,
    /// Name, what it does, priority.
    pub(super) known: Arc<Mutex<BTreeMap<String, (ControllerType, i64)>>>,
    /// The name of the controller that refuses.
    pub(super) refuses: Arc<Mutex<Option<String>>>,
    contexts: AppContexts,
}

struct Member {
    name: String,
    staff: Staff,
}

impl Member {
    fn call(&self, what: &str) -> Result<(), ControllerError> {
        self.staff.calls.lock().expect("not poisoned").push(format!("{}: {what}", self.name));
        let refuses = self.staff.refuses.lock().expect("not poisoned");
        if refuses.as_deref() == Some(&self.name) {
            return Err(ControllerError::Refused("not like that".to_owned()));
        }
        Ok(())
    }
}

fn failed(error: &AppContextError) -> ControllerError {
    ControllerError::Unreachable(error.to_string())
}

#[async_trait]
impl PlacementController for Member {
    /// Leaves out clusters whose names begin with `bad`.
    async fn filter_clusters(&self, context: ContextId) -> Result<(), ControllerError> {
        self.call("filter")?;
        let edited = self.staff.contexts.edit::<(), AppContextError, _>(context, |context| {
            for app in context.apps.values_mut() {
                app.clusters.retain(|cluster, _| !cluster.cluster.starts_with("bad"));
            }
            Ok(())
        });
        edited.await.map_err(|error| failed(&error))
    }
}

#[async_trait]
impl ActionController for Member {
    /// Adds an object that is named after the controller.
    async fn update_context(
        &self,
        context: ContextId,
        intent: &str,
        from: Option<ContextId>,
    ) -> Result<(), ControllerError> {
        self.call(&format!("update {intent} from {}", if from.is_some() { "another" } else { "nothing" }))?;
        let name = self.name.clone();
        let edited = self.staff.contexts.edit::<(), AppContextError, _>(context, |context| {
            for part in context.apps.values_mut().flat_map(|app| app.clusters.values_mut()) {
                part.put(ResourceName::new(&name, "ConfigMap"), format!("kind: ConfigMap # {name}"));
            }
            Ok(())
        });
        edited.await.map_err(|error| failed(&error))
    }

    async fn terminate(&self, _: ContextId) -> Result<(), ControllerError> {
        self.call("terminate")?;
        Err(ControllerError::Unimplemented("TerminateAppContext".to_owned()))
    }

    async fn post_event(&self, _: ContextId, event: Event) -> Result<(), ControllerError> {
        self.call(&format!("event {event:?}"))
    }
}

#[async_trait]
impl Synchroniser for Member {
    async fn install(&self, context: ContextId) -> Result<(), ControllerError> {
        self.call("install")?;
        self.becomes(context, Phase::Instantiated).await
    }

    async fn uninstall(&self, context: ContextId) -> Result<(), ControllerError> {
        self.call("uninstall")?;
        self.becomes(context, Phase::Terminated).await
    }

    async fn read(&self, _: ContextId) -> Result<(), ControllerError> {
        self.call("read")
    }

    async fn update(&self, from: ContextId, to: ContextId) -> Result<(), ControllerError> {
        self.call("update")?;
        self.becomes(from, Phase::Updated).await?;
        self.becomes(to, Phase::Instantiated).await
    }
}

impl Member {
    async fn becomes(&self, context: ContextId, phase: Phase) -> Result<(), ControllerError> {
        let edited = self.staff.contexts.edit_sync::<(), AppContextError, _>(context, |sync| {
            sync.status = Some(phase);
            Ok(())
        });
        edited.await.map_err(|error| failed(&error))
    }
}

impl Staff {
    fn member(&self, name: &str) -> Arc<Member> {
        Arc::new(Member { name: name.to_owned(), staff: self.clone() })
    }
}

impl Controllers for Staff {
    fn enlisted(&self, name: &str) -> Option<Enlisted> {
        let known = self.known.lock().expect("not poisoned");
        known.get(name).map(|(kind, priority)| Enlisted {
            name: name.to_owned(),
            kind: *kind,
            priority: *priority,
        })
    }

    fn placement(&self, name: &str) -> Arc<dyn PlacementController> {
        self.member(name)
    }

    fn action(&self, name: &str) -> Arc<dyn ActionController> {
        self.member(name)
    }

    fn synchroniser(&self) -> Arc<dyn Synchroniser> {
        self.member("rsync")
    }
}

/// A chart becomes a Deployment, in which its digest and its overrides can be seen.
pub(super) struct Kitchen;

#[async_trait]
impl Charts for Kitchen {
    async fn render(
        &self,
        app: &DeployedApp,
        release: &str,
        namespace: &str,
    ) -> Result<Manifests, ChartFailure> {
        if app.overrides.contains_key("broken") {
            let refusal = Refusal::unfit(format!("chart of app {}: it does not render", app.name));
            return Err(ChartFailure::Refused(refusal));
        }
        let text = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {release}-{}, namespace: {namespace}}}\n# {:?}\n",
            app.name, app.overrides
        );
        let object = Manifest {
            api_version: "apps/v1".to_owned(),
            kind: "Deployment".to_owned(),
            name: format!("{release}-{}", app.name),
            namespace: None,
            text: text.into(),
        };
        Ok(Manifests { objects: vec![object], ..Manifests::default() })
    }
}

struct Nowhere;

#[async_trait]
impl Rooms for Nowhere {
    async fn room(&self, _: &ClusterName) -> Result<Room, String> {
        Err("nobody is there".to_owned())
    }
}

/// All of it.
pub(super) struct World {
    pub(super) api: FakeApi,
    pub(super) contexts: AppContexts,
    pub(super) calls: Calls,
    pub(super) known: Arc<Mutex<BTreeMap<String, (ControllerType, i64)>>>,
    pub(super) refuses: Arc<Mutex<Option<String>>>,
    store: Arc<dyn Store>,
    operations: Mutex<u32>,
    by_registration: bool,
    _directory: Option<tempfile::TempDir>,
}

fn choice(cluster: &str) -> PlacementChoice {
    PlacementChoice { cluster_provider: "p".to_owned(), cluster: cluster.to_owned(), ..Default::default() }
}

impl World {
    /// With the application `ca` of the apps `a` and `b` (which waits for `a`), its group `d`, a logical cloud of level 0, and four clusters.
    pub(super) async fn new() -> Self {
        let directory = tempfile::tempdir().expect("made");
        let store = EmbeddedStore::open(directory.path().join("store"), Options::default()).expect("opened");
        Self { _directory: Some(directory), ..Self::over(Arc::new(store)).await }
    }

    /// The same, with the AppContexts in that store.
    pub(super) async fn over(store: Arc<dyn Store>) -> Self {
        let world = Self {
            api: FakeApi::new(),
            contexts: AppContexts::new(store.clone()),
            calls: Calls::default(),
            known: Arc::default(),
            refuses: Arc::default(),
            store,
            operations: Mutex::default(),
            by_registration: false,
            _directory: None,
        };
        for cluster in ["bad1", "c1", "c2", "c3"] {
            let path = format!("cluster-providers/p/clusters/{cluster}");
            world.put(&Cluster::new(&object_name(&path), ClusterSpec { path, ..Default::default() })).await;
        }
        world
            .put_cloud(LogicalCloudSpec {
                path: CLOUD.to_owned(),
                level: "0".to_owned(),
                ..Default::default()
            })
            .await;
        world.put_application().await;
        world
    }

    /// Controllers are those that are registered, over gRPC.
    pub(super) fn by_registration(self) -> Self {
        Self { by_registration: true, ..self }
    }

    pub(super) async fn put_cloud(&self, spec: LogicalCloudSpec) {
        let path = spec.path.clone();
        self.put(&LogicalCloud::new(&object_name(&path), spec)).await;
        for cluster in ["bad1", "c1", "c2"] {
            let path = format!("{path}/cluster-references/{cluster}");
            let spec = ClusterReferenceSpec {
                path: path.clone(),
                cluster_provider: "p".to_owned(),
                cluster: cluster.to_owned(),
                ..Default::default()
            };
            self.put(&ClusterReference::new(&object_name(&path), spec)).await;
        }
    }

    async fn put_application(&self) {
        for app in ["a", "b"] {
            let path = format!("{APP}/apps/{app}");
            let file = FileReference { sha256: "0".repeat(64), length: 1, name: "chart.tgz".to_owned() };
            let spec = AppSpec { path: path.clone(), file, ..Default::default() };
            self.put(&App::new(&object_name(&path), spec)).await;
            let path = format!("{GROUP}/generic-placement-intents/gpi/app-intents/{app}-placement");
            let intent = PlacementIntent {
                any_of: vec![choice("bad1"), choice("c1"), choice("c2")],
                ..Default::default()
            };
            let spec =
                AppIntentSpec { path: path.clone(), app: app.to_owned(), intent, ..Default::default() };
            self.put(&AppIntent::new(&object_name(&path), spec)).await;
        }
        self.depend("b", "a").await;
        let path = format!("{GROUP}/intents/all");
        let intent = BTreeMap::from([("genericPlacementIntent".to_owned(), "gpi".to_owned())]);
        let spec = GroupIntentSpec { path: path.clone(), intent, ..Default::default() };
        self.put(&GroupIntent::new(&object_name(&path), spec)).await;
        let spec = DeploymentIntentGroupSpec {
            path: GROUP.to_owned(),
            composite_profile: "cp".to_owned(),
            version: "r1".to_owned(),
            logical_cloud: "lc".to_owned(),
            ..Default::default()
        };
        self.put(&DeploymentIntentGroup::new(&object_name(GROUP), spec)).await;
    }

    /// `app` waits for `other`.
    pub(super) async fn depend(&self, app: &str, other: &str) {
        let path = format!("{APP}/apps/{app}/dependency/on-{other}");
        let spec = AppDependencySpec { path: path.clone(), app: other.to_owned(), ..Default::default() };
        self.put(&AppDependency::new(&object_name(&path), spec)).await;
    }

    /// A controller that the group has an intent for.
    pub(super) async fn employ(&self, name: &str, kind: ControllerType, priority: i64) {
        self.known.lock().expect("not poisoned").insert(name.to_owned(), (kind, priority));
        self.intend(name).await;
    }

    pub(super) async fn intend(&self, controller: &str) {
        let path = format!("{GROUP}/intents/of-{controller}");
        let intent = BTreeMap::from([(controller.to_owned(), format!("{controller}-intent"))]);
        let spec = GroupIntentSpec { path: path.clone(), intent, ..Default::default() };
        self.put(&GroupIntent::new(&object_name(&path), spec)).await;
    }

    pub(super) fn documents<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.api.client(), SYSTEM_NAMESPACE)
    }

    pub(super) async fn put<K>(&self, document: &K)
    where
        K: Document + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + Serialize + DeserializeOwned + std::fmt::Debug,
    {
        self.documents::<K>().create(&PostParams::default(), document).await.expect("created");
    }

    /// A process with the engine and the controllers; killed when it is dropped, or as `fate` has it.
    pub(super) fn process(&self, fate: Option<Arc<Fate>>) -> AbortOnDropHandle<()> {
        let client = self.api.client();
        let contexts = match &fate {
            Some(fate) => AppContexts::new(Arc::new(Layered::new(self.store.clone(), Mortal(fate.clone())))),
            None => AppContexts::new(self.store.clone()),
        };
        if let Some(fate) = fate {
            self.api.set_faults(move |method, _| {
                if method == "GET" || !fate.strikes() {
                    return None;
                }
                Some(if fate.written { Fault::AnswerHangs } else { Fault::Hangs })
            });
        }
        let staff = Staff {
            calls: self.calls.clone(),
            known: self.known.clone(),
            refuses: self.refuses.clone(),
            contexts: contexts.clone(),
        };
        let by_registration = self.by_registration;
        AbortOnDropHandle::new(tokio::spawn(async move {
            let shutdown = CancellationToken::new();
            let _cut = shutdown.clone().drop_guard();
            let caches = Caches::new(client.clone(), shutdown.clone());
            let library = Library::of(&caches);
            let registry = by_registration.then(|| {
                let nobody = staff.member("nobody");
                let pool = Pool::new(PoolOptions::default());
                RegisteredControllers::new(library.clone(), pool, BTreeMap::new(), nobody)
            });
            let controllers: Arc<dyn Controllers> = match registry.clone() {
                Some(registry) => Arc::new(registry),
                None => Arc::new(staff),
            };
            let dependencies = StepDependencies {
                library,
                contexts,
                controllers,
                charts: Arc::new(Kitchen),
                rooms: Arc::new(Nowhere),
            };
            let mut actions = ActionRegistry::new();
            register(&mut actions, &dependencies).expect("new");
            let engine = Engine::new(client.clone(), actions, EngineConfig::default(), Arc::new(Silent));
            let operations =
                OperationController::new(client.clone(), engine, OperationControllerConfig::default());
            let config = LifecycleConfig {
                dependencies,
                access: ClusterAccess::new(client.clone(), &caches),
                registry,
                authority_pem: String::new(),
                controller: ControllerConfig::default(),
            };
            tokio::join!(operations.run(shutdown.clone()), run(client, &caches, config, shutdown.clone()));
        }))
    }

    pub(super) async fn ask_with(
        &self,
        path: &str,
        action: LifecycleAction,
        parameters: LifecycleParameters,
    ) -> String {
        let number = {
            let mut operations = self.operations.lock().expect("not poisoned");
            *operations += 1;
            *operations
        };
        let name = format!("op-{number}");
        let spec = LifecycleOperationSpec { path: path.to_owned(), action, parameters };
        let operation = LifecycleOperation::new(&name, spec);
        self.documents().create(&PostParams::default(), &operation).await.expect("created");
        name
    }

    pub(super) async fn ask(&self, path: &str, action: LifecycleAction) -> String {
        self.ask_with(path, action, LifecycleParameters::default()).await
    }

    /// Waits until an operation is through.
    pub(super) async fn through(&self, name: &str) -> LifecycleOperationStatus {
        for _ in 0..6_000 {
            let status = self.operation(name).await;
            if status.phase.is_final() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!(
            "{name} does not come to its end: {:?} {:?}",
            self.operation(name).await,
            self.api.objects("/operations/")
        );
    }

    pub(super) async fn operation(&self, name: &str) -> LifecycleOperationStatus {
        let operations = self.documents::<LifecycleOperation>();
        operations.get(name).await.expect("there").status.unwrap_or_default()
    }

    /// Asks for something and waits until it is through: code and message.
    pub(super) async fn done(&self, path: &str, action: LifecycleAction) -> (u16, String) {
        let name = self.ask(path, action).await;
        let status = self.through(&name).await;
        (status.code.expect("has one"), status.message)
    }

    pub(super) async fn group(&self) -> DeploymentIntentGroupStatus {
        let groups = self.documents::<DeploymentIntentGroup>();
        groups.get(&object_name(GROUP)).await.expect("there").status.unwrap_or_default()
    }

    /// States of the group, with revisions.
    pub(super) async fn states(&self) -> Vec<String> {
        let group = self.group().await;
        group.state_info.iter().map(|entry| format!("{} {}", entry.state, entry.revision)).collect()
    }

    /// The context that is deployed.
    pub(super) async fn present(&self) -> ContextId {
        let group = self.group().await;
        let last = group.state_info.iter().rev().find(|entry| !entry.context_id.is_empty()).expect("some");
        last.context_id.parse().expect("a number")
    }

    pub(super) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().expect("not poisoned"))
    }

    /// Changes the group's override values.
    pub(super) async fn override_value(&self, key: &str, value: &str) {
        let patch = serde_json::json!({"spec": {"overrideValues": [{"app": "a", "values": {key: value}}]}});
        let groups = self.documents::<DeploymentIntentGroup>();
        let patch = kube::api::Patch::Merge(patch);
        groups.patch(&object_name(GROUP), &PatchParams::default(), &patch).await.expect("changed");
    }

    /// The logical cloud instantiated and the group approved.
    pub(super) async fn approved(&self) {
        assert_eq!(self.done(CLOUD, LifecycleAction::Instantiate).await, (202, String::new()));
        assert_eq!(self.done(GROUP, LifecycleAction::Approve).await, (202, String::new()));
        self.calls();
    }
}
