//! A node of one pod: a containerd, an API server and the kubelet API, all of the test's own.

use std::{
    collections::HashMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use drystone_apiserver::{ApiServer, Config, Profile};
use drystone_identity::{
    CertificateProfile, ONE_YEAR, UserInfo,
    ca::CertificateAuthority,
    kubeconfig::{Credential, Kubeconfig},
    tls::{self, ServerIdentity},
    user::MASTERS,
};
use drystone_node::{
    config::NodeConfig,
    containerd::{Settings, Supervisor, choose_runtime, ensure_sandbox_image, import},
    cri::{
        Runtime,
        messages::{
            ContainerConfig, ContainerMetadata, ImageSpec, LinuxContainerConfig,
            LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode,
            NamespaceOption, PodSandboxConfig, PodSandboxMetadata,
        },
    },
    image_archive::{self, Image, ImageFile},
    kubelet_api::{KubeletApi, PodSource},
    pods::labels,
};
use drystone_store::embedded::{EmbeddedStore, Options};
use k8s_openapi::{
    api::core::v1::{Node as NodeObject, Pod},
    jiff::Timestamp,
};
use kube::{Api, api::PostParams};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const IMAGE: &str = "localhost/subject:1";
const NODE: &str = "n1";
const PROGRAM: &str = include_str!("subject.rs");

#[derive(Default)]
struct Pods(Mutex<Vec<Arc<Pod>>>);

impl PodSource for Pods {
    fn pods(&self) -> Vec<Arc<Pod>> {
        self.0.lock().unwrap().clone()
    }
}

/// The node.
pub(super) struct Node {
    pub(super) runtime: Runtime,
    pub(super) ca: Arc<CertificateAuthority>,
    /// Of the kubelet API.
    pub(super) address: SocketAddr,
    pub(super) kubeconfig: PathBuf,
    client: kube::Client,
    pods: Arc<Pods>,
    stop: CancellationToken,
    pub(super) directory: Directory,
}

/// Files of the test, and the processes that use them.
pub(super) struct Directory(TempDir);

impl Directory {
    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Directory {
    /// Ends containerd and its shims, which are known by this directory in their arguments, and unmounts what they left.
    fn drop(&mut self) {
        let name = self.path().display().to_string();
        for process in fs::read_dir("/proc").unwrap().flatten() {
            let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let arguments = String::from_utf8_lossy(&arguments).into_owned();
            let program = arguments.split('\0').next().unwrap_or_default();
            if program.contains("containerd") && arguments.contains(&name) {
                let id = process.file_name();
                let _ = Command::new("kill").arg("-9").arg(id).status();
            }
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let ours =
            mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|path| path.starts_with(&name));
        for path in ours.collect::<Vec<_>>().into_iter().rev() {
            let _ = Command::new("umount").arg("-l").arg(path).status();
        }
    }
}

/// Whether containers can be run here; else says why not.
pub(super) fn is_possible() -> bool {
    let has = |program: &str, argument: &str| {
        let mut command = Command::new(program);
        command.arg(argument).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let missing = if !nix::unistd::geteuid().is_root() {
        "not root"
    } else if !has("containerd", "--version") || choose_runtime(None).is_err() {
        "containerd or an OCI runtime is not installed"
    } else if !has("rustc", "--version") {
        "there is no rustc to build the program for the container"
    } else if !has("kubectl", "help") {
        "there is no kubectl"
    } else {
        return true;
    };
    println!("skipped: {missing}");
    assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
    false
}

impl Node {
    pub(super) async fn start() -> Self {
        tls::install_crypto_provider();
        let directory = Directory(tempfile::tempdir().unwrap());
        let path = directory.path().to_owned();
        let now = Timestamp::now();
        let ca = Arc::new(CertificateAuthority::generate("test-ca", ONE_YEAR, now).unwrap());
        fs::write(path.join("ca.crt"), ca.certificate_pem()).unwrap();
        let config = config(&path);
        let runtime = start_containerd(&config).await;
        let (api, kubeconfig) = start_api(&ca, &path).await;
        let client = kube::Client::new(api.service_as(UserInfo::new("test", [MASTERS])), "default");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        register(&client, address.port()).await;
        let profile = CertificateProfile::server(NODE).ip([address.ip()]);
        let identity = ServerIdentity::new(&ca.issue(&profile, now).unwrap()).unwrap();
        let reviewer = kube::Client::new(api.service_as(UserInfo::node(NODE)), "default");
        let (pods, stop) = (Arc::new(Pods::default()), CancellationToken::new());
        let served =
            KubeletApi::new(Arc::new(config), Arc::clone(&pods) as _, runtime.clone(), reviewer, identity);
        tokio::spawn(served.unwrap().run(listener, stop.clone()));
        Self { runtime, ca, address, kubeconfig, client, pods, stop, directory }
    }

    /// Declares a pod and runs its containers, each with the program's arguments.
    pub(super) async fn run_pod(&self, name: &str, containers: &[(&str, &[&str])]) {
        let listed: Vec<_> = containers
            .iter()
            .map(|(name, args)| json!({"name": name, "image": IMAGE, "args": args, "stdin": *name == "input", "stdinOnce": true}))
            .collect();
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"nodeName": NODE, "hostNetwork": true, "containers": listed, "automountServiceAccountToken": false},
        }))
        .unwrap();
        let api: Api<Pod> = Api::default_namespaced(self.client.clone());
        let mut pod = eventually("the pod is accepted", async || {
            api.create(&PostParams::default(), &pod).await.inspect_err(|error| println!("{error}")).ok()
        })
        .await;
        let mut status = pod.status.clone().unwrap_or_default();
        status.phase = Some("Running".into());
        pod.status = Some(status);
        let pod = api.replace_status(name, &PostParams::default(), &pod).await.unwrap();
        let sandbox_config = self.sandbox(&pod);
        let sandbox = self.runtime.run_pod_sandbox(sandbox_config.clone()).await.unwrap();
        for (container, arguments) in containers {
            Box::pin(self.start_container(&pod, container, arguments, &sandbox, sandbox_config.clone()))
                .await;
        }
        self.pods.0.lock().unwrap().push(Arc::new(pod));
    }

    fn sandbox(&self, pod: &Pod) -> PodSandboxConfig {
        let name = pod.metadata.name.clone().unwrap();
        let metadata = PodSandboxMetadata {
            name: name.clone(),
            uid: pod.metadata.uid.clone().unwrap(),
            namespace: "default".into(),
            attempt: 0,
        };
        let security =
            LinuxSandboxSecurityContext { namespace_options: host_network(), ..Default::default() };
        PodSandboxConfig {
            metadata: Some(metadata),
            log_directory: self.directory.path().join("logs").join(name).display().to_string(),
            labels: labels::pod_labels(pod),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: self.cgroup(),
                security_context: Some(security),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn cgroup(&self) -> String {
        let name = self.directory.path().file_name().unwrap().to_string_lossy();
        format!("/drystone-kubelet-{}", name.trim_start_matches('.'))
    }

    async fn start_container(
        &self,
        pod: &Pod,
        name: &str,
        arguments: &[&str],
        sandbox: &str,
        sandbox_config: PodSandboxConfig,
    ) {
        fs::create_dir_all(Path::new(&sandbox_config.log_directory).join(name)).unwrap();
        let mut labels = labels::pod_labels(pod);
        labels.insert(labels::CONTAINER_NAME.into(), name.into());
        let security =
            LinuxContainerSecurityContext { namespace_options: host_network(), ..Default::default() };
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }),
            image: Some(ImageSpec { image: IMAGE.into(), ..Default::default() }),
            args: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            labels,
            log_path: format!("{name}/0.log"),
            stdin: name == "input",
            stdin_once: name == "input",
            linux: Some(LinuxContainerConfig { security_context: Some(security), ..Default::default() }),
            ..Default::default()
        };
        let id = self.runtime.create_container(sandbox, config, sandbox_config).await.unwrap();
        self.runtime.start_container(&id).await.unwrap();
    }

    /// Stops and removes everything.
    pub(super) async fn end(self) {
        for sandbox in self.runtime.list_pod_sandboxes(HashMap::new()).await.unwrap() {
            self.runtime.stop_pod_sandbox(&sandbox.id).await.unwrap();
            self.runtime.remove_pod_sandbox(&sandbox.id).await.unwrap();
        }
        self.stop.cancel();
        let cgroup = self.cgroup();
        for controller in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = fs::remove_dir(controller.path().join(&cgroup[1..]));
        }
    }
}

fn host_network() -> Option<NamespaceOption> {
    Some(NamespaceOption { network: NamespaceMode::Node as i32, ..Default::default() })
}

fn config(path: &Path) -> NodeConfig {
    let text = json!({
        "nodeName": NODE, "nodeAddress": Ipv4Addr::LOCALHOST, "interface": "lo", "apiServer": "https://127.0.0.1:1",
        "caFile": path.join("ca.crt"), "podCIDR": "10.42.0.0/16", "serviceCIDR": "10.43.0.0/16",
        "dataDir": path.join("data"),
        "containerRuntime": {
            "endpoint": format!("unix://{}", path.join("containerd.sock").display()),
            "root": path.join("root"), "state": path.join("state"),
        },
    });
    NodeConfig::parse(&text.to_string()).unwrap()
}

async fn start_containerd(config: &NodeConfig) -> Runtime {
    let runtime = Runtime::new(config.container_runtime.socket()).unwrap();
    let settings = Settings {
        runtime: config.container_runtime.clone(),
        oci_runtime: choose_runtime(None).unwrap(),
        apparmor: false,
        cni_programs: config.data_dir.join("cni/bin"),
        cni_configurations: config.data_dir.join("cni/net.d"),
        cni_socket: config.data_dir.join("cni.sock"),
    };
    let directory = config.data_dir.join("containerd");
    let mut supervisor = Supervisor::new(settings, runtime.clone(), directory);
    supervisor.ensure_running().await.unwrap();
    ensure_sandbox_image(&runtime, &config.container_runtime, &config.data_dir).await.unwrap();
    let archive = config.data_dir.join("subject.tar");
    let mut bytes = Vec::new();
    image_archive::write(&[image(&config.data_dir)], &mut bytes).unwrap();
    fs::write(&archive, bytes).unwrap();
    import(config.container_runtime.socket(), &archive).await.unwrap();
    runtime
}

/// The program, and a shell with tar if this machine has a static one.
fn image(directory: &Path) -> Image {
    let (source, program) = (directory.join("subject.rs"), directory.join("subject"));
    fs::write(&source, PROGRAM).unwrap();
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-o"]);
    assert!(rustc.arg(&program).arg(&source).status().unwrap().success());
    let mut image = Image::of_program(IMAGE, "subject", fs::read(program).unwrap());
    if let Some(shell) = busybox() {
        for path in ["bin/sh", "bin/tar", "bin/cat"] {
            image.files.push(ImageFile { path: path.into(), contents: shell.clone(), mode: 0o755 });
        }
        image.environment.insert("PATH".into(), "/bin".into());
    }
    image
}

/// A statically linked busybox.
pub(super) fn busybox() -> Option<Vec<u8>> {
    let program = fs::read("/bin/busybox").ok()?;
    // What loads it is named near its beginning; further on, also static programs know such names.
    let head = program.get(..4096)?;
    let dynamic = head.windows(9).any(|window| window == b"ld-linux-");
    (!dynamic).then_some(program)
}

/// An API server, and an administrator's kubeconfig.
async fn start_api(ca: &Arc<CertificateAuthority>, directory: &Path) -> (ApiServer, PathBuf) {
    let now = Timestamp::now();
    let issue = |profile| ca.issue(&profile, now).unwrap();
    let admin = issue(CertificateProfile::client("admin", [MASTERS]));
    let mut config =
        Config::new(Profile::Cluster, Arc::new(EmbeddedStore::in_memory(Options::default()).unwrap()));
    let kubelet_client = issue(CertificateProfile::client("kube-apiserver", [MASTERS]));
    let kubelet_client = tls::client_config(&ca.certificate_pem(), Some(&kubelet_client)).unwrap();
    config.kubelet_client = Some(Arc::new(kubelet_client));
    let server = ApiServer::new(config).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let identity = ServerIdentity::new(&issue(CertificateProfile::server("api").ip([address.ip()]))).unwrap();
    let tls = tls::server_config(identity, Some(&ca.certificate_pem())).unwrap();
    let serving = server.clone();
    tokio::spawn(async move { serving.serve(listener, tls).await });
    let url = format!("https://{address}");
    let kubeconfig =
        Kubeconfig::new("test", "admin", &url, ca.certificate_pem(), Credential::Certificate(admin));
    let path = directory.join("kubeconfig");
    fs::write(&path, kubeconfig.to_yaml().unwrap().expose()).unwrap();
    (server, path)
}

async fn register(client: &kube::Client, port: u16) {
    let api: Api<NodeObject> = Api::all(client.clone());
    let node: NodeObject = serde_json::from_value(json!({"metadata": {"name": NODE}})).unwrap();
    let mut node = api.create(&PostParams::default(), &node).await.unwrap();
    let status = json!({
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    });
    node.status = Some(serde_json::from_value(status).unwrap());
    api.replace_status(NODE, &PostParams::default(), &node).await.unwrap();
}

/// Waits until something holds, for a slow machine's sake up to two minutes.
pub(super) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what}: it did not come to pass");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
