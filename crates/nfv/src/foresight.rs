//! Whether an operation can be carried out, before anything of it is written down: asked of who would do it.

use std::sync::Arc;

use drystone_api::nfv::{VnfInstance, VnfLcmOperation};
use drystone_sol003::types::ProblemDetails;

/// Who knows what an operation would take.
pub trait Foresight: Send + Sync + 'static {
    /// Plans an operation that is not written down yet, and says what is wrong with it.
    ///
    /// # Errors
    /// What is wrong, as the client is to see it: then nothing is changed.
    fn check(&self, instance: Arc<VnfInstance>, operation: &VnfLcmOperation) -> Result<(), ProblemDetails>;
}
