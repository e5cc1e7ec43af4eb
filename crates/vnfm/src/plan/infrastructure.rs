//! VIMs that are no OpenStack: who says which steps bring about what an operation asks of them.

use drystone_api::StepSpec;

use super::outline::Outline;
use crate::model::{Problem, Situation};

/// Says which steps an operation takes on a VIM of another kind than OpenStack. Pure.
pub trait InfrastructurePlanner: Send + Sync {
    /// The steps. Those without `dependsOn` begin after the `_start` hook; the `_end` hook waits for all of them. Except when the
    /// instance is terminated, one of them has the id [`INVENTORY`](super::operation::INVENTORY), and its output is the
    /// [`Inventory`](crate::model::Inventory) afterwards. Undone, they take back what they did.
    ///
    /// # Errors
    /// What is wrong with the request.
    fn steps(&self, outline: &Outline, situation: &Situation) -> Result<Vec<StepSpec>, Problem>;
}
