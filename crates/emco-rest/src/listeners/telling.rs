//! Telling controllers of the cluster manager what became of clusters.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use drystone_api::{
    SYSTEM_NAMESPACE,
    emco::{ClmController, Cluster, Document as _, DocumentPath},
};
use drystone_appcontext::ClusterName;
use drystone_emco_grpc::{
    Controller,
    notices::{ClusterEvent, ClusterEvents as _},
};
use drystone_engine::harness::seen;
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use super::Listeners;

/// What is told before it is written down that it was.
const BATCH: usize = 64;
/// How long a controller that did not hear something is left alone.
const PAUSE: Duration = Duration::from_secs(5);

/// Something that is to be told of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
struct News {
    path: String,
    event: ClusterEvent,
    /// What stands for it once it is told; nothing if the cluster is gone.
    mark: Option<String>,
}

/// What is being told.
#[derive(Debug, Default)]
pub(super) struct Telling {
    running: JoinSet<String>,
    busy: BTreeSet<String>,
}

impl Telling {
    /// Begins to tell whoever has something to hear and is not being told something already; whether anybody has.
    pub(super) fn pass(&mut self, from: &Listeners) -> bool {
        while let Some(ended) = self.running.try_join_next() {
            self.ended_one(ended);
        }
        let listeners = from.listeners.list_where(|one| one.namespace().as_deref() == Some(SYSTEM_NAMESPACE));
        if listeners.is_empty() {
            return false;
        }
        let clusters = from.clusters.list_where(|one| {
            one.namespace().as_deref() == Some(SYSTEM_NAMESPACE) && one.metadata.deletion_timestamp.is_none()
        });
        let there: BTreeMap<String, String> =
            clusters.iter().map(|cluster| (cluster.spec.path.clone(), mark_of(cluster))).collect();
        let mut is_open = false;
        for listener in listeners {
            let news = news(&listener, &there);
            if news.is_empty() {
                continue;
            }
            is_open = true;
            if self.busy.insert(listener.name_any()) {
                let controller = from.config.pool.controller(&listener.spec.path);
                let (client, cache) = (from.client.clone(), from.listeners.clone());
                self.running.spawn(async move {
                    if let Some(written) = tell(&client, &controller, &listener, news).await {
                        // Whoever looks before that takes what was told for what is still to be told.
                        seen(&cache, &written).await;
                    }
                    listener.name_any()
                });
            }
        }
        is_open
    }

    /// Completes when somebody was told; never if nobody is.
    pub(super) async fn ended(&mut self) {
        match self.running.join_next().await {
            Some(ended) => self.ended_one(ended),
            None => std::future::pending().await,
        }
    }

    fn ended_one(&mut self, ended: Result<String, tokio::task::JoinError>) {
        match ended {
            Ok(name) => {
                self.busy.remove(&name);
            }
            // Nobody knows whose it was.
            Err(error) => {
                tracing::warn!("telling of clusters: {error}");
                self.busy.clear();
            }
        }
    }
}

/// What stands for a cluster as it is now.
fn mark_of(cluster: &Cluster) -> String {
    let generation = cluster.metadata.generation.unwrap_or_default();
    format!("{}/{generation}", cluster.uid().unwrap_or_default())
}

/// What a controller has not heard yet.
fn news(listener: &ClmController, there: &BTreeMap<String, String>) -> Vec<News> {
    let none = BTreeMap::new();
    let told = listener.status.as_ref().map_or(&none, |status| &status.told);
    let uid = |mark: &str| mark.split('/').next().unwrap_or_default().to_owned();
    let mut news = Vec::new();
    let gone = |path: &String| News { path: path.clone(), event: ClusterEvent::Deleted, mark: None };
    news.extend(told.keys().filter(|path| !there.contains_key(*path)).map(gone));
    for (path, mark) in there {
        let event = match told.get(path) {
            Some(known) if known == mark => continue,
            Some(known) if uid(known) == uid(mark) => ClusterEvent::Updated,
            Some(_) => {
                news.push(gone(path));
                ClusterEvent::Created
            }
            None => ClusterEvent::Created,
        };
        news.push(News { path: path.clone(), event, mark: Some(mark.clone()) });
    }
    news
}

/// Tells a controller, and writes down what it has heard; what was written.
async fn tell(
    client: &Client,
    controller: &Controller,
    listener: &ClmController,
    news: Vec<News>,
) -> Option<ClmController> {
    let mut heard = Map::new();
    let mut written = None;
    let mut was_heard = true;
    for one in news.into_iter().take(BATCH) {
        // What names no cluster cannot be told, and is done with.
        if let Ok(names) = DocumentPath::parse(Cluster::PATTERN, &one.path) {
            let cluster = ClusterName::new(names.get("clusterProvider"), names.get("cluster"));
            if let Err(error) = controller.cluster_event(&cluster, one.event).await {
                let event = one.event;
                tracing::warn!(
                    controller = listener.path(),
                    "{event:?} of cluster {cluster} was not heard: {error}"
                );
                was_heard = false;
                break;
            }
        }
        heard.insert(one.path, one.mark.map_or(Value::Null, Value::from));
    }
    let name = listener.name_any();
    if !heard.is_empty() {
        let api: Api<ClmController> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
        let patch = Patch::Merge(json!({"status": {"told": heard}}));
        match api.patch_status(&name, &PatchParams::default(), &patch).await {
            Ok(now) => written = Some(now),
            Err(error) => {
                tracing::warn!(controller = listener.path(), "writing down what it has heard: {error}");
                was_heard = false;
            }
        }
    }
    if !was_heard {
        tokio::time::sleep(PAUSE).await;
    }
    written
}

#[cfg(test)]
mod tests {
    use drystone_api::emco::{ClmControllerSpec, ClmControllerStatus};

    use super::*;

    #[test]
    fn what_was_not_heard_is_told() {
        let map = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(path, mark)| ((*path).to_owned(), (*mark).to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        let mut listener = ClmController::new("l", ClmControllerSpec::default());
        let there = map(&[("same", "u/1"), ("changed", "u/2"), ("again", "v/1"), ("new", "w/1")]);
        assert_eq!(news(&listener, &there).len(), 4);
        assert!(news(&listener, &there).iter().all(|one| one.event == ClusterEvent::Created));
        let told = map(&[("same", "u/1"), ("changed", "u/1"), ("again", "u/1"), ("gone", "u/1")]);
        listener.status = Some(ClmControllerStatus { told, ..ClmControllerStatus::default() });
        let found = news(&listener, &there);
        let found: Vec<_> =
            found.iter().map(|one| (one.path.as_str(), one.event, one.mark.is_some())).collect();
        assert_eq!(
            found,
            [
                ("gone", ClusterEvent::Deleted, false),
                ("again", ClusterEvent::Deleted, false),
                ("again", ClusterEvent::Created, true),
                ("changed", ClusterEvent::Updated, true),
                ("new", ClusterEvent::Created, true)
            ]
        );
    }
}
