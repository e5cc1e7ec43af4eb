//! The life cycle of the example's Kubernetes cluster on an emulated cloud whose machines have no body: Keystone and Heat as they are
//! on the wire, and a driver of hooks that only looks at what it is given.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use drystone_api::{
    StepSpec, custom_resource_definitions,
    nfv::{
        Vim, VimProject, VimSpec, VnfInstance, VnfInstanceSpec, VnfInstanceStatus, VnfLcmOperation,
        VnfLcmOperationSpec, VnfLcmOperationStatus, VnfPackage, VnfPackageSpec,
    },
};
use drystone_apiserver::{ApiServer, Config, Profile};
use drystone_csar::{Library, Limits};
use drystone_emulator::{Emulator, EmulatorConfig};
use drystone_engine::{
    action::{Action, ActionRegistry, StepContext, StepError},
    harness::{Caches, ControllerConfig},
    operations::{OperationController, OperationControllerConfig},
    runner::{Engine, EngineConfig},
};
use drystone_identity::{UserInfo, tls, user::MASTERS};
use drystone_sol003::types::{ApiVersion, LcmOperationState, LcmOperationType, PackageOnboardingState};
use drystone_store::embedded::{EmbeddedStore, Options};
use drystone_vnfm::{
    controller::{self, LifecycleConfig},
    mgmt::{Drivers, HookPlanner},
    model::{Hook, Inventory, Problem, Situation},
    steps::{self, Blueprints, LibraryBlueprints, OpenStackDriver, StepDependencies, VimDriver},
};
use k8s_openapi::{
    api::core::v1::Secret, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    runtime::{conditions, wait::await_condition},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::cluster::eventually;

const NETWORK: &str = "f0c82461-36b5-4d86-8322-b0bc19cda65f";

fn site(faults: &str) -> String {
    format!(
        "
name: clouds
timing: {{scale: 1}}
cloud:
  users:
  - {{name: nfv_user, password: devstack, project: nfv}}
  networks:
  - {{name: net0, id: {NETWORK}, cidr: 10.10.0.0/16}}
  images: [{{name: kubernetes-node, users: [{{name: ubuntu, password: ubuntu}}]}}, {{name: storage-server}}]
  flavors:
  - {{name: m1.small, cores: 1, memoryMiB: 2048, diskGiB: 20}}
  - {{name: m1.medium, cores: 2, memoryMiB: 4096, diskGiB: 40}}
  - {{name: m1.large, cores: 4, memoryMiB: 8192, diskGiB: 80}}
{faults}
"
    )
}

/// A hook is a step that looks at the servers, and fails so often.
struct Look {
    seen: Arc<Mutex<Vec<String>>>,
    failures: Arc<AtomicU32>,
}

impl Action for Look {
    const NAME: &'static str = "test.look";
    type Parameters = Value;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: Value) -> Result<(), StepError> {
        let inventory: Inventory = context.input(parameters["inventory"].as_str().unwrap())?;
        let reachable =
            inventory.servers.iter().all(|server| server.ports.iter().all(|port| port.fixed().is_some()));
        let servers = inventory.servers.len();
        self.seen
            .lock()
            .unwrap()
            .push(format!("{} {servers} {reachable}", parameters["hook"].as_str().unwrap()));
        if self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
        {
            return Err(StepError::permanent("the script failed"));
        }
        Ok(())
    }
}

struct Looking;

impl HookPlanner for Looking {
    fn steps(&self, hook: Hook, situation: &Situation) -> Result<Vec<StepSpec>, Problem> {
        if situation.inventory.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![StepSpec {
            id: format!("{hook}/look"),
            action: Look::NAME.to_owned(),
            depends_on: vec![situation.inventory.clone()],
            parameters: json!({"hook": hook.to_string(), "inventory": situation.inventory}),
            ..StepSpec::default()
        }])
    }
}

/// Does nothing at hooks.
struct Idle;

impl HookPlanner for Idle {
    fn steps(&self, _: Hook, _: &Situation) -> Result<Vec<StepSpec>, Problem> {
        Ok(Vec::new())
    }
}

struct Lab {
    client: Client,
    emulator: Option<Emulator>,
    stop: CancellationToken,
    seen: Arc<Mutex<Vec<String>>>,
    failures: Arc<AtomicU32>,
    number: AtomicU32,
    _server: ApiServer,
    _directory: TempDir,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Lab {
    async fn start(faults: &str, driver: Arc<dyn HookPlanner>) -> Self {
        tls::install_crypto_provider();
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::in_memory(Options::default()).unwrap();
        let server = ApiServer::new(Config::new(Profile::Management, Arc::new(store))).await.unwrap();
        let client = Client::new(server.service_as(UserInfo::new("test", [MASTERS])), "default");
        let library = Library::open(&directory.path().join("packages"), Limits::default(), 64 << 20).unwrap();
        define(&client).await;
        onboard(&client, &library, directory.path()).await;
        let file = directory.path().join("site.yaml");
        std::fs::write(&file, site(faults)).unwrap();
        let nobody = SocketAddr::from(([127, 0, 0, 1], 6443));
        let emulator =
            Emulator::start(EmulatorConfig::new(file, directory.path().join("state"), nobody)).await.unwrap();
        register(&client, &emulator).await;
        let (seen, failures) = (Arc::default(), Arc::default());
        let stop = CancellationToken::new();
        let look = Look { seen: Arc::clone(&seen), failures: Arc::clone(&failures) };
        run_lifecycle(&client, &library, look, driver, &stop);
        Self {
            client,
            emulator: Some(emulator),
            stop,
            seen,
            failures,
            number: AtomicU32::new(0),
            _server: server,
            _directory: directory,
        }
    }

    async fn end(mut self) {
        self.stop.cancel();
        self.emulator.take().unwrap().stop().await.unwrap();
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn make(&self, name: &str) {
        let spec = VnfInstanceSpec { vnfd_id: VNFD.to_owned(), ..VnfInstanceSpec::default() };
        self.api().create(&PostParams::default(), &VnfInstance::new(name, spec)).await.unwrap();
    }

    /// What the front end does: makes the operation, and takes the instance for it.
    async fn ask(&self, instance: &str, operation: LcmOperationType, parameters: Value) -> String {
        let name = format!("op-{}", self.number.fetch_add(1, Ordering::Relaxed));
        let spec = VnfLcmOperationSpec {
            instance: instance.to_owned(),
            operation,
            api_version: ApiVersion::V1,
            parameters: parameters.as_object().cloned().unwrap(),
            ..VnfLcmOperationSpec::default()
        };
        self.api().create(&PostParams::default(), &VnfLcmOperation::new(&name, spec)).await.unwrap();
        let patch = Patch::Merge(json!({"status": {"operation": name}}));
        self.api::<VnfInstance>().patch_status(instance, &PatchParams::default(), &patch).await.unwrap();
        name
    }

    async fn until(&self, name: &str, states: &[LcmOperationState]) -> VnfLcmOperationStatus {
        eventually(&format!("{name} in {states:?}"), async || {
            let status = self.api::<VnfLcmOperation>().get(name).await.unwrap().status.unwrap_or_default();
            states.contains(&status.operation_state).then_some(status)
        })
        .await
    }

    async fn must(&self, operation: LcmOperationType, parameters: Value) -> VnfLcmOperationStatus {
        let name = self.ask("vnf", operation, parameters).await;
        let ends =
            [LcmOperationState::Completed, LcmOperationState::FailedTemp, LcmOperationState::RolledBack];
        let status = self.until(&name, &ends).await;
        assert_eq!(status.operation_state, LcmOperationState::Completed, "{operation:?}: {:?}", status.error);
        status
    }

    async fn order(&self, name: &str, change: Value) {
        let patch = Patch::Merge(json!({"spec": change}));
        self.api::<VnfLcmOperation>().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    async fn instance(&self) -> VnfInstanceStatus {
        self.api::<VnfInstance>().get("vnf").await.unwrap().status.unwrap()
    }

    /// `VDU-INDEX` and the id of the server.
    async fn places(&self) -> Vec<(String, String)> {
        let info = self.instance().await.instantiated_vnf_info.unwrap();
        let place = |it: &drystone_sol003::types::VnfcResourceInfo| {
            format!("{}-{}", it.vdu_id, it.metadata["vdu_idx"])
        };
        info.vnfc_resource_info.iter().map(|it| (place(it), it.id.clone())).collect()
    }

    async fn volumes(&self) -> Vec<String> {
        let info = self.instance().await.instantiated_vnf_info.unwrap();
        info.virtual_storage_resource_info.into_iter().map(|volume| volume.id).collect()
    }

    fn saw(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

async fn define(client: &Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in custom_resource_definitions() {
        let name = definition.name_any();
        definitions.create(&PostParams::default(), &definition).await.unwrap();
        await_condition(definitions.clone(), &name, conditions::is_crd_established()).await.unwrap();
    }
}

/// Identifier of the example's VNFD.
const VNFD: &str = "6f2e4a5c-0d5b-4c1e-9a53-8d2c7b90a7e1";

/// Puts the example into the library, and says that it is onboarded.
async fn onboard(client: &Client, library: &Library, directory: &Path) {
    let packages: Api<VnfPackage> = Api::namespaced(client.clone(), "default");
    let package = VnfPackage::new("package", VnfPackageSpec::default());
    let package = packages.create(&PostParams::default(), &package).await.unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/vnf/kubernetes-cluster");
    let uid = package.uid().unwrap();
    let file = directory.join("package.csar");
    drystone_csar::build(&source, &file, &Limits::default()).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    let mut incoming = library.incoming(&uid, None).unwrap();
    incoming.append(&bytes).unwrap();
    incoming.commit().unwrap();
    let vnfd = library.package(&uid).unwrap().vnfd().id.clone();
    assert_eq!(vnfd, VNFD);
    let status = json!({"status": {"onboardingState": PackageOnboardingState::Onboarded, "vnfdId": VNFD}});
    packages.patch_status("package", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

async fn register(client: &Client, emulator: &Emulator) {
    let cloud = emulator.endpoints().cloud.clone().unwrap();
    let user = &cloud.users[0];
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "default");
    let secret = json!({
        "metadata": {"name": "vim"},
        "stringData": {"username": user.name, "password": user.password, "userDomainName": "Default"},
    });
    secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
    let spec = VimSpec {
        auth_url: cloud.auth_url.clone(),
        project: VimProject { name: user.project.clone(), ..VimProject::default() },
        is_default: true,
        credentials: "vim".to_owned(),
        ..VimSpec::default()
    };
    let vims: Api<Vim> = Api::namespaced(client.clone(), "default");
    vims.create(&PostParams::default(), &Vim::new("cloud", spec)).await.unwrap();
}

fn run_lifecycle(
    client: &Client,
    library: &Library,
    look: Look,
    driver: Arc<dyn HookPlanner>,
    stop: &CancellationToken,
) {
    let blueprints: Arc<dyn Blueprints> = Arc::new(LibraryBlueprints(library.clone()));
    let vims: Arc<dyn VimDriver> = Arc::new(OpenStackDriver::default());
    let mut actions = ActionRegistry::new();
    steps::register(&mut actions, &StepDependencies { blueprints: blueprints.clone(), vims: vims.clone() })
        .unwrap();
    actions.register(look).unwrap();
    let mut drivers = Drivers::new();
    drivers.add("kubernetes_mgmt.py", driver);
    let silent = Arc::new(drystone_engine::events::Silent);
    let engine = Engine::new(client.clone(), actions, EngineConfig::default(), silent);
    let operations = OperationController::new(client.clone(), engine, OperationControllerConfig::default());
    tokio::spawn(operations.run(stop.clone()));
    let config = LifecycleConfig {
        blueprints,
        vims,
        drivers,
        containers: None,
        controller: ControllerConfig::default(),
    };
    let (client, stop) = (client.clone(), stop.clone());
    let caches = Caches::new(client.clone(), stop.clone());
    tokio::spawn(async move { controller::run(client, &caches, config, stop).await });
}

/// The example's request: its user-data class, and its links in the shape of version 2.
fn request() -> Value {
    let link = |cp: &str| {
        let config = json!({"c": {"cpProtocolData": [{"layerProtocol": "IP_OVER_ETHERNET"}]}});
        json!({"id": format!("net0_{cp}"), "resourceId": NETWORK, "extCps": [{"cpdId": cp, "cpConfig": config}]})
    };
    json!({
        "flavourId": "simple",
        "extVirtualLinks": [link("masterNode_CP1"), link("workerNode_CP2"), link("storage_server_CP")],
        "additionalParams": {
            "lcm-operation-user-data": "./UserData/k8s_cluster_user_data.py",
            "lcm-operation-user-data-class": "KubernetesClusterUserData",
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_made_scaled_healed_and_terminated() {
    let lab = Lab::start("", Arc::new(Looking)).await;
    lab.make("vnf").await;
    lab.must(LcmOperationType::Instantiate, request()).await;
    let made = lab.places().await;
    let names: Vec<&str> = made.iter().map(|(place, _)| place.as_str()).collect();
    assert_eq!(names, ["masterNode-0", "storage_server-0", "workerNode-0", "workerNode-1"]);
    assert_eq!(lab.saw(), ["instantiate_end 4 true"]);
    let info = lab.instance().await.instantiated_vnf_info.unwrap();
    assert_eq!((info.ext_cp_info.len(), info.virtual_storage_resource_info.len()), (4, 1));
    let volumes = lab.volumes().await;

    let out = json!({"type": "SCALE_OUT", "aspectId": "worker_instance"});
    lab.must(LcmOperationType::Scale, out).await;
    let grown = lab.places().await;
    assert_eq!(grown.len(), 5);
    assert!(made.iter().all(|place| grown.contains(place)), "{grown:?}");
    assert_eq!(lab.saw(), ["scale_start 4 true", "scale_end 5 true"]);

    // Version 1 takes the oldest.
    lab.must(LcmOperationType::Scale, json!({"type": "SCALE_IN", "aspectId": "worker_instance"})).await;
    let shrunk = lab.places().await;
    let gone: Vec<_> = grown.iter().filter(|place| !shrunk.contains(place)).collect();
    assert_eq!(gone.iter().map(|(place, _)| place.as_str()).collect::<Vec<_>>(), ["workerNode-0"]);
    lab.saw();

    for place in ["workerNode-1", "storage_server-0"] {
        let before = lab.places().await;
        let id = before.iter().find(|(name, _)| name == place).unwrap().1.clone();
        lab.must(LcmOperationType::Heal, json!({"vnfcInstanceId": [id]})).await;
        let after = lab.places().await;
        let changed: Vec<_> = after.iter().filter(|it| !before.contains(it)).collect();
        assert_eq!(changed.len(), 1, "{changed:?}");
        assert_eq!(changed[0].0, place);
        assert_eq!(lab.volumes().await, volumes, "the volume stays");
        assert_eq!(lab.saw(), ["heal_start 4 true", "heal_end 4 true"]);
    }

    let before = lab.places().await;
    lab.must(LcmOperationType::Heal, json!({})).await;
    let after = lab.places().await;
    assert!(after.len() == 4 && after.iter().all(|place| !before.contains(place)), "{after:?}");
    lab.must(LcmOperationType::Terminate, json!({"terminationType": "FORCEFUL"})).await;
    assert!(lab.instance().await.instantiated_vnf_info.is_none());
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_that_fails_half_way_is_completed_or_taken_back() {
    for roll_back in [false, true] {
        let faults = "  faults: [{kind: resourceFails, resource: storage_server, count: 1}]";
        let lab = Lab::start(faults, Arc::new(Looking)).await;
        lab.make("vnf").await;
        let name = lab.ask("vnf", LcmOperationType::Instantiate, request()).await;
        let failed = lab.until(&name, &[LcmOperationState::FailedTemp]).await;
        assert!(failed.error.unwrap().detail.contains("storage_server"));
        if roll_back {
            lab.order(&name, json!({"rollbacks": 1})).await;
            lab.until(&name, &[LcmOperationState::RolledBack]).await;
            // The name is free again.
            lab.must(LcmOperationType::Instantiate, request()).await;
        } else {
            lab.order(&name, json!({"retries": 1})).await;
            lab.until(&name, &[LcmOperationState::Completed]).await;
        }
        assert_eq!(lab.places().await.len(), 4);
        lab.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scaling_whose_hook_fails_is_rolled_back() {
    let lab = Lab::start("", Arc::new(Looking)).await;
    lab.make("vnf").await;
    lab.must(LcmOperationType::Instantiate, request()).await;
    let before = lab.places().await;
    // The hook before passes, the one after does not.
    lab.failures.store(0, Ordering::SeqCst);
    let name = lab
        .ask("vnf", LcmOperationType::Scale, json!({"type": "SCALE_OUT", "aspectId": "worker_instance"}))
        .await;
    lab.until(&name, &[LcmOperationState::Completed]).await;
    let grown = lab.places().await;
    lab.failures.store(1, Ordering::SeqCst);
    let name = lab
        .ask("vnf", LcmOperationType::Scale, json!({"type": "SCALE_OUT", "aspectId": "worker_instance"}))
        .await;
    lab.until(&name, &[LcmOperationState::FailedTemp]).await;
    lab.order(&name, json!({"rollbacks": 1})).await;
    lab.until(&name, &[LcmOperationState::RolledBack]).await;
    assert_eq!(lab.places().await, grown);
    assert!(before.iter().all(|place| grown.contains(place)));
    lab.end().await;
}

/// Instantiations a second with so many at a time. A measurement; run it in a release build.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn throughput() {
    let lab = Lab::start("", Arc::new(Idle)).await;
    let lab = &lab;
    for (clients, each) in [(1_u32, 50_u32), (8, 50), (32, 30)] {
        let all = (0..clients).map(|client| async move {
            let mut latencies = Vec::new();
            for number in 0..each {
                let name = format!("vnf-{clients}-{client}-{number}");
                lab.make(&name).await;
                let begun = Instant::now();
                let operation = lab.ask(&name, LcmOperationType::Instantiate, request()).await;
                let occurrences = lab.api::<VnfLcmOperation>();
                let complete = |it: Option<&VnfLcmOperation>| {
                    let status = it.and_then(|it| it.status.as_ref());
                    status.is_some_and(|status| status.operation_state == LcmOperationState::Completed)
                };
                tokio::time::timeout(
                    Duration::from_secs(120),
                    await_condition(occurrences, &operation, complete),
                )
                .await
                .unwrap()
                .unwrap();
                latencies.push(begun.elapsed());
            }
            latencies
        });
        let begun = Instant::now();
        let mut latencies: Vec<Duration> =
            futures::future::join_all(all).await.into_iter().flatten().collect();
        latencies.sort();
        let rate = f64::from(clients * each) / begun.elapsed().as_secs_f64();
        println!(
            "{clients} clients: {rate:.1} instantiations/s, median {:?}",
            latencies[latencies.len() / 2]
        );
    }
}
