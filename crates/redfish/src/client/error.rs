//! What can go wrong with a Redfish service, by what can be done about it.

use std::time::Duration;

use crate::message::Message;

/// Failure of a request, after all retries.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RedfishError {
    /// The client cannot be set up like this.
    #[error("cannot talk to {address:?}: {reason}")]
    Configuration {
        /// Address, without credentials.
        address: String,
        /// What is wrong with the options.
        reason: String,
    },
    /// The service refuses the user name or password.
    #[error("{uri}: the service refuses the credentials; check user name and password")]
    Unauthorized {
        /// What was asked for.
        uri: String,
    },
    /// No answer in time.
    #[error("{uri}: no answer within {} s", .after.as_secs_f64())]
    Timeout {
        /// What was asked for.
        uri: String,
        /// How long was waited.
        after: Duration,
    },
    /// No connection, or it broke.
    #[error("{uri}: cannot be reached: {reason}")]
    Unreachable {
        /// What was asked for.
        uri: String,
        /// Why.
        reason: String,
    },
    /// The service answered with an error.
    #[error("{uri}: the service answers {code}{}", explain(.messages))]
    Status {
        /// What was asked for.
        uri: String,
        /// HTTP status.
        code: u16,
        /// What the service says about it; may be empty.
        messages: Vec<Message>,
    },
    /// The service answered with something that is not Redfish.
    #[error("{uri}: the answer makes no sense: {reason}")]
    Malformed {
        /// What was asked for.
        uri: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A task did not complete.
    #[error("{uri}: the task ended as {state}{}", explain(.messages))]
    TaskFailed {
        /// The task or its monitor.
        uri: String,
        /// `Exception`, `Killed`, `Cancelled`.
        state: String,
        /// What the task says about it.
        messages: Vec<Message>,
    },
}

fn explain(messages: &[Message]) -> String {
    let texts: Vec<&str> =
        messages.iter().map(|message| message.message.as_str()).filter(|text| !text.is_empty()).collect();
    if texts.is_empty() { String::new() } else { format!(": {}", texts.join(" ")) }
}

impl RedfishError {
    /// The HTTP status, if the service answered with one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { code, .. } => Some(*code),
            Self::Unauthorized { .. } => Some(401),
            _ => None,
        }
    }

    /// Keys of the messages, without registry and version: `ResourceInUse`.
    pub fn message_keys(&self) -> Vec<&str> {
        match self {
            Self::Status { messages, .. } | Self::TaskFailed { messages, .. } => {
                messages.iter().map(Message::key).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether the service said this.
    pub fn says(&self, key: &str) -> bool {
        self.message_keys().contains(&key)
    }

    /// Whether the same request may succeed later although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Unreachable { .. } => true,
            Self::Status { code, .. } => *code >= 500 && *code != 501,
            _ => false,
        }
    }

    pub(super) fn malformed(uri: &str, reason: impl std::fmt::Display) -> Self {
        Self::Malformed { uri: uri.to_owned(), reason: reason.to_string() }
    }
}
