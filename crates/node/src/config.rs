//! `/etc/drystone/node.yaml`: everything that a node agent is told.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use drystone_quantity::Quantity;
use ipnet::Ipv4Net;
use serde::Deserialize;

/// Configuration of a node agent. Paths that are not absolute are relative to the working directory.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeConfig {
    /// Name of the Node object.
    pub node_name: String,
    /// Name of the cluster, for people.
    #[serde(default)]
    pub cluster_name: String,
    /// Address of this node on the network that nodes share.
    pub node_address: Ipv4Addr,
    /// The interface that has it.
    pub interface: String,
    /// URL of the API server, `https://10.20.0.5:6443`.
    pub api_server: String,
    /// Certificate authority of the cluster (PEM): vouches for the API server, and for clients of the kubelet API.
    pub ca_file: PathBuf,
    /// Token to join with; not needed once the node has a certificate.
    #[serde(default)]
    pub bootstrap_token_file: Option<PathBuf>,
    /// Addresses of all pods of the cluster.
    #[serde(rename = "podCIDR")]
    pub pod_cidr: Ipv4Net,
    /// Addresses of all Services of the cluster.
    #[serde(rename = "serviceCIDR")]
    pub service_cidr: Ipv4Net,
    /// Name servers of the cluster. Without any, pods use those of the node. If the first is an address of `serviceCIDR`, every
    /// node answers there for its own pods.
    #[serde(default, rename = "clusterDNS")]
    pub cluster_dns: Vec<IpAddr>,
    /// Domain of the cluster.
    #[serde(default = "default_cluster_domain")]
    pub cluster_domain: String,
    /// Blocks of `podCIDR` that are this node's, where nobody leases any: whoever set the node up has seen to it that no other has them.
    #[serde(default)]
    pub pod_blocks: Vec<Ipv4Net>,
    /// Where this node leases pod addresses. Without it and `podBlocks`, the whole `podCIDR` is this node's: a cluster of one node.
    #[serde(default)]
    pub address_daemon: Option<AddressDaemonConfig>,
    /// The container runtime.
    #[serde(default)]
    pub container_runtime: ContainerRuntimeConfig,
    /// What the node offers, by resource name, where that is not what the machine has: `cpu`, `memory`, `pods`,
    /// `ephemeral-storage`, extended resources such as `drystone.dev/gpu`.
    #[serde(default)]
    pub capacity: BTreeMap<String, String>,
    /// Labels of the Node.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Taints of the Node when it is registered.
    #[serde(default)]
    pub taints: Vec<TaintConfig>,
    /// Archives (OCI image layout, tar) whose images are imported when the agent starts: files of this machine, or URLs on the server of
    /// `addressDaemon`, whose certificate authority vouches for them.
    #[serde(default)]
    pub images: Vec<String>,
    /// Where the agent keeps its state.
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    /// Where pods' logs are.
    #[serde(default = "default_log_dir")]
    pub log_dir: PathBuf,
    /// Where the kubelet API listens; `nodeAddress:10250` by default.
    #[serde(default)]
    pub listen: Option<SocketAddr>,
    /// The socket on which the CNI plugin finds the agent.
    #[serde(default = "default_cni_socket")]
    pub cni_socket: PathBuf,
    /// Whether this agent programs Services (what kube-proxy does elsewhere).
    #[serde(default = "default_true")]
    pub service_data_plane: bool,
    /// The cgroup under which pods are, as the runtime sees it.
    #[serde(default = "default_cgroup_root")]
    pub cgroup_root: String,
}

/// Where pod addresses are leased.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AddressDaemonConfig {
    /// URL of Drystone, `https://10.20.0.1:6443`.
    pub url: String,
    /// Certificate authority that vouches for it (PEM).
    pub ca_file: PathBuf,
    /// Bearer token.
    pub token_file: PathBuf,
    /// Namespace of the address pool.
    pub namespace: String,
    /// Name of the address pool.
    pub pool: String,
}

/// The container runtime, reached by CRI.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ContainerRuntimeConfig {
    /// Its unix socket.
    pub endpoint: String,
    /// Whether the agent configures and runs containerd itself; else somebody else does.
    pub manage: bool,
    /// `crun` or `runc`; by default the first that is installed and works here.
    pub runtime: Option<String>,
    /// Where containerd keeps images and containers; for a managed one.
    pub root: PathBuf,
    /// Where containerd keeps what ends with the machine; for a managed one.
    pub state: PathBuf,
    /// Image of the container that holds a pod's namespaces.
    pub sandbox_image: String,
}

/// The sandbox image that the agent carries itself.
pub const DEFAULT_SANDBOX_IMAGE: &str = "localhost/pause:1";

impl Default for ContainerRuntimeConfig {
    fn default() -> Self {
        Self {
            endpoint: "unix:///run/containerd/containerd.sock".into(),
            manage: true,
            runtime: None,
            root: "/var/lib/containerd".into(),
            state: "/run/containerd".into(),
            sandbox_image: DEFAULT_SANDBOX_IMAGE.into(),
        }
    }
}

impl ContainerRuntimeConfig {
    /// Path of the socket.
    pub fn socket(&self) -> &Path {
        Path::new(self.endpoint.strip_prefix("unix://").unwrap_or(&self.endpoint))
    }
}

/// A taint.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaintConfig {
    /// Key.
    pub key: String,
    /// Value.
    #[serde(default)]
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the node configuration {} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not such YAML.
    #[error("the node configuration cannot be decoded: {0}")]
    Decode(String),
    /// A field has a value that makes no sense.
    #[error("field `{field}` of the node configuration: {problem}")]
    Field {
        /// Path of the field.
        field: String,
        /// What is wrong.
        problem: String,
    },
}

impl NodeConfig {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`] if it cannot be read or used.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text)
    }

    /// Reads and checks YAML.
    ///
    /// # Errors
    /// [`ConfigError`] if it cannot be used.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self =
            serde_saphyr::from_str(text).map_err(|error| ConfigError::Decode(error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let field = |field: &str, problem: String| ConfigError::Field { field: field.into(), problem };
        if !is_subdomain(&self.node_name) {
            let problem = format!("{:?} must be lower-case letters, digits, '-' and '.'", self.node_name);
            return Err(field("nodeName", problem));
        }
        if !self.api_server.starts_with("https://") {
            return Err(field("apiServer", format!("{:?} must begin with https://", self.api_server)));
        }
        if let Some(daemon) = &self.address_daemon
            && !daemon.url.starts_with("https://")
        {
            return Err(field("addressDaemon.url", format!("{:?} must begin with https://", daemon.url)));
        }
        if let Some(block) = self.pod_blocks.iter().find(|block| !self.pod_cidr.contains(*block)) {
            return Err(field("podBlocks", format!("{block} is not in podCIDR {}", self.pod_cidr)));
        }
        if self.address_daemon.is_some() && !self.pod_blocks.is_empty() {
            return Err(field(
                "podBlocks",
                "blocks are leased from addressDaemon; leave one of the two out".into(),
            ));
        }
        for (index, archive) in self.images.iter().enumerate() {
            if archive.contains("://") && !(archive.starts_with("https://") && self.address_daemon.is_some())
            {
                let problem = format!(
                    "{archive:?} must begin with https://, and `addressDaemon.caFile` vouch for its server"
                );
                return Err(field(&format!("images[{index}]"), problem));
            }
        }
        if !self.container_runtime.socket().is_absolute() {
            let problem = format!("{:?} must be an absolute path", self.container_runtime.endpoint);
            return Err(field("containerRuntime.endpoint", problem));
        }
        for (resource, amount) in &self.capacity {
            if !amount.parse().is_ok_and(|amount: Quantity| !amount.is_negative()) {
                let problem = format!("{amount:?} is not a quantity such as 4, 500m or 16Gi");
                return Err(field(&format!("capacity[{resource}]"), problem));
            }
        }
        for (index, taint) in self.taints.iter().enumerate() {
            if !matches!(taint.effect.as_str(), "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
                let problem = format!("{:?} must be NoSchedule, PreferNoSchedule or NoExecute", taint.effect);
                return Err(field(&format!("taints[{index}].effect"), problem));
            }
        }
        Ok(())
    }

    /// Where the kubelet API listens.
    pub fn kubelet_address(&self) -> SocketAddr {
        self.listen.unwrap_or_else(|| (self.node_address, KUBELET_PORT).into())
    }
}

/// The port of the kubelet API that API servers expect.
pub const KUBELET_PORT: u16 = 10250;

/// RFC 1123, as Kubernetes wants names of Nodes.
fn is_subdomain(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

fn default_cluster_domain() -> String {
    "cluster.local".into()
}

fn default_data_dir() -> PathBuf {
    "/var/lib/drystone/node".into()
}

fn default_log_dir() -> PathBuf {
    "/var/log/pods".into()
}

fn default_cni_socket() -> PathBuf {
    drystone_cni::daemon::DEFAULT_SOCKET.into()
}

fn default_cgroup_root() -> String {
    "/".into()
}

fn default_true() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
nodeName: mlops-train-0
nodeAddress: 10.20.0.7
interface: eth0
apiServer: https://10.20.0.5:6443
caFile: /etc/drystone/pki/ca.crt
podCIDR: 10.42.0.0/16
serviceCIDR: 10.43.0.0/16
"#;

    #[test]
    fn everything_else_has_a_default() {
        let config = NodeConfig::parse(SMALL).unwrap();
        assert_eq!(config.kubelet_address().to_string(), "10.20.0.7:10250");
        assert!(config.container_runtime.manage && config.service_data_plane);
        assert_eq!(config.container_runtime.socket(), Path::new("/run/containerd/containerd.sock"));
    }

    #[test]
    fn a_full_configuration_is_read_from_json_too() {
        let text = r#"{"nodeName": "n1", "clusterName": "c", "nodeAddress": "10.20.0.7", "interface": "eth0",
            "apiServer": "https://10.20.0.5:6443", "caFile": "/ca", "bootstrapTokenFile": "/token",
            "podCIDR": "10.42.0.0/16", "serviceCIDR": "10.43.0.0/16",
            "addressDaemon": {"url": "https://10.20.0.1:6443", "caFile": "/a", "tokenFile": "/b", "namespace": "n", "pool": "p"},
            "containerRuntime": {"manage": false, "endpoint": "unix:///x.sock"},
            "capacity": {"cpu": "16", "memory": "64Gi", "drystone.dev/gpu": "2"}, "labels": {"a": "b"},
            "taints": [{"key": "k", "value": null, "effect": "NoSchedule"}], "images": ["/i.tar"]}"#;
        let config = NodeConfig::parse(text).unwrap();
        assert_eq!(config.capacity["drystone.dev/gpu"], "2");
        assert!(!config.container_runtime.manage);
    }

    #[test]
    fn mistakes_are_named() {
        for (change, expected) in [
            ("nodeName: A_b", "nodeName"),
            ("apiServer: http://x", "apiServer"),
            ("images: [/a.tar, 'http://x/a.tar']", "images[1]"),
            ("images: ['https://x/a.tar']", "images[0]"),
            ("capacity: {memory: 64Gib}", "capacity[memory]"),
            ("capacity: {cpu: -1}", "capacity[cpu]"),
            ("taints: [{key: a, effect: Never}]", "taints[0].effect"),
            ("containerRuntime: {endpoint: tcp}", "containerRuntime.endpoint"),
            ("nodAddress: 1.2.3.4", "nodAddress"),
            ("podCIDR: 10.42.0.0/99", "podCIDR"),
            ("podBlocks: [10.43.0.0/24]", "podBlocks"),
        ] {
            let key = change.split(':').next().unwrap();
            let mut lines: Vec<&str> = SMALL.lines().filter(|line| !line.starts_with(key)).collect();
            lines.push(change);
            let error = NodeConfig::parse(&lines.join("\n")).unwrap_err().to_string();
            assert!(error.contains(expected), "{change}: {error}");
        }
    }
}
