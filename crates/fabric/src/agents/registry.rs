//! Registration of agents that announce themselves, and the bells that they ring.

use std::{sync::Arc, time::Duration};

use drystone_api::{FabricAgent, FabricAgentSpec, SYSTEM_NAMESPACE};
use drystone_engine::reference::{ObjectKey, describe_kube_error};
use drystone_redfish::client::RedfishError;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{
    announcement::{self, Announcement, AnnouncementError, Told},
    doubts::Doubts,
};
use crate::{controller::Services, drivers::FabricService};

/// The subscription that an agent keeps for its core.
const SUBSCRIPTION: &str = "/redfish/v1/EventService/Subscriptions/SunfishServer";

/// How long a handshake may take: two requests to the agent.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(20);

/// Why an announcement came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// The payload makes no sense.
    #[error(transparent)]
    Malformed(#[from] AnnouncementError),
    /// Nobody vouches for the agent.
    #[error(
        "the agent at {address} is not declared; declare a FabricAgent with this address, or announce it with credentials"
    )]
    Unknown {
        /// Its address.
        address: String,
    },
    /// The context is none that was given out.
    #[error("Context {context:?} belongs to no registered agent")]
    NoSuchContext {
        /// What was sent.
        context: String,
    },
    /// The agent did not take part in the handshake.
    #[error("the agent at {address} did not finish the handshake: {reason}")]
    Handshake {
        /// Its address.
        address: String,
        /// Why.
        reason: String,
    },
    /// The API refused or did not answer.
    #[error("registering an agent: {}", describe_kube_error(.0))]
    Api(#[from] Box<kube::Error>),
}

/// An agent that has been registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// What it puts into its events from now on; also the id of its aggregation source.
    pub context: String,
    /// Name of its FabricAgent.
    pub name: String,
}

/// Takes announcements. Cheap to clone.
#[derive(Clone)]
pub struct AgentRegistry {
    client: Client,
    services: Services,
    doubts: Doubts,
    turn: Arc<Mutex<()>>,
}

impl AgentRegistry {
    /// A registry that keeps FabricAgents in the system namespace and rings `doubts`.
    pub(crate) fn new(client: Client, services: Services, doubts: Doubts) -> Self {
        Self { client, services, doubts, turn: Arc::default() }
    }

    /// Takes a payload that was posted. `vouched` says that whoever posted it may declare agents; without, an agent must have
    /// been declared. Returns the agents that were registered by it.
    ///
    /// # Errors
    /// [`RegistrationError`]; events before the one that failed have been taken.
    pub async fn take(&self, payload: &Value, vouched: bool) -> Result<Vec<Registered>, RegistrationError> {
        let (context, announcements) = announcement::parse(payload)?;
        let mut registered = Vec::new();
        let mut origins = Vec::new();
        for announcement in announcements {
            match announcement {
                Announcement::Discovered(told) => registered.push(self.register(&told, vouched).await?),
                Announcement::Changed { origin } => origins.push(origin),
                Announcement::Other { message_id } => {
                    tracing::debug!(message_id, "an agent's event that says nothing to Drystone");
                }
            }
        }
        if !origins.is_empty() {
            let agent = self.agent_of(&context).await?;
            for origin in origins {
                self.doubts.raise(&agent, &origin);
            }
        }
        Ok(registered)
    }

    /// Who a context was given to.
    async fn agent_of(&self, context: &str) -> Result<ObjectKey, RegistrationError> {
        let agents = self.agents().await?;
        let known = agents.iter().find(|agent| agent.uid().as_deref() == Some(context));
        let unknown = || RegistrationError::NoSuchContext { context: context.to_owned() };
        known.filter(|_| !context.is_empty()).map(ObjectKey::of).ok_or_else(unknown)
    }

    async fn agents(&self) -> Result<Vec<FabricAgent>, RegistrationError> {
        Ok(self.api().list(&ListParams::default()).await.map_err(Box::new)?.items)
    }

    fn api(&self) -> Api<FabricAgent> {
        Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE)
    }

    /// The handshake: the agent is asked for its ConnectionMethod, written down, and told its context. All of it again for an
    /// agent that has been here before.
    async fn register(&self, told: &Told, vouched: bool) -> Result<Registered, RegistrationError> {
        let _turn = self.turn.lock().await;
        let agent = self.declared(told, vouched).await?;
        let context = agent.uid().unwrap_or_default();
        let failed = |reason: String| RegistrationError::Handshake { address: told.address.clone(), reason };
        let service = self.services.of(&agent).await.map_err(|error| failed(error.to_string()))?;
        let handshake = greet(service.as_ref(), told, &context);
        match tokio::time::timeout(HANDSHAKE_LIMIT, handshake).await {
            Ok(greeted) => greeted.map_err(|error| failed(error.to_string()))?,
            Err(_) => return Err(failed(format!("no end within {} s", HANDSHAKE_LIMIT.as_secs()))),
        }
        self.doubts.raise_all(&ObjectKey::of(&agent));
        Ok(Registered { context, name: agent.name_any() })
    }

    /// The FabricAgent of an address, made if there is none and somebody vouches.
    async fn declared(&self, told: &Told, vouched: bool) -> Result<FabricAgent, RegistrationError> {
        let same = |agent: &FabricAgent| agent.spec.address.trim_end_matches('/') == told.address;
        let known = self.agents().await?.into_iter().find(same);
        if let Some(agent) = known {
            if agent.spec.connection_method.as_ref() == Some(&told.connection_method) {
                return Ok(agent);
            }
            let change = json!({"spec": {"connectionMethod": told.connection_method}});
            let (api, name) = (self.api(), agent.name_any());
            let changed = api.patch(&name, &PatchParams::default(), &Patch::Merge(&change)).await;
            return Ok(changed.map_err(Box::new)?);
        }
        if !vouched {
            return Err(RegistrationError::Unknown { address: told.address.clone() });
        }
        let mark = Uuid::new_v5(&Uuid::NAMESPACE_URL, told.address.as_bytes()).simple().to_string();
        let spec = FabricAgentSpec {
            address: told.address.clone(),
            connection_method: Some(told.connection_method.clone()),
            ..FabricAgentSpec::default()
        };
        let agent = FabricAgent::new(&format!("agent-{}", &mark[..8]), spec);
        Ok(self.api().create(&PostParams::default(), &agent).await.map_err(Box::new)?)
    }
}

/// The agent's part of the handshake.
async fn greet(service: &dyn FabricService, told: &Told, context: &str) -> Result<(), RedfishError> {
    let client = service.client();
    client.get(&told.connection_method).await?;
    client.patch(SUBSCRIPTION, &json!({"Context": context}), None).await?;
    Ok(())
}
