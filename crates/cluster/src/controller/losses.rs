//! Hosts of a cluster that have failed, and the control plane that is begun by several.

use drystone_api::{
    BareMetalHost, BareMetalHostStatus, Cluster, ClusterPhase, ClusterStatus, CompositionMember,
    Distribution, MemberRole,
};
use drystone_engine::{events::EventKind, harness::update_status, reference::reference_to};
use k8s_openapi::api::core::v1::Node;
use kube::Api;

use super::reconcile::{ClusterReconciler, ReconcileError, api_error};
use crate::{
    access::client_of,
    distribution::is_listed,
    model::Names,
    plan::{Situation, role_of},
    steps::access::is_ready,
};

/// How long the cluster's API may take to say how a node is.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(5);

/// Most hosts that are remembered as failed.
const MAX_EXCLUDED: usize = 16;

impl ClusterReconciler {
    /// Looks for members whose host has failed again and again and whose node is not ready: they are given up, so that others take their
    /// place. Returns whether there are any. The only host of a control plane is not given up: the cluster's state is on it.
    pub(super) async fn note_losses(
        &self,
        clusters: &Api<Cluster>,
        cluster: &Cluster,
        names: &Names,
        wanted: &[CompositionMember],
    ) -> Result<bool, ReconcileError> {
        if is_listed(&cluster.spec) {
            return Ok(false);
        }
        let status = cluster.status.clone().unwrap_or_default();
        let replicated = !status.first_control_planes.is_empty();
        let mut lost = Vec::new();
        for member in status.members.iter().filter(|member| member.ready) {
            let Some(host) = wanted.iter().find(|wanted| wanted.host == member.host) else { continue };
            let replaceable = member.role == MemberRole::Worker || replicated;
            if replaceable && self.is_hopeless(host).await? && self.is_down(names, &member.host).await {
                lost.push(member.host.clone());
            }
        }
        // One at a time, so that a control plane keeps its majority.
        let Some(host) = lost.into_iter().next() else { return Ok(false) };
        let note = format!("Host {host} has failed, and its node is not ready: it is replaced");
        update_status(clusters, cluster, |status: &mut ClusterStatus| {
            status.phase = ClusterPhase::Degraded;
            status.message.clone_from(&note);
            for member in status.members.iter_mut().filter(|member| member.host == host) {
                member.ready = false;
            }
            if !status.excluded_hosts.contains(&host) {
                if status.excluded_hosts.len() >= MAX_EXCLUDED {
                    status.excluded_hosts.remove(0);
                }
                status.excluded_hosts.push(host.clone());
            }
        })
        .await?;
        self.config.events.publish(&reference_to(cluster), EventKind::Warning, "HostLost", &note);
        Ok(true)
    }

    async fn is_hopeless(&self, member: &CompositionMember) -> Result<bool, ReconcileError> {
        let hosts: Api<BareMetalHost> = Api::namespaced(self.client.clone(), &member.host_namespace);
        let host = hosts.get_opt(&member.host).await.map_err(api_error("reading the BareMetalHost"))?;
        Ok(host.is_none_or(|host| host.status.as_ref().is_some_and(BareMetalHostStatus::is_hopeless)))
    }

    /// Whether the cluster says that a node is not ready. Nothing is concluded from a cluster that does not answer.
    async fn is_down(&self, names: &Names, node: &str) -> bool {
        let asked = async {
            let inside = client_of(&self.client, &names.namespace, &names.kubeconfig_secret()).await.ok()?;
            let nodes: Api<Node> = Api::all(inside);
            nodes.get_opt(node).await.ok()
        };
        match tokio::time::timeout(DEADLINE, asked).await {
            Ok(Some(node)) => node.is_none_or(|node| !is_ready(&node)),
            Ok(None) | Err(_) => false,
        }
    }

    /// Writes down which hosts a control plane of several is begun with, before any of them is booted; or begun anew, when it never
    /// came to be and too few of them are left.
    pub(super) async fn begin_control_plane(
        &self,
        clusters: &Api<Cluster>,
        cluster: &Cluster,
        wanted: &[CompositionMember],
    ) -> Result<Cluster, ReconcileError> {
        let status = cluster.status.clone().unwrap_or_default();
        let several =
            cluster.spec.control_plane.replicas > 1 && cluster.spec.distribution == Distribution::Embedded;
        let situation = Situation {
            subject: reference_to(cluster),
            wanted,
            present: &status.members,
            first: &status.first_control_planes,
            timing: self.config.timing,
        };
        // A control plane that was ready once has data, and is never begun anew.
        if !several || status.ready_at.is_some() || (situation.is_replicated() && situation.can_join()) {
            return Ok(cluster.clone());
        }
        let control_planes = wanted.iter().filter(|member| role_of(member) == MemberRole::ControlPlane);
        let first: Vec<String> = control_planes.map(|member| member.host.clone()).collect();
        Ok(update_status(clusters, cluster, |status: &mut ClusterStatus| {
            status.first_control_planes.clone_from(&first);
        })
        .await?)
    }
}
