//! What controllers and the synchroniser are asked to do with an AppContext. EMCO's gRPC contract as traits: implemented by what is built
//! in, and by clients of external controllers.

use async_trait::async_trait;

use crate::names::ContextId;

/// Why a controller did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControllerError {
    /// It said no, and why.
    #[error("{0}")]
    Refused(String),
    /// It could not be asked.
    #[error("the controller cannot be reached: {0}")]
    Unreachable(String),
    /// It did not answer in time.
    #[error("the controller did not answer in time")]
    TimedOut,
    /// It does not know the method, which is named.
    #[error("the controller does not know {0}")]
    Unimplemented(String),
}

/// What has happened to a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It is being installed.
    Instantiate,
    /// It is being removed.
    Terminate,
    /// It takes the place of another one.
    Update,
}

/// Carries contexts to clusters. What is asked for is accepted when a method returns, and goes on by itself.
#[async_trait]
pub trait Synchroniser: Send + Sync + 'static {
    /// Installs a context.
    ///
    /// # Errors
    /// [`ControllerError`] if it is not accepted.
    async fn install(&self, context: ContextId) -> Result<(), ControllerError>;

    /// Removes a context.
    ///
    /// # Errors
    /// [`ControllerError`] if it is not accepted.
    async fn uninstall(&self, context: ContextId) -> Result<(), ControllerError>;

    /// Reads the objects that a context names, into the context.
    ///
    /// # Errors
    /// [`ControllerError`] if it is not accepted.
    async fn read(&self, context: ContextId) -> Result<(), ControllerError>;

    /// Installs context `to` in the place of `from`.
    ///
    /// # Errors
    /// [`ControllerError`] if it is not accepted.
    async fn update(&self, from: ContextId, to: ContextId) -> Result<(), ControllerError>;
}

/// Says which of the clusters of a context will do.
#[async_trait]
pub trait PlacementController: Send + Sync + 'static {
    /// Removes the clusters that will not do from the context.
    ///
    /// # Errors
    /// [`ControllerError`] if that failed; the context is not used then.
    async fn filter_clusters(&self, context: ContextId) -> Result<(), ControllerError>;
}

/// Changes what goes to clusters.
#[async_trait]
pub trait ActionController: Send + Sync + 'static {
    /// Changes a context as an intent of that name wants it; `from` is the context whose place it takes.
    ///
    /// # Errors
    /// [`ControllerError`] if that failed; the context is not used then.
    async fn update_context(
        &self,
        context: ContextId,
        intent: &str,
        from: Option<ContextId>,
    ) -> Result<(), ControllerError>;

    /// Tells that a context is about to be removed.
    ///
    /// # Errors
    /// [`ControllerError`] if that failed; `Unimplemented` is no failure to who asks.
    async fn terminate(&self, context: ContextId) -> Result<(), ControllerError>;

    /// Tells what has happened to a context.
    ///
    /// # Errors
    /// [`ControllerError`] if that failed; `Unimplemented` is no failure to who asks.
    async fn post_event(&self, context: ContextId, event: Event) -> Result<(), ControllerError>;
}
