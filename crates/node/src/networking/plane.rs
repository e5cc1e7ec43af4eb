//! Keeps the service data plane as the API says.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc, time::Duration};

use drystone_cni::{
    dataplane::{
        DataPlane,
        model::{NodeView, Protocol, ServicePort},
    },
    network::NetworkError,
};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{
    objects::{Changing, Objects, settle},
    readiness::{Part, Readiness},
    retry::Retry,
    services::{announced, service_ports},
};
use crate::{config::NodeConfig, dns};

/// How often the kernel's table is looked at.
const REPAIR: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// So many failures in a row and the node is not ready: its Services are no longer those of the cluster.
const TOLERATED_FAILURES: u32 = 5;

/// What is to be programmed.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    ports: Vec<ServicePort>,
    view: NodeView,
}

/// What tells ports apart.
fn key(port: &ServicePort) -> (&str, &str, &str, Protocol) {
    (&port.namespace, &port.service, &port.name, port.protocol)
}

/// See the module documentation.
pub(super) struct PlaneKeeper {
    pub(super) config: Arc<NodeConfig>,
    pub(super) plane: DataPlane,
    pub(super) services: Objects<Service>,
    pub(super) slices: Objects<EndpointSlice>,
    pub(super) nodes: watch::Receiver<Option<BTreeSet<Ipv4Addr>>>,
    pub(super) readiness: Arc<Readiness>,
}

impl Changing for PlaneKeeper {
    async fn changed(&mut self) {
        tokio::select! {
            () = self.services.changed() => {}
            () = self.slices.changed() => {}
            Ok(()) = self.nodes.changed() => {}
        }
    }
}

impl PlaneKeeper {
    /// Goes on until it is dropped; the rules stay in the kernel then, so that Services outlive a restart of the agent.
    pub(super) async fn run(mut self) {
        self.services.listed().await;
        self.slices.listed().await;
        // Until all nodes are told, the rules of an earlier agent are the better ones.
        if self.nodes.wait_for(Option::is_some).await.is_err() {
            return;
        }
        let mut applied = None;
        let mut retry = Retry::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut failures = 0;
        let mut repairs = interval(REPAIR);
        repairs.set_missed_tick_behavior(MissedTickBehavior::Delay);
        repairs.reset();
        loop {
            let mut pause = None;
            match self.apply(&mut applied).await {
                Ok(()) => {
                    retry.succeeded();
                    failures = 0;
                    self.readiness.set(Part::Services, Ok(()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the rules of Services cannot be changed; trying again");
                    failures += 1;
                    if failures >= TOLERATED_FAILURES {
                        self.readiness.set(Part::Services, Err(format!("Services: {error}")));
                    }
                    pause = Some(retry.pause());
                }
            }
            tokio::select! {
                () = self.changed() => settle(&mut self).await,
                _ = repairs.tick() => self.repair().await,
                () = sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        }
    }

    fn wanted(&self) -> Wanted {
        let NodeConfig { node_name, node_address, interface, pod_cidr, service_cidr, .. } = &*self.config;
        let nodes = self.nodes.borrow().clone().unwrap_or_default();
        let services = self.services.all();
        // Taking one of these would cut somebody off.
        let is_reserved = |address: Ipv4Addr| {
            nodes.contains(&address) || pod_cidr.contains(&address) || service_cidr.contains(&address)
        };
        let announced = announced(&services, node_name, is_reserved);
        let mut ports = service_ports(&services, &self.slices.all(), node_name);
        if let Some(address) = dns::address(&self.config) {
            dns::redirect(&mut ports, address, *node_address);
        }
        ports.sort_by(|a, b| key(a).cmp(&key(b)));
        let view = NodeView {
            address: *node_address,
            interface: interface.clone(),
            nodes,
            pod_cidr: *pod_cidr,
            service_cidr: *service_cidr,
            announced,
        };
        Wanted { ports, view }
    }

    async fn apply(&self, applied: &mut Option<Wanted>) -> Result<(), NetworkError> {
        let wanted = self.wanted();
        if applied.as_ref() == Some(&wanted) {
            return Ok(());
        }
        // Should it fail, nobody knows what is in place.
        *applied = None;
        let begin = Instant::now();
        self.plane.apply(&wanted.ports, &wanted.view).await?;
        tracing::debug!(ports = wanted.ports.len(), took = ?begin.elapsed(), "Services are programmed");
        *applied = Some(wanted);
        Ok(())
    }

    async fn repair(&self) {
        match self.plane.repair().await {
            Ok(false) => {}
            Ok(true) => tracing::warn!("somebody removed the nftables table of Services; it is written anew"),
            Err(error) => tracing::warn!(%error, "the nftables table of Services cannot be looked at"),
        }
    }
}
