//! Fabric agents as the service sees them: they announce themselves, and what they look after themselves is handed on to them.
//!
//! The service does not know how agents are reached; whoever assembles the program connects it ([`crate::Ofmf::connect`]).

use std::{future::Future, pin::Pin};

use drystone_redfish::{
    error::ServiceError,
    message::{self, Message},
    server::{Reply, RequestBody, Role, WriteRequest},
};
use http::StatusCode;
use serde_json::{Value, json};

/// Where agents post events, at the root of the server (OFMF agents know no other place).
pub const EVENT_LISTENER: &str = "/EventListener";

/// What an agent does with a request.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Refusal>> + Send + 'a>>;

/// Those who know agents.
pub trait Agents: Send + Sync + 'static {
    /// Takes what was posted to `/EventListener`. `vouched`: by somebody who may declare agents. Returns the contexts that were
    /// given out.
    fn announce<'a>(&'a self, payload: &'a Value, vouched: bool) -> Answer<'a, Vec<String>>;

    /// Whether an agent looks after a URI of the tree.
    fn looks_after(&self, uri: &str) -> bool;

    /// Hands a write on to the agent that looks after a URI; once it is done, the tree shows it.
    fn forward<'a>(&'a self, write: Forwarded<'a>) -> Answer<'a, Outcome>;
}

/// A write on its way to an agent.
#[derive(Debug, Clone)]
pub struct Forwarded<'a> {
    /// `POST`, `PATCH` or `DELETE`.
    pub method: &'a str,
    /// Where, as the tree calls it.
    pub uri: &'a str,
    /// The body, with URIs of the tree.
    pub body: Option<Value>,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// URI of what was created, as the tree calls it.
    pub location: Option<String>,
    /// The resource as it is now.
    pub body: Option<Value>,
}

/// Why an agent does not do what was asked, or an announcement came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// What was posted makes no sense: where, and why.
    Malformed {
        /// Path in the body: `Events/0/MessageId`.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// Nobody vouches for the agent, or its context is unknown.
    Unknown(String),
    /// The agent cannot be reached, or did not finish: its address, and why.
    Unreachable {
        /// Its address.
        address: String,
        /// Why.
        reason: String,
    },
    /// The agent says no.
    Answered {
        /// HTTP status.
        status: u16,
        /// What it says about it.
        messages: Vec<Message>,
    },
    /// Drystone failed.
    Internal(String),
}

/// Seconds after which a client may try again when an agent does not answer.
const PATIENCE: u64 = 5;

impl From<Refusal> for ServiceError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Malformed { path, reason } => {
                Self::bad_request(message::property_value_format_error(&reason, &path))
            }
            Refusal::Unknown(reason) => Self::bad_request(message::operation_failed(&reason)),
            Refusal::Unreachable { address, reason } => {
                tracing::debug!(address, reason, "an agent does not answer");
                Self::unavailable(message::could_not_establish_connection(&address), PATIENCE)
            }
            Refusal::Answered { status, messages } => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
                if messages.is_empty() {
                    Self::new(status, message::operation_failed("the agent refuses and says no more"))
                } else {
                    Self::several(status, messages)
                }
            }
            Refusal::Internal(reason) => Self::internal(&reason),
        }
    }
}

/// Answers a POST to `/EventListener`.
pub(crate) async fn listen(agents: &dyn Agents, request: WriteRequest<'_>) -> Result<Reply, ServiceError> {
    // Administrators may declare agents; others can only ring the bell of one that is declared.
    let vouched = request.principal.is_some_and(|who| who.role == Role::Administrator);
    let payload = Value::Object(request.body.required()?);
    let contexts = agents.announce(&payload, vouched).await?;
    Ok(Reply::with(StatusCode::OK, http::HeaderMap::new(), Some(json!({"Contexts": contexts}))))
}

/// Hands a write on.
pub(crate) async fn forward(agents: &dyn Agents, request: WriteRequest<'_>) -> Result<Reply, ServiceError> {
    let body = match request.body {
        RequestBody::Absent => None,
        RequestBody::Object(map) => Some(Value::Object(map)),
    };
    let created = request.method == http::Method::POST && !request.target.uri.contains("/Actions/");
    let write = Forwarded { method: request.method.as_str(), uri: request.target.uri, body };
    let outcome = agents.forward(write).await?;
    Ok(match outcome.body {
        Some(body) if created => {
            let location = outcome.location.unwrap_or_default();
            Reply::created(body).with_header(http::header::LOCATION, &location)
        }
        Some(body) => Reply::updated(body),
        None => Reply::no_content(),
    })
}
