//! What a zone's status says.

use drystone_api::{IsolationProof, Zone, ZoneFabricStatus, ZonePhase, ZoneStatus, condition, set_condition};
use drystone_engine::{
    events::EventKind,
    harness::{Requeue, update_status},
    reference::reference_to,
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::Api;

use super::{
    DRIFT_CHECK, Planned, Problem, RETRY, Reason, SOON, ZoneFailure, ZoneReconciler, tells_all, zone_id,
};
use crate::drivers::DriverError;

impl ZoneReconciler {
    /// Notes the tag and which switches will be touched before any is, so that a deletion finds them all: durably if the zone's
    /// status counts as complete. If not, this process remembers it, and after a crash the tables are asked ([`survey`]).
    ///
    /// [`survey`]: ZoneReconciler::survey
    pub(super) async fn note(
        &self,
        api: &Api<Zone>,
        zone: Zone,
        planned: &Planned,
    ) -> Result<Zone, ZoneFailure> {
        let id = zone_id(&zone);
        {
            let mut state = self.planners.lock();
            for work in &planned.work {
                state.touch(&id, &work.key.id, work.switches.keys().cloned());
            }
        }
        if !tells_all(&zone) {
            return Ok(zone);
        }
        let zone = update_status(api, &zone, |status: &mut ZoneStatus| {
            if self.tell_touched(&id, status) {
                status.phase = ZonePhase::Programming;
            }
        });
        Ok(zone.await?)
    }

    /// Adds the tag and all switches that may have something of a zone to its status. Whether that is any news.
    fn tell_touched(&self, id: &str, status: &mut ZoneStatus) -> bool {
        let state = self.planners.lock();
        let Some(tag) = state.tags.get(id) else { return false };
        let mut news = status.tag != Some(*tag);
        status.tag = Some(*tag);
        for (fabric, switches) in state.touched(id) {
            let position = status.fabrics.iter().position(|known| known.fabric == fabric);
            let position = position.unwrap_or_else(|| {
                status.fabrics.push(ZoneFabricStatus { fabric, ..Default::default() });
                status.fabrics.len() - 1
            });
            let known = &mut status.fabrics[position].switches;
            let before = known.len();
            known.extend(switches);
            known.sort_unstable();
            known.dedup();
            news |= known.len() != before;
        }
        news
    }

    pub(super) async fn conclude(
        &self,
        api: &Api<Zone>,
        zone: &Zone,
        planned: &Planned,
        fabrics: Vec<ZoneFabricStatus>,
        proof: IsolationProof,
        changed: usize,
    ) -> Result<Requeue, ZoneFailure> {
        let was_ready = zone.status.as_ref().is_some_and(|status| {
            status.phase == ZonePhase::Ready && status.observed_generation == zone.metadata.generation
        });
        let members = &planned.resolution.members;
        let count = u32::try_from(members.len()).unwrap_or(u32::MAX);
        let message = if proof.proven {
            format!("{count} endpoints, {} pairs checked", proof.checked_pairs)
        } else {
            format!("isolation does not hold: {}", proof.counter_example)
        };
        let unchanged = was_ready && changed == 0;
        let alarmed = zone.status.as_ref().is_some_and(|status| {
            status.conditions.iter().any(|known| known.type_ == "Ready" && known.status != "True")
        });
        let id = zone_id(zone);
        update_status(api, zone, |status: &mut ZoneStatus| {
            status.tag = Some(planned.tag);
            let checked_at =
                status.isolation.as_ref().filter(|_| unchanged).and_then(|proof| proof.checked_at.clone());
            let now = Timestamp::now();
            status.phase = if proof.proven { ZonePhase::Ready } else { ZonePhase::Programming };
            status.observed_generation = zone.metadata.generation;
            status.members.clone_from(members);
            status.endpoint_count = count;
            status.fabrics.clone_from(&fabrics);
            status.connections.clone_from(&planned.resolution.connections);
            status.isolation =
                Some(IsolationProof { checked_at: checked_at.or(Some(Time(now))), ..proof.clone() });
            status.message.clone_from(&message);
            let reason = if proof.proven { "Proven" } else { "Refuted" };
            set_condition(&mut status.conditions, condition("Isolated", proof.proven, reason, &message), now);
            set_condition(&mut status.conditions, condition("Ready", proof.proven, reason, &message), now);
        })
        .await?;
        self.planners.lock().forget_touched(&id);
        let subject = reference_to(zone);
        if !proof.proven {
            // A default zone that has not given up a member yet is no reason to alarm anybody.
            if planned.disturbed.is_empty() {
                self.events.publish(&subject, EventKind::Warning, "IsolationRefuted", &message);
                return Ok(Requeue::After(RETRY));
            }
            return Ok(Requeue::After(SOON));
        }
        if was_ready && changed > 0 && planned.written {
            let note =
                format!("Tables of {changed} switches had been changed by somebody else and were put right");
            self.events.publish(&subject, EventKind::Warning, "Drift", &note);
        } else if was_ready && changed > 0 {
            let note = format!("Tables of {changed} switches follow a change of the fabric; {message}");
            self.events.publish(&subject, EventKind::Normal, "Rerouted", &note);
        } else if !was_ready && alarmed {
            // Of a zone that came about at once its condition tells the same; an event would be one more durable write.
            self.events.publish(&subject, EventKind::Normal, "IsolationProven", &message);
        }
        Ok(Requeue::After(DRIFT_CHECK))
    }

    /// Says what keeps a zone from being carried out: what a switch will not take makes it fail, anything else is tried again.
    pub(super) async fn hindered(
        &self,
        api: &Api<Zone>,
        zone: &Zone,
        failure: ZoneFailure,
    ) -> Result<Requeue, ZoneFailure> {
        let message = failure.to_string();
        if matches!(failure, ZoneFailure::Driver(DriverError::Refused { lasting: true, .. })) {
            let problem = Problem { reason: Reason::Refused, message, passing: true };
            self.report(api, zone, &problem).await?;
            return Ok(Requeue::After(RETRY));
        }
        let told = zone.status.as_ref().is_some_and(|status| status.message == message);
        // Tables of a finished zone that cannot be looked at for a while are as they were.
        let away = matches!(failure, ZoneFailure::Driver(DriverError::Unreachable { .. }));
        let finished = zone.status.as_ref().is_some_and(|status| {
            status.phase == ZonePhase::Ready && status.observed_generation == zone.metadata.generation
        });
        let worth_telling = matches!(failure, ZoneFailure::Driver(_) | ZoneFailure::NotApplied { .. });
        let known = told || (away && finished);
        if worth_telling && !known {
            let reason = match failure {
                ZoneFailure::Driver(DriverError::Refused { .. }) => Reason::Refused,
                _ => Reason::Hindered,
            };
            self.tell_hindrance(api, zone, reason, &message).await?;
        }
        Err(failure)
    }

    /// Says what keeps a zone from being looked after at the moment, once. Its status counts as complete no more than before.
    pub(super) async fn tell_hindrance(
        &self,
        api: &Api<Zone>,
        zone: &Zone,
        reason: Reason,
        message: &str,
    ) -> Result<(), ZoneFailure> {
        if zone.status.as_ref().is_some_and(|status| status.message == message) {
            return Ok(());
        }
        let id = zone_id(zone);
        update_status(api, zone, |status: &mut ZoneStatus| {
            self.tell_touched(&id, status);
            status.phase = ZonePhase::Programming;
            message.clone_into(&mut status.message);
            let ready = condition("Ready", false, reason.name(), message);
            set_condition(&mut status.conditions, ready, Timestamp::now());
        })
        .await?;
        self.events.publish(&reference_to(zone), EventKind::Warning, reason.name(), message);
        Ok(())
    }

    /// Says why a zone cannot be carried out.
    pub(super) async fn report(
        &self,
        api: &Api<Zone>,
        zone: &Zone,
        problem: &Problem,
    ) -> Result<(), ZoneFailure> {
        let known = zone.status.as_ref().is_some_and(|status| status.message == problem.message);
        let waits = problem.reason == Reason::Waiting;
        let id = zone_id(zone);
        update_status(api, zone, |status: &mut ZoneStatus| {
            // From here on the status counts as complete: it must tell what was begun before the problem was met.
            self.tell_touched(&id, status);
            status.phase = if waits { ZonePhase::Pending } else { ZonePhase::Failed };
            status.observed_generation = zone.metadata.generation;
            status.message.clone_from(&problem.message);
            let ready = condition("Ready", false, problem.reason.name(), &problem.message);
            set_condition(&mut status.conditions, ready, Timestamp::now());
        })
        .await?;
        if !known {
            let subject = reference_to(zone);
            self.events.publish(&subject, EventKind::Warning, problem.reason.name(), &problem.message);
        }
        Ok(())
    }
}
