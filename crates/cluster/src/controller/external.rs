//! Existing clusters: registered by their kubeconfig, watched, left alone.

use std::time::Duration;

use drystone_api::{
    Cluster, ClusterMember, ClusterPhase, ClusterStatus, MemberRole, condition, set_condition,
};
use drystone_engine::{
    events::EventKind,
    harness::{Requeue, update_status},
    reference::{describe_kube_error, reference_to},
};
use k8s_openapi::{api::core::v1::Node, apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{Api, Client, ResourceExt as _, api::ListParams};

use super::reconcile::{ClusterReconciler, ReconcileError};
use crate::{access, model::Names, steps::access::is_ready};

/// How often an existing cluster is looked at.
const PERIOD: Duration = Duration::from_secs(5);

/// How long one look may take.
const DEADLINE: Duration = Duration::from_secs(15);

/// Most nodes that the status lists.
const MAX_MEMBERS: usize = 1000;

/// Label of control planes' nodes.
const CONTROL_PLANE_LABEL: &str = "node-role.kubernetes.io/control-plane";

impl ClusterReconciler {
    /// Looks at an existing cluster and tells how it is.
    pub(super) async fn watch_external(
        &self,
        clusters: &Api<Cluster>,
        cluster: &Cluster,
        names: &Names,
    ) -> Result<Requeue, ReconcileError> {
        let secret = cluster.spec.external.clone().unwrap_or_default().kubeconfig_secret;
        let look = look_at(&self.client, names, &secret);
        let seen = match tokio::time::timeout(DEADLINE, look).await {
            Ok(seen) => seen,
            Err(_) => Err(format!("its API does not answer within {DEADLINE:?}")),
        };
        let before = cluster.status.as_ref().map(|status| status.phase).unwrap_or_default();
        let conclusion = conclude(seen, before);
        let (kind, reason) = match conclusion.phase {
            ClusterPhase::Ready => (EventKind::Normal, "Ready"),
            _ => (EventKind::Warning, "NotReady"),
        };
        if conclusion.phase != before {
            self.config.events.publish(&reference_to(cluster), kind, reason, &conclusion.message);
        }
        update_status(clusters, cluster, |status: &mut ClusterStatus| {
            conclusion.write(status, cluster, &secret);
        })
        .await?;
        Ok(Requeue::After(PERIOD))
    }
}

/// What was seen of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    server: String,
    nodes: Vec<ClusterMember>,
}

async fn look_at(client: &Client, names: &Names, secret: &str) -> Result<Seen, String> {
    let text =
        access::kubeconfig(client, &names.namespace, secret).await.map_err(|error| error.to_string())?;
    let inside =
        access::client_of(client, &names.namespace, secret).await.map_err(|error| error.to_string())?;
    let nodes: Api<Node> = Api::all(inside);
    let listed = nodes.list(&ListParams::default()).await;
    let listed = listed.map_err(|error| format!("asking for its nodes: {}", describe_kube_error(&error)))?;
    Ok(Seen { server: server_of(&text), nodes: listed.iter().map(member).collect() })
}

/// URL of the server of a kubeconfig.
fn server_of(text: &str) -> String {
    let config = kube::config::Kubeconfig::from_yaml(text).ok();
    let cluster = config.and_then(|config| {
        let context = config.current_context.clone().unwrap_or_default();
        let named = config.contexts.iter().find(|named| named.name == context)?;
        let name = named.context.as_ref()?.cluster.clone();
        config.clusters.into_iter().find(|cluster| cluster.name == name)?.cluster
    });
    cluster.and_then(|cluster| cluster.server).unwrap_or_default()
}

fn member(node: &Node) -> ClusterMember {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let internal = addresses.into_iter().find(|address| address.type_ == "InternalIP");
    let role = if node.labels().contains_key(CONTROL_PLANE_LABEL) {
        MemberRole::ControlPlane
    } else {
        MemberRole::Worker
    };
    ClusterMember {
        host: node.name_any(),
        role,
        address: internal.map(|address| address.address.clone()).unwrap_or_default(),
        ready: is_ready(node),
        ..Default::default()
    }
}

/// What is concluded from a look.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Conclusion {
    phase: ClusterPhase,
    message: String,
    /// Nothing, if the cluster could not be looked at: what was known of it stays.
    seen: Option<Seen>,
}

fn conclude(seen: Result<Seen, String>, before: ClusterPhase) -> Conclusion {
    match seen {
        Ok(mut seen) => {
            seen.nodes.sort_by(|a, b| (a.role, &a.host).cmp(&(b.role, &b.host)));
            let (all, ready) = (seen.nodes.len(), seen.nodes.iter().filter(|node| node.ready).count());
            let phase = if ready == all { ClusterPhase::Ready } else { ClusterPhase::Degraded };
            let message = if ready == all {
                format!("{ready} nodes ready")
            } else {
                let down = seen.nodes.iter().filter(|node| !node.ready).map(|node| node.host.as_str());
                let down: Vec<&str> = down.take(5).collect();
                format!("{ready} of {all} nodes ready; not {}", down.join(", "))
            };
            Conclusion { phase, message, seen: Some(seen) }
        }
        Err(why) => {
            let never = before == ClusterPhase::Pending;
            let phase = if never { ClusterPhase::Pending } else { ClusterPhase::Degraded };
            Conclusion { phase, message: why, seen: None }
        }
    }
}

impl Conclusion {
    fn write(&self, status: &mut ClusterStatus, cluster: &Cluster, secret: &str) {
        let now = Timestamp::now();
        status.phase = self.phase;
        status.observed_generation = cluster.metadata.generation;
        status.message.clone_from(&self.message);
        if let Some(seen) = &self.seen {
            let count = |ready: bool| seen.nodes.iter().filter(|node| node.ready || !ready).count();
            status.hosts = u32::try_from(count(false)).unwrap_or(u32::MAX);
            status.ready_nodes = u32::try_from(count(true)).unwrap_or(u32::MAX);
            status.members = seen.nodes.iter().take(MAX_MEMBERS).cloned().collect();
            status.endpoint.clone_from(&seen.server);
            secret.clone_into(&mut status.kubeconfig_secret);
        } else {
            status.ready_nodes = 0;
        }
        let ready = self.phase == ClusterPhase::Ready;
        let answers = self.seen.is_some();
        let reason = if answers { "Answers" } else { "Unreachable" };
        set_condition(&mut status.conditions, condition("ControlPlaneReady", answers, reason, ""), now);
        let reason = if ready { "AllNodesReady" } else { "NotReady" };
        set_condition(&mut status.conditions, condition("Ready", ready, reason, &self.message), now);
        if ready && status.ready_at.is_none() {
            status.ready_at = Some(Time(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: &str, ready: bool) -> ClusterMember {
        ClusterMember { host: host.into(), ready, ..Default::default() }
    }

    #[test]
    fn nodes_decide() {
        let seen = |nodes: Vec<ClusterMember>| Ok(Seen { server: "https://x".into(), nodes });
        let good = conclude(seen(vec![node("a", true), node("b", true)]), ClusterPhase::Pending);
        assert_eq!((good.phase, good.message.as_str()), (ClusterPhase::Ready, "2 nodes ready"));
        let bad = conclude(seen(vec![node("b", false), node("a", true)]), ClusterPhase::Ready);
        assert_eq!((bad.phase, bad.message.as_str()), (ClusterPhase::Degraded, "1 of 2 nodes ready; not b"));
    }

    #[test]
    fn what_was_known_stays_while_a_cluster_does_not_answer() {
        let cluster = Cluster::new("c", drystone_api::ClusterSpec::default());
        let mut status = ClusterStatus::default();
        conclude(Err("no kubeconfig".into()), ClusterPhase::Pending).write(&mut status, &cluster, "k");
        assert_eq!((status.phase, status.kubeconfig_secret.as_str()), (ClusterPhase::Pending, ""));
        let seen = Seen { server: "https://x".into(), nodes: vec![node("a", true)] };
        conclude(Ok(seen), ClusterPhase::Pending).write(&mut status, &cluster, "k");
        assert_eq!((status.hosts, status.ready_nodes), (1, 1));
        conclude(Err("silent".into()), status.phase).write(&mut status, &cluster, "k");
        assert_eq!((status.phase, status.hosts, status.ready_nodes), (ClusterPhase::Degraded, 1, 0));
        assert_eq!((status.endpoint.as_str(), status.members.len()), ("https://x", 1));
    }
}
