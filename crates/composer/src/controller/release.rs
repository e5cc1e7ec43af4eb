//! Hosts are given back: at the end of a reservation, when a composition shrinks, when it is deleted.

use std::{sync::Arc, time::Duration};

use drystone_api::{
    BareMetalHost, Composition, CompositionMode, CompositionPhase, CompositionStatus, condition,
    set_condition,
};
use drystone_engine::{
    events::EventKind,
    harness::{Requeue, has_finalizer, remove_finalizer, update_status},
    reference::{is_conflict, is_not_found, reference_to},
};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::{Api, ResourceExt as _, api::PostParams};

use super::{AT_ONCE, CompositionReconciler, FINALIZER, RETRY, ReconcileError, api_error};
use crate::claims::release;

/// Hosts that are read at the same time.
const READS_AT_ONCE: usize = 8;

fn token_of(composition: &Composition) -> u64 {
    composition.status.as_ref().map(|status| status.fencing_token).unwrap_or_default()
}

impl CompositionReconciler {
    /// Hosts that are claimed in our name and are no members (any more) are given back once nothing runs on them. Returns how
    /// many could not be given back yet.
    pub(super) async fn release_leftovers(&self, composition: &Composition) -> Result<usize, ReconcileError> {
        let owner = reference_to(composition);
        let members = composition.status.as_ref().map(|status| status.members.clone()).unwrap_or_default();
        let mut left = 0;
        for host in self.claimed_by(composition) {
            let name = (host.namespace().unwrap_or_default(), host.name_any());
            if members.iter().any(|member| (&member.host_namespace, &member.host) == (&name.0, &name.1)) {
                continue;
            }
            let free = release(&self.client, &host, &owner, token_of(composition), false)
                .await
                .map_err(api_error("giving a host back"))?;
            left += usize::from(!free);
        }
        Ok(left)
    }

    /// The time of a reservation is over. It ends only if nobody has changed the composition meanwhile: whoever changes it to
    /// `Apply` in the last moment keeps the hosts.
    pub(super) async fn expire(
        &self,
        api: &Api<Composition>,
        composition: &Composition,
    ) -> Result<Requeue, ReconcileError> {
        let fresh = match api.get(&composition.name_any()).await {
            Ok(fresh) => fresh,
            Err(error) if is_not_found(&error) => return Ok(Requeue::OnChange),
            Err(error) => return Err(api_error("reading the composition")(error)),
        };
        let unchanged = fresh.metadata.generation == composition.metadata.generation
            && fresh.spec.mode == CompositionMode::Reserve
            && token_of(&fresh) == token_of(composition);
        if !unchanged {
            return Ok(Requeue::After(AT_ONCE));
        }
        let now = (self.clock)();
        let mut ended = fresh;
        let status = ended.status.get_or_insert_default();
        let message = format!("the reservation of {} hosts has ended", status.hosts);
        status.phase = CompositionPhase::Expired;
        status.observed_generation = composition.metadata.generation;
        status.members.clear();
        status.previous.clear();
        status.hosts = 0;
        status.reservation = None;
        status.message.clone_from(&message);
        set_condition(&mut status.conditions, condition("Reserved", false, "Expired", &message), now);
        match api.replace_status(&composition.name_any(), &PostParams::default(), &ended).await {
            Ok(written) => ended = written,
            Err(error) if is_conflict(&error) => return Ok(Requeue::After(AT_ONCE)),
            Err(error) if is_not_found(&error) => return Ok(Requeue::OnChange),
            Err(error) => return Err(api_error("ending the reservation")(error)),
        }
        self.events.publish(&reference_to(composition), EventKind::Normal, "Expired", &message);
        let left = self.release_leftovers(&ended).await?;
        Ok(if left > 0 { Requeue::After(RETRY) } else { Requeue::OnChange })
    }

    /// Everything that was chosen, as the API has it.
    async fn members_as_they_are(
        &self,
        composition: &Composition,
    ) -> Result<Vec<Arc<BareMetalHost>>, ReconcileError> {
        let status = composition.status.clone().unwrap_or_default();
        let members = [status.members, status.previous].concat();
        let read = futures::stream::iter(members).map(|member| {
            let hosts: Api<BareMetalHost> = Api::namespaced(self.client.clone(), &member.host_namespace);
            async move { hosts.get_opt(&member.host).await }
        });
        let found: Vec<Option<BareMetalHost>> =
            read.buffered(READS_AT_ONCE).try_collect().await.map_err(api_error("reading a host"))?;
        Ok(found.into_iter().flatten().map(Arc::new).collect())
    }

    /// Takes away what runs on hosts, and gives those back that are ours; returns how many could not be given back yet.
    async fn evict(
        &self,
        composition: &Composition,
        hosts: &[Arc<BareMetalHost>],
    ) -> Result<usize, ReconcileError> {
        let owner = reference_to(composition);
        let mut left = 0;
        for host in hosts {
            let free = release(&self.client, host, &owner, token_of(composition), true)
                .await
                .map_err(api_error("giving a host back"))?;
            left += usize::from(!free);
        }
        Ok(left)
    }

    /// Deletion: what runs on the members is taken away, then they are given back.
    pub(super) async fn give_back(
        &self,
        api: &Api<Composition>,
        composition: &Composition,
    ) -> Result<Requeue, ReconcileError> {
        if !has_finalizer(composition, FINALIZER) {
            return Ok(Requeue::OnChange);
        }
        let mut left = self.evict(composition, &self.claimed_by(composition)).await?;
        if left == 0 {
            // The last claims may not have come to the copies yet: what was chosen is looked at itself.
            let members = self.members_as_they_are(composition).await?;
            left = self.evict(composition, &members).await?;
        }
        if left > 0 {
            update_status(api, composition, |status: &mut CompositionStatus| {
                status.phase = CompositionPhase::Releasing;
                status.message = format!("{left} hosts are still in use");
            })
            .await?;
            return Ok(Requeue::After(Duration::from_millis(500)));
        }
        remove_finalizer(api, composition, FINALIZER).await.map_err(api_error("removing the finalizer"))?;
        Ok(Requeue::OnChange)
    }
}
