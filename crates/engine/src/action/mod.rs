//! Actions: the effects that steps of an operation are made of.
//!
//! A domain writes one type per action, registers it in an [`ActionRegistry`] and names it in its plans by
//! [`Action::NAME`]. The engine calls [`Action::run`] at least once per step: after a crash, or when the answer to an attempt
//! was lost, it is called again with the same parameters. Therefore an action is **idempotent**: it brings about a
//! state, and finding that state already there is success.

mod context;
mod error;
mod registry;

use std::future::Future;

pub use context::{StepContext, StepReport};
pub use error::StepError;
pub use registry::{ActionRegistry, DynAction, RegistryError};
use serde::{Serialize, de::DeserializeOwned};

/// An effect that a step brings about, and how to take it back.
///
/// ```
/// # use drystone_engine::action::{Action, StepContext, StepError};
/// # use serde::{Deserialize, Serialize};
/// struct PowerOn;
///
/// #[derive(Serialize, Deserialize)]
/// struct Host { name: String }
///
/// impl Action for PowerOn {
///     const NAME: &'static str = "metal.power-on";
///     type Parameters = Host;
///     type Output = ();
///
///     async fn run(&self, context: &StepContext, host: Host) -> Result<(), StepError> {
///         context.progress(10, format!("asking the BMC of {}", host.name));
///         Ok(())
///     }
/// }
/// ```
pub trait Action: Send + Sync + 'static {
    /// The name by which plans refer to it: `domain.verb-noun`.
    const NAME: &'static str;

    /// What it needs to know; serialized as a JSON object, or `()` for nothing. Never holds secrets, only references to them.
    type Parameters: Serialize + DeserializeOwned + Send;

    /// What it produces for the steps that depend on it; serialized as a JSON object, or `()` for nothing. Never holds
    /// secrets.
    type Output: Serialize + DeserializeOwned + Send;

    /// Brings the effect about. Idempotent. Bounded in time by the step's timeout; should return soon after
    /// [`StepContext::cancelled`] fires and is dropped if it does not.
    ///
    /// # Errors
    /// A [`StepError`], which says whether another attempt may help.
    fn run(
        &self,
        context: &StepContext,
        parameters: Self::Parameters,
    ) -> impl Future<Output = Result<Self::Output, StepError>> + Send;

    /// Takes the effect back. Idempotent, and a success when there is nothing to take back: it is also called for steps that
    /// failed or were interrupted half-way. What `run` returned, if it did, is [`StepContext::output`].
    ///
    /// # Errors
    /// A [`StepError`], which says whether another attempt may help.
    fn undo(
        &self,
        context: &StepContext,
        parameters: Self::Parameters,
    ) -> impl Future<Output = Result<(), StepError>> + Send {
        let _ = (context, parameters);
        async { Ok(()) }
    }
}
