//! The controllers that belong to the server itself. Each follows the store, and writes as any other client does.
//!
//! | module | what it does |
//! |---|---|
//! | [`policy`] | keeps the access policy as the RBAC objects say |
//! | [`aggregation`] | fills in cluster roles that are made of others |
//! | [`custom_resources`] | serves what CustomResourceDefinitions describe |
//! | [`bootstrap`] | makes what every cluster has |
//! | [`kubernetes_service`] | the Service by which pods reach this server |
//! | [`namespaces`] | gives each namespace its account and root certificates, and empties those that are deleted |
//! | [`garbage`] | deletes what has lost its owners |
//! | [`certificates`] | approves and signs certificate signing requests |
//! | [`contents`] | deleting everything below a prefix |

mod aggregation;
mod bootstrap;
mod certificates;
mod contents;
mod custom_resources;
mod garbage;
mod kubernetes_service;
mod namespaces;
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
    if let Some(network) = state.config.services.clone()
        && let Some(advertised) = network.advertise
    {
        tasks.spawn(kubernetes_service::run(Arc::clone(state), network, advertised));
    }
    tasks.spawn(policy::run(Arc::clone(state)));
    tasks.spawn(aggregation::run(Arc::clone(state)));
    tasks.spawn(custom_resources::run(Arc::clone(state)));
    tasks.spawn(namespaces::run(Arc::clone(state)));
    tasks.spawn(garbage::run(Arc::clone(state)));
    if state.config.certificate_authority.is_some() {
        tasks.spawn(certificates::run(Arc::clone(state)));
    }
    Ok(())
}
