//! What to do now: which hosts may begin, which are returned to what was there, which wait and for what. Pure.

use std::collections::{BTreeMap, BTreeSet};

use drystone_api::{HostRolloutPhase as Phase, RollBackScope, RolloutPhase};

use super::RolloutPlan;

/// The control planes of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ControlPlanes {
    /// All of them.
    pub members: BTreeSet<String>,
    /// Those that do not serve, whatever the reason.
    pub down: BTreeSet<String>,
}

impl ControlPlanes {
    /// How many may be out of service: less than half of three or more. Of one or two each is needed, so there the cluster's API
    /// pauses while one of them is updated.
    fn spare(&self) -> usize {
        (self.members.len().saturating_sub(1) / 2).max(1)
    }
}

/// What has become of the hosts so far, and what else is going on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Where each host is; those that are missing are pending.
    pub phases: BTreeMap<String, Phase>,
    /// Hosts that are out of service whatever this rollout does.
    pub unavailable: BTreeSet<String>,
    /// Hosts that cannot be reached, and why.
    pub unreachable: BTreeMap<String, String>,
    /// Hosts that something else works on, and what.
    pub busy: BTreeMap<String, String>,
    /// Control planes by cluster.
    pub control_planes: BTreeMap<String, ControlPlanes>,
    /// When waves were done, in seconds of the same clock as `now`.
    pub finished_waves: BTreeMap<String, i64>,
    /// The time, in seconds.
    pub now: i64,
    /// What people say.
    pub wishes: Wishes,
}

/// What people say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// It may begin.
    pub approved: bool,
    /// Waves that may begin.
    pub approved_waves: BTreeSet<String>,
    /// Begin with nothing new.
    pub paused: bool,
    /// End it.
    pub cancel: bool,
    /// End it, and return everything to what was there.
    pub roll_back: bool,
    /// Which hosts are returned to what was there when some fail.
    pub scope: RollBackScope,
}

/// What to do now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// Hosts to begin with.
    pub start: Vec<String>,
    /// Hosts to return to what was there.
    pub roll_back: Vec<String>,
    /// Hosts whose turn it would be, and why they cannot be reached.
    pub defer: BTreeMap<String, String>,
    /// Hosts that wait though their wave has begun, and for what.
    pub waiting: BTreeMap<String, String>,
    /// Waves that are done now.
    pub finished_waves: Vec<String>,
    /// Where the rollout is.
    pub phase: RolloutPhase,
    /// The first wave that is not done.
    pub current_wave: String,
    /// What is going on.
    pub message: String,
    /// When to look again at the latest, in seconds from now, because time itself decides.
    pub again_in: Option<u32>,
}

/// Decides.
pub fn decide(plan: &RolloutPlan, observed: &Observed) -> Decision {
    let tally = Tally::new(plan, observed);
    let wishes = &observed.wishes;
    let too_many = tally.failures > plan.tolerated_failures;
    if wishes.roll_back || (too_many && wishes.scope == RollBackScope::Everything) {
        return return_everything(plan, observed, &tally);
    }
    let stopped = |phase, under_way: &str, message: String| Decision {
        phase: if tally.under_way == 0 { phase } else { RolloutPhase::Running },
        message: if tally.under_way == 0 {
            message
        } else {
            format!("{message}; {} {under_way}", tally.under_way)
        },
        ..Decision::default()
    };
    if wishes.cancel {
        return stopped(RolloutPhase::Cancelled, "hosts are brought to an end", "cancelled".to_owned());
    }
    if too_many {
        let message = format!("{} hosts failed, {} are tolerated", tally.failures, plan.tolerated_failures);
        return stopped(RolloutPhase::Failed, "hosts are brought to an end", message);
    }
    if !wishes.approved && !plan.hosts.is_empty() {
        let message = format!("{} hosts need it; set spec.approved to begin", plan.hosts.len());
        return Decision { phase: RolloutPhase::AwaitingApproval, message, ..Decision::default() };
    }
    let mut decision = go_on(plan, observed, &tally);
    conclude(plan, observed, &tally, &mut decision);
    decision
}

fn phase_of(observed: &Observed, host: &str) -> Phase {
    observed.phases.get(host).copied().unwrap_or_default()
}

/// What counts against the limits.
#[derive(Clone, Default)]
struct Tally<'a> {
    /// Hosts of the plan or its sites that are out of service, or may be.
    out: BTreeSet<&'a str>,
    out_per_site: BTreeMap<&'a str, usize>,
    under_way: usize,
    failures: usize,
    updated: usize,
    deferred: usize,
}

impl<'a> Tally<'a> {
    fn new(plan: &'a RolloutPlan, observed: &'a Observed) -> Self {
        let mut tally = Self::default();
        for (name, host) in &plan.hosts {
            let phase = phase_of(observed, name);
            tally.under_way += usize::from(phase.is_under_way());
            tally.failures += usize::from(phase.is_failure());
            tally.updated += usize::from(phase == Phase::Updated);
            tally.deferred += usize::from(phase == Phase::Deferred);
            // A host that cannot be reached may serve all the same; where it does not, it is among the unavailable.
            if phase.is_under_way() || observed.unavailable.contains(name) {
                tally.add(name, &host.site);
            }
        }
        for name in plan.not_needed.keys() {
            if observed.unavailable.contains(name) {
                tally.out.insert(name);
            }
        }
        tally
    }

    fn add(&mut self, host: &'a str, site: &'a str) {
        if self.out.insert(host) {
            *self.out_per_site.entry(site).or_default() += 1;
        }
    }

    /// Why the host may not be taken out of service now.
    fn hindrance(&self, name: &str, plan: &RolloutPlan, observed: &Observed) -> Option<String> {
        let host = &plan.hosts[name];
        if !self.out.contains(name) {
            if self.out.len() >= plan.limits.in_all {
                return Some(format!(
                    "{} of at most {} hosts are out of service",
                    self.out.len(),
                    plan.limits.in_all
                ));
            }
            let (here, most) = (
                self.out_per_site.get(host.site.as_str()).copied().unwrap_or(0),
                plan.limits.of_site(&host.site),
            );
            if here >= most {
                return Some(format!("{here} of at most {most} hosts of the site are out of service"));
            }
        }
        if !host.control_plane {
            return None;
        }
        let planes = observed.control_planes.get(&host.cluster)?;
        let others = planes.members.iter().filter(|member| {
            let is_out = planes.down.contains(*member) || self.out.contains(member.as_str());
            member.as_str() != name && is_out
        });
        let others = others.count();
        (others >= planes.spare()).then(|| {
            format!(
                "{others} of {} control planes of {} are out of service",
                planes.members.len(),
                host.cluster
            )
        })
    }
}

/// Whether a wave is done: nobody in it waits or is under way, and not all of it could not be reached.
fn is_done(plan: &RolloutPlan, observed: &Observed, wave: usize) -> bool {
    let wave = &plan.waves[wave];
    if observed.finished_waves.contains_key(&wave.name) {
        return true;
    }
    let phases: Vec<Phase> = wave.hosts.iter().map(|host| phase_of(observed, host)).collect();
    let settled = phases.iter().all(|phase| !phase.is_under_way() && *phase != Phase::Pending);
    settled && phases.iter().any(|phase| *phase != Phase::Deferred)
}

/// Begins with all hosts whose turn it is and whom the limits allow.
fn go_on(plan: &RolloutPlan, observed: &Observed, tally: &Tally<'_>) -> Decision {
    let mut decision = Decision { phase: RolloutPhase::Running, ..Decision::default() };
    let mut tally = tally.clone();
    let mut held: Vec<String> = Vec::new();
    for (index, wave) in plan.waves.iter().enumerate() {
        let done = is_done(plan, observed, index);
        if done && !observed.finished_waves.contains_key(&wave.name) {
            decision.finished_waves.push(wave.name.clone());
        }
        if !done && decision.current_wave.is_empty() {
            decision.current_wave.clone_from(&wave.name);
        }
        match gate(plan, observed, index) {
            Gate::Open => {}
            Gate::Soaking(seconds) => {
                let again = decision.again_in.map_or(seconds, |before| before.min(seconds));
                decision.again_in = Some(again);
                continue;
            }
            Gate::Closed => continue,
            Gate::Held => {
                held.push(wave.name.clone());
                continue;
            }
        }
        for host in &wave.hosts {
            if matches!(phase_of(observed, host), Phase::Pending | Phase::Deferred) {
                consider(host, plan, observed, &mut tally, &mut decision);
            }
        }
    }
    if !held.is_empty() && decision.start.is_empty() && tally.under_way == 0 {
        decision.phase = RolloutPhase::Paused;
        decision.message = format!("wave {} waits until spec.approvedWaves names it", held.join(", "));
    }
    decision
}

/// Begins with a host, or says why not.
fn consider<'a>(
    name: &'a str,
    plan: &'a RolloutPlan,
    observed: &Observed,
    tally: &mut Tally<'a>,
    decision: &mut Decision,
) {
    if let Some(reason) = observed.unreachable.get(name) {
        decision.defer.insert(name.to_owned(), reason.clone());
    } else if let Some(other) = observed.busy.get(name) {
        decision.waiting.insert(name.to_owned(), format!("{other} works on it"));
    } else if observed.wishes.paused {
        decision.waiting.insert(name.to_owned(), "the rollout is paused".to_owned());
    } else if let Some(hindrance) = tally.hindrance(name, plan, observed) {
        decision.waiting.insert(name.to_owned(), hindrance);
    } else {
        tally.add(name, &plan.hosts[name].site);
        decision.start.push(name.to_owned());
    }
}

/// Whether a wave may begin.
enum Gate {
    Open,
    /// A wave before it is not done.
    Closed,
    /// So many seconds are left to watch a wave before it.
    Soaking(u32),
    /// Somebody must let it go.
    Held,
}

fn gate(plan: &RolloutPlan, observed: &Observed, index: usize) -> Gate {
    let wave = &plan.waves[index];
    let mut left = 0;
    for &before in &wave.after {
        if !is_done(plan, observed, before) {
            return Gate::Closed;
        }
        let before = &plan.waves[before];
        // A wave that is done just now is watched from now on.
        let finished = observed.finished_waves.get(&before.name).copied().unwrap_or(observed.now);
        let until = finished.saturating_add(i64::from(before.soak_seconds));
        left = left.max(until.saturating_sub(observed.now));
    }
    if left > 0 {
        return Gate::Soaking(u32::try_from(left).unwrap_or(u32::MAX));
    }
    if wave.pause && !observed.wishes.approved_waves.contains(&wave.name) {
        return Gate::Held;
    }
    Gate::Open
}

/// Says where the rollout is.
fn conclude(plan: &RolloutPlan, observed: &Observed, tally: &Tally<'_>, decision: &mut Decision) {
    let newly_deferred =
        decision.defer.keys().filter(|host| phase_of(observed, host) != Phase::Deferred).count();
    let deferred = tally.deferred + newly_deferred - resumed(observed, decision);
    let settled = tally.updated
        + tally.failures
        + plan
            .hosts
            .keys()
            .filter(|host| matches!(phase_of(observed, host), Phase::Skipped | Phase::RolledBack))
            .count();
    let failed = if tally.failures == 0 {
        String::new()
    } else {
        format!(", {} failed and are tolerated", tally.failures)
    };
    if settled == plan.hosts.len() {
        decision.phase = RolloutPhase::Succeeded;
        decision.message = format!("{} hosts updated{failed}", tally.updated);
    } else if settled + deferred == plan.hosts.len() && decision.start.is_empty() {
        decision.phase = RolloutPhase::AwaitingHosts;
        decision.message =
            format!("{} hosts updated{failed}; {deferred} cannot be reached yet", tally.updated);
    } else if deferred > 0 && is_idle(tally, decision) {
        decision.phase = RolloutPhase::AwaitingHosts;
        decision.message = format!("no host of wave {} can be reached yet{failed}", decision.current_wave);
    } else if observed.wishes.paused {
        decision.phase = if tally.under_way == 0 { RolloutPhase::Paused } else { RolloutPhase::Running };
        decision.message = format!("paused; {} hosts are brought to an end", tally.under_way);
    } else if decision.message.is_empty() {
        let (done, all, now) = (tally.updated, plan.hosts.len(), tally.under_way + decision.start.len());
        decision.message = format!("{done} of {all} hosts updated, {now} under way{failed}");
    }
}

/// Whether nothing is under way, begins, waits for its place or for time to pass.
fn is_idle(tally: &Tally<'_>, decision: &Decision) -> bool {
    let waits = !decision.waiting.is_empty() || decision.again_in.is_some();
    tally.under_way == 0 && decision.start.is_empty() && !waits && decision.message.is_empty()
}

/// Deferred hosts that begin now.
fn resumed(observed: &Observed, decision: &Decision) -> usize {
    decision.start.iter().filter(|host| phase_of(observed, host) == Phase::Deferred).count()
}

/// Returns every updated host to what was there, those that came last first.
fn return_everything(plan: &RolloutPlan, observed: &Observed, tally: &Tally<'_>) -> Decision {
    let mut decision = Decision { phase: RolloutPhase::RollingBack, ..Decision::default() };
    let mut out = tally.clone();
    let backwards = plan.waves.iter().rev().flat_map(|wave| wave.hosts.iter().rev());
    let updated: Vec<&String> = backwards.filter(|host| phase_of(observed, host) == Phase::Updated).collect();
    let mut unreachable = 0;
    for host in &updated {
        if let Some(reason) = observed.unreachable.get(*host) {
            unreachable += 1;
            decision.waiting.insert((*host).clone(), reason.clone());
        } else if let Some(other) = observed.busy.get(*host) {
            decision.waiting.insert((*host).clone(), format!("{other} works on it"));
        } else if let Some(hindrance) = out.hindrance(host, plan, observed) {
            decision.waiting.insert((*host).clone(), hindrance);
        } else {
            out.add(host, &plan.hosts[*host].site);
            decision.roll_back.push((*host).clone());
        }
    }
    let why = if observed.wishes.roll_back {
        "asked for".to_owned()
    } else {
        format!("{} hosts failed, {} are tolerated", tally.failures, plan.tolerated_failures)
    };
    if updated.is_empty() && tally.under_way == 0 {
        let stuck = plan.hosts.keys().filter(|host| phase_of(observed, host) == Phase::Failed).count();
        decision.phase = if stuck == 0 { RolloutPhase::RolledBack } else { RolloutPhase::Failed };
        decision.message = if stuck == 0 {
            format!("every host is as it was ({why})")
        } else {
            format!("{stuck} hosts could not be returned to what was there ({why})")
        };
    } else {
        decision.message =
            format!("{} hosts are to be returned to what was there ({why})", updated.len() + tally.under_way);
        if unreachable > 0 {
            decision.message = format!("{}; {unreachable} cannot be reached yet", decision.message);
        }
    }
    decision
}
