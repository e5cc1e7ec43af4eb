//! Mode `Preview`: what would be chosen, kept fresh; nothing is touched.

use std::time::Duration;

use drystone_api::{
    Composition, CompositionMember, CompositionPhase, CompositionStatus, condition, set_condition,
};
use drystone_engine::{
    harness::{Requeue, has_finalizer, remove_finalizer, update_status},
    reference::reference_to,
};
use kube::{Api, ResourceExt as _};

use super::{CompositionReconciler, FINALIZER, ReconcileError, api_error, count};
use crate::{
    claims::{is_clean, release},
    plan::Request,
};

/// How old a preview may become.
pub(super) const REFRESH: Duration = Duration::from_secs(10);

impl CompositionReconciler {
    /// Plans and explains. What was claimed in another mode is given back, unless something runs on it.
    pub(super) async fn preview(
        &self,
        api: &Api<Composition>,
        composition: &Composition,
    ) -> Result<Requeue, ReconcileError> {
        let status = composition.status.clone().unwrap_or_default();
        let claimed = self.claimed_by(composition);
        let in_use = |member: &CompositionMember| {
            claimed.iter().any(|host| host.name_any() == member.host && !is_clean(host))
        };
        let staying: Vec<CompositionMember> =
            status.members.iter().filter(|member| in_use(member)).cloned().collect();
        let owner = reference_to(composition);
        let request = Request::new(owner.clone(), &composition.spec, &staying);
        let snapshot = self.inventory.snapshot();
        let (choice, held) = self.choose(composition, request, &snapshot);
        let feasible = choice.members.is_some();
        let proposal = choice.members.unwrap_or_default();
        let message = match (feasible, held.holders.is_empty()) {
            _ if !staying.is_empty() => {
                format!(
                    "{} hosts are in use and stay claimed; delete the composition to give them back",
                    staying.len()
                )
            }
            (true, _) => format!("{} hosts could be claimed now", proposal.len()),
            (false, true) => choice.explanation.summary.clone(),
            (false, false) => format!("{}; {}", held.wording(), choice.explanation.summary),
        };
        let now = (self.clock)();
        update_status(api, composition, |status: &mut CompositionStatus| {
            status.phase = if feasible { CompositionPhase::Previewed } else { CompositionPhase::Infeasible };
            status.observed_generation = composition.metadata.generation;
            status.members.clone_from(&staying);
            status.previous.clear();
            status.hosts = count(&staying);
            status.proposal.clone_from(&proposal);
            status.reservation = None;
            status.waiting_since = None;
            status.explanation = Some(choice.explanation.clone());
            status.message.clone_from(&message);
            let reserved = condition("Reserved", false, "Preview", &message);
            set_condition(&mut status.conditions, reserved, now);
        })
        .await?;
        for host in claimed.iter().filter(|host| is_clean(host)) {
            release(&self.client, host, &owner, status.fencing_token, false)
                .await
                .map_err(api_error("giving a host back"))?;
        }
        if claimed.is_empty() && has_finalizer(composition, FINALIZER) {
            remove_finalizer(api, composition, FINALIZER)
                .await
                .map_err(api_error("removing the finalizer"))?;
        }
        Ok(Requeue::After(REFRESH))
    }
}
