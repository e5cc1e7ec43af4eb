//! Server-sent events (DSP0266, "Server-Sent Events"): a subscription that lives as long as its connection.

use std::{
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures::Stream;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts};
use tokio::{sync::mpsc, time::Interval};
use url::form_urlencoded;

use super::{EventService, LIMIT, SavedSubscription, Subscribed, Way, event_for};
use crate::{error::ServiceError, message, types::Event};

/// Where the stream is.
pub(super) const URI: &str = "/redfish/v1/EventService/SSE";
/// Events that wait for a slow reader; more are lost.
const QUEUE: usize = 1024;
/// How often something is sent if nothing happens, so that a connection that was cut is noticed.
const HEARTBEAT: Duration = Duration::from_secs(20);

impl EventService {
    /// Opens a stream of events for a user. `Last-Event-ID` brings what was missed, as far as it is remembered.
    ///
    /// # Errors
    /// 400 for a bad filter, 503 for too many subscriptions.
    pub fn stream(self: &Arc<Self>, request: &Parts, user: &str) -> Result<Response<Body>, ServiceError> {
        let query = request.uri.query().unwrap_or_default();
        let filter = form_urlencoded::parse(query.as_bytes())
            .find(|(name, _)| name == "$filter")
            .map(|(_, value)| value.into_owned());
        let (sender, events) = mpsc::channel(QUEUE);
        let mut state = self.lock();
        state.subscriptions.retain(|_, subscribed| !subscribed.way.terminated());
        if state.subscriptions.len() >= LIMIT {
            let message = message::event_subscription_limit_exceeded();
            return Err(ServiceError::new(StatusCode::SERVICE_UNAVAILABLE, message));
        }
        let id = state.next_id.max(1);
        let context = format!("stream {id} of {user}");
        let saved = SavedSubscription::of_stream(id, context, filter.as_deref()).ok_or_else(|| {
            let text = filter.as_deref().unwrap_or_default();
            ServiceError::bad_request(message::query_parameter_value_type_error(text, "$filter"))
        })?;
        state.next_id = id + 1;
        if let Some(last) = last_seen(&request.headers) {
            let missed = state.history.iter().flatten();
            let missed = missed.filter(|(_, record)| record.event_id.parse().is_ok_and(|id: u64| id > last));
            for (_, record) in missed.filter(|(happening, _)| saved.wants(happening)) {
                // There is room for all that is remembered.
                let _ = sender.try_send(event_for(&saved, &[record]));
            }
        }
        state.history.get_or_insert_default();
        state.subscriptions.insert(id, Subscribed { saved, way: Way::Stream(sender) });
        drop(state);
        let stream = EventStream {
            events,
            heartbeat: tokio::time::interval(HEARTBEAT),
            service: Arc::downgrade(self),
            id,
        };
        let mut response = Response::new(Body::from_stream(stream));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        Ok(response)
    }
}

fn last_seen(headers: &HeaderMap) -> Option<u64> {
    headers.get("last-event-id")?.to_str().ok()?.parse().ok()
}

/// The body of a stream. Dropping it ends the subscription.
struct EventStream {
    events: mpsc::Receiver<Event>,
    heartbeat: Interval,
    service: Weak<EventService>,
    id: u64,
}

impl Stream for EventStream {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Poll::Ready(event) = self.events.poll_recv(context) {
            // None: the subscription was deleted.
            return Poll::Ready(event.map(|event| Ok(frame(&event))));
        }
        self.heartbeat.poll_tick(context).map(|_| Some(Ok(Bytes::from_static(b": \n\n"))))
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        if let Some(service) = self.service.upgrade() {
            service.lock().subscriptions.remove(&self.id);
        }
    }
}

fn frame(event: &Event) -> Bytes {
    let data = serde_json::to_string(event).unwrap_or_default();
    Bytes::from(format!("id: {}\ndata: {data}\n\n", event.id))
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use http::Request;

    use super::{super::Happening, *};

    fn open(service: &Arc<EventService>, uri: &str, last: Option<&str>) -> Response<Body> {
        let mut request = Request::builder().uri(uri);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        service.stream(&request.body(()).unwrap().into_parts().0, "admin").unwrap()
    }

    async fn next(stream: &mut axum::body::BodyDataStream) -> String {
        loop {
            let text = String::from_utf8(stream.next().await.unwrap().unwrap().to_vec()).unwrap();
            if text.starts_with("id: ") {
                return text;
            }
        }
    }

    fn happening(origin: &str) -> Happening {
        Happening::resource("ResourceChanged", "Changed.", &[], origin, "Chassis")
    }

    #[tokio::test]
    async fn a_stream_is_a_subscription_while_it_is_open_and_makes_up_for_what_it_missed() {
        let service = Arc::new(EventService::default());
        let filter =
            "/?$filter=OriginResource%20eq%20'/redfish/v1/Chassis'%20and%20SubordinateResources%20eq%20true";
        let mut stream = open(&service, filter, None).into_body().into_data_stream();
        let listed = service.read(&["EventService", "Subscriptions"]).unwrap();
        assert_eq!(listed["Members@odata.count"], 1);
        let shown = service.read(&["EventService", "Subscriptions", "1"]).unwrap();
        assert_eq!(shown["SubscriptionType"], "SSE");
        assert!(service.saved().is_empty(), "it does not survive a restart");
        service.publish(&happening("/redfish/v1/Systems/1"));
        service.publish(&happening("/redfish/v1/Chassis/1"));
        let first = next(&mut stream).await;
        assert!(first.contains("Chassis/1") && first.ends_with("\n\n"), "{first}");
        drop(stream);
        assert_eq!(service.read(&["EventService", "Subscriptions"]).unwrap()["Members@odata.count"], 0);
        service.publish(&happening("/redfish/v1/Chassis/2"));
        let seen = first.trim_start_matches("id: ").split('\n').next().unwrap().to_owned();
        let mut again = open(&service, filter, Some(&seen)).into_body().into_data_stream();
        assert!(next(&mut again).await.contains("Chassis/2"));
        service.lock().subscriptions.clear();
        assert!(again.next().await.is_none_or(|frame| frame.unwrap().starts_with(b":")));
    }

    #[test]
    fn filters_that_cannot_be_served_are_refused() {
        for filter in [
            "Colour eq 'red'",
            "MessageId",
            "EventFormatType eq 'MetricReport'",
            "SubordinateResources eq maybe",
        ] {
            assert_eq!(SavedSubscription::of_stream(1, String::new(), Some(filter)), None, "{filter}");
        }
        let two = "(RegistryPrefix eq 'Fabric' or RegistryPrefix eq 'Base') and (EventFormatType eq Event)";
        assert_eq!(
            SavedSubscription::of_stream(1, String::new(), Some(two)).unwrap().registry_prefixes.len(),
            2
        );
    }
}
