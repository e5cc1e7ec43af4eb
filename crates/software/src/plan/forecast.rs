//! How long a rollout takes if every host takes as long as is expected, and which hosts that depends on. Pure.

use std::collections::{BTreeMap, BTreeSet};

use drystone_api::HostRolloutPhase as Phase;

use super::{
    RolloutPlan,
    decide::{ControlPlanes, Observed, Wishes, decide},
};

/// What is expected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forecast {
    /// How long it takes, in seconds, without hosts that cannot be reached.
    pub seconds: u32,
    /// Hosts of which each had to be done before the next one could begin; the last one ends the rollout.
    pub critical_path: Vec<String>,
    /// When each host begins, in seconds from the beginning.
    pub starts: BTreeMap<String, u32>,
}

/// Lets the rollout run in imagined time.
pub fn forecast(
    plan: &RolloutPlan,
    control_planes: &BTreeMap<String, ControlPlanes>,
    unreachable: &BTreeMap<String, String>,
) -> Forecast {
    let approved_waves: BTreeSet<String> = plan.waves.iter().map(|wave| wave.name.clone()).collect();
    let mut observed = Observed {
        control_planes: control_planes.clone(),
        unreachable: unreachable.clone(),
        wishes: Wishes { approved: true, approved_waves, ..Wishes::default() },
        ..Observed::default()
    };
    let mut result = Forecast::default();
    let mut running: BTreeSet<(i64, String)> = BTreeSet::new();
    let mut cause: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut last: Option<String> = None;
    // Each round ends a host or a time of watching.
    for _ in 0..=2 * plan.hosts.len() + plan.waves.len() {
        let decision = decide(plan, &observed);
        for wave in decision.finished_waves {
            observed.finished_waves.insert(wave, observed.now);
        }
        for host in decision.defer.into_keys() {
            observed.phases.insert(host, Phase::Deferred);
        }
        for host in decision.start {
            result.starts.insert(host.clone(), u32::try_from(observed.now).unwrap_or(u32::MAX));
            cause.insert(host.clone(), last.clone());
            observed.phases.insert(host.clone(), Phase::Running);
            running.insert((observed.now + i64::from(plan.hosts[&host].estimate_seconds), host));
        }
        let soaked = decision.again_in.map(|seconds| observed.now + i64::from(seconds));
        match (running.first().cloned(), soaked) {
            (Some((end, _)), Some(soaked)) if soaked < end => observed.now = soaked,
            (Some((end, _)), _) => {
                observed.now = end;
                // Many end at the same moment: what comes next is decided once, and waits for the last of them.
                while let Some((_, host)) = running.first().filter(|(same, _)| *same == end).cloned() {
                    running.pop_first();
                    observed.phases.insert(host.clone(), Phase::Updated);
                    last = Some(host);
                }
            }
            (None, Some(soaked)) => observed.now = soaked,
            (None, None) => break,
        }
    }
    result.seconds = u32::try_from(observed.now).unwrap_or(u32::MAX);
    let mut at = last;
    while let Some(host) = at {
        at = cause.get(&host).cloned().flatten();
        result.critical_path.push(host);
    }
    result.critical_path.reverse();
    result
}
