//! An API server in memory with Drystone's kinds, and the controllers of software on it.

use std::{path::Path, sync::Arc, time::Duration};

use drystone_api::{
    BareMetalHost, BareMetalHostSpec, BareMetalHostStatus, HostImage, ProvisioningState, Rollout, SITE_LABEL,
    SYSTEM_NAMESPACE, SoftwareSet, SoftwareSetSpec,
};
use drystone_apiserver::{ApiServer, Config, Profile};
use drystone_engine::{
    action::ActionRegistry,
    events::Silent,
    harness::Caches,
    operations::{OperationController, OperationControllerConfig},
    runner::{Engine, EngineConfig},
};
use drystone_identity::user::UserInfo;
use drystone_software::{
    access::ssh::SshDoor,
    artifacts::ArtifactCache,
    controller::SoftwareConfig,
    plan::Timing,
    steps::{StepDependencies, register},
};
use drystone_store::embedded::{EmbeddedStore, Options};
use k8s_openapi::{
    api::core::v1::Namespace, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams},
    runtime::wait::{await_condition, conditions},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// Longest time that anything in these tests may take on a slow machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(300);

/// The API server.
pub(crate) struct Stage {
    server: ApiServer,
    pub(crate) client: Client,
}

impl Stage {
    pub(crate) async fn start() -> Self {
        let store = EmbeddedStore::in_memory(Options::default()).expect("a store");
        let server =
            ApiServer::new(Config::new(Profile::Management, Arc::new(store))).await.expect("a server");
        let client = client_of(&server);
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        for definition in drystone_api::custom_resource_definitions() {
            definitions.create(&PostParams::default(), &definition).await.expect("accepted");
            let name = definition.name_any();
            let established = await_condition(definitions.clone(), &name, conditions::is_crd_established());
            tokio::time::timeout(DEADLINE, established).await.expect("in time").expect("established");
        }
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let metadata = ObjectMeta { name: Some(SYSTEM_NAMESPACE.to_owned()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        namespaces.create(&PostParams::default(), &namespace).await.expect("accepted");
        Self { server, client }
    }

    /// The server, for clients of another kind.
    pub(crate) fn server(&self) -> &ApiServer {
        &self.server
    }

    /// A client of its own, for use in another runtime.
    pub(crate) fn another_client(&self) -> Client {
        client_of(&self.server)
    }

    /// A host that is provisioned.
    pub(crate) async fn host(&self, name: &str, site: &str) -> BareMetalHost {
        let hosts: Api<BareMetalHost> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let image =
            HostImage { url: "http://images.example.org/os-1.iso".to_owned(), ..HostImage::default() };
        let spec =
            BareMetalHostSpec { online: true, image: Some(image.clone()), ..BareMetalHostSpec::default() };
        let mut host = BareMetalHost::new(name, spec);
        host.labels_mut().insert(SITE_LABEL.to_owned(), site.to_owned());
        let mut host = hosts.create(&PostParams::default(), &host).await.expect("accepted");
        let mut status = BareMetalHostStatus { powered_on: true, ..BareMetalHostStatus::default() };
        status.provisioning.state = ProvisioningState::Provisioned;
        status.provisioning.image = Some(image);
        host.status = Some(status);
        hosts.replace_status(name, &PostParams::default(), &host).await.expect("accepted")
    }

    /// Declares a set.
    pub(crate) async fn set(&self, name: &str, spec: SoftwareSetSpec) {
        let sets: Api<SoftwareSet> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        sets.create(&PostParams::default(), &SoftwareSet::new(name, spec)).await.expect("accepted");
    }

    /// Changes a set.
    pub(crate) async fn change(&self, name: &str, spec: serde_json::Value) {
        let sets: Api<SoftwareSet> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let patch = Patch::Merge(json!({"spec": spec}));
        sets.patch(name, &PatchParams::default(), &patch).await.expect("accepted");
    }

    /// The reason that a set is in its state, once it is `reason`.
    pub(crate) async fn set_is(&self, name: &str, reason: &str) -> SoftwareSet {
        let sets: Api<SoftwareSet> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        eventually(&format!("set {name} {reason}"), || async {
            let set = sets.get(name).await.expect("there");
            let status = set.status.clone().unwrap_or_default();
            let current = status.observed_generation == set.metadata.generation;
            let is = status
                .conditions
                .iter()
                .any(|condition| condition.type_ == "Ready" && condition.reason == reason);
            if current && is { Ok(set) } else { Err(format!("{}: {:?}", status.message, self.told().await)) }
        })
        .await
    }

    /// All rollouts in a few words.
    pub(crate) async fn told(&self) -> Vec<String> {
        let sets: Api<SoftwareSet> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let sets = sets.list(&ListParams::default()).await.expect("listed");
        let set = |set: &SoftwareSet| set.status.clone().unwrap_or_default().message;
        let all: Vec<Rollout> = self.rollouts().await;
        let told = |rollout: &Rollout| {
            let status = rollout.status.clone().unwrap_or_default();
            let hosts: Vec<String> = status
                .hosts
                .iter()
                .map(|host| format!("{} {:?} {}", host.host, host.phase, host.message))
                .collect();
            format!("{} {:?} {} {hosts:?}", rollout.name_any(), status.phase, status.message)
        };
        sets.iter().map(set).chain(all.iter().map(told)).collect()
    }

    pub(crate) async fn rollouts(&self) -> Vec<Rollout> {
        let api: Api<Rollout> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        api.list(&ListParams::default()).await.expect("listed").items
    }
}

fn client_of(server: &ApiServer) -> Client {
    let admin = UserInfo::new("system:admin", ["system:masters"]);
    Client::new(server.service_as(admin), SYSTEM_NAMESPACE)
}

/// The controllers of software, and the engine; ends when dropped.
pub(crate) async fn control(client: Client, folder: &Path) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let http = reqwest::Client::builder().build().expect("a client");
    let shutdown = CancellationToken::new();
    // Like everything else here, the copies end when this is dropped.
    let _ends = shutdown.clone().drop_guard();
    let dependencies = StepDependencies {
        caches: Caches::new(client.clone(), shutdown.clone()),
        door: Arc::new(SshDoor::default()),
        artifacts: ArtifactCache::new(folder.join("artifacts"), http),
    };
    let mut registry = ActionRegistry::new();
    register(&mut registry, &dependencies).expect("new");
    let engine = Engine::new(client.clone(), registry, EngineConfig::default(), Arc::new(Silent));
    let operations = OperationController::new(client.clone(), engine, OperationControllerConfig::default());
    let config = SoftwareConfig { dependencies, timing: Timing::default(), events: Arc::new(Silent) };
    tokio::join!(
        operations.run(shutdown.clone()),
        drystone_software::controller::run(client, config, shutdown)
    );
}

/// Waits until `check` gives something.
pub(crate) async fn eventually<T, F: Future<Output = Result<T, String>>>(
    what: &str,
    check: impl Fn() -> F,
) -> T {
    let end = tokio::time::Instant::now() + DEADLINE;
    loop {
        match check().await {
            Ok(found) => return found,
            Err(state) => assert!(tokio::time::Instant::now() < end, "{what}: not seen in time: {state}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
