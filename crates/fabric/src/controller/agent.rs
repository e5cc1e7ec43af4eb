//! FabricAgents: crawled when they appear or change, and again after a while.

use std::{sync::Arc, time::Duration};

use drystone_api::{AgentFabric, FabricAgent, FabricAgentStatus, Switch, condition, is_true, set_condition};
use drystone_engine::{
    events::{EventKind, EventSink},
    harness::{Cache, Reconciler, Requeue, StatusError, is_deleted, update_status},
    reference::{ObjectKey, reference_to},
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{Api, Client, ResourceExt as _};

use super::{
    inventory::{InventoryError, bring_switches},
    services::{OpenError, Services},
};
use crate::agents::Doubts;

/// How often an agent that answers is crawled again.
const RECRAWL: Duration = Duration::from_secs(60);

/// What went wrong in a pass.
#[derive(Debug, thiserror::Error)]
pub(super) enum AgentError {
    #[error(transparent)]
    Status(#[from] StatusError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    #[error(transparent)]
    Driver(#[from] crate::drivers::DriverError),
}

pub(super) struct AgentReconciler {
    pub(super) client: Client,
    pub(super) services: Services,
    pub(super) switches: Cache<Switch>,
    pub(super) doubts: Doubts,
    pub(super) events: Arc<dyn EventSink>,
}

impl Reconciler for AgentReconciler {
    type Object = FabricAgent;
    type Error = AgentError;

    const NAME: &'static str = "fabric-agent";

    async fn reconcile(&self, agent: Arc<FabricAgent>) -> Result<Requeue, AgentError> {
        if is_deleted(agent.as_ref()) {
            return Ok(Requeue::OnChange);
        }
        let fresh = agent.status.as_ref().and_then(|status| status.last_crawl.as_ref()).is_some_and(|last| {
            let age = Timestamp::now().duration_since(last.0);
            age.unsigned_abs() < RECRAWL
        });
        let ready = agent.status.as_ref().is_some_and(|status| is_true(&status.conditions, "Ready"));
        let doubted = self.doubts.take(&ObjectKey::of(agent.as_ref())).is_some();
        if fresh && ready && !doubted {
            return Ok(Requeue::After(RECRAWL));
        }
        match self.crawl(&agent).await {
            Ok(status) => {
                self.write(&agent, status, ready).await?;
                Ok(Requeue::After(RECRAWL))
            }
            Err(error) => {
                self.report(&agent, &error.to_string()).await?;
                Err(error)
            }
        }
    }
}

impl AgentReconciler {
    async fn crawl(&self, agent: &FabricAgent) -> Result<FabricAgentStatus, AgentError> {
        let crawl = self.services.of(agent).await?.crawl().await?;
        bring_switches(&self.client, &self.switches, agent, &crawl.fabrics, crawl.complete).await?;
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
