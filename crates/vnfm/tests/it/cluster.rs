//! One API server that is both Drystone's and the cluster's that VNFs run on, with the engine, the life cycle, the workload controllers and a
//! node that only says that its pods run.

use std::{path::Path, process::Command, sync::Arc, time::Duration};

use async_trait::async_trait;
use drystone_api::{
    custom_resource_definitions,
    nfv::{
        Vim, VimSpec, VimType, VnfInstance, VnfInstanceSpec, VnfLcmOperation, VnfLcmOperationSpec,
        VnfPackage, VnfPackageSpec,
    },
};
use drystone_apiserver::{ApiServer, Config, Profile, ServiceNetwork};
use drystone_csar::{Library, Limits};
use drystone_engine::{
    action::ActionRegistry,
    harness::{Caches, ControllerConfig},
    operations::{OperationController, OperationControllerConfig},
    runner::{Engine, EngineConfig},
};
use drystone_identity::{
    CertificateProfile, ONE_YEAR, UserInfo,
    authn::{StaticTokens, TokenDigest},
    ca::CertificateAuthority,
    tls::{self, ServerIdentity},
    user::MASTERS,
};
use drystone_sol003::types::{LcmOperationState, LcmOperationType, PackageOnboardingState};
use drystone_store::embedded::{EmbeddedStore, Options};
use drystone_vnfm::{
    cnf,
    controller::{self, LifecycleConfig},
    mgmt::Drivers,
    steps::{Access, LibraryBlueprints, VimDriver, VimError, VimSession},
};
use drystone_workloads::WorkloadsConfig;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, Pod, Secret, ServiceAccount},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::{conditions, wait::await_condition},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// No OpenStack.
struct NoStacks;

#[async_trait]
impl VimDriver for NoStacks {
    fn session(&self, _: &Access) -> Result<Box<dyn VimSession>, VimError> {
        Err(VimError::Permanent("there is no OpenStack here".to_owned()))
    }
}

pub(crate) struct Lab {
    pub(crate) client: Client,
    pub(crate) package: String,
    stop: CancellationToken,
    _server: ApiServer,
    _directory: TempDir,
    number: std::sync::atomic::AtomicU32,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Waits until something holds, for a slow machine's sake up to three minutes.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(180);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what}: it did not come to pass");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

impl Lab {
    pub(crate) async fn start() -> Self {
        tls::install_crypto_provider();
        let directory = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let ca = CertificateAuthority::generate("test-ca", ONE_YEAR, now).unwrap();
        let tokens = Arc::new(StaticTokens::new());
        let token = StaticTokens::generate();
        tokens.insert(TokenDigest::of(&token), UserInfo::new("vnfm", [MASTERS]));
        let mut config =
            Config::new(Profile::Cluster, Arc::new(EmbeddedStore::in_memory(Options::default()).unwrap()));
        config.authentication = config.authentication.clone().with(tokens);
        config.services = Some(ServiceNetwork {
            cidrs: vec!["10.43.0.0/16".parse().unwrap()],
            node_ports: ServiceNetwork::NODE_PORTS,
            advertise: None,
        });
        let server = ApiServer::new(config).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let profile = CertificateProfile::server("api").ip([address.ip()]);
        let identity = ServerIdentity::new(&ca.issue(&profile, now).unwrap()).unwrap();
        let config = tls::server_config(identity, Some(&ca.certificate_pem())).unwrap();
        let serving = server.clone();
        tokio::spawn(async move { serving.serve(listener, config).await });
        let client = Client::new(server.service_as(UserInfo::new("test", [MASTERS])), "default");
        let stop = CancellationToken::new();
        let library = Library::open(&directory.path().join("packages"), Limits::default(), 64 << 20).unwrap();
        define(&client).await;
        let package = onboard(&client, &library, directory.path()).await;
        let vim = json!({"bearer_token": token.expose()});
        register(&client, &format!("https://{address}"), &ca.certificate_pem(), &vim).await;
        run_cluster(&client, &stop).await;
        run_lifecycle(&client, &library, &stop);
        Self { client, package, stop, _server: server, _directory: directory, number: 0.into() }
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Makes an instance.
    pub(crate) async fn instance(&self, name: &str) {
        let spec = VnfInstanceSpec { vnfd_id: VNFD.to_owned(), ..VnfInstanceSpec::default() };
        self.api::<VnfInstance>()
            .create(&PostParams::default(), &VnfInstance::new(name, spec))
            .await
            .unwrap();
    }

    /// Does an operation and waits until it ends, or fails for the time being.
    pub(crate) async fn operate(
        &self,
        instance: &str,
        operation: LcmOperationType,
        parameters: Value,
    ) -> VnfLcmOperation {
        let number = self.number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("op-{number}");
        let spec = VnfLcmOperationSpec {
            instance: instance.to_owned(),
            operation,
            parameters: parameters.as_object().cloned().unwrap(),
            ..VnfLcmOperationSpec::default()
        };
        let operations = self.api::<VnfLcmOperation>();
        operations.create(&PostParams::default(), &VnfLcmOperation::new(&name, spec)).await.unwrap();
        // As front ends do it: whoever asks takes the instance.
        let taken = Patch::Merge(json!({"status": {"operation": name}}));
        self.api::<VnfInstance>().patch_status(instance, &PatchParams::default(), &taken).await.unwrap();
        eventually(&format!("the end of {operation:?}"), async || {
            let now = operations.get(&name).await.unwrap();
            let state = now.status.as_ref().map(|status| status.operation_state);
            let over = state.is_some_and(|state| state.is_final() || state == LcmOperationState::FailedTemp);
            over.then_some(now)
        })
        .await
    }

    /// The same, and it must succeed.
    pub(crate) async fn must(&self, instance: &str, operation: LcmOperationType, parameters: Value) {
        let begin = std::time::Instant::now();
        let done = self.operate(instance, operation, parameters).await;
        println!("{operation:?}: {:.2} s", begin.elapsed().as_secs_f64());
        let status = done.status.unwrap();
        assert_eq!(status.operation_state, LcmOperationState::Completed, "{operation:?}: {:?}", status.error);
    }

    /// Pods of the function that are not about to go.
    pub(crate) async fn pods(&self) -> Vec<String> {
        let listed = self.api::<Pod>().list(&ListParams::default().labels("app=web")).await.unwrap();
        let alive = listed.items.iter().filter(|pod| cnf::pods::is_alive(pod));
        alive.map(ResourceExt::name_any).collect()
    }

    /// VNFCs as SOL003 shows them.
    pub(crate) async fn components(&self, instance: &str) -> Vec<String> {
        let instance = self.api::<VnfInstance>().get(instance).await.unwrap();
        let info = instance.status.unwrap().instantiated_vnf_info.unwrap_or_default();
        info.vnfc_info.into_iter().map(|component| component.id).collect()
    }
}

/// Identifier of the example's VNFD.
pub(crate) const VNFD: &str = "2d1f7c36-55a0-4b0f-8a2e-6f0c3f1b9d42";

async fn define(client: &Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in custom_resource_definitions() {
        let name = definition.name_any();
        definitions.create(&PostParams::default(), &definition).await.unwrap();
        await_condition(definitions.clone(), &name, conditions::is_crd_established()).await.unwrap();
    }
}

/// Puts the example into the library, and says that it is onboarded. Returns its uid.
async fn onboard(client: &Client, library: &Library, directory: &Path) -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/vnf/container-function");
    let archive = directory.join("package.zip");
    let packed = Command::new("python3")
        .current_dir(source)
        .args(["-m", "zipfile", "-c"])
        .arg(&archive)
        .args(["TOSCA-Metadata", "Definitions", "Files"])
        .status();
    assert!(packed.unwrap().success());
    let packages: Api<VnfPackage> = Api::namespaced(client.clone(), "default");
    let package = VnfPackage::new("package", VnfPackageSpec::default());
    let package = packages.create(&PostParams::default(), &package).await.unwrap();
    let uid = package.uid().unwrap();
    let mut incoming = library.incoming(&uid, None).unwrap();
    incoming.append(&std::fs::read(&archive).unwrap()).unwrap();
    incoming.commit().unwrap();
    library.package(&uid).unwrap();
    let status = json!({"status": {"onboardingState": PackageOnboardingState::Onboarded, "vnfdId": VNFD}});
    packages.patch_status("package", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    uid
}

async fn register(client: &Client, url: &str, authority: &str, credentials: &Value) {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "default");
    let secret = json!({"metadata": {"name": "vim"}, "stringData": credentials});
    secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
    let spec = VimSpec {
        kind: VimType::Kubernetes,
        auth_url: url.to_owned(),
        is_default: true,
        certificate_authority: Some(authority.to_owned()),
        credentials: "vim".to_owned(),
        ..VimSpec::default()
    };
    let vims: Api<Vim> = Api::namespaced(client.clone(), "default");
    vims.create(&PostParams::default(), &Vim::new("cluster", spec)).await.unwrap();
}

async fn run_cluster(client: &Client, stop: &CancellationToken) {
    let accounts: Api<ServiceAccount> = Api::default_namespaced(client.clone());
    eventually("the default service account", async || accounts.get_opt("default").await.unwrap()).await;
    let nodes: Api<Node> = Api::all(client.clone());
    let node = json!({"metadata": {"name": "n0", "labels": {"kubernetes.io/hostname": "n0"}}});
    nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
    let resources = json!({"cpu": "8", "memory": "8Gi", "pods": "50"});
    let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
        "lastHeartbeatTime": Timestamp::now().to_string(), "lastTransitionTime": Timestamp::now().to_string()});
    let status = json!({"status": {"capacity": resources, "allocatable": resources, "conditions": [ready]}});
    nodes.patch_status("n0", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    let (workloads, token) = (client.clone(), stop.clone());
    tokio::spawn(async move { drystone_workloads::run(workloads, WorkloadsConfig::default(), token).await });
    tokio::spawn(stop.clone().run_until_cancelled_owned(play_kubelet(client.clone())));
}

/// Says that pods with a node run, and lets those go that are deleted.
async fn play_kubelet(client: Client) {
    let pods: Api<Pod> = Api::namespaced(client, "default");
    loop {
        for pod in pods.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default() {
            let name = pod.name_any();
            let is_placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
            let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
            if pod.metadata.deletion_timestamp.is_some() {
                let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
                let _ = pods.delete(&name, &now).await;
            } else if is_placed && phase != "Running" {
                let now = Timestamp::now().to_string();
                let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": now});
                let status = json!({"status": {"phase": "Running", "startTime": now, "podIP": "10.42.0.9", "conditions": [ready]}});
                let _ = pods.patch_status(&name, &PatchParams::default(), &Patch::Strategic(status)).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn run_lifecycle(client: &Client, library: &Library, stop: &CancellationToken) {
    let mut actions = ActionRegistry::new();
    cnf::register(&mut actions, library).unwrap();
    let controller = ControllerConfig::default();
    let engine = Engine::new(client.clone(), actions, EngineConfig::default(), controller.events.clone());
    let operations = OperationController::new(client.clone(), engine, OperationControllerConfig::default());
    tokio::spawn(operations.run(stop.clone()));
    let config = LifecycleConfig {
        blueprints: Arc::new(LibraryBlueprints(library.clone())),
        vims: Arc::new(NoStacks),
        drivers: Drivers::new(),
        containers: Some(Arc::new(cnf::Containers::new(library.clone()))),
        controller,
    };
    let (client, stop) = (client.clone(), stop.clone());
    tokio::spawn(async move {
        let caches = Caches::new(client.clone(), stop.clone());
        controller::run(client, &caches, config, stop).await;
    });
}
