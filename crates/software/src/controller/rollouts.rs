//! One pass over a Rollout: planned once, then driven host by host until nothing is left.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use drystone_api::{
    Artifact, Operation, PinnedSet, Rollout, RolloutPhase, RolloutStatus, SoftwareSet, condition,
    set_condition,
};
use drystone_engine::{
    events::EventKind,
    harness::{Cache, Reconciler, Requeue, add_finalizer, has_finalizer, is_deleted, remove_finalizer},
    operations::{StartError, start},
    reference::{ObjectKey, is_conflict, is_not_found, reference_to},
};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, PostParams},
};

use super::{FINALIZER, SoftwareConfig, drive, pace::Pace};
use crate::{
    facts::{ApiError, Known, all, api_error},
    pin::pin,
    plan::{PlanInput, forecast::forecast, plan},
    steps,
    validate::{Refusal, in_one_line, software_set},
};

/// How often a rollout is looked at in which hosts cannot be reached.
const LOOK: Duration = Duration::from_secs(10);

/// Operations that are created at the same time.
const STARTS: usize = 16;

/// What went wrong in a pass for reasons that are not the rollout's.
#[derive(Debug, thiserror::Error)]
pub(super) enum RolloutError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("planning the operation for {host}: {source}")]
    Plan { host: String, source: drystone_engine::plan::PlanError },
}

/// The controller.
pub(super) struct RolloutReconciler {
    pub(super) client: Client,
    pub(super) config: SoftwareConfig,
    pub(super) operations: Cache<Operation>,
    pub(super) artifacts: Cache<Artifact>,
    pub(super) known: Known,
    /// Hosts that each Rollout works on, as this controller has written it last: nobody else writes it. Empty until the first pass reads it.
    pub(super) at_work: Mutex<Option<HashMap<ObjectKey, Vec<String>>>>,
    pub(super) pace: Pace,
}

impl Reconciler for RolloutReconciler {
    type Object = Rollout;
    type Error = RolloutError;

    const NAME: &'static str = "rollout";

    async fn reconcile(&self, seen: Arc<Rollout>) -> Result<Requeue, RolloutError> {
        let namespace = seen.namespace().unwrap_or_default();
        let api: Api<Rollout> = Api::namespaced(self.client.clone(), &namespace);
        let _begun = self.pace.begin(Duration::ZERO).await;
        // What the watch shows may be older than what this controller wrote last.
        let rollout = match api.get(&seen.name_any()).await {
            Ok(rollout) => rollout,
            Err(error) if is_not_found(&error) => {
                self.note(&seen, None);
                return Ok(Requeue::OnChange);
            }
            Err(error) => return Err(api_error("reading the Rollout")(error).into()),
        };
        if is_deleted(&rollout) && !has_finalizer(&rollout, FINALIZER) {
            return Ok(Requeue::OnChange);
        }
        let mut rollout =
            add_finalizer(&api, &rollout, FINALIZER).await.map_err(api_error("adding the finalizer"))?;
        // What was written although the answer was lost counts too.
        self.note(&rollout, rollout.status.as_ref());
        let before = rollout.status.clone().unwrap_or_default();
        let mut status = before.clone();
        let outcome = if needs_plan(&rollout, &status) {
            self.make_plan(&rollout, &mut status).await?;
            drive::Outcome { again: Some(Duration::from_millis(1)), ..drive::Outcome::default() }
        } else if drive::is_over(&rollout, &status) {
            drive::Outcome::default()
        } else {
            self.drive(&rollout, &mut status).await?
        };
        status.observed_generation = rollout.metadata.generation;
        if status != before {
            self.tell(&rollout, before.phase, &status);
            rollout.status = Some(status.clone());
            // What is begun is written down first: whoever comes after a crash finds it, and does it.
            match api.replace_status(&rollout.name_any(), &PostParams::default(), &rollout).await {
                Ok(written) => {
                    self.note(&written, written.status.as_ref());
                    rollout = written;
                }
                Err(error) if is_conflict(&error) || is_not_found(&error) => {
                    return Ok(Requeue::After(Duration::from_millis(20)));
                }
                Err(error) => return Err(api_error("writing the status of the Rollout")(error).into()),
            }
        }
        futures::stream::iter(outcome.operations)
            .map(|(name, operation)| async move { start(&self.client, &name, operation).await.map(drop) })
            .buffer_unordered(STARTS)
            .try_collect::<()>()
            .await?;
        let under_way = status.hosts.iter().any(|host| host.phase.is_under_way());
        if is_deleted(&rollout) && !under_way {
            remove_finalizer(&api, &rollout, FINALIZER).await.map_err(api_error("removing the finalizer"))?;
        }
        Ok(outcome.again.map_or(Requeue::OnChange, Requeue::After))
    }
}

/// Hosts that a Rollout works on.
fn under_way(status: Option<&RolloutStatus>) -> Vec<String> {
    let hosts = status.into_iter().flat_map(|status| &status.hosts);
    hosts.filter(|entry| entry.phase.is_under_way()).map(|entry| entry.host.clone()).collect()
}

/// Whether it was never planned, or what was planned made no sense and something was changed.
fn needs_plan(rollout: &Rollout, status: &RolloutStatus) -> bool {
    match status.phase {
        RolloutPhase::Pending => !is_deleted(rollout),
        RolloutPhase::Invalid => status.observed_generation != rollout.metadata.generation,
        _ => false,
    }
}

impl RolloutReconciler {
    /// The sets that are rolled out, as they are now.
    async fn pinned(&self, rollout: &Rollout) -> Result<Result<Vec<PinnedSet>, Vec<Refusal>>, ApiError> {
        let namespace = rollout.namespace().unwrap_or_default();
        let sets: Vec<SoftwareSet> = all(&self.client, &namespace).await?;
        self.artifacts.ready().await;
        let artifacts: Vec<Artifact> =
            self.artifacts.list().iter().map(|artifact| (**artifact).clone()).collect();
        let (mut pinned, mut refusals) = (Vec::new(), Vec::new());
        for (index, name) in rollout.spec.sets.iter().enumerate() {
            let field = format!("spec.sets[{index}]");
            let Some(set) = sets.iter().find(|set| set.name_any() == *name) else {
                refusals.push(Refusal::new(field, format!("there is no SoftwareSet {namespace}/{name}")));
                continue;
            };
            let wrong = software_set(&set.spec);
            let resolved = if wrong.is_empty() { pin(set, &artifacts) } else { Err(wrong) };
            match resolved {
                Ok(resolved) => pinned.push(resolved.set),
                Err(wrong) => {
                    let reason = format!("SoftwareSet {name}: {}", in_one_line(&wrong));
                    refusals.push(Refusal::new(field, reason));
                }
            }
        }
        Ok(if refusals.is_empty() { Ok(pinned) } else { Err(refusals) })
    }

    async fn make_plan(&self, rollout: &Rollout, status: &mut RolloutStatus) -> Result<(), ApiError> {
        let now = Timestamp::now();
        let invalid = |refusals: &[Refusal], status: &mut RolloutStatus| {
            status.phase = RolloutPhase::Invalid;
            status.message = in_one_line(refusals);
            let planned = condition("Planned", false, "Invalid", status.message.clone());
            set_condition(&mut status.conditions, planned, now);
        };
        let sets = match self.pinned(rollout).await? {
            Ok(sets) => sets,
            Err(refusals) => {
                invalid(&refusals, status);
                return Ok(());
            }
        };
        let namespace = rollout.namespace().unwrap_or_default();
        let strategy = match &rollout.spec.strategy {
            Some(strategy) => strategy.clone(),
            None => {
                let api: Api<SoftwareSet> = Api::namespaced(self.client.clone(), &namespace);
                let first = rollout.spec.sets.first().map(String::as_str).unwrap_or_default();
                let set = api.get_opt(first).await.map_err(api_error("reading the SoftwareSet"))?;
                set.map(|set| set.spec.strategy).unwrap_or_default()
            }
        };
        let snapshot = self.known.gather(&namespace, &sets).await;
        let input = PlanInput {
            sets: &sets,
            hosts: &snapshot.hosts,
            strategy: &strategy,
            timing: self.config.timing,
        };
        match plan(&input) {
            Ok(made) => {
                let unreachable: BTreeMap<String, String> = snapshot
                    .hosts
                    .iter()
                    .filter_map(|host| Some((host.name.clone(), host.unreachable.clone()?)))
                    .collect();
                let expected = forecast(&made, &snapshot.control_planes, &unreachable);
                drive::write_plan(&made, &expected, sets, strategy, status);
                status.started_at = Some(Time(now));
                let text = format!("{} hosts in {} waves", made.hosts.len(), made.waves.len());
                set_condition(&mut status.conditions, condition("Planned", true, "Planned", text), now);
            }
            Err(refusals) => invalid(&refusals, status),
        }
        Ok(())
    }

    /// Sees what became of the hosts, and begins with those whose turn it is.
    async fn drive(
        &self,
        rollout: &Rollout,
        status: &mut RolloutStatus,
    ) -> Result<drive::Outcome, RolloutError> {
        let namespace = rollout.namespace().unwrap_or_default();
        let snapshot = self.known.gather(&namespace, &status.sets).await;
        self.operations.ready().await;
        let mut outcome = drive::Outcome::default();
        // What was written down as begun, but not done before a crash.
        for entry in status.hosts.iter().filter(|entry| entry.phase.is_under_way()) {
            if drive::operation_of(&self.operations, &namespace, entry).is_none() {
                outcome.operations.push(self.operation(rollout, status, entry)?);
            }
        }
        drive::take_results(status, &self.operations, &namespace, &snapshot);
        let busy = self.busy(rollout).await?;
        let observed = drive::observe(rollout, status, &snapshot, busy);
        let made = drive::read_plan(status);
        let decision = crate::plan::decide::decide(&made, &observed);
        let begun = drive::apply(rollout, status, &decision);
        for entry in status.hosts.iter().filter(|entry| begun.contains(&entry.host)) {
            outcome.operations.push(self.operation(rollout, status, entry)?);
        }
        let waits = status.phase == RolloutPhase::AwaitingHosts
            || status.counts.deferred > 0
            || !decision.waiting.is_empty();
        let soon = decision.again_in.map(|seconds| Duration::from_secs(u64::from(seconds).max(1)));
        outcome.again = match (soon, waits && !status.phase.is_final()) {
            (Some(soon), true) => Some(soon.min(LOOK)),
            (None, true) => Some(LOOK),
            (soon, false) => soon,
        };
        Ok(outcome)
    }

    /// The operation that a host which is under way has, by name.
    fn operation(
        &self,
        rollout: &Rollout,
        status: &RolloutStatus,
        entry: &drystone_api::HostRollout,
    ) -> Result<(String, drystone_api::OperationSpec), RolloutError> {
        let subject = reference_to(rollout);
        let strategy = status.strategy.clone().unwrap_or_default();
        let timing = self.config.timing;
        let spec = if entry.phase == drystone_api::HostRolloutPhase::RollingBack {
            steps::roll_back(subject, entry, &strategy, timing)
        } else {
            steps::update(subject, entry, &strategy, timing)
        };
        let spec = spec.map_err(|source| RolloutError::Plan { host: entry.host.clone(), source })?;
        Ok((entry.operation.clone(), spec))
    }

    /// Hosts that other rollouts work on.
    async fn busy(&self, rollout: &Rollout) -> Result<BTreeMap<String, String>, ApiError> {
        let namespace = rollout.namespace().unwrap_or_default();
        if self.at_work().is_none() {
            // Those of other namespaces are no concern of each other, but all are read at once.
            let all: Vec<Rollout> = Api::all(self.client.clone())
                .list(&ListParams::default())
                .await
                .map_err(api_error("listing Rollouts"))?
                .items;
            let known = all.iter().map(|other| (ObjectKey::of(other), under_way(other.status.as_ref())));
            self.at_work().get_or_insert_with(|| known.collect());
        }
        let own = ObjectKey::of(rollout);
        let mut busy = BTreeMap::new();
        for (other, hosts) in self.at_work().iter().flatten() {
            if other.namespace == namespace && *other != own {
                let why = format!("Rollout {}", other.name);
                busy.extend(hosts.iter().map(|host| (host.clone(), why.clone())));
            }
        }
        Ok(busy)
    }

    fn at_work(&self) -> MutexGuard<'_, Option<HashMap<ObjectKey, Vec<String>>>> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what was written of a Rollout.
    fn note(&self, rollout: &Rollout, status: Option<&RolloutStatus>) {
        if let Some(known) = self.at_work().as_mut() {
            let hosts = under_way(status);
            if hosts.is_empty() {
                known.remove(&ObjectKey::of(rollout));
            } else {
                known.insert(ObjectKey::of(rollout), hosts);
            }
        }
    }

    fn tell(&self, rollout: &Rollout, before: RolloutPhase, status: &RolloutStatus) {
        if before == status.phase {
            return;
        }
        let (kind, reason) = match status.phase {
            RolloutPhase::Running => (EventKind::Normal, "RolloutRunning"),
            RolloutPhase::Succeeded => (EventKind::Normal, "RolloutSucceeded"),
            RolloutPhase::AwaitingApproval => (EventKind::Normal, "ApprovalNeeded"),
            RolloutPhase::AwaitingHosts => (EventKind::Warning, "HostsUnreachable"),
            RolloutPhase::RollingBack => (EventKind::Warning, "RollingBack"),
            RolloutPhase::RolledBack => (EventKind::Warning, "RolledBack"),
            RolloutPhase::Failed => (EventKind::Warning, "RolloutFailed"),
            RolloutPhase::Invalid => (EventKind::Warning, "Invalid"),
            RolloutPhase::Paused => (EventKind::Normal, "RolloutPaused"),
            RolloutPhase::Cancelled => (EventKind::Normal, "RolloutCancelled"),
            RolloutPhase::Pending => return,
        };
        self.config.events.publish(&reference_to(rollout), kind, reason, &status.message);
    }
}
