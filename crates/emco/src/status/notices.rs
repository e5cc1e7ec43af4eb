//! Statuses for those who subscribe to them (`StatusNotify`): the same projections, told when they change.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use drystone_appcontext::{ClusterName, contexts::ContextChanges, contract::ControllerError};
use drystone_emco_grpc::notices::{
    AppStatus, ClusterStatus, Notices, ResourceStatus, StatusKind as Kind, StatusNotice, StatusNotices,
    StatusQuery as Asked, StatusSubject, StatusValue,
};
use futures::{StreamExt as _, stream, stream::SelectAll};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{Output, StatusKind, StatusQuery, Statuses};
use crate::model::Refusal;

/// Changes of this time are told together.
const BATCH: Duration = Duration::from_secs(1);

/// How often it is looked whether another context has taken the place of the one that is watched.
const LOOK: Duration = Duration::from_secs(3);

/// Tells subscribers how statuses change. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StatusNotifier {
    statuses: Statuses,
    subscribers: Arc<Mutex<HashMap<String, CancellationToken>>>,
}

impl StatusNotifier {
    /// Of these statuses.
    pub fn new(statuses: Statuses) -> Self {
        Self { statuses, subscribers: Arc::default() }
    }

    fn subscribers(&self) -> MutexGuard<'_, HashMap<String, CancellationToken>> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl StatusNotices for StatusNotifier {
    async fn register(&self, query: Asked) -> Result<Notices<StatusNotice>, ControllerError> {
        let path = path_of(&query.subject);
        let asked = asked(&query)?;
        // What is not there is told at once.
        self.statuses.answer(&path, &asked).await.map_err(refused)?;
        let ended = CancellationToken::new();
        if let Some(earlier) = self.subscribers().insert(query.client.clone(), ended.clone()) {
            earlier.cancel();
        }
        let subscription = Subscription { of: self.clone(), client: query.client, ended: ended.clone() };
        let telling = Telling {
            statuses: self.statuses.clone(),
            path,
            asked,
            changes: SelectAll::new(),
            watched: Vec::new(),
            told: None,
            _subscription: subscription,
        };
        let news = stream::unfold(Some(telling), |telling| async move {
            let mut telling = telling?;
            match telling.next().await {
                Ok(notice) => Some((Ok(notice), Some(telling))),
                Err(refusal) => Some((Err(refused(refusal)), None)),
            }
        });
        Ok(news.take_until(ended.cancelled_owned()).boxed())
    }

    async fn deregister(&self, client: &str) -> Result<(), ControllerError> {
        if let Some(subscription) = self.subscribers().remove(client) {
            subscription.cancel();
        }
        Ok(())
    }
}

/// Forgets a subscriber with its stream.
struct Subscription {
    of: StatusNotifier,
    client: String,
    ended: CancellationToken,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if !self.ended.is_cancelled() {
            self.of.subscribers().remove(&self.client);
        }
    }
}

struct Telling {
    statuses: Statuses,
    path: String,
    asked: StatusQuery,
    changes: SelectAll<ContextChanges>,
    watched: Vec<drystone_appcontext::ContextId>,
    told: Option<StatusNotice>,
    _subscription: Subscription,
}

impl Telling {
    /// What is to be told next.
    async fn next(&mut self) -> Result<StatusNotice, Refusal> {
        loop {
            if self.told.is_some() {
                self.wait().await?;
            }
            self.watch().await?;
            let answer = self.statuses.answer(&self.path, &self.asked).await?;
            let notice = notice(self.asked.kind, &answer);
            if self.told.as_ref() != Some(&notice) {
                self.told = Some(notice.clone());
                return Ok(notice);
            }
        }
    }

    /// Watches the contexts that the status is of, if they are others than before.
    async fn watch(&mut self) -> Result<(), Refusal> {
        let wanted = self.statuses.followed(&self.path)?;
        if wanted == self.watched && self.changes.len() == wanted.len() {
            return Ok(());
        }
        self.changes = SelectAll::new();
        for context in &wanted {
            let changes = self.statuses.contexts().watch(*context, None).await;
            self.changes.push(changes.map_err(|error| Refusal::failed(error.to_string()))?);
        }
        self.watched = wanted;
        Ok(())
    }

    /// Waits until there may be something to tell.
    async fn wait(&mut self) -> Result<(), Refusal> {
        loop {
            let changed = tokio::select! {
                // The end of a watch is a change as well: it is made anew, and the others with it.
                change = self.changes.next(), if !self.changes.is_empty() => {
                    if !matches!(change, Some(Ok(_))) {
                        self.watched.clear();
                        self.changes.clear();
                    }
                    true
                }
                () = tokio::time::sleep(LOOK) => {
                    self.changes.len() != self.watched.len()
                        || self.statuses.followed(&self.path)? != self.watched
                }
            };
            if changed {
                tokio::time::sleep(BATCH).await;
                return Ok(());
            }
        }
    }
}

fn refused(refusal: Refusal) -> ControllerError {
    ControllerError::Refused(refusal.message)
}

fn path_of(subject: &StatusSubject) -> String {
    match subject {
        StatusSubject::Group { project, composite_app, version, group } => {
            format!(
                "projects/{project}/composite-apps/{composite_app}/{version}/deployment-intent-groups/{group}"
            )
        }
        StatusSubject::LogicalCloud { project, logical_cloud } => {
            format!("projects/{project}/logical-clouds/{logical_cloud}")
        }
        StatusSubject::Cluster(name) => {
            format!("cluster-providers/{}/clusters/{}", name.provider, name.cluster)
        }
    }
}

fn asked(query: &Asked) -> Result<StatusQuery, ControllerError> {
    let mut asked = StatusQuery::of(match query.kind {
        Kind::Ready => StatusKind::Ready,
        Kind::Deployed => StatusKind::Deployed,
    });
    asked.output = if query.details { Output::All } else { Output::Summary };
    asked.apps = query.apps.iter().cloned().collect();
    asked.resources = query.resources.iter().cloned().collect();
    for cluster in &query.clusters {
        let name = cluster.parse::<ClusterName>();
        asked.clusters.insert(name.map_err(|error| ControllerError::Refused(error.to_string()))?);
    }
    Ok(asked)
}

/// What an answer to a status query is as a notice.
fn notice(kind: StatusKind, answer: &Value) -> StatusNotice {
    let (good, bad) = values(kind);
    let counts = answer.get(if kind.is_ready() { "readyCounts" } else { "deployedCounts" });
    let counts = counts.and_then(Value::as_object);
    let all = counts.is_some_and(|counts| counts.iter().all(|(status, _)| is_good(kind, status)));
    let whole = match kind.is_ready() {
        true => answer.get("readyStatus").and_then(Value::as_str) == Some("Ready"),
        false => answer.get("deployedStatus").and_then(Value::as_str) == Some("Instantiated"),
    };
    let value = if all && whole { good } else { bad };
    let clusters = |of: &Value| -> Vec<ClusterStatus> {
        list(of, "clusters").iter().filter_map(|one| cluster_status(kind, one)).collect()
    };
    let apps = list(answer, "apps").iter().map(|app| {
        let clusters = clusters(app);
        let value = if clusters.iter().all(|cluster| cluster.value == good) { good } else { bad };
        AppStatus { app: text(app, "name"), value, clusters }
    });
    let mut own = clusters(answer);
    own.extend(answer.get("cluster").and_then(|one| cluster_status(kind, one)));
    StatusNotice { value, apps: apps.collect(), clusters: own }
}

fn cluster_status(kind: StatusKind, told: &Value) -> Option<ClusterStatus> {
    let (good, bad) = values(kind);
    let member = if kind.is_ready() { "readyStatus" } else { "deployedStatus" };
    let resource = |one: &Value| ResourceStatus {
        name: text(one, "name"),
        group: text(&one["GVK"], "Group"),
        version: text(&one["GVK"], "Version"),
        kind: text(&one["GVK"], "Kind"),
        value: if is_good(kind, &text(one, member)) { good } else { bad },
    };
    let resources: Vec<ResourceStatus> = list(told, "resources").iter().map(resource).collect();
    let value = if resources.iter().all(|one| one.value == good) { good } else { bad };
    let cluster = ClusterName::new(text(told, "clusterProvider"), text(told, "cluster"));
    (!cluster.cluster.is_empty()).then_some(ClusterStatus { cluster, value, resources })
}

fn values(kind: StatusKind) -> (StatusValue, StatusValue) {
    if kind.is_ready() {
        (StatusValue::Ready, StatusValue::NotReady)
    } else {
        (StatusValue::Deployed, StatusValue::NotDeployed)
    }
}

fn is_good(kind: StatusKind, status: &str) -> bool {
    status == if kind.is_ready() { "Ready" } else { "Applied" }
}

fn list<'a>(of: &'a Value, member: &str) -> &'a [Value] {
    of.get(member).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text(of: &Value, member: &str) -> String {
    of.get(member).and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(status: &str, ready: &str) -> Value {
        json!({
            "name": "dig", "deployedStatus": "Instantiated", "readyStatus": ready,
            "readyCounts": {"Ready": 1, status: 1},
            "apps": [{"name": "web", "clusters": [{"clusterProvider": "p", "cluster": "c1", "connectivity": "Available",
                "resources": [{"name": "web", "GVK": {"Group": "apps", "Version": "v1", "Kind": "Deployment"}, "readyStatus": status}]}]}],
        })
    }

    #[test]
    fn answers_become_notices() {
        let ready = notice(StatusKind::Ready, &answer("Ready", "Ready"));
        assert_eq!(ready.value, StatusValue::Ready);
        let [app] = ready.apps.as_slice() else { panic!("{ready:?}") };
        assert_eq!((app.app.as_str(), app.value), ("web", StatusValue::Ready));
        assert_eq!(app.clusters[0].cluster, ClusterName::new("p", "c1"));
        assert_eq!(app.clusters[0].resources[0].kind, "Deployment");
        let not = notice(StatusKind::Ready, &answer("NotReady", "NotReady"));
        assert_eq!((not.value, not.apps[0].value), (StatusValue::NotReady, StatusValue::NotReady));
        let never = notice(StatusKind::Deployed, &json!({"name": "dig", "states": {}}));
        assert_eq!(never.value, StatusValue::NotDeployed);
        let deployed = json!({"deployedStatus": "Instantiated", "deployedCounts": {"Applied": 3},
            "cluster": {"clusterProvider": "p", "cluster": "c", "resources": []}});
        let deployed = notice(StatusKind::Deployed, &deployed);
        assert_eq!((deployed.value, deployed.clusters.len()), (StatusValue::Deployed, 1));
        let half = json!({"deployedStatus": "Instantiating", "deployedCounts": {"Applied": 3}});
        assert_eq!(notice(StatusKind::Deployed, &half).value, StatusValue::NotDeployed);
    }

    #[test]
    fn subjects_are_paths() {
        let group = StatusSubject::Group {
            project: "p1".into(),
            composite_app: "ca".into(),
            version: "v1".into(),
            group: "dig".into(),
        };
        assert_eq!(path_of(&group), "projects/p1/composite-apps/ca/v1/deployment-intent-groups/dig");
        let cluster = StatusSubject::Cluster(ClusterName::new("p", "c"));
        assert_eq!(path_of(&cluster), "cluster-providers/p/clusters/c");
    }
}
