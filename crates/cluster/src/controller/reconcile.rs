//! One pass over a Cluster.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use drystone_api::{
    BareMetalHost, Cluster, ClusterMember, ClusterPhase, ClusterStatus, Composition, CompositionMember,
    CompositionPhase, Distribution, MemberRole, ObjectReference, Operation, OperationPhase, SITE_LABEL,
    SYSTEM_NAMESPACE, Site, condition, set_condition,
};
use drystone_engine::{
    events::EventKind,
    harness::{Reconciler, Requeue, StatusError, add_finalizer, is_deleted, update_status},
    operations::{StartError, operation_name, start},
    plan::PlanError,
    reference::reference_to,
};
use drystone_identity::Secret as Hidden;
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{Api, Client, ResourceExt as _, api::ListParams};

use super::{ClusterConfig, FINALIZER, installed::address_listed, situation};
use crate::{
    distribution::{is_listed, listed},
    ensure::{self, EnsureError},
    gateway::Gateway,
    model::{self, Names},
    plan::{Situation, role_of},
};

/// Replacements of failed hosts before a cluster is left as it is, for somebody to look at.
const MAX_REPLACEMENTS: usize = 8;

/// Pause before an operation is made again that failed without a host being to blame.
const RETRY: Duration = Duration::from_secs(20);

/// What went wrong in a pass; it is made again after a while.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReconcileError {
    #[error(transparent)]
    Ensure(#[from] EnsureError),
    #[error(transparent)]
    Status(#[from] StatusError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the plan is not valid: {0}")]
    Plan(#[from] PlanError),
    #[error("{doing}: {source}")]
    Api { doing: &'static str, source: kube::Error },
}

pub(super) fn api_error(doing: &'static str) -> impl FnOnce(kube::Error) -> ReconcileError {
    move |source| ReconcileError::Api { doing, source }
}

/// The controller.
pub(super) struct ClusterReconciler {
    pub(super) client: Client,
    pub(super) config: ClusterConfig,
}

impl Reconciler for ClusterReconciler {
    type Object = Cluster;
    type Error = ReconcileError;

    const NAME: &'static str = "cluster";

    async fn reconcile(&self, cluster: Arc<Cluster>) -> Result<Requeue, ReconcileError> {
        let names = Names::of(&cluster);
        let clusters: Api<Cluster> = Api::namespaced(self.client.clone(), &names.namespace);
        if is_deleted(cluster.as_ref()) {
            return self.delete(&clusters, &cluster, &names).await;
        }
        let cluster = add_finalizer(&clusters, cluster.as_ref(), FINALIZER)
            .await
            .map_err(api_error("adding the finalizer"))?;
        if let Some(operation) = self.operation_at_work(&cluster, &names).await? {
            return self.follow(&clusters, &cluster, &names, &operation).await;
        }
        let sites: Api<Site> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let sites = sites.list(&ListParams::default()).await.map_err(api_error("listing Sites"))?;
        let networks: Vec<_> = sites.iter().filter_map(|site| site.spec.node_network.clone()).collect();
        let status = cluster.status.clone().unwrap_or_default();
        let checked = model::validate(&cluster.spec, &networks)
            .and_then(|()| model::validate_change(&cluster.spec, &status));
        if let Err(invalid) = checked {
            self.refuse(&clusters, &cluster, &invalid.to_string()).await?;
            return Ok(Requeue::OnChange);
        }
        if cluster.spec.distribution == Distribution::External {
            return self.watch_external(&clusters, &cluster, &names).await;
        }
        if is_listed(&cluster.spec) {
            let hosts = Hosts { members: listed(&cluster.spec), choice: String::new() };
            return self.converge(&clusters, &cluster, &names, hosts).await;
        }
        self.declare(&cluster, &names).await?;
        let forgiven = model::forgiven(&cluster.spec, &status.excluded_hosts);
        let cluster = update_status(&clusters, &cluster, |status: &mut ClusterStatus| {
            status.excluded_hosts.retain(|host| !forgiven.contains(host));
        })
        .await?;
        let Some(composition) = self.reserved(&clusters, &cluster, &names).await? else {
            return Ok(Requeue::OnChange);
        };
        let made = composition.status.unwrap_or_default();
        let choice = made.explanation.map(|explanation| explanation.summary).unwrap_or_default();
        self.converge(&clusters, &cluster, &names, Hosts { members: made.members, choice }).await
    }
}

/// Hosts that a cluster should have.
struct Hosts {
    members: Vec<CompositionMember>,
    /// Why these.
    choice: String,
}

impl ClusterReconciler {
    /// The operation that the status names, unless it has ended and was taken note of.
    async fn operation_at_work(
        &self,
        cluster: &Cluster,
        names: &Names,
    ) -> Result<Option<Operation>, ReconcileError> {
        let Some(reference) = cluster.status.as_ref().and_then(|status| status.operation.as_ref()) else {
            return Ok(None);
        };
        self.operation(reference, names).await
    }

    /// An operation of the cluster, if it is still there. That of a deletion may be in another namespace than the cluster.
    pub(super) async fn operation(
        &self,
        reference: &ObjectReference,
        names: &Names,
    ) -> Result<Option<Operation>, ReconcileError> {
        let namespace = if reference.namespace.is_empty() { &names.namespace } else { &reference.namespace };
        let operations: Api<Operation> = Api::namespaced(self.client.clone(), namespace);
        operations.get_opt(&reference.name).await.map_err(api_error("reading the operation"))
    }

    async fn refuse(
        &self,
        clusters: &Api<Cluster>,
        cluster: &Cluster,
        why: &str,
    ) -> Result<(), ReconcileError> {
        let refused = cluster.status.as_ref().is_some_and(|status| status.message == why);
        update_status(clusters, cluster, |status: &mut ClusterStatus| {
            why.clone_into(&mut status.message);
            status.observed_generation = cluster.metadata.generation;
            set_condition(
                &mut status.conditions,
                condition("Ready", false, "Invalid", why),
                Timestamp::now(),
            );
        })
        .await?;
        if !refused {
            self.config.events.publish(&reference_to(cluster), EventKind::Warning, "Invalid", why);
        }
        Ok(())
    }

    /// Everything that the first host will need.
    async fn declare(&self, cluster: &Cluster, names: &Names) -> Result<(), ReconcileError> {
        ensure::pki(&self.client, cluster, names).await?;
        ensure::host_account(&self.client, cluster, names).await?;
        ensure::pod_pool(&self.client, cluster, names).await?;
        Ok(())
    }

    /// The Composition, once it is reserved as it should be.
    async fn reserved(
        &self,
        clusters: &Api<Cluster>,
        cluster: &Cluster,
        names: &Names,
    ) -> Result<Option<Composition>, ReconcileError> {
        let status = cluster.status.clone().unwrap_or_default();
        let excluded: BTreeSet<String> = status.excluded_hosts.iter().cloned().collect();
        let composition =
            ensure::composition(&self.client, cluster, names, &status.pool_sizes, &excluded).await?;
        let made = composition.status.clone().unwrap_or_default();
        let current = made.observed_generation >= composition.metadata.generation;
        if current && made.phase == CompositionPhase::Reserved {
            return Ok(Some(composition));
        }
        let message = match (current, made.phase) {
            (true, CompositionPhase::Infeasible) => {
                let relaxation =
                    made.explanation.map(|explanation| explanation.relaxation).unwrap_or_default();
                let hint = if relaxation.is_empty() { String::new() } else { format!(" ({relaxation})") };
                format!("no hosts: {}{hint}", made.message)
            }
            _ => "choosing hosts".to_owned(),
        };
        update_status(clusters, cluster, |status: &mut ClusterStatus| {
            if status.members.is_empty() {
                status.phase = ClusterPhase::Pending;
            }
            status.message.clone_from(&message);
            status.observed_generation = cluster.metadata.generation;
            set_condition(
                &mut status.conditions,
                condition("Composed", false, "Waiting", &message),
                Timestamp::now(),
            );
        })
        .await?;
        Ok(None)
    }

    /// Starts the next operation, or settles down.
    async fn converge(
        &self,
        clusters: &Api<Cluster>,
        cluster: &Cluster,
        names: &Names,
        made: Hosts,
    ) -> Result<Requeue, ReconcileError> {
        let present = cluster.status.as_ref().map(|status| status.members.clone()).unwrap_or_default();
        if self.note_losses(clusters, cluster, names, &made.members).await? {
            return Ok(Requeue::After(Duration::from_millis(10)));
        }
        if let Some(pause) = pause(cluster) {
            return Ok(Requeue::After(pause));
        }
        let cluster = &self.begin_control_plane(clusters, cluster, &made.members).await?;
        let first =
            cluster.status.as_ref().map(|status| status.first_control_planes.clone()).unwrap_or_default();
        let subject = reference_to(cluster);
        let situation = Situation {
            subject: subject.clone(),
            wanted: &made.members,
            present: &present,
            first: &first,
            timing: self.config.timing,
        };
        let choice = made.choice;
        if situation.is_settled() {
            self.settle(clusters, cluster, &choice).await?;
            return Ok(Requeue::After(Duration::from_secs(5)));
        }
        let attempt = cluster.status.as_ref().map_or(0, |status| status.changes);
        let hosts: Vec<String> = made.members.iter().map(|member| member.host.clone()).collect();
        let purpose = format!("converge-{}-{attempt}", fingerprint(&hosts, &present));
        let name = operation_name(&subject, &purpose);
        let operation = start(&self.client, &name, self.plan(cluster, situation)?).await?;
        let creating = present.is_empty();
        update_status(clusters, cluster, |status: &mut ClusterStatus| {
            status.phase = if creating { ClusterPhase::Creating } else { ClusterPhase::Resizing };
            status.operation = Some(reference_to(&operation));
            status.choice.clone_from(&choice);
            status.hosts = u32::try_from(made.members.len()).unwrap_or(u32::MAX);
            status.observed_generation = cluster.metadata.generation;
            let composed = condition("Composed", true, "Reserved", &choice);
            set_condition(&mut status.conditions, composed, Timestamp::now());
        })
        .await?;
        let reason = if creating { "Creating" } else { "Resizing" };
        let note = format!("{} hosts chosen: {}", hosts.len(), hosts.join(", "));
        self.config.events.publish(&subject, EventKind::Normal, reason, &note);
        tracing::info!(cluster = %names.lease_holder(), operation = %operation.name_any(), "{note}");
        Ok(Requeue::OnChange)
    }

    /// Follows the operation at work; draws conclusions when it has ended.
    async fn follow(
        &self,
        clusters: &Api<Cluster>,
        cluster: &Cluster,
        names: &Names,
        operation: &Operation,
    ) -> Result<Requeue, ReconcileError> {
        self.publish_access(clusters, cluster, names, operation).await?;
        let state = operation.status.clone().unwrap_or_default();
        if !situation::is_final(operation) {
            let message = format!("{} % – {}", state.progress_percent, state.message);
            update_status(clusters, cluster, |status: &mut ClusterStatus| {
                status.message.clone_from(&message);
            })
            .await?;
            return Ok(Requeue::OnChange);
        }
        let wanted = self.wanted(cluster, names).await?;
        // What is listed is not replaced, but tried again.
        let listed = is_listed(&cluster.spec);
        let failed = if listed { Vec::new() } else { situation::failed_hosts(operation) };
        let before = cluster.status.as_ref().map(|status| status.members.clone()).unwrap_or_default();
        let mut members = situation::members_after(&wanted, &before, operation);
        address_listed(&cluster.spec, &mut members);
        let succeeded = situation::phase(operation) == OperationPhase::Succeeded;
        for (host, why) in &failed {
            let note = format!("Host {host} failed and will be replaced: {why}");
            self.config.events.publish(&reference_to(cluster), EventKind::Warning, "HostFailed", &note);
        }
        update_status(clusters, cluster, |status: &mut ClusterStatus| {
            status.operation = None;
            status.changes += 1;
            let excluded = status.excluded_hosts.len();
            status.members.clone_from(&members);
            for (host, _) in &failed {
                if !status.excluded_hosts.contains(host) && status.excluded_hosts.len() < MAX_REPLACEMENTS {
                    status.excluded_hosts.push(host.clone());
                }
            }
            // With another host it may work at once.
            let is_same = status.excluded_hosts.len() == excluded;
            status.retry_at = (!succeeded && is_same).then(|| Time(Timestamp::now() + RETRY));
            if !succeeded {
                status.phase = ClusterPhase::Degraded;
                status.message.clone_from(&state.message);
            }
        })
        .await?;
        let pause = if succeeded { Duration::from_millis(10) } else { Duration::from_secs(2) };
        Ok(Requeue::After(pause))
    }

    /// Writes the kubeconfig as soon as the control plane has its address, so that the steps that wait for the API can
    /// use it.
    async fn publish_access(
        &self,
        clusters: &Api<Cluster>,
        cluster: &Cluster,
        names: &Names,
        operation: &Operation,
    ) -> Result<(), ReconcileError> {
        if cluster.status.as_ref().is_some_and(|status| !status.endpoint.is_empty()) {
            return Ok(());
        }
        if cluster.spec.distribution.is_installed() {
            return self.publish_fetched(clusters, cluster, names, operation).await;
        }
        let leased = situation::addresses(operation);
        let compositions: Api<Composition> = Api::namespaced(self.client.clone(), &names.namespace);
        let composition =
            compositions.get_opt(&names.composition()).await.map_err(api_error("reading the Composition"))?;
        let members = composition.and_then(|composition| composition.status).unwrap_or_default().members;
        let control_plane = members.iter().find(|member| role_of(member) == MemberRole::ControlPlane);
        let Some((member, address)) =
            control_plane.and_then(|member| leased.hosts.get(&member.host).map(|address| (member, address)))
        else {
            return Ok(());
        };
        let server = format!("https://{}:6443", leased.api.unwrap_or(address.addr()));
        let proxy = self.proxy_url(&member.host).await?;
        let pki = ensure::pki(&self.client, cluster, names).await?;
        ensure::kubeconfig(&self.client, cluster, names, &pki, &server, proxy).await?;
        update_status(clusters, cluster, |status: &mut ClusterStatus| {
            status.endpoint.clone_from(&server);
            status.kubeconfig_secret = names.kubeconfig_secret();
        })
        .await?;
        Ok(())
    }

    /// The proxy through which a host's site is reached, with its credentials.
    async fn proxy_url(&self, host: &str) -> Result<Option<Hidden>, ReconcileError> {
        let hosts: Api<BareMetalHost> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let host = hosts.get_opt(host).await.map_err(api_error("reading the BareMetalHost"))?;
        let Some(site) = host.and_then(|host| host.labels().get(SITE_LABEL).cloned()) else {
            return Ok(None);
        };
        let gateway =
            Gateway::of_site(&self.client, &site).await.map_err(api_error("reading the site's gateway"))?;
        Ok(gateway.map(|gateway| gateway.url_with_credentials()))
    }

    /// Nothing is to be done: tells how the nodes are.
    async fn settle(
        &self,
        clusters: &Api<Cluster>,
        cluster: &Cluster,
        choice: &str,
    ) -> Result<(), ReconcileError> {
        let members: Vec<ClusterMember> =
            cluster.status.as_ref().map(|status| status.members.clone()).unwrap_or_default();
        let ready = members.iter().filter(|member| member.ready).count();
        let was_ready = cluster.status.as_ref().is_some_and(|status| status.phase == ClusterPhase::Ready);
        update_status(clusters, cluster, |status: &mut ClusterStatus| {
            status.phase = ClusterPhase::Ready;
            status.observed_generation = cluster.metadata.generation;
            status.hosts = u32::try_from(members.len()).unwrap_or(u32::MAX);
            status.ready_nodes = u32::try_from(ready).unwrap_or(u32::MAX);
            status.message = format!("{ready} nodes ready");
            choice.clone_into(&mut status.choice);
            let now = Timestamp::now();
            let composed: &[(&str, &str)] = if is_listed(&cluster.spec) { &[] } else { &COMPOSED_CONDITIONS };
            for (kind, reason) in
                composed.iter().copied().chain([("ControlPlaneReady", "Answers"), ("Ready", "AllNodesReady")])
            {
                set_condition(&mut status.conditions, condition(kind, true, reason, ""), now);
            }
            if status.ready_at.is_none() {
                status.ready_at = Some(Time(now));
            }
        })
        .await?;
        if !was_ready {
            let note = format!("{ready} nodes ready");
            self.config.events.publish(&reference_to(cluster), EventKind::Normal, "Ready", &note);
        }
        Ok(())
    }
}

/// Conditions of a cluster whose hosts are composed.
const COMPOSED_CONDITIONS: [(&str, &str); 3] =
    [("Composed", "Reserved"), ("Isolated", "Proven"), ("Provisioned", "Booted")];

/// How long to wait until a failed operation is made again.
fn pause(cluster: &Cluster) -> Option<Duration> {
    let retry_at = cluster.status.as_ref()?.retry_at.as_ref()?.0;
    Duration::try_from(retry_at.duration_since(Timestamp::now())).ok().filter(|left| !left.is_zero())
}

/// Eight characters that stand for a change of membership.
fn fingerprint(wanted: &[String], present: &[ClusterMember]) -> String {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    wanted.hash(&mut hasher);
    for member in present {
        (&member.host, member.ready).hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())[..8].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_operation_is_made_again_after_a_pause() {
        let mut cluster = Cluster::new("mlops", drystone_api::ClusterSpec::default());
        assert_eq!(pause(&cluster), None);
        let at = |seconds: i64| {
            let time = Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
            Some(ClusterStatus { retry_at: Some(Time(time)), ..Default::default() })
        };
        cluster.status = at(100);
        assert!(pause(&cluster).is_some_and(|left| left <= Duration::from_secs(100)));
        cluster.status = at(-1);
        assert_eq!(pause(&cluster), None);
    }
}
