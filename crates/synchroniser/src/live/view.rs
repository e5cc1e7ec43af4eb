//! What others see of contexts: a picture at any time, and changes as they happen.

use std::sync::Arc;

use drystone_appcontext::{ClusterName, Connectivity, ContextId, ResourceName, ResourceStatus, State};
use tokio::sync::broadcast;

/// Changes that are kept for those who are slow to take them.
const KEPT: usize = 4096;

/// Whether an object is what it is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Presence {
    /// It is ready.
    Ready,
    /// It is there, and not ready.
    NotReady,
    /// It is not there, as far as anybody knows.
    NotPresent,
}

impl Presence {
    /// EMCO's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::NotReady => "NotReady",
            Self::NotPresent => "NotPresent",
        }
    }
}

/// An object of a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceView {
    /// Its name in the context.
    pub name: ResourceName,
    /// `apiVersion`; empty if the manifest is not readable.
    pub api_version: String,
    /// `kind`.
    pub kind: String,
    /// Its name at the cluster.
    pub object: String,
    /// Its namespace; empty if it is in none.
    pub namespace: String,
    /// Whether it is a hook.
    pub is_hook: bool,
    /// How far it has got.
    pub status: ResourceStatus,
    /// Whether it is what it is to be.
    pub presence: Presence,
    /// Why it was refused, or what it waits for; empty if there is nothing to say.
    pub detail: String,
}

/// An application on a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartView {
    /// The application.
    pub app: String,
    /// The cluster.
    pub cluster: ClusterName,
    /// Whether the cluster answers.
    pub connectivity: Connectivity,
    /// Why it does not, if it does not.
    pub away: String,
    /// Whether everything is ready.
    pub ready: bool,
    /// Its objects, in their order.
    pub resources: Vec<ResourceView>,
}

/// A context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextView {
    /// The context.
    pub context: ContextId,
    /// The context under whose number its objects are labelled, and its status is told.
    pub status_context: ContextId,
    /// Its parts, by application and cluster.
    pub parts: Vec<PartView>,
}

/// Something has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A context is in another state.
    State {
        /// The context.
        context: ContextId,
        /// Its state.
        state: State,
    },
    /// A part is ready, or is not any more. What the context says already is not told again after a restart.
    Ready {
        /// The context.
        context: ContextId,
        /// The context of its status.
        status_context: ContextId,
        /// The application.
        app: Arc<str>,
        /// The cluster.
        cluster: ClusterName,
        /// Whether it is.
        ready: bool,
    },
    /// Something else of a part: of its objects, or of its cluster.
    Part {
        /// The context.
        context: ContextId,
        /// The context of its status.
        status_context: ContextId,
        /// The application.
        app: Arc<str>,
        /// The cluster.
        cluster: ClusterName,
    },
}

/// Tells changes. Whoever lags behind is told so, and asks for the whole picture.
#[derive(Debug, Clone)]
pub(crate) struct Feed(broadcast::Sender<Change>);

impl Default for Feed {
    fn default() -> Self {
        Self(broadcast::Sender::new(KEPT))
    }
}

impl Feed {
    /// Tells a change to whoever listens.
    pub(crate) fn tell(&self, change: Change) {
        // Nobody need listen.
        let _ = self.0.send(change);
    }

    /// Changes from now on.
    pub(crate) fn listen(&self) -> broadcast::Receiver<Change> {
        self.0.subscribe()
    }
}
