//! All that the tests of the life cycle need: objects, a package, a process that can be killed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use drystone_api::{
    StepSpec,
    nfv::{
        Vim, VimProject, VimSpec, VnfInstance, VnfInstanceSpec, VnfInstanceStatus, VnfLcmOperation,
        VnfLcmOperationSpec, VnfLcmOperationStatus, VnfPackage, VnfPackageSpec, VnfPackageStatus,
    },
};
use drystone_engine::{
    action::{Action, ActionRegistry, StepContext, StepError},
    events::Silent,
    fake_api::FakeApi,
    harness::{Caches, ControllerConfig},
    operations::{OperationController, OperationControllerConfig},
    runner::{Engine, EngineConfig},
};
use drystone_sol003::types::{
    LcmOperationState, LcmOperationType, PackageOnboardingState, VimConnectionInfo,
};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::cloud::Cloud;
use crate::{
    controller::{LifecycleConfig, run},
    mgmt::{Drivers, HookPlanner},
    model::{
        Blueprint, ConnectionPoint, Flavour, Hook, Inventory, Phase, Problem, Situation, StackAsk,
        StackRequest, Topology,
    },
    steps::{BlueprintError, Blueprints, StepDependencies, register},
};

pub(super) const NAMESPACE: &str = "drystone-system";

/// A package of a cluster with one master, two workers (up to five) and a storage server.
#[derive(Debug, Default)]
pub(super) struct Package {
    pub(super) hooks: BTreeMap<String, String>,
}

impl Blueprint for Package {
    fn flavour(&self, id: &str) -> Result<&dyn Flavour, Problem> {
        if id == "simple" { Ok(self) } else { Err(Problem::bad("flavourId", format!("no flavour {id:?}"))) }
    }

    fn stack_request(&self, ask: &StackAsk<'_>) -> Result<StackRequest, Problem> {
        let counts = if ask.phase == Phase::Forward { ask.after } else { ask.before };
        let parameters =
            json!({"counts": counts, "nfv": {"seen": ask.operation.parameters.get("additionalParams")}});
        Ok(StackRequest {
            parameters: parameters.as_object().cloned().unwrap_or_default(),
            ..StackRequest::default()
        })
    }
}

impl Flavour for Package {
    fn topology(&self) -> Topology {
        let vdus = ["master", "worker", "storage_server"];
        let cp = |vdu: &str| {
            (format!("{vdu}_CP"), ConnectionPoint { vdu: Some(vdu.to_owned()), virtual_link: None })
        };
        Topology {
            vdus: vdus.into_iter().map(|vdu| (vdu.to_owned(), Vec::new())).collect(),
            connection_points: vdus.into_iter().map(cp).collect(),
            aspects: BTreeMap::from([("worker_instance".to_owned(), vec!["worker".to_owned()])]),
            ..Topology::default()
        }
    }

    fn assets(&self) -> BTreeMap<String, (Option<String>, Option<String>)> {
        BTreeMap::from([("master".to_owned(), (Some("m1.large".to_owned()), Some("ubuntu".to_owned())))])
    }

    fn hooks(&self) -> BTreeMap<String, String> {
        self.hooks.clone()
    }

    fn highest_levels(&self) -> BTreeMap<String, u32> {
        BTreeMap::from([("worker_instance".to_owned(), 3)])
    }

    fn levels(&self, _: Option<&str>) -> Result<BTreeMap<String, u32>, Problem> {
        Ok(BTreeMap::from([("worker_instance".to_owned(), 0)]))
    }

    fn counts(&self, level: Option<&str>) -> Result<BTreeMap<String, u32>, Problem> {
        match level {
            None => Ok([("master", 1), ("worker", 2), ("storage_server", 1)]
                .into_iter()
                .map(|(vdu, count)| (vdu.to_owned(), count))
                .collect()),
            Some(other) => Err(Problem::bad("instantiationLevelId", format!("no level {other:?}"))),
        }
    }

    fn difference(&self, _: &str, from: u32, to: u32) -> Result<BTreeMap<String, i64>, Problem> {
        Ok(BTreeMap::from([("worker".to_owned(), i64::from(to) - i64::from(from))]))
    }
}

/// Gives every package the same content.
pub(super) struct Shelf(pub(super) Arc<Package>);

impl Blueprints for Shelf {
    fn open(&self, _: &str) -> Result<Arc<dyn Blueprint>, BlueprintError> {
        Ok(self.0.clone())
    }
}

/// A driver whose hooks are one step each, which notes what it sees.
pub(super) struct Noting;

impl HookPlanner for Noting {
    fn steps(&self, hook: Hook, situation: &Situation) -> Result<Vec<StepSpec>, Problem> {
        if situation.parameter("refuse").is_some() {
            return Err(Problem::bad("additionalParams.refuse", "refused"));
        }
        let inventory = Some(situation.inventory.clone()).filter(|id| !id.is_empty());
        Ok(vec![StepSpec {
            id: format!("{hook}/note"),
            action: Note::NAME.to_owned(),
            depends_on: inventory.clone().into_iter().collect(),
            parameters: json!({"hook": hook.to_string(), "inventory": inventory, "added": situation.added()}),
            ..StepSpec::default()
        }])
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NoteParameters {
    hook: String,
    inventory: Option<String>,
    added: Value,
}

/// What hooks saw.
pub(super) type Notes = Arc<Mutex<Vec<String>>>;

pub(super) struct Note {
    notes: Notes,
    failures: Arc<Mutex<u32>>,
}

impl Action for Note {
    const NAME: &'static str = "test.note";
    type Parameters = NoteParameters;
    type Output = Value;

    async fn run(&self, context: &StepContext, parameters: NoteParameters) -> Result<Value, StepError> {
        let servers = match &parameters.inventory {
            Some(id) => context.input::<Inventory>(id)?.servers.len(),
            None => 0,
        };
        self.notes.lock().expect("not poisoned").push(format!("{} {servers}", parameters.hook));
        let mut failures = self.failures.lock().expect("not poisoned");
        if *failures > 0 {
            *failures -= 1;
            return Err(StepError::permanent("the script failed"));
        }
        let node = json!({"vnfc": "x", "vduId": "master", "name": "master1", "address": "10.10.0.7"});
        Ok(json!({"vnfInstance": {"nodes": [node]}}))
    }

    async fn undo(&self, _: &StepContext, parameters: NoteParameters) -> Result<(), StepError> {
        self.notes.lock().expect("not poisoned").push(format!("undo {}", parameters.hook));
        Ok(())
    }
}

/// All of it.
pub(super) struct World {
    pub(super) api: FakeApi,
    pub(super) cloud: Cloud,
    pub(super) package: Arc<Package>,
    pub(super) notes: Notes,
    pub(super) failures: Arc<Mutex<u32>>,
    operations: Mutex<u32>,
}

impl World {
    /// With a package, a default VIM, and the instance `vnf`.
    pub(super) async fn new(hooks: &[&str]) -> Self {
        let hooks = hooks.iter().map(|hook| ((*hook).to_owned(), "Scripts/note.py".to_owned()));
        let world = Self {
            api: FakeApi::new(),
            cloud: Cloud { takes: Duration::from_secs(10), ..Cloud::default() },
            package: Arc::new(Package { hooks: hooks.collect() }),
            notes: Notes::default(),
            failures: Arc::default(),
            operations: Mutex::default(),
        };
        world.put_package().await;
        world.put_vim("openstack", true).await;
        let spec = VnfInstanceSpec { vnfd_id: "vnfd-1".to_owned(), ..VnfInstanceSpec::default() };
        world
            .instances()
            .create(&PostParams::default(), &VnfInstance::new("vnf", spec))
            .await
            .expect("created");
        world
    }

    pub(super) fn instances(&self) -> Api<VnfInstance> {
        Api::namespaced(self.api.client(), NAMESPACE)
    }

    pub(super) fn occurrences(&self) -> Api<VnfLcmOperation> {
        Api::namespaced(self.api.client(), NAMESPACE)
    }

    async fn put_package(&self) {
        let packages: Api<VnfPackage> = Api::namespaced(self.api.client(), NAMESPACE);
        let package = VnfPackage::new("package", VnfPackageSpec::default());
        let mut made = packages.create(&PostParams::default(), &package).await.expect("created");
        made.status = Some(VnfPackageStatus {
            onboarding_state: PackageOnboardingState::Onboarded,
            vnfd_id: Some("vnfd-1".to_owned()),
            vnf_product_name: Some("Cluster".to_owned()),
            ..VnfPackageStatus::default()
        });
        packages.replace_status("package", &PostParams::default(), &made).await.expect("written");
    }

    pub(super) async fn put_vim(&self, name: &str, is_default: bool) -> Vim {
        let vims: Api<Vim> = Api::namespaced(self.api.client(), NAMESPACE);
        let spec = VimSpec {
            auth_url: "http://127.0.0.1:5000/v3".to_owned(),
            project: VimProject { name: "nfv".to_owned(), ..VimProject::default() },
            is_default,
            ..VimSpec::default()
        };
        vims.create(&PostParams::default(), &Vim::new(name, spec)).await.expect("created")
    }

    /// A process with the engine and the controllers; killed when it is dropped.
    pub(super) fn process(&self) -> AbortOnDropHandle<()> {
        let client = self.api.client();
        let blueprints: Arc<dyn Blueprints> = Arc::new(Shelf(self.package.clone()));
        let dependencies =
            StepDependencies { blueprints: blueprints.clone(), vims: Arc::new(self.cloud.clone()) };
        let mut actions = ActionRegistry::new();
        register(&mut actions, &dependencies).expect("new");
        let note = Note { notes: self.notes.clone(), failures: self.failures.clone() };
        actions.register(note).expect("new");
        let mut drivers = Drivers::new();
        drivers.add("note.py", Arc::new(Noting));
        let config = LifecycleConfig {
            blueprints,
            vims: Arc::new(self.cloud.clone()),
            drivers,
            containers: None,
            controller: ControllerConfig::default(),
        };
        let engine = Engine::new(client.clone(), actions, EngineConfig::default(), Arc::new(Silent));
        let operations =
            OperationController::new(client.clone(), engine, OperationControllerConfig::default());
        AbortOnDropHandle::new(tokio::spawn(async move {
            let shutdown = CancellationToken::new();
            let _cut = shutdown.clone().drop_guard();
            let caches = Caches::new(client.clone(), shutdown.clone());
            tokio::join!(operations.run(shutdown.clone()), run(client, &caches, config, shutdown.clone()));
        }))
    }

    /// What the front end does: the operation is made, and takes the instance.
    pub(super) async fn ask(&self, operation: LcmOperationType, parameters: Value) -> String {
        self.ask_with(VnfLcmOperationSpec {
            instance: "vnf".to_owned(),
            operation,
            parameters: parameters.as_object().cloned().unwrap_or_default(),
            ..VnfLcmOperationSpec::default()
        })
        .await
    }

    pub(super) async fn ask_with(&self, spec: VnfLcmOperationSpec) -> String {
        let number = {
            let mut operations = self.operations.lock().expect("not poisoned");
            *operations += 1;
            *operations
        };
        let name = format!("op-{number}");
        let occurrence = VnfLcmOperation::new(&name, spec);
        self.occurrences().create(&PostParams::default(), &occurrence).await.expect("created");
        let patch = Patch::Merge(json!({"status": {"operation": name}}));
        self.instances().patch_status("vnf", &PatchParams::default(), &patch).await.expect("taken");
        name
    }

    pub(super) async fn order(&self, name: &str, change: Value) {
        let patch = Patch::Merge(json!({"spec": change}));
        self.occurrences().patch(name, &PatchParams::default(), &patch).await.expect("ordered");
    }

    pub(super) async fn status(&self, name: &str) -> VnfLcmOperationStatus {
        self.occurrences().get(name).await.expect("there").status.unwrap_or_default()
    }

    /// Waits until the operation is in that state.
    pub(super) async fn until(&self, name: &str, state: LcmOperationState) -> VnfLcmOperationStatus {
        for _ in 0..20_000 {
            let status = self.status(name).await;
            if status.operation_state == state {
                return status;
            }
            sleep(Duration::from_millis(100)).await;
        }
        panic!("{name} does not become {state:?}: {:?}", self.status(name).await);
    }

    pub(super) async fn instance(&self) -> VnfInstanceStatus {
        self.instances().get("vnf").await.expect("there").status.unwrap_or_default()
    }

    /// Asks for an operation and waits until it is complete.
    pub(super) async fn done(&self, operation: LcmOperationType, parameters: Value) -> VnfLcmOperationStatus {
        let name = self.ask(operation, parameters).await;
        self.until(&name, LcmOperationState::Completed).await
    }

    pub(super) async fn instantiated(&self) -> VnfLcmOperationStatus {
        self.done(LcmOperationType::Instantiate, json!({"flavourId": "simple"})).await
    }

    pub(super) fn notes(&self) -> Vec<String> {
        self.notes.lock().expect("not poisoned").clone()
    }
}

/// States that were entered.
pub(super) fn states(status: &VnfLcmOperationStatus) -> Vec<LcmOperationState> {
    assert!(
        status.transitions.iter().zip(1..).all(|(change, number)| change.sequence == number),
        "{status:?}"
    );
    status.transitions.iter().map(|change| change.state).collect()
}

/// A connection with everything, so that no VIM need be registered.
pub(super) fn connection(password: Option<&str>) -> Value {
    let mut info = VimConnectionInfo {
        vim_type: "ETSINFV.OPENSTACK_KEYSTONE.V_3".to_owned(),
        ..VimConnectionInfo::default()
    };
    info.interface_info.insert("endpoint".to_owned(), json!("http://127.0.0.1:5000/v3"));
    info.access_info.insert("username".to_owned(), json!("nfv_user"));
    if let Some(password) = password {
        info.access_info.insert("password".to_owned(), json!(password));
    }
    json!({"vim1": info})
}

/// Names of VNFCs by VDU and index.
pub(super) fn places(status: &VnfInstanceStatus) -> Vec<String> {
    let info = status.instantiated_vnf_info.as_ref().expect("instantiated");
    info.vnfc_resource_info
        .iter()
        .map(|it| format!("{}-{}={}", it.vdu_id, it.metadata["vdu_idx"], it.id))
        .collect()
}

/// The uid of an object.
pub(super) fn uid<K: kube::Resource>(object: &K) -> String {
    object.uid().expect("has one")
}
