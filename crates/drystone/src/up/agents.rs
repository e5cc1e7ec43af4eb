//! Agents: those on hosts, which inspect them and write their disks; and those of fabrics for the Redfish service, by the fabric
//! manager.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use clap::Args;
use drystone_engine::events::EventRecorder;
use drystone_metal::agent::{AgentDesk, AgentSettings};
use kube::Client;

use super::pki::Keys;

/// What is said of agents on hosts.
#[derive(Debug, Clone, Args)]
pub(crate) struct AgentOptions {
    /// The medium that hosts are booted from to have their disks written (made by `./dev image`); without it only emulated hosts can be
    #[arg(long, value_name = "FILE")]
    pub(crate) agent_medium: Option<PathBuf>,
    /// Where hosts reach this Drystone, unless their Site's gateway says; the listening address unless given
    #[arg(long, value_name = "URL")]
    pub(crate) agent_url: Option<String>,
}

impl AgentOptions {
    /// The address under which hosts reach Drystone, which its certificate must name.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        let url = self.agent_url.as_deref().and_then(|url| url::Url::parse(url).ok())?;
        url.host_str()?.trim_matches(['[', ']']).parse().ok()
    }

    /// The desk that agents report at.
    pub(crate) fn desk(self, client: Client, keys: &Keys, address: SocketAddr) -> AgentDesk {
        let events = Arc::new(EventRecorder::new(client.clone(), "drystone"));
        let settings = AgentSettings {
            url: self.agent_url.unwrap_or_else(|| format!("https://{address}")),
            own_url: format!("https://{address}"),
            ca: keys.authority.certificate_pem(),
            secret: keys.boot_secret.clone().into(),
            medium: self.agent_medium,
        };
        AgentDesk::new(client, settings, events)
    }
}

use drystone_fabric::{
    FabricManager,
    agents::{AgentGateway, AgentRegistry, ForwardError, RegistrationError},
};
use drystone_ofmf::agents::{Agents, Answer, Forwarded, Outcome, Refusal};
use serde_json::Value;

/// The fabric manager's agents.
pub(super) struct ByFabricManager {
    registry: AgentRegistry,
    gateway: AgentGateway,
}

impl ByFabricManager {
    pub(super) fn new(fabric: &FabricManager) -> Self {
        Self { registry: fabric.registry(), gateway: fabric.gateway() }
    }
}

impl Agents for ByFabricManager {
    fn announce<'a>(&'a self, payload: &'a Value, vouched: bool) -> Answer<'a, Vec<String>> {
        Box::pin(async move {
            let registered = self.registry.take(payload, vouched).await.map_err(|error| match error {
                RegistrationError::Malformed(error) => {
                    Refusal::Malformed { path: error.path, reason: error.reason }
                }
                RegistrationError::Handshake { address, reason } => Refusal::Unreachable { address, reason },
                RegistrationError::Api(_) => Refusal::Internal(error.to_string()),
                RegistrationError::Unknown { .. } | RegistrationError::NoSuchContext { .. } => {
                    Refusal::Unknown(error.to_string())
                }
            })?;
            Ok(registered.into_iter().map(|agent| agent.context).collect())
        })
    }

    fn looks_after(&self, uri: &str) -> bool {
        self.gateway.looks_after(uri)
    }

    fn forward<'a>(&'a self, write: Forwarded<'a>) -> Answer<'a, Outcome> {
        Box::pin(async move {
            let handed = self.gateway.forward(write.method, write.uri, write.body).await;
            let handed = handed.map_err(|error| match error {
                ForwardError::Answered { status, messages } => Refusal::Answered { status, messages },
                ForwardError::Unreachable { address, reason } => Refusal::Unreachable { address, reason },
                ForwardError::Nobody { .. } | ForwardError::NotKept { .. } | ForwardError::Api(_) => {
                    Refusal::Internal(error.to_string())
                }
            })?;
            Ok(Outcome { location: handed.location, body: handed.body })
        })
    }
}
