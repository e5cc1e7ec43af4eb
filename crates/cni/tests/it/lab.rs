//! A switch, two nodes, a client outside the cluster, and pods: all network namespaces, gone when the lab is dropped.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use drystone_cni::{
    daemon::{Handler, Server},
    dataplane::{DataPlane, model::NodeView},
    ipam::AddressManager,
    network::{NetworkSettings, PodNetwork, routes::Routes},
    tools::Tools,
};
use ipnet::Ipv4Net;
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

pub(crate) const POD_CIDR: &str = "10.42.0.0/16";
pub(crate) const SERVICE_CIDR: &str = "10.43.0.0/16";
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 100);
const PLUGIN: &str = env!("CARGO_BIN_EXE_drystone-cni");

/// How long anything may take before a test calls it failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Why the lab cannot be built here, if it cannot.
pub(crate) fn unavailable() -> Option<String> {
    if !nix_is_root() {
        return Some("needs root".into());
    }
    for tool in ["ip", "nft", "nsenter", "sysctl"] {
        if Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            return Some(format!("`{tool}` is not installed"));
        }
    }
    None
}

fn nix_is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

pub(crate) fn sh(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
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
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
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

    /// Echoes UDP datagrams as `NAME`. Ends with the process.
    pub(crate) fn serve_udp(&self, name: &str, port: u16) {
        let name = name.to_owned();
        let socket =
            self.run(move || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap()).join().unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(name.as_bytes(), peer);
            }
        });
    }

    /// What a server says: its name, and the address that it saw.
    pub(crate) fn ask(&self, to: impl Into<SocketAddr>) -> std::io::Result<(String, IpAddr)> {
        let to = to.into();
        let answer = self.run(move || -> std::io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        });
        let answer = answer.join().unwrap()?;
        let (name, peer) = answer.split_once(' ').unwrap();
        Ok((name.to_owned(), peer.parse().unwrap()))
    }

    /// A UDP socket inside.
    pub(crate) fn udp(&self) -> UdpSocket {
        let socket = self.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap()).join().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).stderr(Stdio::null()).status();
    }
}

/// A node of the cluster: the agent's half of the CNI plugin, and the service data plane.
pub(crate) struct Node {
    pub(crate) namespace: Namespace,
    pub(crate) address: Ipv4Addr,
    pub(crate) block: Ipv4Net,
    pub(crate) network: Arc<PodNetwork>,
    pub(crate) dataplane: DataPlane,
    pub(crate) directory: TempDir,
    shutdown: CancellationToken,
}

impl Node {
    async fn new(lab: &str, switch: &Namespace, number: u8) -> Self {
        let namespace = Namespace::new(format!("{lab}-n{number}"));
        let address = Ipv4Addr::new(10, 20, 0, 4 + number);
        cable(switch, &namespace, address);
        let directory = TempDir::new().unwrap();
        let block: Ipv4Net = format!("10.42.{number}.0/24").parse().unwrap();
        let addresses = AddressManager::open(&directory.path().join("addresses")).unwrap();
        let settings = NetworkSettings {
            node_address: address,
            interface: "eth0".into(),
            pod_cidr: POD_CIDR.parse().unwrap(),
            service_cidr: SERVICE_CIDR.parse().unwrap(),
            mtu: 1500,
        };
        let network = Arc::new(PodNetwork::new(settings, Tools::inside(namespace.path()), addresses));
        network.prepare().await.unwrap();
        network.set_blocks(&[block]);
        let shutdown = CancellationToken::new();
        let server = Server::bind(&directory.path().join("cni.sock")).unwrap();
        let handler: Arc<dyn Handler> = Arc::clone(&network) as Arc<dyn Handler>;
        tokio::spawn(server.run(handler, shutdown.clone()));
        let dataplane = DataPlane::new(Tools::inside(namespace.path()));
        Self { namespace, address, block, network, dataplane, directory, shutdown }
    }

    pub(crate) fn view(&self, announced: &[Ipv4Addr]) -> NodeView {
        NodeView {
            address: self.address,
            interface: "eth0".into(),
            nodes: [Ipv4Addr::new(10, 20, 0, 5), Ipv4Addr::new(10, 20, 0, 6)].into(),
            pod_cidr: POD_CIDR.parse().unwrap(),
            service_cidr: SERVICE_CIDR.parse().unwrap(),
            announced: announced.iter().copied().collect(),
        }
    }

    /// The network configuration as the runtime would pass it.
    pub(crate) fn configuration(&self, version: &str) -> Value {
        json!({
            "cniVersion": version, "name": "pods", "type": "drystone-cni",
            "socket": self.directory.path().join("cni.sock"),
        })
    }

    /// Calls the plugin as a runtime does, off the async threads.
    pub(crate) async fn call(
        &self,
        command: &str,
        container: &str,
        namespace: Option<&Path>,
        configuration: Value,
    ) -> Result<Value, Value> {
        let (command, container) = (command.to_owned(), container.to_owned());
        let namespace = namespace.map(Path::to_owned);
        let call =
            move || plugin(Path::new(PLUGIN), &command, &container, namespace.as_deref(), &configuration);
        tokio::task::spawn_blocking(call).await.unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Calls a plugin; the answer is what it printed, by its exit code.
pub(crate) fn plugin(
    program: &Path,
    command: &str,
    container: &str,
    namespace: Option<&Path>,
    configuration: &Value,
) -> Result<Value, Value> {
    let mut process = Command::new(program);
    process
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", container)
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", "/usr/lib/cni")
        .env("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=web");
    if let Some(namespace) = namespace {
        process.env("CNI_NETNS", namespace);
    }
    let mut child = process.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // A plugin that refuses its environment does not read its configuration.
    let _ = child.stdin.take().unwrap().write_all(configuration.to_string().as_bytes());
    let output = child.wait_with_output().unwrap();
    let answer = match output.stdout.as_slice() {
        [] => Value::Null,
        text => serde_json::from_slice(text).unwrap(),
    };
    if output.status.success() { Ok(answer) } else { Err(answer) }
}

/// The plugin under its other name.
pub(crate) fn loopback_plugin(directory: &Path) -> PathBuf {
    let path = directory.join("loopback");
    symlink(PLUGIN, &path).unwrap();
    path
}

/// A pod: a namespace that the plugin attached.
pub(crate) struct Pod {
    pub(crate) namespace: Namespace,
    pub(crate) address: Ipv4Addr,
}

/// All of it.
pub(crate) struct Lab {
    pub(crate) nodes: [Node; 2],
    pub(crate) client: Namespace,
    name: String,
    pods: AtomicU32,
    _switch: Namespace,
}

impl Lab {
    pub(crate) async fn new() -> Self {
        static LABS: AtomicU32 = AtomicU32::new(0);
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let name = format!("dct{}-{number}", std::process::id());
        let switch = Namespace::new(format!("{name}-sw"));
        switch.ip(&["link", "add", "br0", "up", "type", "bridge"]);
        let client = Namespace::new(format!("{name}-c"));
        cable(&switch, &client, CLIENT);
        let nodes = [Node::new(&name, &switch, 1).await, Node::new(&name, &switch, 2).await];
        let lab = Self { nodes, client, name, pods: AtomicU32::new(0), _switch: switch };
        for (own, other) in [(0, 1), (1, 0)] {
            let other = &lab.nodes[other];
            let routes = Routes::from([(other.block, other.address)]);
            lab.nodes[own].network.set_routes(&routes).await.unwrap();
        }
        lab
    }

    /// A namespace for a pod, not yet attached.
    pub(crate) fn pod_namespace(&self) -> Namespace {
        Namespace::new(format!("{}-p{}", self.name, self.pods.fetch_add(1, Ordering::Relaxed)))
    }

    /// An attached pod that serves on port 8080 under its name.
    pub(crate) async fn pod(&self, node: usize, name: &str) -> Pod {
        let namespace = self.pod_namespace();
        let node = &self.nodes[node];
        let result =
            node.call("ADD", &namespace.name, Some(&namespace.path()), node.configuration("1.0.0")).await;
        let result = result.unwrap();
        let address: Ipv4Net = result["ips"][0]["address"].as_str().unwrap().parse().unwrap();
        namespace.serve(name, 8080);
        Pod { namespace, address: address.addr() }
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
