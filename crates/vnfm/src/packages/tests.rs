//! Packages between an API server of tests and a library in a directory.

use std::{net::SocketAddr, time::Duration};

use drystone_api::nfv::{
    PackageContent, VnfInstance, VnfInstanceSpec, VnfLcmOperation, VnfLcmOperationSpec, VnfPackage,
    VnfPackageSource, VnfPackageSpec, VnfPackageStatus,
};
use drystone_csar::{Library, Limits};
use drystone_engine::{
    fake_api::FakeApi,
    harness::{Caches, ControllerConfig},
};
use drystone_sol003::types::{
    LcmOperationState, LcmOperationType, PackageOnboardingState, PackageUsageState,
};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ObjectMeta, PostParams},
};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{PackagesConfig, run};

const NAMESPACE: &str = "drystone-system";

struct World {
    api: FakeApi,
    library: Library,
    _directory: tempfile::TempDir,
    _running: DropGuard,
}

impl World {
    fn start(may_be_local: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let library = Library::open(directory.path(), Limits::default(), 1 << 20).unwrap();
        let api = FakeApi::new();
        let stop = CancellationToken::new();
        let caches = Caches::new(api.client(), stop.clone());
        let config = PackagesConfig {
            library: library.clone(),
            may_be_local,
            controller: ControllerConfig::default(),
        };
        let (client, stopped) = (api.client(), stop.clone());
        tokio::spawn(async move { run(client, &caches, config, stopped).await });
        Self { api, library, _directory: directory, _running: stop.drop_guard() }
    }

    fn packages(&self) -> Api<VnfPackage> {
        Api::namespaced(self.api.client(), NAMESPACE)
    }

    async fn create(&self, name: &str, spec: VnfPackageSpec) -> VnfPackage {
        self.packages().create(&PostParams::default(), &VnfPackage::new(name, spec)).await.unwrap()
    }

    /// Puts content into the library, and says so, as the front end does.
    async fn upload(&self, name: &str, bytes: &[u8]) {
        let mut package = self.packages().get(name).await.unwrap();
        let mut incoming = self.library.incoming(&package.uid().unwrap(), Some(bytes.len() as u64)).unwrap();
        incoming.append(bytes).unwrap();
        let committed = incoming.commit().unwrap();
        let upload = package.spec.content.as_ref().map_or(0, |content| content.upload) + 1;
        package.spec.content =
            Some(PackageContent { upload, sha256: committed.digest, length: committed.length });
        // The controller writes to the package too.
        loop {
            match self.packages().replace(name, &PostParams::default(), &package).await {
                Ok(_) => return,
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    let fresh = self.packages().get(name).await.unwrap();
                    package.metadata = fresh.metadata;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn until(&self, name: &str, is_so: impl Fn(&VnfPackageStatus) -> bool) -> VnfPackageStatus {
        for _ in 0..6000 {
            let status = self.packages().get(name).await.unwrap().status.unwrap_or_default();
            if is_so(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{name}: {:?}", self.packages().get(name).await.unwrap().status);
    }
}

/// A package that is good.
fn good() -> Vec<u8> {
    let source =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/vnf/kubernetes-cluster");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("good.csar");
    drystone_csar::build(&source, &file, &Limits::default()).unwrap();
    std::fs::read(file).unwrap()
}

fn is_over(status: &VnfPackageStatus) -> bool {
    status.onboarding_state == PackageOnboardingState::Onboarded || status.onboarding_failure.is_some()
}

#[tokio::test]
async fn content_is_taken_in_or_refused_with_reasons_and_goes_with_its_package() {
    let world = World::start(false);
    let made = world.create("a", VnfPackageSpec::default()).await;
    world.upload("a", b"no zip archive").await;
    let refused = world.until("a", is_over).await;
    assert_eq!(refused.onboarding_state, PackageOnboardingState::Created);
    let failure = refused.onboarding_failure.unwrap();
    assert_eq!(failure.status, 400, "{failure:?}");
    assert!(!world.library.has(&made.uid().unwrap()), "what was refused is not kept");
    world.upload("a", &good()).await;
    let status =
        world.until("a", |status| status.onboarding_state == PackageOnboardingState::Onboarded).await;
    assert!(status.onboarding_failure.is_none());
    assert!(status.vnfd_id.is_some() && status.vnf_product_name.is_some() && status.checksum.is_some());
    assert!(
        status.additional_artifacts.iter().any(|file| file.artifact_path == "Scripts/install_k8s_cluster.sh")
    );
    // The same VNFD again.
    world.create("b", VnfPackageSpec::default()).await;
    world.upload("b", &good()).await;
    let twice = world.until("b", is_over).await.onboarding_failure.unwrap();
    assert_eq!(twice.status, 409, "{twice:?}");
    // Used, and then not.
    let instances: Api<VnfInstance> = Api::namespaced(world.api.client(), NAMESPACE);
    let spec = VnfInstanceSpec { vnfd_id: status.vnfd_id.unwrap(), ..VnfInstanceSpec::default() };
    let vnfd = spec.vnfd_id.clone();
    instances.create(&PostParams::default(), &VnfInstance::new("i", spec)).await.unwrap();
    world.until("a", |status| status.usage_state == PackageUsageState::InUse).await;
    instances.delete("i", &DeleteParams::default()).await.unwrap();
    world.until("a", |status| status.usage_state == PackageUsageState::NotInUse).await;
    // An instance of another package is on its way to this one.
    let operations: Api<VnfLcmOperation> = Api::namespaced(world.api.client(), NAMESPACE);
    let spec = VnfLcmOperationSpec {
        instance: "other".to_owned(),
        operation: LcmOperationType::ChangeVnfPackage,
        parameters: json!({"vnfdId": vnfd}).as_object().cloned().unwrap(),
        ..VnfLcmOperationSpec::default()
    };
    let made_of = VnfLcmOperation::new("change", spec);
    let mut change = operations.create(&PostParams::default(), &made_of).await.unwrap();
    world.until("a", |status| status.usage_state == PackageUsageState::InUse).await;
    change.status.get_or_insert_default().operation_state = LcmOperationState::RolledBack;
    operations.replace_status("change", &PostParams::default(), &change).await.unwrap();
    world.until("a", |status| status.usage_state == PackageUsageState::NotInUse).await;
    world.packages().delete("a", &DeleteParams::default()).await.unwrap();
    for _ in 0..6000 {
        if world.packages().get_opt("a").await.unwrap().is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(world.packages().get_opt("a").await.unwrap().is_none());
    assert!(!world.library.has(&made.uid().unwrap()));
}

/// Answers every request with the same bytes, if it has this line.
async fn serve(line: &'static str, answer: Vec<u8>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap_or(0);
            let text = String::from_utf8_lossy(&request[..length]).to_ascii_lowercase();
            let refused =
                b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec();
            let bytes = if text.contains(&line.to_ascii_lowercase()) { &answer } else { &refused };
            let _ = stream.write_all(bytes).await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

fn source(url: String, credentials: Option<&str>) -> VnfPackageSpec {
    let source = VnfPackageSource { url, credentials: credentials.map(str::to_owned) };
    VnfPackageSpec { source: Some(source), ..VnfPackageSpec::default() }
}

#[tokio::test]
async fn content_is_fetched_with_credentials_and_within_limits() {
    let world = World::start(true);
    let body = good();
    let mut answer =
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len())
            .into_bytes();
    answer.extend_from_slice(&body);
    let address = serve("authorization: Basic dTpw", answer).await;
    let secrets: Api<Secret> = Api::namespaced(world.api.client(), NAMESPACE);
    let data =
        [("username", "u"), ("password", "p")].map(|(key, value)| (key.to_owned(), ByteString(value.into())));
    let metadata = ObjectMeta { name: Some("login".to_owned()), ..ObjectMeta::default() };
    let secret = Secret { metadata, data: Some(data.into()), ..Secret::default() };
    secrets.create(&PostParams::default(), &secret).await.unwrap();
    let url = format!("http://{address}/x.csar");
    world.create("stranger", source(url.clone(), None)).await;
    let refused = world.until("stranger", is_over).await.onboarding_failure.unwrap();
    assert!(refused.detail.contains("401"), "{refused:?}");
    world.create("known", source(url, Some("login"))).await;
    world.until("known", |status| status.onboarding_state == PackageOnboardingState::Onboarded).await;
    let large = serve("GET", b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\nx".to_vec()).await;
    world.create("large", source(format!("http://{large}/"), None)).await;
    assert_eq!(world.until("large", is_over).await.onboarding_failure.unwrap().status, 413);
    let short =
        serve("GET", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\nconnection: close\r\n\r\nx".to_vec()).await;
    world.create("short", source(format!("http://{short}/"), None)).await;
    assert_eq!(world.until("short", is_over).await.onboarding_failure.unwrap().status, 502);
}

#[tokio::test]
async fn this_machine_is_not_reached_through_a_url() {
    let world = World::start(false);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for (name, url) in [
        ("a", format!("http://127.0.0.1:{port}/x")),
        ("b", format!("http://localhost:{port}/x")),
        ("c", format!("http://[::ffff:127.0.0.1]:{port}/x")),
        ("d", "http://169.254.169.254/latest/meta-data".to_owned()),
        ("e", "file:///etc/passwd".to_owned()),
    ] {
        world.create(name, source(url, None)).await;
        let failure = world.until(name, is_over).await.onboarding_failure.unwrap();
        assert!(matches!(failure.status, 400 | 403), "{name}: {failure:?}");
    }
    let nobody = tokio::time::timeout(Duration::from_millis(200), listener.accept()).await;
    assert!(nobody.is_err(), "somebody came");
}
