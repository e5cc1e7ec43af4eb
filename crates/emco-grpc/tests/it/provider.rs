//! A provider of every service, which notes what it is asked, and does what it is told.

use std::sync::Mutex;

use async_trait::async_trait;
use drystone_appcontext::{
    ClusterName, ContextId,
    contract::{ActionController, ControllerError, Event, PlacementController, Synchroniser},
};
use drystone_emco_grpc::notices::{
    ClusterEvent, ClusterEvents, Notices, Readiness, ReadinessNotices, StatusNotice, StatusNotices,
    StatusQuery, StatusValue,
};
use futures::StreamExt as _;
use tokio::sync::{Semaphore, broadcast, watch};

/// What to do with a call.
#[derive(Debug, Clone)]
pub(crate) enum Manner {
    /// Answer at once.
    Answer(Result<(), ControllerError>),
    /// Wait until somebody adds permits to [`Provider::leave`].
    Wait,
}

pub(crate) struct Provider {
    pub(crate) manner: Mutex<Manner>,
    pub(crate) leave: Semaphore,
    asked: watch::Sender<Vec<String>>,
    pub(crate) finished: watch::Sender<u32>,
    pub(crate) readiness: broadcast::Sender<Readiness>,
    pub(crate) statuses: broadcast::Sender<StatusValue>,
}

impl Provider {
    pub(crate) fn new(manner: Manner) -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self {
            manner: Mutex::new(manner),
            leave: Semaphore::new(0),
            asked: watch::Sender::new(Vec::new()),
            finished: watch::Sender::new(0),
            readiness: broadcast::Sender::new(16),
            statuses: broadcast::Sender::new(16),
        })
    }

    pub(crate) fn willing() -> std::sync::Arc<Self> {
        Self::new(Manner::Answer(Ok(())))
    }

    pub(crate) fn behave(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.borrow().clone()
    }

    /// Waits until this has been asked, whatever else has.
    pub(crate) async fn until_asked_for(&self, question: &str) {
        let is_there = |asked: &Vec<String>| asked.iter().any(|one| one == question);
        self.asked.subscribe().wait_for(is_there).await.unwrap();
    }

    pub(crate) async fn until_asked(&self, times: usize) {
        self.asked.subscribe().wait_for(|asked| asked.len() >= times).await.unwrap();
    }

    async fn answer(&self, question: String) -> Result<(), ControllerError> {
        let manner = self.manner.lock().unwrap().clone();
        self.asked.send_modify(|asked| asked.push(question));
        let answer = match manner {
            Manner::Answer(answer) => answer,
            Manner::Wait => {
                self.leave.acquire().await.unwrap().forget();
                Ok(())
            }
        };
        self.finished.send_modify(|finished| *finished += 1);
        answer
    }
}

#[async_trait]
impl Synchroniser for Provider {
    async fn install(&self, context: ContextId) -> Result<(), ControllerError> {
        self.answer(format!("install {context}")).await
    }

    async fn uninstall(&self, context: ContextId) -> Result<(), ControllerError> {
        self.answer(format!("uninstall {context}")).await
    }

    async fn read(&self, context: ContextId) -> Result<(), ControllerError> {
        self.answer(format!("read {context}")).await
    }

    async fn update(&self, from: ContextId, to: ContextId) -> Result<(), ControllerError> {
        self.answer(format!("update {from} {to}")).await
    }
}

#[async_trait]
impl PlacementController for Provider {
    async fn filter_clusters(&self, context: ContextId) -> Result<(), ControllerError> {
        self.answer(format!("filter {context}")).await
    }
}

#[async_trait]
impl ActionController for Provider {
    async fn update_context(
        &self,
        context: ContextId,
        intent: &str,
        from: Option<ContextId>,
    ) -> Result<(), ControllerError> {
        self.answer(format!("change {context} {intent} {from:?}")).await
    }

    async fn terminate(&self, context: ContextId) -> Result<(), ControllerError> {
        self.answer(format!("terminate {context}")).await
    }

    async fn post_event(&self, context: ContextId, event: Event) -> Result<(), ControllerError> {
        self.answer(format!("event {context} {event:?}")).await
    }
}

#[async_trait]
impl ClusterEvents for Provider {
    async fn cluster_event(&self, cluster: &ClusterName, event: ClusterEvent) -> Result<(), ControllerError> {
        self.answer(format!("cluster {cluster} {event:?}")).await
    }
}

#[async_trait]
impl ReadinessNotices for Provider {
    async fn alert(&self, client: &str, id: ContextId) -> Result<Notices<Readiness>, ControllerError> {
        let news = tokio_stream(self.readiness.subscribe());
        self.answer(format!("alert {client} {id}")).await?;
        Ok(news)
    }

    async fn unsubscribe(&self, client: &str, id: ContextId) -> Result<(), ControllerError> {
        self.answer(format!("unsubscribe {client} {id}")).await
    }
}

#[async_trait]
impl StatusNotices for Provider {
    async fn register(&self, query: StatusQuery) -> Result<Notices<StatusNotice>, ControllerError> {
        let news = tokio_stream(self.statuses.subscribe());
        self.answer(format!("register {query:?}")).await?;
        let whole = |value: Result<StatusValue, _>| {
            value.map(|value| StatusNotice { value, apps: Vec::new(), clusters: Vec::new() })
        };
        Ok(news.map(whole).boxed())
    }

    async fn deregister(&self, client: &str) -> Result<(), ControllerError> {
        self.answer(format!("deregister {client}")).await
    }
}

/// News as they come; an end to them is a failure.
fn tokio_stream<N: Clone + Send + 'static>(news: broadcast::Receiver<N>) -> Notices<N> {
    futures::stream::unfold(Some(news), |news| async {
        let mut news = news?;
        match news.recv().await {
            Ok(one) => Some((Ok(one), Some(news))),
            Err(_) => Some((Err(ControllerError::Refused("no more news".into())), None)),
        }
    })
    .boxed()
}
