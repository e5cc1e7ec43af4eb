//! Why something that was asked for is not done, with the code that EMCO's front end answers.

use thiserror::Error;

/// Why something that was asked for is not done.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct Refusal {
    /// HTTP status that tells it.
    pub code: u16,
    /// What is wrong, where, and what to do.
    pub message: String,
}

impl Refusal {
    /// The request makes no sense as it stands (400).
    pub fn bad(message: impl Into<String>) -> Self {
        Self { code: 400, message: message.into() }
    }

    /// Something that it needs is not there (404).
    pub fn missing(message: impl Into<String>) -> Self {
        Self { code: 404, message: message.into() }
    }

    /// It does not fit the state that things are in (409).
    pub fn state(message: impl Into<String>) -> Self {
        Self { code: 409, message: message.into() }
    }

    /// What was declared cannot be carried out as it is (422).
    pub fn unfit(message: impl Into<String>) -> Self {
        Self { code: 422, message: message.into() }
    }

    /// Somebody else failed (500).
    pub fn failed(message: impl Into<String>) -> Self {
        Self { code: 500, message: message.into() }
    }
}
