//! The controller: watches, calls the reconciler, backs off.

use std::{any::TypeId, convert::Infallible, sync::Arc, time::Duration};

use futures::{
    FutureExt, Stream, StreamExt,
    future::BoxFuture,
    stream::{BoxStream, SelectAll},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::ClusterResourceScope,
    runtime::{
        WatchStreamExt, applier,
        controller::{self, Action, ReconcileRequest},
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    Cache, Change, Guarded, Reconciler, Requeue, WatchedObject, failures::Failures,
    reconciler::DEFAULT_BACKOFF,
};
use crate::{
    events::{EventKind, EventSink, Silent},
    reference::{ObjectKey, reference_to},
};

/// How a controller works.
#[derive(Clone)]
pub struct ControllerConfig {
    /// Only objects with these labels, as a label selector; `None` for all.
    pub labels: Option<String>,
    /// Most objects to be reconciled at the same time.
    pub concurrency: u16,
    /// How long one reconciliation may take. What takes longer is an operation.
    pub deadline: Duration,
    /// How long reconciliations may go on after shutdown was asked for.
    pub grace: Duration,
    /// Who is told about malformed objects.
    pub events: Arc<dyn EventSink>,
}

impl Default for ControllerConfig {
    fn default() -> Self {
        Self {
            labels: None,
            concurrency: 64,
            deadline: Duration::from_secs(120),
            grace: Duration::from_secs(20),
            events: Arc::new(Silent),
        }
    }
}

impl std::fmt::Debug for ControllerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControllerConfig")
            .field("labels", &self.labels)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

/// Runs a controller that watches nothing but its own objects, until `shutdown`.
pub async fn run<R: Reconciler>(
    reconciler: R,
    client: Client,
    config: ControllerConfig,
    shutdown: CancellationToken,
) {
    Controller::new(client, reconciler, config).run(shutdown).await;
}

/// What asks for reconciliations. Errors of watches are dealt with before they get here.
type Triggers<K> = SelectAll<BoxStream<'static, ObjectRef<Guarded<K>>>>;

/// A controller under construction.
pub struct Controller<R: Reconciler> {
    client: Client,
    context: Arc<Context<R>>,
    store: Store<Guarded<R::Object>>,
    triggers: Triggers<R::Object>,
}

struct Context<R> {
    reconciler: R,
    config: ControllerConfig,
    failures: Failures,
}

/// Why a reconciliation did not succeed.
#[derive(Debug, thiserror::Error)]
enum Failure<E: std::error::Error + 'static> {
    #[error("{0}")]
    Failed(E),
    #[error("not done within {} s", .0.as_secs())]
    Late(Duration),
    #[error("defect in the controller: {0}")]
    Panicked(String),
}

impl<R: Reconciler> Controller<R> {
    /// A controller of the reconciler's objects.
    pub fn new(client: Client, reconciler: R, config: ControllerConfig) -> Self {
        let api: Api<Guarded<R::Object>> = Api::all(client.clone());
        let mut watched = watcher::Config::default();
        if let Some(labels) = &config.labels {
            watched = watched.labels(labels);
        }
        let (store, writer) = reflector::store();
        let events = watcher::watcher(api, watched).default_backoff();
        let changed = survive(R::NAME, reflector::reflector(writer, events).applied_objects());
        let mut triggers = SelectAll::new();
        triggers.push(changed.map(|object| ObjectRef::from_obj(&object)).boxed());
        let context = Context { reconciler, config, failures: Failures::default() };
        Self { client, context: Arc::new(context), store, triggers }
    }

    /// The controller's own copy of its objects, for finding the ones that something else maps to. It fills when the controller
    /// runs.
    pub fn objects(&self) -> Objects<R::Object> {
        Objects { store: self.store.clone() }
    }

    /// Also reconciles an object when something that it owns (by an owner reference with `controller: true`) changes.
    #[must_use]
    pub fn owns<C: WatchedObject>(self) -> Self {
        self.watches::<C>(watcher::Config::default(), |child, _| {
            let owner = child.owner_references().iter().find(|owner| {
                owner.controller == Some(true)
                    && owner.kind == R::Object::kind(&())
                    && owner.api_version == R::Object::api_version(&())
            });
            let namespace = if is_cluster_scoped::<R::Object>() { None } else { child.namespace() };
            let key = owner.map(|owner| ObjectKey::new(namespace.unwrap_or_default(), &owner.name));
            key.into_iter().collect()
        })
    }

    /// Also reconciles the objects that `map` names when an object of another kind changes. `map` is pure; it sees the other
    /// object as it is now (or was before it was deleted) and the controller's objects.
    #[must_use]
    pub fn watches<O: WatchedObject>(
        mut self,
        watched: watcher::Config,
        map: impl Fn(&O, &Objects<R::Object>) -> Vec<ObjectKey> + Send + Sync + 'static,
    ) -> Self {
        let api: Api<Guarded<O>> = Api::all(self.client.clone());
        let objects = self.objects();
        let touched = survive(R::NAME, watcher::watcher(api, watched).default_backoff().touched_objects());
        let keys = touched.flat_map(move |other| {
            let keys = other.valid().map(|other| map(other, &objects));
            futures::stream::iter(keys.unwrap_or_default())
        });
        self.triggers.push(keys.map(|key| object_ref(&key)).boxed());
        self
    }

    /// The same for the objects of a [`Cache`], once the cache has the change: a reconciler that reads the cache sees it.
    #[must_use]
    pub fn watches_cache<O: WatchedObject>(
        self,
        cache: &Cache<O>,
        map: impl Fn(&O, &Objects<R::Object>) -> Vec<ObjectKey> + Send + Sync + 'static,
    ) -> Self {
        let objects = self.objects();
        let keys = cache.changes().flat_map(move |change| {
            let keys = match change {
                Change::Object(other) => map(&other, &objects),
                Change::Missed => objects.keys(),
            };
            futures::stream::iter(keys)
        });
        self.triggered_by(keys)
    }

    /// Also reconciles the objects whose keys come out of `stream`.
    #[must_use]
    pub fn triggered_by(mut self, stream: impl Stream<Item = ObjectKey> + Send + 'static) -> Self {
        self.triggers.push(stream.map(|key| object_ref(&key)).boxed());
        self
    }

    /// Runs until `shutdown`, then lets what is being reconciled come to its end, for a while. Dropping the future stops at
    /// once.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { context, store, triggers, .. } = self;
        let requests = triggers.map(|object| Ok::<_, Infallible>(ReconcileRequest::from(object)));
        let settings = controller::Config::default().concurrency(context.config.concurrency);
        let failures = context.clone();
        let grace = context.config.grace;
        let filled = store.clone();
        let reconciled = applier(
            reconcile::<R>,
            error_policy::<R>,
            context,
            store,
            requests.take_until(shutdown.clone().cancelled_owned()),
            settings,
        )
        .for_each(|result| {
            if let Err(controller::Error::ObjectNotFound(gone)) = result {
                let key = ObjectKey::new(gone.namespace.clone().unwrap_or_default(), &gone.name);
                failures.failures.forget(&key);
            }
            futures::future::ready(())
        });
        let too_late = async {
            shutdown.cancelled().await;
            // Nothing is reconciled before all objects are known, which from here on they will not come to be.
            let begun = filled.wait_until_ready().now_or_never().is_some();
            if begun {
                tokio::time::sleep(grace).await;
            }
            begun
        };
        tokio::select! {
            () = reconciled => {}
            begun = too_late => if begun {
                tracing::warn!(controller = R::NAME, "reconciliations did not end in time; dropped");
            },
        }
    }
}

fn is_cluster_scoped<K: WatchedObject>() -> bool {
    TypeId::of::<K::Scope>() == TypeId::of::<ClusterResourceScope>()
}

/// The objects that come out of a watch; its errors are logged, and it goes on after a back-off.
fn survive<K>(
    controller: &'static str,
    stream: impl Stream<Item = Result<K, watcher::Error>>,
) -> impl Stream<Item = K> {
    stream.filter_map(move |result| {
        let object = result
            .inspect_err(
                |error| tracing::warn!(controller, %error, "watch interrupted; it is taken up again"),
            )
            .ok();
        futures::future::ready(object)
    })
}

/// A controller's own copy of its objects.
pub struct Objects<K: Resource<DynamicType = ()> + Clone + 'static> {
    store: Store<Guarded<K>>,
}

impl<K: WatchedObject> Objects<K> {
    /// The object of that key, if there is one and it can be read.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.store.get(&object_ref(key)).and_then(|object| object.valid().cloned())
    }

    /// All objects that can be read.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.store.state().iter().filter_map(|object| object.valid().cloned()).collect()
    }

    /// Keys of all objects.
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.store.state().iter().map(|object| ObjectKey::of(object.as_ref())).collect()
    }

    /// Keys of the objects that `wanted` accepts.
    pub fn keys_where(&self, wanted: impl Fn(&K) -> bool) -> Vec<ObjectKey> {
        let state = self.store.state();
        let accepted = state.iter().filter(|object| object.valid().is_some_and(|object| wanted(object)));
        accepted.map(|object| ObjectKey::of(object.as_ref())).collect()
    }
}

fn object_ref<K: WatchedObject>(key: &ObjectKey) -> ObjectRef<Guarded<K>> {
    let reference = ObjectRef::new(&key.name);
    if key.namespace.is_empty() { reference } else { reference.within(&key.namespace) }
}

/// Reconciles in a task of its own, so that a busy reconciler does not hold up the others and a defect in it stays inside.
fn reconcile<R: Reconciler>(
    object: Arc<Guarded<R::Object>>,
    context: Arc<Context<R>>,
) -> BoxFuture<'static, Result<Action, Failure<R::Error>>> {
    let task = AbortOnDropHandle::new(tokio::spawn(reconcile_one(object, context)));
    task.map(|result| result.unwrap_or_else(|error| Err(Failure::Panicked(error.to_string())))).boxed()
}

async fn reconcile_one<R: Reconciler>(
    object: Arc<Guarded<R::Object>>,
    context: Arc<Context<R>>,
) -> Result<Action, Failure<R::Error>> {
    let valid = match &object.0 {
        Ok(valid) => valid.clone(),
        Err(invalid) => {
            let note = format!("the object cannot be read and is left alone: {invalid}");
            context.config.events.publish(
                &reference_to(object.as_ref()),
                EventKind::Warning,
                "InvalidObject",
                &note,
            );
            return Ok(Action::await_change());
        }
    };
    let key = ObjectKey::of(valid.as_ref());
    let deadline = context.config.deadline;
    let requeue = tokio::time::timeout(deadline, context.reconciler.reconcile(valid))
        .await
        .map_err(|_| Failure::Late(deadline))?
        .map_err(Failure::Failed)?;
    context.failures.forget(&key);
    Ok(match requeue {
        Requeue::OnChange => Action::await_change(),
        Requeue::After(delay) => Action::requeue(delay),
    })
}

// The signatures of these callbacks are kube's.
#[allow(clippy::needless_pass_by_value)]
fn error_policy<R: Reconciler>(
    object: Arc<Guarded<R::Object>>,
    failure: &Failure<R::Error>,
    context: Arc<Context<R>>,
) -> Action {
    let key = ObjectKey::of(object.as_ref());
    let failures = context.failures.add(key.clone());
    let delay = match (failure, object.valid()) {
        (Failure::Failed(error), Some(object)) => context.reconciler.error_policy(object, error, failures),
        _ => DEFAULT_BACKOFF.random_delay(failures),
    };
    let again_in = delay.as_millis();
    tracing::warn!(controller = R::NAME, object = %key, error = %failure, failures, again_in_ms = %again_in, "not reconciled");
    Action::requeue(delay)
}
