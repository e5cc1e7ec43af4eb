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

/// Between two looks at the pods that are left, and two requests to let them go.
const PAUSE: Duration = Duration::from_secs(2);

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
        let mut last = String::new();
        let emptied = async {
            loop {
                last = match empty(context, &scene).await {
                    Ok((0, _)) => return,
                    Ok((left, why)) => format!("{left} pods are to go{why}"),
                    Err(error) => error.to_string(),
                };
                context.progress(50, last.clone());
                tokio::time::sleep(PAUSE).await;
            }
        };
        // Bounded by the step's timeout.
        let Err(ended) = context.wait_for(emptied).await else { return Ok(()) };
        if last.is_empty() {
            return Err(ended);
        }
        // Nothing was changed, and it may be that nobody undoes anything: the host is let go again.
        Err(StepError::transient(match uncordon(context, &self.0, &parameters.host).await {
            Ok(()) => last,
            Err(error) => format!("{last}; the Node is still cordoned: {error}"),
        }))
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

/// Cordons the Node and asks its pods to go; tells how many are left, and why.
async fn empty(context: &StepContext, scene: &Scene) -> Result<(usize, String), StepError> {
    let Some(client) = cluster_of(context, scene).await? else { return Ok((0, String::new())) };
    cordon(&client, &scene.host.name).await?;
    evict_all(&client, &scene.host.name)
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

/// Asks every pod that can go to go; tells how many are left, and of one that may not go, why.
async fn evict_all(client: &Client, host: &str) -> Result<(usize, String), kube::Error> {
    let pods: Api<Pod> = Api::all(client.clone());
    let on_host = ListParams::default().fields(&format!("spec.nodeName={host}"));
    let listed = pods.list(&on_host).await?;
    let left: Vec<Pod> = listed.items.into_iter().filter(must_go).collect();
    let mut why = String::new();
    for pod in left.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        match api.evict(&pod.name_any(), &EvictParams::default()).await {
            Ok(_) => {}
            Err(error) if is_not_found(&error) => {}
            // A disruption budget is spent for now.
            Err(kube::Error::Api(status)) if status.code == 429 => {
                why = format!("; {} may not go yet: {}", pod.name_any(), status.message);
            }
            // The others need not wait for it.
            Err(error) => why = format!("; {} cannot go: {error}", pod.name_any()),
        }
    }
    Ok((left.len(), why))
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
