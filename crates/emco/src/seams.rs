//! What life cycles need of others, as traits: controllers, charts, room on clusters.

use std::sync::Arc;

use async_trait::async_trait;
use drystone_api::emco::ControllerType;
use drystone_appcontext::{
    ClusterName,
    contract::{ActionController, PlacementController, Synchroniser},
};

pub use crate::model::Room;
use crate::model::{DeployedApp, Manifests, Refusal};

/// What is known of a controller before it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enlisted {
    /// Name.
    pub name: String,
    /// What it does.
    pub kind: ControllerType,
    /// When its turn is: lower numbers first; of equal ones, the first by name.
    pub priority: i64,
}

/// The controllers that take part in deployments: built in, or registered and spoken to over gRPC.
pub trait Controllers: Send + Sync + 'static {
    /// What is known of the controller of a name; none if nobody has registered one.
    fn enlisted(&self, name: &str) -> Option<Enlisted>;

    /// That placement controller.
    fn placement(&self, name: &str) -> Arc<dyn PlacementController>;

    /// That action controller.
    fn action(&self, name: &str) -> Arc<dyn ActionController>;

    /// The synchroniser: built in, or the controller that is registered as `rsync`.
    fn synchroniser(&self) -> Arc<dyn Synchroniser>;
}

/// Why a chart was not rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChartFailure {
    /// It will never be, as it is.
    #[error("{0}")]
    Refused(Refusal),
    /// It may be, later.
    #[error("{0}")]
    NotNow(String),
}

/// Renders charts.
#[async_trait]
pub trait Charts: Send + Sync + 'static {
    /// What the chart of an application becomes with its profile and overrides.
    ///
    /// # Errors
    /// [`ChartFailure`].
    async fn render(
        &self,
        app: &DeployedApp,
        release: &str,
        namespace: &str,
    ) -> Result<Manifests, ChartFailure>;
}

/// Looks at live clusters.
#[async_trait]
pub trait Rooms: Send + Sync + 'static {
    /// What a cluster has left.
    ///
    /// # Errors
    /// Why that is not known, in words.
    async fn room(&self, cluster: &ClusterName) -> Result<Room, String>;
}
