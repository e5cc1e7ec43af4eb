//! Who hears of clusters that come and go: the controllers of the cluster manager.

use async_trait::async_trait;
use drystone_api::emco::ClmController;

/// What became of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClusterEvent {
    /// It was onboarded.
    Created,
    /// It was changed.
    Updated,
    /// It is not among the clusters any more.
    Deleted,
}

/// Tells controllers of the cluster manager what became of a cluster.
#[async_trait]
pub trait ClusterListener: Send + Sync + 'static {
    /// Tells one controller.
    ///
    /// # Errors
    /// Why it did not hear it, or what it answered.
    async fn tell(
        &self,
        controller: &ClmController,
        provider: &str,
        cluster: &str,
        event: ClusterEvent,
    ) -> Result<(), String>;
}
