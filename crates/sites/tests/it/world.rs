//! API servers, cables, and a global controller.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use drystone_api::{SYSTEM_NAMESPACE, Site, SiteSpec};
use drystone_apiserver::{ApiServer, Config, Profile};
use drystone_engine::backoff::Backoff;
use drystone_identity::user::UserInfo;
use drystone_sites::global::{
    self, GlobalConfig,
    dial::{Dial, Dialled, Unusable},
};
use drystone_store::embedded::{EmbeddedStore, Options};
use futures::StreamExt as _;
use http_body_util::{BodyStream, StreamBody};
use k8s_openapi::{
    ByteString,
    api::core::v1::{Namespace, Secret},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
    client::Body,
    runtime::wait::{await_condition, conditions},
};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// Longest time that anything in these tests may take on a slow machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// An API server in memory with Drystone's kinds.
#[derive(Clone)]
pub(crate) struct Server {
    server: ApiServer,
    pub(crate) client: Client,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let store = EmbeddedStore::in_memory(Options::default()).unwrap();
        let server = ApiServer::new(Config::new(Profile::Management, Arc::new(store))).await.unwrap();
        let client = Client::new(server.service_as(admin()), SYSTEM_NAMESPACE);
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        for definition in drystone_api::custom_resource_definitions() {
            definitions.create(&PostParams::default(), &definition).await.unwrap();
            let name = definition.name_any();
            let established = await_condition(definitions.clone(), &name, conditions::is_crd_established());
            tokio::time::timeout(PATIENCE, established).await.expect("in time").unwrap();
        }
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let metadata = ObjectMeta { name: Some(SYSTEM_NAMESPACE.to_owned()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        namespaces.create(&PostParams::default(), &namespace).await.unwrap();
        Self { server, client }
    }

    pub(crate) fn all<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE)
    }

    pub(crate) async fn secret(&self, name: &str, value: &str, labels: &[(&str, &str)]) {
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some(labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()),
                ..ObjectMeta::default()
            },
            data: Some([("value".to_owned(), ByteString(value.as_bytes().to_vec()))].into()),
            ..Secret::default()
        };
        let params = PatchParams::apply("test").force();
        self.all::<Secret>().patch(name, &params, &Patch::Apply(&secret)).await.unwrap();
    }

    pub(crate) async fn secret_value(&self, name: &str) -> Option<String> {
        let secret = self.all::<Secret>().get_opt(name).await.unwrap()?;
        Some(String::from_utf8(secret.data?.remove("value")?.0).unwrap())
    }

    /// Changes a Site under a manager's name.
    pub(crate) async fn patch_site(&self, name: &str, manager: &str, patch: Value) {
        let params = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
        self.all::<Site>().patch(name, &params, &Patch::Merge(&patch)).await.unwrap();
    }

    pub(crate) async fn site(&self, name: &str) -> Option<Site> {
        self.all::<Site>().get_opt(name).await.unwrap()
    }
}

fn admin() -> UserInfo {
    UserInfo::new("system:admin", ["system:masters"])
}

/// How a cable is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cable {
    Whole,
    /// Nothing comes through, and nothing is said of it.
    Silent,
    /// Everything is refused.
    Refusing,
}

/// A site's server, and how the cable to it is.
type Plugged = (Server, watch::Sender<Cable>);

/// Cables to sites, by name. A kubeconfig is the name of a site here.
#[derive(Clone, Default)]
pub(crate) struct Cables(Arc<Mutex<HashMap<String, Plugged>>>);

impl Cables {
    pub(crate) fn plug(&self, name: &str, server: &Server) {
        let cable = watch::Sender::new(Cable::Whole);
        self.0.lock().unwrap().insert(name.to_owned(), (server.clone(), cable));
    }

    pub(crate) fn set(&self, name: &str, cable: Cable) {
        self.0.lock().unwrap()[name].1.send_replace(cable);
    }
}

async fn whole(cable: &mut watch::Receiver<Cable>) {
    let _ = cable.wait_for(|cable| *cable == Cable::Whole).await;
}

impl Dial for Cables {
    fn dial<'a>(&'a self, kubeconfig: &'a str) -> Dialled<'a> {
        Box::pin(async move {
            let (server, cable) = {
                let all = self.0.lock().unwrap();
                let (server, cable) =
                    all.get(kubeconfig).ok_or_else(|| Unusable("no such cable".to_owned()))?;
                (server.clone(), cable.clone())
            };
            let inner = server.server.service_as(admin());
            let service = tower::service_fn(move |request: http::Request<Body>| {
                let (inner, mut cable) = (inner.clone(), cable.subscribe());
                async move {
                    if *cable.borrow() == Cable::Refusing {
                        return Err(Box::<dyn std::error::Error + Send + Sync>::from("the cable is cut"));
                    }
                    whole(&mut cable).await;
                    let answer = inner.oneshot(request).await.unwrap_or_else(|never| match never {});
                    // Also an answer on its way does not come through a cable that is cut.
                    Ok(answer.map(|body| {
                        let frames = BodyStream::new(body).then(move |frame| {
                            let mut cable = cable.clone();
                            async move {
                                whole(&mut cable).await;
                                frame
                            }
                        });
                        StreamBody::new(Box::pin(frames))
                    }))
                }
            });
            Ok(Client::new(service, SYSTEM_NAMESPACE))
        })
    }
}

/// A global controller that runs.
pub(crate) struct Global {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Global {
    pub(crate) fn start(server: &Server, cables: &Cables) -> Self {
        let config = GlobalConfig {
            dial: Arc::new(cables.clone()),
            deadline: Duration::from_secs(2),
            backoff: Backoff { initial: Duration::from_millis(20), maximum: Duration::from_millis(200) },
            poll_interval: Duration::from_millis(200),
            report_interval: Duration::from_millis(20),
        };
        Self::start_with(server, config)
    }

    pub(crate) fn start_with(server: &Server, config: GlobalConfig) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(global::run(server.client.clone(), config, stop.clone()));
        Self { stop, task }
    }

    /// Ends it without a chance to finish anything.
    pub(crate) async fn kill(self) {
        self.task.abort();
        self.stop.cancel();
        let _ = self.task.await;
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("in time").unwrap();
    }
}

/// Declares a site with a local controller at a global one.
pub(crate) async fn declare(server: &Server, name: &str, spec: Value) {
    let mut spec: SiteSpec = serde_json::from_value(spec).unwrap();
    spec.controller.get_or_insert_default().kubeconfig_secret_name = format!("{name}-kubeconfig");
    server.secret(&format!("{name}-kubeconfig"), name, &[]).await;
    server.all::<Site>().create(&PostParams::default(), &Site::new(name, spec)).await.unwrap();
}

pub(crate) fn host(name: &str) -> Value {
    json!({"name": name, "address": "redfish-virtualmedia+http://127.0.0.1:1/", "credentialsName": format!("{name}-bmc")})
}

/// Waits until `check` gives something.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, check: impl Fn() -> F) -> T {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < end, "{what}: not seen in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Status of a site at the global controller, once it satisfies `wanted`.
pub(crate) async fn status(
    server: &Server,
    name: &str,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    eventually(what, || async {
        let status = serde_json::to_value(server.site(name).await?.status?).unwrap();
        wanted(&status).then_some(status)
    })
    .await
}

pub(crate) fn is_synchronized(status: &Value) -> bool {
    status["connection"]["state"] == "Connected"
        && status["synchronization"]["pending"] == 0
        && !status["synchronization"]["generation"].is_null()
}
