//! Composite applications: EMCO's REST interface on the HTTPS port and the plain one, life cycles, and what carries applications to
//! clusters.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::Response,
};
use drystone_api::{
    SYSTEM_NAMESPACE,
    emco::{EMCO_GROUP, FileReference},
};
use drystone_apiserver::ApiServer;
use drystone_appcontext::{
    AppContexts, ContextId,
    contract::{ControllerError, Synchroniser},
};
use drystone_emco::{
    builtin::{
        GenericActions, InterfaceActions,
        controllers::{DeclaredIntents, Files as Contents},
    },
    charts::RenderedCharts,
    clusters::{ClusterAccess, LiveRooms},
    controller::{self, BuiltIn, LifecycleConfig, RegisteredControllers},
    library::Library,
    status as emco_status,
    steps::{StepDependencies, register},
};
use drystone_emco_grpc::{ContextReadiness, Options, Pool, Services};
use drystone_emco_rest::{
    EmcoRest, Refusal,
    door::{Access, Decision, Denied, Door},
    files::{FileStore, whole},
    listeners::ListenersConfig,
    service::Config,
    status::{StatusKind, StatusList, StatusOutput, StatusQuery, StatusSource},
};
use drystone_engine::{
    action::ActionRegistry,
    harness::{Caches, ControllerConfig},
};
use drystone_identity::rbac::ResourceAttributes;
use drystone_sealing::SealingKey;
use drystone_synchroniser::{Settings, Synchronisation};
use kube::Client;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{charts::ChartArgs, emco_grpc::ByPolicy, mount};
use crate::{
    admission::{Refused, admit_resource},
    command::Failure,
};

/// Bytes that a chart or another file of an application may have: as many as EMCO takes.
const LARGEST_FILE: u64 = 1 << 30;

/// How soon it is tried again to take up what was under way.
const RESUME_AGAIN: Duration = Duration::from_secs(2);

/// Priority of built-in action controllers that nobody registered with another one: the objects that gac adds get interfaces, too.
const PRIORITIES: [i64; 2] = [10, 20];

/// Where the service is mounted.
pub(crate) type Mount = mount::Mount<EmcoRest>;

impl mount::Service for EmcoRest {
    const PATHS: &'static [&'static str] = &["/v2", "/v2/{*rest}"];

    async fn answer(&self, request: Request) -> Response {
        Self::answer(self, request).await
    }

    fn starting() -> Response {
        let mut response = Response::new(Body::from("the service is starting; try again\n"));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        response
    }
}

/// Whom the API server knows, and what its access policy allows.
struct ByApiServer(ApiServer);

impl Door for ByApiServer {
    fn admit<'a>(&'a self, request: &'a Parts, access: Access<'a>) -> Decision<'a> {
        Box::pin(async move {
            let resource = ResourceAttributes {
                group: EMCO_GROUP,
                resource: access.resource,
                subresource: access.subresource,
                namespace: SYSTEM_NAMESPACE,
                name: access.name,
                ..ResourceAttributes::default()
            };
            let admitted = admit_resource(&self.0, request, access.verb, resource).await;
            admitted.map_err(|refused| match refused {
                Refused::Unknown => Denied::Unauthenticated,
                Refused::Forbidden(why) => Denied::Forbidden(why),
            })
        })
    }
}

/// Files of applications, as charts and built-in controllers read them.
struct Shelf(FileStore);

#[async_trait]
impl Contents for Shelf {
    async fn content(&self, file: &FileReference) -> Result<Arc<[u8]>, String> {
        let read = whole(&self.0, file, LARGEST_FILE).await;
        read.map(Arc::from).map_err(|error| error.to_string())
    }
}

/// Where deployments stand, for the REST interface.
struct Statuses(emco_status::Statuses);

fn told(refusal: &drystone_emco::model::Refusal) -> Refusal {
    let code = StatusCode::from_u16(refusal.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Refusal::new(code, refusal.message.clone())
}

#[async_trait]
impl StatusSource for Statuses {
    async fn status(&self, path: &str, query: &StatusQuery, base: Value) -> Result<Value, Refusal> {
        let wrong = |name: &str, given: &str| {
            Refusal::bad_request(format!("query parameter {name}: {given:?} is none that can be"))
        };
        let mut asked = emco_status::StatusQuery::of(match query.kind {
            StatusKind::Deployed => emco_status::StatusKind::Deployed,
            StatusKind::Ready => emco_status::StatusKind::Ready,
            StatusKind::Rsync => emco_status::StatusKind::Rsync,
            StatusKind::Cluster => emco_status::StatusKind::Cluster,
        });
        asked.output = match query.output {
            StatusOutput::Summary => emco_status::Output::Summary,
            StatusOutput::All => emco_status::Output::All,
            StatusOutput::Detail => emco_status::Output::Detail,
        };
        asked.list = query.list.map(|list| match list {
            StatusList::Apps => emco_status::List::Apps,
            StatusList::Clusters => emco_status::List::Clusters,
            StatusList::Resources => emco_status::List::Resources,
        });
        if let Some(instance) = &query.instance {
            asked.instance = Some(instance.parse().map_err(|_| wrong("instance", instance))?);
        }
        asked.apps = query.apps.iter().cloned().collect();
        for cluster in &query.clusters {
            asked.clusters.insert(cluster.parse().map_err(|_| wrong("cluster", cluster))?);
        }
        asked.resources = query.resources.iter().cloned().collect();
        let answer = self.0.answer(path, &asked).await.map_err(|refusal| told(&refusal))?;
        // A list has its own heading, and no members that were known before.
        let base = if query.list.is_some() { json!({}) } else { base };
        let (Value::Object(mut whole), Value::Object(answer)) = (base, answer) else {
            return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "a status is an object"));
        };
        for (member, value) in answer {
            whole.entry(member).or_insert(value);
        }
        Ok(Value::Object(whole))
    }

    async fn settled(&self, path: &str) -> Result<(), Refusal> {
        self.0.settled(path).await.map_err(|refusal| told(&refusal))
    }
}

/// The synchroniser of this process, while it leads.
#[derive(Clone, Default)]
struct Slot(Arc<RwLock<Option<Synchronisation>>>);

impl Slot {
    fn set(&self, synchronisation: Option<Synchronisation>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = synchronisation;
    }

    fn get(&self) -> Result<Synchronisation, ControllerError> {
        let present = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        present.ok_or_else(|| {
            ControllerError::Unreachable("this Drystone does not lead, or is stopping".to_owned())
        })
    }
}

#[async_trait]
impl Synchroniser for Slot {
    async fn install(&self, context: ContextId) -> Result<(), ControllerError> {
        self.get()?.install(context).await
    }

    async fn uninstall(&self, context: ContextId) -> Result<(), ControllerError> {
        self.get()?.uninstall(context).await
    }

    async fn read(&self, context: ContextId) -> Result<(), ControllerError> {
        self.get()?.read(context).await
    }

    async fn update(&self, from: ContextId, to: ContextId) -> Result<(), ControllerError> {
        self.get()?.update(from, to).await
    }
}

/// What composite applications are made of, not yet running.
#[derive(Clone)]
pub(crate) struct Applications {
    config: LifecycleConfig,
    contexts: AppContexts,
    access: ClusterAccess,
    files: FileStore,
    slot: Slot,
}

/// What is needed for that.
pub(crate) struct Ground<'a> {
    /// A client of the API.
    pub(crate) client: &'a Client,
    /// Copies of what it has.
    pub(crate) caches: &'a Caches,
    /// AppContexts.
    pub(crate) contexts: AppContexts,
    /// Where everything is kept.
    pub(crate) data: &'a Path,
    /// By what it is sealed.
    pub(crate) sealing: &'a SealingKey,
    /// Drystone's own authority, PEM.
    pub(crate) authority_pem: String,
    /// How charts are rendered.
    pub(crate) charts: &'a ChartArgs,
}

/// Registers the steps of life cycles, and opens what they need.
pub(super) fn prepare(actions: &mut ActionRegistry, ground: &Ground<'_>) -> Result<Applications, Failure> {
    let Ground { client, caches, contexts, data, sealing, authority_pem, charts } = ground;
    let files = FileStore::open(&data.join("application-files"), sealing)?;
    let shelf: Arc<dyn Contents> = Arc::new(Shelf(files.clone()));
    let library = Library::of(caches);
    let access = ClusterAccess::new((*client).clone(), caches);
    let values = charts.values()?;
    let intents = Arc::new(DeclaredIntents::new((*client).clone(), library.clone(), shelf.clone()));
    let built_in = BTreeMap::from([
        (
            GenericActions::NAME.to_owned(),
            (
                PRIORITIES[0],
                BuiltIn::Action(Arc::new(GenericActions::new(contexts.clone(), intents.clone(), values))),
            ),
        ),
        (
            InterfaceActions::NAME.to_owned(),
            (PRIORITIES[1], BuiltIn::Action(Arc::new(InterfaceActions::new(contexts.clone(), intents)))),
        ),
    ]);
    let slot = Slot::default();
    let registry = RegisteredControllers::new(
        library.clone(),
        Pool::new(Options::default()),
        built_in,
        Arc::new(slot.clone()),
    );
    let renderer = charts.renderer(data, sealing)?;
    let dependencies = StepDependencies {
        library,
        contexts: contexts.clone(),
        controllers: Arc::new(registry.clone()),
        charts: Arc::new(RenderedCharts::new(renderer, shelf)),
        rooms: Arc::new(LiveRooms(access.clone())),
    };
    register(actions, &dependencies)?;
    let config = LifecycleConfig {
        dependencies,
        access: access.clone(),
        registry: Some(registry),
        authority_pem: authority_pem.clone(),
        controller: ControllerConfig::default(),
    };
    Ok(Applications { config, contexts: contexts.clone(), access, files, slot })
}

impl Applications {
    /// Starts the REST interface, which ends with the API server. The first one counts.
    pub(super) fn serve(&self, mount: &Mount, api: &ApiServer, client: &Client, caches: &Caches) {
        let registry = self.config.registry.iter();
        let statuses =
            emco_status::Statuses::new(self.config.dependencies.library.clone(), self.contexts.clone());
        let config = Config {
            door: Arc::new(ByApiServer(api.clone())),
            files: Arc::new(self.files.clone()),
            status: Some(Arc::new(Statuses(statuses))),
            built_in: registry.flat_map(RegisteredControllers::built_in_names).map(str::to_owned).collect(),
        };
        mount.start(|| EmcoRest::start(client.clone(), caches, config, &api.stopping()));
    }

    /// What foreign orchestrators and clients may ask for by gRPC.
    pub(super) fn contract(&self, api: &ApiServer) -> Services {
        let statuses =
            emco_status::Statuses::new(self.config.dependencies.library.clone(), self.contexts.clone());
        Services::new(Arc::new(ByPolicy(api.clone())))
            .synchroniser(Arc::new(self.slot.clone()))
            .readiness(Arc::new(ContextReadiness::new(self.contexts.clone())))
            .statuses(Arc::new(emco_status::StatusNotifier::new(statuses)))
    }

    /// Runs the controllers and the synchroniser until `shutdown`.
    pub(super) async fn run(self, client: Client, caches: &Caches, shutdown: CancellationToken) {
        let synchronisation =
            Synchronisation::new(self.contexts.clone(), Arc::new(self.access.clone()), Settings::default());
        self.slot.set(Some(synchronisation.clone()));
        let _serves = Serves { slot: &self.slot, synchronisation: &synchronisation };
        let resuming = async {
            while let Err(error) = synchronisation.resume().await {
                tracing::warn!("what was under way is not taken up yet: {error}");
                tokio::time::sleep(RESUME_AGAIN).await;
            }
        };
        let listeners = ListenersConfig {
            pool: Pool::new(Options::default()),
            authority_pem: self.config.authority_pem.clone(),
            identity_pem: None,
        };
        tokio::join!(
            drystone_emco_rest::listeners::run(client.clone(), caches, listeners, shutdown.clone()),
            controller::run(client, caches, self.config.clone(), shutdown.clone()),
            shutdown.run_until_cancelled(resuming)
        );
    }
}

/// Ends the synchroniser when its time is over, also where that comes so suddenly that nobody waits for the controllers: two must not carry
/// out the same orders.
struct Serves<'a> {
    slot: &'a Slot,
    synchronisation: &'a Synchronisation,
}

impl Drop for Serves<'_> {
    fn drop(&mut self) {
        self.slot.set(None);
        self.synchronisation.stop();
    }
}

#[cfg(test)]
mod tests {
    use drystone_api::emco::{DeploymentIntentGroup, DeploymentIntentGroupSpec, StateEntry, object_name};
    use drystone_apiserver::{Config as ServerConfig, Profile};
    use drystone_appcontext::{App, AppContext, ClusterName, Meta, Part, ResourceName};
    use drystone_identity::UserInfo;
    use drystone_store::embedded::{EmbeddedStore, Options as StoreOptions};
    use k8s_openapi::{
        api::core::v1::Namespace,
        apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    };
    use kube::{
        Api, ResourceExt as _,
        api::{Patch, PatchParams, PostParams},
        runtime::{conditions, wait::await_condition},
    };

    use super::*;

    const GROUP: &str = "projects/p/composite-apps/a/v1/deployment-intent-groups/d";

    /// A deployment intent group whose context has an application on one cluster.
    async fn deployed() -> (Statuses, ApiServer) {
        let store = Arc::new(EmbeddedStore::in_memory(StoreOptions::default()).unwrap());
        let server = ApiServer::new(ServerConfig::new(Profile::Management, store.clone())).await.unwrap();
        let administrator = UserInfo::new("system:admin", ["system:masters"]);
        let client = Client::new(server.service_as(administrator), "default");
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        for definition in drystone_api::emco::definitions() {
            definitions.create(&PostParams::default(), &definition).await.unwrap();
            let established = conditions::is_crd_established();
            await_condition(definitions.clone(), &definition.name_any(), established).await.unwrap();
        }
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(SYSTEM_NAMESPACE.to_owned());
        Api::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        let context = ContextId::of("one");
        let spec = DeploymentIntentGroupSpec {
            path: GROUP.to_owned(),
            composite_profile: "cp".to_owned(),
            version: "r".to_owned(),
            logical_cloud: "lc".to_owned(),
            ..Default::default()
        };
        let groups: Api<DeploymentIntentGroup> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
        let name = object_name(GROUP);
        groups.create(&PostParams::default(), &DeploymentIntentGroup::new(&name, spec)).await.unwrap();
        let entry = StateEntry {
            state: "Instantiated".to_owned(),
            context_id: context.to_string(),
            revision: 1,
            ..StateEntry::default()
        };
        let patch = Patch::Merge(json!({"status": {"stateInfo": [entry]}}));
        groups.patch_status(&name, &PatchParams::default(), &patch).await.unwrap();
        let contexts = AppContexts::new(store);
        let mut whole = AppContext::new(context, Meta::default());
        let mut part = Part::default();
        part.put(ResourceName::new("web", "ConfigMap"), "{apiVersion: v1, kind: ConfigMap}");
        let clusters = [(ClusterName::new("p", "c1"), part)].into();
        whole.apps.insert("shop".to_owned(), App { clusters, ..App::default() });
        contexts.create(&whole).await.unwrap();
        let library = Library::of(&Caches::new(client, server.stopping()));
        assert!(library.ready().await);
        (Statuses(emco_status::Statuses::new(library, contexts)), server)
    }

    fn query(list: Option<StatusList>) -> StatusQuery {
        StatusQuery {
            kind: StatusKind::Ready,
            output: StatusOutput::All,
            instance: None,
            apps: Vec::new(),
            clusters: Vec::new(),
            resources: Vec::new(),
            list,
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn lists_are_those_of_the_context_whatever_was_known_before() {
        let (statuses, _server) = deployed().await;
        for (list, member, expected) in [
            (StatusList::Apps, "apps", json!(["shop"])),
            (
                StatusList::Clusters,
                "clustersByApp",
                json!([{"app": "shop", "clusters": [{"clusterProvider": "p", "cluster": "c1"}]}]),
            ),
            (
                StatusList::Resources,
                "resourcesByApp",
                json!([{"app": "shop", "clusterProvider": "p", "cluster": "c1", "resources": [
                    {"name": "web", "GVK": {"Group": "", "Version": "v1", "Kind": "ConfigMap"}}]}]),
            ),
        ] {
            let base = json!({"name": "d", member: []});
            let told = statuses.status(GROUP, &query(Some(list)), base).await.unwrap();
            assert_eq!((&told["name"], &told[member]), (&json!("d"), &expected));
        }
        let base = json!({"name": "d", "states": {"statusctxid": "known before"}});
        let told = statuses.status(GROUP, &query(None), base).await.unwrap();
        assert_eq!(told["states"]["statusctxid"], "known before");
        assert_eq!(told["apps"][0]["name"], "shop");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_cannot_be_is_asked_in_vain() {
        let (statuses, _server) = deployed().await;
        for wrong in [
            StatusQuery { instance: Some("0".to_owned()), ..query(None) },
            StatusQuery { clusters: vec!["c1".to_owned()], ..query(None) },
        ] {
            let refused = statuses.status(GROUP, &wrong, json!({})).await.unwrap_err();
            assert_eq!(refused.status, 400, "{refused}");
        }
    }
}
