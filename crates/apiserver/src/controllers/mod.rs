//! The controllers that belong to the server itself. Each follows the store, and writes as any other client does.
//!
//! | module | what it does |
//! |---|---|
//! | [`policy`] | keeps the access policy as the RBAC objects say |
//! | [`custom_resources`] | serves what CustomResourceDefinitions describe |
//! | [`bootstrap`] | makes what every cluster has |

mod bootstrap;
mod custom_resources;
mod policy;

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::server::StartError;
use crate::server::state::State;

/// Prepares the server, and starts the controllers, which end when the server stops.
pub(crate) async fn start(state: &Arc<State>, tasks: &TaskTracker) -> Result<(), StartError> {
    custom_resources::load(state).await?;
    bootstrap::ensure(state).await.map_err(StartError::Bootstrap)?;
    policy::load(state).await?;
    tasks.spawn(policy::run(Arc::clone(state)));
    tasks.spawn(custom_resources::run(Arc::clone(state)));
    Ok(())
}
