//! Reaching nodes, and letting them know each other.

use std::{fmt::Write as _, time::Duration};

use drystone_api::nfv::VnfNode;
use drystone_engine::action::{Action, StepContext, StepError};
use drystone_ssh::Program;

use super::{PATIENCE, Prepared};
use crate::{
    mgmt::kubernetes::{
        access::Cluster,
        nodes::{NodeRef, Role, of_role},
        programs,
        task::Task,
    },
    model::{InstancePatch, Inventory},
};

/// How long a server may take to be reached: it may be booting still.
const BOOT_PATIENCE: Duration = Duration::from_secs(840);

/// The node of a task.
pub(super) fn node_of(task: &Task) -> Result<&NodeRef, StepError> {
    task.node.as_ref().ok_or_else(|| StepError::permanent("the step is not told which node it is about"))
}

/// Lines of `/etc/hosts` for all nodes.
fn hosts(cluster: &Cluster, nodes: &[NodeRef]) -> Result<String, StepError> {
    let mut text = String::new();
    for node in nodes {
        let _ = writeln!(text, "{} {}", cluster.node_address(node)?, node.name);
    }
    Ok(text)
}

/// Reaches a node, learns its key, and lets it know the others.
pub struct PrepareNode;

impl Action for PrepareNode {
    const NAME: &'static str = "mgmt.prepare-node";
    type Parameters = Task;
    type Output = Prepared;

    async fn run(&self, context: &StepContext, task: Task) -> Result<Prepared, StepError> {
        let cluster = Cluster::load(context, &task.source).await?;
        let node = node_of(&task)?;
        if node.role != Role::Storage
            && let Some(why) = cluster.parameters.problem_with_node(cluster.node_address(node)?)
        {
            return Err(StepError::permanent(why));
        }
        let reached = cluster.connect(context, &task, node, BOOT_PATIENCE, true).await?;
        context.log(format!(
            "{} at {} is known by {}",
            node.name,
            reached.address,
            reached.session.host_key()
        ));
        let text = programs::prepare();
        let program = Program::new(format!("preparing {}", node.name), &text)
            .environment("DRYSTONE_VNF", task.source.uid.as_str())
            .input(hosts(&cluster, &task.nodes)?)
            .answer(16 * 1024);
        let system = reached.ask(context, program).await?.trim().replace('\n', ", ");
        let host_key = reached.session.host_key().public_key.clone();
        let known = VnfNode {
            vnfc: cluster.server(node)?.id.clone(),
            vdu_id: node.vdu.clone(),
            name: node.name.clone(),
            address: reached.address.to_string(),
            node_address: reached.node_address.to_string(),
            host_keys: vec![host_key.clone()],
            role: node.role.name().to_owned(),
        };
        Ok(Prepared {
            address: reached.address,
            node_address: reached.node_address,
            host_key,
            system,
            vnf_instance: InstancePatch { nodes: vec![known], ..InstancePatch::default() },
        })
    }
}

/// Lets a node that stays know those that came, and forget those that went.
pub struct UpdateHosts;

impl Action for UpdateHosts {
    const NAME: &'static str = "mgmt.update-hosts";
    type Parameters = Task;
    type Output = ();

    async fn run(&self, context: &StepContext, task: Task) -> Result<(), StepError> {
        let cluster = Cluster::load(context, &task.source).await?;
        let node = node_of(&task)?;
        let reached = cluster.connect(context, &task, node, PATIENCE, false).await?;
        let text = programs::update_hosts();
        let program = Program::new(format!("telling {} of the other nodes", node.name), &text)
            .environment("DRYSTONE_VNF", task.source.uid.as_str())
            .input(hosts(&cluster, &task.nodes)?);
        reached.run(context, program).await?;
        if node.role == Role::ControlPlane {
            let mut masters = Vec::new();
            for master in of_role(&task.nodes, Role::ControlPlane) {
                masters.push(format!("{}={}", master.name, cluster.node_address(master)?));
            }
            let program = Program::new(format!("telling HAProxy on {}", node.name), programs::UPDATE_PROXY)
                .environment("DRYSTONE_MASTERS", masters.join(" "));
            reached.run(context, program).await?;
        }
        Ok(())
    }
}

/// Checks that the nodes of the cluster have kept their addresses, by which they are known to each other for good.
pub struct CheckAddresses;

impl Action for CheckAddresses {
    const NAME: &'static str = "mgmt.check-addresses";
    type Parameters = Task;
    type Output = ();

    async fn run(&self, context: &StepContext, task: Task) -> Result<(), StepError> {
        let Some(step) = &task.source.inventory_before else { return Ok(()) };
        let before = context.input::<Inventory>(step)?;
        let cluster = Cluster::load(context, &task.source).await?;
        for node in task.nodes.iter().filter(|node| node.role != Role::Storage) {
            let cp = &cluster.group(node)?.nic_cp;
            let was = before.server(&node.vdu, node.index).and_then(|server| server.port(cp)?.fixed());
            let is = cluster.node_address(node)?.to_string();
            if was.is_some_and(|was| was != is) {
                let was = was.unwrap_or_default();
                return Err(StepError::permanent(format!(
                    "the address of {} changed from {was} to {is}; nodes of a Kubernetes cluster keep their addresses: roll the change \
                     back, or heal the node afterwards",
                    node.name
                )));
            }
        }
        Ok(())
    }
}
