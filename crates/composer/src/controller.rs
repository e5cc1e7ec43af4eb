//! The Composition controller. One reservation is made at a time; the intended members are written down before the first
//! host is claimed, so that a restart finds what was begun.

use std::{sync::Arc, time::Duration};

use drystone_api::{
    BareMetalHost, Composition, CompositionMember, CompositionPhase, CompositionStatus, Explanation,
    ProvisioningState, ResourceBlock, Switch, condition, set_condition,
};
use drystone_engine::{
    events::{EventKind, EventSink},
    harness::{
        Cache, Controller, ControllerConfig, Objects, Reconciler, Requeue, StatusError, add_finalizer,
        has_finalizer, is_deleted, remove_finalizer, update_status,
    },
    reference::{ObjectKey, reference_to},
};
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client, ResourceExt as _, runtime::watcher};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    claims::{Claim, claim, release, same},
    model::Snapshot,
    plan::{Request, compose},
    snapshot::assemble,
};

/// Finalizer on every Composition.
pub const FINALIZER: &str = "drystone.dev/composition";

/// Pause before a request that found no hosts, or lost a race, is looked at again without any change.
const RETRY: Duration = Duration::from_secs(5);

/// What went wrong in a pass.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The status could not be written.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// The API refused or did not answer.
    #[error("{doing}: {source}")]
    Api {
        /// What was attempted.
        doing: &'static str,
        /// Why it failed.
        source: kube::Error,
    },
}

fn api_error(doing: &'static str) -> impl FnOnce(kube::Error) -> ReconcileError {
    move |source| ReconcileError::Api { doing, source }
}

/// Copies of what a snapshot is made from.
#[derive(Clone)]
pub struct Inventory {
    hosts: Cache<BareMetalHost>,
    blocks: Cache<ResourceBlock>,
    switches: Cache<Switch>,
}

impl Inventory {
    /// Starts to watch.
    pub fn start(client: &Client, shutdown: &CancellationToken) -> Self {
        let watched = watcher::Config::default;
        Self {
            hosts: Cache::start(Api::all(client.clone()), watched(), shutdown.clone()),
            blocks: Cache::start(Api::all(client.clone()), watched(), shutdown.clone()),
            switches: Cache::start(Api::all(client.clone()), watched(), shutdown.clone()),
        }
    }

    /// Completes when everything is known; `false` when shut down before.
    pub async fn ready(&self) -> bool {
        self.hosts.ready().await && self.blocks.ready().await && self.switches.ready().await
    }

    /// What is known now.
    pub fn snapshot(&self) -> Snapshot {
        assemble(&self.hosts.list(), &self.blocks.list(), &self.switches.list())
    }
}

/// Runs the controller until `shutdown`.
pub async fn run(client: Client, events: Arc<dyn EventSink>, shutdown: CancellationToken) {
    let inventory = Inventory::start(&client, &shutdown);
    if !inventory.ready().await {
        return;
    }
    let settings = ControllerConfig { events: events.clone(), ..ControllerConfig::default() };
    let reconciler = CompositionReconciler {
        client: client.clone(),
        inventory: inventory.clone(),
        events,
        turn: Mutex::new(()),
    };
    let waiting = |objects: &Objects<Composition>| {
        objects.keys_where(|composition| {
            is_deleted(composition)
                || composition.status.as_ref().is_none_or(|status| status.phase != CompositionPhase::Reserved)
        })
    };
    Controller::new(client, reconciler, settings)
        .watches_cache(&inventory.hosts, move |host: &BareMetalHost, objects: &Objects<Composition>| {
            let consumer = host.spec.consumer_ref.iter().filter(|consumer| consumer.kind == "Composition");
            let mut keys = waiting(objects);
            keys.extend(
                consumer.map(|consumer| ObjectKey::new(consumer.namespace.clone(), consumer.name.clone())),
            );
            keys
        })
        .watches_cache(&inventory.blocks, move |_: &ResourceBlock, objects: &Objects<Composition>| {
            objects.keys_where(|composition| {
                composition.status.as_ref().is_none_or(|status| status.phase == CompositionPhase::Infeasible)
            })
        })
        .run(shutdown)
        .await;
}

struct CompositionReconciler {
    client: Client,
    inventory: Inventory,
    events: Arc<dyn EventSink>,
    turn: Mutex<()>,
}

impl Reconciler for CompositionReconciler {
    type Object = Composition;
    type Error = ReconcileError;

    const NAME: &'static str = "composition";

    async fn reconcile(&self, composition: Arc<Composition>) -> Result<Requeue, ReconcileError> {
        let namespace = composition.namespace().unwrap_or_default();
        let api: Api<Composition> = Api::namespaced(self.client.clone(), &namespace);
        let _turn = self.turn.lock().await;
        if is_deleted(composition.as_ref()) {
            return self.give_back(&api, &composition).await;
        }
        let composition = add_finalizer(&api, composition.as_ref(), FINALIZER)
            .await
            .map_err(api_error("adding the finalizer"))?;
        self.release_leftovers(&composition).await?;
        if self.is_settled(&composition) {
            return Ok(Requeue::OnChange);
        }
        self.reserve(&api, &composition).await
    }
}

impl CompositionReconciler {
    /// Whether every member is claimed and nothing else is wanted.
    fn is_settled(&self, composition: &Composition) -> bool {
        let Some(status) = &composition.status else { return false };
        let owner = reference_to(composition);
        let held = |member: &CompositionMember| {
            let host = self.inventory.hosts.get(&ObjectKey::new(&member.host_namespace, &member.host));
            host.is_some_and(|host| {
                host.spec.consumer_ref.as_ref().is_some_and(|consumer| same(consumer, &owner))
            })
        };
        status.phase == CompositionPhase::Reserved
            && status.observed_generation == composition.metadata.generation
            && status.members.iter().all(held)
    }

    /// Chooses, writes the choice down, claims. All or none.
    async fn reserve(
        &self,
        api: &Api<Composition>,
        composition: &Composition,
    ) -> Result<Requeue, ReconcileError> {
        let status = composition.status.clone().unwrap_or_default();
        let owner = reference_to(composition);
        let request = Request { owner: owner.clone(), spec: &composition.spec, members: &status.members };
        let choice = compose(&request, &self.inventory.snapshot());
        let Some(members) = choice.members else {
            self.report_infeasible(api, composition, choice.explanation).await?;
            return Ok(Requeue::After(RETRY));
        };
        let intended = update_status(api, composition, |status: &mut CompositionStatus| {
            status.phase = CompositionPhase::Reserving;
            status.members.clone_from(&members);
            status.explanation = Some(choice.explanation.clone());
            status.hosts = count(&members);
        })
        .await?;
        let mut taken = Vec::new();
        for member in &members {
            let claimed = claim(&self.client, member, &owner).await.map_err(api_error("claiming a host"))?;
            match claimed {
                Claim::Held => {}
                Claim::Taken => taken.push(member.clone()),
                Claim::Lost(why) => {
                    self.step_back(api, &intended, &taken, &status.members, &why).await?;
                    return Ok(Requeue::After(Duration::from_millis(100)));
                }
            }
        }
        let summary = choice.explanation.summary.clone();
        update_status(api, &intended, |status: &mut CompositionStatus| {
            status.phase = CompositionPhase::Reserved;
            status.observed_generation = composition.metadata.generation;
            status.message = format!("{} hosts reserved", members.len());
            set_condition(
                &mut status.conditions,
                condition("Reserved", true, "Claimed", &summary),
                Timestamp::now(),
            );
        })
        .await?;
        self.events.publish(&owner, EventKind::Normal, "Reserved", &summary);
        Ok(Requeue::OnChange)
    }

    /// A host was lost to somebody else: what this attempt took is given back.
    async fn step_back(
        &self,
        api: &Api<Composition>,
        composition: &Composition,
        taken: &[CompositionMember],
        before: &[CompositionMember],
        why: &str,
    ) -> Result<(), ReconcileError> {
        let owner = reference_to(composition);
        for member in taken {
            let hosts: Api<BareMetalHost> = Api::namespaced(self.client.clone(), &member.host_namespace);
            let host = hosts.get_opt(&member.host).await.map_err(api_error("reading a host"))?;
            if let Some(host) = host {
                release(&self.client, &host, &owner, false).await.map_err(api_error("giving a host back"))?;
            }
        }
        update_status(api, composition, |status: &mut CompositionStatus| {
            status.phase = CompositionPhase::Pending;
            status.members = before.to_vec();
            status.hosts = count(before);
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
    ) -> Result<(), ReconcileError> {
        let known = composition.status.as_ref().is_some_and(|status| {
            status.phase == CompositionPhase::Infeasible && status.message == explanation.summary
        });
        // A site that has just been declared is no reason to alarm anybody.
        let unknown = self.being_inspected();
        let message = match unknown {
            0 => explanation.summary.clone(),
            count => format!("{}; {count} hosts are still being inspected", explanation.summary),
        };
        update_status(api, composition, |status: &mut CompositionStatus| {
            status.phase = CompositionPhase::Infeasible;
            status.observed_generation = composition.metadata.generation;
            status.explanation = Some(explanation.clone());
            status.message.clone_from(&message);
            let reserved = condition("Reserved", false, "Infeasible", &message);
            set_condition(&mut status.conditions, reserved, Timestamp::now());
        })
        .await?;
        if !known && unknown == 0 {
            self.events.publish(&reference_to(composition), EventKind::Warning, "Infeasible", &message);
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

    /// Hosts that are claimed in our name and are no members (any more) are given back once nothing runs on them.
    async fn release_leftovers(&self, composition: &Composition) -> Result<(), ReconcileError> {
        let owner = reference_to(composition);
        let members = composition.status.as_ref().map(|status| status.members.clone()).unwrap_or_default();
        for host in self.claimed_by(composition) {
            let name = (host.namespace().unwrap_or_default(), host.name_any());
            if members.iter().any(|member| (&member.host_namespace, &member.host) == (&name.0, &name.1)) {
                continue;
            }
            release(&self.client, &host, &owner, false).await.map_err(api_error("giving a host back"))?;
        }
        Ok(())
    }

    fn claimed_by(&self, composition: &Composition) -> Vec<Arc<BareMetalHost>> {
        let owner = reference_to(composition);
        self.inventory
            .hosts
            .list_where(|host| host.spec.consumer_ref.as_ref().is_some_and(|consumer| same(consumer, &owner)))
    }

    /// Deletion: what runs on the members is taken away, then they are given back.
    async fn give_back(
        &self,
        api: &Api<Composition>,
        composition: &Composition,
    ) -> Result<Requeue, ReconcileError> {
        if !has_finalizer(composition, FINALIZER) {
            return Ok(Requeue::OnChange);
        }
        let owner = reference_to(composition);
        let mut left = 0_usize;
        for host in self.claimed_by(composition) {
            let free =
                release(&self.client, &host, &owner, true).await.map_err(api_error("giving a host back"))?;
            left += usize::from(!free);
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

fn count(members: &[CompositionMember]) -> u32 {
    u32::try_from(members.len()).unwrap_or(u32::MAX)
}
