//! The Composition controller. One reservation is made at a time, in the order of the queue; the intended members are written
//! down before the first host is claimed, so that a restart finds what was begun.

mod preview;
mod release;
mod reserve;
mod sweep;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use drystone_api::{
    BareMetalHost, Composition, CompositionMember, CompositionMode, CompositionPhase, ResourceBlock,
};
use drystone_engine::{
    events::EventSink,
    harness::{
        Caches, Controller, ControllerConfig, Objects, Reconciler, Requeue, StatusError, add_finalizer,
        is_deleted,
    },
    reference::{ObjectKey, reference_to},
};
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{claims::same, fencing::FencingError, pool};

pub use crate::inventory::Inventory;

/// Finalizer on every Composition that may claim hosts.
pub const FINALIZER: &str = "drystone.dev/composition";

/// Pause before a request that found no hosts, or lost a race, is looked at again without any change.
const RETRY: Duration = Duration::from_secs(5);

/// Pause before a pass that somebody else's write has overtaken is made again.
const AT_ONCE: Duration = Duration::from_millis(100);

/// What the time is.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What went wrong in a pass.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The status could not be written.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// There is no fencing token.
    #[error(transparent)]
    Fencing(#[from] FencingError),
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

/// Runs the controllers of Compositions and ResourcePools until `shutdown`. `caches` are copies of what the API has.
pub async fn run(client: Client, caches: Caches, events: Arc<dyn EventSink>, shutdown: CancellationToken) {
    // On the heap: three controllers in one future are large for whoever joins it with others.
    Box::pin(run_by(Arc::new(Timestamp::now), client, caches, events, shutdown)).await;
}

async fn run_by(
    clock: Clock,
    client: Client,
    caches: Caches,
    events: Arc<dyn EventSink>,
    shutdown: CancellationToken,
) {
    let inventory = Inventory::new(&caches);
    if !inventory.ready().await {
        return;
    }
    let pools = pool::controller::run(
        client.clone(),
        inventory.clone(),
        events.clone(),
        clock.clone(),
        shutdown.clone(),
    );
    let orphans = sweep::run(client.clone(), inventory.clone(), shutdown.clone());
    let reconciler = CompositionReconciler::new(client.clone(), inventory.clone(), events.clone(), clock);
    let settings = ControllerConfig { events, ..ControllerConfig::default() };
    let compositions = Controller::new(client, reconciler, settings)
        .watches_cache(&inventory.hosts, |host: &BareMetalHost, objects: &Objects<Composition>| {
            let consumer = host.spec.consumer_ref.iter().filter(|consumer| consumer.kind == "Composition");
            let mut keys = objects.keys_where(is_unsettled);
            keys.extend(
                consumer.map(|consumer| ObjectKey::new(consumer.namespace.clone(), consumer.name.clone())),
            );
            keys
        })
        .watches_cache(&inventory.blocks, |_: &ResourceBlock, objects: &Objects<Composition>| {
            objects.keys_where(|composition| {
                let phase = composition.status.as_ref().map(|status| status.phase);
                phase.is_none_or(|phase| phase == CompositionPhase::Infeasible)
                    && composition.spec.mode != CompositionMode::Preview
            })
        })
        .run(shutdown);
    tokio::join!(pools, orphans, compositions);
}

/// Whether a change of any host is of interest to a composition. Previews look by themselves, now and then.
fn is_unsettled(composition: &Composition) -> bool {
    let phase = composition.status.as_ref().map(|status| status.phase);
    let settled = matches!(phase, Some(CompositionPhase::Reserved | CompositionPhase::Expired));
    is_deleted(composition) || (!settled && composition.spec.mode != CompositionMode::Preview)
}

/// Answers Compositions.
pub(crate) struct CompositionReconciler {
    client: Client,
    inventory: Inventory,
    events: Arc<dyn EventSink>,
    clock: Clock,
    turn: Mutex<()>,
}

impl Reconciler for CompositionReconciler {
    type Object = Composition;
    type Error = ReconcileError;

    const NAME: &'static str = "composition";

    async fn reconcile(&self, known: Arc<Composition>) -> Result<Requeue, ReconcileError> {
        let namespace = known.namespace().unwrap_or_default();
        let api: Api<Composition> = Api::namespaced(self.client.clone(), &namespace);
        let _turn = self.turn.lock().await;
        // What the watch shows may be older than what the pass before wrote, which would be done once more then.
        let found = api.get_opt(&known.name_any()).await.map_err(api_error("reading the composition"))?;
        let Some(composition) = found else { return Ok(Requeue::OnChange) };
        if is_deleted(&composition) {
            return self.give_back(&api, &composition).await;
        }
        if composition.spec.mode == CompositionMode::Preview {
            return self.preview(&api, &composition).await;
        }
        let composition =
            add_finalizer(&api, &composition, FINALIZER).await.map_err(api_error("adding the finalizer"))?;
        let left = self.release_leftovers(&composition).await?;
        if self.is_expired(&composition) {
            return Ok(if left > 0 { Requeue::After(RETRY) } else { Requeue::OnChange });
        }
        if self.is_settled(&composition) {
            return self.keep(&api, &composition, left).await;
        }
        self.reserve(&api, &composition).await
    }
}

impl CompositionReconciler {
    pub(crate) fn new(
        client: Client,
        inventory: Inventory,
        events: Arc<dyn EventSink>,
        clock: Clock,
    ) -> Self {
        Self { client, inventory, events, clock, turn: Mutex::new(()) }
    }

    /// Whether a reservation has ended and nothing new is asked for.
    fn is_expired(&self, composition: &Composition) -> bool {
        let status = composition.status.as_ref();
        status.is_some_and(|status| {
            status.phase == CompositionPhase::Expired
                && status.observed_generation == composition.metadata.generation
        })
    }

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

    /// Watches over the time of a settled composition.
    async fn keep(
        &self,
        api: &Api<Composition>,
        composition: &Composition,
        left: usize,
    ) -> Result<Requeue, ReconcileError> {
        let reservation = composition.status.as_ref().and_then(|status| status.reservation.as_ref());
        let expires =
            reservation.and_then(|reservation| reservation.expires.as_ref()).map(|expires| expires.0);
        let calm = if left > 0 { Requeue::After(RETRY) } else { Requeue::OnChange };
        let (Some(expires), CompositionMode::Reserve) = (expires, composition.spec.mode) else {
            return Ok(calm);
        };
        let now = (self.clock)();
        if expires <= now {
            return self.expire(api, composition).await;
        }
        let until = Duration::try_from(expires.duration_since(now)).unwrap_or_default();
        // A little later than the time itself: clocks are read in whole steps.
        Ok(Requeue::After(until + Duration::from_millis(10)))
    }

    fn claimed_by(&self, composition: &Composition) -> Vec<Arc<BareMetalHost>> {
        let owner = reference_to(composition);
        self.inventory
            .hosts
            .list_where(|host| host.spec.consumer_ref.as_ref().is_some_and(|consumer| same(consumer, &owner)))
    }
}

fn count(members: &[CompositionMember]) -> u32 {
    u32::try_from(members.len()).unwrap_or(u32::MAX)
}
