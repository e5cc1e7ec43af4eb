//! How steps get at what they need: the request in full, credentials, and the nodes over SSH.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use drystone_api::{
    SYSTEM_NAMESPACE, Site,
    nfv::{PARAMETERS_KEY, VnfInstance, VnfLcmOperation},
};
use drystone_engine::action::{StepContext, StepError};
use drystone_identity::Secret as Hidden;
use drystone_sol003::types::InstantiationState;
use drystone_ssh::{
    Credentials, HostKeys, HttpConnectProxy, PinnedKey, PrivateKey, Privilege, ProgramError, Redaction,
    Session, SshError, Target, Timeouts,
};
use drystone_storage::StorageError;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use serde_json::{Map, Value};

use super::{
    nodes::{NodeRef, Role},
    parameters::{NodeGroup, PARAMETER, Parameters},
    steps::Prepared,
    task::{Source, Task},
};
use crate::model::{Inventory, Port, Server};

/// Port of SSH servers.
const SSH_PORT: u16 = 22;

/// Everything that steps know of the cluster. `Debug` shows no secrets.
pub struct Cluster {
    /// What the client wants of it.
    pub parameters: Parameters,
    /// The VNF.
    pub instance: VnfInstance,
    /// Its resources at the VIM.
    pub inventory: Inventory,
    /// `k8s_cluster_installation_param` in full, and what this request gives instead of it.
    full: Value,
    overrides: Map<String, Value>,
}

/// A node that was reached.
#[derive(Debug)]
pub struct Reached {
    /// The connection.
    pub session: Session,
    /// How commands run as root.
    pub privilege: Privilege,
    /// Where it is logged in to.
    pub address: IpAddr,
    /// By which other nodes know it.
    pub node_address: IpAddr,
    /// Takes what is secret out of what it says.
    pub redaction: Redaction,
}

/// An error of a program as one of the step.
pub fn program_failure(error: &ProgramError) -> StepError {
    if error.is_permanent() { StepError::permanent(error) } else { StepError::transient(error) }
}

/// An error of the storage library as one of the step.
pub fn storage_failure(error: &StorageError) -> StepError {
    if error.is_permanent() { StepError::permanent(error) } else { StepError::transient(error) }
}

/// An error of SSH as one of the step.
pub fn ssh_failure(error: &SshError) -> StepError {
    if error.is_permanent() { StepError::permanent(error) } else { StepError::transient(error) }
}

impl Cluster {
    /// Reads it. Secrets stay in memory.
    ///
    /// # Errors
    /// When objects cannot be read, or do not hold what they must.
    pub async fn load(context: &StepContext, source: &Source) -> Result<Self, StepError> {
        let client = context.client();
        let instances: Api<VnfInstance> = Api::namespaced(client.clone(), &source.namespace);
        let instance = instances.get(&source.instance).await;
        let instance = instance.map_err(|error| StepError::from_kube("reading the VnfInstance", &error))?;
        let request = request(client, source).await?;
        let stored = match &source.secrets.instance {
            Some(name) => secret_json(client, &source.namespace, name).await?,
            None => {
                let kept = instance.status.as_ref().map(|status| &status.additional_parameters);
                serde_json::to_value(kept).unwrap_or_default()
            }
        };
        let additional = request.get("additionalParams").cloned().unwrap_or_default();
        let full = additional.get(PARAMETER).or_else(|| stored.get(PARAMETER)).cloned();
        let full = full.ok_or_else(|| {
            StepError::permanent(format!("neither the request nor the instantiation has {PARAMETER}"))
        })?;
        let parameters = Parameters::parse(&full, None).map_err(StepError::permanent)?;
        let inventory = context.input::<Inventory>(&source.inventory)?;
        let overrides = additional.as_object().cloned().unwrap_or_default();
        Ok(Self { parameters, instance, inventory, full, overrides })
    }

    /// Whether the VNF is instantiated: otherwise it is being made, and taking back means that all of it goes.
    pub fn stands(&self) -> bool {
        let state = self.instance.status.as_ref().map(|status| status.instantiation_state);
        state == Some(InstantiationState::Instantiated)
    }

    /// The connection points and user of a node's kind.
    ///
    /// # Errors
    /// When there is no storage server.
    pub fn group(&self, node: &NodeRef) -> Result<&NodeGroup, StepError> {
        match node.role {
            Role::ControlPlane => Ok(&self.parameters.masters),
            Role::Worker => Ok(&self.parameters.workers),
            Role::Storage => {
                let storage = self.parameters.storage.as_ref().map(|storage| &storage.node);
                storage.ok_or_else(|| StepError::permanent("the request has no storage_server"))
            }
        }
    }

    /// The server that a node is.
    ///
    /// # Errors
    /// When the VIM has none there.
    pub fn server(&self, node: &NodeRef) -> Result<&Server, StepError> {
        self.inventory.server(&node.vdu, node.index).ok_or_else(|| {
            StepError::transient(format!("the VIM has no server {} of VDU {}", node.index, node.vdu))
        })
    }

    /// An address of one of a node's ports.
    fn port(&self, node: &NodeRef, name: &str) -> Result<&Port, StepError> {
        let server = self.server(node)?;
        server.port(name).ok_or_else(|| {
            let has: Vec<&str> = server.ports.iter().map(|port| port.name.as_str()).collect();
            StepError::permanent(format!("{} has no port {name}; it has {}", node.name, has.join(", ")))
        })
    }

    /// Where a node is logged in to.
    ///
    /// # Errors
    /// When the VIM does not say.
    pub fn login_address(&self, node: &NodeRef) -> Result<IpAddr, StepError> {
        let group = self.group(node)?;
        address(&group.ssh_cp, self.port(node, &group.ssh_cp)?.reachable())
    }

    /// By which address other nodes know a node.
    ///
    /// # Errors
    /// When the VIM does not say.
    pub fn node_address(&self, node: &NodeRef) -> Result<IpAddr, StepError> {
        let group = self.group(node)?;
        address(&group.nic_cp, self.port(node, &group.nic_cp)?.fixed())
    }

    /// The address of a connection point: of a port of its own, or of one of these nodes.
    ///
    /// # Errors
    /// When there is no such port.
    pub fn connection_point(&self, name: &str, nodes: &[NodeRef]) -> Result<IpAddr, StepError> {
        let alone = self.inventory.port(name).and_then(Port::fixed);
        let of_node = || nodes.iter().find_map(|node| self.server(node).ok()?.port(name)?.fixed());
        address(name, alone.or_else(of_node))
    }

    /// The floating address that leads to a connection point, if there is one.
    pub fn floating(&self, name: &str, nodes: &[NodeRef]) -> Option<IpAddr> {
        let alone = self.inventory.port(name).and_then(|port| port.floating.as_deref());
        let of_node =
            || nodes.iter().find_map(|node| self.server(node).ok()?.port(name)?.floating.as_deref());
        alone.or_else(of_node)?.parse().ok()
    }

    /// The address of the cluster's API: of its connection point, or of the first control plane.
    ///
    /// # Errors
    /// When the VIM does not say.
    pub fn cluster_address(&self, nodes: &[NodeRef]) -> Result<IpAddr, StepError> {
        let masters: Vec<NodeRef> = super::nodes::of_role(nodes, Role::ControlPlane).cloned().collect();
        self.connection_point(&self.parameters.cluster_cp, &masters)
    }

    /// A secret member of a node's kind in the request.
    fn member(&self, role: Role, name: &str) -> Option<Hidden> {
        let (group, short) = match role {
            Role::ControlPlane => ("master_node", "master_node"),
            Role::Worker => ("worker_node", "worker_node"),
            Role::Storage => ("storage_server", "storage_server"),
        };
        let given = self.overrides.get(&format!("{short}_{name}"));
        let value = given.or_else(|| self.full.get(group)?.get(name))?.as_str()?;
        (!value.is_empty()).then(|| Hidden::new(value))
    }

    /// Proxies, by the name of the environment variable.
    pub fn proxies(&self, nodes: &[NodeRef]) -> Vec<(&'static str, Hidden)> {
        let Some(proxy) = self.full.get("proxy").and_then(Value::as_object) else { return Vec::new() };
        let text = |name: &str| proxy.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let mut found: Vec<(&'static str, Hidden)> = Vec::new();
        for name in ["http_proxy", "https_proxy"] {
            if let Some(value) = text(name) {
                found.push((name, Hidden::new(value)));
            }
        }
        found.push(("no_proxy", Hidden::new(self.not_proxied(text("no_proxy"), nodes).join(","))));
        found
    }

    /// What is reached without proxies: what the client says, the cluster's networks and nodes, and every address of the nodes' network if
    /// it is not large, for not all programs understand networks.
    fn not_proxied(&self, given: Option<&str>, nodes: &[NodeRef]) -> Vec<String> {
        let mut all: Vec<String> =
            given.into_iter().flat_map(|text| text.split(',')).map(str::to_owned).collect();
        all.extend(["127.0.0.1".to_owned(), "localhost".to_owned()]);
        all.extend([self.parameters.pod_cidr.to_string(), self.parameters.service_cidr.to_string()]);
        all.extend(self.cluster_address(nodes).ok().map(|address| address.to_string()));
        all.extend(nodes.iter().filter_map(|node| Some(self.node_address(node).ok()?.to_string())));
        if let Some(network) = self.parameters.node_cidr {
            all.push(network.to_string());
            if network.addr().is_ipv4() && network.prefix_len() >= 24 {
                all.extend(network.hosts().map(|address| address.to_string()));
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        all.retain(|entry| !entry.trim().is_empty() && seen.insert(entry.clone()));
        all
    }

    /// Credentials of a node, and how its user becomes root.
    fn credentials(&self, role: Role) -> Result<(Credentials, Privilege), StepError> {
        let (password, sudo) = (self.member(role, "password"), self.member(role, "sudo_password"));
        let passphrase = self.member(role, "private_key_passphrase");
        let credentials = match (self.member(role, "private_key"), &password) {
            (Some(key), _) => {
                let key = PrivateKey::from_text(&key, passphrase.as_ref());
                let read = key.map_err(|error| {
                    StepError::permanent(format!("private_key of the {}: {error}", role.name()))
                })?;
                Credentials::Key(read)
            }
            (None, Some(password)) => Credentials::Password(password.clone()),
            (None, None) => {
                let why =
                    format!("the request has neither a password nor a private_key for {} nodes", role.name());
                return Err(StepError::permanent(why));
            }
        };
        Ok((credentials, Privilege::Root(sudo.or(password))))
    }

    /// Connects to a node. What may pass (it boots still) is tried again for as long as `patience` lasts. Its host key is the one that it
    /// showed when it was prepared; `learns` says whether this is that moment.
    ///
    /// # Errors
    /// Permanent, if it is another host or does not let us in.
    pub async fn connect(
        &self,
        context: &StepContext,
        task: &Task,
        node: &NodeRef,
        patience: Duration,
        learns: bool,
    ) -> Result<Reached, StepError> {
        let (credentials, privilege) = self.credentials(node.role)?;
        let group = self.group(node)?;
        let username = self.overridden_user(node.role).unwrap_or_else(|| group.username.clone());
        let address = self.login_address(node)?;
        let target = Target {
            address: SocketAddr::new(address, SSH_PORT),
            proxy: proxy_of(context.client(), task.source.gateway.as_deref()).await?,
            user: username,
            credentials,
            host_keys: self.host_keys(context, node, learns)?,
        };
        let end = tokio::time::Instant::now() + patience;
        let mut pause = Duration::from_millis(250);
        let session = loop {
            let error =
                match Box::pin(context.wait_for(Session::connect(&target, Timeouts::default()))).await? {
                    Ok(session) => break session,
                    Err(error) => error,
                };
            // A password that is not accepted may be one that cloud-init has yet to set.
            let passes =
                !error.is_permanent() || (learns && matches!(error, SshError::Authentication { .. }));
            if !passes || tokio::time::Instant::now() + pause >= end {
                return Err(ssh_failure(&error));
            }
            context.progress(5, error.to_string());
            context.wait_for(tokio::time::sleep(pause)).await?;
            pause = (pause * 2).min(Duration::from_secs(5));
        };
        let redaction = Redaction::new(self.secrets(node.role, &task.nodes));
        Ok(Reached { session, privilege, address, node_address: self.node_address(node)?, redaction })
    }

    /// What nodes of a role must not be seen to say.
    pub fn secrets(&self, role: Role, nodes: &[NodeRef]) -> Vec<Hidden> {
        let own = ["password", "sudo_password", "private_key_passphrase"].map(|name| self.member(role, name));
        let proxies =
            self.proxies(nodes).into_iter().filter(|(name, _)| *name != "no_proxy").map(|(_, value)| value);
        own.into_iter().flatten().chain(proxies).collect()
    }

    fn overridden_user(&self, role: Role) -> Option<String> {
        let name = match role {
            Role::ControlPlane => "master_node_username",
            Role::Worker => "worker_node_username",
            Role::Storage => "storage_server_username",
        };
        self.overrides.get(name).and_then(Value::as_str).filter(|name| !name.is_empty()).map(str::to_owned)
    }

    fn host_keys(&self, context: &StepContext, node: &NodeRef, learns: bool) -> Result<HostKeys, StepError> {
        let suffix = format!("/prepare/{}", node.name);
        let prepared = context
            .inputs()
            .find(|(id, _)| id.ends_with(&suffix))
            .and_then(|(_, output)| output.get("hostKey")?.as_str().map(str::to_owned));
        let server = &self.server(node)?.id;
        let nodes = self.instance.status.as_ref().map(|status| status.nodes.as_slice()).unwrap_or_default();
        let known = nodes.iter().find(|known| known.vnfc == *server).map(|known| known.host_keys.clone());
        let keys = prepared.map(|key| vec![key]).or(known).unwrap_or_default();
        if keys.is_empty() {
            if learns {
                return Ok(HostKeys::LearnFirst);
            }
            let why = format!(
                "the host key of {} is not known: status.nodes of the VnfInstance does not have {server}",
                node.name
            );
            return Err(StepError::permanent(why));
        }
        let pinned = keys.iter().map(|key| PinnedKey::parse(key)).collect::<Result<Vec<_>, _>>();
        pinned.map(HostKeys::Pinned).map_err(StepError::permanent)
    }

    /// Connects to the first control plane of the task that answers.
    ///
    /// # Errors
    /// That of the last one.
    pub async fn connect_to_control_plane(
        &self,
        context: &StepContext,
        task: &Task,
    ) -> Result<Reached, StepError> {
        let mut last = StepError::permanent("there is no control plane to ask");
        for node in &task.via {
            match self.connect(context, task, node, Duration::from_secs(20), false).await {
                Ok(reached) => return Ok(reached),
                Err(StepError::Cancelled) => return Err(StepError::Cancelled),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("parameters", &self.parameters).finish_non_exhaustive()
    }
}

/// What is known of a node since it was prepared in this operation.
pub fn prepared(context: &StepContext, node: &NodeRef) -> Option<Prepared> {
    let suffix = format!("/prepare/{}", node.name);
    let (_, output) = context.inputs().find(|(id, _)| id.ends_with(&suffix))?;
    serde_json::from_value(output.clone()).ok()
}

fn address(port: &str, text: Option<&str>) -> Result<IpAddr, StepError> {
    let text = text
        .ok_or_else(|| StepError::transient(format!("connection point {port} has no address at the VIM")))?;
    text.parse().map_err(|_| StepError::permanent(format!("connection point {port}: `{text}` is no address")))
}

/// The request in full.
async fn request(client: &Client, source: &Source) -> Result<Value, StepError> {
    if let Some(name) = &source.secrets.operation {
        return secret_json(client, &source.namespace, name).await;
    }
    let occurrences: Api<VnfLcmOperation> = Api::namespaced(client.clone(), &source.namespace);
    let occurrence = occurrences.get(&source.occurrence).await;
    let occurrence =
        occurrence.map_err(|error| StepError::from_kube("reading the VnfLcmOperation", &error))?;
    serde_json::to_value(&occurrence.spec.parameters).map_err(StepError::permanent)
}

async fn secret_json(client: &Client, namespace: &str, name: &str) -> Result<Value, StepError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = secrets.get(name).await;
    let secret = secret.map_err(|error| StepError::from_kube(&format!("reading Secret {name}"), &error))?;
    let bytes = secret.data.and_then(|mut data| data.remove(PARAMETERS_KEY)).unwrap_or_default().0;
    // The parser's own words might quote what is secret.
    serde_json::from_slice(&bytes)
        .map_err(|_| StepError::permanent(format!("Secret {namespace}/{name}: {PARAMETERS_KEY} is no JSON")))
}

/// The proxy by which the servers of a site are reached.
async fn proxy_of(client: &Client, site: Option<&str>) -> Result<Option<HttpConnectProxy>, StepError> {
    let Some(name) = site else { return Ok(None) };
    let reading = |error: kube::Error| StepError::from_kube("reading the site's gateway", &error);
    let sites: Api<Site> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let gateway = sites.get(name).await.map_err(reading)?.spec.gateway.unwrap_or_default();
    if gateway.proxy_url.is_empty() {
        return Ok(None);
    }
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let data = match gateway.proxy_credentials_name.as_str() {
        "" => Default::default(),
        name => secrets.get(name).await.map_err(reading)?.data.unwrap_or_default(),
    };
    let text =
        |key: &str| data.get(key).and_then(|bytes| std::str::from_utf8(&bytes.0).ok()).unwrap_or_default();
    let credentials =
        (!text("username").is_empty()).then(|| (text("username").to_owned(), Hidden::new(text("password"))));
    HttpConnectProxy::from_url(&gateway.proxy_url, credentials).map(Some).map_err(StepError::permanent)
}
