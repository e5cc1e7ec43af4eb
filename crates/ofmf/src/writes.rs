//! What writes become: resources of Drystone, whose controllers do the work. The reply waits for them, for a while.

mod aggregates;
mod aggregation;
mod compose;
mod fabric_links;
mod groups;
mod host;
mod pools;
mod replace;
mod systems;
mod tasks;
mod zone_checks;
mod zones;

use std::sync::Arc;

use drystone_engine::reference::describe_kube_error;
use drystone_redfish::{
    error::ServiceError,
    message,
    server::{Reply, WriteRequest},
    tree::Tree,
};
use kube::Client;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::feed::Feed;
use tasks::Tasks;

/// Carries out writes.
#[derive(Debug, Clone)]
pub(crate) struct Writes(Arc<Inner>);

/// What every write needs.
pub(crate) struct Inner {
    client: Client,
    feed: Arc<Feed>,
    tree: Arc<Tree>,
    tasks: Tasks,
    /// Held while a change of fabrics is checked and made: what was checked stays true until it is.
    fabrics: Arc<Mutex<()>>,
}

impl Inner {
    /// The turn to change fabrics, for work that goes on where its client does not wait.
    async fn turn_of_fabrics(&self) -> OwnedMutexGuard<()> {
        self.fabrics.clone().lock_owned().await
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").finish_non_exhaustive()
    }
}

impl Writes {
    pub(crate) fn new(client: Client, feed: Arc<Feed>, tree: Arc<Tree>) -> Self {
        let tasks = Tasks::new(tree.clone());
        Self(Arc::new(Inner { client, feed, tree, tasks, fabrics: Arc::default() }))
    }

    /// Tasks of writes that take long.
    pub(crate) fn tasks(&self) -> &Tasks {
        &self.0.tasks
    }

    /// Carries out a write. What has begun is brought to its end even if the client does not wait for it.
    pub(crate) async fn write(&self, request: WriteRequest<'_>) -> Result<Reply, ServiceError> {
        let owned: Vec<String> = request.target.segments().iter().map(|part| (*part).to_owned()).collect();
        let segments: Vec<&str> = owned.iter().map(String::as_str).collect();
        if let ["Fabrics", fabric, ..] = segments.as_slice()
            && !self.0.tree.contains(&crate::render::fabric::fabric_uri(fabric))
        {
            return Err(ServiceError::not_found(request.target.uri));
        }
        match (request.method.as_str(), segments.as_slice()) {
            ("POST", ["Systems", system, "Actions", "ComputerSystem.Reset"]) => {
                host::reset(&self.0, system, request).await
            }
            ("POST", ["Systems"]) => systems::create(&self.0, request).await,
            ("POST", ["Systems", system, "Actions", action @ (systems::ADD | systems::REMOVE)]) => {
                systems::act(&self.0, system, action, request).await
            }
            ("PATCH", ["Systems", system]) => systems::change(&self.0, system, request).await,
            ("DELETE", ["Systems", system]) => systems::delete(&self.0, system, request.target.uri).await,
            ("POST", ["CompositionService", "Actions", _]) => compose::compose(&self.0, request).await,
            ("DELETE", ["CompositionService", "CompositionReservations", id]) => {
                compose::release(&self.0, id, request.target.uri).await
            }
            ("POST", ["Fabrics", fabric, "Zones"]) => zones::create(&self.0, fabric, request).await,
            ("PATCH", ["Fabrics", fabric, "Zones", zone]) => {
                zones::change(&self.0, fabric, zone, request).await
            }
            ("DELETE", ["Fabrics", fabric, "Zones", zone]) => {
                zones::delete(&self.0, fabric, zone, request.target.uri).await
            }
            ("POST", ["Fabrics", fabric, "Zones", zone, "Actions", action]) => {
                zones::act(&self.0, fabric, zone, action, request).await
            }
            (_, ["Fabrics", fabric, room @ ("Connections" | "EndpointGroups"), rest @ ..]) => {
                groups::write(&self.0, fabric, room, rest, request).await
            }
            (_, ["Fabrics", fabric, "AddressPools", rest @ ..]) => {
                pools::write(&self.0, fabric, rest, request).await
            }
            (_, ["AggregationService", "AggregationSources", rest @ ..]) => {
                aggregation::write(&self.0, rest, request).await
            }
            ("POST", ["AggregationService", "Actions", "AggregationService.Reset"]) => {
                aggregates::reset_all(&self.0, request).await
            }
            (_, ["AggregationService", "Aggregates", rest @ ..]) => {
                aggregates::write(&self.0, rest, request).await
            }
            ("DELETE", ["TaskService", "Tasks" | "TaskMonitors", task]) => {
                tasks::cancel(&self.0, task, request.target.uri).await
            }
            // Routes that only agents carry out: here nobody does.
            _ if self.0.tree.contains(request.target.uri) => {
                Err(ServiceError::method_not_allowed(http::HeaderValue::from_static("GET, HEAD")))
            }
            _ => Err(ServiceError::not_found(request.target.uri)),
        }
    }
}

/// What the reply to a refusal of the API is.
fn refused(error: &kube::Error) -> ServiceError {
    match error {
        kube::Error::Api(status) if status.code == 422 || status.code == 400 => {
            ServiceError::bad_request(message::operation_failed(&status.message))
        }
        kube::Error::Api(status) if status.code == 409 => {
            ServiceError::new(http::StatusCode::PRECONDITION_FAILED, message::precondition_failed())
        }
        other => ServiceError::internal(&describe_kube_error(other)),
    }
}
