//! Taking nodes out of the cluster.

use std::time::Duration;

use drystone_engine::action::{Action, StepContext, StepError};
use drystone_ssh::Program;

use super::{
    PATIENCE,
    install::{find_node, list_nodes},
    nodes::node_of,
};
use crate::mgmt::kubernetes::{
    access::{Cluster, Reached},
    nodes::NodeRef,
    programs,
    task::Task,
};

/// How long pods may take to leave.
const DRAIN_LIMIT: &str = "300s";

/// Empties a node and takes it out, by way of a control plane. `drain` is how long pods may take to leave; empty for no draining.
pub(super) async fn remove_node(
    context: &StepContext,
    cluster: &Cluster,
    via: &Reached,
    node: &NodeRef,
    drain: &str,
) -> Result<(), StepError> {
    let address = cluster.node_address(node).map(|address| address.to_string()).unwrap_or_default();
    let Some((name, _)) = find_node(&list_nodes(context, via).await?, &address, &node.name) else {
        context.log(format!("{} is no node of the cluster", node.name));
        return Ok(());
    };
    let text = programs::remove_node();
    let program = Program::new(format!("taking {name} out of the cluster"), &text)
        .environment("DRYSTONE_NODE", name.as_str())
        .environment("DRYSTONE_DRAIN", drain)
        .limit(Duration::from_secs(600));
    via.run(context, program).await.map(drop)
}

/// Lets a node that was taken out come back, if its server is still there.
async fn come_back(
    context: &StepContext,
    cluster: &Cluster,
    task: &Task,
    node: &NodeRef,
) -> Result<(), StepError> {
    let reached = match cluster.connect(context, task, node, PATIENCE, false).await {
        Ok(reached) => reached,
        Err(StepError::Cancelled) => return Err(StepError::Cancelled),
        Err(error) => {
            context.log(format!("{} cannot be brought back: {error}", node.name));
            return Ok(());
        }
    };
    let program = Program::new(format!("letting {} come back", node.name), programs::COME_BACK);
    reached.run(context, program).await.map(drop)
}

/// Empties a worker and takes it out of the cluster.
pub struct RemoveNode;

impl Action for RemoveNode {
    const NAME: &'static str = "mgmt.remove-node";
    type Parameters = Task;
    type Output = ();

    async fn run(&self, context: &StepContext, task: Task) -> Result<(), StepError> {
        let cluster = Cluster::load(context, &task.source).await?;
        let via = cluster.connect_to_control_plane(context, &task).await?;
        remove_node(context, &cluster, &via, node_of(&task)?, DRAIN_LIMIT).await
    }

    /// The server is still there when this is taken back: its agent registers the node anew.
    async fn undo(&self, context: &StepContext, task: Task) -> Result<(), StepError> {
        let cluster = Cluster::load(context, &task.source).await?;
        come_back(context, &cluster, &task, node_of(&task)?).await
    }
}

/// Takes a control plane out of the cluster: its node, and its member of etcd, whether it still lives or not.
pub struct RemoveControlPlane;

impl Action for RemoveControlPlane {
    const NAME: &'static str = "mgmt.remove-control-plane";
    type Parameters = Task;
    type Output = ();

    async fn run(&self, context: &StepContext, task: Task) -> Result<(), StepError> {
        let cluster = Cluster::load(context, &task.source).await?;
        let node = node_of(&task)?;
        let via = cluster.connect_to_control_plane(context, &task).await?;
        let address = via.node_address.to_string();
        let nodes = list_nodes(context, &via).await?;
        let asked = find_node(&nodes, &address, "").map(|(name, _)| name).unwrap_or_default();
        let text = programs::forget_member();
        let program = Program::new(format!("taking {} out of etcd", node.name), &text)
            .environment("DRYSTONE_NODE", asked)
            .environment("DRYSTONE_GONE_ADDRESS", cluster.node_address(node)?.to_string())
            .limit(Duration::from_secs(120));
        via.run(context, program).await?;
        remove_node(context, &cluster, &via, node, "").await
    }
}
