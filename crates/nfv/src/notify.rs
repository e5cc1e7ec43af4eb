//! Notifications: what happens to VNFs is told to subscribers, in order, until each has heard it.
//!
//! Events are derived from resources ([`events`]): every change of an operation's state is written down in its status, and an instance that
//! is deleted stays until its end has been told, or a day has passed. So nothing is lost by a kill, nor by a receiver that is away while
//! the operations are kept: the last hundred of an instance, for ninety days. What has been delivered is written down in the
//! subscription; what is sent twice because the process ended in between has the same id.

mod delivery;
mod events;
mod message;
mod outbox;

use std::{collections::HashMap, sync::Arc, time::Duration};

use drystone_api::nfv::{VnfInstance, VnfLcmOperation, VnfSubscription};
use drystone_engine::{
    harness::{Cache, Caches, Change, add_finalizer, has_finalizer, is_deleted, remove_finalizer},
    reference::{ObjectKey, describe_kube_error},
};
use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use kube::{Api, Client, ResourceExt as _};
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{callback::Callbacks, render::INSTANCE_UID_LABEL};
use delivery::Delivery;
use events::Event;
use outbox::Outbox;

/// Keeps an instance that is deleted until that has been told.
pub const NOTIFY_FINALIZER: &str = "nfv.drystone.dev/notify";
/// Annotation of an instance: when it was made, more exactly than to the second.
pub(crate) const CREATED_ANNOTATION: &str = "nfv.drystone.dev/created-at";
/// Annotation of a subscription: by which version of the API it was made, `v1` or `v2`.
pub(crate) const API_VERSION_ANNOTATION: &str = "nfv.drystone.dev/api-version";
/// Key of the Secret with the parameters of authentication.
pub(crate) const AUTHENTICATION_KEY: &str = "authentication.json";

/// How long an instance stays whose end nobody can be told.
const LONGEST_GOODBYE: SignedDuration = SignedDuration::from_hours(24);
/// How often everything is looked at that may have been forgotten.
const ROUND: Duration = Duration::from_secs(60);

/// Tells subscribers what happens.
#[derive(Clone)]
pub struct Notifier {
    client: Client,
    operations: Cache<VnfLcmOperation>,
    instances: Cache<VnfInstance>,
    subscriptions: Cache<VnfSubscription>,
    endpoint: String,
}

impl std::fmt::Debug for Notifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notifier").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// A subscriber with the task that calls him.
struct Subscriber {
    subscription: Arc<VnfSubscription>,
    outbox: Arc<Outbox>,
    task: JoinHandle<()>,
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Notifier {
    /// A notifier whose links begin with `endpoint`: `https://host:port`. Must be called inside a Tokio runtime.
    pub fn new(client: Client, caches: &Caches, endpoint: &str) -> Self {
        Self {
            client,
            operations: caches.of(),
            instances: caches.of(),
            subscriptions: caches.of(),
            endpoint: endpoint.to_owned(),
        }
    }

    /// Tells until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.work()).await;
    }

    async fn work(&self) {
        let mut operations = std::pin::pin!(self.operations.changes());
        let mut instances = std::pin::pin!(self.instances.changes());
        let mut subscriptions = std::pin::pin!(self.subscriptions.changes());
        if !(self.operations.ready().await
            && self.instances.ready().await
            && self.subscriptions.ready().await)
        {
            return;
        }
        let told = Arc::new(Notify::new());
        let mut subscribers = HashMap::new();
        self.take_all(&mut subscribers, &told).await;
        let mut rounds = tokio::time::interval(ROUND);
        loop {
            tokio::select! {
                change = operations.next() => match change {
                    Some(Change::Object(operation)) => self.offer_operation(&subscribers, &operation),
                    Some(Change::Missed) => self.take_all(&mut subscribers, &told).await,
                    None => return,
                },
                change = instances.next() => match change {
                    Some(Change::Object(instance)) => self.take_instance(&subscribers, &instance).await,
                    Some(Change::Missed) => self.take_all(&mut subscribers, &told).await,
                    None => return,
                },
                change = subscriptions.next() => match change {
                    Some(Change::Object(subscription)) => {
                        self.take_subscription(&mut subscribers, &ObjectKey::of(subscription.as_ref()), &told);
                    }
                    Some(Change::Missed) => self.take_all(&mut subscribers, &told).await,
                    None => return,
                },
                () = told.notified() => self.after_delivery(&subscribers).await,
                _ = rounds.tick() => self.let_go_of_all(&subscribers).await,
            }
        }
    }

    /// Looks at everything.
    async fn take_all(&self, subscribers: &mut HashMap<ObjectKey, Subscriber>, told: &Arc<Notify>) {
        let mut keys: Vec<ObjectKey> = self
            .subscriptions
            .list()
            .iter()
            .map(|subscription| ObjectKey::of(subscription.as_ref()))
            .collect();
        keys.extend(subscribers.keys().cloned());
        for key in keys {
            self.take_subscription(subscribers, &key, told);
        }
        for subscriber in subscribers.values() {
            self.fill(subscriber);
        }
        for instance in self.instances.list() {
            self.take_instance(subscribers, &instance).await;
        }
    }

    /// Offers a subscriber everything that there is.
    fn fill(&self, subscriber: &Subscriber) {
        for operation in self.operations.list() {
            offer(subscriber, self.events_of(&operation));
        }
        for instance in self.instances.list() {
            offer(subscriber, events::of_instance(&instance));
        }
        subscriber.outbox.filled();
    }

    fn events_of(&self, operation: &Arc<VnfLcmOperation>) -> Vec<Event> {
        let key = ObjectKey::new(operation.namespace().unwrap_or_default(), &operation.spec.instance);
        let instance = self.instances.get(&key);
        let noted = operation.labels().get(INSTANCE_UID_LABEL).cloned();
        let found = instance.as_ref().and_then(|instance| instance.uid());
        // Another instance may have got the name.
        let instance = instance.filter(|_| noted.is_none() || noted == found);
        let id = noted.or(found).unwrap_or_default();
        events::of_operation(operation, &id, instance.as_ref())
    }

    fn offer_operation(
        &self,
        subscribers: &HashMap<ObjectKey, Subscriber>,
        operation: &Arc<VnfLcmOperation>,
    ) {
        if subscribers.is_empty() {
            return;
        }
        let events = self.events_of(operation);
        for subscriber in subscribers.values() {
            offer(subscriber, events.clone());
        }
    }

    async fn take_instance(&self, subscribers: &HashMap<ObjectKey, Subscriber>, instance: &Arc<VnfInstance>) {
        let key = ObjectKey::of(instance.as_ref());
        let Some(now) = self.instances.get(&key).filter(|now| now.uid() == instance.uid()) else { return };
        for subscriber in subscribers.values() {
            offer(subscriber, events::of_instance(&now));
        }
        if is_deleted(now.as_ref()) {
            self.let_go(subscribers, &now).await;
        } else if !has_finalizer(now.as_ref(), NOTIFY_FINALIZER) {
            let instances: Api<VnfInstance> = Api::namespaced(self.client.clone(), &key.namespace);
            if let Err(error) = add_finalizer(&instances, now.as_ref(), NOTIFY_FINALIZER).await {
                let error = describe_kube_error(&error);
                tracing::warn!(instance = %key, "its deletion may not be told to subscribers: {error}");
            }
        }
    }

    /// Something has been delivered: whoever waited for that may go, and whoever could not take everything takes the rest.
    async fn after_delivery(&self, subscribers: &HashMap<ObjectKey, Subscriber>) {
        for subscriber in subscribers.values().filter(|subscriber| subscriber.outbox.wants_all()) {
            self.fill(subscriber);
        }
        self.let_go_of_all(subscribers).await;
    }

    async fn let_go_of_all(&self, subscribers: &HashMap<ObjectKey, Subscriber>) {
        for instance in self.instances.list_where(is_deleted) {
            self.let_go(subscribers, &instance).await;
        }
    }

    /// Lets an instance go that is deleted, if everybody has been told, or it has waited too long.
    async fn let_go(&self, subscribers: &HashMap<ObjectKey, Subscriber>, instance: &Arc<VnfInstance>) {
        if !has_finalizer(instance.as_ref(), NOTIFY_FINALIZER) {
            return;
        }
        let id = instance.uid().unwrap_or_default();
        let deleted = instance.metadata.deletion_timestamp.as_ref().map(|time| time.0);
        let is_late =
            deleted.is_some_and(|deleted| Timestamp::now().duration_since(deleted) > LONGEST_GOODBYE);
        if !is_late && subscribers.values().any(|subscriber| subscriber.outbox.waits_for(&id)) {
            return;
        }
        let key = ObjectKey::of(instance.as_ref());
        let instances: Api<VnfInstance> = Api::namespaced(self.client.clone(), &key.namespace);
        if let Err(error) = remove_finalizer(&instances, instance.as_ref(), NOTIFY_FINALIZER).await {
            tracing::warn!(instance = %key, "it is not let go yet: {}", describe_kube_error(&error));
        }
    }

    /// Brings the subscriber of a key in line with the subscription.
    fn take_subscription(
        &self,
        subscribers: &mut HashMap<ObjectKey, Subscriber>,
        key: &ObjectKey,
        told: &Arc<Notify>,
    ) {
        let now = self.subscriptions.get(key).filter(|now| !is_deleted(now.as_ref()));
        let Some(now) = now else {
            if subscribers.remove(key).is_some() {
                // Instances that waited for him need wait no longer.
                told.notify_one();
            }
            return;
        };
        let is_same =
            |known: &Subscriber| known.subscription.spec == now.spec && known.subscription.uid() == now.uid();
        if subscribers.get(key).is_some_and(is_same) {
            return;
        }
        let known = subscribers.remove(key).filter(|known| known.subscription.uid() == now.uid());
        let new = || {
            let made = now.metadata.creation_timestamp.as_ref().map(|time| time.0);
            // Times of the API server are whole seconds: what happened in the same one is told.
            let began = made.and_then(|made| made.checked_sub(Duration::from_micros(1)).ok());
            let began = began.unwrap_or_else(Timestamp::now);
            Arc::new(Outbox::new(now.status.as_ref(), began, Timestamp::now()))
        };
        let outbox = known.map_or_else(new, |known| known.outbox.clone());
        let delivery = Delivery {
            client: self.client.clone(),
            subscription: now.clone(),
            outbox: outbox.clone(),
            callbacks: Callbacks::default(),
            endpoint: self.endpoint.clone(),
            told: told.clone(),
        };
        let subscriber = Subscriber { subscription: now, outbox, task: tokio::spawn(delivery.run()) };
        self.fill(&subscriber);
        subscribers.insert(key.clone(), subscriber);
    }
}

/// Offers a subscriber what he wants to be told.
fn offer(subscriber: &Subscriber, events: Vec<Event>) {
    let filter = subscriber.subscription.spec.filter.as_ref();
    events
        .into_iter()
        .filter(|event| events::wants(filter, event))
        .for_each(|event| subscriber.outbox.offer(event));
}
