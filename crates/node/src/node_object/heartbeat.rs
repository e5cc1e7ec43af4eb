//! Telling the API that the node is alive, every ten seconds by a Lease, and how it is, when that changes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::{DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus},
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference},
    },
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Health, conditions, facts};
use crate::{config::NodeConfig, cri::Runtime};

/// How often the Lease is renewed.
const RENEWAL: Duration = Duration::from_secs(10);
/// How long the Lease counts.
const LEASE_SECONDS: i32 = 40;
/// How often health is looked at while all is well.
const CHECK: Duration = Duration::from_secs(5);
/// How often the status is told although nothing has changed.
const REPORT: Duration = Duration::from_secs(300);
/// How long one call may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Where Leases of nodes are.
const NAMESPACE: &str = "kube-node-lease";

/// Tells the API about the node.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    /// The node's configuration.
    pub config: Arc<NodeConfig>,
    /// What it offers.
    pub capacity: BTreeMap<String, String>,
    /// The Node, as it was registered.
    pub node: Node,
    /// The API.
    pub client: crate::join::ApiConnection,
    /// The container runtime.
    pub runtime: Runtime,
    /// Why pods get no network, if they get none.
    pub network: watch::Receiver<Result<(), String>>,
}

impl Heartbeat {
    /// Goes on until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let both = async { tokio::join!(self.keep_lease(), self.keep_status()) };
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = both => {}
        }
    }

    async fn keep_lease(&self) {
        let api: Api<Lease> = Api::namespaced(self.client.client(), NAMESPACE);
        let mut ticks = interval(RENEWAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for attempt in 0..5 {
                match timeout(DEADLINE, self.renew_lease(&api)).await {
                    Ok(Ok(())) => break,
                    Ok(Err(error)) => tracing::warn!(attempt, %error, "renewing the node's Lease"),
                    Err(_) => tracing::warn!(attempt, "renewing the node's Lease took too long"),
                }
                tokio::time::sleep(Duration::from_millis(200 << attempt)).await;
            }
        }
    }

    async fn renew_lease(&self, api: &Api<Lease>) -> Result<(), kube::Error> {
        let name = &self.config.node_name;
        let spec = LeaseSpec {
            holder_identity: Some(name.clone()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..LeaseSpec::default()
        };
        let patch = json!({"spec": spec});
        match api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => return other.map(drop),
        }
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(NAMESPACE.to_owned()),
                owner_references: Some(vec![self.owner()]),
                ..ObjectMeta::default()
            },
            spec: Some(spec),
        };
        api.create(&PostParams::default(), &lease).await.map(drop)
    }

    fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: self.config.node_name.clone(),
            uid: self.node.metadata.uid.clone().unwrap_or_default(),
            ..OwnerReference::default()
        }
    }

    async fn keep_status(&self) {
        let mut told: Vec<NodeCondition> =
            self.node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        let mut network = self.network.clone();
        let mut due = tokio::time::Instant::now();
        let mut look = due + RENEWAL;
        loop {
            if tokio::time::Instant::now() >= look {
                look = tokio::time::Instant::now() + RENEWAL;
                // Who has not heard of the node for a while has said so in its conditions: only the node itself takes that back.
                match timeout(DEADLINE, self.shown()).await {
                    Ok(Ok(conditions)) => told = conditions,
                    Ok(Err(error)) => tracing::debug!(%error, "reading the node's status"),
                    Err(_) => tracing::debug!("reading the node's status took too long"),
                }
            }
            let health = self.health().await;
            let now = Timestamp::now();
            let conditions = conditions(&health, &told, now);
            let changed = differ(&told, &conditions);
            if changed || tokio::time::Instant::now() >= due {
                match timeout(DEADLINE, self.tell(&conditions)).await {
                    Ok(Ok(())) => {
                        told = conditions;
                        due = tokio::time::Instant::now() + REPORT;
                    }
                    Ok(Err(error)) => tracing::warn!(%error, "telling the node's status"),
                    Err(_) => tracing::warn!("telling the node's status took too long"),
                }
            }
            let is_ready = health.runtime.is_ok() && health.network.is_ok();
            // A node that is not ready is watched closely: pods wait for it.
            let pause = if is_ready { CHECK } else { Duration::from_millis(200) };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Ok(()) = network.changed() => {}
            }
        }
    }

    /// The node's conditions as the API has them.
    async fn shown(&self) -> Result<Vec<NodeCondition>, kube::Error> {
        let api: Api<Node> = Api::all(self.client.client());
        let node = api.get(&self.config.node_name).await?;
        Ok(node.status.and_then(|status| status.conditions).unwrap_or_default())
    }

    async fn health(&self) -> Health {
        let network = self.network.borrow().clone();
        let (runtime, network) = match timeout(DEADLINE, self.runtime.status()).await {
            Err(_) => (Err("container runtime does not answer".to_owned()), network),
            Ok(Err(error)) => (Err(format!("container runtime is down: {error}")), network),
            Ok(Ok(found)) => {
                let problem = |kind: &str| {
                    let condition = found.iter().find(|condition| condition.r#type == kind);
                    match condition {
                        Some(condition) if condition.status => Ok(()),
                        Some(condition) => Err(format!("container runtime {kind}: {}", condition.message)),
                        None => Err(format!("container runtime does not tell {kind}")),
                    }
                };
                (problem("RuntimeReady"), network.and_then(|()| problem("NetworkReady")))
            }
        };
        Health {
            runtime,
            network,
            memory: facts::memory(),
            disk: facts::file_system(&self.config.data_dir),
            processes: facts::processes(),
        }
    }

    async fn tell(&self, conditions: &[NodeCondition]) -> Result<(), kube::Error> {
        let client: Client = self.client.client();
        let version = self.runtime.version().await;
        let runtime = version.map_or_else(
            |_| "containerd://unknown".to_owned(),
            |version| format!("{}://{}", version.runtime_name, version.runtime_version),
        );
        let capacity: BTreeMap<String, Quantity> =
            self.capacity.iter().map(|(name, amount)| (name.clone(), Quantity(amount.clone()))).collect();
        let address = |kind: &str, address: String| NodeAddress { type_: kind.to_owned(), address };
        let status = NodeStatus {
            capacity: Some(capacity.clone()),
            allocatable: Some(capacity),
            addresses: Some(vec![
                address("InternalIP", self.config.node_address.to_string()),
                address("Hostname", self.config.node_name.clone()),
            ]),
            conditions: Some(conditions.to_vec()),
            daemon_endpoints: Some(NodeDaemonEndpoints {
                kubelet_endpoint: Some(DaemonEndpoint {
                    port: i32::from(self.config.kubelet_address().port()),
                }),
            }),
            node_info: Some(facts::system_info(runtime)),
            ..NodeStatus::default()
        };
        let api: Api<Node> = Api::all(client);
        let patch = Patch::Strategic(json!({"status": status}));
        api.patch_status(&self.config.node_name, &PatchParams::default(), &patch).await.map(drop)
    }
}

/// Whether something changed beside the time.
fn differ(before: &[NodeCondition], after: &[NodeCondition]) -> bool {
    let essence = |condition: &NodeCondition| {
        (
            condition.type_.clone(),
            condition.status.clone(),
            condition.reason.clone(),
            condition.message.clone(),
        )
    };
    after.iter().any(|condition| !before.iter().any(|other| essence(other) == essence(condition)))
}
