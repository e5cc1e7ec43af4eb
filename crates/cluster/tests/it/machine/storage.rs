//! A StorageServer from declaration to deletion: a real host with a block device, a real cluster's API with the controllers that bind claims.

use std::{fs, sync::Arc, time::Duration};

use drystone_api::{
    Cluster, Distribution, ExternalCluster, StorageServer, StorageServerPhase, StorageServerStatus,
    custom_resource_definitions,
};
use drystone_apiserver::{ApiServer, Config, Profile};
use drystone_cluster::{
    ClusterConfig,
    plan::Timing,
    steps::{self, AddressError, Addresses, Leased, StepDependencies},
};
use drystone_engine::{
    action::ActionRegistry,
    events::Silent,
    operations::{OperationController, OperationControllerConfig},
    runner::{Engine, EngineConfig},
};
use drystone_identity::{
    CertificateProfile, ONE_YEAR, UserInfo,
    ca::CertificateAuthority,
    kubeconfig::{Credential, Kubeconfig},
    tls::{self, ServerIdentity},
    user::MASTERS,
};
use drystone_store::embedded::{EmbeddedStore, Options};
use drystone_workloads::WorkloadsConfig;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{PersistentVolume, PersistentVolumeClaim, Secret},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, PostParams},
    runtime::{conditions, wait::await_condition},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::host::{Machine, on_host};

/// Nobody leases anything here.
struct NoAddresses;

impl Addresses for NoAddresses {
    fn lease<'a>(&'a self, _: &'a str, pool: &'a str, _: &'a str, _: usize) -> Leased<'a> {
        Box::pin(async move { Err(AddressError(format!("there is no pool {pool}"))) })
    }

    fn release<'a>(&'a self, _: &'a str, _: &'a str, _: &'a str) -> Leased<'a> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

struct Lab {
    client: Client,
    stop: CancellationToken,
    _server: ApiServer,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(300);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what}: it did not come to pass");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Lab {
    async fn start(machine: &Machine) -> Self {
        tls::install_crypto_provider();
        let now = Timestamp::now();
        let ca = CertificateAuthority::generate("test-ca", ONE_YEAR, now).unwrap();
        let store = Arc::new(EmbeddedStore::in_memory(Options::default()).unwrap());
        let server = ApiServer::new(Config::new(Profile::Cluster, store)).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let issue = |profile| ca.issue(&profile, now).unwrap();
        let address = [127, 0, 0, 1].into();
        let identity = ServerIdentity::new(&issue(CertificateProfile::server("api").ip([address]))).unwrap();
        let config = tls::server_config(identity, Some(&ca.certificate_pem())).unwrap();
        let serving = server.clone();
        tokio::spawn(async move { serving.serve(listener, config).await });
        let admin = Credential::Certificate(issue(CertificateProfile::client("admin", [MASTERS])));
        let kubeconfig = Kubeconfig::new("test", "admin", &url, ca.certificate_pem(), admin);
        let kubeconfig = kubeconfig.to_yaml().unwrap().expose().to_owned();
        let client = Client::new(server.service_as(UserInfo::new("test", [MASTERS])), "default");
        let lab = Self { client, stop: CancellationToken::new(), _server: server };
        lab.define().await;
        lab.run();
        lab.secret("kubeconfig", &json!({"value": kubeconfig})).await;
        let key = machine.login_key().to_text().unwrap();
        lab.secret("nas", &json!({"ssh-privatekey": key.expose()})).await;
        let mut cluster = Cluster::new(
            "mlops",
            serde_json::from_value(json!({
                "network": {"podCIDR": "10.42.0.0/16", "serviceCIDR": "10.43.0.0/16"},
            }))
            .unwrap(),
        );
        cluster.spec.distribution = Distribution::External;
        cluster.spec.external = Some(ExternalCluster { kubeconfig_secret: "kubeconfig".into() });
        lab.api::<Cluster>().create(&PostParams::default(), &cluster).await.unwrap();
        lab
    }

    async fn define(&self) {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for definition in custom_resource_definitions() {
            let name = definition.name_any();
            definitions.create(&PostParams::default(), &definition).await.unwrap();
            await_condition(definitions.clone(), &name, conditions::is_crd_established()).await.unwrap();
        }
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(self.client.clone());
        let system = json!({"metadata": {"name": "drystone-system"}});
        namespaces.create(&PostParams::default(), &serde_json::from_value(system).unwrap()).await.unwrap();
    }

    fn run(&self) {
        let dependencies = StepDependencies {
            addresses: Arc::new(NoAddresses),
            drystone_ca_pem: String::new(),
            controller_address: "127.0.0.1:1".into(),
            images: Vec::new(),
        };
        let mut actions = ActionRegistry::new();
        steps::register(&mut actions, &dependencies).unwrap();
        let engine = Engine::new(self.client.clone(), actions, EngineConfig::default(), Arc::new(Silent));
        let operations =
            OperationController::new(self.client.clone(), engine, OperationControllerConfig::default());
        tokio::spawn(operations.run(self.stop.clone()));
        let config = ClusterConfig { dependencies, timing: Timing::default(), events: Arc::new(Silent) };
        tokio::spawn(drystone_cluster::run(self.client.clone(), config, self.stop.clone()));
        let (client, stop) = (self.client.clone(), self.stop.clone());
        tokio::spawn(async move { drystone_workloads::run(client, WorkloadsConfig::default(), stop).await });
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    fn volumes(&self) -> Api<PersistentVolume> {
        Api::all(self.client.clone())
    }

    async fn secret(&self, name: &str, data: &Value) {
        let secret = json!({"metadata": {"name": name}, "stringData": data});
        let secret: Secret = serde_json::from_value(secret).unwrap();
        self.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
    }

    async fn declare(&self, device: &str) {
        let spec = json!({
            "cluster": "mlops",
            "host": {"name": "nas", "address": "127.0.0.1", "access": {"credentialsName": "nas", "trustOnFirstUse": true}},
            "volumes": [{"device": device, "mountTo": "/mnt/volume"}],
            "persistentVolumes": [
                {"name": "pv1", "directory": "/mnt/volume/nfs/pv1", "capacity": "1Gi"},
                {"name": "pv2", "directory": "/mnt/volume/nfs/pv2", "capacity": "2Gi"},
            ],
            "clients": ["127.0.0.0/8"],
        });
        let server = StorageServer::new("data", serde_json::from_value(spec).unwrap());
        self.api::<StorageServer>().create(&PostParams::default(), &server).await.unwrap();
    }

    /// Waits for a phase.
    async fn reaches(&self, phase: StorageServerPhase) -> StorageServerStatus {
        let mut said = String::new();
        eventually(&format!("phase {phase:?}"), async || {
            let status = self.api::<StorageServer>().get("data").await.unwrap().status.unwrap_or_default();
            let says = format!("{:?}: {}", status.phase, status.message);
            if says != said {
                println!("{says}");
                said = says;
            }
            let failed = status.phase == StorageServerPhase::Failed && phase != StorageServerPhase::Failed;
            assert!(!failed, "{}", status.message);
            (status.phase == phase).then_some(status)
        })
        .await
    }

    async fn is_gone(&self) {
        eventually("the end of the StorageServer", async || {
            self.api::<StorageServer>().get_opt("data").await.unwrap().is_none().then_some(())
        })
        .await;
    }

    async fn phase_of(&self, volume: &str) -> Option<String> {
        self.volumes().get_opt(volume).await.unwrap()?.status?.phase
    }
}

fn is_mounted() -> bool {
    fs::read_to_string("/proc/thread-self/mountinfo").unwrap().contains(" /mnt/volume ")
}

#[test]
fn a_host_serves_its_drive_and_nothing_is_taken_from_who_uses_it() {
    on_host(&["ganesha.nfsd", "rpcbind"], async |machine| {
        let device = machine.device(64);
        let lab = Lab::start(machine).await;
        lab.declare(&device).await;
        let first = lab.reaches(StorageServerPhase::Ready).await;
        assert!(first.volumes[0].formatted && is_mounted(), "{first:?}");
        assert_eq!((first.host.as_str(), first.address.as_str()), ("nas", "127.0.0.1"));
        let registered = lab.volumes().get("pv1").await.unwrap();
        assert_eq!(serde_json::to_value(registered.spec.unwrap().nfs).unwrap()["server"], "127.0.0.1");
        fs::write("/mnt/volume/nfs/pv1/precious", "data").unwrap();

        // Somebody uses it: it stays, and says who does.
        let claim = json!({"metadata": {"name": "work"}, "spec": {"accessModes": ["ReadWriteMany"], "storageClassName": "",
            "resources": {"requests": {"storage": "1Gi"}}}});
        let claims = lab.api::<PersistentVolumeClaim>();
        claims.create(&PostParams::default(), &serde_json::from_value(claim).unwrap()).await.unwrap();
        eventually("the claim to be bound", async || {
            (lab.phase_of("pv1").await.as_deref() == Some("Bound")).then_some(())
        })
        .await;
        lab.api::<StorageServer>().delete("data", &DeleteParams::default()).await.unwrap();
        let blocked = lab.reaches(StorageServerPhase::Blocked).await;
        assert!(
            blocked.message.contains("pv1") && blocked.message.contains("default/work"),
            "{}",
            blocked.message
        );
        assert!(is_mounted() && lab.phase_of("pv1").await.as_deref() == Some("Bound"));

        // When nobody does any more, it goes by itself; what was written stays on the drive.
        claims.delete("work", &DeleteParams::default()).await.unwrap();
        lab.is_gone().await;
        assert!(
            !is_mounted()
                && fs::read_to_string("/etc/fstab").unwrap().trim().lines().all(|line| line.starts_with('#'))
        );
        assert!(lab.volumes().get_opt("pv1").await.unwrap().is_none());

        lab.declare(&device).await;
        let again = lab.reaches(StorageServerPhase::Ready).await;
        assert_eq!((again.volumes[0].formatted, &again.volumes[0].uuid), (false, &first.volumes[0].uuid));
        assert_eq!(fs::read_to_string("/mnt/volume/nfs/pv1/precious").unwrap(), "data");
        lab.api::<StorageServer>().delete("data", &DeleteParams::default()).await.unwrap();
        lab.is_gone().await;
    });
}
