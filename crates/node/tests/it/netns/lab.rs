//! A switch, two nodes and a client outside the cluster, all network namespaces; and a real API server, in this process. All of
//! it is gone when the lab is dropped.

use std::{
    fmt::Debug,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use drystone_apiserver::{ApiServer, Config, Profile, ServiceNetwork};
use drystone_cni::{daemon, protocol};
use drystone_identity::{UserInfo, user::MASTERS};
use drystone_node::{
    config::NodeConfig,
    networking::{Networking, NetworkingHandle},
    node_object::{Description, register},
};
use drystone_store::embedded::{EmbeddedStore, Options};
use futures::future::BoxFuture;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope, api::core::v1::Node as NodeObject};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
    client::Body,
};
use nix::sched::{CloneFlags, setns};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// How long anything may take before a test calls it failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Why the lab cannot be built here, if it cannot.
pub(crate) fn unavailable() -> Option<String> {
    if !std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        return Some("needs root".into());
    }
    for tool in ["ip", "nft", "nsenter", "sysctl"] {
        if Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            return Some(format!("`{tool}` is not installed"));
        }
    }
    None
}

pub(crate) fn sh(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Asks again until something is there.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A network namespace.
#[derive(Debug, Clone)]
pub(crate) struct Namespace {
    pub(crate) name: String,
}

impl Namespace {
    fn new(name: String) -> Self {
        sh("ip", &["netns", "add", &name]);
        sh("ip", &["-n", &name, "link", "set", "lo", "up"]);
        Self { name }
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    pub(crate) fn ip(&self, arguments: &[&str]) -> String {
        sh("ip", &[&["-n", &self.name], arguments].concat())
    }

    /// Runs something on a thread inside.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let path = self.path();
        thread::spawn(move || {
            let namespace = std::fs::File::open(path).unwrap();
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }

    /// Serves TCP: each connection is told `NAME CLIENT-ADDRESS`. Ends with the process.
    pub(crate) fn serve(&self, name: &str, port: u16) {
        let name = name.to_owned();
        let listen = move || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
        let listener = self.run(listen).join().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let peer = stream.peer_addr().unwrap().ip();
                let _ = write!(stream, "{name} {peer}");
            }
        });
    }

    /// What a server says: its name, and the address that it saw.
    pub(crate) async fn ask(&self, to: impl Into<SocketAddr>) -> std::io::Result<(String, IpAddr)> {
        let to = to.into();
        let answer = self.run(move || -> std::io::Result<String> {
            let limit = Duration::from_secs(2);
            let mut stream = TcpStream::connect_timeout(&to, limit)?;
            stream.set_read_timeout(Some(limit))?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        });
        let answer = tokio::task::spawn_blocking(|| answer.join().unwrap()).await.unwrap()?;
        let (name, peer) = answer.split_once(' ').unwrap();
        Ok((name.to_owned(), peer.parse().unwrap()))
    }

    /// Asks until each of these has answered in a row of twenty answers, and nobody else has.
    pub(crate) async fn meets(&self, to: (Ipv4Addr, u16), expected: &[&str]) {
        eventually(&format!("{expected:?} at {to:?} from {}", self.name), async || {
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..20 {
                seen.insert(self.ask(to).await.ok()?.0);
            }
            seen.iter().map(String::as_str).eq(expected.iter().copied()).then_some(())
        })
        .await;
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).stderr(Stdio::null()).status();
    }
}

/// A node: a namespace, and the networking of an agent that can be stopped and started.
pub(crate) struct Node {
    pub(crate) namespace: Namespace,
    pub(crate) config: NodeConfig,
    directory: TempDir,
    agent: Option<Agent>,
}

struct Agent {
    handle: NetworkingHandle,
    shutdown: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    fn new(lab: &str, switch: &Namespace, number: u8) -> Self {
        let namespace = Namespace::new(format!("{lab}-n{number}"));
        let address = Ipv4Addr::new(10, 20, 0, 4 + number);
        cable(switch, &namespace, address);
        let directory = TempDir::new().unwrap();
        let config = json!({
            "nodeName": format!("n{number}"), "nodeAddress": address, "interface": "eth0",
            "apiServer": "https://10.20.0.4:6443", "caFile": "/none",
            "podCIDR": "10.42.0.0/16", "serviceCIDR": "10.43.0.0/16", "clusterDNS": ["10.43.0.10"],
            "dataDir": directory.path(), "cniSocket": directory.path().join("cni.sock"),
            // Nobody is there.
            "addressDaemon": {"url": "https://127.0.0.1:1", "caFile": "/none", "tokenFile": "/none", "namespace": "n", "pool": "p"},
        });
        let config = serde_json::from_value(config).unwrap();
        let node = Self { namespace, config, directory, agent: None };
        node.remember(&format!("10.42.{number}.0/24"));
        node
    }

    /// What an earlier agent leased.
    pub(crate) fn remember(&self, block: &str) {
        let text = json!({"blocks": [block]}).to_string();
        std::fs::write(self.directory.path().join("pod-blocks.json"), text).unwrap();
    }

    /// Starts the networking on a thread of its own, inside the namespace.
    pub(crate) fn start(&mut self, client: &Client) {
        let (config, client, shutdown) =
            (Arc::new(self.config.clone()), client.clone(), CancellationToken::new());
        let (started, handle) = mpsc::channel();
        let stop = shutdown.clone();
        let thread = self.namespace.run(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let handle = Networking::start(config, client, stop.clone()).await.unwrap();
                started.send(handle.clone()).unwrap();
                handle.finished().await;
            });
        });
        self.agent = Some(Agent { handle: handle.recv().unwrap(), shutdown, thread: Some(thread) });
    }

    pub(crate) fn stop(&mut self) {
        self.agent = None;
    }

    pub(crate) fn networking(&self) -> &NetworkingHandle {
        &self.agent.as_ref().unwrap().handle
    }

    /// Waits until pods get a working network.
    pub(crate) async fn ready(&self) {
        let mut state = self.networking().state();
        let ready = tokio::time::timeout(PATIENCE, state.wait_for(Result::is_ok)).await.map(drop);
        assert!(ready.is_ok(), "{}: {:?}", self.namespace.name, self.networking().health());
    }

    /// Registers the Node, as the agent does, and tells its address.
    pub(crate) async fn register(&self, client: &Client) {
        let blocks = self.networking().blocks().borrow().clone();
        register(client, &Description::new(&self.config, blocks)).await.unwrap();
        tell_address(client, &self.config.node_name, &self.config.node_address.to_string()).await;
    }

    /// Calls the CNI socket as the plugin does.
    pub(crate) async fn call(
        &self,
        command: protocol::Command,
        container: &str,
        namespace: &Path,
    ) -> Result<Value, Value> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let configuration = json!({"cniVersion": "1.0.0", "name": "pods", "type": "drystone-cni"});
        let request = daemon::Request {
            environment: protocol::Environment {
                command,
                container_id: container.to_owned(),
                network_namespace: Some(namespace.to_owned()),
                interface: "eth0".to_owned(),
                arguments: std::collections::BTreeMap::new(),
            },
            configuration: configuration.as_object().unwrap().clone(),
        };
        let mut stream = tokio::net::UnixStream::connect(&self.config.cni_socket).await.unwrap();
        let mut line = serde_json::to_vec(&request).unwrap();
        line.push(b'\n');
        stream.write_all(&line).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        match serde_json::from_str(&answer).unwrap() {
            daemon::Answer::Result(result) => Ok(result),
            daemon::Answer::Error(error) => Err(serde_json::to_value(error).unwrap()),
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.shutdown.cancel();
        let _ = self.thread.take().unwrap().join();
    }
}

pub(crate) async fn tell_address(client: &Client, node: &str, address: &str) {
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": address}]}});
    let nodes: Api<NodeObject> = Api::all(client.clone());
    nodes.patch_status(node, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

/// A pod: a namespace that a node attached.
pub(crate) struct Pod {
    pub(crate) namespace: Namespace,
    pub(crate) address: Ipv4Addr,
}

/// All of it.
pub(crate) struct Lab {
    pub(crate) nodes: [Node; 2],
    pub(crate) outside: Namespace,
    pub(crate) api: Client,
    /// Whether agents reach the API.
    pub(crate) api_is_there: Arc<AtomicBool>,
    name: String,
    pods: AtomicU32,
    server: ApiServer,
    _switch: Namespace,
}

impl Lab {
    pub(crate) async fn new() -> Self {
        static LABS: AtomicU32 = AtomicU32::new(0);
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let name = format!("dnt{}-{}", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let switch = Namespace::new(format!("{name}-sw"));
        switch.ip(&["link", "add", "br0", "up", "type", "bridge"]);
        let outside = Namespace::new(format!("{name}-c"));
        cable(&switch, &outside, Ipv4Addr::new(10, 20, 0, 100));
        let nodes = [Node::new(&name, &switch, 1), Node::new(&name, &switch, 2)];
        let store = Arc::new(EmbeddedStore::in_memory(Options::default()).unwrap());
        let mut config = Config::new(Profile::Cluster, store);
        config.services = Some(ServiceNetwork {
            cidrs: vec!["10.43.0.0/16".parse().unwrap()],
            node_ports: ServiceNetwork::NODE_PORTS,
            advertise: Some(SocketAddr::from(([10, 20, 0, 4], 6443))),
        });
        let server = ApiServer::new(config).await.unwrap();
        let api = Client::new(server.service_as(UserInfo::new("test-admin", [MASTERS])), "default");
        let api_is_there = Arc::new(AtomicBool::new(true));
        Self { nodes, outside, api, api_is_there, name, pods: AtomicU32::new(0), server, _switch: switch }
    }

    /// A client for an agent: it fails while [`api_is_there`](Self::api_is_there) is not set.
    pub(crate) fn agents_client(&self) -> Client {
        let (server, is_there) =
            (self.server.service_as(UserInfo::new("test-agent", [MASTERS])), self.api_is_there.clone());
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let (server, is_there) = (server.clone(), is_there.clone());
            let answer: BoxFuture<'static, Result<_, tower::BoxError>> = Box::pin(async move {
                if !is_there.load(Ordering::SeqCst) {
                    return Err("the API is away".into());
                }
                server.oneshot(request).await.map_err(Into::into)
            });
            answer
        });
        Client::new(service, "default")
    }

    /// Starts and registers both nodes, and waits until they are ready.
    pub(crate) async fn start(&mut self) {
        let client = self.agents_client();
        for node in &mut self.nodes {
            node.start(&client);
        }
        for node in &self.nodes {
            node.register(&self.api).await;
        }
        for node in &self.nodes {
            node.ready().await;
        }
    }

    /// A namespace for a pod, not yet attached.
    pub(crate) fn pod_namespace(&self) -> Namespace {
        Namespace::new(format!("{}-p{}", self.name, self.pods.fetch_add(1, Ordering::Relaxed)))
    }

    /// An attached pod that serves on port 8080 under its name.
    pub(crate) async fn pod(&self, node: usize, name: &str) -> Pod {
        let namespace = self.pod_namespace();
        let result =
            self.nodes[node].call(protocol::Command::Add, &namespace.name, &namespace.path()).await.unwrap();
        let address: ipnet::Ipv4Net = result["ips"][0]["address"].as_str().unwrap().parse().unwrap();
        namespace.serve(name, 8080);
        Pod { namespace, address: address.addr() }
    }

    /// Creates a namespaced object in `default`, or where it says.
    pub(crate) async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Serialize
            + DeserializeOwned
            + Debug,
    {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
        let api: Api<K> = Api::namespaced(self.api.clone(), &namespace);
        api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap()
    }

    /// Creates an object of the whole cluster.
    pub(crate) async fn create_for_all<K>(&self, object: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = ClusterResourceScope>
            + Clone
            + Serialize
            + DeserializeOwned
            + Debug,
    {
        let api: Api<K> = Api::all(self.api.clone());
        api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap()
    }
}

/// Plugs a namespace into the switch.
fn cable(switch: &Namespace, namespace: &Namespace, address: Ipv4Addr) {
    let [_, _, _, last] = address.octets();
    let port = format!("p{last}");
    switch.ip(&["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &namespace.name]);
    switch.ip(&["link", "set", &port, "up", "master", "br0"]);
    namespace.ip(&["address", "add", &format!("{address}/24"), "dev", "eth0"]);
    namespace.ip(&["link", "set", "eth0", "up"]);
}
