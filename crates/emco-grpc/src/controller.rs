//! The contract's client half: a controller of the pool, as the traits that whoever plans a deployment knows.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use drystone_appcontext::{
    ClusterName, ContextId,
    contract::{ActionController, ControllerError, Event, PlacementController, Synchroniser},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use prost::Message;
use tokio::time::timeout;

use crate::{
    convert::{self, Meaningless},
    failure,
    messages::{
        ClusterEventResponse, ContextRequest, ContextUpdateRequest, Empty, FilterResponse, Outcome,
        PostEventRequest, ReadyNotification, StatusDeregistration, StatusNotification, Topic, UpdateRequest,
    },
    notices::{
        ClusterEvent, ClusterEvents, Notices, Readiness, ReadinessNotices, StatusNotice, StatusNotices,
        StatusQuery,
    },
    paths,
    pool::{Member, Pool},
    wire,
};

/// A controller that is reached by gRPC, whichever of the contract's services it provides: those that it does not provide are
/// [`ControllerError::Unimplemented`]. A call is made once: whether to make it again is for the caller to say.
#[derive(Debug, Clone)]
pub struct Controller {
    pool: Pool,
    name: Arc<str>,
}

/// The result of calls that a controller need not know: [`ActionController::terminate`] and [`ActionController::post_event`].
///
/// # Errors
/// Every other failure than that the controller does not know the call.
pub fn tolerated(result: Result<(), ControllerError>) -> Result<(), ControllerError> {
    match result {
        Err(ControllerError::Unimplemented(_)) => Ok(()),
        other => other,
    }
}

impl Controller {
    pub(crate) fn new(pool: Pool, name: &str) -> Self {
        Self { pool, name: name.into() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Calls a method, and waits for the answer up to this limit in all.
    async fn call<Q, A>(&self, path: &'static str, question: Q, limit: Duration) -> Result<A, ControllerError>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let member = self.pool.member(&self.name)?;
        let answer = async {
            let channel = member.channel().await?;
            let answer = wire::ask(channel, path, question, limit).await;
            answer.map_err(|status| placed(&member, failure::of_call(&status)))
        };
        let answer = tokio::select! {
            () = member.gone.cancelled() => {
                return Err(ControllerError::Unreachable(member.told("it has been removed while it was called")));
            }
            answer = timeout(limit, answer) => answer.unwrap_or(Err(ControllerError::TimedOut)),
        };
        if matches!(answer, Err(ControllerError::Unreachable(_) | ControllerError::TimedOut)) {
            member.doubt();
        }
        answer
    }

    /// Calls a method that answers whether it was done.
    async fn order<Q>(&self, path: &'static str, question: Q, limit: Duration) -> Result<(), ControllerError>
    where
        Q: Message + Default + 'static,
    {
        let outcome: Outcome = self.call(path, question, limit).await?;
        judged(path, outcome.done, outcome.message)
    }

    /// Calls a method that answers with news. Servers may be silent until there are some, so that the call's own failure is news, too.
    async fn follow<Q, A, N>(
        &self,
        path: &'static str,
        question: Q,
        read: fn(A) -> Result<N, Meaningless>,
    ) -> Result<Notices<N>, ControllerError>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
        N: Send + 'static,
    {
        let member = self.pool.member(&self.name)?;
        let limit = self.pool.options().controller_deadline;
        let channel = timeout(limit, member.channel()).await.unwrap_or(Err(ControllerError::TimedOut))?;
        let gone = member.gone.clone();
        let news = stream::once(wire::ask_stream::<Q, A>(channel, path, question)).try_flatten();
        let news = news.map(move |answer| match answer {
            Ok(answer) => Ok(read(answer)?),
            Err(status) => {
                member.doubt();
                Err(placed(&member, failure::of_call(&status)))
            }
        });
        // Nothing comes after a failure.
        let news = news.scan(false, |failed, one| {
            let before = std::mem::replace(failed, one.is_err());
            std::future::ready((!before).then_some(one))
        });
        Ok(news.take_until(gone.cancelled_owned()).boxed())
    }

    fn short(&self) -> Duration {
        self.pool.options().controller_deadline
    }

    fn long(&self) -> Duration {
        self.pool.options().synchroniser_deadline
    }
}

/// Says of a connection's problem whose it is.
fn placed(member: &Member, error: ControllerError) -> ControllerError {
    match error {
        ControllerError::Unreachable(problem) => ControllerError::Unreachable(member.told(&problem)),
        other => other,
    }
}

fn judged(path: &str, done: bool, message: String) -> Result<(), ControllerError> {
    match (done, message.is_empty()) {
        (true, _) => Ok(()),
        (false, true) => Err(ControllerError::Refused(format!("it says no to {path}, and not why"))),
        (false, false) => Err(ControllerError::Refused(message)),
    }
}

fn request(context: ContextId) -> ContextRequest {
    ContextRequest { app_context: context.to_string() }
}

#[async_trait]
impl Synchroniser for Controller {
    async fn install(&self, context: ContextId) -> Result<(), ControllerError> {
        self.order(paths::INSTALL, request(context), self.long()).await
    }

    async fn uninstall(&self, context: ContextId) -> Result<(), ControllerError> {
        self.order(paths::UNINSTALL, request(context), self.long()).await
    }

    async fn read(&self, context: ContextId) -> Result<(), ControllerError> {
        self.order(paths::READ, request(context), self.long()).await
    }

    async fn update(&self, from: ContextId, to: ContextId) -> Result<(), ControllerError> {
        let question = UpdateRequest { from: from.to_string(), to: to.to_string() };
        self.order(paths::UPDATE, question, self.long()).await
    }
}

#[async_trait]
impl PlacementController for Controller {
    async fn filter_clusters(&self, context: ContextId) -> Result<(), ControllerError> {
        let answer: FilterResponse =
            self.call(paths::FILTER_CLUSTERS, request(context), self.short()).await?;
        if answer.status && !answer.app_context.is_empty() && answer.app_context != context.to_string() {
            return Err(ControllerError::Refused(format!(
                "it was asked about AppContext {context}, and answers about {:?}",
                answer.app_context.chars().take(80).collect::<String>()
            )));
        }
        judged(paths::FILTER_CLUSTERS, answer.status, answer.message)
    }
}

#[async_trait]
impl ActionController for Controller {
    async fn update_context(
        &self,
        context: ContextId,
        intent: &str,
        from: Option<ContextId>,
    ) -> Result<(), ControllerError> {
        let question = ContextUpdateRequest {
            app_context: context.to_string(),
            intent_name: intent.to_owned(),
            update_from_app_context: convert::earlier(from),
        };
        self.order(paths::UPDATE_CONTEXT, question, self.short()).await
    }

    async fn terminate(&self, context: ContextId) -> Result<(), ControllerError> {
        self.order(paths::TERMINATE_CONTEXT, request(context), self.short()).await
    }

    async fn post_event(&self, context: ContextId, event: Event) -> Result<(), ControllerError> {
        let event_type = convert::event_to_wire(event).into();
        let question = PostEventRequest { app_context: context.to_string(), event_type };
        self.order(paths::POST_EVENT, question, self.short()).await
    }
}

#[async_trait]
impl ClusterEvents for Controller {
    async fn cluster_event(&self, cluster: &ClusterName, event: ClusterEvent) -> Result<(), ControllerError> {
        let question = convert::cluster_event_request(cluster, event);
        let answer: ClusterEventResponse = self.call(paths::PUBLISH, question, self.short()).await?;
        judged(paths::PUBLISH, answer.status, answer.message)
    }
}

#[async_trait]
impl ReadinessNotices for Controller {
    async fn alert(&self, client: &str, id: ContextId) -> Result<Notices<Readiness>, ControllerError> {
        let topic = Topic { client_name: client.to_owned(), app_context: id.to_string() };
        self.follow(paths::ALERT, topic, |notice: ReadyNotification| convert::readiness(&notice)).await
    }

    async fn unsubscribe(&self, client: &str, id: ContextId) -> Result<(), ControllerError> {
        let topic = Topic { client_name: client.to_owned(), app_context: id.to_string() };
        self.call::<_, Empty>(paths::UNSUBSCRIBE, topic, self.short()).await.map(|_| ())
    }
}

#[async_trait]
impl StatusNotices for Controller {
    async fn register(&self, query: StatusQuery) -> Result<Notices<StatusNotice>, ControllerError> {
        let registration = convert::status_registration(&query);
        self.follow(paths::STATUS_REGISTER, registration, |notice: StatusNotification| {
            convert::status_notice(notice)
        })
        .await
    }

    async fn deregister(&self, client: &str) -> Result<(), ControllerError> {
        let question = StatusDeregistration { client_id: client.to_owned() };
        self.call::<_, Empty>(paths::STATUS_DEREGISTER, question, self.short()).await.map(|_| ())
    }
}
