//! What live clusters have left.

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use drystone_appcontext::ClusterName;
use drystone_engine::reference::describe_kube_error;
use drystone_quantity::Quantity;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, Client, api::ListParams};
use serde_json::json;

use super::ClusterAccess;
use crate::{
    model::Amounts,
    plan::placement::needs_of,
    seams::{Room, Rooms},
};

/// How long a cluster may take to say what it has.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pods and nodes that are read in one request.
const PAGE: u32 = 500;

/// Asks clusters for their nodes and pods.
pub struct LiveRooms(pub ClusterAccess);

#[async_trait]
impl Rooms for LiveRooms {
    async fn room(&self, cluster: &ClusterName) -> Result<Room, String> {
        let asked = async {
            let client = self.0.client(cluster).await.map_err(|error| error.to_string())?;
            look(client).await.map_err(|error| describe_kube_error(&error))
        };
        let late = || Err(format!("no answer within {} s", PATIENCE.as_secs()));
        let room = tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| late());
        room.inspect_err(|why| tracing::warn!(%cluster, "what room it has is not known: {why}"))
    }
}

async fn look(client: Client) -> Result<Room, kube::Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let mut total = Amounts::default();
    let mut usable = BTreeSet::new();
    for node in all(&nodes).await? {
        let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
        let ready = node.status.as_ref().and_then(|status| status.conditions.as_ref()).is_some_and(|all| {
            all.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        });
        // Pods do not go to control planes, unless they are made for it.
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
        let kept = taints.is_some_and(|all| all.iter().any(|taint| taint.effect != "PreferNoSchedule"));
        if cordoned || !ready || kept {
            continue;
        }
        usable.extend(node.metadata.name.clone());
        let allocatable = node.status.and_then(|status| status.allocatable).unwrap_or_default();
        let amount =
            |name: &str| allocatable.get(name).and_then(|quantity| quantity.0.parse::<Quantity>().ok());
        total = total.plus(Amounts {
            cpu_milli: amount("cpu").map_or(0, Quantity::milli_value),
            memory: amount("memory").map_or(0, Quantity::value),
            pods: amount("pods").map_or(0, Quantity::value),
            gpus: ["drystone.dev/gpu", "nvidia.com/gpu", "amd.com/gpu"]
                .into_iter()
                .filter_map(amount)
                .map(Quantity::value)
                .sum(),
        });
    }
    let pods: Api<Pod> = Api::all(client);
    let mut free = total;
    for pod in all(&pods).await? {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
        let is_there = node.as_ref().is_none_or(|node| usable.contains(node));
        if is_there && !matches!(phase, "Succeeded" | "Failed") {
            free = free.minus(needs_of([&json!({"kind": "Pod", "spec": pod.spec})]));
        }
    }
    Ok(Room { free, total })
}

async fn all<K>(api: &Api<K>) -> Result<Vec<K>, kube::Error>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let mut parameters = ListParams::default().limit(PAGE);
    let mut found = Vec::new();
    loop {
        let page = api.list(&parameters).await?;
        found.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(found),
        }
    }
}
