//! Growth: clusters whose pods do not fit get more hosts, as far as their pools allow.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use drystone_api::{Cluster, ClusterPhase, ClusterStatus, Distribution, ResourceBlock, SYSTEM_NAMESPACE};
use drystone_engine::{
    events::{EventKind, EventSink},
    reference::reference_to,
};
use drystone_quantity::Quantity;
use k8s_openapi::{
    api::core::v1::{Pod, PodSpec},
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{key, new_nodes::new_nodes};
use crate::{
    access::client_of,
    growth::{Amounts, GrowablePool, Growth, PendingPod, plan_growth},
    model::{Names, pool_size},
    steps::hosts::{POOL_LABEL, capacity},
};

/// How often clusters are looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// How long one look may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// What hinders growth; written to the log, tried again.
#[derive(Debug, thiserror::Error)]
enum GrowthError {
    #[error(transparent)]
    Access(#[from] crate::access::AccessError),
    #[error("{0}")]
    Api(#[from] kube::Error),
}

/// Looks at all ready clusters until `shutdown`.
pub(super) async fn run(
    client: Client,
    events: Arc<dyn EventSink>,
    clusters: impl Fn() -> Vec<Arc<Cluster>>,
    shutdown: CancellationToken,
) {
    let mut clients: BTreeMap<String, Client> = BTreeMap::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        let growable: Vec<Arc<Cluster>> =
            clusters().into_iter().filter(|cluster| may_grow(cluster)).collect();
        clients.retain(|name, _| growable.iter().any(|cluster| key(cluster) == *name));
        for cluster in growable {
            let look = look_at(&client, &mut clients, &cluster, events.as_ref());
            match tokio::time::timeout(DEADLINE, look).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!(cluster = key(&cluster), "looking for pods that do not fit: {error}");
                    clients.remove(&key(&cluster));
                }
                Err(_) => {
                    clients.remove(&key(&cluster));
                }
            }
        }
    }
}

fn may_grow(cluster: &Cluster) -> bool {
    let status = cluster.status.clone().unwrap_or_default();
    let ready = matches!(status.phase, ClusterPhase::Ready | ClusterPhase::Degraded);
    let room = cluster
        .spec
        .workers
        .iter()
        .any(|pool| pool_size(pool, &status.pool_sizes) < pool.max_replicas.unwrap_or(pool.replicas));
    let composed = cluster.spec.hosts.is_empty() && cluster.spec.distribution != Distribution::External;
    composed && ready && room && cluster.metadata.deletion_timestamp.is_none()
}

async fn look_at(
    client: &Client,
    clients: &mut BTreeMap<String, Client>,
    cluster: &Cluster,
    events: &dyn EventSink,
) -> Result<(), GrowthError> {
    let names = Names::of(cluster);
    let inside = match clients.get(&key(cluster)) {
        Some(inside) => inside.clone(),
        None => {
            let inside = client_of(client, &names.namespace, &names.kubeconfig_secret()).await?;
            clients.insert(key(cluster), inside.clone());
            inside
        }
    };
    let pods: Api<Pod> = Api::all(inside.clone());
    let pending = pods.list(&ListParams::default().fields("status.phase=Pending")).await?;
    let pending: Vec<PendingPod> =
        pending.iter().filter(|pod| is_unschedulable(pod)).map(pending_pod).collect();
    if pending.is_empty() {
        return Ok(());
    }
    let pools = pools_of(client, cluster).await?;
    let new_nodes = new_nodes(&inside, Timestamp::now()).await?;
    let growths = plan_growth(&pools, &new_nodes, &pending);
    if growths.is_empty() {
        return Ok(());
    }
    declare(client, cluster, &names, &growths).await?;
    for growth in growths {
        let note = format!(
            "Pool {} grows to {} hosts: {} pods do not fit ({})",
            growth.pool,
            growth.size,
            growth.pods.len(),
            growth.pods.first().map(String::as_str).unwrap_or_default()
        );
        events.publish(&reference_to(cluster), EventKind::Normal, "ScalingUp", &note);
    }
    Ok(())
}

async fn declare(
    client: &Client,
    cluster: &Cluster,
    names: &Names,
    growths: &[Growth],
) -> Result<(), GrowthError> {
    let sizes: BTreeMap<&str, u32> =
        growths.iter().map(|growth| (growth.pool.as_str(), growth.size)).collect();
    let clusters: Api<Cluster> = Api::namespaced(client.clone(), &names.namespace);
    // Under the revision that was looked at: a change meanwhile means looking again.
    let patch = json!({
        "metadata": {"resourceVersion": cluster.resource_version()},
        "status": {"poolSizes": sizes, "phase": ClusterPhase::Resizing},
    });
    clusters.patch_status(&names.cluster, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    Ok(())
}

fn is_unschedulable(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().any(|condition| {
            condition.type_ == "PodScheduled"
                && condition.status == "False"
                && condition.reason.as_deref() == Some("Unschedulable")
                && !lacks_its_claim(condition.message.as_deref().unwrap_or_default())
        })
}

/// Whether a pod waits for a claim, which no node would help: the scheduler then says nothing of nodes.
fn lacks_its_claim(message: &str) -> bool {
    message.to_ascii_lowercase().contains("persistentvolumeclaim")
}

/// What a pod takes of a node.
pub(super) fn requests(spec: &PodSpec) -> Amounts {
    let mut requests = Amounts::from([("pods".to_owned(), 1)]);
    for container in &spec.containers {
        let resources = container.resources.clone().unwrap_or_default();
        let mut wanted = resources.limits.unwrap_or_default();
        wanted.extend(resources.requests.unwrap_or_default());
        for (resource, quantity) in wanted {
            let sum = requests.entry(resource.clone()).or_default();
            *sum = sum.saturating_add(amount(&resource, &quantity.0));
        }
    }
    requests
}

fn pending_pod(pod: &Pod) -> PendingPod {
    let spec = pod.spec.clone().unwrap_or_default();
    let requests = requests(&spec);
    let tolerations = spec.tolerations.unwrap_or_default();
    let tolerated =
        tolerations.into_iter().map(|toleration| toleration.key.unwrap_or_else(|| "*".to_owned()));
    PendingPod {
        name: format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any()),
        requests,
        node_selector: spec.node_selector.unwrap_or_default(),
        tolerated_taints: tolerated.collect(),
    }
}

/// A quantity as a whole number: millicores for `cpu`, else units or bytes, rounded up. Nothing, if it is none.
pub(super) fn amount(resource: &str, text: &str) -> u64 {
    let Ok(quantity) = text.parse::<Quantity>() else { return 0 };
    let amount = if resource == "cpu" { quantity.milli_value() } else { quantity.value() };
    u64::try_from(amount).unwrap_or(0)
}

/// The pools of a cluster with what one more node would offer: what their least present host offers.
async fn pools_of(client: &Client, cluster: &Cluster) -> Result<Vec<GrowablePool>, GrowthError> {
    let status: ClusterStatus = cluster.status.clone().unwrap_or_default();
    let blocks: Api<ResourceBlock> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let mut pools = Vec::new();
    for pool in &cluster.spec.workers {
        let mut node = requirement(pool);
        for member in status.members.iter().filter(|member| member.pool == pool.name) {
            let Some(block) = blocks.get_opt(&member.host).await? else { continue };
            let has = capacity(&block.status.unwrap_or_default());
            let has: Amounts = has.iter().map(|(name, text)| (name.clone(), amount(name, text))).collect();
            // A new host is at least what was asked for; the present ones tell what such hosts have beside it.
            for (resource, value) in has {
                let entry = node.entry(resource).or_insert(value);
                *entry = (*entry).max(1);
            }
        }
        let mut labels = pool.labels.clone();
        labels.insert(POOL_LABEL.to_owned(), pool.name.clone());
        pools.push(GrowablePool {
            name: pool.name.clone(),
            size: pool_size(pool, &status.pool_sizes),
            max: pool.max_replicas.unwrap_or(pool.replicas),
            node,
            labels,
            taints: pool
                .taints
                .iter()
                .filter(|t| t.effect != "PreferNoSchedule")
                .map(|t| t.key.clone())
                .collect(),
        });
    }
    Ok(pools)
}

/// What every host of a pool has at least.
fn requirement(pool: &drystone_api::WorkerPool) -> Amounts {
    let gpus: u32 = pool
        .host
        .accelerators
        .iter()
        .filter(|accelerator| accelerator.kind == drystone_api::AcceleratorType::GPU)
        .map(|accelerator| accelerator.count)
        .sum();
    let mut amounts = Amounts::from([("pods".to_owned(), 110)]);
    if pool.host.cores > 0 {
        amounts.insert("cpu".to_owned(), u64::from(pool.host.cores) * 1000);
    }
    if let Some(memory) = pool.host.memory {
        amounts.insert("memory".to_owned(), memory.0);
    }
    if gpus > 0 {
        amounts.insert(drystone_api::GPU_RESOURCE.to_owned(), u64::from(gpus));
    }
    amounts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_waits_for_its_claim_makes_no_cluster_grow() {
        let pod = |message: &str| -> Pod {
            let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message});
            serde_json::from_value(json!({"metadata": {"name": "p"}, "status": {"conditions": [condition]}}))
                .unwrap()
        };
        assert!(is_unschedulable(&pod("0/3 nodes are available: 3 Insufficient cpu.")));
        assert!(!is_unschedulable(&pod(
            "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims."
        )));
        assert!(!is_unschedulable(&pod("0/3 nodes are available: persistentvolumeclaim \"x\" not found.")));
    }
}
