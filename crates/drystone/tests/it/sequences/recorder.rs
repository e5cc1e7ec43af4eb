//! Controllers of a test's own behind EMCO's gRPC contract: they note what they are asked, and how the AppContext was then.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use axum::serve::ListenerExt as _;
use drystone_appcontext::{
    AppContext, AppContextError, AppContexts, ContextId, ResourceStatus, State, StatusUpdate, StatusValue,
    contract::{ActionController, ControllerError, Event, PlacementController, Synchroniser},
};
use drystone_emco_grpc::{Admission, Admitted, Services};
use http::request::Parts;
use tokio::task::JoinHandle;

/// A call that was received.
#[derive(Clone)]
pub(crate) struct Call {
    /// Who received it.
    pub(crate) who: &'static str,
    /// What was asked.
    pub(crate) what: String,
    pub(crate) context: ContextId,
    /// The AppContext as it was in etcd when the call came.
    pub(crate) found: Option<AppContext>,
}

/// Calls in the order in which they came, of all recorders that share it.
#[derive(Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Vec<Call>>>);

impl Notes {
    pub(crate) fn all(&self) -> Vec<Call> {
        self.0.lock().unwrap().clone()
    }

    /// Calls about a context, as `who what`.
    pub(crate) fn about(&self, context: ContextId) -> Vec<String> {
        let calls = self.all();
        let own = calls.iter().filter(|call| call.context == context);
        own.map(|call| format!("{} {}", call.who, call.what)).collect()
    }

    /// The first call to `who` about a context.
    pub(crate) fn call(&self, who: &str, context: ContextId) -> Call {
        let mut own = self.all().into_iter().filter(|call| call.who == who && call.context == context);
        own.next().unwrap_or_else(|| panic!("{who} was not asked about {context}"))
    }
}

struct Recorder {
    name: &'static str,
    contexts: AppContexts,
    notes: Notes,
}

/// Whoever reaches the port.
struct Everybody;

#[async_trait]
impl Admission for Everybody {
    async fn admits(&self, _: &Parts) -> Admitted {
        Admitted::Yes
    }
}

/// A controller that listens until it is dropped.
pub(crate) struct Listening {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    accepted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Listening {
    /// Connections that were made to it so far.
    pub(crate) fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A placement and action controller that changes nothing.
pub(crate) async fn onlooker(name: &'static str, contexts: &AppContexts, notes: &Notes) -> Listening {
    let recorder = Arc::new(Recorder { name, contexts: contexts.clone(), notes: notes.clone() });
    let services = Services::new(Arc::new(Everybody)).placement(recorder.clone()).action(recorder);
    listen(name, services).await
}

/// A synchroniser that says that everything is on its clusters, and takes nothing there.
pub(crate) async fn synchroniser(name: &'static str, contexts: &AppContexts, notes: &Notes) -> Listening {
    let recorder = Arc::new(Recorder { name, contexts: contexts.clone(), notes: notes.clone() });
    listen(name, Services::new(Arc::new(Everybody)).synchroniser(recorder)).await
}

async fn listen(name: &'static str, services: Services) -> Listening {
    let accepted = Arc::<AtomicUsize>::default();
    let counter = accepted.clone();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let listener = listener.tap_io(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let router = services.router();
    let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Listening { name, port, accepted, task }
}

impl Recorder {
    async fn note(&self, what: impl Into<String>, context: ContextId) -> Option<AppContext> {
        let found = self.contexts.load(context).await.ok();
        let call = Call { who: self.name, what: what.into(), context, found: found.clone() };
        self.notes.0.lock().unwrap().push(call);
        found
    }

    async fn enter(&self, context: ContextId, state: State) -> Result<(), ControllerError> {
        let entered = self.contexts.edit_sync::<_, AppContextError, _>(context, |sync| {
            (sync.status, sync.current, sync.desired) = (Some(state), Some(state), Some(state));
            Ok(())
        });
        entered.await.map_err(|error| refused(&error))
    }

    async fn tell(&self, found: Option<AppContext>, status: ResourceStatus) -> Result<(), ControllerError> {
        let Some(found) = found else { return Err(ControllerError::Refused("no AppContext".into())) };
        let told = found.parts().flat_map(|(app, cluster, part)| {
            part.resources.keys().map(move |name| StatusUpdate {
                app: app.to_owned(),
                cluster: cluster.clone(),
                value: StatusValue::Resource(name.clone(), status),
            })
        });
        self.contexts.statuses(found.id, &told.collect::<Vec<_>>()).await.map_err(|error| refused(&error))
    }
}

fn refused(error: &AppContextError) -> ControllerError {
    ControllerError::Refused(error.to_string())
}

#[async_trait]
impl Synchroniser for Recorder {
    async fn install(&self, context: ContextId) -> Result<(), ControllerError> {
        let found = self.note("InstallApp", context).await;
        self.tell(found, ResourceStatus::Applied).await?;
        self.enter(context, State::Instantiated).await
    }

    async fn uninstall(&self, context: ContextId) -> Result<(), ControllerError> {
        let found = self.note("UninstallApp", context).await;
        self.tell(found, ResourceStatus::Deleted).await?;
        self.enter(context, State::Terminated).await
    }

    async fn read(&self, context: ContextId) -> Result<(), ControllerError> {
        self.note("ReadAppContext", context).await;
        Ok(())
    }

    async fn update(&self, from: ContextId, to: ContextId) -> Result<(), ControllerError> {
        self.note(format!("UpdateApp from {from}"), to).await;
        Ok(())
    }
}

#[async_trait]
impl PlacementController for Recorder {
    async fn filter_clusters(&self, context: ContextId) -> Result<(), ControllerError> {
        self.note("FilterClusters", context).await;
        Ok(())
    }
}

#[async_trait]
impl ActionController for Recorder {
    async fn update_context(
        &self,
        context: ContextId,
        intent: &str,
        _: Option<ContextId>,
    ) -> Result<(), ControllerError> {
        self.note(format!("UpdateAppContext {intent}"), context).await;
        Ok(())
    }

    async fn terminate(&self, context: ContextId) -> Result<(), ControllerError> {
        self.note("TerminateAppContext", context).await;
        Ok(())
    }

    async fn post_event(&self, context: ContextId, event: Event) -> Result<(), ControllerError> {
        self.note(format!("PostEvent {event:?}"), context).await;
        Ok(())
    }
}
