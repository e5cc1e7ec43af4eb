//! The event service (DSP0266, "Eventing"): who wants to know what, and how they are told.
//!
//! [`EventService`] keeps the subscriptions and matches what happens against them; [`delivery`] sends, one task a
//! subscription, so that a slow listener delays nobody; [`stream`] is for clients that keep a connection open instead
//! (server-sent events).

mod delivery;
mod stream;
mod subscription;

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{HeaderValue, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{access::Privilege, properties::Properties, reply::Reply, request::WriteRequest, route::Route};
use crate::{
    error::ServiceError,
    message::{self, Message},
    types::{Collection, Event, EventRecord, Link, to_body},
};
use delivery::Delivery;
pub use subscription::SavedSubscription;

const SERVICE: &str = "/redfish/v1/EventService";
const SUBSCRIPTIONS: &str = "/redfish/v1/EventService/Subscriptions";
/// Most subscriptions of one service.
const LIMIT: usize = 64;
/// Events that an interrupted stream may have missed and still gets.
const HISTORY: usize = 512;
/// Attempts after the first, and seconds between them, unless configured.
const RETRY: (u64, u64) = (3, 5);

/// Most records of one event: far below the megabyte that a payload may have.
const MOST_RECORDS: usize = 256;

/// Something that happened to a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happening {
    /// What happened.
    pub message: Message,
    /// The resource.
    pub origin: String,
    /// Schema of the resource: `ComputerSystem`.
    pub resource_type: Cow<'static, str>,
}

impl Happening {
    /// An event of the registry `ResourceEvent`: `ResourceEvent.1.4.ResourceChanged`.
    pub fn resource(key: &str, text: &str, args: &[&str], origin: &str, resource_type: &'static str) -> Self {
        let severity = message::Severity::OK;
        let message = Message::new("ResourceEvent.1.4", key, severity, text, args, "None.");
        Self { message, origin: origin.to_owned(), resource_type: Cow::Borrowed(resource_type) }
    }
}

#[derive(Debug, Default)]
struct State {
    subscriptions: BTreeMap<u64, Subscribed>,
    next_id: u64,
    retry_attempts: Option<u64>,
    retry_interval_seconds: Option<u64>,
    /// The last events, for streams that were interrupted. Kept once there has been a stream.
    history: Option<VecDeque<(Happening, EventRecord)>>,
}

#[derive(Debug)]
struct Subscribed {
    saved: SavedSubscription,
    way: Way,
}

/// How events get to a subscriber.
#[derive(Debug)]
enum Way {
    /// They are sent to him.
    Push(Delivery),
    /// He keeps a connection open.
    Stream(mpsc::Sender<Event>),
}

impl Way {
    fn send(&self, event: Event) {
        match self {
            Self::Push(delivery) => delivery.send(event),
            Self::Stream(stream) => {
                if stream.try_send(event).is_err() {
                    tracing::warn!("a stream of events is read too slowly; an event for it is lost");
                }
            }
        }
    }

    fn terminated(&self) -> bool {
        match self {
            Self::Push(delivery) => delivery.terminated(),
            Self::Stream(stream) => stream.is_closed(),
        }
    }

    fn suspended(&self) -> bool {
        matches!(self, Self::Push(delivery) if delivery.suspended())
    }

    fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }
}

/// The event service of a Redfish service.
#[derive(Debug)]
pub struct EventService {
    state: Mutex<State>,
    next_event: AtomicU64,
}

impl Default for EventService {
    fn default() -> Self {
        // Ids go on after those of an earlier run, of which a client may still know.
        let seconds = u64::try_from(Timestamp::now().as_second()).unwrap_or(0);
        Self { state: Mutex::default(), next_event: AtomicU64::new(seconds * 1_000_000) }
    }
}

/// What is sent to a subscriber.
fn event_for(subscribed: &SavedSubscription, records: &[&EventRecord]) -> Event {
    let numbered = records.iter().enumerate();
    Event {
        odata_type: Event::TYPE.to_owned(),
        id: records.first().map(|record| record.event_id.clone()).unwrap_or_default(),
        name: "Event".to_owned(),
        context: subscribed.context.clone(),
        events: numbered
            .map(|(index, record)| EventRecord { member_id: index.to_string(), ..(*record).clone() })
            .collect(),
    }
}

impl EventService {
    /// The routes of the room.
    pub fn routes() -> [Route; 4] {
        const MANAGER: &[Privilege] = &[Privilege::ConfigureManager];
        const NEW: &[Privilege] = &[Privilege::ConfigureManager, Privilege::ConfigureComponents];
        const EXISTING: &[Privilege] = &[Privilege::ConfigureManager, Privilege::ConfigureSelf];
        [
            Route::new("/redfish/v1/EventService").get().patch(MANAGER),
            Route::new("/redfish/v1/EventService/Actions/EventService.SubmitTestEvent").post(MANAGER),
            Route::new("/redfish/v1/EventService/Subscriptions").get().post(NEW),
            Route::new("/redfish/v1/EventService/Subscriptions/{subscription}")
                .get()
                .patch(EXISTING)
                .delete(EXISTING),
        ]
    }

    /// Tells everybody who wants to know. Never waits; must be called inside a Tokio runtime.
    pub fn publish(&self, happening: &Happening) {
        self.publish_all(std::slice::from_ref(happening));
    }

    /// Tells several things that happened at once, in few events: a switch that fails takes all its links with it.
    pub fn publish_all(&self, happenings: &[Happening]) {
        let mut state = self.lock();
        if state.subscriptions.is_empty() && state.history.is_none() {
            return;
        }
        // A subscription whose policy was to end when nobody listens has ended, and so has a stream that was closed.
        state.subscriptions.retain(|_, subscribed| !subscribed.way.terminated());
        let records: Vec<EventRecord> = happenings
            .iter()
            .map(|happening| record(happening, self.next_event.fetch_add(1, Ordering::Relaxed)))
            .collect();
        for subscribed in state.subscriptions.values() {
            let told = happenings.iter().zip(&records);
            let wanted: Vec<&EventRecord> = told
                .filter(|(happening, _)| subscribed.saved.wants(happening))
                .map(|(_, record)| record)
                .collect();
            for part in wanted.chunks(MOST_RECORDS) {
                subscribed.way.send(event_for(&subscribed.saved, part));
            }
        }
        for (happening, record) in happenings.iter().zip(records) {
            state.remember(happening, record);
        }
    }

    /// What must be kept so that the subscriptions survive a restart.
    pub fn saved(&self) -> Vec<SavedSubscription> {
        let state = self.lock();
        let lasting = |subscribed: &&Subscribed| !subscribed.way.terminated() && !subscribed.way.is_stream();
        let live = state.subscriptions.values().filter(lasting);
        live.map(|subscribed| subscribed.saved.clone()).collect()
    }

    /// Takes up subscriptions again, in the place of those that there are: after a restart, or when a change could not be
    /// kept. Must be called inside a Tokio runtime.
    pub fn restore(&self, saved: Vec<SavedSubscription>) {
        let mut state = self.lock();
        state.subscriptions.retain(|_, subscribed| subscribed.way.is_stream());
        for subscription in saved {
            state.next_id = state.next_id.max(subscription.id + 1);
            let way = state.push(&subscription);
            state.subscriptions.insert(subscription.id, Subscribed { saved: subscription, way });
        }
    }

    /// Reads a resource of the room, given by the parts after `/redfish/v1`.
    ///
    /// # Errors
    /// 404 if the room has no such resource.
    pub fn read(&self, segments: &[&str]) -> Result<Value, ServiceError> {
        let mut state = self.lock();
        state.subscriptions.retain(|_, subscribed| !subscribed.way.terminated());
        match segments {
            ["EventService"] => Ok(json!({
                "@odata.id": SERVICE, "@odata.type": "#EventService.v1_12_0.EventService", "Id": "EventService",
                "Name": "Event service", "ServiceEnabled": true, "Status": {"State": "Enabled", "Health": "OK"},
                "DeliveryRetryAttempts": state.retry().0, "DeliveryRetryIntervalSeconds": state.retry().1,
                "EventFormatTypes": ["Event"], "RegistryPrefixes": ["ResourceEvent", "Fabric", "Composition", "TaskEvent"],
                "ServerSentEventUri": stream::URI,
                "SSEFilterPropertiesSupported": {
                    "EventFormatType": true, "MessageId": true, "MetricReportDefinition": false,
                    "OriginResource": true, "RegistryPrefix": true, "ResourceType": true, "SubordinateResources": true},
                "SubordinateResourcesSupported": true, "Subscriptions": {"@odata.id": SUBSCRIPTIONS},
                "Actions": {"#EventService.SubmitTestEvent": {
                    "target": format!("{SERVICE}/Actions/EventService.SubmitTestEvent")}}})),
            ["EventService", "Subscriptions"] => {
                let ids = state.subscriptions.keys().map(u64::to_string);
                to_body(&Collection::of("EventDestination", SUBSCRIPTIONS, ids))
                    .map_err(|error| ServiceError::internal(&error))
            }
            ["EventService", "Subscriptions", id] => {
                let found = id.parse().ok().and_then(|id: u64| state.subscriptions.get(&id));
                let subscribed =
                    found.ok_or_else(|| ServiceError::not_found(&format!("{SUBSCRIPTIONS}/{id}")))?;
                let resource = subscribed.saved.resource(
                    SUBSCRIPTIONS,
                    subscribed.way.suspended(),
                    subscribed.way.is_stream(),
                );
                to_body(&resource).map_err(|error| ServiceError::internal(&error))
            }
            _ => Err(ServiceError::not_found(&format!("/redfish/v1/{}", segments.join("/")))),
        }
    }

    /// Carries out a write in the room. The caller keeps [`saved`](Self::saved) before it answers.
    ///
    /// # Errors
    /// 400 for a bad body, 404 for a subscription that is not there, 503 for too many.
    pub fn write(&self, request: WriteRequest<'_>) -> Result<Reply, ServiceError> {
        let owned: Vec<String> = request.target.segments().iter().map(|part| (*part).to_owned()).collect();
        let segments: Vec<&str> = owned.iter().map(String::as_str).collect();
        match (request.method.as_str(), segments.as_slice()) {
            ("PATCH", ["EventService"]) => self.configure(request),
            ("POST", ["EventService", "Actions", _]) => self.submit_test_event(request),
            ("POST", ["EventService", "Subscriptions"]) => self.subscribe(request),
            ("PATCH", ["EventService", "Subscriptions", id]) => self.change(id, request),
            ("DELETE", ["EventService", "Subscriptions", id]) => {
                let removed = id.parse().ok().and_then(|id: u64| self.lock().subscriptions.remove(&id));
                removed
                    .map(|_| Reply::no_content())
                    .ok_or_else(|| ServiceError::not_found(request.target.uri))
            }
            _ => Err(ServiceError::not_found(request.target.uri)),
        }
    }

    fn configure(&self, request: WriteRequest<'_>) -> Result<Reply, ServiceError> {
        let mut properties = Properties::update(request.body.required()?);
        let attempts = properties.unsigned("DeliveryRetryAttempts", 0, 100);
        let interval = properties.unsigned("DeliveryRetryIntervalSeconds", 1, 3600);
        properties.read_only(&[
            "ServiceEnabled",
            "Status",
            "Subscriptions",
            "EventFormatTypes",
            "RegistryPrefixes",
        ]);
        properties.finish()?;
        {
            let mut state = self.lock();
            state.retry_attempts = attempts.or(state.retry_attempts);
            state.retry_interval_seconds = interval.or(state.retry_interval_seconds);
        }
        Ok(Reply::updated(self.read(&["EventService"])?))
    }

    fn submit_test_event(&self, request: WriteRequest<'_>) -> Result<Reply, ServiceError> {
        let mut parameters = Properties::action("EventService.SubmitTestEvent", request.body.into_object());
        let id = parameters.string("MessageId").unwrap_or_else(|| "ResourceEvent.1.4.TestMessage".to_owned());
        let text = parameters.string("Message").unwrap_or_else(|| "This is a test.".to_owned());
        let args = parameters.strings("MessageArgs").unwrap_or_default();
        let origin = parameters.string("OriginOfCondition").unwrap_or_else(|| SERVICE.to_owned());
        parameters.finish()?;
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (registry, key) = id.rsplit_once('.').unwrap_or(("ResourceEvent.1.4", &id));
        let message = Message::new(registry, key, message::Severity::OK, &text, &args, "None.");
        self.publish(&Happening { message, origin, resource_type: Cow::Borrowed("EventService") });
        Ok(Reply::no_content())
    }

    fn subscribe(&self, request: WriteRequest<'_>) -> Result<Reply, ServiceError> {
        let mut subscription = SavedSubscription::read(request.body.required()?)?;
        let id = {
            let mut state = self.lock();
            if state.subscriptions.len() >= LIMIT {
                let message = message::event_subscription_limit_exceeded();
                return Err(ServiceError::new(StatusCode::SERVICE_UNAVAILABLE, message));
            }
            state.next_id = state.next_id.max(1);
            subscription.id = state.next_id;
            state.next_id += 1;
            let way = state.push(&subscription);
            let id = subscription.id;
            state.subscriptions.insert(id, Subscribed { saved: subscription, way });
            id.to_string()
        };
        Ok(Reply::created(self.read(&["EventService", "Subscriptions", &id])?))
    }

    fn change(&self, id: &str, request: WriteRequest<'_>) -> Result<Reply, ServiceError> {
        {
            let mut state = self.lock();
            let number: u64 = id.parse().map_err(|_| ServiceError::not_found(request.target.uri))?;
            let current = state
                .subscriptions
                .get(&number)
                .ok_or_else(|| ServiceError::not_found(request.target.uri))?;
            let changed = current.saved.changed(request.body.required()?)?;
            if current.way.is_stream() {
                return Err(ServiceError::method_not_allowed(HeaderValue::from_static("GET, DELETE, HEAD")));
            }
            let way = state.push(&changed);
            state.subscriptions.insert(number, Subscribed { saved: changed, way });
        }
        Ok(Reply::updated(self.read(&["EventService", "Subscriptions", id])?))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while holding it cannot leave the map half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A happening as one of the records of an event.
fn record(happening: &Happening, id: u64) -> EventRecord {
    EventRecord {
        member_id: "0".to_owned(),
        event_id: id.to_string(),
        event_type: "Other".to_owned(),
        event_timestamp: format!("{:.0}", Timestamp::now()),
        message_id: happening.message.message_id.clone(),
        message: happening.message.message.clone(),
        message_args: happening.message.message_args.clone(),
        message_severity: happening.message.message_severity,
        origin_of_condition: Some(Link::to(&happening.origin)),
    }
}

impl State {
    fn retry(&self) -> (u64, u64) {
        (self.retry_attempts.unwrap_or(RETRY.0), self.retry_interval_seconds.unwrap_or(RETRY.1))
    }

    fn push(&self, subscription: &SavedSubscription) -> Way {
        let (attempts, interval) = self.retry();
        Way::Push(Delivery::start(subscription, attempts, std::time::Duration::from_secs(interval)))
    }

    fn remember(&mut self, happening: &Happening, record: EventRecord) {
        let Some(history) = &mut self.history else { return };
        history.push_back((happening.clone(), record));
        if history.len() > HISTORY {
            history.pop_front();
        }
    }
}
