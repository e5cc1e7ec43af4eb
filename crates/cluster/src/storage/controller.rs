//! The StorageServer controller. Level-triggered: each pass looks at the StorageServer, its Cluster and its operation, does the next thing,
//! and writes what it saw into the status.

use std::{sync::Arc, time::Duration};

use drystone_api::{
    Cluster, ClusterMember, Operation, OperationPhase, StorageServer, StorageServerPhase,
    StorageServerStatus, condition, set_condition,
};
use drystone_engine::{
    events::{EventKind, EventSink},
    harness::{
        Controller, ControllerConfig, Reconciler, Requeue, StatusError, add_finalizer, has_finalizer,
        is_deleted, remove_finalizer, update_status,
    },
    operations::{StartError, operation_name, start},
    plan::PlanError,
    reference::{ObjectKey, reference_to},
};
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client, ResourceExt as _, runtime::watcher};
use tokio_util::sync::CancellationToken;

use super::{
    model,
    plan::{self, Change},
    steps::{PreparedVolumes, UnregisterParameters},
};

/// Finalizer on every StorageServer.
const FINALIZER: &str = "drystone.dev/storage-server";

/// Pause before something that failed is tried again: who used a volume may have ended.
const RETRY: Duration = Duration::from_secs(20);

/// What the refusal of the library says.
const IN_USE: &str = "is in use";

#[derive(Debug, thiserror::Error)]
enum ReconcileError {
    #[error(transparent)]
    Status(#[from] StatusError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the plan is not valid: {0}")]
    Plan(#[from] PlanError),
    #[error("{doing}: {source}")]
    Api { doing: &'static str, source: kube::Error },
}

fn api_error(doing: &'static str) -> impl FnOnce(kube::Error) -> ReconcileError {
    move |source| ReconcileError::Api { doing, source }
}

struct StorageReconciler {
    client: Client,
    events: Arc<dyn EventSink>,
}

/// Runs the controller until `shutdown`.
pub(crate) async fn run(client: Client, events: Arc<dyn EventSink>, shutdown: CancellationToken) {
    let reconciler = StorageReconciler { client: client.clone(), events: events.clone() };
    let settings = ControllerConfig { events, ..ControllerConfig::default() };
    Controller::new(client, reconciler, settings)
        .watches::<Operation>(watcher::Config::default(), |operation: &Operation, _| {
            let subject = &operation.spec.subject;
            let ours = subject.kind == "StorageServer";
            ours.then(|| ObjectKey::new(subject.namespace.clone(), subject.name.clone()))
                .into_iter()
                .collect()
        })
        .watches::<Cluster>(watcher::Config::default(), |cluster: &Cluster, servers| {
            servers.keys_where(|server: &StorageServer| {
                server.spec.cluster == cluster.name_any() && server.namespace() == cluster.namespace()
            })
        })
        .run(shutdown)
        .await;
}

impl Reconciler for StorageReconciler {
    type Object = StorageServer;
    type Error = ReconcileError;

    const NAME: &'static str = "storage-server";

    async fn reconcile(&self, server: Arc<StorageServer>) -> Result<Requeue, ReconcileError> {
        let namespace = server.namespace().unwrap_or_default();
        let servers: Api<StorageServer> = Api::namespaced(self.client.clone(), &namespace);
        let clusters: Api<Cluster> = Api::namespaced(self.client.clone(), &namespace);
        let cluster =
            clusters.get_opt(&server.spec.cluster).await.map_err(api_error("reading the Cluster"))?;
        let pass = Pass { reconciler: self, servers, cluster };
        if is_deleted(server.as_ref()) {
            return pass.delete(&server).await;
        }
        let server = add_finalizer(&pass.servers, server.as_ref(), FINALIZER)
            .await
            .map_err(api_error("adding the finalizer"))?;
        if let Some(operation) = pass.operation(&server).await? {
            return pass.follow(&server, &operation).await;
        }
        pass.converge(&server).await
    }
}

struct Pass<'a> {
    reconciler: &'a StorageReconciler,
    servers: Api<StorageServer>,
    cluster: Option<Cluster>,
}

impl Pass<'_> {
    fn members(&self) -> Vec<ClusterMember> {
        let status = self.cluster.iter().flat_map(|cluster| &cluster.status);
        status.flat_map(|status| &status.members).cloned().collect()
    }

    /// The operation that the status names.
    async fn operation(&self, server: &StorageServer) -> Result<Option<Operation>, ReconcileError> {
        let Some(reference) = server.status.as_ref().and_then(|status| status.operation.as_ref()) else {
            return Ok(None);
        };
        let own = server.namespace().unwrap_or_default();
        let namespace = if reference.namespace.is_empty() { &own } else { &reference.namespace };
        let operations: Api<Operation> = Api::namespaced(self.reconciler.client.clone(), namespace);
        operations.get_opt(&reference.name).await.map_err(api_error("reading the operation"))
    }

    async fn say(
        &self,
        server: &StorageServer,
        phase: StorageServerPhase,
        why: &str,
    ) -> Result<(), ReconcileError> {
        let is_new = server.status.as_ref().is_none_or(|status| status.message != why);
        update_status(&self.servers, server, |status: &mut StorageServerStatus| {
            status.phase = phase;
            why.clone_into(&mut status.message);
            let is_ready = condition("Ready", false, &format!("{phase:?}"), why);
            set_condition(&mut status.conditions, is_ready, Timestamp::now());
        })
        .await?;
        if is_new && matches!(phase, StorageServerPhase::Failed | StorageServerPhase::Blocked) {
            let reason = if phase == StorageServerPhase::Blocked { "InUse" } else { "Failed" };
            self.reconciler.events.publish(&reference_to(server), EventKind::Warning, reason, why);
        }
        Ok(())
    }

    async fn converge(&self, server: &StorageServer) -> Result<Requeue, ReconcileError> {
        let Some(cluster) = &self.cluster else {
            let why = format!("Cluster {} does not exist", server.spec.cluster);
            self.say(server, StorageServerPhase::Pending, &why).await?;
            return Ok(Requeue::OnChange);
        };
        if let Err(invalid) = model::validate(&server.spec, cluster) {
            self.say(server, StorageServerPhase::Failed, &invalid.to_string()).await?;
            return Ok(Requeue::OnChange);
        }
        let members = self.members();
        let place = model::place(&server.spec, &members);
        let is_up = cluster.spec.external.is_some() || members.iter().any(|member| member.ready);
        let (Some(place), true) = (place, is_up) else {
            self.say(server, StorageServerPhase::Pending, "waiting for the cluster and its hosts").await?;
            return Ok(Requeue::OnChange);
        };
        let wanted = Wanted::of(server, &members, &place);
        let status = server.status.clone().unwrap_or_default();
        if wanted.is_so(server, &status) {
            return Ok(Requeue::OnChange);
        }
        let change = wanted.change(server, &status, cluster, &members);
        let subject = reference_to(server);
        let operation = self.begin(server, plan::converge(&subject, &change)?, "converge").await?;
        update_status(&self.servers, server, |status: &mut StorageServerStatus| {
            status.phase = StorageServerPhase::Preparing;
            status.operation = Some(reference_to(&operation));
            status.message = format!("on host {}", place.host);
        })
        .await?;
        Ok(Requeue::OnChange)
    }

    async fn begin(
        &self,
        server: &StorageServer,
        spec: drystone_api::OperationSpec,
        purpose: &str,
    ) -> Result<Operation, ReconcileError> {
        let attempt = server.status.as_ref().map_or(0, |status| status.attempts);
        let name = operation_name(&reference_to(server), &format!("{purpose}-{attempt}"));
        Ok(start(&self.reconciler.client, &name, spec).await?)
    }

    /// An operation is at work, or has ended and was not taken note of.
    async fn follow(&self, server: &StorageServer, operation: &Operation) -> Result<Requeue, ReconcileError> {
        let state = operation.status.clone().unwrap_or_default();
        if !state.phase.is_final() {
            let message = format!("{} % – {}", state.progress_percent, state.message);
            update_status(&self.servers, server, |status: &mut StorageServerStatus| {
                status.message.clone_from(&message);
            })
            .await?;
            return Ok(Requeue::OnChange);
        }
        let succeeded = state.phase == OperationPhase::Succeeded;
        let members = self.members();
        let place = model::place(&server.spec, &members);
        let volumes = prepared(operation);
        let wanted = place.as_ref().map(|place| Wanted::of(server, &members, place));
        let (Some(wanted), true) = (wanted, succeeded) else {
            let blocked = state.message.contains(IN_USE);
            let phase = if blocked { StorageServerPhase::Blocked } else { StorageServerPhase::Failed };
            self.conclude(server).await?;
            self.say(server, phase, &state.message).await?;
            return Ok(Requeue::After(RETRY));
        };
        update_status(&self.servers, server, |status: &mut StorageServerStatus| {
            status.operation = None;
            status.attempts += 1;
            status.phase = StorageServerPhase::Ready;
            status.message.clear();
            wanted.write(status);
            status.volumes.clone_from(&volumes);
            set_condition(&mut status.conditions, condition("Ready", true, "Ready", ""), Timestamp::now());
        })
        .await?;
        let note = format!("{} serves {} PersistentVolumes", wanted.host, wanted.persistent_volumes.len());
        self.reconciler.events.publish(&reference_to(server), EventKind::Normal, "Ready", &note);
        Ok(Requeue::After(Duration::ZERO))
    }

    async fn conclude(&self, server: &StorageServer) -> Result<(), ReconcileError> {
        update_status(&self.servers, server, |status: &mut StorageServerStatus| {
            status.operation = None;
            status.attempts += 1;
        })
        .await
        .map(drop)
        .map_err(Into::into)
    }

    async fn delete(&self, server: &StorageServer) -> Result<Requeue, ReconcileError> {
        if !has_finalizer(server, FINALIZER) {
            return Ok(Requeue::OnChange);
        }
        let status = server.status.clone().unwrap_or_default();
        let deleting = status.phase == StorageServerPhase::Deleting;
        if let Some(operation) = self.operation(server).await? {
            let state = operation.status.clone().unwrap_or_default();
            if !state.phase.is_final() {
                return Ok(Requeue::OnChange);
            }
            if deleting && state.phase == OperationPhase::Succeeded {
                return self.leave(server).await;
            }
            self.conclude(server).await?;
            if deleting {
                self.say(server, StorageServerPhase::Blocked, &state.message).await?;
                return Ok(Requeue::After(RETRY));
            }
            return Ok(Requeue::After(Duration::ZERO));
        }
        // Without its cluster there is nobody who could use it; and nothing was done before it had a host.
        if self.cluster.is_none() || status.host.is_empty() {
            return self.leave(server).await;
        }
        let registered = UnregisterParameters {
            names: status.persistent_volumes.clone(),
            servers: vec![status.address.clone()],
        };
        let is_there =
            model::place(&server.spec, &self.members()).is_some_and(|place| place.host == status.host);
        let mounts = is_there.then(|| status.mounts.clone());
        let plan = plan::dissolve(&reference_to(server), &registered, mounts)?;
        let operation = self.begin(server, plan, "delete").await?;
        update_status(&self.servers, server, |status: &mut StorageServerStatus| {
            status.phase = StorageServerPhase::Deleting;
            status.operation = Some(reference_to(&operation));
        })
        .await?;
        Ok(Requeue::OnChange)
    }

    async fn leave(&self, server: &StorageServer) -> Result<Requeue, ReconcileError> {
        remove_finalizer(&self.servers, server, FINALIZER)
            .await
            .map_err(api_error("removing the finalizer"))?;
        Ok(Requeue::OnChange)
    }
}

/// What the status says once all is done.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    generation: Option<i64>,
    host: String,
    address: String,
    persistent_volumes: Vec<String>,
    mounts: Vec<String>,
    clients: Vec<String>,
}

impl Wanted {
    fn of(server: &StorageServer, members: &[ClusterMember], place: &model::Place) -> Self {
        let spec = &server.spec;
        let networks = model::clients(spec, members).iter().map(ToString::to_string).collect::<Vec<_>>();
        let nodes = members.iter().filter(|member| member.ready).map(|member| member.host.clone());
        Self {
            generation: server.metadata.generation,
            host: place.host.clone(),
            address: place.address.to_string(),
            persistent_volumes: spec.persistent_volumes.iter().map(|volume| volume.name.clone()).collect(),
            mounts: spec.volumes.iter().map(|volume| volume.mount_to.clone()).collect(),
            clients: networks.into_iter().chain(nodes).collect(),
        }
    }

    fn is_so(&self, server: &StorageServer, status: &StorageServerStatus) -> bool {
        status.phase == StorageServerPhase::Ready
            && status.observed_generation == server.metadata.generation
            && (&status.host, &status.address, &status.clients) == (&self.host, &self.address, &self.clients)
    }

    fn write(&self, status: &mut StorageServerStatus) {
        status.observed_generation = self.generation;
        status.host.clone_from(&self.host);
        status.address.clone_from(&self.address);
        status.persistent_volumes.clone_from(&self.persistent_volumes);
        status.mounts.clone_from(&self.mounts);
        status.clients.clone_from(&self.clients);
    }

    fn change(
        &self,
        server: &StorageServer,
        status: &StorageServerStatus,
        cluster: &Cluster,
        members: &[ClusterMember],
    ) -> Change {
        let moves =
            !status.address.is_empty() && (status.address != self.address || status.host != self.host);
        let unwanted = status.persistent_volumes.iter();
        let unwanted = unwanted.filter(|name| moves || !self.persistent_volumes.contains(name)).cloned();
        let is_ours = |host: &str| status.clients.iter().any(|known| known == host);
        // Drystone's own nodes need no client; those of others that are known have theirs.
        let needs = cluster.spec.distribution.is_installed();
        let nodes = members.iter().filter(|member| needs && member.ready && !is_ours(&member.host));
        let changed = status.observed_generation != server.metadata.generation;
        let all = members.iter().filter(|member| needs && member.ready);
        let nodes: Vec<String> = if changed {
            all.map(|member| member.host.clone()).collect()
        } else {
            nodes.map(|member| member.host.clone()).collect()
        };
        Change {
            host: self.host.clone(),
            moved_from: moves.then(|| status.address.clone()),
            unwanted: unwanted.collect(),
            nodes,
        }
    }
}

/// Volumes that an operation has mounted.
fn prepared(operation: &Operation) -> Vec<drystone_api::StorageVolumeStatus> {
    let steps = operation.status.iter().flat_map(|status| &status.steps);
    let output = steps.into_iter().find(|step| step.id == plan::VOLUMES).map(|step| step.output.clone());
    let output: Option<PreparedVolumes> = output.and_then(|output| serde_json::from_value(output).ok());
    output.unwrap_or_default().volumes
}
