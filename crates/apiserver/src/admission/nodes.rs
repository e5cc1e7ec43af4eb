//! A node agent may touch its own Node, its own lease and its own pods, and nothing of other nodes.

use drystone_identity::UserInfo;
use serde_json::Value;

use crate::machinery::status::ApiError;
use crate::operations::modify::Part;
use crate::operations::{Target, read};
use crate::server::state::State;

const MIRROR: &str = "kubernetes.io/config.mirror";

/// Checks a write by a node; whoever is no node passes.
pub(super) fn check_write(
    target: &Target,
    part: Part,
    old: Option<&Value>,
    new: Option<&Value>,
    user: &UserInfo,
) -> Result<(), ApiError> {
    let Some(node) = user.node_name() else { return Ok(()) };
    let refuse = |why: &str| Err(target.forbidden(format!("node {node:?} {why}")));
    match (target.resource.group.as_str(), target.resource.kind.as_str()) {
        ("", "Node") | ("storage.k8s.io", "CSINode") if target.name != node => {
            refuse("is not allowed to modify another node")
        }
        ("", "Node") if taints_changed(part, old, new) => refuse("is not allowed to modify its own taints"),
        ("coordination.k8s.io", "Lease") if target.namespace == "kube-node-lease" && target.name != node => {
            refuse("is not allowed to modify the lease of another node")
        }
        ("", "Pod") => match old {
            None if !new.is_some_and(|pod| is_mirror(pod) && is_on(pod, node)) => {
                refuse("can only create mirror pods of its own")
            }
            Some(pod) if !is_on(pod, node) => refuse("can only modify pods that run on it"),
            Some(_) if part == Part::Main => refuse("can only modify the status of pods"),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Checks a deletion by a node.
pub(super) async fn check_delete(state: &State, target: &Target, user: &UserInfo) -> Result<(), ApiError> {
    let Some(node) = user.node_name() else { return Ok(()) };
    match (target.resource.group.as_str(), target.resource.kind.as_str()) {
        ("", "Node") => Err(target.forbidden(format!("node {node:?} is not allowed to delete nodes"))),
        ("", "Pod") => {
            let pod = read::get_value(state, target).await?;
            if is_on(&pod, node) {
                return Ok(());
            }
            Err(target.forbidden(format!("node {node:?} can only delete pods that run on it")))
        }
        _ => check_write(target, Part::Main, None, None, user),
    }
}

/// Whether a pod runs on a node.
pub(super) fn is_on(pod: &Value, node: &str) -> bool {
    pod["spec"]["nodeName"] == node
}

fn is_mirror(pod: &Value) -> bool {
    !pod["metadata"]["annotations"][MIRROR].is_null()
}

/// A node may bring taints when it registers, but not take them off again.
fn taints_changed(part: Part, old: Option<&Value>, new: Option<&Value>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => part == Part::Main && old["spec"]["taints"] != new["spec"]["taints"],
        _ => false,
    }
}
