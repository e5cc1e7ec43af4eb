//! Where the plugin's calls arrive: a unix socket in the node agent's process, for root only.
//!
//! One connection, one [`Request`] as a line of JSON, one [`Answer`] as a line of JSON.

#[cfg(test)]
mod hostile;
mod server;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::protocol::{AddResult, CniError, Environment, NetworkConfiguration};

pub use server::{ServeError, Server};

/// Where the agent listens unless the network configuration says otherwise (key `socket`).
pub const DEFAULT_SOCKET: &str = "/run/drystone/cni.sock";

/// The longest message, in bytes.
pub(crate) const MAX_MESSAGE: u64 = 1 << 20;

/// What the plugin asks.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// The checked environment variables.
    pub environment: Environment,
    /// The network configuration, as it came.
    pub configuration: Map<String, Value>,
}

/// What the agent answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// To be printed; `null` for commands that print nothing.
    Result(Value),
    /// To be reported.
    Error(CniError),
}

/// Does what CNI's commands ask. Calls for different attachments come at the same time.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Attaches. What it returns is this plugin's own part of the result.
    async fn add(
        &self,
        request: &Environment,
        configuration: &NetworkConfiguration,
    ) -> Result<AddResult, CniError>;

    /// Detaches; success if there is nothing.
    async fn del(&self, request: &Environment, configuration: &NetworkConfiguration) -> Result<(), CniError>;

    /// Fails if the attachment is not as it was made.
    async fn check(
        &self,
        request: &Environment,
        configuration: &NetworkConfiguration,
    ) -> Result<(), CniError>;

    /// Fails if ADD could not be done now.
    async fn status(&self) -> Result<(), CniError>;

    /// Frees what belongs to no attachment that the configuration lists.
    async fn collect(&self, configuration: &NetworkConfiguration) -> Result<(), CniError>;
}
