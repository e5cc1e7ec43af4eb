//! Listens to agents that offer a stream of events, so that what changes is known at once and not only at the next crawl.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use drystone_engine::reference::ObjectKey;
use drystone_redfish::client::{Client, RedfishError};
use futures::StreamExt as _;
use serde_json::Value;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{agents::Doubts, drivers::FabricService};

const EVENT_SERVICE: &str = "/redfish/v1/EventService";

/// Pauses between attempts to listen.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A listener, and the address that it listens at.
struct Listener {
    address: String,
    service: Arc<dyn FabricService>,
    task: AbortOnDropHandle<()>,
}

/// One listener for each agent that offers events.
#[derive(Clone)]
pub(super) struct Listeners {
    doubts: Doubts,
    shutdown: CancellationToken,
    running: Arc<Mutex<HashMap<ObjectKey, Listener>>>,
}

impl Listeners {
    pub(super) fn new(doubts: Doubts, shutdown: CancellationToken) -> Self {
        Self { doubts, shutdown, running: Arc::default() }
    }

    /// Listens to an agent from now on, unless that is done already: at this address, and with what it is reached by now.
    pub(super) fn listen(&self, agent: &ObjectKey, address: &str, service: Arc<dyn FabricService>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |known: &Arc<dyn FabricService>| Arc::ptr_eq(known, &service);
        if running
            .get(agent)
            .is_some_and(|one| one.address == address && is_same(&one.service) && !one.task.is_finished())
        {
            return;
        }
        let used = service.clone();
        let (agent, doubts, shutdown) = (agent.clone(), self.doubts.clone(), self.shutdown.clone());
        let key = agent.clone();
        let task = tokio::spawn(async move {
            shutdown.run_until_cancelled_owned(follow(&agent, service, &doubts)).await;
        });
        let (address, task) = (address.to_owned(), AbortOnDropHandle::new(task));
        running.insert(key, Listener { address, service: used, task });
    }

    /// Listens no longer to the agents that are not wanted.
    pub(super) fn retain(&self, wanted: impl Fn(&ObjectKey) -> bool) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).retain(|agent, _| wanted(agent));
    }
}

/// Follows an agent's events until it turns out that it has none. Whenever the stream was interrupted, everything is doubted.
async fn follow(agent: &ObjectKey, service: Arc<dyn FabricService>, doubts: &Doubts) {
    let mut pause = SHORTEST_PAUSE;
    let mut first = true;
    loop {
        match stream_uri(service.client()).await {
            Ok(None) => return,
            Ok(Some(uri)) => match service.client().listen(&uri).await {
                Ok(stream) => {
                    if !first {
                        doubts.raise_all(agent);
                    }
                    first = false;
                    pause = SHORTEST_PAUSE;
                    let mut stream = Box::pin(stream);
                    while let Some(Ok(event)) = stream.next().await {
                        for record in event.events {
                            if let Some(origin) = record.origin_of_condition {
                                doubts.raise(agent, &origin.odata_id);
                            }
                        }
                    }
                    tracing::debug!(%agent, "its stream of events has ended");
                }
                Err(error) => tracing::debug!(%agent, %error, "its events cannot be listened to"),
            },
            Err(error) => tracing::debug!(%agent, %error, "its event service cannot be read"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Where an agent's stream is, if it has one.
async fn stream_uri(client: &Client) -> Result<Option<String>, RedfishError> {
    match client.get(EVENT_SERVICE).await {
        Ok(service) => Ok(service.body.get("ServerSentEventUri").and_then(Value::as_str).map(str::to_owned)),
        Err(error) if matches!(error.status(), Some(404 | 501)) => Ok(None),
        Err(error) => Err(error),
    }
}
