//! Zones: validated, computed, patched into the switches concerned, read back, proven.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use drystone_api::{
    BareMetalHost, FabricAgent, IsolationProof, Zone, ZoneFabricStatus, ZoneMemberStatus, ZonePhase,
    ZoneStatus, condition, set_condition,
};
use drystone_engine::{
    events::{EventKind, EventSink},
    harness::{
        Cache, Reconciler, Requeue, StatusError, add_finalizer, has_finalizer, is_deleted, remove_finalizer,
        update_status,
    },
    reference::{ObjectKey, reference_to},
};
use futures::future::try_join_all;
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::Mutex;

use super::{
    fabrics::Fabrics,
    services::{OpenError, Services},
    zones_of::{Unresolved, resolve, zone_id},
};
use crate::{
    drivers::{DriverError, FabricService, TableChange, ZoneRecord},
    model::{Fabric, ForwardingZone, SwitchIndex},
    plan::{
        proof::{Tables, prove},
        zone::{ZoneRequest, free_tag, tables, validate},
    },
};

/// Finalizer on every Zone.
const FINALIZER: &str = "drystone.dev/zone";

/// How often the tables of a finished zone are compared with what they ought to be.
const DRIFT_CHECK: Duration = Duration::from_secs(30);

/// How long to wait for hosts or agents that are missing, if no change announces them.
const RETRY: Duration = Duration::from_secs(5);

/// What went wrong in a pass; it is made again.
#[derive(Debug, thiserror::Error)]
pub(super) enum ZoneFailure {
    #[error(transparent)]
    Status(#[from] StatusError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Driver(#[from] DriverError),
    #[error("{doing}: {source}")]
    Api { doing: &'static str, source: kube::Error },
    #[error("FabricAgent {0} of a switch is gone")]
    NoAgent(String),
}

/// Whether a zone is not finished.
pub(super) fn is_waiting(zone: &Zone) -> bool {
    zone.status.as_ref().is_none_or(|status| status.phase != ZonePhase::Ready)
}

pub(super) struct ZoneReconciler {
    pub(super) client: Client,
    pub(super) services: Services,
    pub(super) agents: Cache<FabricAgent>,
    pub(super) fabrics: Fabrics,
    pub(super) hosts: Cache<BareMetalHost>,
    pub(super) zones: Cache<Zone>,
    pub(super) events: Arc<dyn EventSink>,
    pub(super) turn: Mutex<()>,
}

/// What one fabric was brought to.
struct Programmed {
    status: ZoneFabricStatus,
    tables: Tables,
    changed: usize,
}

impl Reconciler for ZoneReconciler {
    type Object = Zone;
    type Error = ZoneFailure;

    const NAME: &'static str = "zone";

    async fn reconcile(&self, zone: Arc<Zone>) -> Result<Requeue, ZoneFailure> {
        let api: Api<Zone> = Api::namespaced(self.client.clone(), &zone.namespace().unwrap_or_default());
        if is_deleted(zone.as_ref()) {
            return self.remove(&api, &zone).await;
        }
        let zone = add_finalizer(&api, zone.as_ref(), FINALIZER)
            .await
            .map_err(|source| ZoneFailure::Api { doing: "adding the finalizer", source })?;
        let fabrics = self.fabrics.current();
        let host = |namespace: &str, name: &str| {
            self.hosts.get(&ObjectKey::new(namespace, name)).map(|host| BareMetalHost::clone(&host))
        };
        let (zone, tag) = self.tagged(&api, zone).await?;
        let (requests, members) = match resolve(&zone, tag, &fabrics, &host) {
            Ok(resolved) => resolved,
            Err(Unresolved::Waiting(why)) => {
                self.report(&api, &zone, ZonePhase::Pending, "Waiting", &why).await?;
                return Ok(Requeue::After(RETRY));
            }
            Err(Unresolved::Wrong(why)) => {
                self.report(&api, &zone, ZonePhase::Failed, "Invalid", &why).await?;
                return Ok(Requeue::OnChange);
            }
        };
        let others = self.others(&zone, &fabrics, &host);
        for (position, request) in &requests {
            if let Err(error) = validate(&fabrics[*position], request, &others[*position]) {
                self.report(&api, &zone, ZonePhase::Failed, "Conflict", &error.to_string()).await?;
                return Ok(Requeue::After(RETRY));
            }
        }
        self.bring_about(&api, &zone, &fabrics, &requests, &others, members).await
    }
}

impl ZoneReconciler {
    /// Gives the zone a tag, durably, before any switch sees it.
    async fn tagged(&self, api: &Api<Zone>, zone: Zone) -> Result<(Zone, u32), ZoneFailure> {
        if let Some(tag) = zone.status.as_ref().and_then(|status| status.tag) {
            return Ok((zone, tag));
        }
        let _turn = self.turn.lock().await;
        let all = api_all(&self.client)
            .await
            .map_err(|source| ZoneFailure::Api { doing: "listing Zones", source })?;
        let used: BTreeSet<u32> =
            all.iter().filter_map(|zone| zone.status.as_ref().and_then(|status| status.tag)).collect();
        let tag = free_tag(&used);
        let zone = update_status(api, &zone, |status: &mut ZoneStatus| {
            status.tag.get_or_insert(tag);
        })
        .await?;
        let tag = zone.status.as_ref().and_then(|status| status.tag).unwrap_or(tag);
        Ok((zone, tag))
    }

    /// The requests of all other zones, by position of the fabric.
    fn others(
        &self,
        zone: &Zone,
        fabrics: &[Fabric],
        host: &impl Fn(&str, &str) -> Option<BareMetalHost>,
    ) -> Vec<Vec<ZoneRequest>> {
        let mut others: Vec<Vec<ZoneRequest>> = vec![Vec::new(); fabrics.len()];
        let id = zone_id(zone);
        for other in self.zones.list_where(|other| zone_id(other) != id) {
            // Of two zones that claim the same endpoint the one that was programmed first stays.
            let programmed = other.status.as_ref().is_some_and(|status| !status.fabrics.is_empty());
            let Some(tag) = other.status.as_ref().and_then(|status| status.tag).filter(|_| programmed) else {
                continue;
            };
            let Ok((requests, _)) = resolve(&other, tag, fabrics, host) else { continue };
            for (position, request) in requests {
                others[position].push(request);
            }
        }
        others
    }

    async fn bring_about(
        &self,
        api: &Api<Zone>,
        zone: &Zone,
        fabrics: &[Fabric],
        requests: &[(usize, ZoneRequest)],
        others: &[Vec<ZoneRequest>],
        members: Vec<ZoneMemberStatus>,
    ) -> Result<Requeue, ZoneFailure> {
        let mut done: Vec<ZoneFabricStatus> = Vec::new();
        let mut proof = IsolationProof { proven: true, ..Default::default() };
        let mut changed = 0;
        for (position, request) in requests {
            let fabric = &fabrics[*position];
            let wanted = match tables(fabric, request) {
                Ok(wanted) => wanted,
                Err(error) => {
                    self.report(api, zone, ZonePhase::Failed, "Disconnected", &error.to_string()).await?;
                    return Ok(Requeue::After(RETRY));
                }
            };
            let programmed = self.program(api, zone, fabric, request, wanted).await?;
            let result = prove(fabric, request, &others[*position], &programmed.tables);
            proof.checked_pairs += result.checked_pairs;
            if let Some(example) = result.counter_example {
                proof.proven = false;
                proof.counter_example = format!("fabric {}: {example}", fabric.id);
            }
            changed += programmed.changed;
            done.push(programmed.status);
        }
        self.conclude(api, zone, done, proof, members, changed).await
    }

    /// Brings the switches of a fabric to what the zone needs; switches that it no longer needs forget it.
    async fn program(
        &self,
        api: &Api<Zone>,
        zone: &Zone,
        fabric: &Fabric,
        request: &ZoneRequest,
        wanted: BTreeMap<SwitchIndex, ForwardingZone>,
    ) -> Result<Programmed, ZoneFailure> {
        let known: BTreeSet<String> = zone
            .status
            .iter()
            .flat_map(|status| &status.fabrics)
            .filter(|status| status.fabric == fabric.id)
            .flat_map(|status| status.switches.iter().cloned())
            .collect();
        let mut names: BTreeSet<String> = known.clone();
        names.extend(wanted.keys().map(|switch| fabric.switch(*switch).id.to_string()));
        if names != known {
            // Which switches will be touched is written down first, so that a deletion after a crash finds them all.
            self.note_switches(api, zone, fabric, &names).await?;
        }
        let wanted: BTreeMap<&str, ForwardingZone> =
            wanted.into_iter().map(|(switch, entry)| (&*fabric.switch(switch).id, entry)).collect();
        let switches = fabric.switches().filter(|(_, switch)| names.contains(&*switch.id));
        let work = switches.map(|(index, switch)| {
            let entry = wanted.get(&*switch.id).cloned();
            async move {
                let service = self.service_of(&switch.agent).await?;
                let present = service.read_table(&fabric.id, &switch.id).await?;
                if present.zones.get(&request.id) == entry.as_ref() {
                    return Ok::<_, ZoneFailure>((index, present, 0_usize));
                }
                let change: TableChange = [(request.id.clone(), entry)].into();
                let after = service.change_table(&fabric.id, &switch.id, &change).await?;
                Ok((index, after, 1))
            }
        });
        let results = try_join_all(work).await?;
        let changed = results.iter().map(|(_, _, changed)| changed).sum();
        let tables: Tables = results.into_iter().map(|(index, table, _)| (index, table)).collect();
        let record = ZoneRecord {
            id: request.id.clone(),
            endpoints: request.members.iter().map(|index| fabric.endpoint_name(*index).to_owned()).collect(),
        };
        let uri = self.record(fabric, &request.id, Some(&record)).await?;
        let switches = wanted.keys().map(|name| (*name).to_owned()).collect();
        let status = ZoneFabricStatus { fabric: fabric.id.clone(), zone: uri.unwrap_or_default(), switches };
        Ok(Programmed { status, tables, changed })
    }

    async fn note_switches(
        &self,
        api: &Api<Zone>,
        zone: &Zone,
        fabric: &Fabric,
        names: &BTreeSet<String>,
    ) -> Result<(), ZoneFailure> {
        update_status(api, zone, |status: &mut ZoneStatus| {
            status.phase = ZonePhase::Programming;
            let position = status.fabrics.iter().position(|known| known.fabric == fabric.id);
            let position = position.unwrap_or_else(|| {
                status.fabrics.push(ZoneFabricStatus { fabric: fabric.id.clone(), ..Default::default() });
                status.fabrics.len() - 1
            });
            status.fabrics[position].switches = names.iter().cloned().collect();
        })
        .await?;
        Ok(())
    }

    /// The service of an agent.
    async fn service_of(&self, agent: &str) -> Result<Arc<dyn FabricService>, ZoneFailure> {
        let found = self.agents.list_where(|candidate| candidate.name_any() == agent);
        let agent = found.first().ok_or_else(|| ZoneFailure::NoAgent(agent.to_owned()))?;
        Ok(self.services.of(agent).await?)
    }

    /// Shows the zone in the tree of every service of the fabric.
    async fn record(
        &self,
        fabric: &Fabric,
        id: &str,
        record: Option<&ZoneRecord>,
    ) -> Result<Option<String>, ZoneFailure> {
        let agents: BTreeSet<&str> = fabric.switches().map(|(_, switch)| &*switch.agent).collect();
        let mut uri = None;
        for agent in agents {
            let service = self.service_of(agent).await?;
            uri = service.record_zone(&fabric.id, id, record).await?.or(uri);
        }
        Ok(uri)
    }

    async fn conclude(
        &self,
        api: &Api<Zone>,
        zone: &Zone,
        fabrics: Vec<ZoneFabricStatus>,
        proof: IsolationProof,
        members: Vec<ZoneMemberStatus>,
        changed: usize,
    ) -> Result<Requeue, ZoneFailure> {
        let was_ready = zone.status.as_ref().is_some_and(|status| {
            status.phase == ZonePhase::Ready && status.observed_generation == zone.metadata.generation
        });
        let count = u32::try_from(members.len()).unwrap_or(u32::MAX);
        let message = if proof.proven {
            format!("{count} endpoints, {} pairs checked", proof.checked_pairs)
        } else {
            format!("isolation does not hold: {}", proof.counter_example)
        };
        let unchanged = was_ready && changed == 0;
        update_status(api, zone, |status: &mut ZoneStatus| {
            let checked_at =
                status.isolation.as_ref().filter(|_| unchanged).and_then(|proof| proof.checked_at.clone());
            let now = Timestamp::now();
            status.phase = if proof.proven { ZonePhase::Ready } else { ZonePhase::Programming };
            status.observed_generation = zone.metadata.generation;
            status.members.clone_from(&members);
            status.endpoint_count = count;
            status.fabrics.clone_from(&fabrics);
            status.isolation =
                Some(IsolationProof { checked_at: checked_at.or(Some(Time(now))), ..proof.clone() });
            status.message.clone_from(&message);
            let reason = if proof.proven { "Proven" } else { "Refuted" };
            set_condition(&mut status.conditions, condition("Isolated", proof.proven, reason, &message), now);
            set_condition(&mut status.conditions, condition("Ready", proof.proven, reason, &message), now);
        })
        .await?;
        let subject = reference_to(zone);
        if !proof.proven {
            self.events.publish(&subject, EventKind::Warning, "IsolationRefuted", &message);
            return Ok(Requeue::After(RETRY));
        }
        if was_ready && changed > 0 {
            let note =
                format!("Tables of {changed} switches had been changed by somebody else and were put right");
            self.events.publish(&subject, EventKind::Warning, "Drift", &note);
        } else if !was_ready {
            self.events.publish(&subject, EventKind::Normal, "IsolationProven", &message);
        }
        Ok(Requeue::After(DRIFT_CHECK))
    }

    async fn report(
        &self,
        api: &Api<Zone>,
        zone: &Zone,
        phase: ZonePhase,
        reason: &str,
        why: &str,
    ) -> Result<(), ZoneFailure> {
        let known = zone.status.as_ref().is_some_and(|status| status.message == why);
        update_status(api, zone, |status: &mut ZoneStatus| {
            status.phase = phase;
            status.observed_generation = zone.metadata.generation;
            why.clone_into(&mut status.message);
            set_condition(&mut status.conditions, condition("Ready", false, reason, why), Timestamp::now());
        })
        .await?;
        if !known {
            self.events.publish(&reference_to(zone), EventKind::Warning, reason, why);
        }
        Ok(())
    }

    /// Deletion: out of every switch, then the Zone may go.
    async fn remove(&self, api: &Api<Zone>, zone: &Zone) -> Result<Requeue, ZoneFailure> {
        if !has_finalizer(zone, FINALIZER) {
            return Ok(Requeue::OnChange);
        }
        let id = zone_id(zone);
        let fabrics = self.fabrics.current();
        let status = zone.status.clone().unwrap_or_default();
        for done in &status.fabrics {
            let Some(fabric) = fabrics.iter().find(|fabric| fabric.id == done.fabric) else { continue };
            let switches =
                fabric.switches().filter(|(_, switch)| done.switches.iter().any(|id| **id == *switch.id));
            let work = switches.map(|(_, switch)| {
                let id = id.clone();
                async move {
                    let service = self.service_of(&switch.agent).await?;
                    let change: TableChange = [(id, None)].into();
                    service.change_table(&fabric.id, &switch.id, &change).await?;
                    Ok::<_, ZoneFailure>(())
                }
            });
            try_join_all(work).await?;
            self.record(fabric, &id, None).await?;
        }
        remove_finalizer(api, zone, FINALIZER)
            .await
            .map_err(|source| ZoneFailure::Api { doing: "removing the finalizer", source })?;
        self.events.publish(&reference_to(zone), EventKind::Normal, "Removed", "Out of every switch");
        Ok(Requeue::OnChange)
    }
}

async fn api_all(client: &Client) -> Result<Vec<Zone>, kube::Error> {
    Ok(Api::<Zone>::all(client.clone()).list(&kube::api::ListParams::default()).await?.items)
}
