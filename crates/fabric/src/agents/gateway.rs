//! Writes on their way to the agents that look after what is written: with the agents' own names out, with the tree's back.

use drystone_api::FabricAgent;
use drystone_engine::reference::{ObjectKey, describe_kube_error};
use drystone_redfish::{
    client::{Client, Outcome, RawResource, RedfishError},
    message::Message,
};
use kube::Api;
use serde_json::Value;

use super::{AgentTrees, Belongs, Doubts, announcement::collapse_slashes, kept::Kept};
use crate::controller::Services;

/// What an agent made of a write.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Handed {
    /// URI of what was created, as the tree calls it.
    pub location: Option<String>,
    /// The resource as it is now.
    pub body: Option<Value>,
}

/// Why a write did not get through.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// No agent looks after the URI.
    #[error("no agent looks after {uri}")]
    Nobody {
        /// The URI.
        uri: String,
    },
    /// The agent does not answer, or cannot be opened.
    #[error("the agent at {address} does not answer: {reason}")]
    Unreachable {
        /// Its address.
        address: String,
        /// Why.
        reason: String,
    },
    /// The agent says no.
    #[error("the agent answers {status}")]
    Answered {
        /// HTTP status.
        status: u16,
        /// What it says about it.
        messages: Vec<Message>,
    },
    /// It was carried out at the agent, and could not be written down.
    #[error("the agent did as it was asked, but Drystone could not keep it: {reason}; repeat the request")]
    NotKept {
        /// Why.
        reason: String,
    },
    /// The API of Drystone refused or did not answer.
    #[error("reading a FabricAgent: {}", describe_kube_error(.0))]
    Api(#[from] Box<kube::Error>),
}

/// Hands writes on. Cheap to clone.
#[derive(Clone)]
pub struct AgentGateway {
    client: kube::Client,
    services: Services,
    trees: AgentTrees,
    doubts: Doubts,
}

impl AgentGateway {
    pub(crate) fn new(client: kube::Client, services: Services, trees: AgentTrees, doubts: Doubts) -> Self {
        Self { client, services, trees, doubts }
    }

    /// Whether an agent looks after a URI of the tree.
    pub fn looks_after(&self, uri: &str) -> bool {
        self.trees.find(uri).is_some()
    }

    /// Hands on a POST, PATCH or DELETE and shows in the tree what came of it.
    ///
    /// What is begun is done to its end, also if whoever asked for it goes away.
    ///
    /// # Errors
    /// [`ForwardError`]; then the tree is as before.
    pub async fn forward(
        &self,
        method: &str,
        uri: &str,
        body: Option<Value>,
    ) -> Result<Handed, ForwardError> {
        let nobody = || ForwardError::Nobody { uri: uri.to_owned() };
        let Belongs { agent, uri: inner } = self.trees.find(uri).ok_or_else(nobody)?;
        let agents: Api<FabricAgent> = Api::namespaced(self.client.clone(), &agent.namespace);
        let declared = agents.get_opt(&agent.name).await.map_err(Box::new)?.ok_or_else(nobody)?;
        let address = declared.spec.address.clone();
        let service = self.services.of(&declared).await;
        let service = service.map_err(|error| ForwardError::Unreachable {
            address: address.clone(),
            reason: error.to_string(),
        })?;
        let mut body = body.unwrap_or_default();
        self.trees.body_to_agent(&agent, &mut body);
        let (gateway, method) = (self.clone(), method.to_owned());
        let carried = tokio::spawn(async move {
            gateway.carry(&declared, &agent, service.client(), &method, &inner, &body).await
        });
        carried.await.map_err(|error| ForwardError::NotKept { reason: error.to_string() })?
    }

    /// Writes to an agent, shows what came of it, and notes that.
    async fn carry(
        &self,
        declared: &FabricAgent,
        agent: &ObjectKey,
        client: &Client,
        method: &str,
        inner: &str,
        body: &Value,
    ) -> Result<Handed, ForwardError> {
        let address = &declared.spec.address;
        let turns = self.trees.turns(agent);
        // Until it is noted what became of it.
        let _turn = turns.read().await;
        let result = match method {
            "POST" => client.create(inner, body).await,
            "PATCH" => client.patch(inner, body, None).await,
            _ => client.delete(inner).await,
        };
        let outcome = result.map_err(|error| failure(address, &error))?;
        let kept = Kept::new(&self.client, &agent.namespace);
        let shown = self.show(client, agent, method, inner, &outcome).await;
        if shown.is_err() {
            self.doubts.raise_all(agent);
        }
        let (handed, now) = shown.map_err(|error| failure(address, &error))?;
        // Durable before it is acknowledged: what the client is told that it has is made again if the agent loses it.
        let noted = match (method, now) {
            ("POST", Some((uri, _))) if !inner.contains("/Actions/") => kept.made(declared, &uri, body).await,
            ("PATCH", Some((uri, now))) => kept.changed(agent, &uri, body, &now).await,
            ("DELETE", _) => kept.removed(agent, inner).await,
            _ => Ok(()),
        };
        // What else changed with it is found by the crawl that this rings for; not before it is noted, or what was deleted would be missed there and
        // made again.
        self.doubts.raise_all(agent);
        noted.map(|()| handed).map_err(|error| ForwardError::NotKept { reason: error.to_string() })
    }

    /// Reads back what was written and puts it into the tree; also what it is there, as the agent calls it.
    async fn show(
        &self,
        client: &Client,
        agent: &ObjectKey,
        method: &str,
        inner: &str,
        outcome: &Outcome,
    ) -> Result<(Handed, Option<(String, Value)>), RedfishError> {
        let own = outcome.body().and_then(|body| body.get("@odata.id")).and_then(Value::as_str);
        let place = match method {
            "POST" => outcome.location().or(own).map(collapse_slashes),
            "PATCH" => Some(inner.to_owned()),
            _ => None,
        };
        let Some(place) = place else {
            if method == "DELETE" {
                self.trees.remove(agent, inner);
            }
            return Ok((Handed::default(), None));
        };
        let resource = client.get(&place).await?;
        let raw =
            RawResource { uri: place.clone(), etag: resource.etag, body: resource.body.to_string().into() };
        self.trees.put(agent, &raw);
        let now = resource.body;
        let mut body = now.clone();
        self.trees.body_to_tree(agent, &mut body);
        let handed = Handed { location: Some(self.trees.uri_in_tree(agent, &place)), body: Some(body) };
        Ok((handed, Some((place, now))))
    }
}

fn failure(address: &str, error: &RedfishError) -> ForwardError {
    match error {
        RedfishError::Status { code, messages, .. } => {
            ForwardError::Answered { status: *code, messages: messages.clone() }
        }
        RedfishError::TaskFailed { messages, .. } => {
            ForwardError::Answered { status: 500, messages: messages.clone() }
        }
        other => ForwardError::Unreachable { address: address.to_owned(), reason: other.to_string() },
    }
}
