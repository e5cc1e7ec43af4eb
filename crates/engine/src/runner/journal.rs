//! Where the state of an operation is made durable.

use async_trait::async_trait;
use drystone_api::OperationStatus;

/// The journal of one operation.
#[async_trait]
pub trait Journal: Send {
    /// Makes `status` durable. When this returns `Ok`, it survives a crash; when it fails, it may or may not have been written.
    ///
    /// # Errors
    /// Nothing may be done in the name of this operation any more after an error.
    async fn record(&mut self, status: &OperationStatus) -> Result<(), JournalError>;
}

/// Why the journal cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Another process wrote to the journal: this one no longer leads, or started from an outdated copy.
    #[error("operation {operation} is being run by somebody else: its journal was changed")]
    Fenced {
        /// The operation.
        operation: String,
    },
    /// The operation does not exist any more.
    #[error("operation {operation} does not exist any more")]
    Gone {
        /// The operation.
        operation: String,
    },
    /// The store cannot be reached, or refuses to write.
    #[error("journal of operation {operation} could not be written for {seconds} s: {why}")]
    Unavailable {
        /// The operation.
        operation: String,
        /// How long it was tried.
        seconds: u64,
        /// The last error.
        why: String,
    },
}
