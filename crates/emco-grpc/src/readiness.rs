//! `readyNotify` of our own synchroniser: its news are changes of AppContexts, whoever made them.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use drystone_appcontext::{
    AppContext, AppContextError, AppContexts, ContextId,
    codec::{Key, PartKey, ResourceKey},
    contexts::{ContextChange, ContextChanges},
    contract::ControllerError,
};
use futures::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use crate::{
    candidates::of_store,
    notices::{Notices, Readiness, ReadinessNotices},
};

/// Pause before a watch that broke is made anew.
const PAUSE: Duration = Duration::from_millis(200);

/// News about the readiness of what is in AppContexts. Who asks is first told of everything of which something is known already, so that
/// nothing is missed between an installation and the subscription to it.
#[derive(Debug, Clone)]
pub struct ContextReadiness {
    contexts: AppContexts,
    subscribers: Arc<Mutex<HashMap<(String, ContextId), CancellationToken>>>,
}

impl ContextReadiness {
    /// News about these contexts.
    pub fn new(contexts: AppContexts) -> Self {
        Self { contexts, subscribers: Arc::default() }
    }

    fn subscribers(&self) -> std::sync::MutexGuard<'_, HashMap<(String, ContextId), CancellationToken>> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ReadinessNotices for ContextReadiness {
    async fn alert(&self, client: &str, id: ContextId) -> Result<Notices<Readiness>, ControllerError> {
        if !self.contexts.exists(id).await.map_err(of_store)? {
            return Err(of_store(AppContextError::NotFound(id)));
        }
        // A client that asks again has lost its earlier stream, or does not want it any more.
        let ended = CancellationToken::new();
        let key = (client.to_owned(), id);
        if let Some(earlier) = self.subscribers().insert(key.clone(), ended.clone()) {
            earlier.cancel();
        }
        let guard = Subscription { of: self.clone(), key, ended: ended.clone() };
        let following = Following {
            contexts: self.contexts.clone(),
            id,
            changes: None,
            waiting: VecDeque::new(),
            _guard: guard,
        };
        let news = stream::unfold(Some(following), |following| async move {
            let mut following = following?;
            match following.next().await {
                Ok(notice) => Some((Ok(notice?), Some(following))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(news.take_until(ended.cancelled_owned()).boxed())
    }

    async fn unsubscribe(&self, client: &str, id: ContextId) -> Result<(), ControllerError> {
        if let Some(subscription) = self.subscribers().remove(&(client.to_owned(), id)) {
            subscription.cancel();
        }
        Ok(())
    }
}

/// Forgets a subscriber with its stream.
struct Subscription {
    of: ContextReadiness,
    key: (String, ContextId),
    ended: CancellationToken,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // Another stream may have taken its place, which ended this one.
        if !self.ended.is_cancelled() {
            self.of.subscribers().remove(&self.key);
        }
    }
}

/// A context that is watched for somebody.
struct Following {
    contexts: AppContexts,
    id: ContextId,
    changes: Option<ContextChanges>,
    waiting: VecDeque<Readiness>,
    _guard: Subscription,
}

impl Following {
    /// What is to be told next; `None` once the context is gone.
    async fn next(&mut self) -> Result<Option<Readiness>, ControllerError> {
        loop {
            if let Some(notice) = self.waiting.pop_front() {
                return Ok(Some(notice));
            }
            match &mut self.changes {
                None => match self.contexts.load_all(self.id).await {
                    Ok(loaded) => {
                        self.waiting.extend(known(&loaded.context));
                        let changes = self.contexts.watch(self.id, Some(loaded.revision + 1)).await;
                        self.changes = Some(changes.map_err(of_store)?);
                    }
                    Err(AppContextError::NotFound(_)) => return Ok(None),
                    Err(error) => return Err(of_store(error)),
                },
                Some(changes) => match changes.next().await {
                    Some(Ok(batch)) if is_gone(&batch) => return Ok(None),
                    Some(Ok(batch)) => self.waiting.extend(news(self.id, &batch)),
                    // Too slow, or forgotten: it is read again, and all of it told.
                    Some(Err(_)) | None => {
                        self.changes = None;
                        tokio::time::sleep(PAUSE).await;
                    }
                },
            }
        }
    }
}

/// Every part of which something is known.
fn known(context: &AppContext) -> Vec<Readiness> {
    let told = context.parts().filter(|(_, _, part)| {
        part.status.is_some()
            || part.resources_ready.is_some()
            || part.resources.values().any(|resource| resource.ready.is_some() || resource.success.is_some())
    });
    told.map(|(app, cluster, _)| Readiness { id: context.id, app: app.to_owned(), cluster: cluster.clone() })
        .collect()
}

fn is_gone(batch: &[ContextChange]) -> bool {
    batch.iter().any(|change| change.value.is_none() && change.key() == Some(Key::Context))
}

/// What of changes is about readiness; each part once.
fn news(id: ContextId, batch: &[ContextChange]) -> Vec<Readiness> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for change in batch.iter().filter(|change| change.value.is_some()) {
        let Some(Key::Part { app, cluster, of }) = change.key() else { continue };
        let matters = matches!(
            of,
            PartKey::Status
                | PartKey::ResourcesReady
                | PartKey::Resource(_, ResourceKey::Ready | ResourceKey::Success)
        );
        if matters && seen.insert((app, cluster)) {
            // What is no cluster's name was not written by a synchroniser.
            if let Ok(cluster) = cluster.parse() {
                found.push(Readiness { id, app: app.to_owned(), cluster });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use drystone_appcontext::{App, ClusterName, Meta, Part, ResourceName};
    use drystone_store::embedded::{EmbeddedStore, Options};
    use tokio::time::timeout;

    use super::*;

    /// Longest time that anything may take on a slow machine.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn id() -> ContextId {
        ContextId::new(7).unwrap()
    }

    /// A context with one part, of which something is known.
    async fn contexts() -> AppContexts {
        let contexts = AppContexts::new(Arc::new(EmbeddedStore::in_memory(Options::default()).unwrap()));
        let mut part = Part { resources_ready: Some(false), ..Part::default() };
        part.put(ResourceName::new("web", "Deployment"), "kind: Deployment");
        let mut context = AppContext::new(id(), Meta::default());
        let clusters = [(ClusterName::new("edge", "c1"), part)].into();
        context.apps.insert("web".to_owned(), App { clusters, ..App::default() });
        contexts.create(&context).await.unwrap();
        contexts
    }

    async fn next(news: &mut Notices<Readiness>) -> Option<Result<Readiness, ControllerError>> {
        timeout(PATIENCE, news.next()).await.unwrap()
    }

    #[tokio::test]
    async fn streams_end_with_their_context_and_are_forgotten_with_their_client() {
        let contexts = contexts().await;
        let readiness = ContextReadiness::new(contexts.clone());
        let followed = || readiness.subscribers().len();
        let unknown = readiness.alert("me", ContextId::new(8).unwrap()).await;
        assert!(unknown.is_err_and(|error| error.to_string().contains("there is no AppContext 8")));
        let mut first = readiness.alert("me", id()).await.unwrap();
        let mut second = readiness.alert("me", id()).await.unwrap();
        assert_eq!(next(&mut first).await, None, "who asks again takes the place of who asked before");
        drop(first);
        assert_eq!(followed(), 1);
        let third = readiness.alert("you", id()).await.unwrap();
        assert_eq!(followed(), 2);
        drop(third);
        assert_eq!(followed(), 1);
        assert!(matches!(next(&mut second).await, Some(Ok(_))), "what is known is told first");
        let waiting = tokio::spawn(async move { second.next().await });
        contexts.delete(id()).await.unwrap();
        assert_eq!(timeout(PATIENCE, waiting).await.unwrap().unwrap(), None);
        assert_eq!(followed(), 0);
        readiness.alert("me", id()).await.map(drop).unwrap_err();
        assert_eq!(followed(), 0);
    }
}
