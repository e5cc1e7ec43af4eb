//! Whether a set needs another rollout. Pure.

use std::collections::BTreeSet;

use drystone_api::{Rollout, RolloutPhase};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use super::REVISION_LABEL;

/// What a set's controller does about its rollouts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Next {
    /// Rollouts of other revisions, which are ended.
    pub(super) cancel: Vec<String>,
    /// What about this revision.
    pub(super) step: Step,
}

/// What about this revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Nobody needs anything.
    Rest,
    /// This one is at work.
    Follow(String),
    /// The last one did not succeed, and another one would not either.
    GiveUp(String),
    /// Another one is needed, of this number.
    Create(usize),
}

/// Decides, from the rollouts of a set.
pub(super) fn next(rollouts: &[Rollout], revision: &str, needed: &BTreeSet<String>) -> Next {
    let phase = |rollout: &Rollout| rollout.status.as_ref().map(|status| status.phase).unwrap_or_default();
    let is_of =
        |rollout: &&Rollout| rollout.labels().get(REVISION_LABEL).is_some_and(|label| label == revision);
    let active = |rollout: &Rollout| !phase(rollout).is_final();
    let cancel = rollouts
        .iter()
        .filter(|rollout| active(rollout) && !is_of(rollout) && !rollout.spec.cancel)
        .map(kube::ResourceExt::name_any)
        .collect();
    let newest = rollouts.iter().max_by_key(age);
    let mine = rollouts.iter().filter(is_of).max_by_key(age);
    // What failed or was ended before the set was something else for a while is tried again: somebody wants it back.
    let returned = newest.is_some_and(|newest| !is_of(&newest));
    let another = Step::Create(newest.map_or(0, number) + 1);
    let step = match mine {
        Some(last) if active(last) => Step::Follow(last.name_any()),
        _ if needed.is_empty() => Step::Rest,
        Some(_) if returned => another,
        Some(last) if phase(last) != RolloutPhase::Succeeded => Step::GiveUp(last.name_any()),
        // Failures that were tolerated are not tried again and again.
        Some(last) if needed.iter().all(|host| has_failed(last, host)) => Step::GiveUp(last.name_any()),
        _ => another,
    };
    Next { cancel, step }
}

fn has_failed(rollout: &Rollout, host: &str) -> bool {
    let hosts = rollout.status.iter().flat_map(|status| &status.hosts);
    hosts.into_iter().any(|entry| entry.host == host && entry.phase.is_failure())
}

/// Which of a set's rollouts came first. Its number says so: of two that were made in one second, the time of creation does not.
fn age(rollout: &&Rollout) -> (usize, Option<Time>) {
    (number(rollout), rollout.creation_timestamp())
}

/// The number at the end of a rollout's name. A set counts through all of its rollouts, of whichever revision.
fn number(rollout: &Rollout) -> usize {
    let name = rollout.name_any();
    name.rsplit_once('-').and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use drystone_api::{HostRollout, HostRolloutPhase, RolloutSpec, RolloutStatus};

    use super::*;

    fn rollout(name: &str, revision: &str, phase: RolloutPhase, failed: &[&str]) -> Rollout {
        let mut rollout = Rollout::new(name, RolloutSpec::of(vec!["base".to_owned()]));
        rollout.labels_mut().insert(REVISION_LABEL.to_owned(), revision.to_owned());
        let entry = |host: &&str| HostRollout {
            host: (*host).to_owned(),
            phase: HostRolloutPhase::FailedRolledBack,
            ..HostRollout::default()
        };
        let hosts = failed.iter().map(entry).collect();
        rollout.status = Some(RolloutStatus { phase, hosts, ..RolloutStatus::default() });
        rollout
    }

    #[test]
    fn a_set_gets_the_rollouts_that_it_needs_and_no_more() {
        let needed: BTreeSet<String> = ["a".to_owned()].into();
        let step = |rollouts: &[Rollout]| next(rollouts, "r2", &needed).step;
        assert_eq!(next(&[], "r2", &BTreeSet::new()).step, Step::Rest);
        assert_eq!(step(&[]), Step::Create(1));
        let done = rollout("base-r2-1", "r2", RolloutPhase::Succeeded, &[]);
        assert_eq!(step(std::slice::from_ref(&done)), Step::Create(2));
        let tolerated = rollout("base-r2-1", "r2", RolloutPhase::Succeeded, &["a"]);
        assert_eq!(step(&[tolerated]), Step::GiveUp("base-r2-1".to_owned()));
        let failed = rollout("base-r2-2", "r2", RolloutPhase::RolledBack, &[]);
        assert_eq!(step(&[done, failed]), Step::GiveUp("base-r2-2".to_owned()));
        let running = rollout("base-r2-1", "r2", RolloutPhase::Running, &[]);
        let older = rollout("base-r1-1", "r1", RolloutPhase::Running, &[]);
        let both = next(&[running, older], "r2", &needed);
        assert_eq!(both.step, Step::Follow("base-r2-1".to_owned()));
        assert_eq!(both.cancel, ["base-r1-1"]);
        let ended = rollout("base-r2-1", "r2", RolloutPhase::Cancelled, &[]);
        assert_eq!(step(std::slice::from_ref(&ended)), Step::GiveUp("base-r2-1".to_owned()));
        let between = rollout("base-r3-2", "r3", RolloutPhase::Succeeded, &[]);
        assert_eq!(step(&[ended, between]), Step::Create(3));
    }

    #[test]
    fn a_set_that_is_changed_and_returned_within_a_second_is_rolled_out_again() {
        let needed: BTreeSet<String> = ["a".to_owned()].into();
        let mut rollouts: Vec<Rollout> = Vec::new();
        for revision in ["r2", "r9", "r1", "r2"] {
            let decided = next(&rollouts, revision, &needed);
            assert_eq!(decided.step, Step::Create(rollouts.len() + 1), "{revision}: {rollouts:?}");
            let name = format!("base-{revision}-{}", rollouts.len() + 1);
            let mut made = rollout(&name, revision, RolloutPhase::Failed, &["a"]);
            made.metadata.creation_timestamp =
                serde_json::from_value(serde_json::json!("2026-01-01T00:00:00Z")).unwrap();
            rollouts.push(made);
            assert_eq!(next(&rollouts, revision, &needed).step, Step::GiveUp(name), "once, not for ever");
        }
    }
}
