//! Flows that outlive what they were translated to.
//!
//! A TCP connection to an endpoint that is gone ends by itself. A UDP client that keeps its port keeps its translation too,
//! and would talk to nobody for ever; so the kernel is told to forget it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use super::model::{Protocol, ServicePort};
use crate::tools::{ToolError, Tools};

/// Flows to forget: those to an address and port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StaleFlows {
    /// Address of the Service.
    pub address: Ipv4Addr,
    /// Its port.
    pub port: u16,
    /// Only those translated to this endpoint; none for all that were not translated.
    pub endpoint: Option<Ipv4Addr>,
}

type Frontends<'a> = BTreeMap<(Ipv4Addr, u16), BTreeSet<Ipv4Addr>>;

fn frontends(services: &[ServicePort]) -> Frontends<'_> {
    let mut frontends = Frontends::new();
    for port in services.iter().filter(|port| port.protocol == Protocol::Udp) {
        let endpoints: BTreeSet<Ipv4Addr> =
            port.usable_endpoints(false).iter().map(|endpoint| endpoint.address).collect();
        for address in port.cluster_addresses.iter().chain(port.outside_addresses()) {
            frontends.insert((*address, port.port), endpoints.clone());
        }
    }
    frontends
}

/// The flows that a change of Services leaves stale.
pub fn stale_flows(old: &[ServicePort], new: &[ServicePort]) -> BTreeSet<StaleFlows> {
    let (old, new) = (frontends(old), frontends(new));
    let mut stale = BTreeSet::new();
    for (&(address, port), endpoints) in &old {
        let kept = new.get(&(address, port));
        let gone = endpoints.iter().filter(|endpoint| kept.is_none_or(|kept| !kept.contains(*endpoint)));
        stale.extend(gone.map(|endpoint| StaleFlows { address, port, endpoint: Some(*endpoint) }));
    }
    for (&(address, port), endpoints) in &new {
        let had = old.get(&(address, port)).is_some_and(|before| !before.is_empty());
        if !had && !endpoints.is_empty() {
            // What was sent before there was an endpoint is remembered as not translated.
            stale.insert(StaleFlows { address, port, endpoint: None });
        }
    }
    stale
}

/// Makes the kernel forget flows. Failures are logged: the flows also end when they are idle.
pub async fn forget(tools: &Tools, flows: &BTreeSet<StaleFlows>) {
    for flow in flows {
        let (address, port) = (flow.address.to_string(), flow.port.to_string());
        let mut arguments =
            vec!["--delete", "--proto", "udp", "--orig-dst", &address, "--orig-port-dst", &port];
        let endpoint = flow.endpoint.map(|endpoint| endpoint.to_string());
        if let Some(endpoint) = &endpoint {
            arguments.extend(["--dst-nat", endpoint]);
        }
        match tools.run("conntrack", &arguments, "").await {
            Ok(_) => {}
            Err(error) if error.says("0 flow entries") => {}
            Err(error @ ToolError::Start { .. }) => {
                tracing::warn!(%error, "UDP clients of a Service may keep talking to an endpoint that is gone");
                return;
            }
            Err(error) => tracing::warn!(%error, "forgetting stale UDP flows"),
        }
    }
}
