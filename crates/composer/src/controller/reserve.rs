//! Choosing and claiming: all or none.

use drystone_api::{
    BareMetalHost, Composition, CompositionMember, CompositionMode, CompositionPhase, CompositionStatus,
    Explanation, ProvisioningState, Reservation, condition, quantity::TimeSpan, set_condition,
};
use drystone_engine::{
    events::EventKind,
    harness::{Requeue, seen, update_status},
    reference::{ObjectKey, reference_to},
};
use futures::{StreamExt as _, TryStreamExt as _, future::join_all};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::Api;

use super::{AT_ONCE, CompositionReconciler, RETRY, ReconcileError, api_error, count};
use crate::{
    claims::{Claim, claim, release, token_of},
    fencing::next_token,
    model::Snapshot,
    plan::{Choice, Request, compose},
    queue::{HeldBack, held_back},
};

/// How long hosts stay reserved unless the composition says otherwise.
const RESERVATION: TimeSpan = TimeSpan(600);

/// Hosts that are claimed at the same time.
const CLAIMS_AT_ONCE: usize = 8;

impl CompositionReconciler {
    /// The choice, without the hosts that wait for requests ahead; and what is held back for them, if that matters.
    pub(super) fn choose(
        &self,
        composition: &Composition,
        mut request: Request<'_>,
        snapshot: &Snapshot,
    ) -> (Choice, HeldBack) {
        let choice = compose(&request, snapshot);
        let Some(members) = &choice.members else { return (choice, HeldBack::default()) };
        let all = self.inventory.compositions.list();
        let held = held_back(composition, &all, snapshot, (self.clock)());
        let is_held = |member: &CompositionMember| {
            let position = snapshot.position(&member.host_namespace, &member.host);
            position.is_some_and(|position| held.hosts.contains_key(&position))
        };
        if !members.iter().any(is_held) {
            return (choice, HeldBack::default());
        }
        request.held.clone_from(&held.hosts);
        (compose(&request, snapshot), held)
    }

    /// Chooses, writes the choice down, claims.
    pub(super) async fn reserve(
        &self,
        api: &Api<Composition>,
        composition: &Composition,
    ) -> Result<Requeue, ReconcileError> {
        if let Some(requeue) = self.is_too_late(api, composition).await? {
            return Ok(requeue);
        }
        let status = composition.status.clone().unwrap_or_default();
        let owner = reference_to(composition);
        let request = Request::new(owner.clone(), &composition.spec, &status.members);
        let (choice, held) = self.choose(composition, request, &self.inventory.snapshot());
        let Some(members) = choice.members else {
            self.report_infeasible(api, composition, choice.explanation, &held).await?;
            return Ok(Requeue::After(RETRY));
        };
        let greatest =
            members.iter().filter_map(|member| self.host(member)).map(|host| token_of(&host)).max();
        let at_least = status.fencing_token.max(greatest.unwrap_or_default());
        let token = next_token(&self.client, at_least).await?;
        let Some(intended) = self.intend(api, composition, &members, &choice.explanation, token).await?
        else {
            return Ok(Requeue::After(AT_ONCE));
        };
        let claims = futures::stream::iter(members.clone()).map(|member| {
            let (client, owner) = (self.client.clone(), owner.clone());
            async move { claim(&client, &member, &owner, token).await }
        });
        let outcomes: Vec<(Claim, Option<BareMetalHost>)> =
            claims.buffered(CLAIMS_AT_ONCE).try_collect().await.map_err(api_error("claiming a host"))?;
        // The next pass looks whose the hosts are: it must not find them as they were before, and choose again.
        let written = outcomes.iter().filter_map(|(_, written)| written.as_ref());
        join_all(written.map(|host| seen(&self.inventory.hosts, host))).await;
        let lost = outcomes.iter().find_map(|(outcome, _)| match outcome {
            Claim::Lost(why) => Some(why.clone()),
            Claim::Taken | Claim::Held => None,
        });
        if let Some(why) = lost {
            self.step_back(api, &intended, token, &why).await?;
            return Ok(Requeue::After(AT_ONCE));
        }
        self.settle(api, composition, &intended, token, &choice.explanation.summary).await
    }

    fn host(&self, member: &CompositionMember) -> Option<std::sync::Arc<BareMetalHost>> {
        self.inventory.hosts.get(&ObjectKey::new(&member.host_namespace, &member.host))
    }

    /// A reservation whose last moment has passed claims nothing.
    async fn is_too_late(
        &self,
        api: &Api<Composition>,
        composition: &Composition,
    ) -> Result<Option<Requeue>, ReconcileError> {
        let now = (self.clock)();
        let ended = composition.spec.expires.as_ref().is_some_and(|expires| expires.0 <= now);
        if composition.spec.mode != CompositionMode::Reserve || !ended {
            return Ok(None);
        }
        self.expire(api, composition).await.map(Some)
    }

    /// Writes down what is about to be claimed. `None` if somebody has decided something later meanwhile.
    async fn intend(
        &self,
        api: &Api<Composition>,
        composition: &Composition,
        members: &[CompositionMember],
        explanation: &Explanation,
        token: u64,
    ) -> Result<Option<Composition>, ReconcileError> {
        let intended = update_status(api, composition, |status: &mut CompositionStatus| {
            if status.fencing_token >= token {
                return;
            }
            if status.phase != CompositionPhase::Reserving {
                status.previous = std::mem::take(&mut status.members);
            }
            status.phase = CompositionPhase::Reserving;
            status.fencing_token = token;
            status.members = members.to_vec();
            status.explanation = Some(explanation.clone());
            status.hosts = count(members);
            status.proposal.clear();
        })
        .await?;
        Ok(is_under(&intended, token).then_some(intended))
    }

    /// Everything is claimed that `composition` asked for; `intended` may have been changed since.
    async fn settle(
        &self,
        api: &Api<Composition>,
        composition: &Composition,
        intended: &Composition,
        token: u64,
        summary: &str,
    ) -> Result<Requeue, ReconcileError> {
        let (now, owner) = ((self.clock)(), reference_to(composition));
        let (spec, generation) = (&composition.spec, composition.metadata.generation);
        let settled = update_status(api, intended, |status: &mut CompositionStatus| {
            if status.fencing_token != token {
                return;
            }
            let current = status.observed_generation == generation;
            let running = status.reservation.as_ref().and_then(|reservation| reservation.expires.clone());
            let expires = match spec.mode {
                // A host was replaced: that does not prolong anything.
                CompositionMode::Reserve if current && running.is_some() => running,
                CompositionMode::Reserve => Some(Time(end_of(composition, now))),
                CompositionMode::Apply | CompositionMode::Preview => None,
            };
            status.phase = CompositionPhase::Reserved;
            status.observed_generation = generation;
            status.previous.clear();
            status.waiting_since = None;
            let until =
                expires.as_ref().map(|expires| format!(" until {:.0}", expires.0)).unwrap_or_default();
            status.message = format!("{} hosts reserved{until}", status.hosts);
            status.reservation =
                Some(Reservation { token, holder: owner.clone(), since: Some(Time(now)), expires });
            let reserved = condition("Reserved", true, "Claimed", summary);
            set_condition(&mut status.conditions, reserved, now);
        })
        .await?;
        if !is_under(&settled, token) {
            return Ok(Requeue::After(AT_ONCE));
        }
        self.events.publish(&owner, EventKind::Normal, "Reserved", summary);
        self.keep(api, &settled, 0).await
    }

    /// A host was lost to somebody else: what this attempt took is given back.
    async fn step_back(
        &self,
        api: &Api<Composition>,
        intended: &Composition,
        token: u64,
        why: &str,
    ) -> Result<(), ReconcileError> {
        let owner = reference_to(intended);
        let status = intended.status.clone().unwrap_or_default();
        for member in status.members.iter().filter(|member| !status.previous.contains(member)) {
            let hosts: Api<BareMetalHost> = Api::namespaced(self.client.clone(), &member.host_namespace);
            let host = hosts.get_opt(&member.host).await.map_err(api_error("reading a host"))?;
            if let Some(host) = host {
                release(&self.client, &host, &owner, token, false)
                    .await
                    .map_err(api_error("giving a host back"))?;
            }
        }
        update_status(api, intended, |status: &mut CompositionStatus| {
            if status.fencing_token != token {
                return;
            }
            status.phase = CompositionPhase::Pending;
            status.members = std::mem::take(&mut status.previous);
            status.hosts = count(&status.members);
            status.message = format!("choosing again: {why}");
        })
        .await?;
        Ok(())
    }

    async fn report_infeasible(
        &self,
        api: &Api<Composition>,
        composition: &Composition,
        explanation: Explanation,
        held: &HeldBack,
    ) -> Result<(), ReconcileError> {
        // A site that has just been declared is no reason to alarm anybody.
        let unknown = self.being_inspected();
        let mut parts = Vec::new();
        parts.extend((!held.holders.is_empty()).then(|| held.wording()));
        parts.push(explanation.summary.clone());
        parts.extend((unknown > 0).then(|| format!("{unknown} hosts are still being inspected")));
        let message = parts.join("; ");
        let known = composition
            .status
            .as_ref()
            .is_some_and(|status| status.phase == CompositionPhase::Infeasible && status.message == message);
        let now = (self.clock)();
        let reason = if held.holders.is_empty() { "Infeasible" } else { "HeldBack" };
        let token = composition.status.as_ref().map(|status| status.fencing_token).unwrap_or_default();
        update_status(api, composition, |status: &mut CompositionStatus| {
            if status.fencing_token != token {
                return;
            }
            if status.phase == CompositionPhase::Reserving {
                // An attempt that was interrupted: what it took is given back, as it is no member any more.
                status.members = std::mem::take(&mut status.previous);
                status.hosts = count(&status.members);
            }
            status.phase = CompositionPhase::Infeasible;
            status.observed_generation = composition.metadata.generation;
            status.explanation = Some(explanation.clone());
            status.proposal.clear();
            status.waiting_since.get_or_insert(Time(now));
            status.message.clone_from(&message);
            let reserved = condition("Reserved", false, reason, &message);
            set_condition(&mut status.conditions, reserved, now);
        })
        .await?;
        if !known && unknown == 0 {
            self.events.publish(&reference_to(composition), EventKind::Warning, reason, &message);
        }
        Ok(())
    }

    /// How many hosts are on their way to being known.
    fn being_inspected(&self) -> usize {
        let is_on_its_way = |host: &BareMetalHost| {
            let status = host.status.clone().unwrap_or_default();
            let early = matches!(
                status.provisioning.state,
                ProvisioningState::None | ProvisioningState::Registering | ProvisioningState::Inspecting
            );
            early && status.error_message.is_empty()
        };
        self.inventory.hosts.list_where(is_on_its_way).len()
    }
}

fn is_under(composition: &Composition, token: u64) -> bool {
    composition.status.as_ref().is_some_and(|status| status.fencing_token == token)
}

/// When a reservation that begins now ends.
fn end_of(composition: &Composition, now: Timestamp) -> Timestamp {
    let span = composition.spec.reservation_duration.unwrap_or(RESERVATION);
    let end = now.checked_add(span.to_signed()).unwrap_or(Timestamp::MAX);
    composition.spec.expires.as_ref().map_or(end, |expires| expires.0.min(end))
}
