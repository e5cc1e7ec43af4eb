//! Moving pods away from a host before it is changed, and letting them back.

use std::time::Duration;

use drystone_api::Cluster;
use drystone_engine::{
    action::{Action, StepContext, StepError},
    cluster_access::client_of,
    reference::is_not_found,
};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client, ResourceExt as _,
    api::{EvictParams, ListParams, Patch, PatchParams},
};
use serde_json::json;

use super::{HostParameters, StepDependencies, scene::Scene};

/// Annotation of a Node that a rollout has cordoned: it is let go by it only, and not if it was cordoned before.
const CORDONED: &str = "drystone.dev/cordoned-by-rollout";

/// Between two looks at the pods that are left.
const PAUSE: Duration = Duration::from_millis(500);

/// Moves pods away.
pub struct Drain(pub(super) StepDependencies);

/// Lets pods back.
pub struct Uncordon(pub(super) StepDependencies);

/// A client of the cluster that the host belongs to; `None` if it belongs to none.
pub(super) async fn cluster_of(context: &StepContext, scene: &Scene) -> Result<Option<Client>, StepError> {
    let Some((namespace, name)) = scene.host.cluster.split_once('/') else { return Ok(None) };
    let clusters: Api<Cluster> = Api::namespaced(context.client().clone(), namespace);
    let cluster =
        clusters.get_opt(name).await.map_err(|error| StepError::from_kube("reading the Cluster", &error))?;
    let Some(secret) = cluster.and_then(|cluster| cluster.status).map(|status| status.kubeconfig_secret)
    else {
        return Ok(None);
    };
    if secret.is_empty() {
        return Err(StepError::transient(format!("cluster {} has no kubeconfig yet", scene.host.cluster)));
    }
    client_of(context.client(), namespace, &secret).await.map(Some).map_err(StepError::transient)
}

impl Action for Drain {
    const NAME: &'static str = "software.drain";
    type Parameters = HostParameters;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: HostParameters) -> Result<(), StepError> {
        let scene = Scene::find(context, &self.0, &parameters.host).await?;
        let emptied = async {
            let mut why = String::new();
            loop {
                match empty(context, &scene, &mut why).await {
                    Ok(0) => return,
                    Ok(left) => context.progress(50, format!("{left} pods are to go{why}")),
                    Err(error) => context.progress(50, error.to_string()),
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        // Bounded by the step's timeout.
        context.wait_for(emptied).await
    }

    async fn undo(&self, context: &StepContext, parameters: HostParameters) -> Result<(), StepError> {
        uncordon(context, &self.0, &parameters.host).await
    }
}

impl Action for Uncordon {
    const NAME: &'static str = "software.uncordon";
    type Parameters = HostParameters;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: HostParameters) -> Result<(), StepError> {
        uncordon(context, &self.0, &parameters.host).await
    }
}

/// Cordons the Node and asks its pods to go; tells how many are left.
async fn empty(context: &StepContext, scene: &Scene, why: &mut String) -> Result<usize, StepError> {
    let Some(client) = cluster_of(context, scene).await? else { return Ok(0) };
    cordon(&client, &scene.host.name).await?;
    evict_all(&client, &scene.host.name, why)
        .await
        .map_err(|error| StepError::from_kube("moving pods away", &error))
}

async fn cordon(client: &Client, host: &str) -> Result<(), StepError> {
    let nodes: Api<Node> = Api::all(client.clone());
    let node = nodes.get_opt(host).await.map_err(|error| StepError::from_kube("reading the Node", &error))?;
    let Some(node) = node else { return Ok(()) };
    if node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false) {
        return Ok(());
    }
    let patch = json!({"metadata": {"annotations": {CORDONED: "true"}}, "spec": {"unschedulable": true}});
    let patched = nodes.patch(host, &PatchParams::default(), &Patch::Merge(&patch)).await;
    patched.map(drop).map_err(|error| StepError::from_kube("cordoning the Node", &error))
}

async fn uncordon(
    context: &StepContext,
    dependencies: &StepDependencies,
    host: &str,
) -> Result<(), StepError> {
    let scene = Scene::find(context, dependencies, host).await?;
    let Some(client) = cluster_of(context, &scene).await? else { return Ok(()) };
    let nodes: Api<Node> = Api::all(client);
    let node = nodes.get_opt(host).await.map_err(|error| StepError::from_kube("reading the Node", &error))?;
    if !node.is_some_and(|node| node.annotations().contains_key(CORDONED)) {
        return Ok(());
    }
    let patch = json!({"metadata": {"annotations": {CORDONED: null}}, "spec": {"unschedulable": null}});
    let patched = nodes.patch(host, &PatchParams::default(), &Patch::Merge(&patch)).await;
    patched.map(drop).map_err(|error| StepError::from_kube("uncordoning the Node", &error))
}

/// Asks every pod that can go to go; tells how many are left.
async fn evict_all(client: &Client, host: &str, why: &mut String) -> Result<usize, kube::Error> {
    let pods: Api<Pod> = Api::all(client.clone());
    let on_host = ListParams::default().fields(&format!("spec.nodeName={host}"));
    let listed = pods.list(&on_host).await?;
    let left: Vec<Pod> = listed.items.into_iter().filter(must_go).collect();
    why.clear();
    for pod in left.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        match api.evict(&pod.name_any(), &EvictParams::default()).await {
            Ok(_) => {}
            Err(error) if is_not_found(&error) => {}
            // A disruption budget is spent for now.
            Err(kube::Error::Api(status)) if status.code == 429 => {
                *why = format!("; {} may not go yet: {}", pod.name_any(), status.message);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(left.len())
}

/// Pods of DaemonSets would come back at once, static ones do not obey the API, and finished ones do nothing.
fn must_go(pod: &Pod) -> bool {
    let owned = pod
        .owner_references()
        .iter()
        .any(|owner| owner.kind == "DaemonSet" && owner.controller == Some(true));
    let mirror = pod.annotations().contains_key("kubernetes.io/config.mirror");
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !(owned || mirror || matches!(phase, Some("Succeeded" | "Failed")))
}
