//! One pass over a SoftwareSet: what of it is missing where, and the Rollout that brings it there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use drystone_api::{
    Artifact, BareMetalHost, PinnedSet, Rollout, RolloutApproval, RolloutSpec, SoftwareSet,
    SoftwareSetStatus, condition, set_condition,
};
use drystone_engine::{
    events::EventKind,
    harness::{Cache, Reconciler, Requeue, StatusError, is_deleted, update_status},
    reference::{is_conflict, owner_reference, reference_to},
};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::{
    REVISION_LABEL, SET_LABEL, SoftwareConfig,
    next::{Next, Step, next},
    pace::Pace,
};
use crate::{
    change::needs_inventory,
    facts::{ApiError, Known, Snapshot, api_error},
    pin::{Pinned, pin},
    plan::{PlanInput, RolloutPlan, plan},
    records,
    select::selects,
    validate::{Refusal, in_one_line, software_set},
};

/// Hosts that are named in a status at the most.
const NAMED: usize = 100;

/// A short pause in which changes gather: hosts change in swarms.
const GATHER: Duration = Duration::from_millis(100);

/// What went wrong in a pass for reasons that are not the set's.
#[derive(Debug, thiserror::Error)]
pub(super) enum SetError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Status(#[from] StatusError),
}

/// The controller.
pub(super) struct SetReconciler {
    pub(super) client: Client,
    pub(super) config: SoftwareConfig,
    pub(super) artifacts: Cache<Artifact>,
    pub(super) known: Known,
    pub(super) pace: Pace,
}

/// What a pass came to: reason and message of the condition `Ready`, and what else is to be told.
#[derive(Default)]
struct Verdict {
    valid: bool,
    ready: bool,
    reason: &'static str,
    message: String,
    status: SoftwareSetStatus,
}

impl Reconciler for SetReconciler {
    type Object = SoftwareSet;
    type Error = SetError;

    const NAME: &'static str = "softwareset";

    async fn reconcile(&self, set: Arc<SoftwareSet>) -> Result<Requeue, SetError> {
        if is_deleted(set.as_ref()) {
            return Ok(Requeue::OnChange);
        }
        let _begun = self.pace.begin(GATHER).await;
        let verdict = self.look(&set).await?;
        let api: Api<SoftwareSet> =
            Api::namespaced(self.client.clone(), &set.namespace().unwrap_or_default());
        let now = Timestamp::now();
        let changed = set.status.as_ref().map(|status| &status.message) != Some(&verdict.message);
        update_status(&api, set.as_ref(), |status: &mut SoftwareSetStatus| {
            let conditions = std::mem::take(&mut status.conditions);
            *status = verdict.status.clone();
            status.conditions = conditions;
            status.observed_generation = set.metadata.generation;
            status.message.clone_from(&verdict.message);
            let valid = if verdict.valid { "Accepted" } else { verdict.reason };
            let why = if verdict.valid { "" } else { &verdict.message };
            set_condition(&mut status.conditions, condition("Valid", verdict.valid, valid, why), now);
            let ready = condition("Ready", verdict.ready, verdict.reason, &verdict.message);
            set_condition(&mut status.conditions, ready, now);
        })
        .await?;
        if changed && !verdict.valid {
            let subject = reference_to(set.as_ref());
            self.config.events.publish(&subject, EventKind::Warning, verdict.reason, &verdict.message);
        }
        Ok(Requeue::OnChange)
    }
}

fn refused(reason: &'static str, refusals: &[Refusal]) -> Verdict {
    Verdict { reason, message: in_one_line(refusals), ..Verdict::default() }
}

impl SetReconciler {
    async fn look(&self, set: &SoftwareSet) -> Result<Verdict, SetError> {
        let refusals = software_set(&set.spec);
        if !refusals.is_empty() {
            return Ok(refused("Invalid", &refusals));
        }
        if !self.artifacts.ready().await {
            return Ok(refused("Stopping", &[]));
        }
        let artifacts: Vec<Artifact> =
            self.artifacts.list().iter().map(|artifact| (**artifact).clone()).collect();
        let Pinned { set: pinned, chosen } = match pin(set, &artifacts) {
            Ok(pinned) => pinned,
            Err(refusals) => return Ok(Verdict { valid: true, ..refused("ArtifactMissing", &refusals) }),
        };
        let namespace = set.namespace().unwrap_or_default();
        // Before the hosts: of a Rollout that had ended by then, what it did is seen on them.
        let rollouts = self.rollouts(set, &namespace).await?;
        let sets = [pinned];
        let snapshot = self.known.gather(&namespace, &sets).await;
        let mut verdict = Verdict { valid: true, ..Verdict::default() };
        verdict.status.revision.clone_from(&sets[0].revision);
        verdict.status.artifacts = chosen;
        let waits = self.hosts_to_be_read(&namespace, &sets[0], &snapshot).await?;
        let mut planned = self.planned(set, &sets, &snapshot);
        if planned.as_ref().is_ok_and(|plan| is_another(&next(&rollouts, &sets[0].revision, &needed(plan)))) {
            // What the one before has done may have come to the API, but not to the copies.
            let snapshot = self.known.gather_anew(&self.client, &namespace, &sets).await?;
            planned = self.planned(set, &sets, &snapshot);
        }
        let plan = match planned {
            Ok(plan) => plan,
            Err(verdict) => return Ok(*verdict),
        };
        count(&plan, &mut verdict);
        if waits > 0 {
            verdict.reason = "Reading";
            verdict.message = format!("what is on {waits} hosts is being read");
            return Ok(verdict);
        }
        self.follow(set, &rollouts, &plan, &mut verdict).await?;
        Ok(verdict)
    }

    /// What is missing where; or why nothing is planned.
    fn planned(
        &self,
        set: &SoftwareSet,
        sets: &[PinnedSet],
        snapshot: &Snapshot,
    ) -> Result<RolloutPlan, Box<Verdict>> {
        let input = PlanInput {
            sets,
            hosts: &snapshot.hosts,
            strategy: &set.spec.strategy,
            timing: self.config.timing,
        };
        plan(&input).map_err(|refusals| {
            let selects_none = refusals.iter().any(|refusal| refusal.field == "spec.sets[0]");
            let reason = if selects_none { "NothingSelected" } else { "Invalid" };
            let told: Vec<Refusal> = refusals.into_iter().map(of_set).collect();
            Box::new(refused(reason, &told))
        })
    }

    /// Sees to it that hosts are read; tells how many were not yet, not even in vain.
    async fn hosts_to_be_read(
        &self,
        namespace: &str,
        set: &PinnedSet,
        snapshot: &Snapshot,
    ) -> Result<usize, ApiError> {
        if !needs_inventory(set) {
            return Ok(0);
        }
        let unread = snapshot
            .hosts
            .iter()
            .filter(|host| host.provisioned && host.inventory.is_none() && selects(&set.selector, host));
        let mut waits = 0;
        for host in unread {
            let hosts: Api<BareMetalHost> = Api::namespaced(self.client.clone(), namespace);
            let found = hosts.get_opt(&host.name).await.map_err(api_error("reading the BareMetalHost"))?;
            if let Some(metal) = found {
                records::ensure(&self.client, &metal).await?;
                waits += usize::from(host.unreachable.is_none());
            }
        }
        Ok(waits)
    }

    /// The Rollouts that were made for a set.
    async fn rollouts(&self, set: &SoftwareSet, namespace: &str) -> Result<Vec<Rollout>, ApiError> {
        let api: Api<Rollout> = Api::namespaced(self.client.clone(), namespace);
        let mine = ListParams::default().labels(&format!("{SET_LABEL}={}", set.name_any()));
        Ok(api.list(&mine).await.map_err(api_error("listing Rollouts"))?.items)
    }

    /// Sees to it that there is a Rollout, if one is needed.
    async fn follow(
        &self,
        set: &SoftwareSet,
        rollouts: &[Rollout],
        plan: &RolloutPlan,
        verdict: &mut Verdict,
    ) -> Result<(), ApiError> {
        let namespace = set.namespace().unwrap_or_default();
        let api: Api<Rollout> = Api::namespaced(self.client.clone(), &namespace);
        let needed = needed(plan);
        let decided = next(rollouts, &verdict.status.revision, &needed);
        for name in &decided.cancel {
            let patch = Patch::Merge(json!({"spec": {"cancel": true}}));
            let patched = api.patch(name, &PatchParams::default(), &patch).await;
            patched.map_err(api_error("ending a Rollout of another revision"))?;
        }
        let count = needed.len();
        match decided.step {
            Step::Rest if obstructed(plan) > 0 => {
                verdict.reason = "Obstructed";
                verdict.message =
                    format!("{} hosts cannot have it; status.neededBy says why", obstructed(plan));
            }
            Step::Rest => {
                verdict.ready = true;
                verdict.reason = "Current";
                verdict.message = "every host that is in use has it".to_owned();
            }
            Step::Follow(name) => {
                verdict.reason = "RollingOut";
                verdict.message = format!("{count} hosts need it; Rollout {name} is at work");
                verdict.status.rollout = name;
            }
            Step::GiveUp(name) => {
                verdict.reason = "RolloutFailed";
                verdict.message = format!(
                    "{count} hosts need it, but Rollout {name} did not bring it there; change the set, or delete the Rollout for another attempt"
                );
                verdict.status.rollout = name;
            }
            Step::Create(number) => {
                let name = self.create(set, &verdict.status.revision, number, &api).await?;
                verdict.reason = "RollingOut";
                verdict.message = format!("{count} hosts need it; Rollout {name} begins");
                verdict.status.rollout = name;
            }
        }
        Ok(())
    }

    async fn create(
        &self,
        set: &SoftwareSet,
        revision: &str,
        number: usize,
        api: &Api<Rollout>,
    ) -> Result<String, ApiError> {
        let short: String = set.name_any().chars().take(45).collect();
        let name = format!("{}-{revision}-{number}", short.trim_end_matches(['-', '.']));
        let spec = RolloutSpec {
            approved: set.spec.approval == RolloutApproval::Automatic,
            ..RolloutSpec::of(vec![set.name_any()])
        };
        let mut rollout = Rollout::new(&name, spec);
        rollout.metadata.labels = Some(BTreeMap::from([
            (SET_LABEL.to_owned(), set.name_any()),
            (REVISION_LABEL.to_owned(), revision.to_owned()),
        ]));
        rollout.metadata.owner_references = Some(vec![owner_reference(&reference_to(set))]);
        match api.create(&PostParams::default(), &rollout).await {
            Ok(_) => {
                let note = format!("Rollout {name} brings revision {revision} to the hosts that need it");
                self.config.events.publish(&reference_to(set), EventKind::Normal, "RolloutCreated", &note);
            }
            Err(error) if is_conflict(&error) => {}
            Err(error) => return Err(api_error("creating the Rollout")(error)),
        }
        Ok(name)
    }
}

/// Hosts that lack something.
fn needed(plan: &RolloutPlan) -> BTreeSet<String> {
    plan.hosts.keys().cloned().collect()
}

/// Whether a Rollout is to be made after others.
fn is_another(next: &Next) -> bool {
    matches!(next.step, Step::Create(number) if number > 1)
}

/// What is said of the first set of a rollout, said of the set itself.
fn of_set(refusal: Refusal) -> Refusal {
    if refusal.field == "spec.sets[0]" {
        let reason =
            "selects no host of this namespace; see the labels, sites and clusters of its BareMetalHosts";
        return Refusal::new("spec.selector", reason);
    }
    refusal
}

/// How many hosts in use get nothing though they lack something.
fn obstructed(plan: &RolloutPlan) -> usize {
    let other = |reason: &&String| {
        ![crate::plan::HAS_EVERYTHING, crate::plan::NOT_PROVISIONED].contains(&reason.as_str())
    };
    plan.not_needed.values().filter(other).count()
}

fn count(plan: &RolloutPlan, verdict: &mut Verdict) {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let has_it = |reason: &&String| reason.as_str() == crate::plan::HAS_EVERYTHING;
    verdict.status.hosts = number(plan.hosts.len() + plan.not_needed.len());
    verdict.status.current_hosts = number(plan.not_needed.values().filter(has_it).count());
    let needs = plan.hosts.iter().map(|(host, planned)| {
        let changes: Vec<String> = planned.changes.changes.iter().map(ToString::to_string).collect();
        (host.clone(), changes.join(", "))
    });
    let cannot = plan.not_needed.iter().filter(|(_, reason)| !has_it(reason));
    let cannot = cannot.map(|(host, reason)| (host.clone(), format!("not now: {reason}")));
    verdict.status.needed_by = needs.chain(cannot).take(NAMED).collect();
}
