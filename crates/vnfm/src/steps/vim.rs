//! VIMs, as steps see them. One driver for each kind; there is one for OpenStack.

use std::fmt;

use async_trait::async_trait;
use drystone_engine::action::StepError;
use drystone_sol003::types::{KeyValuePairs, VimConnectionInfo};

use crate::model::{Inventory, StackRequest, Vnfc};

/// How a VIM is reached, with what is secret of it. `Debug` does not show that.
#[derive(Clone, Default)]
pub struct Access {
    /// How it is reached.
    pub info: VimConnectionInfo,
    /// Certificate authority, PEM.
    pub certificate_authority: Option<String>,
    /// What is secret of `accessInfo`: `password` and the like.
    pub secrets: KeyValuePairs,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("endpoint", &self.info.interface_info.get("endpoint"))
            .finish_non_exhaustive()
    }
}

/// Why a VIM did not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VimError {
    /// It may later.
    #[error("{0}")]
    Transient(String),
    /// It never will.
    #[error("{0}")]
    Permanent(String),
}

impl From<VimError> for StepError {
    fn from(error: VimError) -> Self {
        match error {
            VimError::Transient(why) => Self::Transient(why),
            VimError::Permanent(why) => Self::Permanent(why),
        }
    }
}

/// Who is told how far the VIM is.
pub type Told<'a> = &'a mut (dyn FnMut(String) + Send);

/// What an inventory is to be read by.
#[derive(Debug, Clone, Copy)]
pub struct InventoryAsk<'a> {
    /// The stack: `NAME/ID`.
    pub stack: &'a str,
    /// Names that the VNFD has for resources.
    pub names: &'a [String],
    /// Servers that have an index: they, and what replaces them, keep it.
    pub known: &'a [Vnfc],
}

/// A kind of VIM.
#[async_trait]
pub trait VimDriver: Send + Sync {
    /// Somebody's way to a VIM. Cheap; nothing is sent yet, and what was learnt of it before (tokens) is used again.
    ///
    /// # Errors
    /// It cannot be used like this.
    fn session(&self, access: &Access) -> Result<Box<dyn VimSession>, VimError>;
}

/// Somebody's way to a VIM. Everything waits in bounded time, and ends when its future is dropped. What is asked for twice is done
/// once.
#[async_trait]
pub trait VimSession: Send + Sync {
    /// Makes a stack and waits until it is there. One that its owner has made before is found again; if that failed half-way, it is
    /// completed.
    ///
    /// Returns `NAME/ID`.
    ///
    /// # Errors
    /// It cannot be made; what was made of it stays.
    async fn create(
        &self,
        name: &str,
        owner: &str,
        request: &StackRequest,
        told: Told<'_>,
    ) -> Result<String, VimError>;

    /// Changes a stack and waits until that is done.
    ///
    /// # Errors
    /// It cannot be changed so.
    async fn update(
        &self,
        stack: &str,
        owner: &str,
        request: &StackRequest,
        told: Told<'_>,
    ) -> Result<(), VimError>;

    /// Deletes a stack and waits until it is gone. One that is not there is gone.
    ///
    /// # Errors
    /// It cannot be deleted.
    async fn delete(&self, stack: &str, told: Told<'_>) -> Result<(), VimError>;

    /// The stack of that name (or `NAME/ID`) that its owner has made: `NAME/ID`.
    ///
    /// # Errors
    /// It cannot be asked.
    async fn find(&self, name: &str, owner: &str) -> Result<Option<String>, VimError>;

    /// Has a resource replaced, or be the first to go, with the next change of the stack.
    ///
    /// # Errors
    /// There is no such resource.
    async fn mark_unhealthy(&self, stack: &str, resource: &str, reason: &str) -> Result<(), VimError>;

    /// What there is.
    ///
    /// # Errors
    /// It cannot be read.
    async fn inventory(&self, ask: InventoryAsk<'_>) -> Result<Inventory, VimError>;

    /// Whether it lets us in; its regions (or namespaces), and the id of the project.
    ///
    /// # Errors
    /// It does not.
    async fn check(&self) -> Result<(Vec<String>, Option<String>), VimError>;
}
