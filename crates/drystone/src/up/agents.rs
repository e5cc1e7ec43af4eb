//! Agents for the Redfish service, by the fabric manager: where the two meet.

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
