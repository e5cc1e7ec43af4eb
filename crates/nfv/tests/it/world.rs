//! An API server in memory, the service over it, and controllers; requests without a socket.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use drystone_api::{
    SYSTEM_NAMESPACE,
    nfv::{VnfInstance, VnfLcmOperation},
};
use drystone_apiserver::{ApiServer, Config as ServerConfig, Profile};
use drystone_engine::harness::Caches;
use drystone_identity::{
    Secret, UserInfo,
    authn::{Authentication, PasswordHash, Passwords},
    rbac::{Attributes, ResourceAttributes},
    user::UNAUTHENTICATED,
};
use drystone_nfv::{
    Config, Nfv, Notifier,
    door::{Access, Decision, Denied, Door},
    foresight::Foresight,
};
use drystone_sol003::types::ProblemDetails;
use drystone_store::embedded::{EmbeddedStore, Options};
use http::{HeaderMap, Request, StatusCode, request::Parts};
use http_body_util::BodyExt as _;
use k8s_openapi::{
    api::core::v1::Namespace, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ObjectMeta, PostParams},
    runtime::{conditions, wait::await_condition},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    controllers::{self, VNFD},
    library::Library,
};

/// Longest time that anything may take on a slow machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);
pub(crate) const PASSWORD: &str = "correct horse";
/// `admin` with that password.
pub(crate) const BASIC: &str = "Authorization: Basic YWRtaW46Y29ycmVjdCBob3JzZQ==";

/// Whom the API server knows and lets.
pub(crate) struct ByApiServer(pub(crate) ApiServer);

impl Door for ByApiServer {
    fn is_secure(&self, _request: &Parts) -> bool {
        false
    }

    fn admit<'a>(&'a self, request: &'a Parts, access: Access<'a>) -> Decision<'a> {
        Box::pin(async move {
            let user = self.0.authenticate(request).await.map_err(|_| Denied::Unauthenticated)?;
            if user.is_in(UNAUTHENTICATED) {
                return Err(Denied::Unauthenticated);
            }
            let resource = ResourceAttributes {
                group: "nfv.drystone.dev",
                resource: access.resource,
                namespace: SYSTEM_NAMESPACE,
                name: access.name,
                ..ResourceAttributes::default()
            };
            let attributes = Attributes::resource(&user, access.verb, resource);
            if self.0.authorize(&attributes).allowed {
                Ok(())
            } else {
                Err(Denied::Forbidden(attributes.to_string()))
            }
        })
    }
}

/// Plans whatever is asked, but for one flavour.
struct Forbidding;

impl Foresight for Forbidding {
    fn check(&self, _instance: Arc<VnfInstance>, operation: &VnfLcmOperation) -> Result<(), ProblemDetails> {
        if operation.spec.parameters.get("flavourId").is_none_or(|flavour| flavour != "unknown") {
            return Ok(());
        }
        let detail = "flavourId: the VNFD has no flavour unknown".to_owned();
        Err(ProblemDetails { status: 400, detail, ..ProblemDetails::default() })
    }
}

pub(crate) struct World {
    pub(crate) nfv: Nfv,
    pub(crate) client: Client,
    pub(crate) library: Library,
    _server: ApiServer,
    stop: CancellationToken,
    notifier: Option<CancellationToken>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(notifier) = &self.notifier {
            notifier.cancel();
        }
    }
}

/// A reply.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn detail(&self) -> &str {
        self.body["detail"].as_str().unwrap_or_default()
    }
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(false).await
    }

    /// With subscribers called when they subscribe, or not.
    pub(crate) async fn start_with(test_callbacks: bool) -> Self {
        let store = EmbeddedStore::in_memory(Options::default()).unwrap();
        let mut config = ServerConfig::new(Profile::Management, Arc::new(store));
        let hash = PasswordHash::of(&Secret::new(PASSWORD)).unwrap();
        let admin = UserInfo::new("admin", ["system:masters"]);
        let nobody = UserInfo::new("nobody", Vec::<String>::new());
        let passwords = Passwords::new().with("admin", hash.clone(), admin).with("nobody", hash, nobody);
        config.authentication = Authentication::new().with(passwords);
        let server = ApiServer::new(config).await.unwrap();
        let client =
            Client::new(server.service_as(UserInfo::new("system:admin", ["system:masters"])), "default");
        install(&client).await;
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(controllers::onboard(client.clone())));
        tokio::spawn(stop.clone().run_until_cancelled_owned(controllers::carry_out(client.clone())));
        let library = Library::new();
        let config = Config {
            door: Arc::new(ByApiServer(server.clone())),
            content: Arc::new(library.clone()),
            foresight: Some(Arc::new(Forbidding)),
            test_callbacks,
        };
        let caches = Caches::new(client.clone(), stop.clone());
        let nfv = Nfv::start(client.clone(), &caches, config, &stop);
        assert!(nfv.ready().await);
        let mut world = Self { nfv, client, library, _server: server, stop, notifier: None };
        world.restart_notifier();
        world
    }

    /// Stops the notifier wherever it is, and starts another one, as after a kill.
    pub(crate) fn restart_notifier(&mut self) {
        self.stop_notifier();
        let stop = CancellationToken::new();
        let caches = Caches::new(self.client.clone(), stop.clone());
        let notifier = Notifier::new(self.client.clone(), &caches, "http://drystone:6443");
        tokio::spawn(notifier.run(stop.clone()));
        self.notifier = Some(stop);
    }

    pub(crate) fn stop_notifier(&mut self) {
        if let Some(notifier) = self.notifier.take() {
            notifier.cancel();
        }
    }

    /// Asks; headers are `Name: value`.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("Host", "drystone:6443");
        for header in headers {
            let (name, value) = header.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        let response = self.nfv.answer(request.body(body.into()).unwrap()).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, bytes, body }
    }

    /// Asks as the administrator, with what every version takes.
    pub(crate) async fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        let kind = match method {
            "PATCH" => "Content-Type: application/merge-patch+json",
            _ => "Content-Type: application/json",
        };
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.ask(method, path, &[BASIC, "Version: 2.0.0", kind], bytes).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[BASIC, "Version: 2.0.0"], Body::empty()).await
    }

    /// Looks again and again until something is found.
    pub(crate) async fn eventually<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(tokio::time::Instant::now() < deadline, "{what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// An onboarded package; its identifier.
    pub(crate) async fn package(&self, content: &'static [u8]) -> String {
        let made = self.send("POST", "/vnfpkgm/v1/vnf_packages", &json!({})).await;
        assert_eq!(made.status, 201, "{made:?}");
        let id = made.body["id"].as_str().unwrap().to_owned();
        let path = format!("/vnfpkgm/v1/vnf_packages/{id}");
        let zip = "Content-Type: application/zip";
        let put = self.ask("PUT", &format!("{path}/package_content"), &[BASIC, zip], content).await;
        assert_eq!(put.status, 202, "{put:?}");
        self.eventually("the package is onboarded", async || {
            (self.get(&path).await.body["onboardingState"] == "ONBOARDED").then_some(())
        })
        .await;
        id
    }

    /// An instance of a name; its identifier.
    pub(crate) async fn instance(&self, name: &str) -> String {
        let body = json!({"vnfdId": VNFD, "vnfInstanceName": name});
        let made = self.send("POST", "/vnflcm/v2/vnf_instances", &body).await;
        assert_eq!(made.status, 201, "{made:?}");
        made.body["id"].as_str().unwrap().to_owned()
    }

    /// Begins a task; returns the path of its occurrence.
    pub(crate) async fn begin(&self, id: &str, task: &str, body: &Value) -> String {
        let begun = self.send("POST", &format!("/vnflcm/v2/vnf_instances/{id}/{task}"), body).await;
        assert_eq!(begun.status, 202, "{task}: {begun:?}");
        begun.header("location").strip_prefix("http://drystone:6443").unwrap().to_owned()
    }

    /// Waits until an occurrence is in a state.
    pub(crate) async fn until_state(&self, occurrence: &str, state: &str) -> Value {
        self.eventually(&format!("{occurrence} is {state}"), async || {
            let body = self.get(occurrence).await.body;
            (body["operationState"] == state).then_some(body)
        })
        .await
    }

    /// An instantiated instance; its identifier.
    pub(crate) async fn instantiated(&self, name: &str) -> String {
        let id = self.instance(name).await;
        let occurrence = self.begin(&id, "instantiate", &json!({"flavourId": "simple"})).await;
        self.until_state(&occurrence, "COMPLETED").await;
        id
    }
}

async fn install(client: &Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in drystone_api::custom_resource_definitions() {
        if definition.spec.group != "nfv.drystone.dev" {
            continue;
        }
        definitions.create(&PostParams::default(), &definition).await.unwrap();
        let name = definition.name_any();
        let established = await_condition(definitions.clone(), &name, conditions::is_crd_established());
        tokio::time::timeout(DEADLINE, established).await.unwrap().unwrap();
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let metadata = ObjectMeta { name: Some(SYSTEM_NAMESPACE.to_owned()), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
}
