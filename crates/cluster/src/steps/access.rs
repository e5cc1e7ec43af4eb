//! What is done inside the composed cluster: waiting for its API and its nodes, removing nodes.

use drystone_api::Distribution;
use drystone_engine::action::{Action, StepContext, StepError};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, api::DeleteParams};
use serde::{Deserialize, Serialize};

use super::{
    joining::{admit, withdraw},
    objects::subject,
    waiting::{Verdict, wait_until},
};
use crate::access::client_of;

pub(super) async fn inside(context: &StepContext) -> Result<Client, StepError> {
    let (_, names) = subject(context).await?;
    client_of(context.client(), &names.namespace, &names.kubeconfig_secret())
        .await
        .map_err(StepError::transient)
}

/// How long one answer may take: whoever was asked may be gone.
const ANSWER: std::time::Duration = std::time::Duration::from_secs(10);

/// Waits until the cluster's API server says that it is ready.
pub struct AwaitApi;

impl Action for AwaitApi {
    const NAME: &'static str = "cluster.await-api";
    type Parameters = ();
    type Output = ();

    async fn run(&self, context: &StepContext, (): ()) -> Result<(), StepError> {
        let client = inside(context).await?;
        let ready = async {
            let mut pause = std::time::Duration::from_millis(50);
            loop {
                let request = http::Request::get("/readyz").body(Vec::new());
                let answer = match request {
                    Ok(request) => match tokio::time::timeout(ANSWER, client.request_text(request)).await {
                        Ok(answer) => answer.map_err(|error| error.to_string()),
                        Err(_) => Err("no answer in time".to_owned()),
                    },
                    Err(error) => Err(error.to_string()),
                };
                match answer {
                    Ok(_) => return,
                    Err(error) => {
                        context.progress(10, format!("the API server does not answer yet: {error}"));
                    }
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(std::time::Duration::from_secs(1));
            }
        };
        // Bounded by the step's timeout.
        context.wait_for(ready).await
    }
}

/// Lets a host join as the node of its name, and waits until it is ready.
pub struct AwaitNode;

/// The node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeParameters {
    node: String,
}

impl AwaitNode {
    /// For this node.
    pub fn parameters(node: &str) -> NodeParameters {
        NodeParameters { node: node.to_owned() }
    }
}

/// Whether a node says that it is ready.
pub(crate) fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

impl Action for AwaitNode {
    const NAME: &'static str = "cluster.await-node";
    type Parameters = NodeParameters;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: NodeParameters) -> Result<(), StepError> {
        let nodes: Api<Node> = Api::all(inside(context).await?);
        // Installers of others invite their hosts themselves.
        let (cluster, _) = subject(context).await?;
        let invites = cluster.spec.distribution == Distribution::Embedded;
        if invites {
            admit(context, &parameters.node).await?;
        }
        wait_until(context, nodes, &parameters.node, |node: Option<&Node>| match node {
            Some(node) if is_ready(node) => Verdict::Done(()),
            _ => Verdict::Wait,
        })
        .await?;
        if invites { withdraw(context, &parameters.node).await } else { Ok(()) }
    }
}

/// Removes a node from the cluster; its pods are placed elsewhere by the cluster's own controllers.
pub struct RemoveNode;

impl RemoveNode {
    /// For this node.
    pub fn parameters(node: &str) -> NodeParameters {
        AwaitNode::parameters(node)
    }
}

impl Action for RemoveNode {
    const NAME: &'static str = "cluster.remove-node";
    type Parameters = NodeParameters;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: NodeParameters) -> Result<(), StepError> {
        let nodes: Api<Node> = Api::all(inside(context).await?);
        match nodes.delete(&parameters.node, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(StepError::from_kube(&format!("deleting node {}", parameters.node), &error)),
        }
    }
}
