//! An API server in memory with the metal domain's controllers, and a boot listener.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use drystone_api::{
    BareMetalHost, BareMetalHostStatus, HardwareData, ObjectReference, OperationalStatus, ProvisioningState,
};
use drystone_apiserver::{ApiServer, Config as ServerConfig, Profile};
use drystone_engine::{
    events::{EventKind, EventSink},
    harness::Caches,
};
use drystone_identity::UserInfo;
use drystone_loopback::free_port;
use drystone_metal::{
    controller::{self, MetalConfig},
    driver::redfish::{Pauses, RedfishDrivers},
    http::BootMedia,
    plan::Pacing,
    provisioner::{
        Provisioner, Ways,
        redfish::{RedfishProvisioner, Timing},
    },
};
use drystone_store::embedded::{EmbeddedStore, Options};
use k8s_openapi::{
    api::core::v1::{Namespace, Secret},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams},
    runtime::{conditions, wait::await_condition},
};
use serde_json::{Value, json};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::AbortOnDropHandle,
};
use url::Url;

/// Longest time that anything may take on a slow machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(240);

pub(crate) const NAMESPACE: &str = "metal3";

/// Keeps what was told: host, reason, note.
#[derive(Default)]
pub(crate) struct Story(Mutex<Vec<(String, String, String)>>);

impl EventSink for Story {
    fn publish(&self, regarding: &ObjectReference, _: EventKind, reason: &str, note: &str) {
        let entry = (regarding.name.clone(), reason.to_owned(), note.to_owned());
        self.0.lock().unwrap().push(entry);
    }
}

pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) story: Arc<Story>,
    pub(crate) server: ApiServer,
    stop: CancellationToken,
    /// Where media are served.
    media: Option<SocketAddr>,
    /// The controllers, where they are not killed.
    lasting: Option<Process>,
}

/// The controllers of one process; killed when it is dropped.
pub(crate) struct Process {
    _ends: DropGuard,
    _parts: [AbortOnDropHandle<()>; 2],
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Short pauses, so that tests see what comes after them.
pub(crate) const PACING: Pacing = Pacing {
    retry_unit: Duration::from_millis(20),
    longest_retry: Duration::from_millis(200),
    steady: Duration::from_millis(500),
    delayed: Duration::from_millis(100),
    detached: Duration::from_secs(1),
    missing_secret: Duration::from_millis(500),
    ..Pacing::METAL3
};

/// The in-house way with limits for tests.
pub(crate) fn in_house(media: BootMedia, pauses: Pauses, timing: Timing) -> Arc<dyn Provisioner> {
    Arc::new(RedfishProvisioner::new(Arc::new(RedfishDrivers { pauses }), media).timing(timing))
}

impl World {
    /// With the in-house way alone.
    pub(crate) async fn start() -> Self {
        Self::start_with(PACING, |media| {
            vec![in_house(
                media,
                Pauses::default(),
                Timing { soft_off: Duration::from_secs(2), ..Timing::default() },
            )]
        })
        .await
    }

    pub(crate) async fn start_with(
        pacing: Pacing,
        ways: impl FnOnce(BootMedia) -> Vec<Arc<dyn Provisioner>>,
    ) -> Self {
        let mut world = Self::bare().await;
        let client = world.client.clone();
        let process = world.process(client, pacing, ways).await;
        world.lasting = Some(process);
        world
    }

    /// The API server alone.
    pub(crate) async fn bare() -> Self {
        let store = EmbeddedStore::in_memory(Options::default()).unwrap();
        let server = ApiServer::new(ServerConfig::new(Profile::Management, Arc::new(store))).await.unwrap();
        let user = UserInfo::new("system:admin", ["system:masters"]);
        let client = Client::new(server.service_as(user), "default");
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        for definition in drystone_api::custom_resource_definitions() {
            definitions.create(&PostParams::default(), &definition).await.unwrap();
            let name = definition.name_any();
            let established = await_condition(definitions.clone(), &name, conditions::is_crd_established());
            tokio::time::timeout(DEADLINE, established).await.unwrap().unwrap();
        }
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let metadata = ObjectMeta { name: Some(NAMESPACE.to_owned()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        namespaces.create(&PostParams::default(), &namespace).await.unwrap();
        Self {
            client,
            story: Arc::default(),
            server,
            stop: CancellationToken::new(),
            media: None,
            lasting: None,
        }
    }

    /// Runs the controllers over a client, until what is returned is dropped: then they end where they are.
    pub(crate) async fn process(
        &mut self,
        client: Client,
        pacing: Pacing,
        ways: impl FnOnce(BootMedia) -> Vec<Arc<dyn Provisioner>>,
    ) -> Process {
        let stop = self.stop.child_token();
        // A process that comes after another one has its address.
        let address = *self.media.get_or_insert_with(|| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let (media, address, serving) = serve_media(address).await;
        self.media = Some(address);
        let caches = Caches::new(client.clone(), stop.clone());
        let config = MetalConfig { ways: Ways::new(ways(media)), events: self.story.clone(), pacing, caches };
        let controllers = AbortOnDropHandle::new(tokio::spawn(controller::run(client, config, stop.clone())));
        Process { _ends: stop.drop_guard(), _parts: [controllers, serving] }
    }

    pub(crate) fn hosts(&self) -> Api<BareMetalHost> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    pub(crate) fn hardware(&self) -> Api<HardwareData> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    pub(crate) fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    pub(crate) async fn add_secret(&self, name: &str, data: Value) {
        let secret: Secret = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}))
        .unwrap();
        self.secrets().create(&PostParams::default(), &secret).await.unwrap();
    }

    pub(crate) async fn change_secret(&self, name: &str, data: Value) {
        let patch = json!({"stringData": data});
        self.secrets().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    pub(crate) async fn add_host(&self, name: &str, spec: Value) {
        let host: BareMetalHost = serde_json::from_value(json!({
            "apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost", "metadata": {"name": name}, "spec": spec}))
        .unwrap();
        self.hosts().create(&PostParams::default(), &host).await.unwrap();
    }

    pub(crate) async fn patch(&self, name: &str, patch: Value) {
        self.hosts().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    pub(crate) async fn delete(&self, name: &str) {
        self.hosts().delete(name, &DeleteParams::default()).await.unwrap();
        let deadline = Instant::now() + DEADLINE;
        while let Some(host) = self.hosts().get_opt(name).await.unwrap() {
            assert!(Instant::now() < deadline, "{name} does not go: {:#?}", host.status);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn status(&self, name: &str) -> BareMetalHostStatus {
        self.hosts().get(name).await.unwrap().status.unwrap_or_default()
    }

    /// Waits until the host is as wanted.
    pub(crate) async fn until(
        &self,
        name: &str,
        what: &str,
        is: impl Fn(&BareMetalHost, &BareMetalHostStatus) -> bool,
    ) -> BareMetalHostStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let host = self.hosts().get(name).await.unwrap();
            let status = host.status.clone().unwrap_or_default();
            if is(&host, &status) {
                return status;
            }
            let story = self.told(name);
            assert!(Instant::now() < deadline, "{name}: not {what}: {status:#?} {story:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn until_state(&self, name: &str, state: ProvisioningState) -> BareMetalHostStatus {
        let what = format!("{state:?}");
        let is = |_: &BareMetalHost, status: &BareMetalHostStatus| {
            status.provisioning.state == state && status.operational_status == OperationalStatus::OK
        };
        self.until(name, &what, is).await
    }

    /// Waits for an error of this kind; returns its message.
    pub(crate) async fn until_error(&self, name: &str, kind: &str) -> String {
        self.until(name, kind, |_, status| status.error_type == kind).await.error_message
    }

    /// Reasons of the events of a host so far.
    pub(crate) fn told(&self, name: &str) -> Vec<String> {
        let story = self.story.0.lock().unwrap();
        story.iter().filter(|(host, ..)| host == name).map(|(_, reason, _)| reason.clone()).collect()
    }
}

/// Serves boot media at an address, as soon as it is free.
async fn serve_media(address: SocketAddr) -> (BootMedia, SocketAddr, AbortOnDropHandle<()>) {
    let deadline = Instant::now() + DEADLINE;
    let listener = loop {
        match tokio::net::TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) => assert!(Instant::now() < deadline, "{address}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let address = listener.local_addr().unwrap();
    let media = BootMedia::new(Url::parse(&format!("http://{address}")).unwrap(), vec![7; 32]);
    let router = media.router();
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (media, address, AbortOnDropHandle::new(serving))
}

/// Whether a condition is true.
pub(crate) fn is_true(status: &BareMetalHostStatus, kind: &str) -> bool {
    drystone_api::is_true(&status.conditions, kind)
}
