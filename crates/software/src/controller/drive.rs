//! Between a Rollout's status, which is its journal, and the planner: reading, writing, taking over results. Nothing here talks to
//! anybody.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use drystone_api::{
    HostRollout, HostRolloutPhase as Phase, Operation, OperationPhase, OperationSpec, PinnedSet, Rollout,
    RolloutCounts, RolloutPhase, RolloutStatus, RolloutStrategy, StepState, WaveStatus, condition,
    set_condition,
};
use drystone_engine::{
    harness::{Cache, is_deleted},
    operations::operation_name,
    reference::{ObjectKey, reference_to},
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use crate::{
    change::{Change, ChangeSet},
    facts::Snapshot,
    plan::{
        Limits, PlannedHost, PlannedWave, RolloutPlan,
        decide::{Decision, Observed, Wishes},
        forecast::Forecast,
    },
    steps::Prepared,
};

/// Hosts that are named among those that need nothing, at the most.
const NAMED: usize = 100;

/// Longest message of a host, in characters.
const LONGEST: usize = 300;

/// What a pass came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Operations to be started, when what is begun is written down.
    pub(super) operations: Vec<(String, OperationSpec)>,
    /// When to look again at the latest.
    pub(super) again: Option<Duration>,
}

/// Whether nothing more is to be done. A rollout that has ended can still be asked to return everything.
pub(super) fn is_over(rollout: &Rollout, status: &RolloutStatus) -> bool {
    let rolls_back = rollout.spec.roll_back
        && matches!(status.phase, RolloutPhase::Succeeded | RolloutPhase::Failed | RolloutPhase::Cancelled)
        && status.hosts.iter().any(|entry| entry.phase == Phase::Updated);
    let idle = !status.hosts.iter().any(|entry| entry.phase.is_under_way());
    (status.phase.is_final() && !rolls_back) || (is_deleted(rollout) && idle)
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Writes a plan down.
pub(super) fn write_plan(
    plan: &RolloutPlan,
    expected: &Forecast,
    sets: Vec<PinnedSet>,
    strategy: RolloutStrategy,
    status: &mut RolloutStatus,
) {
    status.sets = sets;
    status.strategy = Some(strategy);
    status.max_unavailable = number(plan.limits.in_all);
    status.max_unavailable_per_site =
        plan.limits.per_site.iter().map(|(site, limit)| (site.clone(), number(*limit))).collect();
    status.tolerated_failures = number(plan.tolerated_failures);
    status.waves = plan
        .waves
        .iter()
        .map(|wave| WaveStatus {
            name: wave.name.clone(),
            after: wave.after.iter().map(|index| plan.waves[*index].name.clone()).collect(),
            soak_seconds: wave.soak_seconds,
            pause: wave.pause,
            hosts: number(wave.hosts.len()),
            ..WaveStatus::default()
        })
        .collect();
    status.hosts = plan
        .waves
        .iter()
        .flat_map(|wave| wave.hosts.iter().map(|host| entry(host, &wave.name, &plan.hosts[host])))
        .collect();
    status.not_needed =
        plan.not_needed.iter().take(NAMED).map(|(host, why)| (host.clone(), why.clone())).collect();
    status.counts.not_needed = number(plan.not_needed.len());
    status.counts.hosts = number(plan.hosts.len());
    status.critical_path.clone_from(&expected.critical_path);
    status.estimate_seconds = expected.seconds;
    status.remaining_seconds = Some(expected.seconds);
    status.phase = RolloutPhase::Running;
    status.message = format!("{} hosts need it", plan.hosts.len());
}

fn entry(host: &str, wave: &str, planned: &PlannedHost) -> HostRollout {
    let is_image = |change: &Change| matches!(change, Change::Image { .. });
    let changes = &planned.changes;
    HostRollout {
        host: host.to_owned(),
        site: planned.site.clone(),
        cluster: planned.cluster.clone(),
        control_plane: planned.control_plane,
        wave: wave.to_owned(),
        changes: changes.changes.iter().map(ToString::to_string).collect(),
        changes_image: changes.changes.iter().any(is_image),
        changes_software: changes.changes.iter().any(|change| !is_image(change)),
        drain: changes.drain,
        reboot: changes.reboot,
        estimate_seconds: planned.estimate_seconds,
        ..HostRollout::default()
    }
}

/// Reads a plan back.
pub(super) fn read_plan(status: &RolloutStatus) -> RolloutPlan {
    let index_of: BTreeMap<&str, usize> =
        status.waves.iter().enumerate().map(|(index, wave)| (wave.name.as_str(), index)).collect();
    let mut waves: Vec<PlannedWave> = status
        .waves
        .iter()
        .map(|wave| PlannedWave {
            name: wave.name.clone(),
            after: wave.after.iter().filter_map(|name| index_of.get(name.as_str()).copied()).collect(),
            hosts: Vec::new(),
            soak_seconds: wave.soak_seconds,
            pause: wave.pause,
        })
        .collect();
    let mut hosts = BTreeMap::new();
    for entry in &status.hosts {
        let Some(&wave) = index_of.get(entry.wave.as_str()) else { continue };
        waves[wave].hosts.push(entry.host.clone());
        let planned = PlannedHost {
            site: entry.site.clone(),
            cluster: entry.cluster.clone(),
            control_plane: entry.control_plane,
            wave,
            changes: ChangeSet { drain: entry.drain, reboot: entry.reboot, changes: Vec::new() },
            estimate_seconds: entry.estimate_seconds,
        };
        hosts.insert(entry.host.clone(), planned);
    }
    let count = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX);
    RolloutPlan {
        waves,
        hosts,
        not_needed: status.not_needed.clone(),
        limits: Limits {
            in_all: count(status.max_unavailable),
            per_site: status
                .max_unavailable_per_site
                .iter()
                .map(|(site, limit)| (site.clone(), count(*limit)))
                .collect(),
        },
        tolerated_failures: count(status.tolerated_failures),
    }
}

/// The operation of a host that is under way.
pub(super) fn operation_of(
    operations: &Cache<Operation>,
    namespace: &str,
    entry: &HostRollout,
) -> Option<std::sync::Arc<Operation>> {
    operations.get(&ObjectKey::new(namespace, &entry.operation))
}

/// Takes over what became of operations.
pub(super) fn take_results(
    status: &mut RolloutStatus,
    operations: &Cache<Operation>,
    namespace: &str,
    snapshot: &Snapshot,
) {
    let unreachable: BTreeMap<&str, &String> = snapshot
        .hosts
        .iter()
        .filter_map(|host| Some((host.name.as_str(), host.unreachable.as_ref()?)))
        .collect();
    for entry in status.hosts.iter_mut().filter(|entry| entry.phase.is_under_way()) {
        let Some(operation) = operation_of(operations, namespace, entry) else { continue };
        let unreachable = unreachable.get(entry.host.as_str()).map(|reason| (*reason).clone());
        take_result(entry, &operation, unreachable);
    }
}

fn take_result(entry: &mut HostRollout, operation: &Operation, unreachable: Option<String>) {
    let Some(journal) = &operation.status else { return };
    entry.message = journal.message.chars().take(LONGEST).collect();
    let step = |id: &str| journal.steps.iter().find(|step| step.id == id);
    if let Some(prepared) = step("prepare").filter(|step| step.state == StepState::Succeeded)
        && entry.former.is_none()
    {
        let read: Result<Prepared, _> = serde_json::from_value(prepared.output.clone());
        entry.former = read.ok().map(|prepared| prepared.former);
    }
    if !journal.phase.is_final() {
        return;
    }
    let backwards = entry.phase == Phase::RollingBack;
    // Nothing was changed on a host that was not even prepared.
    let untouched = step("prepare").is_some_and(|step| step.state == StepState::Failed);
    entry.phase = match (journal.phase, backwards) {
        (OperationPhase::Succeeded, false) => Phase::Updated,
        (OperationPhase::Succeeded, true) => Phase::RolledBack,
        (_, true) => Phase::Failed,
        _ if untouched && unreachable.is_some() => Phase::Deferred,
        (OperationPhase::Undone, false) => Phase::FailedRolledBack,
        _ if untouched => Phase::FailedRolledBack,
        _ => Phase::Failed,
    };
    if let (Phase::Deferred, Some(reason)) = (entry.phase, unreachable) {
        entry.message = reason.chars().take(LONGEST).collect();
    }
    if entry.phase == Phase::Updated {
        entry.message.clear();
    }
    entry.finished_at = Some(journal.finished_at.clone().unwrap_or_else(|| Time(Timestamp::now())));
}

/// What the planner is to know.
pub(super) fn observe(
    rollout: &Rollout,
    status: &mut RolloutStatus,
    snapshot: &Snapshot,
    busy: BTreeMap<String, String>,
) -> Observed {
    let known: BTreeMap<&str, &crate::select::HostFacts> =
        snapshot.hosts.iter().map(|host| (host.name.as_str(), host)).collect();
    for entry in &mut status.hosts {
        let gone = !known.contains_key(entry.host.as_str());
        if gone && matches!(entry.phase, Phase::Pending | Phase::Deferred) {
            entry.phase = Phase::Skipped;
            entry.message = "its BareMetalHost was deleted".to_owned();
        }
    }
    let spec = &rollout.spec;
    let scope = status.strategy.as_ref().map(|strategy| strategy.roll_back.scope).unwrap_or_default();
    Observed {
        phases: status.hosts.iter().map(|entry| (entry.host.clone(), entry.phase)).collect(),
        unavailable: snapshot.unavailable.clone(),
        unreachable: snapshot
            .hosts
            .iter()
            .filter_map(|host| Some((host.name.clone(), host.unreachable.clone()?)))
            .collect(),
        busy,
        control_planes: snapshot.control_planes.clone(),
        finished_waves: status
            .waves
            .iter()
            .filter_map(|wave| Some((wave.name.clone(), wave.finished_at.as_ref()?.0.as_second())))
            .collect(),
        now: Timestamp::now().as_second(),
        wishes: Wishes {
            approved: spec.approved,
            approved_waves: spec.approved_waves.iter().cloned().collect(),
            paused: spec.paused,
            cancel: spec.cancel || is_deleted(rollout),
            roll_back: spec.roll_back,
            scope,
        },
    }
}

/// Writes a decision down; names the hosts that begin.
pub(super) fn apply(rollout: &Rollout, status: &mut RolloutStatus, decision: &Decision) -> BTreeSet<String> {
    let now = Time(Timestamp::now());
    let subject = reference_to(rollout);
    let [roll_back, start] =
        [&decision.roll_back, &decision.start].map(|hosts| hosts.iter().collect::<BTreeSet<&String>>());
    let mut begun = BTreeSet::new();
    for entry in &mut status.hosts {
        let host = &entry.host;
        let backwards = roll_back.contains(host);
        if backwards || start.contains(host) {
            entry.attempts += 1;
            entry.phase = if backwards { Phase::RollingBack } else { Phase::Running };
            let verb = if backwards { "return" } else { "update" };
            entry.operation = operation_name(&subject, &format!("{verb}-{}-{host}", entry.attempts));
            entry.started_at = Some(now.clone());
            entry.finished_at = None;
            entry.message.clear();
            begun.insert(host.clone());
        } else if let Some(reason) = decision.defer.get(host) {
            entry.phase = Phase::Deferred;
            entry.message = reason.chars().take(LONGEST).collect();
        } else if entry.phase == Phase::Pending || entry.phase == Phase::Updated {
            entry.message = decision.waiting.get(host).cloned().unwrap_or_default();
        }
    }
    for wave in &mut status.waves {
        let count = |wanted: &dyn Fn(Phase) -> bool| {
            let mine = status.hosts.iter().filter(|entry| entry.wave == wave.name);
            number(mine.filter(|entry| wanted(entry.phase)).count())
        };
        wave.updated = count(&|phase| phase == Phase::Updated);
        wave.failed = count(&Phase::is_failure);
        wave.deferred = count(&|phase| phase == Phase::Deferred);
        if decision.finished_waves.contains(&wave.name) && wave.finished_at.is_none() {
            wave.finished_at = Some(now.clone());
        }
    }
    conclude(status, decision, &now);
    begun
}

fn conclude(status: &mut RolloutStatus, decision: &Decision, now: &Time) {
    let count = |wanted: &dyn Fn(Phase) -> bool| {
        number(status.hosts.iter().filter(|entry| wanted(entry.phase)).count())
    };
    status.counts = RolloutCounts {
        hosts: number(status.hosts.len()),
        updated: count(&|phase| phase == Phase::Updated),
        running: count(&Phase::is_under_way),
        failed: count(&Phase::is_failure),
        deferred: count(&|phase| phase == Phase::Deferred),
        rolled_back: count(&|phase| matches!(phase, Phase::RolledBack | Phase::FailedRolledBack)),
        not_needed: status.counts.not_needed,
    };
    status.phase = decision.phase;
    status.message.clone_from(&decision.message);
    status.current_wave.clone_from(&decision.current_wave);
    let seconds = |wanted: &dyn Fn(Phase) -> bool| -> u64 {
        let some = status.hosts.iter().filter(|entry| wanted(entry.phase));
        some.map(|entry| u64::from(entry.estimate_seconds)).sum()
    };
    let left = seconds(&|phase| matches!(phase, Phase::Pending | Phase::Running | Phase::RollingBack));
    let all = seconds(&|_| true).max(1);
    let remaining = u64::from(status.estimate_seconds) * left / all;
    let ended = status.phase.is_final();
    status.remaining_seconds = (!ended).then(|| u32::try_from(remaining).unwrap_or(u32::MAX));
    if ended && status.finished_at.is_none() {
        status.finished_at = Some(now.clone());
    }
    if !ended {
        status.finished_at = None;
    }
    let phase = format!("{:?}", status.phase);
    let done = status.phase == RolloutPhase::Succeeded;
    let complete = condition("Complete", done, &phase, status.message.clone());
    let progressing = condition("Progressing", !ended, &phase, status.message.clone());
    set_condition(&mut status.conditions, complete, now.0);
    set_condition(&mut status.conditions, progressing, now.0);
}
