//! FabricAgents: crawled when they appear or change, and again after a while.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use drystone_api::{AgentFabric, FabricAgent, FabricAgentStatus, Switch, condition, is_true, set_condition};
use drystone_engine::{
    events::{EventKind, EventSink},
    harness::{Cache, Reconciler, Requeue, StatusError, is_deleted, update_status},
    reference::{ObjectKey, describe_kube_error, reference_to},
};
use drystone_redfish::client::RawResource;
use futures::StreamExt as _;
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{Api, Client, ResourceExt as _};

use super::{
    inventory::{InventoryError, bring_switches, refresh_switch},
    listeners::Listeners,
    services::{OpenError, Services},
};
use crate::agents::{AgentTrees, Doubt, Doubts, KeptError, bring_back};

/// How often an agent that answers is crawled again.
const RECRAWL: Duration = Duration::from_secs(60);

/// How soon it is read again when something was doubted meanwhile.
const AGAIN: Duration = Duration::from_millis(100);

/// What went wrong in a pass.
#[derive(Debug, thiserror::Error)]
pub(super) enum AgentError {
    #[error("reading the FabricAgent: {}", describe_kube_error(.0))]
    Api(kube::Error),
    #[error("the FabricAgent was deleted while its agent was read")]
    Gone,
    #[error(transparent)]
    Status(#[from] StatusError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    #[error(transparent)]
    Kept(#[from] KeptError),
    #[error(transparent)]
    Driver(#[from] crate::drivers::DriverError),
}

pub(super) struct AgentReconciler {
    pub(super) client: Client,
    pub(super) services: Services,
    pub(super) switches: Cache<Switch>,
    pub(super) doubts: Doubts,
    pub(super) listeners: Listeners,
    pub(super) trees: AgentTrees,
    /// Agents that this process has crawled, by uid.
    pub(super) crawled: Mutex<HashSet<String>>,
    pub(super) events: Arc<dyn EventSink>,
}

impl Reconciler for AgentReconciler {
    type Object = FabricAgent;
    type Error = AgentError;

    const NAME: &'static str = "fabric-agent";

    async fn reconcile(&self, agent: Arc<FabricAgent>) -> Result<Requeue, AgentError> {
        let key = ObjectKey::of(agent.as_ref());
        if is_deleted(agent.as_ref()) {
            return Ok(Requeue::OnChange);
        }
        let ready = agent.status.as_ref().is_some_and(|status| is_true(&status.conditions, "Ready"));
        let doubt = self.doubts.take(&key);
        let fresh = ready && self.is_fresh(&agent);
        let result = match &doubt {
            None if fresh => return Ok(Requeue::After(RECRAWL)),
            Some(Doubt::Below(origins)) if fresh => self.look_again(&agent, origins).await,
            _ => Ok(false),
        };
        // What was doubted while this pass read is read again at once: it may have been too late for this one.
        let next = || if self.doubts.has(&key) { AGAIN } else { RECRAWL };
        let result = match result {
            Ok(true) => return Ok(Requeue::After(next())),
            Ok(false) => self.crawl(&agent).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(status) => {
                self.write(&agent, status, ready).await?;
                self.listeners.listen(&key, &agent.spec.address, self.services.of(&agent).await?);
                Ok(Requeue::After(next()))
            }
            Err(error) => {
                if let Some(doubt) = doubt {
                    self.doubts.put_back(&key, doubt);
                }
                self.report(&agent, &error.to_string()).await?;
                Err(error)
            }
        }
    }
}

impl AgentReconciler {
    /// Whether the agent was crawled a moment ago, by this process: what it shows in the tree does not outlive the process.
    fn is_fresh(&self, agent: &FabricAgent) -> bool {
        let uid = agent.uid().unwrap_or_default();
        let known = self.crawled.lock().unwrap_or_else(PoisonError::into_inner).contains(&uid);
        let last = agent.status.as_ref().and_then(|status| status.last_crawl.as_ref());
        known && last.is_some_and(|last| Timestamp::now().duration_since(last.0).unsigned_abs() < RECRAWL)
    }

    /// Reads again what is doubted, if that is about known switches only. `false` if everything has to be crawled.
    async fn look_again(&self, agent: &FabricAgent, origins: &BTreeSet<String>) -> Result<bool, AgentError> {
        let known = self.switches.list_where(|switch| {
            switch.spec.agent == agent.name_any() && switch.namespace() == agent.namespace()
        });
        let mut doubted: BTreeMap<String, &Switch> = BTreeMap::new();
        for origin in origins.iter().filter(|origin| !is_our_own(origin)) {
            let below = |switch: &&Arc<Switch>| {
                let rest = origin.strip_prefix(switch.spec.uri.as_str());
                !switch.spec.uri.is_empty()
                    && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            let Some(switch) = known.iter().find(below) else { return Ok(false) };
            doubted.insert(switch.spec.uri.clone(), switch.as_ref());
        }
        if doubted.is_empty() {
            return Ok(true);
        }
        let uris: Vec<String> = doubted.keys().cloned().collect();
        let found = self.services.of(agent).await?.crawl_switches(&uris).await?;
        if found.len() < doubted.len() {
            return Ok(false);
        }
        for (uri, status) in found {
            if let Some(switch) = doubted.get(&uri) {
                refresh_switch(&self.client, switch, &status).await?;
            }
        }
        Ok(true)
    }

    async fn crawl(&self, agent: &FabricAgent) -> Result<FabricAgentStatus, AgentError> {
        let key = ObjectKey::of(agent);
        let begun = self.trees.moment(&key);
        let crawl = self.services.of(agent).await?.crawl().await?;
        bring_switches(&self.client, &self.switches, agent, &crawl.fabrics, crawl.complete).await?;
        if !crawl.tree.is_empty() {
            self.trees.show(&key, begun, &crawl.tree);
            // Who looks for agents that are gone may have passed by before it was shown.
            let api: Api<FabricAgent> = Api::namespaced(self.client.clone(), &key.namespace);
            let now = api.get_opt(&key.name).await;
            let is_there = matches!(&now, Ok(Some(now)) if now.uid() == agent.uid());
            if !is_there {
                self.trees.retain(|other| *other != key);
                return Err(now.map_or_else(AgentError::Api, |_| AgentError::Gone));
            }
        }
        if !crawl.tree.is_empty() && crawl.complete {
            self.bring_back(agent, &crawl.tree).await?;
        }
        let uid = agent.uid().unwrap_or_default();
        self.crawled.lock().unwrap_or_else(PoisonError::into_inner).insert(uid);
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let fabrics: Vec<AgentFabric> = crawl
            .fabrics
            .into_iter()
            .map(|fabric| AgentFabric {
                id: fabric.id,
                fabric_type: fabric.fabric_type,
                uuid: fabric.uuid,
                routing: fabric.routing,
                switch_count: count(fabric.switches.len()),
                endpoint_count: count(fabric.endpoint_count),
            })
            .collect();
        Ok(FabricAgentStatus {
            switch_count: fabrics.iter().map(|fabric| fabric.switch_count).sum(),
            endpoint_count: fabrics.iter().map(|fabric| fabric.endpoint_count).sum(),
            resource_count: count(crawl.resources),
            fabrics,
            last_crawl: Some(Time(Timestamp::now())),
            conditions: Vec::new(),
        })
    }

    /// Makes again what the agent has lost, and tells about it.
    async fn bring_back(&self, agent: &FabricAgent, crawled: &[RawResource]) -> Result<(), AgentError> {
        let service = self.services.of(agent).await?;
        let done = bring_back(&self.client, agent, service.client(), crawled, &self.trees).await?;
        let subject = reference_to(agent);
        if !done.made.is_empty() {
            let note = format!("The agent had lost what is there again: {}", done.made.join(", "));
            self.events.publish(&subject, EventKind::Warning, "MadeAgain", &note);
        }
        if let Some((uri, reason)) = done.lost.first() {
            let note = format!("{} resources are lost; {uri}: {reason}", done.lost.len());
            self.events.publish(&subject, EventKind::Warning, "Lost", &note);
        }
        Ok(())
    }

    async fn write(
        &self,
        agent: &FabricAgent,
        found: FabricAgentStatus,
        was_ready: bool,
    ) -> Result<(), AgentError> {
        let api: Api<FabricAgent> =
            Api::namespaced(self.client.clone(), &agent.namespace().unwrap_or_default());
        let message = format!("{} switches, {} endpoints", found.switch_count, found.endpoint_count);
        update_status(&api, agent, |status: &mut FabricAgentStatus| {
            let conditions = std::mem::take(&mut status.conditions);
            *status = FabricAgentStatus { conditions, ..found.clone() };
            set_condition(
                &mut status.conditions,
                condition("Ready", true, "Crawled", &message),
                Timestamp::now(),
            );
        })
        .await?;
        if !was_ready {
            self.events.publish(&reference_to(agent), EventKind::Normal, "Crawled", &message);
        }
        Ok(())
    }

    async fn report(&self, agent: &FabricAgent, why: &str) -> Result<(), AgentError> {
        let api: Api<FabricAgent> =
            Api::namespaced(self.client.clone(), &agent.namespace().unwrap_or_default());
        update_status(&api, agent, |status: &mut FabricAgentStatus| {
            set_condition(
                &mut status.conditions,
                condition("Ready", false, "Unreachable", why),
                Timestamp::now(),
            );
        })
        .await?;
        self.events.publish(&reference_to(agent), EventKind::Warning, "Unreachable", why);
        Ok(())
    }
}

/// Whether an event is about what the zones' controller writes itself.
fn is_our_own(origin: &str) -> bool {
    ["/Zones/", "/Connections/", "/Oem/Drystone/ForwardingTable"].iter().any(|part| origin.contains(part))
}

/// Ends what was done for agents that are gone. They leave without a finalizer, so that no pass is made for them.
pub(super) async fn forget_the_gone(agents: Cache<FabricAgent>, listeners: Listeners, trees: AgentTrees) {
    let mut changes = std::pin::pin!(agents.changes());
    while changes.next().await.is_some() {
        let is_there = |agent: &ObjectKey| agents.get(agent).is_some();
        listeners.retain(is_there);
        trees.retain(is_there);
    }
}
