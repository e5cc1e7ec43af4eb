//! The ResourcePool controller: carries out the power plan through `BareMetalHost.spec.online`, under each host's resource
//! version, and writes down on the host that it did.

use std::{collections::HashMap, sync::Arc, time::Duration};

use drystone_api::{
    BareMetalHost, POWERED_BY_ANNOTATION, ResourceBlock, ResourcePool, ResourcePoolStatus, condition,
    set_condition,
};
use drystone_engine::{
    events::{EventKind, EventSink},
    harness::{
        Controller, ControllerConfig, Objects, Reconciler, Requeue, StatusError, is_deleted, update_status,
    },
    reference::{ObjectKey, is_conflict, is_not_found, reference_to},
};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    membership::{Memberships, selector},
    plan::{Member, PowerPlan, Switching, plan},
};
use crate::controller::{Clock, Inventory};

/// How soon a pool looks again after it has switched something.
const SOON: Duration = Duration::from_secs(1);

/// How often a pool looks at its hosts when nothing is heard of them.
const STEADY: Duration = Duration::from_secs(60);

/// What went wrong in a pass.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The status could not be written.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// A host could not be switched.
    #[error("switching host {host}: {source}")]
    Switch {
        /// Which.
        host: String,
        /// Why.
        source: kube::Error,
    },
}

/// Runs the controller until `shutdown`.
pub async fn run(
    client: Client,
    inventory: Inventory,
    events: Arc<dyn EventSink>,
    clock: Clock,
    shutdown: CancellationToken,
) {
    let settings = ControllerConfig { events: events.clone(), ..ControllerConfig::default() };
    let reconciler = PoolReconciler { client: client.clone(), inventory: inventory.clone(), events, clock };
    // Which pool a host belongs to may depend on all pools: all of its namespace look.
    let of_namespace = |namespace: Option<String>, objects: &Objects<ResourcePool>| {
        objects.keys_where(|pool| pool.namespace() == namespace)
    };
    Controller::new(client, reconciler, settings)
        .watches_cache(&inventory.hosts, move |host: &BareMetalHost, pools: &Objects<ResourcePool>| {
            of_namespace(host.namespace(), pools)
        })
        .watches_cache(&inventory.blocks, move |block: &ResourceBlock, pools: &Objects<ResourcePool>| {
            of_namespace(block.namespace(), pools)
        })
        .watches_cache(&inventory.pools, move |pool: &ResourcePool, pools: &Objects<ResourcePool>| {
            of_namespace(pool.namespace(), pools)
        })
        .run(shutdown)
        .await;
}

pub(crate) struct PoolReconciler {
    pub(crate) client: Client,
    pub(crate) inventory: Inventory,
    pub(crate) events: Arc<dyn EventSink>,
    pub(crate) clock: Clock,
}

impl Reconciler for PoolReconciler {
    type Object = ResourcePool;
    type Error = PoolError;

    const NAME: &'static str = "resourcepool";

    async fn reconcile(&self, pool: Arc<ResourcePool>) -> Result<Requeue, PoolError> {
        if is_deleted(pool.as_ref()) {
            return Ok(Requeue::OnChange);
        }
        let now = (self.clock)();
        let hosts = self.inventory.hosts.list();
        let decided = self.decide(&pool, &hosts, now);
        let mut switched = 0;
        for switching in &decided.switchings {
            switched += usize::from(self.switch(&pool, &hosts, switching).await?);
        }
        self.report(&pool, &decided, now).await?;
        if switched > 0 {
            let on = decided.switchings.iter().filter(|switching| switching.online).count();
            let note = format!("{on} hosts powered on, {} powered off", decided.switchings.len() - on);
            self.events.publish(&reference_to(pool.as_ref()), EventKind::Normal, "Power", &note);
            return Ok(Requeue::After(SOON));
        }
        let until = decided.next.map(|next| next.duration_since(now));
        let until = until.and_then(|until| Duration::try_from(until).ok()).unwrap_or(STEADY);
        Ok(Requeue::After(until.clamp(SOON, STEADY)))
    }
}

impl PoolReconciler {
    fn decide(&self, pool: &ResourcePool, hosts: &[Arc<BareMetalHost>], now: Timestamp) -> PowerPlan {
        if let Err(mistake) = selector(pool) {
            let status = ResourcePoolStatus { message: mistake, ..pool.status.clone().unwrap_or_default() };
            return PowerPlan { switchings: Vec::new(), status, next: None };
        }
        let blocks = self.inventory.blocks.list();
        let by_host: HashMap<(Option<String>, &str), &ResourceBlock> = blocks
            .iter()
            .filter_map(|block| Some(((block.namespace(), block.spec.host.as_deref()?), block.as_ref())))
            .collect();
        let memberships = Memberships::new(&self.inventory.pools.list());
        let own = memberships.pools().iter().position(|other| other.uid() == pool.uid());
        let members: Vec<Member<'_>> = hosts
            .iter()
            .filter_map(|host| {
                let block = by_host.get(&(host.namespace(), host.name_any().as_str())).copied();
                let hardware = block.and_then(|block| block.status.as_ref());
                let of = memberships.pool_of(host, hardware);
                (own.is_some() && of == own).then_some(Member { host, block })
            })
            .collect();
        plan(pool, &members, now)
    }

    /// Sets `online`, if nobody has touched the host since `hosts` were looked at. Whether it did.
    async fn switch(
        &self,
        pool: &ResourcePool,
        hosts: &[Arc<BareMetalHost>],
        switching: &Switching,
    ) -> Result<bool, PoolError> {
        let namespace = pool.namespace().unwrap_or_default();
        let key = ObjectKey::new(&namespace, &switching.host);
        let Some(host) = hosts.iter().find(|host| ObjectKey::of(host.as_ref()) == key) else {
            return Ok(false);
        };
        let state = if switching.online { "on" } else { "off" };
        let record = format!("{namespace}/{}={state}", pool.name_any());
        let body = json!({
            "metadata": {
                "resourceVersion": host.resource_version(),
                "annotations": {POWERED_BY_ANNOTATION: record},
            },
            "spec": {"online": switching.online},
        });
        let api: Api<BareMetalHost> = Api::namespaced(self.client.clone(), &namespace);
        match api.patch(&switching.host, &PatchParams::default(), &Patch::Merge(&body)).await {
            Ok(_) => Ok(true),
            // Somebody else was faster: the next pass sees what he did.
            Err(error) if is_conflict(&error) || is_not_found(&error) => Ok(false),
            Err(source) => Err(PoolError::Switch { host: switching.host.clone(), source }),
        }
    }

    async fn report(
        &self,
        pool: &ResourcePool,
        decided: &PowerPlan,
        now: Timestamp,
    ) -> Result<(), PoolError> {
        let api: Api<ResourcePool> =
            Api::namespaced(self.client.clone(), &pool.namespace().unwrap_or_default());
        update_status(&api, pool, |status: &mut ResourcePoolStatus| {
            let conditions = std::mem::take(&mut status.conditions);
            *status = ResourcePoolStatus {
                conditions,
                observed_generation: pool.metadata.generation,
                ..decided.status.clone()
            };
            let message = &decided.status.message;
            let (ready, reason) =
                (message.is_empty(), if message.is_empty() { "AsAsked" } else { "Lacking" });
            set_condition(&mut status.conditions, condition("Ready", ready, reason, message), now);
        })
        .await?;
        Ok(())
    }
}
