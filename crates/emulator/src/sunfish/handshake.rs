//! How a Sunfish agent comes to its core: it tells that it is there, waits until the core has given it a context, and tells
//! which fabric it has. From then on it looks now and then whether the core still knows it, and begins again if not.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use drystone_redfish::client::http_builder;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::SunfishAgent;
use crate::listener::Serving;

/// How long the core may take to answer an event; it crawls the agent meanwhile.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
/// How long the core may take to set the context after it answered.
const CONTEXT_LIMIT: Duration = Duration::from_secs(10);
/// Pauses between attempts: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Why an attempt to register failed.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the core cannot be reached: {0}")]
    Lost(#[from] reqwest::Error),
    #[error("the core answers {0}")]
    Status(u16),
    #[error("the core took the event but set no context at the subscription SunfishServer")]
    NoContext,
}

/// Where the core is, and the agent.
struct Link {
    http: reqwest::Client,
    core: String,
    own: String,
}

impl SunfishAgent {
    /// Registers with the core, if there is one, and stays registered until the site is shut down. `own` is where the
    /// agent can be reached.
    pub(crate) fn register(self: &Arc<Self>, own: &str, serving: &Serving) {
        let Some(core) = &self.core else { return };
        let http = match http_builder().no_proxy().timeout(ANSWER_LIMIT).build() {
            Ok(http) => http,
            Err(error) => return tracing::error!(%error, agent = self.spec.id, "the agent cannot register"),
        };
        let link = Link { http, core: core.trim_end_matches('/').to_owned(), own: own.to_owned() };
        let (agent, shutdown) = (Arc::clone(self), serving.shutdown.clone());
        serving.tasks.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = agent.stay_registered(&link, &shutdown) => {}
            }
        });
    }

    async fn stay_registered(&self, link: &Link, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            self.register_once(link).await;
            tracing::info!(agent = self.spec.id, core = link.core, "registered");
            loop {
                tokio::time::sleep(self.spec.heartbeat).await;
                match self.is_known(link).await {
                    Ok(true) => {}
                    Ok(false) => {
                        self.registered.store(false, Ordering::Relaxed);
                        tracing::warn!(
                            agent = self.spec.id,
                            core = link.core,
                            "the core knows the agent no more"
                        );
                        break;
                    }
                    // Hardware does not mind: the agent goes on, and asks again.
                    Err(error) => tracing::warn!(agent = self.spec.id, %error, "the core is away"),
                }
            }
        }
    }

    /// Tries until it works.
    async fn register_once(&self, link: &Link) {
        let (mut pause, longest) = PAUSES;
        while let Err(error) = self.try_register(link).await {
            tracing::debug!(agent = self.spec.id, %error, "not registered yet");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
        self.registered.store(true, Ordering::Relaxed);
    }

    async fn try_register(&self, link: &Link) -> Result<(), Refusal> {
        let mut patched = self.patched.subscribe();
        let before = *patched.borrow_and_update();
        let message = "An aggregation source was discovered.";
        let origin = self.connection_method_uri();
        link.tell("AggregationSourceDiscovered", "", message, &["Redfish", &link.own], &origin).await?;
        // The core sets it before it answers; others may do so right after.
        let set = async { patched.wait_for(|count| *count != before).await.is_ok() };
        if !tokio::time::timeout(CONTEXT_LIMIT, set).await.unwrap_or(false) {
            return Err(Refusal::NoContext);
        }
        let context = self.kept().context.clone();
        if context.is_empty() {
            return Err(Refusal::NoContext);
        }
        link.tell("ResourceCreated", &context, "The resource was created.", &[], &self.fabric_uri("")).await
    }

    /// Whether the core still has the aggregation source of the agent. One that does not show it is believed.
    async fn is_known(&self, link: &Link) -> Result<bool, reqwest::Error> {
        let context = self.kept().context.clone();
        let uri = format!("{}/redfish/v1/AggregationService/AggregationSources/{context}", link.core);
        let response = link.http.get(uri).header("accept", "application/json").send().await?;
        Ok(response.status() != http::StatusCode::NOT_FOUND)
    }
}

impl Link {
    async fn tell(
        &self,
        key: &str,
        context: &str,
        message: &str,
        args: &[&str],
        origin: &str,
    ) -> Result<(), Refusal> {
        let event = event(key, context, message, args, origin);
        let response = self.http.post(format!("{}/EventListener", self.core)).json(&event).send().await?;
        let status = response.status();
        if status.is_success() { Ok(()) } else { Err(Refusal::Status(status.as_u16())) }
    }
}

/// An event in the form that the core reads.
fn event(key: &str, context: &str, message: &str, args: &[&str], origin: &str) -> Value {
    json!({"@odata.type": "#Event.v1_7_0.Event", "Id": "1", "Name": key, "Context": context,
        "Events": [{"EventType": "Other", "EventId": "1", "MemberId": "0", "Severity": "Ok", "Message": message,
            "MessageId": format!("ResourceEvent.1.4.{key}"), "MessageArgs": args, "OriginOfCondition": {"@odata.id": origin}}]})
}
